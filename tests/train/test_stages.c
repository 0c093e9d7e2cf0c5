/* Gradients that layers share and weights that change during the backward pass: the same bits as with all gradients held, less memory, and
 * what happens to a gradient that is no number. */
#include "../model/batch.h"
#include "model/lora.h"
#include "train/optim.h"

static const char *const families[] = {"pg1", "pg2"};

/* A golden model with an optimizer; share: as pg-train has it where the batch is one group. */
typedef struct setting {
    batch f;
    pg_optim o;
    float **start; /* the weights as they were */
} setting;

static setting open_setting(const char *family, const char *what, pg_optim o, bool share)
{
    setting s = {.o = o};
    char path[128];
    pg_lora_counts counts;
    bool lora = !strcmp(what, "lora");
    snprintf(path, sizeof path, GOLDEN "%s.npz", family);
    s.f = open_batch(family, path, lora ? NULL : what, 2);
    pg_model *m = s.f.m;
    if (lora) must(pg_lora_create(m, ".", 2, 2, 1, &counts, &err));
    if (share) must(pg_grads_share(m, &err));
    must(pg_optim_init(&s.o, m, &err));
    assert_non_null(s.start = calloc(m->n_params, sizeof *s.start));
    for (size_t i = 0; i < m->n_params; i++) {
        assert_non_null(s.start[i] = pg_floats(m->params[i].count));
        memcpy(s.start[i], m->params[i].w, m->params[i].count * sizeof(float));
    }
    return s;
}

static void close_setting(setting *s)
{
    for (size_t i = 0; i < s->f.m->n_params; i++) free(s->start[i]);
    free(s->start);
    pg_optim_free(&s->o);
    close_batch(&s->f);
}

/* A step on the first n examples. */
static double step(setting *s, size_t n, double schedule, double *norm)
{
    double loss;
    bool changed;
    pg_grads_zero(s->f.m);
    pg_optim_begin(&s->o, s->f.m, schedule);
    must(pg_loss(s->f.m, s->f.w, s->f.ex, n, true, 0, &loss, NULL, NULL, 0, &err));
    must(pg_optim_end(&s->o, norm, &changed, &err));
    assert_int_equal(changed, n > 0 || s->o.weight_decay > 0 || s->o.mu);
    return loss;
}

static void same(const char *what, const pg_param *p, const float *a, const float *b)
{
    if (memcmp(a, b, p->count * sizeof *a)) fail_msg("%s of '%s' differs", what, p->name);
}

/* All layers' gradients held, or a layer's: the same losses, weights and moments after steps on all examples, one, none, and all again. */
static void check_same(const char *family, const char *what, pg_optim o, size_t recompute)
{
    static const size_t sizes[] = {N, 1, 0, N};
    setting a = open_setting(family, what, o, false), b = open_setting(family, what, o, true);
    pg_model *m = a.f.m;
    b.f.m->recompute = recompute;
    assert_false(m->grads_shared);
    assert_int_equal(b.f.m->grads_shared, strcmp(what, "lora") != 0 && strcmp(what, "^llm/embedder") != 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double norm_a, norm_b, schedule = 1.0 / (double)(i + 1);
        assert_true(step(&a, sizes[i], schedule, &norm_a) == step(&b, sizes[i], schedule, &norm_b));
        /* Sums in double of the same squares in another order. */
        assert_true(fabs(norm_a - norm_b) <= 1e-12 * norm_a);
        assert_int_equal(norm_a > 0, sizes[i] > 0);
        assert_int_equal(a.o.count, b.o.count);
    }
    for (size_t i = 0; i < m->n_params; i++) {
        const pg_param *p = &m->params[i];
        same("w", p, p->w, b.f.m->params[i].w);
        if (a.o.mu) same("mu", p, a.o.mu[i], b.o.mu[i]);
        if (a.o.nu) same("nu", p, a.o.nu[i], b.o.nu[i]);
    }
    close_setting(&a);
    close_setting(&b);
}

static void test_same_bits(void **state)
{
    static const char *const what[] = {"all", "attention", "llm", "lora", "^img/", "norm/scale$|Dense_1", "^llm/embedder"};
    static const pg_optim optims[] = {
        {.kind = PG_SGD, .lr = 0.03},
        {.kind = PG_SGD, .lr = 0.03, .momentum = 0.9, .weight_decay = 0.01},
        {.kind = PG_ADAMW, .lr = 1e-3, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8, .weight_decay = 0.01},
    };
    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < sizeof what / sizeof *what; j++)
            for (size_t k = 0; k < 3; k++) check_same(families[i], what[j], optims[k], k);
}

