/* Schedule, optimizers, order, store and resume file; the first two against the oracle's float64 answers, with the tolerances of
 * tests/golden/model/README.md. */
#include <unistd.h>

#include "../model/batch.h"
#include "train/data.h"
#include "train/optim.h"
#include "train/schedule.h"
#include "train/state.h"

static batch open_kept(const char *family, const char *trainable)
{
    batch f = open_family(family, trainable, 2);
    keep_weights(&f);
    return f;
}

static double step(batch *f, pg_optim *o, double schedule, double *norm)
{
    bool changed = false;
    double loss = loss_of_batch(f, true, 0, 0);
    must(pg_optim_step(o, f->m, schedule, norm, &changed, &err));
    assert_int_equal(changed, schedule > 0);
    return loss;
}

/* Weights by their own norm and by the norm of the change since the start. */
static void check_weights(const batch *f, const char *kind, double relative, double of_change)
{
    for (size_t i = 0; i < f->m->n_params; i++) {
        const pg_param *p = &f->m->params[i];
        char key[256];
        snprintf(key, sizeof key, "%s%s", kind, p->name);
        const pg_npy *a = array(f->out, key);
        double diff = 0, norm = 0, change = 0, worst = 0;
        assert_int_equal(a->count, p->count);
        for (size_t j = 0; j < p->count; j++) {
            double want = value(a, j), d = fabs((double)p->w[j] - want), c = want - (double)f->start[i][j];
            diff += d * d;
            norm += want * want;
            change += c * c;
            if (!(d <= worst)) worst = d;
        }
        if (strstr(p->name, "key/bias")) { /* its gradient is 0, AdamW turns rounding into steps of size lr */
            if (!(worst <= 1.5e-3)) fail_msg("%s: %.3g", key, worst);
            continue;
        }
        if (!(sqrt(diff / norm) <= relative) || !(sqrt(diff / change) <= of_change))
            fail_msg("%s: relative %.3g (at most %.3g), of the change %.3g (at most %.3g)", key, sqrt(diff / norm), relative,
                     sqrt(diff / change), of_change);
    }
}

static void test_schedule(void **state)
{
    (void)state;
    pg_npz *z;
    size_t steps, seen = 0;
    double warmup;
    must(pg_npz_open(&z, GOLDEN "schedule.npz", &err));
    for (size_t i = 0; i < pg_npz_count(z); i++) {
        const pg_npy *a = pg_npz_at(z, i);
        if (sscanf(a->key, "steps%zu_warmup%lf", &steps, &warmup) != 2) fail_msg("'%s'?", a->key);
        assert_int_equal(a->count, steps);
        for (size_t s = 1; s <= steps; s++) {
            double got = pg_learning_rate(PG_COSINE, s, steps, 0.03, warmup);
            if (!(fabs(got - value(a, s - 1)) <= 1e-12)) fail_msg("%s, step %zu: %.17g", a->key, s, got);
        }
        seen++;
    }
    assert_true(seen >= 6);
    pg_npz_close(z);
    assert_true(pg_learning_rate(PG_CONSTANT, 1, 99, 1.0, 0.1) == 0.1 && pg_learning_rate(PG_CONSTANT, 99, 99, 1.0, 0.1) == 1.0);
    assert_true(pg_learning_rate(PG_COSINE, 1, 1, 1.0, 0.1) > 0); /* one step is not wasted */
}

static void check_sgd(const char *family)
{
    batch f = open_kept(family, "attention");
    pg_optim o = {.kind = PG_SGD, .lr = 0.03};
    double norm;
    assert_int_equal(f.m->n_params, 3);
    must(pg_optim_init(&o, f.m, &err));
    for (size_t s = 1; s <= 5; s++) {
        double mult = pg_learning_rate(PG_COSINE, s, 5, 1.0, 0.1);
        assert_true(fabs(o.lr * mult - number(f.out, "sgd_lr", s - 1)) <= 1e-8);
        double loss = step(&f, &o, mult, &norm), want = number(f.out, "sgd_loss", s - 1);
        if (!(fabs(loss - want) <= 5e-6)) fail_msg("step %zu: loss %.9g, not %.9g", s, loss, want);
        if (s == 1) check_weights(&f, "sgd1/", 3e-7, 1e-4);
    }
    check_weights(&f, "sgd5/", 3e-7, 1e-4);
    pg_optim_free(&o);
    close_batch(&f);
}

static void test_sgd(void **state)
{
    (void)state;
    check_sgd("pg1");
    check_sgd("pg2");
}

