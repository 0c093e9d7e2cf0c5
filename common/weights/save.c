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

typedef struct saver {
    const pg_weights *w;
    const pg_save_how *how;
    const bool *replaced;
    pg_npz_writer *z;
    pg_emit m;
    double *sums; /* of the columns of the source's embedding, where its rows that are no tokens are to be judged by them */
} saver;

static int begin(saver *s, const char *key, pg_dtype t, size_t ndim, const size_t *shape, pg_err *e)
{
    if (t == PG_I8)
        return pg_error(e, PG_EINVAL, "tensor '%s' is int8, which an npz does not hold: choose f32, bf16 or f16", key);
    return pg_npz_begin(s->z, key, t == PG_F32 ? "<f4" : t == PG_F16 ? "<f2" : "|V2", ndim, shape, e);
}

static bool is_embedding(const char *name)
{
    return !strcmp(name, "llm/embedder/input_embedding");
}

static int emit_layer(saver *s, size_t i, size_t layer, size_t part, pg_dtype t, pg_err *e)
{
    const pg_weights *w = s->w;
    const char *name = w->canon[i].name;
    const pg_save_how *how = s->how;
    pg_emit m = s->m;
    pg_view v, stored;
    int rc = pg_weights_view(w, name, layer, part, &v, e);
    if (rc)
        return rc;
    stored = v;
    const float *f = s->replaced[i] && how->replace ? how->replace(how->ctx, name, layer, part) : NULL;
    if (is_embedding(name)) {
        m.sums = s->sums;
        m.cols = v.shape[1];
    }
    if (f && m.sums) { /* what goes out is not what is judged */
        m.sink = NULL;
        rc = pg_emit_view(&m, &v, PG_F32, e);
        m.sink = sink;
        m.sums = NULL;
    }
    if (f)
        v = pg_view_dense(&v, f);
    if (!rc && how->merge && pg_merge_touches(how->merge, name, layer, part)) {
        m.merge = how->merge;
        rc = pg_merge_begin(m.merge, i, layer, part, false, e);
    }
    if (!rc)
        rc = pg_emit_view(&m, &v, t, e);
    pg_weights_forget(w, &stored);
    return rc ? pg_error_context(e, "tensor '%s'", name) : PG_OK;
}

static int save_tensor(saver *s, size_t i, pg_err *e)
{
    const pg_weights *w = s->w;
    const pg_canonical *c = &w->canon[i];
    pg_dtype own, t;
    bool one = pg_one_dtype(&w->res[i], c, &own);
    size_t shape[PG_MAX_DIMS + 1], ndim = 0, layers = c->layers ? c->layers : 1, parts = c->parts ? c->parts : 1;
    if (c->layers)
        shape[ndim++] = c->layers;
    for (size_t k = 0; k < c->ndim && ndim < PG_MAX_DIMS; k++)
        shape[ndim++] = c->shape[k];
    t = pg_saved_dtype(s->how, one ? own : PG_F32, s->replaced[i], true);
    char *key = pg_format("params/%s", c->name);
    if (!key)
        return pg_error_nomem(e);
    int rc = begin(s, key, t, ndim, shape, e);
    free(key);
    for (size_t l = 0; !rc && l < layers * parts; l++)
        rc = emit_layer(s, i, l / parts, c->parts ? l % parts : PG_WHOLE, t, e);
    return rc;
}

/* Where each head has its own k and v the reference has one array for q, k and v, and no other: this and the next tensor are it. */
static bool is_joint(const pg_weights *w, size_t i)
{
    return w->dims.of['N'] == w->dims.of['K'] && i + 1 < w->n_canon && !strcmp(w->canon[i].name, "llm/layers/attn/q_einsum/w") &&
           !strcmp(w->canon[i + 1].name, "llm/layers/attn/kv_einsum/w");
}

static int save_joint(saver *s, size_t i, pg_err *e)
{
    const pg_canonical *q = &s->w->canon[i], *kv = &s->w->canon[i + 1];
    const size_t shape[] = {q->layers, 3, q->shape[0], q->shape[1], q->shape[2]}, parts = kv->parts ? kv->parts : 1;
    pg_dtype of_q, of_kv;
    bool one = pg_one_dtype(&s->w->res[i], q, &of_q) && pg_one_dtype(&s->w->res[i + 1], kv, &of_kv) && of_q == of_kv;
    pg_dtype t = pg_saved_dtype(s->how, one ? of_q : PG_F32, s->replaced[i] || s->replaced[i + 1], true);
    int rc = begin(s, "params/llm/layers/attn/qkv_einsum/w", t, 5, shape, e);
    for (size_t l = 0; !rc && l < q->layers; l++) {
        rc = emit_layer(s, i, l, PG_WHOLE, t, e);
        for (size_t p = 0; !rc && p < parts; p++)
            rc = emit_layer(s, i + 1, l, kv->parts ? p : PG_WHOLE, t, e);
    }
    return rc;
}

