/* Losses and every gradient against float64 answers of the oracle, and the mask: what may see what. Tolerances are those of
 * tests/golden/model/README.md: two independent float32 programs were off by at most a fifth of them. */
#include "batch.h"

static const double key_bias = 1e-6;

static void use_features(batch *f)
{
    const float *p[N];
    size_t row = f->m->s.n_image * f->m->s.width;
    for (size_t i = 0; i < N; i++) p[i] = f->ex[i].pixels;
    f->features = malloc(N * row * sizeof(float));
    assert_non_null(f->features);
    must(pg_vit_forward(f->m, p, N, f->features, &err));
    for (size_t i = 0; i < N; i++) {
        f->ex[i].features = f->features + i * row;
        f->ex[i].pixels = NULL;
    }
}

static void check_gradients(const batch *f, const char *what)
{
    for (size_t i = 0; i < f->m->n_params; i++) {
        const pg_param *p = &f->m->params[i];
        char key[256];
        snprintf(key, sizeof key, "grad/%s", p->name);
        const pg_npy *a = array(f->out, key);
        assert_int_equal(a->count, p->count);
        double diff = 0, norm = 0, worst = 0;
        for (size_t j = 0; j < p->count; j++) {
            double want;
            memcpy(&want, a->data + j * sizeof want, sizeof want);
            double d = fabs((double)p->g[j] - want);
            diff += d * d;
            norm += want * want;
            if (!(d <= worst)) worst = d;
        }
        /* The gradient of key/bias is 0: a constant on all keys leaves softmax as it is. */
        if (strstr(p->name, "key/bias")) {
            if (!(worst < key_bias)) fail_msg("%s, %s: %.3g (at most %.3g)", what, key, worst, key_bias);
        } else if (!(norm > 0) || !(sqrt(diff / norm) <= grad_relative)) {
            fail_msg("%s, %s: relative %.3g (at most %.3g)", what, key, sqrt(diff / norm), grad_relative);
        }
    }
}

static void check_losses(const char *family, const char *weights)
{
    batch f = open_batch(family, weights, NULL, 1);
    double loss = 0, each[N];
    must(pg_loss(f.m, f.w, f.ex, N, false, 0, &loss, each, NULL, 0, &err));
    assert_true(fabs(loss - number(f.out, "loss", 0)) <= loss_tolerance);
    for (size_t i = 0; i < N; i++) assert_true(fabs(each[i] - number(f.out, "example_loss", i)) <= loss_tolerance);
    assert_true(each[2] == 0);
    assert_true(fabs(loss_of_batch(&f, false, 0, 0.1) - number(f.out, "loss_smooth01", 0)) <= loss_tolerance);
    close_batch(&f);
}

static void test_losses(void **state)
{
    (void)state;
    check_losses("pg1", GOLDEN "pg1.npz");
    check_losses("pg2", GOLDEN "pg2.npz");
    check_losses("pg1", GOLDEN "pg1-hf"); /* the embedding's extra rows must not be in the softmax */
    check_losses("pg2", GOLDEN "pg2-hf");
}

static void check_family(const char *family, const char *weights)
{
    batch f = open_batch(family, weights, "all", 2);
    assert_true(f.m->n_params >= 20);
    double loss = loss_of_batch(&f, true, 0, 0);
    assert_true(fabs(loss - number(f.out, "loss", 0)) <= loss_tolerance);
    check_gradients(&f, "all");
    close_batch(&f);
}

static void test_all_gradients(void **state)
{
    (void)state;
    check_family("pg1", GOLDEN "pg1.npz");
    check_family("pg2", GOLDEN "pg2.npz");
    check_family("pg1", GOLDEN "pg1-hf");
    check_family("pg2", GOLDEN "pg2-hf");
}

static void test_subsets(void **state)
{
    (void)state;
    /* Each leaves out other parts of the backward pass. */
    static const char *const what[] = {"attention", "llm", "^llm/final_norm/", "^img/head/", "input_embedding$", "mlp/linear$",
                                       "^img/pos_embedding$", "pre_attention_norm", "MlpBlock_0/Dense_1/bias$"};
    for (size_t i = 0; i < sizeof what / sizeof *what; i++)
        for (int v = 0; v < 4; v++) {
            bool two = v % 2, packed = v / 2;
            const char *family = two ? "pg2" : "pg1";
            batch f = open_batch(family, two ? GOLDEN "pg2.npz" : GOLDEN "pg1.npz", what[i], 1);
            if (packed) {
                must(pg_model_pack(f.m, true, &err));
                assert_true(f.m->dec[0].up.packed && f.m->dec[0].up.packed_back ? !f.m->dec[0].up.gw : f.m->dec[0].up.gw != NULL);
            }
            loss_of_batch(&f, true, 0, 0);
            check_gradients(&f, what[i]);
            close_batch(&f);
        }
}

