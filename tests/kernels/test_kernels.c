/* Rows, elements, losses, optimizers against formulas in double; backwards against central differences of these formulas. */
#include "check.h"

static const size_t sizes[][2] = {{1, 1}, {3, 7}, {2, 16}, {5, 33}, {70, 130}, {40, 257}, {2, 5000}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double slope(double x)
{
    return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
}

/* sum over j of dy[j] * norm(x)[j] */
static double norm_loss(const double *x, const double *scale, const float *bias, const float *dy, size_t D, bool rms)
{
    double mean = 0, var = 0, loss = 0;
    for (size_t i = 0; i < D && !rms; i++) mean += x[i] / (double)D;
    for (size_t i = 0; i < D; i++) var += (x[i] - mean) * (x[i] - mean) / (double)D;
    for (size_t i = 0; i < D; i++)
        loss += (double)dy[i] * ((x[i] - mean) / sqrt(var + 1e-6) * (scale[i] + (rms ? 1 : 0)) + (bias ? (double)bias[i] : 0));
    return loss;
}

static void check_norm(size_t R, size_t D, bool rms)
{
    size_t n = R * D;
    float *x = randoms(n, 2), *scale = randoms(D, 1), *bias = randoms(D, 1), *dy = randoms(n, 1), *dx0 = randoms(n, 1), *ds0 = randoms(D, 1);
    for (size_t i = 0; i < n; i++) x[i] += 3;
    double *want = pg_calloc(n, sizeof *want), *dx = pg_alloc(n, sizeof *dx), *ds = pg_calloc(D, sizeof *ds), *db = pg_calloc(D, sizeof *db);
    double *wx = pg_alloc(D, sizeof *wx), *ws = pg_alloc(D, sizeof *ws);
    float *pick = pg_calloc(D, sizeof *pick);
    for (size_t j = 0; j < D; j++) ws[j] = (double)scale[j];
    size_t step = D > 1000 ? 397 : 1; /* of long rows only some elements */
    for (size_t r = 0; r < R; r++) {
        for (size_t j = 0; j < D; j++) wx[j] = (double)x[r * D + j];
        for (size_t j = 0; j < D; j += step) {
            pick[j] = 1;
            want[r * D + j] = norm_loss(wx, ws, rms ? NULL : bias, pick, D, rms);
            pick[j] = 0;
            const double e = 1e-4;
            wx[j] += e;
            double up = norm_loss(wx, ws, NULL, dy + r * D, D, rms);
            wx[j] -= 2 * e;
            dx[r * D + j] = (double)dx0[r * D + j] + (up - norm_loss(wx, ws, NULL, dy + r * D, D, rms)) / (2 * e);
            wx[j] += e;
            ws[j] += 1;
            ds[j] += norm_loss(wx, ws, NULL, dy + r * D, D, rms);
            ws[j] -= 1;
            ds[j] -= norm_loss(wx, ws, NULL, dy + r * D, D, rms);
            db[j] += (double)dy[r * D + j];
        }
    }
    for (size_t j = 0; j < D; j++) {
        ds[j] += (double)ds0[j];
        db[j] += (double)ds0[j];
    }
    float *before[4] = {0};
    for (size_t i = 0; i < KERNS; i++) {
        pg_kern *k = kerns[i];
        float *y = floats(n), *mean = floats(R), *rstd = floats(R), *g[3] = {copy(dx0, n), copy(ds0, D), copy(ds0, D)};
        if (rms) {
            pg_rms_norm(k, y, rstd, x, scale, R, D);
            pg_rms_norm_back(k, g[0], g[1], dy, x, rstd, scale, R, D);
        } else {
            pg_layer_norm(k, y, mean, rstd, x, scale, bias, R, D);
            pg_layer_norm_back(k, g[0], g[1], g[2], dy, x, mean, rstd, scale, R, D);
        }
        float *all[4] = {y, g[0], g[1], g[2]};
        for (int v = 0; v < 4; v++) {
            size_t len = v < 2 ? n : D;
            if (before[v]) same_bits("norm", i, all[v], before[v], len);
            before[v] = all[v];
        }
        /* D = 1: rstd is 1000 for a layer norm, and x - mean is 0 */
        double size = D == 1 && !rms ? 1e3 : 1;
        for (size_t r = 0; r < R; r++)
            for (size_t j = 0; j < D; j += step) {
                close_to("norm", k, y + r * D + j, want + r * D + j, 1, 2e-6, size);
                close_to("norm dx", k, g[0] + r * D + j, dx + r * D + j, 1, 1e-5, size);
            }
        for (size_t j = 0; j < D; j += step) {
            close_to("norm dscale", k, g[1] + j, ds + j, 1, 1e-5, size * sqrt((double)R));
            if (!rms) close_to("norm dbias", k, g[2] + j, db + j, 1, 1e-6, sqrt((double)R));
        }
    }
    free(want), free(dx), free(ds), free(db), free(wx), free(ws), free(pick);
}

static void test_norms(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++) {
        check_norm(sizes[s][0], sizes[s][1], true);
        check_norm(sizes[s][0], sizes[s][1], false);
    }
}

