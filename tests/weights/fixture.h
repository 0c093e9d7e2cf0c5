/* Shared by the tests of checkpoints: a folder for files, opening, whole tensors. Run from the top folder. */
#ifndef TESTS_WEIGHTS_FIXTURE_H
#define TESTS_WEIGHTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/num.h"
#include "weights/weights.h"

#define G "tests/golden/model/"
static char dir[] = "/tmp/pg-weights-XXXXXX";
static pg_err err;

/* A path in the folder; eight of them live at a time. */
static inline const char *at(const char *name)
{
    static char paths[8][200];
    static size_t next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof *paths, "%s/%s", dir, name);
    return p;
}

/* A path in a folder of its own: a config.json that lies there is this file's. */
static inline const char *own(const char *name)
{
    char both[100];
    snprintf(both, sizeof both, "%s.d", name);
    mkdir(at(both), 0700);
    snprintf(both, sizeof both, "%s.d/%s", name, name);
    return at(both);
}

static inline pg_weights *open_ok(const char *path)
{
    pg_weights *w;
    pg_model_shape s;
    if (pg_weights_open(&w, path, &err) || pg_weights_shape(w, &s, &err)) fail_msg("%s", err.msg);
    return w;
}

/* Layers from..to of a canonical tensor, its pieces in order. */
static inline float *layers_of(const pg_weights *w, const pg_canonical *c, size_t from, size_t to, size_t *n)
{
    size_t parts = c->parts ? c->parts : 1;
    float *out = NULL;
    *n = 0;
    for (size_t k = from * parts; k < to * parts; k++) {
        pg_view v;
        if (pg_weights_view(w, c->name, k / parts, c->parts ? k % parts : PG_WHOLE, &v, &err)) fail_msg("%s", err.msg);
        if (!out) out = malloc((to - from) * parts * v.count * sizeof *out);
        assert_non_null(out);
        pg_view_widen(&v, out + *n);
        *n += v.count;
    }
    return out;
}

static inline int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static inline int remove_dir(void **state)
{
    char cmd[64];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

#endif