/* The steps are those of the golden file, too: the order in which weights change must not matter to any other's gradient. */
static void test_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        setting s = open_setting(families[i], "all", (pg_optim){.kind = PG_SGD, .lr = 1}, true);
        double norm, all = 0;
        step(&s, N, 1, &norm);
        for (size_t k = 0; k < s.f.m->n_params; k++) {
            const pg_param *p = &s.f.m->params[k];
            char key[256];
            double diff = 0, want2 = 0, weights = 0;
            snprintf(key, sizeof key, "grad/%s", p->name);
            for (size_t j = 0; j < p->count; j++) {
                double want = number(s.f.out, key, j), d = (double)s.start[k][j] - (double)p->w[j] - want, w = (double)s.start[k][j];
                diff += d * d;
                want2 += want * want;
                weights += w * w;
            }
            all += want2;
            /* key/bias: its gradient is 0, so all of it is rounding (test_gradients.c). What a gradient may be off by, and half a unit of the last place of the weights that it was taken from. */
            if (!strstr(p->name, "key/bias") && !(sqrt(diff) <= grad_relative * sqrt(want2) + 6e-8 * (sqrt(weights) + sqrt(want2))))
                fail_msg("%s '%s': off by %.3g of %.3g", families[i], p->name, sqrt(diff), sqrt(want2));
        }
        assert_true(fabs(norm - sqrt(all)) <= grad_relative * norm);
        close_setting(&s);
    }
}

/* A layer's memory, by the count that pg-train plans with and by where the layers write. */
static void test_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        setting s = open_setting(families[i], "all", (pg_optim){.kind = PG_SGD}, false);
        pg_model *m = s.f.m;
        size_t all = 0, one = 0;
        for (size_t k = 0; k < m->n_params; k++) {
            all += m->params[k].count * sizeof(float);
            one += m->params[k].per_layer * sizeof(float);
        }
        assert_true(one < all);
        assert_int_equal(pg_grads_bytes(m), all);
        assert_ptr_not_equal(m->dec[0].down.gw, m->dec[1].down.gw);
        must(pg_grads_share(m, &err));
        assert_int_equal(pg_grads_bytes(m), one);
        must(pg_grads_share(m, &err)); /* again: nothing */
        assert_int_equal(pg_grads_bytes(m), one);
        for (size_t l = 0; l < m->s.depth; l++) {
            const pg_dec_layer *d = &m->dec[l], *first = &m->dec[0];
            assert_ptr_equal(d->down.gw, first->down.gw);
            assert_ptr_equal(d->v.gw, first->v.gw);
            assert_ptr_equal(d->v.gw, d->k.gw + m->s.width * m->s.kv_heads * m->s.head_dim); /* two parts of a tensor */
            assert_ptr_equal(d->pre_ffw.gscale, first->pre_ffw.gscale);
            assert_ptr_equal(d->post_attn.gscale, first->post_attn.gscale);
        }
        for (size_t l = 0; l < m->s.vit_depth; l++) {
            assert_ptr_equal(m->vit[l].fc1.gbias, m->vit[0].fc1.gbias);
            assert_ptr_equal(m->vit[l].norm1.gbias, m->vit[0].norm1.gbias);
        }
        for (size_t k = 0; k < m->n_params; k++) { /* nothing else was moved */
            const pg_param *p = &m->params[k];
            if (!strcmp(p->name, "llm/embedder/input_embedding")) assert_ptr_equal(p->g, m->gembed);
            if (!strcmp(p->name, "img/head/kernel")) assert_ptr_equal(p->g, m->head.gw);
            if (!strcmp(p->name, "llm/layers/mlp/linear")) assert_ptr_equal(p->g, m->dec[0].down.gw);
        }
        close_setting(&s);
    }
}