static void test_gelu(void **state)
{
    (void)state;
    const size_t n = 20011;
    float *x = randoms(n, 4), *up = randoms(n, 1), *dy = randoms(n, 1);
    const float edge[] = {0, -0.0f, 1e-30f, 3e-39f, 40, -40, 1e4f, -1e4f, 100, -100};
    memcpy(x, edge, sizeof edge);
    double *y = pg_alloc(n, sizeof *y), *yu = pg_alloc(n, sizeof *y), *dx = pg_alloc(n, sizeof *y), *dg = pg_alloc(n, sizeof *y),
           *du = pg_alloc(n, sizeof *y);
    for (size_t i = 0; i < n; i++) {
        y[i] = gelu((double)x[i]);
        yu[i] = y[i] * (double)up[i];
        du[i] = y[i] * (double)dy[i];
        dx[i] = slope((double)x[i]) * (double)dy[i];
        dg[i] = dx[i] * (double)up[i];
    }
    for (size_t i = 0; i < KERNS; i++) {
        pg_kern *k = kerns[i];
        float *a = copy(x, n), *b = floats(n), *c = copy(dy, n), *d = floats(n), *e = copy(dy, n);
        pg_gelu(k, a, a, n);
        pg_geglu(k, b, x, up, n);
        pg_gelu_back(k, c, c, x, n);
        pg_geglu_back(k, d, e, e, x, up, n);
        close_to("gelu", k, a, y, n, 3e-7, 0.1);
        close_to("geglu", k, b, yu, n, 3e-7, 0.1);
        close_to("gelu back", k, c, dx, n, 1e-6, 0.5);
        close_to("geglu dgate", k, d, dg, n, 1e-6, 0.5);
        close_to("geglu dup", k, e, du, n, 3e-7, 0.1);
    }
    free(y), free(yu), free(dx), free(dg), free(du);
}

static void test_bias_axpy(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++) {
        size_t R = sizes[s][0], D = sizes[s][1], n = R * D;
        float *x = randoms(n, 1), *b = randoms(D, 1);
        double *y = pg_alloc(n, sizeof *y), *g = pg_alloc(D, sizeof *g), *ax = pg_alloc(n, sizeof *ax), squares = 0;
        for (size_t j = 0; j < D; j++) g[j] = (double)b[j];
        for (size_t i = 0; i < n; i++) {
            y[i] = (double)x[i] + (double)b[i % D];
            g[i % D] += (double)x[i];
            ax[i] = (double)x[i] * 1.5;
            squares += (double)x[i] * (double)x[i];
        }
        for (size_t i = 0; i < KERNS; i++) {
            float *a = copy(x, n), *c = copy(b, D), *d = copy(x, n);
            pg_add_bias(kerns[i], a, b, R, D);
            pg_add_bias_back(kerns[i], c, x, R, D);
            pg_axpy(kerns[i], d, 0.5f, x, n);
            close_to("bias", kerns[i], a, y, n, 1e-7, 0);
            close_to("bias back", kerns[i], c, g, D, 1e-6, sqrt((double)R));
            close_to("axpy", kerns[i], d, ax, n, 1e-7, 0);
            assert_true(fabs(pg_sum_squares(kerns[i], x, n) - squares) <= 1e-12 * squares);
            assert_true(pg_all_finite(kerns[i], x, n));
            for (int bad = 0; bad < 3; bad++) {
                size_t at = pg_rng_below(&rng, n);
                d[at] = bad == 0 ? NAN : bad == 1 ? INFINITY : -INFINITY;
                assert_false(pg_all_finite(kerns[i], d, n));
                d[at] = 0;
            }
        }
        free(y), free(g), free(ax);
    }
    float huge[40];
    for (int i = 0; i < 40; i++) huge[i] = 3e30f; /* its square is no float */
    for (size_t i = 0; i < KERNS; i++) assert_true(fabs(pg_sum_squares(kerns[i], huge, 40) / (40 * 9e60) - 1) < 1e-6);
}

