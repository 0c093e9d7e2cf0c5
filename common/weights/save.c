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

bool pg_name_is_matrix(const pg_name *n)
{
    const char *comma = strchr(n->hf_dims, ',');
    return comma && !strchr(comma + 1, ',') && strcmp(n->name, "img/pos_embedding") != 0;
}

pg_dtype pg_saved_dtype(const pg_save_how *how, pg_dtype own, bool replaced, bool matrix)
{
    if (how->convert && (how->dtype != PG_I8 || matrix))
        return how->dtype;
    return replaced && !how->own ? PG_F32 : own;
}

void pg_weights_forget(const pg_weights *w, const pg_view *v)
{
    size_t last = 0, size = pg_dtype_size(v->dtype);
    for (size_t i = 0; i < v->ndim; i++)
        last += v->shape[i] ? (v->shape[i] - 1) * v->stride[i] : 0;
    for (size_t i = 0; i < w->n_files; i++)
        pg_map_forget(&w->files[i].map, v->data, (last + 1) * size);
    if (w->npz)
        pg_npz_forget(w->npz, v->data, (last + 1) * size);
}

/* ---- npz ---- */
static int sink(void *ctx, const void *p, size_t n, pg_err *e)
{
    return pg_npz_data(ctx, p, n, e);
}

static const char *descr_of(pg_dtype t)
{
    return t == PG_F32 ? "<f4" : t == PG_F16 ? "<f2" : "|V2";
}

static int save_tensor(const pg_weights *w, pg_npz_writer *z, size_t i, const pg_save_how *how, bool replaced, void *buf, pg_err *e)
{
    const pg_canonical *c = &w->canon[i];
    pg_dtype own, t;
    bool one = pg_one_dtype(&w->res[i], c, &own);
    size_t shape[PG_MAX_DIMS + 1], ndim = 0, layers = c->layers ? c->layers : 1, parts = c->parts ? c->parts : 1;
    if (c->layers)
        shape[ndim++] = c->layers;
    for (size_t k = 0; k < c->ndim && ndim < PG_MAX_DIMS; k++)
        shape[ndim++] = c->shape[k];
    t = pg_saved_dtype(how, one ? own : PG_F32, replaced, true);
    if (t == PG_I8)
        return pg_error(e, PG_EINVAL, "tensor '%s' is int8, which an npz does not hold: choose f32, bf16 or f16", c->name);
    char *key = pg_format("params/%s", c->name);
    if (!key)
        return pg_error_nomem(e);
    int rc = pg_npz_begin(z, key, descr_of(t), ndim, shape, e);
    free(key);
    for (size_t l = 0; !rc && l < layers * parts; l++) {
        size_t part = c->parts ? l % parts : PG_WHOLE;
        pg_view v, stored;
        if ((rc = pg_weights_view(w, c->name, l / parts, part, &v, e)))
            break;
        PG_KNOWN(!replaced || how->replace); /* pg_weights_save_as asked it what is replaced */
        const float *f = replaced ? how->replace(how->ctx, c->name, l / parts, part) : NULL;
        stored = v;
        if (f)
            v = pg_view_dense(&v, f);
        if ((rc = pg_emit_view(w, &v, t, buf, sink, z, e)))
            (void)pg_error_context(e, "tensor '%s'", c->name);
        pg_weights_forget(w, &stored);
    }
    return rc;
}

/* Rows that emit_extra_rows made (savehf.c) carry nothing: it would make them again. */
static int made_of_mean(const pg_weights *w, const pg_view *tokens, const pg_view *extra, void *buf, bool *made, pg_err *e)
{
    size_t cols = extra->shape[1];
    float *mean = pg_alloc(cols, sizeof *mean), *rows = pg_alloc(extra->count, sizeof *rows);
    int rc = mean && rows ? pg_mean_row(w, tokens, mean, buf, e) : pg_error_nomem(e);
    if (!rc) {
        pg_view_widen(extra, rows);
        *made = true;
        for (size_t i = 0; i < extra->count && *made; i++)
            *made = rows[i] == pg_rounded(mean[i % cols], extra->dtype);
    }
    free(mean);
    free(rows);
    return rc;
}

