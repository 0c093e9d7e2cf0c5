/* bfloat16 and 8-bit products in whole models, against the float64 answers of golden/model. How far off they may be:
 *
 * bfloat16 keeps 8 bits: each number of a product is off by up to 2^-9, uniformly, so by 2^-9/sqrt(3) = 1.1e-3 as a norm, both sides
 * together by 1.6e-3. Over the 4 products of each of 5 to 7 layers that adds up to sqrt(28) 1.6e-3 = 8e-3, less what the residual
 * stream carries past them: 4e-3 observed for images. 8 bits with one step for up to 256 numbers: a step is max/127, about
 * 2.5 sigma/127, off by step/sqrt(12) = 6e-3 of sigma, both sides 8e-3, five times bfloat16: 1.3e-2 observed. Limits are 2.5 times
 * what was observed; a product with a wrong step or order of columns is off by 1. A log-probability is off by about what a logit of
 * size 5 to 10 is: observed 6e-3 and 8e-2. On a CPU without the instructions products are float32 and far better. */
#include "fixture.h"
#include "model/loss.h"

enum { CAPTIONS = 4, PREFIX = 5, LONGEST = 10, ROWS = 4, TEXT = 20 };
typedef enum { BF16, INT8 } mode;

static fixture open_as(const char *weights, const char *family, mode how, const char *trainable)
{
    fixture f;
    char path[256], answers[64];
    snprintf(answers, sizeof answers, "%s_out", family);
    f = open_fixture(weights, family, 2, answers);
    must(pg_kern_use_bf16(f.kern, &err));
    if (trainable) {
        pg_model_close(f.m);
        snprintf(path, sizeof path, DIR "%s", weights);
        must(pg_model_open(&f.m, path, trainable, f.kern, &err));
    }
    if (how == INT8) must(pg_model_quantise(f.m, NULL, &err));
    return f;
}

static double off(const float *got, const double *want, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        s += want[i] * want[i];
    }
    return sqrt(d / s);
}

static void images(const fixture *f, double limit)
{
    const pg_npy *a = array(f->in, "image", "<f4");
    size_t one = a->shape[1] * a->shape[2] * 3, N = f->m->s.n_image * f->m->s.width;
    float *pixels = floats(f->in, "image"), *z = pg_floats(ROWS * N);
    double *want = doubles(f->out, "zimg");
    const float *p[ROWS];
    for (size_t i = 0; i < ROWS; i++) p[i] = pixels + i * one;
    must(pg_vit_forward(f->m, p, ROWS, z, &err));
    double d = off(z, want, ROWS * N);
    printf("# zimg off by %.2e\n", d);
    if (!(d < limit)) fail_msg("zimg is off by %g", d);
    free(pixels), free(z), free(want);
}

static void captions(const fixture *f, double limit)
{
    const pg_npy *a = array(f->in, "caption_image", "<f4");
    size_t one = a->shape[1] * a->shape[2] * 3;
    float *pixels = floats(f->in, "caption_image");
    int32_t *prefix = ints(f->in, "caption_prefix"), *caption = ints(f->in, "caption"), *len = ints(f->in, "caption_len");
    double *want = doubles(f->out, "caption_logp"), worst = 0;
    for (size_t i = 0; i < CAPTIONS; i++) {
        int32_t tokens[PREFIX + LONGEST], suffix[PREFIX + LONGEST];
        float logp[PREFIX + LONGEST];
        size_t n = PREFIX + (size_t)len[i];
        for (size_t t = 0; t < n; t++) {
            tokens[t] = t < PREFIX ? prefix[i * PREFIX + t] : caption[i * LONGEST + t - PREFIX];
            suffix[t] = t >= PREFIX;
        }
        pg_scoring s = {.pixels = pixels + i * one, .tokens = tokens, .mask_ar = suffix, .mask_loss = suffix, .n = n, .logp = logp};
        must(pg_score(f->m, f->w, &s, &err));
        for (size_t t = PREFIX; t < n; t++) worst = fmax(worst, fabs((double)logp[t] - want[i * LONGEST + t - PREFIX]));
    }
    printf("# log-probabilities off by up to %.2e\n", worst);
    if (!(worst < limit)) fail_msg("log-probabilities are off by %g", worst);
    free(pixels), free(prefix), free(caption), free(len), free(want);
}

