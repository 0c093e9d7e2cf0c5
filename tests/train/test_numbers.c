/* Properties that hold for any input: who sees whom, learning rates, the order of examples, slopes, equal bits. */
#include "../model/batch.h"
#include "base/num.h"
#include "model/lora.h"
#include "train/data.h"
#include "train/optim.h"
#include "train/schedule.h"

/* ---- masks ---- */
enum { MOST = 64 };

/* big_vision's make_attn_mask: row i sees j where both are input and the cumulative sum of mask_ar at j is no larger than at i. */
static void dense(const int32_t *ar, const int32_t *input, size_t n, bool see[MOST][MOST])
{
    int32_t sum[MOST], s = 0;
    for (size_t i = 0; i < n; i++) sum[i] = s += ar[i];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) see[i][j] = sum[j] <= sum[i] && input[i] && input[j];
}

static void test_masks(void **state)
{
    (void)state;
    pg_rng r;
    pg_rng_seed(&r, 3, 0);
    for (size_t round = 0; round < 5000; round++) {
        size_t image = pg_rng_below(&r, 20), prefix = pg_rng_below(&r, 16), suffix = pg_rng_below(&r, 16), pad = pg_rng_below(&r, 10);
        size_t text = prefix + suffix + pad, all = image + text, n;
        bool any = round % 3 == 0; /* masks that no prompt has: steps anywhere */
        int32_t ar[MOST] = {0}, input[MOST];
        bool see[MOST][MOST];
        uint32_t lim[MOST], lim_image;
        for (size_t i = 0; i < all; i++) {
            size_t t = i - image;
            input[i] = i < image + prefix + suffix;
            if (i >= image) ar[i] = any ? (int32_t)pg_rng_below(&r, 2) : t >= prefix && t < prefix + suffix;
        }
        dense(ar, input, all, see);
        must(pg_mask_limits(ar + image, input + image, text, image, lim, &lim_image, &n, &err));
        assert_int_equal(n, prefix + suffix);
        for (size_t i = 0; i < image + n; i++)
            for (size_t j = 0; j < all; j++) {
                bool sees = j < (i < image ? lim_image : lim[i - image]);
                if (sees != see[i][j])
                    fail_msg("round %zu: %zu image, %zu prefix, %zu suffix, %zu padding tokens: row %zu, key %zu: %d", round, image, prefix,
                             suffix, pad, i, j, sees);
            }
    }
}

/* ---- learning rates ---- */
static void check_schedule(size_t steps, double warmup)
{
    const double base = 0.03, pi = 3.14159265358979323846, total = (double)steps + 1;
    double w = nearbyint(warmup * total);
    if (warmup > 0 && w < 1) w = 1;
    double span = total - w, rise = w > 0 ? base / w : 0, fall = span > 0 ? base * 0.5 * pi / span : 0, before = 0;
    for (size_t s = 1; s <= steps; s++) {
        double lr = pg_learning_rate(PG_COSINE, s, steps, base, warmup), flat = pg_learning_rate(PG_CONSTANT, s, steps, base, warmup);
        bool rises = (double)s <= w;
        if (!(lr > 0 && lr <= base)) fail_msg("%zu steps, warm-up %g, step %zu: %g", steps, warmup, s, lr);
        /* No jump: the slope of a line while it warms up, at most that of the cosine after it. Without warm-up it begins at the base. */
        if (s > 1 && !(rises ? fabs(lr - before - rise) < 1e-12 : lr - before < 1e-15 && before - lr <= fall * (1 + 1e-9)))
            fail_msg("%zu steps, warm-up %g, step %zu: %g after %g", steps, warmup, s, lr, before);
        assert_true(fabs(flat - (rises ? base * (double)s / w : base)) < 1e-12);
        if ((double)s == w) assert_true(fabs(lr - base) < 1e-12);
        before = lr;
    }
    /* The last is one step before the end of the cosine: base sin^2(pi / (2 span)). */
    if (w < (double)steps) assert_true(fabs(before - base * pow(sin(pi / (2 * span)), 2)) < 1e-12);
    if (span > 0) assert_true(pg_schedule_at(PG_COSINE, steps + 1, steps + 1, base, warmup) < 1e-15);
}

