/* Types, int8, extra rows, another picture size, checksums. Rounding is checked against the definitions in base/num.h, position
 * embeddings against scipy's (tests/golden/model/make_posemb.py). */
#include <math.h>

#include "fixture.h"

#define EMBED "llm/embedder/input_embedding"

static void convert(const char *from, const char *to, pg_dtype t)
{
    pg_weights *w = open_ok(from);
    pg_save_how how = {.own = true, .convert = true, .dtype = t};
    if (pg_weights_save_as(w, to, &how, &err))
        fail_msg("%s", err.msg);
    pg_weights_close(w);
}

static void copy(const char *from, const char *to)
{
    pg_weights *w = open_ok(from);
    pg_save_how how = {.own = true};
    if (pg_weights_save_as(w, to, &how, &err))
        fail_msg("%s", err.msg);
    pg_weights_close(w);
}

/* All values of a canonical tensor. */
static float *values(const pg_weights *w, const pg_canonical *c, size_t *n) { return layers_of(w, c, 0, c->layers ? c->layers : 1, n); }

static float rounded(float f, pg_dtype t)
{
    return t == PG_F32 ? f : t == PG_F16 ? pg_f16_to_f32(pg_f32_to_f16(f)) : pg_bf16_to_f32(pg_f32_to_bf16(f));
}

static void test_types(void **state)
{
    (void)state;
    static const char *const from[] = {G "pg1.npz", G "pg1-hf", G "pg2-hf"}, *const to[] = {"t.npz", "t.safetensors"};
    for (size_t i = 0; i < 3; i++)
        for (int t = PG_F32; t <= PG_BF16; t++)
            for (size_t k = 0; k < 2; k++) {
                convert(from[i], at(to[k]), (pg_dtype)t);
                pg_weights *a = open_ok(from[i]), *b = open_ok(at(to[k]));
                for (size_t j = 0; j < pg_weights_count(b); j++)
                    assert_int_equal(pg_weights_at(b, j)->dtype, t);
                for (size_t j = 0; j < pg_canonical_count(a); j++) {
                    size_t n, m;
                    float *x = values(a, pg_canonical_at(a, j), &n), *y = values(b, pg_canonical_at(b, j), &m);
                    assert_int_equal(n, m);
                    for (size_t v = 0; v < n; v++)
                        if (rounded(x[v], (pg_dtype)t) != y[v])
                            fail_msg("%s: %g became %g", pg_canonical_at(a, j)->name, (double)x[v], (double)y[v]);
                    free(x);
                    free(y);
                }
                pg_weights_close(a);
                pg_weights_close(b);
            }
}

static void check_sums(const char *x, const char *y)
{
    pg_weights *a = open_ok(x), *b = open_ok(y);
    assert_int_equal(pg_canonical_count(a), pg_canonical_count(b));
    for (size_t i = 0; i < pg_canonical_count(a); i++) {
        uint32_t p, q;
        pg_dtype t, u;
        assert_int_equal(pg_weights_checksum(a, i, &p, &t, &err), 0);
        assert_int_equal(pg_weights_checksum(b, i, &q, &u, &err), 0);
        if (p != q || t != u)
            fail_msg("%s and %s differ in %s", x, y, pg_canonical_at(a, i)->name);
    }
    pg_weights_close(a);
    pg_weights_close(b);
}

/* What widening adds, narrowing takes away. */
static void test_round_trips(void **state)
{
    (void)state;
    convert(G "pg1.bf16.npz", own("f.safetensors"), PG_F32);
    convert(own("f.safetensors"), at("b.npz"), PG_BF16);
    check_sums(G "pg1.bf16.npz", at("b.npz"));
    convert(G "pg1.f16.npz", at("f.npz"), PG_F32);
    convert(at("f.npz"), own("h.safetensors"), PG_F16);
    check_sums(G "pg1.f16.npz", own("h.safetensors"));
    copy(G "pg1.mixed.npz", own("m.safetensors"));
    check_sums(G "pg1.mixed.npz", own("m.safetensors"));
    check_sums(G "pg1.npz", G "pg1-hf");
    check_sums(G "pg2.npz", G "pg2-hf");
}

static void test_fingerprint(void **state)
{
    (void)state;
    static const char *const one[] = {G "pg1.npz", G "pg1-hf", G "pg1.bf16.npz"}, *const other[] = {G "pg2.npz", G "pg2-hf"};
    uint32_t want = 0, got, last = 0;
    for (size_t i = 0; i < 5; i++) {
        pg_weights *w = open_ok(i < 3 ? one[i] : other[i - 3]);
        assert_int_equal(pg_weights_fingerprint(w, &got, &err), 0);
        if (i == 0)
            want = got;
        if (i == 1 || i == 2)
            assert_int_equal(got, want);
        if (i >= 3)
            assert_int_not_equal(got, want);
        if (i == 4)
            assert_int_equal(got, last);
        last = got;
        pg_weights_close(w);
    }
}

