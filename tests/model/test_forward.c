/* The model against float64 answers of the oracle. Tolerances are those of tests/golden/model/README.md: two independent
 * float32 programs were off by at most a third of them. */
#include "fixture.h"

#define LOGITS_REL 3e-6
#define ZIMG_REL 3e-6
#define ELEMENT 5e-5
#define CAPTION_LOGP 1e-5

typedef struct distance {
    double diff2, norm2, worst;
} distance;

static void measure(distance *d, const float *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - b[i]);
        d->diff2 += x * x;
        d->norm2 += b[i] * b[i];
        if (!(x <= d->worst))
            d->worst = x;
    }
}

static void check_distance(const char *what, const distance *d, double relative, double element)
{
    double rel = sqrt(d->diff2 / d->norm2);
    if (!(d->norm2 > 0) || !(rel <= relative) || !(d->worst <= element))
        fail_msg("%s: relative %.3g (at most %.3g), element %.3g (at most %.3g)", what, rel, relative, d->worst, element);
}

/* ---- one sequence through the model: final norm's output at the text tokens [n,D] ---- */
static float *run_text(fixture *f, const float *zimg, const int32_t *tokens, const int32_t *ar, const int32_t *input, size_t n_text, size_t *n)
{
    size_t N = f->m->s.n_image, D = f->m->s.width;
    uint32_t *lim = malloc((N + n_text) * sizeof *lim), *pos = malloc((N + n_text) * sizeof *pos), image;
    float *x = malloc((N + n_text) * D * sizeof *x);
    assert_true(lim && pos && x);
    must(pg_mask_limits(ar, input, n_text, N, lim + N, &image, n, &err));
    for (size_t i = 0; i < N + *n; i++)
        pos[i] = (uint32_t)i;
    for (size_t i = 0; i < N; i++)
        lim[i] = image;
    memcpy(x, zimg, N * D * sizeof *x);
    must(pg_embed(f->m, x + N * D, tokens, *n, &err));
    size_t start[2] = {0, N + *n};
    pg_rows rows = {1, N + *n, start, pos, lim};
    must(pg_decoder_forward(f->m, f->w, x, &rows, NULL, NULL, &err));
    memmove(x, x + N * D, *n * D * sizeof *x);
    free(lim);
    free(pos);
    return x;
}

static float *images(fixture *f, const char *key, size_t n)
{
    size_t one = f->m->s.image_size * f->m->s.image_size * 3;
    float *pixels = floats(f->in, key), *z = malloc(n * f->m->s.n_image * f->m->s.width * sizeof *z);
    const float **p = malloc(n * sizeof *p);
    assert_true(z && p);
    for (size_t i = 0; i < n; i++)
        p[i] = pixels + i * one;
    must(pg_vit_forward(f->m, p, n, z, &err));
    free(p);
    free(pixels);
    return z;
}

static float *logits_of(fixture *f, const float *h, size_t n)
{
    float *l = malloc(n * f->m->s.vocab * sizeof *l);
    assert_non_null(l);
    pg_logits(f->m, l, h, n);
    return l;
}

static void check_zimg(fixture *f)
{
    double *want = doubles(f->out, "zimg");
    float *z = images(f, "image", 4);
    distance d = {0};
    measure(&d, z, want, 4 * f->m->s.n_image * f->m->s.width);
    check_distance("zimg", &d, ZIMG_REL, ELEMENT);
    free(want);
    free(z);
}

static void check_logits(fixture *f, const char *pre_key, const char *logits_key, pg_npz *checks)
{
    enum { T = 19, TEXT = 20 };
    size_t D = f->m->s.width, V = f->m->s.vocab, one = f->m->s.n_image * D, compared = 0, n;
    int32_t *text = ints(f->in, "text"), *ar = ints(f->in, "mask_ar"), *input = ints(f->in, "mask_input");
    int32_t *check = ints(checks, "logits_check");
    double *want = doubles(f->out, logits_key), *pre = pre_key ? doubles(f->out, pre_key) : NULL;
    float *z = images(f, "image", 4);
    distance dl = {0}, dp = {0};
    for (size_t b = 0; b < 4; b++) {
        float *h = run_text(f, z + b * one, text + b * TEXT, ar + b * TEXT, input + b * TEXT, T, &n);
        float *l = logits_of(f, h, n);
        for (size_t t = 0; t < T; t++) {
            if (!check[b * T + t])
                continue;
            assert_true(t < n);
            compared++;
            measure(&dl, l + t * V, want + (b * T + t) * V, V);
            if (pre)
                measure(&dp, h + t * D, pre + (b * T + t) * D, D);
        }
        free(h);
        free(l);
    }
    assert_true(compared > 30);
    check_distance(logits_key, &dl, LOGITS_REL, ELEMENT);
    if (pre)
        check_distance(pre_key, &dp, LOGITS_REL, ELEMENT);
    free(text);
    free(ar);
    free(input);
    free(check);
    free(want);
    free(pre);
    free(z);
}