static void test_schedules(void **state)
{
    (void)state;
    pg_rng r;
    pg_rng_seed(&r, 4, 0);
    for (size_t round = 0; round < 400; round++) check_schedule(1 + pg_rng_below(&r, 1500), round % 5 ? pg_rng_double(&r) : 0);
    for (size_t steps = 1; steps < 12; steps++) {
        check_schedule(steps, 0.1);
        check_schedule(steps, 1);
    }
}

/* ---- the order of examples ---- */
static void test_orders(void **state)
{
    (void)state;
    enum { BINS = 6, EPOCHS = 6000 };
    pg_rng r;
    pg_rng_seed(&r, 5, 0);
    for (size_t round = 0; round < 60; round++) {
        size_t n = 1 + pg_rng_below(&r, 300), epochs = 4, *last = pg_calloc(n, sizeof *last), *now = pg_calloc(n, sizeof *now);
        uint64_t seed = pg_rng_u64(&r);
        pg_order a, b;
        must(pg_order_new(&a, n, seed, true, &err));
        must(pg_order_new(&b, n, seed, true, &err));
        for (size_t e = 0; e < epochs; e++) {
            bool *seen = pg_calloc(n, sizeof *seen);
            for (size_t k = 0; k < n; k++) {
                now[k] = pg_order_at(&a, e * n + k);
                assert_true(now[k] < n && !seen[now[k]]);
                seen[now[k]] = true;
            }
            if (n >= 12 && e) assert_memory_not_equal(now, last, n * sizeof *now); /* equal by chance: less than 1 in 12! */
            /* Asked for out of turn, as after resuming. */
            for (size_t k = n; k-- > 0;) assert_int_equal(pg_order_at(&b, e * n + k), now[k]);
            memcpy(last, now, n * sizeof *now);
            free(seen);
        }
        pg_order_free(&a);
        pg_order_free(&b);
        free(last), free(now);
    }
    /* No place is preferred: chi-squared of 5 degrees of freedom for each, beyond 30 with odds of 2e-5. The seed is fixed. */
    size_t count[BINS][BINS] = {{0}};
    pg_order o;
    must(pg_order_new(&o, BINS, 11, true, &err));
    for (size_t k = 0; k < (size_t)BINS * EPOCHS; k++) count[k % BINS][pg_order_at(&o, k)]++;
    for (size_t i = 0; i < BINS; i++) {
        double chi = 0, want = (double)EPOCHS / BINS;
        for (size_t j = 0; j < BINS; j++) chi += ((double)count[i][j] - want) * ((double)count[i][j] - want) / want;
        if (!(chi < 30)) fail_msg("place %zu: chi-squared %g", i, chi);
    }
    pg_order_free(&o);
}

/* ---- slopes ---- */
/* The loss along a random direction through the gradient: each weight's own share of it, with signs of their own, so that an error which
 * is no multiple of the gradient shows as well. Along g the slope is |g|, along a direction d it is g.d. */
static void move(pg_param *p, const float *from, const float *direction, double by)
{
    for (size_t j = 0; j < p->count; j++) p->w[j] = (float)((double)from[j] + by * (double)direction[j]);
}

/* float32: the loss, about 5, is rounded to some 5e-7, and a difference of 2e-3 is looked at: 3e-4 of it. The third derivative adds a
 * few thousandths at this size of a step, which two step sizes (h and h/2, Richardson) take away. 1 % is what is allowed. */
