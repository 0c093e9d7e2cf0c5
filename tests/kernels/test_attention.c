/* Attention against its definition in double, gradients against central differences of it; in bfloat16 against bounds of its rounding. */
#include "check.h"

typedef struct shape {
    size_t n, keys, heads, kv, H;
    bool lim;
    float scale, cap;
} shape;

static double score(const shape *p, const double *q, const double *k)
{
    double s = 0;
    for (size_t i = 0; i < p->H; i++) s += q[i] * k[i];
    s *= (double)p->scale;
    return p->cap > 0 ? (double)p->cap * tanh(s / (double)p->cap) : s;
}

/* Dense arrays in double; returns the sum of out * dout; out, lse may be NULL. */
static double attend(const shape *p, const double *q, const double *k, const double *v, const uint32_t *lim, const float *dout, double *out,
                     double *lse)
{
    double loss = 0, *s = pg_alloc(p->keys, sizeof *s);
    for (size_t i = 0; i < p->n; i++)
        for (size_t h = 0; h < p->heads; h++) {
            size_t g = h / (p->heads / p->kv), see = lim ? lim[i] : p->keys, at = (i * p->heads + h) * p->H;
            double max = -INFINITY, sum = 0;
            for (size_t t = 0; t < see; t++) {
                s[t] = score(p, q + at, k + (t * p->kv + g) * p->H);
                if (s[t] > max) max = s[t];
            }
            for (size_t t = 0; t < see; t++) sum += s[t] = exp(s[t] - max);
            if (lse) lse[h * p->n + i] = max + log(sum);
            for (size_t x = 0; x < p->H; x++) {
                double o = 0;
                for (size_t t = 0; t < see; t++) o += s[t] / sum * v[(t * p->kv + g) * p->H + x];
                if (out) out[at + x] = o;
                if (dout) loss += o * (double)dout[at + x];
            }
        }
    free(s);
    return loss;
}

static double *spread(const float *x, size_t rows, size_t width, size_t ld)
{
    double *p = pg_alloc(rows * width, sizeof *p);
    for (size_t i = 0; i < rows * width; i++) p[i] = (double)x[i / width * ld + i % width];
    return p;
}

static float *pack(const float *x, size_t rows, size_t width, size_t ld)
{
    float *p = floats(rows * width);
    for (size_t i = 0; i < rows * width; i++) p[i] = x[i / width * ld + i % width];
    return p;
}

enum { PAD = 3 };