static void test_features_and_groups(void **state)
{
    (void)state;
    batch f = open_batch("pg1", GOLDEN "pg1.npz", "attention", 2);
    double whole = loss_of_batch(&f, true, 0, 0);
    use_features(&f);
    assert_true(loss_of_batch(&f, true, 0, 0) == whole);
    check_gradients(&f, "features");
    assert_true(fabs(loss_of_batch(&f, true, 1, 0) - whole) <= 1e-6); /* one example at a time */
    check_gradients(&f, "groups of one");
    close_batch(&f);
}

static void test_threads_agree(void **state)
{
    (void)state;
    batch a = open_batch("pg2", GOLDEN "pg2.npz", "all", 1), b = open_batch("pg2", GOLDEN "pg2.npz", "all", 3);
    assert_true(loss_of_batch(&a, true, 0, 0) == loss_of_batch(&b, true, 0, 0));
    for (size_t i = 0; i < a.m->n_params; i++)
        assert_memory_equal(a.m->params[i].g, b.m->params[i].g, a.m->params[i].count * sizeof(float));
    close_batch(&a);
    close_batch(&b);
}

static void test_gradients_add(void **state)
{
    (void)state;
    batch f = open_batch("pg1", GOLDEN "pg1.npz", "attention", 1);
    double loss;
    loss_of_batch(&f, true, 0, 0);
    float once = f.m->params[0].g[5];
    must(pg_loss(f.m, f.w, f.ex, N, true, 0, &loss, NULL, NULL, 0, &err));
    assert_true(fabs((double)f.m->params[0].g[5] - 2.0 * (double)once) <= 1e-6 * fabs((double)once));
    close_batch(&f);
}

/* The gradient of a smoothed loss against a difference quotient along it: the golden file has no such gradient. */
static void test_smoothing_gradient(void **state)
{
    (void)state;
    batch f = open_batch("pg1", GOLDEN "pg1.npz", "attention", 1);
    loss_of_batch(&f, true, 0, 0.1);
    double norm2 = 0;
    const double h = 1e-3;
    for (size_t i = 0; i < f.m->n_params; i++)
        for (size_t j = 0; j < f.m->params[i].count; j++) norm2 += (double)f.m->params[i].g[j] * (double)f.m->params[i].g[j];
    double at[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < f.m->n_params; i++)
            for (size_t j = 0; j < f.m->params[i].count; j++)
                f.m->params[i].w[j] += (float)((side ? -2 : 1) * h / sqrt(norm2) * (double)f.m->params[i].g[j]);
        must(pg_loss(f.m, f.w, f.ex, N, false, 0, &at[side], NULL, NULL, 0.1, &err));
    }
    double slope = (at[0] - at[1]) / (2 * h);
    if (!(fabs(slope - sqrt(norm2)) <= 2e-3 * sqrt(norm2))) fail_msg("slope %.6g, gradient's norm %.6g", slope, sqrt(norm2));
    close_batch(&f);
}

/* At smoothing (V - 1) / V every token weighs 1 / V, so the gradient must not depend on the target. The last loss token is a
 * target only: no row reads it. */
static void test_uniform_smoothing(void **state)
{
    (void)state;
    batch f = open_batch("pg2", GOLDEN "pg2.npz", "attention", 1);
    const double smoothing = 1.0 - 1.0 / (double)f.m->s.vocab;
    pg_param *p = &f.m->params[0];
    float *before = malloc(p->count * sizeof *before);
    double loss[2], diff2 = 0, norm2 = 0;
    size_t last = T - 1;
    assert_non_null(before);
    while (last && !f.loss[last]) last--;
    assert_true(last > 0);
    pg_grads_zero(f.m);
    must(pg_loss(f.m, f.w, f.ex, 1, true, 0, &loss[0], NULL, NULL, smoothing, &err));
    memcpy(before, p->g, p->count * sizeof *before);
    f.tokens[last] = f.tokens[last] == 50 ? 51 : 50;
    pg_grads_zero(f.m);
    must(pg_loss(f.m, f.w, f.ex, 1, true, 0, &loss[1], NULL, NULL, smoothing, &err));
    for (size_t i = 0; i < p->count; i++) {
        diff2 += pow((double)p->g[i] - (double)before[i], 2);
        norm2 += pow((double)before[i], 2);
    }
    assert_true(fabs(loss[0] - loss[1]) <= 1e-5 * loss[0]);
    if (!(norm2 > 0) || !(sqrt(diff2 / norm2) <= 1e-5)) fail_msg("the gradient moves by %.3g", sqrt(diff2 / norm2));
    free(before);
    close_batch(&f);
}

/* ---- the mask: a changed token moves log p of exactly those that may see it ---- */
typedef struct scores {
    float logp[T];
} scores;

static scores score(batch *f, size_t i)
{
    scores s = {{0}};
    float *const rows[] = {s.logp};
    double loss;
    must(pg_loss(f->m, f->w, &f->ex[i], 1, false, 0, &loss, NULL, rows, 0, &err));
    return s;
}