/* The rows of a safetensors embedding that are no tokens go into an array of their own, which big_vision does not look at. */
static int save_extra_rows(const pg_weights *w, pg_npz_writer *z, const pg_save_how *how, void *buf, pg_err *e)
{
    const pg_weight *m = pg_weights_find(w, "language_model.embed_tokens.weight");
    const pg_npy *kept = w->npz ? pg_npz_find(w->npz, PG_EXTRA_ROWS) : NULL;
    pg_weight stored = {0};
    if (kept && kept->ndim == 2 && pg_dtype_of_descr(kept->descr, &stored.dtype)) { /* from one npz to another */
        stored.ndim = 2;
        memcpy(stored.shape, kept->shape, sizeof stored.shape);
        stored.count = kept->count;
        stored.data = kept->data;
        pg_view rows = pg_view_raw(&stored);
        pg_dtype to = pg_saved_dtype(how, stored.dtype, false, true);
        int rc = pg_npz_begin(z, PG_EXTRA_ROWS, descr_of(to), 2, rows.shape, e);
        return rc ? rc : pg_emit_view(w, &rows, to, buf, sink, z, e);
    }
    if (w->format != PG_SAFETENSORS || !m || w->shape.vocab_rows == w->shape.vocab)
        return PG_OK;
    pg_view v = pg_view_raw(m);
    pg_dtype t = pg_saved_dtype(how, m->dtype, false, true);
    pg_view tokens = v;
    bool made = false;
    tokens.shape[0] = w->shape.vocab;
    tokens.count = tokens.shape[0] * tokens.shape[1];
    v.data += tokens.count * pg_dtype_size(m->dtype);
    v.shape[0] -= w->shape.vocab;
    v.count -= tokens.count;
    int rc = made_of_mean(w, &tokens, &v, buf, &made, e);
    pg_weights_forget(w, &tokens);
    if (rc || made)
        return rc;
    rc = pg_npz_begin(z, PG_EXTRA_ROWS, descr_of(t), 2, v.shape, e);
    return rc ? rc : pg_emit_view(w, &v, t, buf, sink, z, e);
}

int pg_save_npz(const pg_weights *w, const char *path, const pg_save_how *how, const bool *replaced, pg_err *e)
{
    pg_npz_writer *z = NULL;
    void *buf = pg_alloc(PG_EMIT_BYTES, 1);
    int rc = buf ? pg_npz_create(&z, path, e) : pg_error_nomem(e);
    for (size_t i = 0; !rc && i < w->n_canon; i++)
        rc = save_tensor(w, z, i, how, replaced[i], buf, e);
    if (!rc && !(rc = save_extra_rows(w, z, how, buf, e)) && !(rc = pg_npz_commit(z, e)))
        z = NULL;
    pg_npz_abort(z);
    free(buf);
    return rc;
}

/* ---- either ---- */
int pg_weights_save_as(const pg_weights *w, const char *path, const pg_save_how *how, pg_err *e)
{
    pg_err local = {0};
    e = e ? e : &local;
    if (w->why.code)
        return pg_error(e, w->why.code, "%s", w->why.msg);
    bool npz = pg_ends_with(path, ".npz");
    if (!npz && !pg_ends_with(path, ".safetensors"))
        return pg_error(e, PG_EINVAL, "cannot write '%s': a checkpoint's name ends in .npz or .safetensors", path);
    if (npz && how->convert && how->dtype == PG_I8)
        return pg_error(e, PG_EINVAL, "cannot write '%s': only safetensors files hold int8", path);
    bool *replaced = pg_calloc(w->n_canon, sizeof *replaced);
    if (!replaced)
        return pg_error_nomem(e);
    for (size_t i = 0; how->replace && i < w->n_canon; i++)
        replaced[i] = how->replace(how->ctx, w->canon[i].name, 0, w->canon[i].parts ? 0 : PG_WHOLE);
    int rc = (npz ? pg_save_npz : pg_save_safetensors)(w, path, how, replaced, e);
    free(replaced);
    return rc;
}

int pg_weights_save(const pg_weights *w, const char *path, pg_replace_fn replace, void *ctx, pg_err *e)
{
    pg_save_how how = {.replace = replace, .ctx = ctx};
    return pg_weights_save_as(w, path, &how, e);
}

bool pg_weights_touches(const pg_weights *w, const char *path)
{
    char *from = pg_path_dir(pg_weights_path(w)), *to = pg_path_dir(path);
    bool hit = pg_same_file(path, pg_weights_path(w));
    if (from && to && w->format == PG_SAFETENSORS && pg_ends_with(path, ".safetensors")) hit = hit || pg_same_file(from, to);
    free(from);
    free(to);
    return hit;
}