static void check_shape(shape p)
{
    size_t wq = p.heads * p.H, wk = p.kv * p.H, ldq = wq + PAD, ldk = wk + PAD;
    size_t nq = (p.n - 1) * ldq + wq, nk = (p.keys - 1) * ldk + wk, dq = p.n * wq, dk = p.keys * wk;
    float *q = randoms(nq, 1), *k = randoms(nk, 1), *v = randoms(nk, 1), *dout = randoms(nq, 1), *dk0 = randoms(nk, 1), *dv0 = randoms(nk, 1);
    uint32_t *lim = pg_alloc(p.n, sizeof *lim);
    for (size_t i = 0; i < p.n; i++) lim[i] = (uint32_t)(i == 0 ? p.keys : 1 + pg_rng_below(&rng, p.keys));
    if (p.n > 1) lim[1] = 1;
    double *x[3] = {spread(q, p.n, wq, ldq), spread(k, p.keys, wk, ldk), spread(v, p.keys, wk, ldk)};
    float *flat = pack(dout, p.n, wq, ldq);
    double *out = pg_alloc(dq, sizeof *out), *lse = pg_alloc(p.heads * p.n, sizeof *lse);
    attend(&p, x[0], x[1], x[2], p.lim ? lim : NULL, NULL, out, lse);

    enum { PROBES = 24 };
    size_t at[3][PROBES];
    double slope[3][PROBES];
    for (int a = 0; a < 3; a++)
        for (int t = 0; t < PROBES; t++) {
            size_t i = at[a][t] = pg_rng_below(&rng, a ? dk : dq);
            double keep = x[a][i], e = 1e-4, up;
            x[a][i] = keep + e;
            up = attend(&p, x[0], x[1], x[2], p.lim ? lim : NULL, flat, NULL, NULL);
            x[a][i] = keep - e;
            slope[a][t] = (up - attend(&p, x[0], x[1], x[2], p.lim ? lim : NULL, flat, NULL, NULL)) / (2 * e);
            x[a][i] = keep;
            if (a) slope[a][t] += (double)(a == 1 ? dk0 : dv0)[i / wk * ldk + i % wk];
        }

    float *before[4] = {0};
    for (size_t i = 0; i < KERNS; i++) {
        float *o = randoms(nq, 1), *l = floats(p.heads * p.n), *g[3] = {randoms(nq, 1), copy(dk0, nk), copy(dv0, nk)};
        pg_attn s[2] = {{.n = p.n, .q = q, .k = k, .v = v, .lim = p.lim ? lim : NULL, .n_keys = p.keys, .out = o, .lse = l, .dout = dout,
                         .dq = g[0], .dk = g[1], .dv = g[2]}};
        /* a second sequence: the first query alone */
        s[1] = s[0];
        s[1].n = 1;
        s[1].out = randoms(wq, 1), s[1].lse = floats(p.heads), s[1].dq = floats(wq), s[1].dk = copy(dk0, nk), s[1].dv = copy(dv0, nk);
        pg_attn_dims d = {p.heads, p.kv, p.H, ldq, ldk, ldq, p.scale, p.cap};
        pg_attention(kerns[i], s, 2, &d);
        pg_attention_back(kerns[i], s, 2, &d);
        float *packed[4] = {pack(o, p.n, wq, ldq), pack(g[0], p.n, wq, ldq), pack(g[1], p.keys, wk, ldk), pack(g[2], p.keys, wk, ldk)};
        close_to("attention", kerns[i], packed[0], out, dq, 2e-6, 1);
        close_to("attention of one query", kerns[i], s[1].out, out, wq, 2e-6, 1);
        close_to("lse", kerns[i], l, lse, p.heads * p.n, 1e-6, 1);
        /* the same keys in two parts, each ending where its memory ends */
        for (size_t split = 1; split < p.keys; split += 1 + p.keys / 3) {
            size_t at2 = split * ldk, n1 = (split - 1) * ldk + wk;
            pg_attn parts = s[0];
            parts.k = copy(k, n1), parts.v = copy(v, n1), parts.k2 = copy(k + at2, nk - at2), parts.v2 = copy(v + at2, nk - at2);
            parts.split = split;
            parts.out = randoms(nq, 1), parts.lse = NULL;
            pg_attention(kerns[i], &parts, 1, &d);
            close_to("attention of two parts", kerns[i], pack(parts.out, p.n, wq, ldq), out, dq, 2e-6, 1);
        }
        for (int a = 0; a < 3; a++)
            for (int t = 0; t < PROBES; t++)
                close_to(a == 0 ? "dq" : a == 1 ? "dk" : "dv", kerns[i], packed[1 + a] + at[a][t], &slope[a][t], 1, 1e-5, 1);
        for (int a = 0; a < 4; a++) {
            if (before[a]) same_bits("attention", i, packed[a], before[a], a < 2 ? dq : dk);
            before[a] = packed[a];
        }
    }
    for (int a = 0; a < 3; a++) free(x[a]);
    free(lim), free(out), free(lse);
}