static size_t check_slopes(batch *b, double smoothing, const char *what)
{
    size_t checked = 0;
    loss_of_batch(b, true, 0, smoothing);
    for (size_t i = 0; i < b->m->n_params; i++) {
        pg_param *p = &b->m->params[i];
        float *from = pg_floats(p->count), *d = pg_floats(p->count);
        double dot = 0, norm = 0;
        pg_rng r;
        pg_rng_seed(&r, 9, i);
        memcpy(from, p->w, p->count * sizeof *from);
        for (size_t j = 0; j < p->count; j++) norm += (double)p->g[j] * (double)p->g[j];
        norm = sqrt(norm);
        for (size_t j = 0; j < p->count; j++) {
            d[j] = (float)((double)p->g[j] / norm * (0.5 + pg_rng_double(&r)));
            dot += (double)d[j] * (double)p->g[j];
        }
        double h = 1e-3 / dot;
        if (norm > 1e-3) {
            double slope[2];
            for (int k = 0; k < 2; k++) {
                double step = k ? h / 2 : h, up, down;
                move(p, from, d, step);
                up = loss_of_batch(b, false, 0, smoothing);
                move(p, from, d, -step);
                down = loss_of_batch(b, false, 0, smoothing);
                slope[k] = (up - down) / (2 * step);
            }
            double got = (4 * slope[1] - slope[0]) / 3;
            if (!(fabs(got - dot) <= 0.01 * dot)) fail_msg("%s, %s: slope %.6g, gradient %.6g", what, p->name, got, dot);
            memcpy(p->w, from, p->count * sizeof *from);
            checked++;
        }
        free(from), free(d);
    }
    return checked;
}

static void test_slopes(void **state)
{
    (void)state;
    for (int family = 1; family <= 2; family++)
        for (int k = 0; k < 2; k++) {
            batch b = open_family(family == 1 ? "pg1" : "pg2", "all", 2);
            size_t n = check_slopes(&b, k ? 0.1 : 0, k ? "smoothed" : "plain");
            /* What is left out: the keys' bias, whose gradient is 0, and next to it. */
            if (n + 4 < b.m->n_params) fail_msg("only %zu of %zu", n, b.m->n_params);
            close_batch(&b);
        }
}

static void test_adapter_slopes(void **state)
{
    (void)state;
    for (int family = 1; family <= 2; family++) {
        batch b = open_family(family == 1 ? "pg1" : "pg2", NULL, 2);
        pg_lora_counts n;
        pg_rng r;
        pg_rng_seed(&r, 6, 0);
        must(pg_lora_create(b.m, ".", 3, 6, 1, &n, &err));
        for (size_t i = 0; i < b.m->n_params; i++) /* B begins as 0, and A's gradient is 0 with it */
            for (size_t j = 0; j < b.m->params[i].count; j++) b.m->params[i].w[j] = (float)(0.1 * pg_rng_normal(&r));
        size_t checked = check_slopes(&b, 0, "adapter");
        if (4 * checked < 3 * b.m->n_params) fail_msg("only %zu of %zu", checked, b.m->n_params);
        close_batch(&b);
    }
}

/* ---- equal bits ---- */
static void test_repeated(void **state)
{
    (void)state;
    float *want = NULL;
    for (int run = 0; run < 4; run++) {
        batch b = open_family("pg1", "all", 1 + run % 2);
        pg_optim o = {.kind = PG_ADAMW, .lr = 1e-3, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .clip = 1};
        size_t total = 0, at = 0;
        must(pg_optim_init(&o, b.m, &err));
        for (size_t s = 1; s <= 4; s++) {
            double norm;
            bool changed;
            loss_of_batch(&b, true, 0, 0.05);
            must(pg_optim_step(&o, b.m, pg_learning_rate(PG_COSINE, s, 4, 1, 0.1), &norm, &changed, &err));
        }
        for (size_t i = 0; i < b.m->n_params; i++) total += b.m->params[i].count;
        float *got = pg_floats(total);
        for (size_t i = 0; i < b.m->n_params; at += b.m->params[i++].count)
            memcpy(got + at, b.m->params[i].w, b.m->params[i].count * sizeof *got);
        if (want) assert_memory_equal(got, want, total * sizeof *got);
        else want = got;
        if (want != got) free(got);
        pg_optim_free(&o);
        close_batch(&b);
    }
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),  cmocka_unit_test(test_schedules),      cmocka_unit_test(test_orders),
        cmocka_unit_test(test_slopes), cmocka_unit_test(test_adapter_slopes), cmocka_unit_test(test_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