/* ---- scoring ---- */
static void check_caption_logp(fixture *f)
{
    enum { P = 5, C = 10 };
    size_t V = f->m->s.vocab, one = f->m->s.n_image * f->m->s.width, n;
    int32_t *prefix = ints(f->in, "caption_prefix"), *caption = ints(f->in, "caption"), *len = ints(f->in, "caption_len");
    double *want = doubles(f->out, "caption_logp");
    float *z = images(f, "caption_image", 4);
    for (size_t b = 0; b < 4; b++) {
        int32_t tokens[P + C], ar[P + C] = {0};
        size_t total = P + (size_t)len[b];
        memcpy(tokens, prefix + b * P, P * sizeof *tokens);
        memcpy(tokens + P, caption + b * C, (size_t)len[b] * sizeof *tokens);
        for (size_t i = P; i < total; i++)
            ar[i] = 1;
        float *h = run_text(f, z + b * one, tokens, ar, NULL, total - 1, &n), *l = logits_of(f, h, n);
        for (size_t i = 0; i < (size_t)len[b]; i++) {
            int32_t target = tokens[P + i];
            float weight = 1, logp;
            pg_xent(f->kern, l + (P + i - 1) * V, &target, &weight, &logp, 1, V, false);
            if (!(fabs((double)logp - want[b * C + i]) <= CAPTION_LOGP))
                fail_msg("caption_logp %zu,%zu: %.8f, not %.8f", b, i, (double)logp, want[b * C + i]);
        }
        free(h);
        free(l);
    }
    free(prefix);
    free(caption);
    free(len);
    free(want);
    free(z);
}

static void everything(const char *weights, const char *family, size_t threads)
{
    char out[32];
    snprintf(out, sizeof out, "%s_out", family);
    fixture f = open_fixture(weights, family, threads, out);
    check_zimg(&f);
    check_logits(&f, "pre_logits", "logits", f.out);
    check_caption_logp(&f);
    close_fixture(&f);
}

static void test_pg1(void **s)
{
    (void)s;
    everything("pg1.npz", "pg1", 1);
    everything("pg1.npz", "pg1", 2);
}

static void test_pg2(void **s)
{
    (void)s;
    everything("pg2.npz", "pg2", 1);
    everything("pg2.npz", "pg2", 2);
}

static void test_hugging_face(void **s)
{
    (void)s;
    everything("pg1-hf", "pg1", 2);
    everything("pg2-hf", "pg2", 2);
}

static void test_precisions(void **s)
{
    static const char *const kinds[] = {"f16", "bf16", "mixed"};
    (void)s;
    for (size_t i = 0; i < 3; i++) {
        char file[64], key[64];
        pg_npz *checks;
        snprintf(file, sizeof file, "pg1.%s.npz", kinds[i]);
        fixture f = open_fixture(file, "pg1", 1, "pg1_variants_out");
        must(pg_npz_open(&checks, DIR "pg1_out.npz", &err));
        snprintf(key, sizeof key, "%s/logits", kinds[i]);
        check_logits(&f, NULL, key, checks);
            pg_npz_close(checks);
        close_fixture(&f);
    }
}

/* Master copies of every tensor must compute what the file's own bytes do. */
static void test_trainable_copies(void **s)
{
    static const char *const files[] = {"pg1-hf", "pg2.npz", "pg2-hf"}, *const what[] = {"all", "attention", "^llm/.*norm"};
    (void)s;
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) {
            char family[4] = {files[i][0], files[i][1], files[i][2], 0}, out[32], path[64];
            snprintf(out, sizeof out, "%s_out", family);
            snprintf(path, sizeof path, DIR "%s", files[i]);
            fixture f = open_fixture(files[i], family, 1, out);
            pg_model_close(f.m);
            must(pg_model_open(&f.m, path, what[j], f.kern, &err));
            assert_true(f.m->n_params >= 3);
            check_zimg(&f);
            check_logits(&f, "pre_logits", "logits", f.out);
            close_fixture(&f);
        }
}

static void test_trainable_selection(void **s)
{
    pg_kern *k;
    pg_model *m;
    (void)s;
    must(pg_kern_new(&k, 1, &err));
    must(pg_model_open(&m, DIR "pg1.npz", "attention", k, &err));
    assert_int_equal(m->n_params, 3);
    assert_non_null(m->dec[2].q.gw);
    assert_null(m->dec[2].gate.gw);
    assert_null(m->vit[0].q.gw);
    assert_ptr_equal(m->dec[1].k.gw, m->params[1].g + m->params[1].per_layer);
    pg_model_close(m);
    assert_int_not_equal(pg_model_open(&m, DIR "pg1.npz", "llm/layers/atn", k, &err), 0);
    assert_null(m);
    assert_non_null(strstr(err.msg, "selects no weights"));
    assert_non_null(strstr(err.msg, "llm/layers/attn/q_einsum/w"));
    assert_int_not_equal(pg_model_open(&m, DIR "pg1.npz", "(", k, &err), 0);
    assert_non_null(strstr(err.msg, "regular expression"));
    pg_kern_free(k);
}