static void test_attention(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {1, 1, 1, 1, 4, false, 1, 0},      {5, 9, 2, 2, 7, true, 0.5f, 0},     {30, 30, 4, 1, 32, true, 0.18f, 0},
        {70, 75, 4, 2, 16, true, 0.25f, 5}, {3, 300, 8, 1, 24, true, 0.2f, 0}, {66, 530, 2, 1, 12, true, 0.3f, 2},
        {16, 16, 4, 4, 32, false, 0.18f, 0}, {1, 600, 3, 3, 33, false, 0.2f, 30}, {4, 40, 8, 2, 256, true, 0.06f, 50},
        {20, 260, 1, 1, PG_MOST_HEAD_DIM, true, 0.05f, 0}, {400, 1030, 1, 1, 8, true, 0.3f, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(shapes[i]);
}

/* Logits far apart must give exact zeros and no overflow. */
static void test_extreme(void **state)
{
    (void)state;
    for (size_t i = 0; i < KERNS; i++) {
        float q[2] = {300, 0}, kk[6] = {1, 0, -1, 0, 0.5f, 0}, v[6] = {1, 2, 3, 4, 5, 6}, out[2];
        pg_attn s = {.n = 1, .q = q, .k = kk, .v = v, .n_keys = 3, .out = out};
        pg_attn_dims d = {1, 1, 2, 2, 2, 2, 1, 0};
        pg_attention(kerns[i], &s, 1, &d);
        assert_true(out[0] == 1 && out[1] == 2);
    }
}

/* ---- in bfloat16 ---- */

/* What is wanted and how far rounding to bfloat16 may lead away from it: the inputs here are bfloat16, so what is rounded is the weights
 * p and the gradient ds of the logits, each by u = 2^-8 of itself at most. delta = dout·out inherits the error of out. */
typedef struct bounds {
    double *o, *dq, *dk, *dv, *lse; /* wanted */
    double *eo, *edq, *edk, *edv;   /* allowed */
} bounds;

static double *zeros(size_t n)
{
    return pg_calloc(n, sizeof(double));
}

/* Head h of query i, which sees so many keys. */
static void one_row(const shape *p, const double *q, const double *k, const double *v, size_t see, const float *dout, size_t i, size_t h,
                    double *w, bounds *b)
{
    size_t at = (i * p->heads + h) * p->H, g = h / (p->heads / p->kv);
    const double u = ldexp(1, -8);
    double max = -INFINITY, sum = 0, delta = 0, edelta = 0;
    for (size_t t = 0; t < see; t++) max = fmax(max, w[t] = score(p, q + at, k + (t * p->kv + g) * p->H));
    for (size_t t = 0; t < see; t++) sum += exp(w[t] - max);
    b->lse[h * p->n + i] = max + log(sum);
    for (size_t x = 0; x < p->H; x++) {
        for (size_t t = 0; t < see; t++) {
            double part = exp(w[t] - max) / sum * v[(t * p->kv + g) * p->H + x];
            b->o[at + x] += part;
            b->eo[at + x] += u * fabs(part);
        }
        delta += b->o[at + x] * (double)dout[at + x];
        edelta += b->eo[at + x] * fabs((double)dout[at + x]);
    }
    for (size_t t = 0; t < see; t++) {
        size_t kt = (t * p->kv + g) * p->H;
        double prob = exp(w[t] - max) / sum, dp = 0, slope = (double)p->scale * (p->cap > 0 ? 1 - pow(w[t] / (double)p->cap, 2) : 1);
        for (size_t x = 0; x < p->H; x++) dp += (double)dout[at + x] * v[kt + x];
        double ds = prob * (dp - delta) * slope, eds = u * fabs(ds) + prob * slope * edelta;
        for (size_t x = 0; x < p->H; x++) {
            b->dq[at + x] += ds * k[kt + x];
            b->edq[at + x] += eds * fabs(k[kt + x]);
            b->dk[kt + x] += ds * q[at + x];
            b->edk[kt + x] += eds * fabs(q[at + x]);
            b->dv[kt + x] += prob * (double)dout[at + x];
            b->edv[kt + x] += u * prob * fabs((double)dout[at + x]);
        }
    }
}

static void within(const char *what, size_t threads, const float *got, const double *want, const double *allowed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1.02 * allowed[i] + 2e-5 * (1 + fabs(want[i]))))
            fail_msg("%s in bfloat16, %zu threads: element %zu of %zu is %.9g, not %.9g within %.3g", what, threads, i, n, (double)got[i],
                     want[i], allowed[i]);
}

static float *rounded(size_t n)
{
    float *x = randoms(n, 1);
    for (size_t i = 0; i < n; i++) x[i] = pg_bf16_to_f32(pg_f32_to_bf16(x[i]));
    return x;
}

