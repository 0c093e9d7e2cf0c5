/* Saving: what is replaced, and the npz form. Values go out in pieces of a few MiB. */
#include <stdlib.h>
#include <string.h>

#include "weights/internal.h"

bool pg_one_dtype(const pg_resolved *r, const pg_canonical *c, pg_dtype *t)
{
    size_t n = r->stacked || !c->layers ? 1 : c->layers * (c->parts ? c->parts : 1);
    *t = r->src[0]->dtype;
    for (size_t i = 1; i < n; i++)
        if (r->src[i]->dtype != *t)
            return false;
    return true;
}

static int sink(void *ctx, const void *p, size_t n, pg_err *e)
{
    return pg_npz_data(ctx, p, n, e);
}

static int save_tensor(const pg_weights *w, pg_npz_writer *z, size_t i, pg_replace_fn replace, void *ctx, bool replaced, void *buf, pg_err *e)
{
    const pg_canonical *c = &w->canon[i];
    pg_dtype t;
    bool widen = !pg_one_dtype(&w->res[i], c, &t) || replaced;
    size_t shape[PG_MAX_DIMS + 1], ndim = 0, layers = c->layers ? c->layers : 1, parts = c->parts ? c->parts : 1;
    if (c->layers)
        shape[ndim++] = c->layers;
    for (size_t k = 0; k < c->ndim && ndim < PG_MAX_DIMS; k++)
        shape[ndim++] = c->shape[k];
    char *key = pg_format("params/%s", c->name);
    if (!key)
        return pg_error_nomem(e);
    int rc = pg_npz_begin(z, key, widen || t == PG_F32 ? "<f4" : t == PG_F16 ? "<f2" : "|V2", ndim, shape, e);
    free(key);
    for (size_t l = 0; !rc && l < layers * parts; l++) {
        size_t part = c->parts ? l % parts : PG_WHOLE;
        pg_view v;
        if ((rc = pg_weights_view(w, c->name, l / parts, part, &v, e)))
            break;
        const float *f = replaced ? replace(ctx, c->name, l / parts, part) : NULL;
        if (f)
            v = pg_view_dense(&v, f);
        rc = pg_emit_view(&v, widen, buf, sink, z, e);
    }
    return rc;
}

int pg_save_npz(const pg_weights *w, const char *path, pg_replace_fn replace, void *ctx, const bool *replaced, pg_err *e)
{
    pg_npz_writer *z = NULL;
    void *buf = pg_alloc(PG_EMIT_BYTES, 1);
    int rc = buf ? pg_npz_create(&z, path, e) : pg_error_nomem(e);
    for (size_t i = 0; !rc && i < w->n_canon; i++)
        rc = save_tensor(w, z, i, replace, ctx, replaced[i], buf, e);
    if (!rc && !(rc = pg_npz_commit(z, e)))
        z = NULL;
    pg_npz_abort(z);
    free(buf);
    return rc;
}

int pg_weights_save(const pg_weights *w, const char *path, pg_replace_fn replace, void *ctx, pg_err *e)
{
    if (w->why.code)
        return pg_error(e, w->why.code, "%s", w->why.msg);
    bool npz = pg_ends_with(path, ".npz");
    if (!npz && !pg_ends_with(path, ".safetensors"))
        return pg_error(e, PG_EINVAL, "cannot write '%s': a checkpoint's name ends in .npz or .safetensors", path);
    bool *replaced = pg_calloc(w->n_canon, sizeof *replaced);
    if (!replaced)
        return pg_error_nomem(e);
    for (size_t i = 0; replace && i < w->n_canon; i++)
        replaced[i] = replace(ctx, w->canon[i].name, 0, w->canon[i].parts ? 0 : PG_WHOLE);
    int rc = (npz ? pg_save_npz : pg_save_safetensors)(w, path, replace, ctx, replaced, e);
    free(replaced);
    return rc;
}