static void check_adamw(const char *family)
{
    batch f = open_kept(family, "all");
    pg_optim o = {.kind = PG_ADAMW, .lr = 1e-3, .weight_decay = 1e-2, .clip = 1.0, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8};
    must(pg_optim_init(&o, f.m, &err));
    for (size_t s = 0; s < 3; s++) {
        double norm = 0, mult = pg_schedule_at(PG_COSINE, s, 40, 1.0, 0.05);
        assert_true(fabs(mult - number(f.out, "adamw_schedule", s)) <= 1e-12);
        double loss = step(&f, &o, mult, &norm), want = number(f.out, "adamw_norm", s);
        assert_true(fabs(loss - number(f.out, "adamw_loss", s)) <= 2e-5);
        if (!(fabs(norm - want) <= 1e-5 * want)) fail_msg("step %zu: norm %.9g, not %.9g", s, norm, want);
    }
    check_weights(&f, "adamw3/", 1, 5e-4);
    pg_optim_free(&o);
    close_batch(&f);
}

static void test_adamw(void **state)
{
    (void)state;
    check_adamw("pg1");
    check_adamw("pg2");
}

/* Momentum, rates and decay by name, and a gradient that is a sum: against the formulas in double. */
static void test_groups(void **state)
{
    (void)state;
    static const char *const rates[] = {"q_einsum=0.5", "attn=2"}, *const decays[] = {"vec=3"}, *const wrong[] = {"img=1"}, *const odd[] = {"attn"};
    batch f = open_kept("pg1", "attention");
    pg_optim o = {.kind = PG_SGD, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .clip = 2, .grad_scale = 0.25};
    double norm, sum = 0, *want[3], *mu[3];
    bool changed;
    must(pg_optim_init(&o, f.m, &err));
    must(pg_optim_mults(&o.lr_mult, f.m, rates, 2, 1, &err));
    must(pg_optim_mults(&o.decay, f.m, decays, 1, 0, &err));
    for (size_t i = 0; i < 3; i++) {
        pg_param *p = &f.m->params[i];
        for (size_t k = 0; k < p->count; k++) p->g[k] = (float)(1 + (k * 7 + i) % 5) / 20;
        for (size_t k = 0; k < p->count; k++) sum += (double)p->g[k] * (double)p->g[k];
        want[i] = malloc(p->count * sizeof **want);
        mu[i] = calloc(p->count, sizeof **mu);
        assert_non_null(want[i]);
        assert_non_null(mu[i]);
        for (size_t k = 0; k < p->count; k++) want[i][k] = (double)p->w[k];
    }
    double length = 0.25 * sqrt(sum), scale = 0.25 * (length > 2 ? 2 / length : 1);
    assert_true(length > 2); /* clipping is tried, too */
    for (size_t s = 0; s < 3; s++) {
        double schedule = 1.0 / (double)(s + 1);
        must(pg_optim_step(&o, f.m, schedule, &norm, &changed, &err));
        assert_true(fabs(norm - length) < 1e-5 * length);
        for (size_t i = 0; i < 3; i++) {
            const pg_param *p = &f.m->params[i];
            double rate = strstr(p->name, "q_einsum") && !strstr(p->name, "kv") ? 0.5 : 2, decay = strstr(p->name, "vec") ? 3 : 0;
            for (size_t k = 0; k < p->count; k++) {
                mu[i][k] = 0.9 * mu[i][k] + scale * (double)p->g[k];
                want[i][k] -= schedule * (0.01 * decay * want[i][k] + 0.1 * rate * mu[i][k]);
                if (!(fabs((double)p->w[k] - want[i][k]) < 1e-6)) fail_msg("%s, step %zu: %.9g, not %.9g", p->name, s, (double)p->w[k], want[i][k]);
            }
        }
    }
    double *none = NULL;
    assert_int_equal(pg_optim_mults(&none, f.m, wrong, 1, 1, &err), PG_EINVAL);
    free(none);
    none = NULL;
    assert_int_equal(pg_optim_mults(&none, f.m, odd, 1, 1, &err), PG_EINVAL);
    free(none);
    for (size_t i = 0; i < 3; i++) {
        free(want[i]);
        free(mu[i]);
    }
    pg_optim_free(&o);
    close_batch(&f);
}

static void test_not_finite(void **state)
{
    (void)state;
    batch f = open_kept("pg1", "attention");
    pg_optim o = {.kind = PG_SGD, .lr = 1};
    double norm;
    bool changed;
    must(pg_optim_init(&o, f.m, &err));
    pg_grads_zero(f.m);
    f.m->params[1].g[7] = NAN;
    assert_int_equal(pg_optim_step(&o, f.m, 1, &norm, &changed, &err), PG_FAIL);
    for (size_t i = 0; i < f.m->n_params; i++)
        assert_memory_equal(f.m->params[i].w, f.start[i], f.m->params[i].count * sizeof(float));
    f.m->params[1].g[7] = 1e30f; /* a finite gradient, a weight that is not */
    o.lr = 1e30;
    assert_int_equal(pg_optim_step(&o, f.m, 1, &norm, &changed, &err), PG_FAIL);
    pg_optim_free(&o);
    close_batch(&f);
}