static void test_rope(void **state)
{
    (void)state;
    const size_t R = 9, positions = 300, heads = 3;
    static const size_t dims[] = {2, 32, 72, 256};
    for (size_t t = 0; t < 4; t++) {
        size_t H = dims[t], ld = heads * H + 5, n = (R - 1) * ld + heads * H;
        float *c = floats(positions * H / 2), *s = floats(positions * H / 2), *x = randoms(n, 1);
        uint32_t pos[9];
        double *want = pg_alloc(n, sizeof *want), *same = pg_alloc(n, sizeof *same);
        pg_rope_table(c, s, positions, H);
        for (size_t i = 0; i < n; i++) same[i] = want[i] = (double)x[i];
        for (size_t r = 0; r < R; r++) {
            pos[r] = (uint32_t)pg_rng_below(&rng, positions);
            for (size_t i = 0; i < heads * H / 2; i++) {
                size_t a = r * ld + i / (H / 2) * H + i % (H / 2), b = a + H / 2;
                double angle = pos[r] * pow(10000, -2.0 * (double)(i % (H / 2)) / (double)H);
                want[a] = 0.25 * ((double)x[a] * cos(angle) - (double)x[b] * sin(angle));
                want[b] = 0.25 * ((double)x[b] * cos(angle) + (double)x[a] * sin(angle));
            }
        }
        for (size_t i = 0; i < KERNS; i++) {
            float *y = copy(x, n);
            pg_rope(kerns[i], y, ld, pos, c, s, R, heads, H, 0.25f, false);
            close_to("rope", kerns[i], y, want, n, 3e-7, 0.3);
            pg_rope(kerns[i], y, ld, pos, c, s, R, heads, H, 4, true);
            close_to("rope inverse", kerns[i], y, same, n, 3e-7, 1);
        }
        free(want), free(same);
    }
}

static void check_losses(size_t R, size_t V)
{
    float *x = randoms(R * V, 5), *w = randoms(R, 1);
    int32_t *target = pg_alloc(R, sizeof *target), *token = pg_alloc(R, sizeof *token);
    double *grad = pg_calloc(R * V, sizeof *grad), *logp = pg_calloc(R, sizeof *logp), *best = pg_alloc(R, sizeof *best);
    size_t *arg = pg_alloc(R, sizeof *arg);
    for (size_t r = 0; r < R; r++) {
        for (size_t j = 0; j < V; j++) x[r * V + j] += 1000.0f * (float)r; /* only differences matter */
        if (V > 5) x[r * V + V / 2] = x[r * V + V - 1] = x[r * V + V / 3] + 40;
        target[r] = r % 4 == 3 ? -1 : (int32_t)pg_rng_below(&rng, V);
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < V; j++)
            if ((double)x[r * V + j] > max) max = (double)x[r * V + j], arg[r] = j;
        for (size_t j = 0; j < V; j++) sum += exp((double)x[r * V + j] - max);
        best[r] = -log(sum);
        if (target[r] < 0) continue;
        logp[r] = (double)x[r * V + (size_t)target[r]] - max - log(sum);
        for (size_t j = 0; j < V; j++)
            grad[r * V + j] = (double)w[r] * (exp((double)x[r * V + j] - max) / sum - (j == (size_t)target[r] ? 1 : 0));
    }
    for (size_t i = 0; i < KERNS; i++) {
        pg_kern *k = kerns[i];
        float *a = copy(x, R * V), *lp = floats(R), *lb = floats(R);
        pg_argmax(k, token, lb, x, R, V);
        for (size_t r = 0; r < R; r++) assert_int_equal(token[r], arg[r]);
        close_to("argmax", k, lb, best, R, 1e-6, 1e-2);
        pg_xent(k, a, target, w, lp, R, V, false);
        assert_memory_equal(a, x, R * V * sizeof *a);
        close_to("logp", k, lp, logp, R, 1e-6, 1e-2);
        pg_xent(k, a, target, w, lp, R, V, true);
        close_to("xent gradient", k, a, grad, R * V, 1e-6, 1e-7);
    }
    free(target), free(token), free(grad), free(logp), free(best), free(arg);
}

