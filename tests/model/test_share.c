/* A batch in shares: their losses and gradients add up to the whole's, and what backward says to be complete does not change any more. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/lora.h"
#include "model/loss.h"

#define DIR "tests/golden/model/"
enum { N = 4, T = 20 };
static pg_err err;

static void must(int rc)
{
    if (rc) fail_msg("%s", err.msg);
}

typedef struct setting {
    pg_kern *kern;
    pg_model *m;
    pg_work *w;
    pg_npz *in;
    pg_example ex[N];
} setting;

static const void *at(const pg_npz *z, const char *key)
{
    const pg_npy *a = pg_npz_find(z, key);
    if (!a) fail_msg("no '%s'", key);
    void *p = malloc(a->count * a->itemsize); /* aligned, as the file's need not be */
    assert_non_null(p);
    return memcpy(p, a->data, a->count * a->itemsize);
}

static setting open_setting(const char *family, const char *trainable)
{
    setting s = {0};
    char path[256];
    pg_lora_counts counts;
    bool lora = !strcmp(trainable, "lora");
    must(pg_kern_new(&s.kern, 2, &err));
    snprintf(path, sizeof path, DIR "%s.npz", family);
    must(pg_model_open(&s.m, path, lora ? NULL : trainable, s.kern, &err));
    if (lora) must(pg_lora_create(s.m, ".", 2, 2, 1, &counts, &err));
    for (size_t i = 0; lora && i < s.m->n_params; i++) /* B starts at 0, and then A has no gradient */
        for (size_t k = 0; k < s.m->params[i].count; k++) s.m->params[i].w[k] += 0.01f * (float)(k % 7);
    must(pg_work_new(&s.w, &err));
    snprintf(path, sizeof path, DIR "%s_in.npz", family);
    must(pg_npz_open(&s.in, path, &err));
    const float *pixels = at(s.in, "image");
    const int32_t *tokens = at(s.in, "text"), *ar = at(s.in, "mask_ar"), *loss = at(s.in, "mask_loss"), *input = at(s.in, "mask_input");
    for (size_t i = 0; i < N; i++)
        s.ex[i] = (pg_example){.pixels = pixels + i * s.m->s.image_size * s.m->s.image_size * 3, .tokens = tokens + i * T, .mask_ar = ar + i * T,
                               .mask_loss = loss + i * T, .mask_input = input + i * T, .n = T};
    return s;
}

static void close_setting(setting *s)
{
    free((void *)(uintptr_t)s->ex[0].pixels);
    free((void *)(uintptr_t)s->ex[0].tokens);
    free((void *)(uintptr_t)s->ex[0].mask_ar);
    free((void *)(uintptr_t)s->ex[0].mask_loss);
    free((void *)(uintptr_t)s->ex[0].mask_input);
    pg_npz_close(s->in);
    pg_work_free(s->w);
    pg_model_close(s->m);
    pg_kern_free(s->kern);
}

static float *gradients(const pg_model *m, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < m->n_params; i++) *n += m->params[i].count;
    float *g = malloc(*n * sizeof *g), *to = g;
    assert_non_null(g);
    for (size_t i = 0; i < m->n_params; to += m->params[i++].count) memcpy(to, m->params[i].g, m->params[i].count * sizeof *g);
    return g;
}

/* Shares of 3, 0 and 1 examples. A sum of 4 float32 terms in another order differs by some units of the last place of its largest term;
 * 1e-5 of the largest gradient is what the golden tests grant two orders of the sums inside of the products. */
static void shares_add_up(void **state)
{
    static const char *const what[] = {"attention", "all", "lora"};
    static const size_t from[] = {0, 3, 3, 4};
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        setting s = open_setting("pg1", what[k]);
        double whole, part, sum = 0, of[N], of_share[N];
        size_t n;
        pg_grads_zero(s.m);
        must(pg_loss(s.m, s.w, s.ex, N, true, 0, &whole, of, NULL, 0.1, &err));
        float *want = gradients(s.m, &n), most = 0;
        pg_grads_zero(s.m);
        for (size_t i = 0; i < 3; i++) {
            must(pg_loss_share(s.m, s.w, s.ex + from[i], from[i + 1] - from[i], N, true, 0, &part, of_share + from[i], NULL, 0.1, &err));
            sum += part;
        }
        float *got = gradients(s.m, &n);
        assert_true(fabs(sum - whole) < 1e-6);
        for (size_t i = 0; i < N; i++) assert_true(fabs(of[i] - of_share[i]) < 1e-5);
        for (size_t i = 0; i < n; i++) most = fabsf(want[i]) > most ? fabsf(want[i]) : most;
        assert_true(most > 0);
        for (size_t i = 0; i < n; i++) assert_true(fabsf(want[i] - got[i]) <= 1e-5f * most);
        free(want);
        free(got);
        close_setting(&s);
    }
}

typedef struct witness {
    const pg_model *m;
    float *then; /* gradients as they were when told to be complete */
    size_t told, next;
} witness;

/* Copies what has become complete. */
static void watch(void *ctx, size_t stage)
{
    witness *w = ctx;
    size_t to = 0;
    assert_true(stage >= w->next);
    for (size_t i = 0; i < w->m->n_params; i++) {
        const pg_param *p = &w->m->params[i];
        for (size_t l = 0; l < p->layers; l++, to += p->per_layer) {
            size_t of = pg_grad_stage(w->m, p, l);
            assert_true(of < pg_grad_stages(w->m));
            if (of < w->next || of > stage) continue;
            memcpy(w->then + to, p->g + l * p->per_layer, p->per_layer * sizeof *p->g);
            w->told++;
        }
    }
    w->next = stage + 1;
}

static void complete_means_complete(void **state)
{
    static const char *const families[] = {"pg1", "pg2"}, *const what[] = {"attention", "llm", "all", "lora"};
    (void)state;
    for (size_t k = 0; k < 8; k++) {
        setting s = open_setting(families[k / 4], what[k % 4]);
        for (size_t budget = 0; budget < 2; budget++) { /* 1 byte: each example is a group */
            double loss;
            size_t n, pieces = 0;
            witness w = {.m = s.m};
            float *zeros = gradients(s.m, &n);
            w.then = calloc(n, sizeof *w.then);
            assert_non_null(w.then);
            s.m->ready = watch;
            s.m->ready_ctx = &w;
            pg_grads_zero(s.m);
            must(pg_loss(s.m, s.w, s.ex, N, true, budget, &loss, NULL, NULL, 0, &err));
            float *now = gradients(s.m, &n);
            size_t to = 0;
            for (size_t i = 0; i < s.m->n_params; i++) {
                const pg_param *p = &s.m->params[i];
                for (size_t l = 0; l < p->layers; l++, to += p->per_layer, pieces++)
                    if (pg_grad_stage(s.m, p, l) < w.next) assert_memory_equal(now + to, w.then + to, p->per_layer * sizeof *now);
            }
            /* The decoder's layers are told of one by one; so are the tower's where it is trained. */
            assert_true(w.next > s.m->s.depth && w.told > 0 && w.told <= pieces);
            if (!strcmp(what[k % 4], "attention")) assert_int_equal(w.told, pieces);
            if (!strcmp(what[k % 4], "all")) assert_int_equal(w.next, s.m->s.depth + s.m->s.vit_depth + 1);
            free(zeros);
            free(now);
            free(w.then);
        }
        close_setting(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shares_add_up), cmocka_unit_test(complete_means_complete)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
