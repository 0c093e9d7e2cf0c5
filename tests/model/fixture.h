/* Shared by the model's tests: a golden model with its inputs and answers. Run from the top folder. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

#define DIR "tests/golden/model/"

typedef struct fixture {
    pg_kern *kern;
    pg_model *m;
    pg_work *w;
    pg_npz *in, *out;
} fixture;

static pg_err err;

static inline void must(int rc)
{
    if (rc)
        fail_msg("%s", err.msg);
}

static inline fixture open_fixture(const char *weights, const char *family, size_t threads, const char *answers)
{
    fixture f;
    char path[256];
    must(pg_kern_new(&f.kern, threads, &err));
    snprintf(path, sizeof path, DIR "%s", weights);
    must(pg_model_open(&f.m, path, NULL, f.kern, &err));
    must(pg_work_new(&f.w, &err));
    snprintf(path, sizeof path, DIR "%s_in.npz", family);
    must(pg_npz_open(&f.in, path, &err));
    snprintf(path, sizeof path, DIR "%s.npz", answers);
    must(pg_npz_open(&f.out, path, &err));
    return f;
}

static inline void close_fixture(fixture *f)
{
    pg_work_free(f->w);
    pg_model_close(f->m);
    pg_kern_free(f->kern);
    pg_npz_close(f->in);
    pg_npz_close(f->out);
}

/* ---- golden arrays ---- */
static inline const pg_npy *array(const pg_npz *z, const char *key, const char *descr)
{
    const pg_npy *a = pg_npz_find(z, key);
    if (!a)
        fail_msg("no '%s'", key);
    assert_string_equal(a->descr, descr);
    return a;
}

static inline int32_t *ints(const pg_npz *z, const char *key)
{
    const pg_npy *a = array(z, key, "<i4");
    int32_t *p = malloc(a->count * 4 + 4);
    assert_non_null(p);
    memcpy(p, a->data, a->count * 4);
    return p;
}

static inline float *floats(const pg_npz *z, const char *key)
{
    const pg_npy *a = array(z, key, "<f4");
    float *p = malloc(a->count * 4);
    assert_non_null(p);
    memcpy(p, a->data, a->count * 4);
    return p;
}

static inline double *doubles(const pg_npz *z, const char *key)
{
    const pg_npy *a = array(z, key, "<f8");
    double *p = malloc(a->count * 8);
    assert_non_null(p);
    memcpy(p, a->data, a->count * 8);
    return p;
}

#endif
