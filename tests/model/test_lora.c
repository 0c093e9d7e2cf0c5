/* Adapters against float64. With W' = W - s B A as the base and the factors A, B on top, the model is the golden one: its loss is
 * the golden loss, and by the chain rule dL/dB = s dW Aᵀ, dL/dA = s Bᵀ dW, with dW the oracle's float64 gradient of each weight.
 * Tolerances are those of tests/golden/model/README.md: the products add less noise than the gradients have. */
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "batch.h"
#include "model/lora.h"
#include "weights/adapter.h"

enum { RANK = 3 };
static const double alpha = 4.5;

static char dir[] = "/tmp/pg-lora-XXXXXX";

static double loss_of(batch *f, bool grad) { return loss_of_batch(f, grad, 0, 0); }

static const char *at(const char *name)
{
    static char paths[8][200];
    static size_t next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof *paths, "%s/%s", dir, name);
    return p;
}

static void merge(const char *base, const char *adapter, const char *to)
{
    pg_weights *w;
    pg_adapter *a;
    pg_merge *g;
    must(pg_weights_open(&w, base, &err));
    must(pg_adapter_open(&a, adapter, &err));
    must(pg_merge_new(&g, w, a, &err));
    must(pg_weights_save_as(w, to, &(pg_save_how){.merge = g, .own = true}, &err));
    pg_merge_free(g);
    pg_adapter_close(a);
    pg_weights_close(w);
}

/* Factors of both signs and of the size that training gives; weights of about 0.2 change by some hundredths. */
static void fill(pg_model *m)
{
    pg_rng r;
    pg_rng_seed(&r, 7, 0);
    for (size_t i = 0; i < m->n_params; i++)
        for (size_t k = 0; k < m->params[i].count; k++) m->params[i].w[k] = (float)(0.1 * pg_rng_normal(&r));
}

/* ---- the oracle's gradient in the order of the module ---- */
static const struct {
    const char *module, *key;
    size_t part, parts;
    bool heads; /* stored [head, in, out of the head]; else [in, out] */
} places[] = {
    {"vision_tower.vision_model.encoder.layers.%zu.self_attn.q_proj", "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel", 0, 1, false},
    {"vision_tower.vision_model.encoder.layers.%zu.self_attn.k_proj", "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/kernel", 0, 1, false},
    {"vision_tower.vision_model.encoder.layers.%zu.self_attn.v_proj", "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/value/kernel", 0, 1, false},
    {"vision_tower.vision_model.encoder.layers.%zu.self_attn.out_proj", "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/out/kernel", 0, 1, false},
    {"vision_tower.vision_model.encoder.layers.%zu.mlp.fc1", "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel", 0, 1, false},
    {"vision_tower.vision_model.encoder.layers.%zu.mlp.fc2", "img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel", 0, 1, false},
    {"multi_modal_projector.linear", "img/head/kernel", 0, 1, false},
    {"language_model.layers.%zu.self_attn.q_proj", "llm/layers/attn/q_einsum/w", 0, 1, true},
    {"language_model.layers.%zu.self_attn.k_proj", "llm/layers/attn/kv_einsum/w", 0, 2, true},
    {"language_model.layers.%zu.self_attn.v_proj", "llm/layers/attn/kv_einsum/w", 1, 2, true},
    {"language_model.layers.%zu.self_attn.o_proj", "llm/layers/attn/attn_vec_einsum/w", 0, 1, false},
    {"language_model.layers.%zu.mlp.gate_proj", "llm/layers/mlp/gating_einsum", 0, 2, false},
    {"language_model.layers.%zu.mlp.up_proj", "llm/layers/mlp/gating_einsum", 1, 2, false},
    {"language_model.layers.%zu.mlp.down_proj", "llm/layers/mlp/linear", 0, 1, false},
};

static double gradient(const batch *f, size_t p, size_t layer, size_t out, size_t in, size_t o, size_t i)
{
    char key[200];
    snprintf(key, sizeof key, "grad/%s", places[p].key);
    size_t H = f->m->s.head_dim, base = (layer * places[p].parts + places[p].part) * out * in;
    return number(f->out, key, base + (places[p].heads ? (o / H * in + i) * H + o % H : i * out + o));
}

static void compare(const char *what, const float *got, const double *want, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    if (!(norm > 0) || !(sqrt(diff / norm) <= grad_relative)) fail_msg("%s: off by %.3g of its length %.3g", what, sqrt(diff / norm), sqrt(norm));
}