/* Rows that emit_embedding made (savehf.c) carry nothing: it would make them again. */
static int made_of_mean(const saver *s, const pg_view *extra, bool *made, pg_err *e)
{
    size_t cols = extra->shape[1];
    float *row = pg_alloc(cols, sizeof *row);
    if (!row)
        return pg_error_nomem(e);
    pg_view one = *extra;
    one.shape[0] = 1;
    one.count = cols;
    *made = true;
    for (size_t i = 0; i < extra->shape[0] && *made; i++, one.data += cols * pg_dtype_size(one.dtype)) {
        pg_view_widen(&one, row);
        for (size_t k = 0; k < cols && *made; k++)
            *made = row[k] == pg_rounded((float)(s->sums[k] / (double)s->w->shape.vocab), extra->dtype);
    }
    free(row);
    return PG_OK;
}

static int emit_rows(saver *s, const pg_view *rows, pg_dtype own, pg_err *e)
{
    pg_dtype to = pg_saved_dtype(s->how, own, false, true);
    int rc = begin(s, PG_EXTRA_ROWS, to, 2, rows->shape, e);
    if (!rc && (rc = pg_emit_view(&s->m, rows, to, e)))
        (void)pg_error_context(e, "tensor '%s'", PG_EXTRA_ROWS);
    return rc;
}

/* The rows of a safetensors embedding that are no tokens: w's own, those behind the tokens. */
static const pg_weight *extra_rows(const pg_weights *w)
{
    bool more = w->format == PG_SAFETENSORS && w->shape.vocab_rows > w->shape.vocab;
    return more ? pg_weights_find(w, "language_model.embed_tokens.weight") : NULL;
}

/* They go into an array of their own, which big_vision does not look at; last, when all rows that are tokens have passed. */
static int save_extra_rows(saver *s, pg_err *e)
{
    const pg_weights *w = s->w;
    const pg_weight *m = extra_rows(w);
    const pg_npy *kept = w->npz ? pg_npz_find(w->npz, PG_EXTRA_ROWS) : NULL;
    pg_weight stored = {0};
    if (kept && kept->ndim == 2 && pg_dtype_of_descr(kept->descr, &stored.dtype)) { /* from one npz to another */
        stored.ndim = 2;
        memcpy(stored.shape, kept->shape, sizeof stored.shape);
        stored.count = kept->count;
        stored.data = kept->data;
        pg_view rows = pg_view_raw(&stored);
        return emit_rows(s, &rows, stored.dtype, e);
    }
    if (!m)
        return PG_OK;
    pg_view v = pg_view_raw(m);
    bool made = false;
    v.data += w->shape.vocab * v.shape[1] * pg_dtype_size(m->dtype);
    v.shape[0] -= w->shape.vocab;
    v.count = v.shape[0] * v.shape[1];
    int rc = pg_tied_piece(w, &v, e);
    if (!rc)
        rc = made_of_mean(s, &v, &made, e);
    return rc || made ? rc : emit_rows(s, &v, m->dtype, e);
}

int pg_save_npz(const pg_weights *w, const char *path, const pg_save_how *how, const bool *replaced, pg_err *e)
{
    saver s = {.w = w, .how = how, .replaced = replaced};
    const pg_weight *more = extra_rows(w);
    void *buf = pg_alloc(PG_EMIT_BYTES, 1);
    int rc = buf ? PG_OK : pg_error_nomem(e);
    if (!rc && more && !(s.sums = pg_calloc(more->shape[1], sizeof *s.sums)))
        rc = pg_error_nomem(e);
    if (!rc)
        rc = pg_npz_create(&s.z, path, e);
    s.m = (pg_emit){.w = w, .buf = buf, .sink = sink, .ctx = s.z};
    for (size_t i = 0; !rc && i < w->n_canon; i++) {
        bool joint = is_joint(w, i);
        rc = (joint ? save_joint : save_tensor)(&s, i, e);
        i += joint;
    }
    if (!rc && !(rc = save_extra_rows(&s, e)) && !(rc = pg_npz_commit(s.z, e)))
        s.z = NULL;
    pg_npz_abort(s.z);
    free(s.sums);
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
    for (size_t i = 0; i < w->n_canon; i++) {
        const char *name = w->canon[i].name;
        replaced[i] = (how->replace && how->replace(how->ctx, name, 0, w->canon[i].parts ? 0 : PG_WHOLE)) ||
                      (how->merge && pg_merge_touches(how->merge, name, PG_WHOLE, PG_WHOLE));
    }
    /* Where an embedding of another origin is written the source's does not pass. */
    int rc = PG_OK;
    for (size_t i = 0; !rc && how->replace && i < w->n_canon; i++)
        if (replaced[i] && is_embedding(w->canon[i].name))
            rc = pg_weights_tied(w, e);
    if (!rc)
        rc = (npz ? pg_save_npz : pg_save_safetensors)(w, path, how, replaced, e);
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