static void check_mask(const char *family, const char *weights)
{
    batch f = open_batch(family, weights, NULL, 1);
    const size_t first = 5; /* of the suffix, in row 0 of both families */
    size_t last = first;
    while (last + 1 < T && f.loss[last + 1]) last++;
    assert_true(f.loss[first] && !f.loss[first - 1] && last > first + 3);
    scores before = score(&f, 0);

    const size_t changed = first + 2; /* a suffix token: those before must not see it, nor must it see itself */
    int32_t was = f.tokens[changed];
    f.tokens[changed] = was == 50 ? 51 : 50;
    scores after = score(&f, 0);
    for (size_t t = first; t < changed; t++) assert_true(after.logp[t] == before.logp[t]);
    for (size_t t = changed + 1; t <= last; t++) assert_true(after.logp[t] != before.logp[t]);
    f.tokens[changed] = was;

    /* A change of the last prefix token must reach the earlier prefix rows: with one-way attention over the prefix, row 1's keys
     * and values would stay. Made one-way, the scores must differ. */
    was = f.tokens[first - 2];
    f.tokens[first - 2] = was == 50 ? 51 : 50;
    after = score(&f, 0);
    for (size_t t = first; t <= last; t++) assert_true(after.logp[t] != before.logp[t]);
    f.tokens[first - 2] = was;
    for (size_t t = 1; t < first; t++) f.ar[t] = 1;
    after = score(&f, 0);
    for (size_t t = first; t <= last; t++) assert_true(after.logp[t] != before.logp[t]);
    for (size_t t = 1; t < first; t++) f.ar[t] = 0;

    for (size_t t = last + 1; t < T; t++) f.tokens[t] = 77; /* padding */
    after = score(&f, 0);
    assert_memory_equal(after.logp, before.logp, sizeof before.logp);
    /* Behind a suffix no row that counts could see padding; where all is prefix, every row could. */
    for (size_t t = 0; t <= last; t++) f.ar[t] = 0;
    before = score(&f, 0);
    for (size_t t = last + 1; t < T; t++) f.tokens[t] = 88;
    after = score(&f, 0);
    assert_memory_equal(after.logp, before.logp, sizeof before.logp);
    close_batch(&f);
}

static void test_mask(void **state)
{
    (void)state;
    check_mask("pg1", GOLDEN "pg1.npz");
    check_mask("pg2", GOLDEN "pg2.npz");
}

static void test_bad_token(void **state)
{
    (void)state;
    batch f = open_batch("pg1", GOLDEN "pg1.npz", NULL, 1);
    double loss;
    f.tokens[6] = 320;
    assert_int_equal(pg_loss(f.m, f.w, f.ex, N, false, 0, &loss, NULL, NULL, 0, &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "320"));
    close_batch(&f);
}

/* Activations computed again are the same: so are the gradients, to the bit. */
static void test_recompute(void **state)
{
    (void)state;
    for (int two = 0; two < 2; two++) {
        batch f = open_batch(two ? "pg2" : "pg1", two ? GOLDEN "pg2.npz" : GOLDEN "pg1.npz", "all", 2);
        size_t bytes = pg_loss_bytes(f.m, f.m->s.n_image + 20, N), total = 0, at = 0;
        double loss = loss_of_batch(&f, true, 0, 0);
        for (size_t i = 0; i < f.m->n_params; i++) total += f.m->params[i].count;
        float *kept = pg_floats(total);
        assert_non_null(kept);
        for (size_t i = 0; i < f.m->n_params; at += f.m->params[i++].count)
            memcpy(kept + at, f.m->params[i].g, f.m->params[i].count * sizeof *kept);
        for (size_t again = 1; again <= 9; again += 2) { /* in the end more than there are: all but the last */
            f.m->recompute = again;
            assert_true(pg_loss_bytes(f.m, f.m->s.n_image + 20, N) <= bytes);
            assert_true(fabs(loss_of_batch(&f, true, 0, 0) - loss) <= 0);
            at = 0;
            for (size_t i = 0; i < f.m->n_params; at += f.m->params[i++].count)
                if (memcmp(kept + at, f.m->params[i].g, f.m->params[i].count * sizeof *kept))
                    fail_msg("'%s' differs with %zu layers computed again", f.m->params[i].name, again);
        }
        free(kept);
        close_batch(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses),           cmocka_unit_test(test_all_gradients), cmocka_unit_test(test_subsets),
        cmocka_unit_test(test_features_and_groups), cmocka_unit_test(test_threads_agree), cmocka_unit_test(test_gradients_add),
        cmocka_unit_test(test_smoothing_gradient), cmocka_unit_test(test_uniform_smoothing), cmocka_unit_test(test_mask),
        cmocka_unit_test(test_bad_token),        cmocka_unit_test(test_recompute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