/* An int8 value is off by half a step at most, and a row's step is its largest magnitude over 127. */
static void test_int8(void **state)
{
    (void)state;
    static const char *const from[] = {G "pg1.npz", G "pg2-hf", G "pg1.bf16.npz"};
    for (size_t i = 0; i < 3; i++) {
        convert(from[i], own("i.safetensors"), PG_I8);
        pg_weights *a = open_ok(from[i]), *b = open_ok(own("i.safetensors"));
        size_t matrices = 0;
        for (size_t j = 0; j < pg_canonical_count(b); j++) {
            const pg_canonical *c = pg_canonical_at(b, j);
            pg_view v;
            size_t n, m;
            assert_int_equal(pg_weights_view(b, c->name, 0, c->parts ? 0 : PG_WHOLE, &v, &err), 0);
            float *x = values(a, pg_canonical_at(a, j), &n), *y = values(b, c, &m), most = 0, step = 0;
            assert_int_equal(n, m);
            if (v.dtype == PG_I8) {
                matrices++;
                for (size_t k = 0; k < n; k++)
                    most = fabsf(x[k]) > most ? fabsf(x[k]) : most;
                step = most / 127;
            }
            for (size_t k = 0; k < n; k++)
                if (!(fabsf(x[k] - y[k]) <= step * 0.5001f))
                    fail_msg("%s: %g became %g, step %g", c->name, (double)x[k], (double)y[k], (double)step);
            free(x);
            free(y);
        }
        /* attention 4 and MLP 2 of the tower, the head, the embedding, attention 3 and MLP 2 of the decoder */
        assert_int_equal(matrices, 13);
        pg_weights_close(a);
        pg_weights_close(b);
    }
    /* Taken apart and put together: the same int8. */
    convert(G "pg1.npz", own("i.safetensors"), PG_I8);
    convert(own("i.safetensors"), own("w.safetensors"), PG_F32);
    convert(own("w.safetensors"), own("j.safetensors"), PG_I8);
    check_sums(own("i.safetensors"), own("j.safetensors"));
    pg_weights *w = open_ok(own("i.safetensors"));
    pg_save_how keep = {.own = true};
    assert_int_equal(pg_weights_save_as(w, at("no.npz"), &keep, &err), PG_EINVAL);
    assert_non_null(strstr(err.msg, "int8"));
    assert_false(pg_is_file(at("no.npz")));
    pg_weights_close(w);
}

enum { LARGEST = 1 << 15 }; /* values of a tensor of the golden models */

static const float *zeros(void *ctx, const char *canonical, size_t layer, size_t part)
{
    static const float none[LARGEST];
    (void)ctx, (void)canonical, (void)layer, (void)part;
    return none;
}

/* All tensors of an int8 checkpoint in other types: what is left is its rows that are no tokens, for which an npz has no type. */
static void test_int8_replaced(void **state)
{
    (void)state;
    convert(G "pg1.npz", own("i.safetensors"), PG_I8);
    pg_weights *w = open_ok(own("i.safetensors"));
    for (size_t i = 0; i < pg_weights_count(w); i++)
        assert_true(pg_weights_at(w, i)->count <= LARGEST);
    assert_int_equal(pg_weights_save(w, at("no.npz"), zeros, NULL, &err), PG_EINVAL);
    assert_non_null(strstr(err.msg, "'hf/extra_embedding_rows' is int8"));
    assert_false(pg_is_file(at("no.npz")));
    pg_weights_close(w);
}

static void test_range(void **state)
{
    (void)state;
    static float big[24 * 32];
    pg_weights *w = open_ok(G "pg1.npz");
    pg_npz_writer *z;
    assert_int_equal(pg_npz_create(&z, at("big.npz"), &err), 0);
    for (size_t i = 0; i < pg_weights_count(w); i++) {
        const pg_weight *t = pg_weights_at(w, i);
        bool head = strstr(t->name, "img/head/kernel");
        memset(big, 0, sizeof big);
        big[100] = 70000;
        assert_int_equal(pg_npz_begin(z, t->name, "<f4", t->ndim, t->shape, &err), 0);
        assert_int_equal(pg_npz_data(z, head ? (const void *)big : t->data, t->count * 4, &err), 0);
    }
    assert_int_equal(pg_npz_commit(z, &err), 0);
    pg_weights_close(w);
    w = open_ok(at("big.npz"));
    pg_save_how how = {.convert = true, .dtype = PG_F16};
    assert_int_equal(pg_weights_save_as(w, at("small.npz"), &how, &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "img/head/kernel"));
    assert_non_null(strstr(err.msg, "70000"));
    assert_false(pg_is_file(at("small.npz")));
    pg_weights_close(w);
}