static void test_losses(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++) check_losses(sizes[s][0], sizes[s][1]);
    check_losses(2, 70001);
}

/* What is no number is passed over, wherever it stands; what is far below the largest is 0, not merely small. */
static void test_odd_logits(void **state)
{
    (void)state;
    enum { V = 37 };
    for (size_t i = 0; i < KERNS; i++)
        for (size_t bad = 0; bad < V; bad++) {
            float x[V], logp;
            int32_t token, target = (int32_t)((bad + 1) % V);
            for (size_t v = 0; v < V; v++) x[v] = v == (size_t)target ? 3 : -1;
            x[bad] = NAN;
            pg_argmax(kerns[i], &token, NULL, x, 1, V);
            assert_int_equal(token, target);
            for (size_t v = 0; v < V; v++) x[v] = v == (size_t)target ? 0 : v % 2 ? -100 : -INFINITY;
            pg_xent(kerns[i], x, &target, NULL, &logp, 1, V, true);
            assert_true(logp == 0);
            for (size_t v = 0; v < V; v++) assert_true(fabsf(x[v]) <= (v % 2 ? 1e-43f : 0));
        }
}

static void test_optimizers(void **state)
{
    (void)state;
    const size_t n = 20003;
    pg_adamw_args o = {.lr = 1e-3f, .schedule = 0.5f, .wd = 0.01f, .b1 = 0.9f, .b2 = 0.99f, .eps = 1e-8f, .c1 = 0.19f, .c2 = 0.02f, .gscale = 0.5f};
    float *w = randoms(n, 1), *g = randoms(n, 1), *m = randoms(n, 0.1), *v = randoms(n, 0.1);
    double *want = pg_alloc(n, sizeof *want), *sgd = pg_alloc(n, sizeof *sgd);
    for (size_t i = 0; i < n; i++) {
        v[i] = fabsf(v[i]);
        double gi = 0.5 * (double)g[i], mu = (double)o.b1 * (double)m[i] + (1 - (double)o.b1) * gi;
        double nu = (double)o.b2 * (double)v[i] + (1 - (double)o.b2) * gi * gi;
        want[i] = (double)w[i] - 0.5 * (1e-3 * (mu / (double)o.c1) / (sqrt(nu / (double)o.c2) + 1e-8) + (double)o.wd * (double)w[i]);
        sgd[i] = (double)w[i] - 0.25 * (double)g[i];
    }
    float *before[3] = {0};
    for (size_t i = 0; i < KERNS; i++) {
        float *a = copy(w, n), *mu = copy(m, n), *nu = copy(v, n), *b = copy(w, n);
        pg_adamw(kerns[i], a, mu, nu, g, &o, n);
        close_to("adamw", kerns[i], a, want, n, 1e-6, 1e-2);
        pg_sgd(kerns[i], b, g, 0.25f, n);
        close_to("sgd", kerns[i], b, sgd, n, 1e-6, 0.1);
        /* no kernel fuses here: training must give the same bits on every CPU as far as that is free */
        if (i) assert_memory_equal(a, before[0], n * sizeof *a);
        before[0] = a;
    }
    free(want), free(sgd);
}

static void test_choice(void **state)
{
    (void)state;
    pg_kern *k;
    pg_err e;
    setenv("PG_CPU_DISABLE", "avx512,sse9", 1);
    assert_int_equal(pg_kern_new(&k, 1, &e), PG_EINVAL);
    assert_non_null(strstr(e.msg, "'sse9'"));
    assert_null(k);
    setenv("PG_CPU_DISABLE", "avx512,avx2,neon", 1);
    assert_int_equal(pg_kern_new(&k, 2, &e), PG_OK);
    assert_string_equal(pg_kern_isa(k), "scalar");
    assert_int_equal(pg_kern_threads(k), 2);
    assert_non_null(pg_kern_pool(k));
    pg_kern_free(k);
    unsetenv("PG_CPU_DISABLE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_norms),  cmocka_unit_test(test_gelu),   cmocka_unit_test(test_bias_axpy),
                                       cmocka_unit_test(test_rope),   cmocka_unit_test(test_losses), cmocka_unit_test(test_optimizers),
                                       cmocka_unit_test(test_odd_logits), cmocka_unit_test(test_choice)};
    return cmocka_run_group_tests_name("kernels", tests, kerns_open, kerns_close);
}
