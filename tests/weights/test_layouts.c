/* Every layout of the golden models gives the same views; saving changes the layout and nothing else. */
#include "fixture.h"

static float *whole(const pg_weights *w, const pg_canonical *c, size_t layer, size_t *n) { return layers_of(w, c, layer, layer + 1, n); }

static void same(const pg_weights *a, const pg_weights *b, float tolerance)
{
    assert_int_equal(pg_canonical_count(a), pg_canonical_count(b));
    for (size_t i = 0; i < pg_canonical_count(a); i++) {
        const pg_canonical *x = pg_canonical_at(a, i), *y = pg_canonical_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->layers, y->layers);
        assert_int_equal(x->ndim, y->ndim);
        assert_memory_equal(x->shape, y->shape, x->ndim * sizeof *x->shape);
        for (size_t l = 0; l < (x->layers ? x->layers : 1); l++) {
            size_t n, m;
            float *p = whole(a, x, l, &n), *q = whole(b, y, l, &m);
            assert_int_equal(n, m);
            for (size_t k = 0; k < n; k++)
                if (!(p[k] - q[k] <= tolerance && q[k] - p[k] <= tolerance))
                    fail_msg("%s layer %zu element %zu: %g and %g", x->name, l, k, (double)p[k], (double)q[k]);
            free(p);
            free(q);
        }
    }
}

static void same_files(const char *x, const char *y, float tolerance)
{
    pg_weights *a = open_ok(x), *b = open_ok(y);
    same(a, b, tolerance);
    pg_weights_close(a);
    pg_weights_close(b);
}

static void test_layouts(void **state)
{
    (void)state;
    same_files(G "pg1.npz", G "pg1-hf", 0);
    same_files(G "pg1.npz", G "pg1-hf/model.safetensors.index.json", 0);
    same_files(G "pg2.npz", G "pg2-hf", 0);
    same_files(G "pg2.npz", G "pg2-hf/model.safetensors", 0);
}

/* Half precision holds 11 and 8 bits; the largest golden weight is below 8. */
static void test_precision(void **state)
{
    (void)state;
    same_files(G "pg1.npz", G "pg1.f16.npz", 8.0f / 2048);
    same_files(G "pg1.npz", G "pg1.bf16.npz", 8.0f / 256);
    same_files(G "pg1.npz", G "pg1.mixed.npz", 8.0f / 2048);
}

static void test_shape(void **state)
{
    (void)state;
    static const char *const paths[] = {G "pg1.npz", G "pg1-hf"};
    for (size_t i = 0; i < 2; i++) {
        pg_weights *w = open_ok(paths[i]);
        pg_model_shape s;
        assert_int_equal(pg_weights_shape(w, &s, &err), 0);
        assert_int_equal(s.family, 1);
        assert_int_equal(s.image_size, 56);
        assert_int_equal(s.patch, 14);
        assert_int_equal(s.n_image, 16);
        assert_int_equal(s.vit_width, 24);
        assert_int_equal(s.vit_depth, 2);
        assert_int_equal(s.vit_mlp, 40);
        assert_int_equal(s.vit_heads, 3);
        assert_int_equal(s.vit_head_dim, 8);
        assert_int_equal(s.width, 32);
        assert_int_equal(s.depth, 3);
        assert_int_equal(s.mlp, 52);
        assert_int_equal(s.heads, 4);
        assert_int_equal(s.kv_heads, 1);
        assert_int_equal(s.head_dim, 14);
        assert_int_equal(s.vocab, 320);
        assert_int_equal(s.vocab_rows, i ? 384 : 320);
        pg_weights_close(w);
    }
}

static void out_path(char *buf, size_t n, const char *name)
{
    snprintf(buf, n, "%s", own(name));
}

static void save_ok(const char *from, const char *to, pg_replace_fn f, void *ctx)
{
    pg_weights *w = open_ok(from);
    if (pg_weights_save(w, to, f, ctx, &err))
        fail_msg("%s", err.msg);
    pg_weights_close(w);
}

static void same_bytes(const char *x, const char *y)
{
    pg_buf a = {0}, b = {0};
    assert_int_equal(pg_file_read(x, 1 << 30, &a, &err), 0);
    assert_int_equal(pg_file_read(y, 1 << 30, &b, &err), 0);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    pg_buf_free(&a);
    pg_buf_free(&b);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const from[] = {G "pg1.npz", G "pg1.f16.npz", G "pg1.bf16.npz", G "pg1.mixed.npz", G "pg2.npz"};
    char a[200], b[200], c[200];
    out_path(a, sizeof a, "a.npz");
    out_path(b, sizeof b, "b.safetensors");
    out_path(c, sizeof c, "c.npz");
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        save_ok(from[i], a, NULL, NULL);
        save_ok(from[i], b, NULL, NULL);
        save_ok(b, c, NULL, NULL);
        same_files(from[i], b, 0);
        same_bytes(a, c);
    }
}

static const float *ones(void *ctx, const char *name, size_t layer, size_t part)
{
    (void)layer;
    (void)part;
    return strstr(name, "/attn/") || strstr(name, "embedder") ? ctx : NULL;
}

static void test_replace(void **state)
{
    (void)state;
    static const char *const from[] = {G "pg1.f16.npz", G "pg1-hf"}, *const to[] = {"r.npz", "r.safetensors"};
    size_t n = 384 * 32;
    float *f = malloc(n * sizeof *f);
    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        f[i] = (float)i / 7;
    for (size_t i = 0; i < 4; i++) {
        char path[200];
        out_path(path, sizeof path, to[i % 2]);
        save_ok(from[i / 2], path, ones, f);
        pg_weights *w = open_ok(path);
        for (size_t k = 0; k < pg_canonical_count(w); k++) {
            const pg_canonical *c = pg_canonical_at(w, k);
            if (!ones(f, c->name, 0, 0))
                continue;
            for (size_t l = 0; l < (c->layers ? c->layers : 1); l++) {
                size_t m;
                float *got = whole(w, c, l, &m);
                /* From safetensors the two pieces are asked for one by one, and both get the start of f. */
                size_t half = i / 2 && strstr(c->name, "kv_einsum") ? m / 2 : m;
                assert_memory_equal(got, f, half * sizeof *f);
                assert_memory_equal(got + m - half, f, half * sizeof *f);
                free(got);
            }
        }
        pg_weights_close(w);
    }
    free(f);
}

static void test_python(void **state)
{
    (void)state;
    if (system("python3 -c 'import numpy' 2>/dev/null")) {
        print_message("python3-numpy is not installed: skipped\n");
        skip();
    }
    char path[200], cmd[1000];
    out_path(path, sizeof path, "py.npz");
    save_ok(G "pg1.npz", path, NULL, NULL);
    snprintf(cmd, sizeof cmd,
             "python3 -c 'import numpy as n,zipfile as z;a=n.load(\"%s\");b=n.load(\"" G "pg1.npz\");"
             "assert sorted(a)==sorted(b);assert all(a[k].tobytes()==b[k].tobytes() and a[k].shape==b[k].shape for k in b);"
             "assert z.ZipFile(\"%s\").testzip() is None'",
             path, path);
    assert_int_equal(system(cmd), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),    cmocka_unit_test(test_precision), cmocka_unit_test(test_shape),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_replace),   cmocka_unit_test(test_python),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
