/* Norms, biases, rotary positions, losses: whatever goes row by row. */
#include <math.h>

#include "kernels/ops.h"

enum { COLS = 64, ROW_WORK = 8192 }; /* columns of a parameter-gradient piece; elements of a piece of rows */

typedef struct job {
    const pg_ops *ops;
    size_t R, D, rows; /* rows of a piece */
    float *y, *y2, *mean, *rstd;
    const float *x, *dy, *cmean, *crstd, *scale, *bias;
    float plus;
    bool centre;
    /* rope */
    size_t ldx, heads, H;
    const uint32_t *pos;
    const float *cosines, *sines;
    float factor, sign;
    /* losses */
    float *logits, *logp;
    const float *weight;
    const int32_t *target;
    int32_t *token;
    bool grad;
} job;

static void rows(pg_kern *k, job *j, size_t per_row, void (*fn)(void *, size_t, size_t))
{
    j->ops = k->ops;
    j->rows = per_row >= ROW_WORK ? 1 : ROW_WORK / (per_row ? per_row : 1);
    pg_kern_run(k, pg_div_up(j->R, j->rows), j->R * per_row, fn, j);
}

static void norm_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t end = pg_min_size(j->R, (i + 1) * j->rows);
    for (size_t r = i * j->rows; r < end; r++) {
        const float *x = j->x + r * j->D;
        double n = (double)j->D;
        float mean = j->centre ? (float)(j->ops->sum(x, j->D) / n) : 0;
        float rstd = (float)(1 / sqrt(j->ops->sum_squares(x, mean, j->D) / n + 1e-6));
        j->ops->norm(j->y + r * j->D, x, mean, rstd, j->plus, j->scale, j->bias, j->D);
        if (j->mean) j->mean[r] = mean;
        if (j->rstd) j->rstd[r] = rstd;
    }
}

void pg_layer_norm(pg_kern *k, float *y, float *mean, float *rstd, const float *x, const float *scale, const float *bias, size_t R, size_t D)
{
    job j = {.R = R, .D = D, .y = y, .mean = mean, .rstd = rstd, .x = x, .scale = scale, .bias = bias, .centre = true};
    rows(k, &j, D, norm_rows);
}

void pg_rms_norm(pg_kern *k, float *y, float *rstd, const float *x, const float *scale, size_t R, size_t D)
{
    job j = {.R = R, .D = D, .y = y, .rstd = rstd, .x = x, .scale = scale, .plus = 1};
    rows(k, &j, D, norm_rows);
}

static void norm_back_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t end = pg_min_size(j->R, (i + 1) * j->rows);
    for (size_t r = i * j->rows; r < end; r++) {
        const float *x = j->x + r * j->D, *dy = j->dy + r * j->D;
        float mean = j->cmean ? j->cmean[r] : 0, rstd = j->crstd[r];
        double g, gh, n = (double)j->D;
        j->ops->norm_sums(dy, x, mean, rstd, j->plus, j->scale, j->D, &g, &gh);
        float a = j->cmean ? (float)(g / n) : 0;
        j->ops->norm_back(j->y + r * j->D, dy, x, mean, rstd, j->plus, j->scale, a, (float)(gh / n), j->D);
    }
}

static void norm_back_cols(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t at = i * COLS;
    j->ops->norm_cols(j->y ? j->y + at : NULL, j->y2 ? j->y2 + at : NULL, j->dy + at, j->x ? j->x + at : NULL, j->cmean, j->crstd,
                      j->R, j->D, pg_min_size(COLS, j->D - at));
}

static void cols(pg_kern *k, job *j)
{
    j->ops = k->ops;
    if (j->y || j->y2) pg_kern_run(k, pg_div_up(j->D, COLS), j->R * j->D, norm_back_cols, j);
}

void pg_layer_norm_back(pg_kern *k, float *dx, float *dscale, float *dbias, const float *dy, const float *x, const float *mean,
                        const float *rstd, const float *scale, size_t R, size_t D)
{
    job j = {.R = R, .D = D, .y = dx, .dy = dy, .x = x, .cmean = mean, .crstd = rstd, .scale = scale};
    if (dx) rows(k, &j, 2 * D, norm_back_rows);
    j.y = dscale;
    j.y2 = dbias;
    cols(k, &j);
}

void pg_rms_norm_back(pg_kern *k, float *dx, float *dscale, const float *dy, const float *x, const float *rstd, const float *scale,
                      size_t R, size_t D)
{
    job j = {.R = R, .D = D, .y = dx, .dy = dy, .x = x, .crstd = rstd, .scale = scale, .plus = 1};
    if (dx) rows(k, &j, 2 * D, norm_back_rows);
    j.y = dscale;
    cols(k, &j);
}

