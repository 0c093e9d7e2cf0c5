/* What every kernel computes, in plain loops. Sums are in double; functions are the C library's. */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "kernels/ops.h"

static double sum(const float *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i];
    return s;
}

static double sum_squares(const float *x, float mean, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += ((double)x[i] - (double)mean) * ((double)x[i] - (double)mean);
    return s;
}

static float dot(const float *x, const float *y, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * (double)y[i];
    return (float)s;
}

static float max(const float *x, size_t n)
{
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (x[i] > m) m = x[i];
    return m;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static void scale(float *x, float a, size_t n)
{
    if (a == 0) {
        memset(x, 0, n * sizeof *x);
        return;
    }
    for (size_t i = 0; i < n; i++) x[i] *= a;
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static float load(const void *x, pg_mat_type type, size_t i)
{
    const unsigned char *p = (const unsigned char *)x + i * pg_mat_bytes(type);
    if (type == PG_MAT_F32) {
        float f;
        memcpy(&f, p, 4);
        return f;
    }
    uint16_t h;
    memcpy(&h, p, 2);
    return type == PG_MAT_F16 ? pg_f16_to_f32(h) : pg_bf16_to_f32(h);
}

static void widen(float *y, const void *x, pg_mat_type type, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = load(x, type, i);
}

static void norm(float *y, const float *x, float mean, float rstd, float plus, const float *s, const float *bias, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - mean) * rstd * (plus + s[i]) + (bias ? bias[i] : 0);
}

static void norm_sums(const float *dy, const float *x, float mean, float rstd, float plus, const float *s, size_t n, double *g,
                      double *gh)
{
    *g = *gh = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)dy[i] * (double)(plus + s[i]);
        *g += d;
        *gh += d * (double)((x[i] - mean) * rstd);
    }
}

static void norm_back(float *dx, const float *dy, const float *x, float mean, float rstd, float plus, const float *s, float a,
                      float b, size_t n)
{
    for (size_t i = 0; i < n; i++) dx[i] += rstd * (dy[i] * (plus + s[i]) - a - (x[i] - mean) * rstd * b);
}

static void norm_cols(float *ds, float *db, const float *dy, const float *x, const float *mean, const float *rstd, size_t rows,
                      size_t ld, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double s = 0, b = 0;
        for (size_t r = 0; r < rows; r++) {
            double d = (double)dy[r * ld + j];
            b += d;
            if (ds) s += d * (double)((x[r * ld + j] - (mean ? mean[r] : 0)) * rstd[r]);
        }
        if (ds) ds[j] += (float)s;
        if (db) db[j] += (float)b;
    }
}

static const float ROOT = 0.7978845608f, CUBE = 0.044715f; /* sqrt(2/pi) */

static void gelu(float *y, const float *x, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = x[i], u = ROOT * (g + CUBE * g * g * g);
        y[i] = g / (1 + expf(-2 * u)) * (up ? up[i] : 1); /* (1 + tanh u) / 2, without cancellation */
    }
}

static void gelu_back(float *dx, float *dup, const float *dy, const float *x, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = x[i], d = dy[i], u = ROOT * (g + CUBE * g * g * g), du = ROOT * (1 + 3 * CUBE * g * g);
        float e = expf(fminf(-2 * u, 80)), s = 1 / (1 + e); /* 1 - s = e s */
        float slope = s + 2 * g * s * (e * s) * du, v = up ? up[i] : 1;
        if (dup) dup[i] = d * g * s;
        dx[i] = d * v * slope;
    }
}

static void rope(float *x, const float *c, const float *s, size_t half, float f, float sign)
{
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[half + i], t = sign * s[i];
        x[i] = (a * c[i] - b * t) * f;
        x[half + i] = (b * c[i] + a * t) * f;
    }
}

static float logit(float *s, float f, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s[i] *= f;
        if (cap > 0) s[i] = cap * tanhf(s[i] / cap);
    }
    return max(s, n);
}

static double exp_sum(float *y, const float *x, float m, size_t n)
{
    double t = 0;
    for (size_t i = 0; i < n; i++) {
        float v = expf(x[i] - m);
        if (y) y[i] = v;
        t += (double)v;
    }
    return t;
}

static void attn_back(float *s, float *dp, float f, float cap, float lse, float delta, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float a = s[i] * f, slope = f;
        if (cap > 0) {
            float t = tanhf(a / cap);
            a = cap * t;
            slope *= 1 - t * t;
        }
        float p = expf(a - lse);
        s[i] = p;
        dp[i] = p * (dp[i] - delta) * slope;
    }
}

static void sgd(float *w, const float *g, float lr, size_t n)
{
    for (size_t i = 0; i < n; i++) w[i] -= lr * g[i];
}

static void adamw(float *w, float *mu, float *nu, const float *grad, const pg_adamw_args *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * a->gscale;
        mu[i] = a->b1 * mu[i] + (1 - a->b1) * g;
        nu[i] = a->b2 * nu[i] + (1 - a->b2) * (g * g);
        w[i] -= a->schedule * (a->lr * (mu[i] / a->c1) / (sqrtf(nu[i] / a->c2) + a->eps) + a->wd * w[i]);
    }
}

static void gemm_nn(size_t M, size_t n, size_t K, const float *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool more,
                    float *C, size_t ldc)
{
    for (size_t m = 0; m < M; m++) {
        float *c = C + m * ldc;
        if (!more) memset(c, 0, n * sizeof *c);
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < n; j++) c[j] += A[m * lda + k] * load(B, type, k * ldb + j);
    }
}

static void gemm_nt(size_t M, size_t n, size_t K, const float *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool more,
                    float *C, size_t ldc)
{
    for (size_t m = 0; m < M; m++)
        for (size_t j = 0; j < n; j++) {
            double s = more ? (double)C[m * ldc + j] : 0;
            for (size_t k = 0; k < K; k++) s += (double)A[m * lda + k] * (double)load(B, type, j * ldb + k);
            C[m * ldc + j] = (float)s;
        }
}

void pg_turn(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++) y[c * ldy + r] = x[r * ldx + c];
}

static void panel(size_t M, size_t n, size_t K, const float *A, size_t rsa, size_t csa, const float *P, bool more, float *C, size_t ldc)
{
    for (size_t m = 0; m < M; m++) {
        float *c = C + m * ldc;
        if (!more) memset(c, 0, n * sizeof *c);
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < n; j++) c[j] += A[m * rsa + k * csa] * P[k * n + j];
    }
}

const pg_ops pg_ops_scalar = {.name = "scalar", .sum = sum, .sum_squares = sum_squares, .dot = dot, .max = max,
    .all_finite = all_finite, .scale = scale, .axpy = axpy, .add = add, .widen = widen, .norm = norm, .norm_sums = norm_sums,
    .norm_back = norm_back, .norm_cols = norm_cols, .gelu = gelu, .gelu_back = gelu_back, .rope = rope, .logit = logit,
    .exp_sum = exp_sum, .attn_back = attn_back, .sgd = sgd, .adamw = adamw, .gemm_nn = gemm_nn, .gemm_nt = gemm_nt,
    .turn = pg_turn, .lanes = 1, .panel_cols = 16, .panel = panel};
