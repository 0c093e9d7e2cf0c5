/* Attention against its definition in double, gradients against central differences of it. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_extreme)};
    return cmocka_run_group_tests_name("attention", tests, kerns_open, kerns_close);
}