static void test_threads_give_equal_bits(void **s)
{
    static const char *const names[] = {"pg1", "pg2"};
    (void)s;
    for (size_t i = 0; i < 2; i++) {
        char file[16], out[16];
        snprintf(file, sizeof file, "%s.npz", names[i]);
        snprintf(out, sizeof out, "%s_out", names[i]);
        fixture a = open_fixture(file, names[i], 1, out), b = open_fixture(file, names[i], 2, out);
        size_t n = 4 * a.m->s.n_image * a.m->s.width, rows;
        int32_t *text = ints(a.in, "text"), *ar = ints(a.in, "mask_ar");
        float *za = images(&a, "image", 4), *zb = images(&b, "image", 4);
        float *ha = run_text(&a, za, text, ar, NULL, 20, &rows), *hb = run_text(&b, zb, text, ar, NULL, 20, &rows);
        float *la = logits_of(&a, ha, rows), *lb = logits_of(&b, hb, rows);
        assert_memory_equal(za, zb, n * sizeof *za);
        assert_memory_equal(la, lb, rows * a.m->s.vocab * sizeof *la);
        free(text);
        free(ar);
        free(za);
        free(zb);
        free(ha);
        free(hb);
        free(la);
        free(lb);
        close_fixture(&a);
        close_fixture(&b);
    }
}

static double change(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* A prefix token is seen by all; a suffix token only from its own row on. */
static void test_mask_reaches_the_right_rows(void **s)
{
    enum { T = 12, P = 5 };
    (void)s;
    fixture f = open_fixture("pg2.npz", "pg2", 1, "pg2_out");
    size_t D = f.m->s.width, n;
    int32_t *text = ints(f.in, "text"), *ar = ints(f.in, "mask_ar");
    int32_t *t = text + 20;
    float *z = images(&f, "image", 4);
    float *base = run_text(&f, z, t, ar + 20, NULL, T, &n);
    t[8] = t[8] == 40 ? 41 : 40;
    float *later = run_text(&f, z, t, ar + 20, NULL, T, &n);
    assert_true(change(base, later, 8 * D) < 1e-5);
    for (size_t r = 8; r < T; r++)
        assert_true(change(base + r * D, later + r * D, D) > 1e-3);
    t[1] = t[1] == 30 ? 31 : 30;
    float *earlier = run_text(&f, z, t, ar + 20, NULL, T, &n);
    for (size_t r = 0; r < T; r++)
        assert_true(change(later + r * D, earlier + r * D, D) > 1e-3);
    free(base);
    free(later);
    free(earlier);
    free(text);
    free(ar);
    free(z);
    close_fixture(&f);
}

static void test_mask_limits(void **s)
{
    const int32_t ar[] = {0, 0, 1, 1, 0, 0}, input[] = {1, 1, 1, 1, 1, 0}, hole[] = {1, 0, 1, 1, 1, 0};
    const int32_t bad[] = {0, 2, 1, 1, 0, 0};
    uint32_t lim[6], image;
    size_t n;
    (void)s;
    must(pg_mask_limits(ar, input, 6, 10, lim, &image, &n, &err));
    assert_int_equal(n, 5);
    assert_int_equal(image, 12);
    assert_int_equal(lim[0], 12);
    assert_int_equal(lim[1], 12);
    assert_int_equal(lim[2], 13);
    assert_int_equal(lim[3], 15);
    assert_int_equal(lim[4], 15);
    must(pg_mask_limits(ar + 2, NULL, 2, 10, lim, &image, &n, &err));
    assert_int_equal(image, 10);
    assert_int_equal(pg_mask_limits(ar, hole, 6, 10, lim, &image, &n, &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "padding at token 1"));
    assert_int_equal(pg_mask_limits(bad, input, 6, 10, lim, &image, &n, &err), PG_EFORMAT);
    must(pg_mask_limits(ar, input, 0, 10, lim, &image, &n, &err));
    assert_int_equal(n, 0);
    assert_int_equal(image, 10);
}

static void test_bad_input(void **s)
{
    (void)s;
    fixture f = open_fixture("pg1.npz", "pg1", 1, "pg1_out");
    float x[64];
    int32_t outside = 320, below = -1;
    assert_int_equal(pg_embed(f.m, x, &outside, 1, &err), PG_EFORMAT);
    assert_non_null(strstr(err.msg, "320"));
    assert_int_equal(pg_embed(f.m, x, &below, 1, &err), PG_EFORMAT);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mask_limits),
        cmocka_unit_test(test_pg1),
        cmocka_unit_test(test_pg2),
        cmocka_unit_test(test_hugging_face),
        cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_trainable_copies),
        cmocka_unit_test(test_trainable_selection),
        cmocka_unit_test(test_threads_give_equal_bits),
        cmocka_unit_test(test_mask_reaches_the_right_rows),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