static void test_order(void **state)
{
    (void)state;
    enum { COUNT = 37, EPOCHS = 3 };
    pg_order o, again;
    size_t seen[EPOCHS][COUNT] = {{0}}, order[EPOCHS * COUNT];
    bool moved = false, epochs_differ = false;
    must(pg_order_new(&o, COUNT, 7, true, &err));
    for (size_t k = 0; k < EPOCHS * COUNT; k++) {
        order[k] = pg_order_at(&o, k);
        assert_true(order[k] < COUNT);
        seen[k / COUNT][order[k]]++;
        moved = moved || order[k] != k % COUNT;
        epochs_differ = epochs_differ || (k >= COUNT && order[k] != order[k - COUNT]);
    }
    for (size_t i = 0; i < EPOCHS * COUNT; i++) assert_int_equal(seen[i / COUNT][i % COUNT], 1);
    assert_true(moved && epochs_differ);
    /* A resumed run starts in the middle. */
    must(pg_order_new(&again, COUNT, 7, true, &err));
    for (size_t k = COUNT + 11; k < EPOCHS * COUNT; k++) assert_int_equal(pg_order_at(&again, k), order[k]);
    pg_order_free(&again);
    must(pg_order_new(&again, COUNT, 8, true, &err));
    bool differ = false;
    for (size_t k = 0; k < COUNT; k++) differ = differ || pg_order_at(&again, k) != order[k];
    assert_true(differ);
    pg_order_free(&again);
    must(pg_order_new(&again, COUNT, 7, false, &err));
    for (size_t k = 0; k < 2 * COUNT; k++) assert_int_equal(pg_order_at(&again, k), k % COUNT);
    pg_order_free(&again);
    pg_order_free(&o);
}

static void test_store(void **state)
{
    (void)state;
    enum { ROW = 5, ROWS = 150 };
    const size_t memory[] = {0, 70 * ROW * sizeof(float), (size_t)1 << 20}; /* all in the file, some, none */
    for (size_t m = 0; m < 3; m++) {
        pg_store *s;
        float row[ROW], got[ROW];
        must(pg_store_new(&s, ROW, memory[m], &err));
        for (size_t i = 0; i < ROWS; i++) {
            for (size_t j = 0; j < ROW; j++) row[j] = (float)(i * ROW + j);
            must(pg_store_add(s, row, &err));
        }
        for (size_t k = 0; k < ROWS; k++) {
            size_t i = k * 71 % ROWS;
            const float *at;
            must(pg_store_get(s, i, got, &at, &err));
            for (size_t j = 0; j < ROW; j++) assert_true(at[j] == (float)(i * ROW + j));
        }
        pg_store_clear(s); /* and again, in the same memory */
        for (size_t j = 0; j < ROW; j++) row[j] = -(float)j;
        must(pg_store_add(s, row, &err));
        const float *at;
        must(pg_store_get(s, 0, got, &at, &err));
        assert_true(!memcmp(at, row, sizeof row));
        pg_store_free(s);
    }
}