static void bias_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t end = pg_min_size(j->R, (i + 1) * j->rows);
    for (size_t r = i * j->rows; r < end; r++) j->ops->add(j->y + r * j->D, j->bias, j->D);
}

void pg_add_bias(pg_kern *k, float *x, const float *bias, size_t R, size_t D)
{
    job j = {.R = R, .D = D, .y = x, .bias = bias};
    rows(k, &j, D, bias_rows);
}

void pg_add_bias_back(pg_kern *k, float *dbias, const float *dx, size_t R, size_t D)
{
    job j = {.R = R, .D = D, .y2 = dbias, .dy = dx};
    cols(k, &j);
}

void pg_rope_table(float *cosines, float *sines, size_t positions, size_t H)
{
    size_t half = H / 2;
    for (size_t i = 0; i < half; i++) {
        double wavelength = pow(10000, (double)(2 * i) / (double)H);
        for (size_t p = 0; p < positions; p++) {
            cosines[p * half + i] = (float)cos((double)p / wavelength);
            sines[p * half + i] = (float)sin((double)p / wavelength);
        }
    }
}

static void rope_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t end = pg_min_size(j->R, (i + 1) * j->rows), half = j->H / 2;
    for (size_t r = i * j->rows; r < end; r++) {
        const float *c = j->cosines + j->pos[r] * half, *s = j->sines + j->pos[r] * half;
        for (size_t h = 0; h < j->heads; h++) j->ops->rope(j->y + r * j->ldx + h * j->H, c, s, half, j->factor, j->sign);
    }
}

void pg_rope(pg_kern *k, float *x, size_t ldx, const uint32_t *pos, const float *cosines, const float *sines, size_t R,
             size_t heads, size_t H, float scale, bool inverse)
{
    job j = {.R = R, .y = x, .ldx = ldx, .heads = heads, .H = H, .pos = pos, .cosines = cosines, .sines = sines, .factor = scale,
             .sign = inverse ? -1.0f : 1.0f};
    rows(k, &j, heads * H, rope_rows);
}

static void xent_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t end = pg_min_size(j->R, (i + 1) * j->rows);
    for (size_t r = i * j->rows; r < end; r++) {
        float *x = j->logits + r * j->D;
        bool ignored = j->target[r] < 0 || (size_t)j->target[r] >= j->D;
        size_t t = ignored ? 0 : (size_t)j->target[r];
        if (ignored) {
            j->logp[r] = 0;
            if (j->grad) j->ops->scale(x, 0, j->D);
            continue;
        }
        float max = j->ops->max(x, j->D);
        double log_sum = log(j->ops->exp_sum(NULL, x, max, j->D));
        double logp = (double)x[t] - (double)max - log_sum;
        j->logp[r] = (float)logp;
        if (!j->grad) continue;
        float w = j->weight ? j->weight[r] : 1.0f, own = (float)((double)w * expm1(logp));
        /* exp(x - max) / sum: the logarithm of the sum would be rounded to the size of max */
        j->ops->exp_sum(x, x, max, j->D);
        j->ops->scale(x, (float)((double)w * exp(-log_sum)), j->D);
        x[t] = own;
    }
}

void pg_xent(pg_kern *k, float *logits, const int32_t *target, const float *weight, float *logp, size_t R, size_t V, bool grad)
{
    job j = {.R = R, .D = V, .logits = logits, .target = target, .weight = weight, .logp = logp, .grad = grad};
    rows(k, &j, V, xent_rows);
}

static void argmax_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t end = pg_min_size(j->R, (i + 1) * j->rows);
    for (size_t r = i * j->rows; r < end; r++) {
        const float *x = j->x + r * j->D;
        float max = j->ops->max(x, j->D);
        size_t t = 0;
        while (t + 1 < j->D && !(x[t] == max)) t++;
        if (!(x[t] == max)) t = 0; /* not a number */
        j->token[r] = (int32_t)t;
        if (j->logp) j->logp[r] = (float)-log(j->ops->exp_sum(NULL, x, max, j->D));
    }
}

void pg_argmax(pg_kern *k, int32_t *token, float *logp, const float *logits, size_t R, size_t V)
{
    job j = {.R = R, .D = V, .token = token, .logp = logp, .x = logits};
    rows(k, &j, V, argmax_rows);
}