static size_t check_module(const batch *f, size_t p, size_t layer, const pg_param *a, const pg_param *b, const char *name)
{
    size_t in = a->count / RANK, out = b->count / RANK;
    double s = alpha / RANK, *ga = calloc(a->count, sizeof *ga), *gb = calloc(b->count, sizeof *gb);
    assert_non_null(ga);
    assert_non_null(gb);
    for (size_t o = 0; o < out; o++)
        for (size_t i = 0; i < in; i++) {
            double d = s * gradient(f, p, layer, out, in, o, i);
            for (size_t r = 0; r < RANK; r++) {
                gb[o * RANK + r] += d * (double)a->w[r * in + i];
                ga[r * in + i] += d * (double)b->w[o * RANK + r];
            }
        }
    compare(a->name, a->g, ga, a->count);
    compare(b->name, b->g, gb, b->count);
    assert_non_null(strstr(a->name, name));
    free(ga);
    free(gb);
    return 1;
}

static void check_gradients(const batch *f)
{
    size_t checked = 0;
    for (size_t k = 0; k < f->m->n_params; k += 2)
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            size_t layers = p < 6 ? f->m->s.vit_depth : p == 6 ? 1 : f->m->s.depth;
            for (size_t l = 0; l < layers; l++) {
                char name[100];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                snprintf(name, sizeof name, places[p].module, l);
#pragma GCC diagnostic pop
                size_t n = strlen(name);
                const char *hit = strstr(f->m->params[k].name, name);
                if (hit && hit[n] == '/') checked += check_module(f, p, l, &f->m->params[k], &f->m->params[k + 1], name);
            }
        }
    assert_int_equal(checked, f->m->n_params / 2);
    assert_int_equal(checked, 6 * f->m->s.vit_depth + 1 + 7 * f->m->s.depth);
}

static void one_family(const char *family, const char *weights, const char *form)
{
    pg_lora_counts n;
    bool foreign;
    char lowered[200];
    snprintf(lowered, sizeof lowered, "%s/lowered.%s", dir, form);
    batch f = open_batch(family, weights, NULL, 2);
    double want = number(f.out, "loss", 0);
    must(pg_lora_create(f.m, ".", RANK, alpha, 1, &n, &err));
    assert_int_equal(n.tower, 6 * f.m->s.vit_depth);
    assert_int_equal(n.language, 7 * f.m->s.depth);
    assert_int_equal(n.head, 1);
    assert_true(fabs(loss_of(&f, false) - want) <= loss_tolerance); /* B is 0: nothing has changed yet */
    fill(f.m);
    assert_true(fabs(loss_of(&f, false) - want) > 0.01);
    must(pg_lora_save(f.m, at("minus"), -alpha, &err));
    merge(weights, at("minus"), lowered);
    close_batch(&f);

    f = open_batch(family, lowered, NULL, 2);
    must(pg_lora_create(f.m, ".", RANK, alpha, 1, &n, &err));
    assert_true(fabs(loss_of(&f, false) - want) > 0.01);
    fill(f.m);
    double got = loss_of(&f, true);
    if (!(fabs(got - want) <= loss_tolerance)) fail_msg("%s: loss %.9g, want %.9g", family, got, want);
    check_gradients(&f);
    f.m->recompute = f.m->s.depth - 1; /* activations of the layers not kept but computed again */
    loss_of(&f, true);
    check_gradients(&f);
    must(pg_lora_save(f.m, at("plus"), alpha, &err));
    close_batch(&f);

    f = open_batch(family, lowered, NULL, 2); /* loaded: the same model, nothing to train */
    must(pg_lora_load(f.m, at("plus"), &n, &foreign, &err));
    assert_false(foreign);
    assert_int_equal(n.rank, RANK);
    assert_int_equal(f.m->n_params, 0);
    assert_true(fabs(loss_of(&f, false) - got) <= 1e-7);
    close_batch(&f);

    f = open_batch(family, weights, NULL, 2); /* another base of the same shape */
    must(pg_lora_load(f.m, at("plus"), &n, &foreign, &err));
    assert_true(foreign);
    close_batch(&f);

    merge(lowered, at("plus"), at("raised.npz"));
    f = open_batch(family, at("raised.npz"), NULL, 2);
    assert_true(fabs(loss_of(&f, false) - want) <= loss_tolerance);
    close_batch(&f);
    unlink(lowered);
}

static void test_pg1(void **state)
{
    (void)state;
    one_family("pg1", GOLDEN "pg1.npz", "npz");
}

static void test_pg2(void **state)
{
    (void)state;
    one_family("pg2", GOLDEN "pg2.npz", "npz");
}

/* k and v, gate and up in pieces. One family: config.json lies beside the file and is of this model. */
static void test_safetensors(void **state)
{
    (void)state;
    one_family("pg2", GOLDEN "pg2-hf", "safetensors");
}