/* Another bit in the middle of a file: among the values, which any bits can be. */
static void flip(const char *path)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long middle = ftell(f) / 2;
    assert_int_equal(fseek(f, middle, SEEK_SET), 0);
    int c = getc(f);
    assert_int_equal(fseek(f, middle, SEEK_SET), 0);
    assert_int_equal(putc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

/* Options that not every run names come before the machine: the one that is named is the option, not the machine. */
static void test_state_options(void **state)
{
    (void)state;
    char path[] = "/tmp/pg-test-state.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    pg_model m = {.params = NULL};
    pg_optim o = {.kind = PG_SGD};
    pg_progress p = {.step = 3}, at = {0};
    must(pg_state_save(path, &m, &o, &p, "seed 3\nmachine a\n", &err));
    must(pg_state_load(path, &m, &o, &at, "seed 3\nmachine b\n", &err));
    assert_true(at.moved);
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\nmomentum 0.5\nmachine b\n", &err), PG_EINVAL);
    assert_non_null(strstr(err.msg, "it has no 'momentum 0.5', which this run has"));
    must(pg_state_save(path, &m, &o, &p, "seed 3\nmomentum 0.5\nmachine a\n", &err));
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\nmachine a\n", &err), PG_EINVAL);
    assert_non_null(strstr(err.msg, "it has 'momentum 0.5', which this run has not"));
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\naccumulate 2\nmachine a\n", &err), PG_EINVAL);
    assert_non_null(strstr(err.msg, "it has 'momentum 0.5', this run 'accumulate 2'"));
    unlink(path);
}

static void check_state(pg_optim o)
{
    char path[] = "/tmp/pg-test-state.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    const char print[] = "seed 3\nlr 0.5\n";
    pg_optim p = o;
    batch f = open_kept("pg1", "attention"), g = open_kept("pg1", "attention");
    double norm;
    pg_progress was = {.step = 17, .best_step = 12, .worse = 3, .best_loss = 0.1}, at = {0};
    must(pg_optim_init(&o, f.m, &err));
    must(pg_optim_init(&p, g.m, &err));
    step(&f, &o, 1, &norm);
    must(pg_state_save(path, f.m, &o, &was, print, &err));
    must(pg_state_load(path, g.m, &p, &at, print, &err));
    assert_memory_equal(&at, &was, sizeof at);
    assert_int_equal(p.count, 1);
    step(&f, &o, 0.5, &norm);
    step(&g, &p, 0.5, &norm);
    for (size_t i = 0; i < f.m->n_params; i++) {
        assert_memory_equal(f.m->params[i].w, g.m->params[i].w, f.m->params[i].count * sizeof(float));
        assert_memory_equal(o.mu[i], p.mu[i], f.m->params[i].count * sizeof(float));
        if (o.nu) assert_memory_equal(o.nu[i], p.nu[i], f.m->params[i].count * sizeof(float));
    }
    assert_int_equal(pg_state_load(path, g.m, &p, &at, "seed 3\nlr 0.25\n", &err), PG_EINVAL);
    assert_non_null(strstr(err.msg, "lr 0.5"));
    assert_non_null(strstr(err.msg, "lr 0.25"));
    flip(path);
    assert_int_equal(pg_state_load(path, g.m, &p, &at, print, &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "is damaged: array "));
    assert_int_equal(truncate(path, 100), 0);
    assert_true(pg_state_load(path, g.m, &p, &at, print, &err) < 0);
    unlink(path);
    pg_optim_free(&o);
    pg_optim_free(&p);
    close_batch(&f);
    close_batch(&g);
}

static void test_state(void **state)
{
    (void)state;
    check_state((pg_optim){.kind = PG_ADAMW, .lr = 1e-3, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8});
    check_state((pg_optim){.kind = PG_SGD, .lr = 0.03, .momentum = 0.9});
}

/* What an npz lacks to be the state of this model is named; nothing goes on from half a state. */
static void test_other_state(void **state)
{
    (void)state;
    char path[] = "/tmp/pg-test-state.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    float w[3] = {1, 2, 3};
    pg_param param = {.name = "x", .layers = 1, .per_layer = 2, .count = 2, .w = w};
    pg_model m = {.params = &param, .n_params = 1};
    pg_optim o = {.kind = PG_SGD};
    pg_progress p = {.step = 3}, at = {0};
    const size_t one = 1;
    pg_npz_writer *z;
    must(pg_state_save(path, &m, &o, &p, "seed 3\n", &err));
    w[0] = 7;
    must(pg_state_load(path, &m, &o, &at, "seed 3\n", &err));
    assert_true(w[0] == 1.0f && w[1] == 2.0f && w[2] == 3.0f && at.step == 3);
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\nlr 1\n", &err), PG_EINVAL); /* a line more than it has */
    o.mu = (float *[]){w};
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\n", &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "no 'mu/x' of 2 floats"));
    o.mu = NULL;
    param.count = param.per_layer = 3;
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\n", &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "no 'w/x' of 3 floats"));
    must(pg_npz_create(&z, path, &err));
    must(pg_npz_begin(z, "step", "<i8", 1, &one, &err));
    must(pg_npz_data(z, (int64_t[]){3}, 8, &err)); /* one number where five belong */
    must(pg_npz_begin(z, "best_loss", "<f8", 1, &one, &err));
    must(pg_npz_data(z, (double[]){3}, 8, &err));
    must(pg_npz_begin(z, "fingerprint", "|u1", 1, &one, &err));
    must(pg_npz_data(z, "x", 1, &err));
    must(pg_npz_commit(z, &err));
    assert_int_equal(pg_state_load(path, &m, &o, &at, "seed 3\n", &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "not a training state"));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule), cmocka_unit_test(test_sgd),   cmocka_unit_test(test_adamw), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_order),    cmocka_unit_test(test_store), cmocka_unit_test(test_state),
        cmocka_unit_test(test_other_state), cmocka_unit_test(test_state_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