static void check_half(shape p, pg_kern *const half[2])
{
    size_t wq = p.heads * p.H, wk = p.kv * p.H, nq = p.n * wq, nk = p.keys * wk;
    float *q = rounded(nq), *k = rounded(nk), *v = rounded(nk), *dout = rounded(nq), *before[4] = {0};
    uint32_t *lim = pg_alloc(p.n, sizeof *lim);
    for (size_t i = 0; i < p.n; i++) lim[i] = (uint32_t)(!p.lim || i == 0 ? p.keys : 1 + pg_rng_below(&rng, p.keys));
    double *x[3] = {spread(q, 1, nq, nq), spread(k, 1, nk, nk), spread(v, 1, nk, nk)}, *w = zeros(p.keys);
    bounds b = {zeros(nq), zeros(nq), zeros(nk), zeros(nk), zeros(p.heads * p.n), zeros(nq), zeros(nq), zeros(nk), zeros(nk)};
    for (size_t i = 0; i < p.n; i++)
        for (size_t h = 0; h < p.heads; h++)
            one_row(&p, x[0], x[1], x[2], lim[i], dout, i, h, w, &b);
    for (size_t i = 0; i < 2; i++) {
        float *got[4] = {randoms(nq, 1), randoms(nq, 1), floats(nk), floats(nk)};
        pg_attn s = {.n = p.n, .q = q, .k = k, .v = v, .lim = p.lim ? lim : NULL, .n_keys = p.keys, .out = got[0],
                     .lse = floats(p.heads * p.n), .dout = dout, .dq = got[1], .dk = got[2], .dv = got[3]};
        pg_attn_dims d = {p.heads, p.kv, p.H, wq, wk, wq, p.scale, p.cap};
        pg_attention(half[i], &s, 1, &d);
        pg_attention_back(half[i], &s, 1, &d);
        size_t threads = pg_kern_threads(half[i]), split = 1 + pg_rng_below(&rng, p.keys);
        within("attention", threads, got[0], b.o, b.eo, nq);
        close_to("lse in bfloat16", half[i], s.lse, b.lse, p.heads * p.n, 5e-6, 1);
        within("dq", threads, got[1], b.dq, b.edq, nq);
        within("dk", threads, got[2], b.dk, b.edk, nk);
        within("dv", threads, got[3], b.dv, b.edv, nk);
        s.k2 = copy(k + split * wk, nk - split * wk), s.v2 = copy(v + split * wk, nk - split * wk), s.split = split;
        s.k = copy(k, split * wk), s.v = copy(v, split * wk), s.out = floats(nq);
        pg_attention(half[i], &s, 1, &d);
        within("attention of two parts", threads, s.out, b.o, b.eo, nq);
        for (size_t a = 0; a < 4; a++) {
            if (i && memcmp(got[a], before[a], (a < 2 ? nq : nk) * sizeof(float))) fail_msg("attention in bfloat16 depends on the number of threads");
            before[a] = got[a];
        }
    }
    double *all[] = {x[0], x[1], x[2], w, b.o, b.dq, b.dk, b.dv, b.lse, b.eo, b.edq, b.edk, b.edv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(lim);
}

static void test_half(void **state)
{
    (void)state;
    static const shape shapes[] = {
        {30, 30, 4, 1, 32, true, 0.18f, 0},  {13, 9, 2, 2, 7, true, 0.5f, 0},    {256, 256, 2, 2, 72, false, 0.12f, 0},
        {70, 75, 4, 2, 16, true, 0.25f, 5},  {400, 530, 2, 1, 24, true, 0.2f, 0}, {200, 300, 4, 1, 40, true, 0.15f, 50},
        {12, 600, 3, 3, 33, false, 0.2f, 30}, {40, 40, 8, 2, 256, true, 0.06f, 50}, {2, 1100, 8, 1, 64, true, 0.12f, 0},
        {3, 20, 4, 1, 32, false, 0.2f, 0},   {20, 260, 1, 1, PG_MOST_HEAD_DIM, true, 0.05f, 0},
    };
    pg_kern *half[2];
    pg_err e;
    for (size_t i = 0; i < 2; i++)
        if (pg_kern_new(&half[i], i ? 3 : 1, &e) || pg_kern_use_bf16(half[i], &e)) fail_msg("%s", e.msg);
    printf("# %s\n", pg_kern_bf16(half[0]));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_half(shapes[i], half);
    for (size_t i = 0; i < 2; i++) pg_kern_free(half[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_extreme), cmocka_unit_test(test_half)};
    return cmocka_run_group_tests_name("attention", tests, kerns_open, kerns_close);
}