static void test_targets(void **state)
{
    (void)state;
    static const struct {
        const char *targets;
        size_t tower, language, head; /* layers of pg1: 2 and 3 */
    } cases[] = {{"q_proj", 2, 3, 0}, {"language_model.*(q|v)_proj", 0, 6, 0}, {"o_proj", 0, 3, 0}, {"layers.1.mlp", 2, 3, 0}, {"projector", 0, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        batch f = open_batch("pg1", GOLDEN "pg1.npz", NULL, 2);
        pg_lora_counts n;
        bool foreign;
        must(pg_lora_create(f.m, cases[i].targets, 2, 2, 0, &n, &err));
        assert_int_equal(n.tower, cases[i].tower);
        assert_int_equal(n.language, cases[i].language);
        assert_int_equal(n.head, cases[i].head);
        assert_int_equal(pg_trains_image(f.m), n.tower + n.head > 0);
        fill(f.m);
        double want = loss_of(&f, true);
        must(pg_lora_save(f.m, at("some"), 2, &err));
        close_batch(&f);
        merge(GOLDEN "pg1.npz", at("some"), at("some.npz"));
        f = open_batch("pg1", at("some.npz"), NULL, 2);
        assert_true(fabs(loss_of(&f, false) - want) <= loss_tolerance);
        close_batch(&f);
        f = open_batch("pg2", GOLDEN "pg2.npz", NULL, 2);
        assert_int_equal(pg_lora_load(f.m, at("some"), &n, &foreign, &err), PG_EFORMAT);
        assert_non_null(strstr(err.msg, "another model"));
        close_batch(&f);
    }
    batch f = open_batch("pg1", GOLDEN "pg1.npz", NULL, 2);
    pg_lora_counts n;
    assert_int_equal(pg_lora_create(f.m, "nothing_like_this", 2, 2, 0, &n, &err), PG_EINVAL);
    close_batch(&f);
    f = open_batch("pg1", GOLDEN "pg1.npz", NULL, 2);
    assert_int_equal(pg_lora_create(f.m, "(", 2, 2, 0, &n, &err), PG_EINVAL);
    close_batch(&f);
}

static void put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* What would change the numbers and is not computed here must not pass. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4,\"use_dora\":true}", "use_dora"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4,\"bias\":\"all\"}", "bias"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4,\"modules_to_save\":[\"lm_head\"]}", "modules_to_save"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4,\"alpha_pattern\":{\"q_proj\":3}}", "alpha_pattern"},
        {"{\"peft_type\":\"IA3\",\"lora_alpha\":4}", "IA3"},
        {"{\"peft_type\":\"LORA\"}", "lora_alpha"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":4,\"r\":3}", "rank 2, adapter_config.json says r 3"},
        {"[]", "object"},
        {"{", "adapter_config.json"},
    };
    pg_adapter *a;
    pg_lora_counts n;
    batch f = open_batch("pg1", GOLDEN "pg1.npz", NULL, 2);
    must(pg_lora_create(f.m, "o_proj", 2, 2, 0, &n, &err));
    must(pg_lora_save(f.m, at("odd"), 2, &err));
    close_batch(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text(at("odd/adapter_config.json"), cases[i].config);
        assert_int_equal(pg_adapter_open(&a, at("odd"), &err), PG_EFORMAT);
        if (!strstr(err.msg, cases[i].says)) fail_msg("%s", err.msg);
    }
    put_text(at("odd/adapter_config.json"), "{\"peft_type\":\"LORA\",\"lora_alpha\":8,\"use_rslora\":true,\"r\":3,\"rank_pattern\":{\"o_proj\":2},\"bias\":\"none\",\"modules_to_save\":null}");
    must(pg_adapter_open(&a, at("odd"), &err));
    assert_int_equal(pg_adapter_count(a), 3);
    assert_true(fabs(pg_adapter_at(a, 0)->scale - 8 / sqrt(2)) < 1e-12);
    assert_string_equal(pg_adapter_at(a, 2)->name, "language_model.layers.2.self_attn.o_proj");
    assert_string_equal(pg_adapter_at(a, 2)->canonical, "llm/layers/attn/attn_vec_einsum/w");
    assert_int_equal(pg_adapter_at(a, 2)->layer, 2);
    pg_adapter_close(a);
    assert_true(pg_adapter_open(&a, GOLDEN "pg1-hf", &err) != 0);
    assert_true(pg_adapter_open(&a, at("none"), &err) != 0);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pg1), cmocka_unit_test(test_pg2), cmocka_unit_test(test_safetensors),
                                       cmocka_unit_test(test_targets), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
