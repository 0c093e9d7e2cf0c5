/* Shared by the tests of losses and gradients: a golden model with the golden training batch. Run from the top folder. */
#ifndef TESTS_MODEL_BATCH_H
#define TESTS_MODEL_BATCH_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/loss.h"

#define GOLDEN "tests/golden/model/"
enum { N = 4, T = 20 };
/* tests/golden/model/README.md */
static const double loss_tolerance = 5e-6, grad_relative = 1e-5;

static pg_err err;

static inline void must(int rc)
{
    if (rc) fail_msg("%s", err.msg);
}

typedef struct batch {
    pg_kern *kern;
    pg_model *m;
    pg_work *w;
    pg_npz *in, *out;
    float *pixels, *features;
    int32_t *tokens, *ar, *loss, *input; /* [N,T] */
    pg_example ex[N];
    float **start; /* keep_weights: of each parameter */
} batch;

static inline const pg_npy *array(const pg_npz *z, const char *key)
{
    const pg_npy *a = pg_npz_find(z, key);
    if (!a) fail_msg("no '%s'", key);
    return a;
}

static inline void *copy_of(const pg_npz *z, const char *key)
{
    const pg_npy *a = array(z, key);
    void *p = malloc(a->count * a->itemsize);
    assert_non_null(p);
    memcpy(p, a->data, a->count * a->itemsize);
    return p;
}

static inline double value(const pg_npy *a, size_t i)
{
    double v;
    memcpy(&v, a->data + i * sizeof v, sizeof v);
    return v;
}

static inline double number(const pg_npz *z, const char *key, size_t i) { return value(array(z, key), i); }

static inline batch open_batch(const char *family, const char *weights, const char *trainable, size_t threads)
{
    batch f = {0};
    char path[256];
    must(pg_kern_new(&f.kern, threads, &err));
    must(pg_model_open(&f.m, weights, trainable, f.kern, &err));
    must(pg_work_new(&f.w, &err));
    snprintf(path, sizeof path, GOLDEN "%s_in.npz", family);
    must(pg_npz_open(&f.in, path, &err));
    snprintf(path, sizeof path, GOLDEN "%s_out.npz", family);
    must(pg_npz_open(&f.out, path, &err));
    f.pixels = copy_of(f.in, "image");
    f.tokens = copy_of(f.in, "text");
    f.ar = copy_of(f.in, "mask_ar");
    f.loss = copy_of(f.in, "mask_loss");
    f.input = copy_of(f.in, "mask_input");
    for (size_t i = 0; i < N; i++)
        f.ex[i] = (pg_example){.pixels = f.pixels + i * f.m->s.image_size * f.m->s.image_size * 3, .tokens = f.tokens + i * T,
                               .mask_ar = f.ar + i * T, .mask_loss = f.loss + i * T, .mask_input = f.input + i * T, .n = T};
    return f;
}

/* With the golden weights. */
static inline batch open_family(const char *family, const char *trainable, size_t threads)
{
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s.npz", family);
    return open_batch(family, path, trainable, threads);
}

/* The weights as they are now, to see later what has changed. */
static inline void keep_weights(batch *f)
{
    assert_non_null(f->start = calloc(f->m->n_params, sizeof *f->start));
    for (size_t i = 0; i < f->m->n_params; i++) {
        const pg_param *p = &f->m->params[i];
        assert_non_null(f->start[i] = pg_floats(p->count));
        memcpy(f->start[i], p->w, p->count * sizeof(float));
    }
}

static inline void close_batch(batch *f)
{
    for (size_t i = 0; f->start && i < f->m->n_params; i++) free(f->start[i]);
    free(f->start);
    pg_work_free(f->w);
    pg_model_close(f->m);
    pg_kern_free(f->kern);
    pg_npz_close(f->in);
    pg_npz_close(f->out);
    free(f->pixels);
    free(f->features);
    free(f->tokens);
    free(f->ar);
    free(f->loss);
    free(f->input);
}

static inline double loss_of_batch(batch *f, bool grad, size_t budget, double smoothing)
{
    double loss = 0;
    if (grad) pg_grads_zero(f->m);
    must(pg_loss(f->m, f->w, f->ex, N, grad, budget, &loss, NULL, NULL, smoothing, &err));
    return loss;
}

#endif