/* Observed: 4e-3, and 2e-3 to 1.7e-2 of the few tokens there are, depending on where roundings fall. */
static void test_bf16(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"pg1.npz", "pg1"}, {"pg2.npz", "pg2"}, {"pg1-hf", "pg1"}, {"pg2-hf", "pg2"}};
    for (size_t i = 0; i < 4; i++) {
        fixture f = open_as(files[i][0], files[i][1], BF16, NULL);
        images(&f, 1e-2);
        captions(&f, 3e-2);
        close_fixture(&f);
    }
}

static void test_int8(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"pg1.npz", "pg1"}, {"pg2.npz", "pg2"}, {"pg1-hf", "pg1"}, {"pg2-hf", "pg2"}};
    for (size_t i = 0; i < 4; i++) {
        fixture f = open_as(files[i][0], files[i][1], INT8, NULL);
        images(&f, 3e-2);
        captions(&f, 0.2);
        close_fixture(&f);
    }
}

/* Gradients pass through all products twice; and few loss tokens average little: 2.5e-2 observed. */
static void test_gradients(void **state)
{
    (void)state;
    for (int family = 1; family <= 2; family++) {
        char name[64], key[128];
        snprintf(name, sizeof name, "pg%d", family);
        snprintf(key, sizeof key, "pg%d.npz", family);
        fixture f = open_as(key, name, BF16, "all");
        const pg_npy *a = array(f.in, "image", "<f4");
        float *pixels = floats(f.in, "image");
        int32_t *text = ints(f.in, "text"), *ar = ints(f.in, "mask_ar"), *lo = ints(f.in, "mask_loss"), *in = ints(f.in, "mask_input");
        double *want = doubles(f.out, "loss"), loss, worst = 0;
        pg_example ex[ROWS];
        for (size_t i = 0; i < ROWS; i++)
            ex[i] = (pg_example){.pixels = pixels + i * a->shape[1] * a->shape[2] * 3, .tokens = text + i * TEXT, .mask_ar = ar + i * TEXT,
                                 .mask_loss = lo + i * TEXT, .mask_input = in + i * TEXT, .n = TEXT};
        pg_grads_zero(f.m);
        must(pg_loss(f.m, f.w, ex, ROWS, true, 0, &loss, NULL, NULL, 0, &err));
        for (size_t i = 0; i < f.m->n_params; i++) {
            const pg_param *p = &f.m->params[i];
            if (strstr(p->name, "key/bias")) continue; /* 0: see the README */
            snprintf(key, sizeof key, "grad/%s", p->name);
            double *g = doubles(f.out, key), d = off(p->g, g, p->count);
            if (d > worst) worst = d;
            if (!(d < 5e-2)) fail_msg("pg%d: the gradient of '%s' is off by %g", family, p->name, d);
            free(g);
        }
        printf("# pg%d: loss off by %.1e, the worst gradient by %.1e\n", family, fabs(loss - want[0]), worst);
        if (!(fabs(loss - want[0]) < 1e-2)) fail_msg("pg%d: the loss is off by %g", family, loss - want[0]);
        free(pixels), free(text), free(ar), free(lo), free(in), free(want);
        close_fixture(&f);
    }
}

static void test_trained_is_refused(void **state)
{
    (void)state;
    fixture f = open_as("pg1.npz", "pg1", BF16, "attention");
    assert_int_equal(pg_model_quantise(f.m, NULL, &err), PG_EINVAL);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16), cmocka_unit_test(test_int8), cmocka_unit_test(test_gradients),
                                       cmocka_unit_test(test_trained_is_refused)};
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