static const pg_weight *embedding(const pg_weights *w)
{
    for (size_t i = 0; i < pg_weights_count(w); i++)
        if (strstr(pg_weights_at(w, i)->name, "embed_tokens.weight"))
            return pg_weights_at(w, i);
    fail_msg("no embedding");
    return NULL;
}

/* The rows that are no tokens: kept through an npz; where there were none, the mean of the others. */
static void test_extra_rows(void **state)
{
    (void)state;
    copy(G "pg1-hf", at("e.npz"));
    copy(at("e.npz"), at("e2.npz"));
    copy(at("e2.npz"), own("e.safetensors"));
    pg_weights *a = open_ok(G "pg1-hf"), *b = open_ok(own("e.safetensors"));
    const pg_weight *x = embedding(a), *y = embedding(b);
    assert_int_equal(x->count, y->count);
    assert_memory_equal(x->data, y->data, x->count * 4);
    pg_weights_close(a);
    pg_weights_close(b);
    copy(G "pg1.npz", own("e.safetensors"));
    b = open_ok(own("e.safetensors"));
    y = embedding(b);
    assert_int_equal(y->shape[0], 384);
    const float *rows = (const float *)(const void *)y->data;
    for (size_t d = 0; d < 32; d++) {
        double sum = 0;
        for (size_t r = 0; r < 320; r++)
            sum += (double)rows[r * 32 + d];
        for (size_t r = 320; r < 384; r++)
            assert_true(fabs((double)rows[r * 32 + d] - sum / 320) < 1e-7);
    }
    pg_weights_close(b);
}

/* scipy computes in double and rounds once, as here: another order of the same sums, so one unit in the last place at most. */
static void test_resolution(void **state)
{
    (void)state;
    static const struct {
        const char *path, *family;
        size_t size;
    } cases[] = {{G "pg1.npz", "pg1", 112}, {G "pg1-hf", "pg1", 42}, {G "pg1.npz", "pg1", 14}, {G "pg2-hf", "pg2", 24}, {G "pg2.npz", "pg2", 88}};
    pg_npz *z;
    assert_int_equal(pg_npz_open(&z, G "posemb.npz", &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[40];
        pg_view v;
        pg_model_shape s;
        snprintf(key, sizeof key, "%s/%zu", cases[i].family, cases[i].size);
        const pg_npy *want = pg_npz_find(z, key);
        assert_non_null(want);
        pg_weights *w = open_ok(cases[i].path);
        assert_int_equal(pg_weights_resize(w, cases[i].size, &err), 0);
        for (size_t k = 0; k < 3; k++) { /* itself, then saved and read */
            assert_int_equal(pg_weights_shape(w, &s, &err), 0);
            assert_int_equal(s.image_size, cases[i].size);
            assert_int_equal(pg_weights_view(w, "img/pos_embedding", 0, PG_WHOLE, &v, &err), 0);
            assert_int_equal(v.count, want->count);
            float *got = malloc(v.count * sizeof *got);
            assert_non_null(got);
            pg_view_widen(&v, got);
            for (size_t j = 0; j < v.count; j++) {
                float f;
                memcpy(&f, want->data + 4 * j, 4);
                if (fabsf(got[j] - f) > 1.2e-7f * fabsf(f))
                    fail_msg("%s: value %zu is %.9g, not %.9g", key, j, (double)got[j], (double)f);
            }
            free(got);
            if (k == 2)
                break;
            const char *out = k ? at("r.npz") : own("r.safetensors");
            pg_save_how how = {.own = true};
            assert_int_equal(pg_weights_save_as(w, out, &how, &err), 0);
            pg_weights_close(w);
            w = open_ok(out);
        }
        assert_int_equal(pg_weights_resize(w, cases[i].size + 1, &err), PG_EINVAL);
        pg_weights_close(w);
    }
    pg_npz_close(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types), cmocka_unit_test(test_round_trips),   cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_int8),  cmocka_unit_test(test_int8_replaced), cmocka_unit_test(test_range),
        cmocka_unit_test(test_extra_rows), cmocka_unit_test(test_resolution),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