/* What would add up gradients of several layers is refused. */
static void test_refused(void **state)
{
    (void)state;
    setting s = open_setting("pg1", "attention", (pg_optim){.kind = PG_SGD, .lr = 0.1, .clip = 1}, true);
    pg_model *m = s.f.m;
    double loss, norm;
    bool changed;
    pg_grads_zero(m);
    assert_int_equal(pg_loss(m, s.f.w, s.f.ex, N, true, 0, &loss, NULL, NULL, 0, &err), PG_EINVAL); /* nobody takes them */
    must(pg_loss(m, s.f.w, s.f.ex, N, false, 1, &loss, NULL, NULL, 0, &err));
    pg_optim_begin(&s.o, m, 1);
    assert_int_equal(pg_loss(m, s.f.w, s.f.ex, N, true, 1, &loss, NULL, NULL, 0, &err), PG_EINVAL); /* a group for each example */
    must(pg_loss(m, s.f.w, s.f.ex, 1, true, 1, &loss, NULL, NULL, 0, &err));
    assert_int_equal(pg_optim_end(&s.o, &norm, &changed, &err), PG_EINVAL); /* clipped by a length that is not known yet */
    for (size_t i = 0; i < m->n_params; i++) same("w", &m->params[i], m->params[i].w, s.start[i]);
    /* The examples fit the default budget; a thousand times as long ones would not, but for one alone. */
    assert_true(pg_loss_in_one(m, m->s.n_image + T, N));
    assert_false(pg_loss_in_one(m, 1000000, N));
    assert_true(pg_loss_in_one(m, SIZE_MAX, 1));
    close_setting(&s);
}

static void test_loss_not_finite(void **state)
{
    (void)state;
    for (int share = 0; share < 2; share++) {
        setting s = open_setting("pg1", "all", (pg_optim){.kind = PG_SGD, .lr = 0.1}, share);
        pg_model *m = s.f.m;
        double loss = 0;
        s.f.pixels[7] = NAN;
        pg_grads_zero(m);
        pg_optim_begin(&s.o, m, 1);
        must(pg_loss(m, s.f.w, s.f.ex, N, true, 0, &loss, NULL, NULL, 0, &err));
        assert_true(isnan(loss));
        for (size_t i = 0; i < m->n_params; i++) /* the embedding's is begun by the logits; all others by backward */
            for (size_t k = 0; k < m->params[i].per_layer && m->params[i].g != m->gembed; k++) assert_true(m->params[i].g[k] == 0);
        for (size_t i = 0; i < m->n_params; i++) same("w", &m->params[i], m->params[i].w, s.start[i]);
        close_setting(&s);
    }
}

/* ---- a gradient that is not finite in a lower layer: the backward pass is interfered with ---- */
typedef struct spoiler {
    pg_model *m;
    void (*ready)(void *ctx, size_t stage);
    void *ctx;
    size_t stage;
} spoiler;

static void spoil(void *ctx, size_t stage)
{
    spoiler *x = ctx;
    if (stage == x->stage) x->m->params[0].g[3] = INFINITY;
    x->ready(x->ctx, stage);
}

static void test_gradient_not_finite(void **state)
{
    (void)state;
    setting s = open_setting("pg1", "attention", (pg_optim){.kind = PG_SGD, .lr = 0.1}, true);
    pg_model *m = s.f.m;
    const pg_param *p = &m->params[0];
    size_t last = m->s.depth - 1, layer = p->per_layer;
    double loss, norm;
    bool changed;
    assert_true(last > 0);
    pg_grads_zero(m);
    pg_optim_begin(&s.o, m, 1);
    spoiler x = {m, m->ready, m->ready_ctx, 1};
    m->ready = spoil;
    m->ready_ctx = &x;
    must(pg_loss(m, s.f.w, s.f.ex, N, true, 0, &loss, NULL, NULL, 0, &err));
    assert_true(isfinite(loss));
    assert_int_equal(pg_optim_end(&s.o, &norm, &changed, &err), PG_FAIL);
    assert_string_equal(err.msg, "the gradient is not finite");
    /* The last layer had changed; none did from there on. */
    assert_memory_not_equal(p->w + last * layer, s.start[0] + last * layer, layer * sizeof(float));
    for (size_t i = 0; i < m->n_params; i++) {
        const pg_param *q = &m->params[i];
        assert_memory_equal(q->w, s.start[i], last * q->per_layer * sizeof(float));
    }
    close_setting(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_golden),          cmocka_unit_test(test_memory),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_loss_not_finite), cmocka_unit_test(test_gradient_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
