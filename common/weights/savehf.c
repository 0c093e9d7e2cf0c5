/* Saving safetensors: a plan of all tensors first (the header needs every offset), then their data, one or several files. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "weights/internal.h"

enum { ROW_STEP = 64, SHARDS_MAX = 500 };
static const size_t SHARD_BYTES = (size_t)5 * 1000 * 1000 * 1000;

typedef struct item {
    char *name;
    const pg_weight *raw;    /* what the source has in this place; NULL: it has another layout */
    const pg_name *n;        /* NULL: no tensor of ours, copied */
    size_t canon, layer, part;
    bool replaced;
    pg_dtype dtype;
    size_t ndim, shape[PG_MAX_DIMS], bytes;
    float *scale;            /* of int8 made here: filled with the data, written by the item that follows and freed */
    bool is_scale;           /* that item */
} item;

typedef struct saver {
    const pg_weights *w;
    const pg_save_how *how;
    const bool *replaced;
    item *items;
    size_t n, cap;
    pg_emit m;
    pg_outfile configs[PG_HF_CONFIGS], *files, *f; /* f: the one of files that is being written */
    size_t n_files;
    pg_err *e;
} saver;

/* ---- the plan ---- */
static int push(saver *s, const item *it)
{
    item x = *it;
    x.bytes = pg_dtype_size(x.dtype);
    for (size_t i = 0; i < x.ndim; i++)
        if (!pg_mul(x.bytes, x.shape[i], &x.bytes)) {
            free(x.name);
            return pg_error(s->e, PG_ELIMIT, "tensor is too large");
        }
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        item *p = pg_realloc(s->items, cap, sizeof *p);
        if (!p) {
            free(x.name);
            return pg_error_nomem(s->e);
        }
        s->items = p, s->cap = cap;
    }
    s->items[s->n++] = x;
    return PG_OK;
}

static bool made_int8(const item *it)
{
    return it->dtype == PG_I8 && (!it->raw || it->replaced || it->raw->dtype != PG_I8);
}

/* An item, and behind int8 that is made here its scales. */
static int push_with_scales(saver *s, item *it)
{
    if (!it->name)
        return pg_error_nomem(s->e);
    int rc = push(s, it);
    if (rc || !made_int8(it))
        return rc;
    item scale = {.name = pg_format("%s_scale", it->name), .dtype = PG_F32, .ndim = 2, .shape = {it->shape[0], pg_int8_groups(it->shape[1])}, .is_scale = true};
    return scale.name ? push(s, &scale) : pg_error_nomem(s->e);
}

/* An adapter changes some layers of a tensor; the others are copied. */
static bool is_replaced(const saver *s, size_t canon, size_t layer, size_t part)
{
    const pg_merge *g = s->how->merge;
    return s->replaced[canon] && (!g || pg_merge_touches(g, s->w->canon[canon].name, layer, part));
}

/* Which canonical tensor, or part of one, a stored tensor is. */
static void locate(const saver *s, const pg_weight *x, item *it)
{
    const pg_weights *w = s->w;
    for (size_t i = 0; i < w->n_canon; i++) {
        const pg_canonical *c = &w->canon[i];
        size_t parts = c->parts ? 2 : 1, count = (c->layers ? c->layers : 1) * parts;
        for (size_t k = 0; k < count; k++)
            if (w->res[i].src[k] == x) {
                it->n = w->res[i].n;
                it->canon = i, it->layer = k / parts, it->part = c->parts ? k % parts : PG_WHOLE;
                it->replaced = is_replaced(s, i, it->layer, it->part);
                return;
            }
    }
}

static item item_of(const saver *s, const pg_weight *x)
{
    item it = {.raw = x, .ndim = x->ndim};
    memcpy(it.shape, x->shape, sizeof it.shape);
    locate(s, x, &it);
    it.dtype = pg_saved_dtype(s->how, x->dtype, it.replaced, it.n && pg_name_is_matrix(it.n));
    return it;
}

/* Stored names and their order are kept. */
static int plan_safetensors(saver *s)
{
    const pg_weights *w = s->w;
    int rc = PG_OK;
    for (size_t t = 0; !rc && t < w->n; t++) {
        const pg_tensor_entry *x = &w->t[t];
        if (pg_is_head(x->plain))
            continue; /* the same values as the embedding, to which it is compared as that passes */
        item it = item_of(s, &x->w);
        if (x->is_scale) { /* stays where its int8 tensor does */
            char *plain = pg_strndup(x->plain, strlen(x->plain) - strlen("_scale"));
            const pg_weight *of = plain ? pg_weights_find(w, plain) : NULL;
            free(plain);
            if (!of)
                return pg_error_nomem(s->e);
            item owner = item_of(s, of);
            if (owner.dtype != PG_I8 || owner.replaced)
                continue;
            it.dtype = PG_F32;
        }
        it.name = pg_strdup(x->w.name);
        rc = push_with_scales(s, &it);
    }
    return rc;
}

static char *hf_name(const char *fmt, size_t layer)
{
    char *name = pg_layer_name(fmt, layer);
    if (!name || strncmp(name, "language_model.", 15) != 0)
        return name;
    char *full = pg_format("language_model.model.%s", name + 15);
    free(name);
    return full;
}

/* Rows of the embedding that are no tokens, kept in an npz for the way back. */
static bool kept_rows(const pg_weights *w, pg_weight *rows)
{
    const pg_npy *kept = w->npz ? pg_npz_find(w->npz, PG_EXTRA_ROWS) : NULL;
    if (!kept || kept->ndim != 2 || !kept->count || kept->shape[1] != w->shape.width || !pg_dtype_of_descr(kept->descr, &rows->dtype))
        return false;
    *rows = (pg_weight){.dtype = rows->dtype, .ndim = 2, .shape = {kept->shape[0], kept->shape[1]}, .count = kept->count, .data = kept->data};
    return true;
}

size_t pg_hf_rows(const pg_weights *w)
{
    pg_weight kept;
    if (w->format == PG_SAFETENSORS)
        return w->shape.vocab_rows;
    return kept_rows(w, &kept) ? w->shape.vocab + kept.shape[0] : (w->shape.vocab + 2 + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
}

static int plan_npz(saver *s)
{
    const pg_weights *w = s->w;
    int rc = PG_OK;
    for (size_t i = 0; !rc && i < w->n_canon; i++) {
        const pg_canonical *c = &w->canon[i];
        const pg_name *n = w->res[i].n;
        size_t layers = c->layers ? c->layers : 1, parts = n->pieces ? 2 : 1;
        for (size_t k = 0; !rc && k < layers * parts; k++) {
            item it = {.n = n, .canon = i, .layer = k / parts, .part = n->pieces ? k % parts : PG_WHOLE};
            it.replaced = is_replaced(s, i, it.layer, it.part);
            pg_view v;
            if ((rc = pg_weights_view(w, c->name, it.layer, it.part, &v, s->e)))
                return rc;
            it.dtype = pg_saved_dtype(s->how, v.dtype, it.replaced, pg_name_is_matrix(n));
            if (pg_view_as_hf(n, n->pieces, &v))
                return pg_error(s->e, PG_FAIL, "tensor '%s' has no place in safetensors", c->name);
            size_t dim = 0;
            for (const char *h = n->hf_dims; *h; it.ndim++) {
                it.shape[it.ndim] = 1;
                for (; *h && *h != ','; h++)
                    it.shape[it.ndim] *= v.shape[dim++];
                h += *h == ',';
            }
            if (*n->hf_dims == 'V')
                it.shape[0] = pg_hf_rows(w);
            it.name = hf_name(n->hf[n->pieces ? it.part : 0], it.layer);
            rc = push_with_scales(s, &it);
        }
    }
    return rc;
}

/* ---- data ---- */
static int sink(void *ctx, const void *p, size_t n, pg_err *e)
{
    saver *s = ctx;
    if (pg_write_full(s->f->fd, p, n))
        return pg_error_errno(e, "cannot write '%s'", s->f->path);
    return PG_OK;
}

static int emit(saver *s, item *it, const pg_view *v, size_t row)
{
    size_t groups = pg_int8_groups(it->shape[1]);
    if (it->dtype != PG_I8)
        return pg_emit_view(&s->m, v, it->dtype, s->e);
    if (!it->scale && !(it->scale = pg_alloc(it->shape[0] * groups, sizeof *it->scale)))
        return pg_error_nomem(s->e);
    return pg_emit_int8(&s->m, v, it->shape[1], it->scale + row * groups, s->e);
}

/* v: the rows that are tokens. Behind them go the source's own rows that are none, those that an npz keeps for the way back, else copies
 * of the mean row, whose logit is the mean of all logits and so never the largest. */
static int emit_embedding(saver *s, item *it, const pg_view *v)
{
    size_t have = v->shape[0], cols = v->shape[1], more = it->shape[0] - have;
    float *mean = NULL;
    int rc = PG_OK;
    pg_weight kept;
    bool made = more && !it->raw && !kept_rows(s->w, &kept);
    if (made && (!(s->m.sums = pg_calloc(cols, sizeof *s->m.sums)) || !(mean = pg_alloc(cols, sizeof *mean))))
        rc = pg_error_nomem(s->e);
    s->m.cols = cols;
    if (!rc)
        rc = emit(s, it, v, 0);
    for (size_t i = 0; !rc && made && i < cols; i++)
        mean[i] = (float)(s->m.sums[i] / (double)have);
    free(s->m.sums);
    s->m.sums = NULL;
    if (!rc && more) {
        pg_view x;
        if (it->raw) {
            x = pg_view_raw(it->raw);
            x.data += have * x.stride[0] * pg_dtype_size(x.dtype);
            x.shape[0] = more;
            x.count = more * cols;
        } else if (made) {
            x = (pg_view){.data = (const unsigned char *)mean, .dtype = PG_F32, .ndim = 2, .shape = {more, cols}, .stride = {0, 1}, .count = more * cols};
        } else {
            x = pg_view_raw(&kept);
        }
        rc = emit(s, it, &x, have);
    }
    free(mean);
    return rc;
}

static int copy_raw(saver *s, const pg_weight *x, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PG_EMIT_BYTES) {
        size_t n = bytes - at < PG_EMIT_BYTES ? bytes - at : PG_EMIT_BYTES;
        pg_view piece = {.data = x->data + at, .dtype = PG_I8, .ndim = 1, .shape = {n}, .stride = {1}, .count = n, .from = x};
        int rc = pg_tied_piece(s->w, &piece, s->e);
        if (!rc)
            rc = sink(s, x->data + at, n, s->e);
        pg_weights_forget(s->w, &piece);
        if (rc)
            return rc;
    }
    return PG_OK;
}

static int write_scales(saver *s, item *of, size_t bytes)
{
    int rc = sink(s, of->scale, bytes, s->e);
    free(of->scale);
    of->scale = NULL;
    return rc;
}

/* In safetensors' order, with what the adapter adds. */
static int emit_changed(saver *s, item *it, pg_view *v)
{
    const char *name = s->w->canon[it->canon].name;
    int rc = PG_OK;
    if (pg_view_as_hf(it->n, it->n->pieces, v))
        return pg_error(s->e, PG_FAIL, "tensor '%s' has no place in safetensors", name);
    if (s->how->merge && it->replaced && !(rc = pg_merge_begin(s->how->merge, it->canon, it->layer, it->part, true, s->e)))
        s->m.merge = s->how->merge;
    if (!rc)
        rc = *it->n->hf_dims == 'V' ? emit_embedding(s, it, v) : emit(s, it, v, 0);
    s->m.merge = NULL;
    return rc;
}

static int write_item(saver *s, item *it)
{
    const pg_weights *w = s->w;
    pg_view v, stored;
    int rc;
    if (it->is_scale) /* the item before it filled them */
        return write_scales(s, it - 1, it->bytes);
    if (it->raw && !it->replaced && it->dtype == it->raw->dtype) {
        stored = pg_view_raw(it->raw);
        rc = copy_raw(s, it->raw, it->bytes);
    } else if (it->raw && !it->replaced) {
        stored = v = pg_view_raw(it->raw);
        rc = emit(s, it, &v, 0);
    } else {
        const char *name = w->canon[it->canon].name;
        if ((rc = pg_weights_view(w, name, it->layer, it->part, &v, s->e)))
            return rc;
        stored = v;
        if (it->replaced && s->how->replace) {
            /* An npz keeps k and v, gate and up, in one tensor: its replacement comes whole. */
            bool whole = !w->canon[it->canon].parts;
            const float *f = s->how->replace(s->how->ctx, name, it->layer, whole ? PG_WHOLE : it->part);
            if (f)
                v = pg_view_dense(&v, f + (whole && it->part != PG_WHOLE ? it->part * v.count : 0));
        }
        rc = emit_changed(s, it, &v);
    }
    pg_weights_forget(w, &stored);
    return rc ? pg_error_context(s->e, "tensor '%s'", it->name) : PG_OK;
}

static int header(saver *s, size_t from, size_t to)
{
    static const char *const types[] = {"F32", "F16", "BF16", "I8"};
    pg_buf b = {0};
    size_t at = 0;
    int rc = pg_buf_addf(&b, s->e, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = from; !rc && i < to; i++) {
        const item *it = &s->items[i];
        json_t *name = json_string(it->name);
        char *quoted = name ? pg_json_dumps(name, JSON_ENCODE_ANY) : NULL;
        rc = quoted ? pg_buf_addf(&b, s->e, ",%s:{\"dtype\":\"%s\",\"shape\":[", quoted, types[it->dtype]) : pg_error_nomem(s->e);
        free(quoted);
        json_decref(name);
        for (size_t k = 0; !rc && k < it->ndim; k++)
            rc = pg_buf_addf(&b, s->e, k ? ",%zu" : "%zu", it->shape[k]);
        if (!rc)
            rc = pg_buf_addf(&b, s->e, "],\"data_offsets\":[%zu,%zu]}", at, at + it->bytes);
        at += it->bytes;
    }
    if (!rc)
        rc = pg_buf_addf(&b, s->e, "}");
    while (!rc && b.len % 8)
        rc = pg_buf_add(&b, " ", 1, s->e);
    unsigned char len[8];
    pg_put(len, b.len, 8);
    if (!rc && !(rc = sink(s, len, 8, s->e)))
        rc = sink(s, b.data, b.len, s->e);
    pg_buf_free(&b);
    return rc;
}

/* ---- one file or several ---- */
static size_t shard_end(const saver *s, size_t from)
{
    size_t sum = 0, i = from, most = s->how->shard ? s->how->shard : SHARD_BYTES;
    do
        sum += s->items[i++].bytes;
    while (i < s->n && sum + s->items[i].bytes <= most);
    return i;
}

/* Under a temporary name. */
static int write_file(saver *s, const char *path, const char *set, size_t from, size_t to)
{
    s->f = &s->files[s->n_files];
    int rc = pg_outfile_open_for(s->f, path, set, s->e);
    if (rc)
        return rc;
    s->n_files++;
    rc = header(s, from, to);
    for (size_t i = from; !rc && i < to; i++)
        rc = write_item(s, &s->items[i]);
    return rc;
}

/* Files STEM-00001-of-0000N.safetensors of the set STEM.safetensors, and `map` of what is where. */
static int write_shards(saver *s, const char *path, size_t count, json_t *map)
{
    int stem = (int)(strlen(path) - strlen(".safetensors")), rc = PG_OK;
    const char *slash = strrchr(path, '/');
    size_t skip = slash ? (size_t)(slash + 1 - path) : 0, from = 0;
    for (size_t k = 1; !rc && k <= count; k++) {
        size_t to = shard_end(s, from);
        char *name = pg_format("%.*s-%05zu-of-%05zu.safetensors", stem, path, k, count);
        rc = name ? write_file(s, name, path, from, to) : pg_error_nomem(s->e);
        for (; !rc && from < to; from++)
            if (json_object_set_new(map, s->items[from].name, json_string(name + skip)))
                rc = pg_error_nomem(s->e);
        free(name);
    }
    return rc;
}

static int write_index(saver *s, const char *index, const char *set, json_t *top)
{
    char *text = pg_json_dumps(top, JSON_INDENT(1));
    s->f = &s->files[s->n_files];
    int rc = text ? pg_outfile_open_for(s->f, index, set, s->e) : pg_error_nomem(s->e);
    if (!rc) {
        s->n_files++;
        rc = sink(s, text, strlen(text), s->e);
    }
    free(text);
    return rc;
}

static int write_set(saver *s, const char *path, const char *index, size_t count, size_t total)
{
    if (pg_is_dir(path))
        return pg_error(s->e, PG_EIO, "cannot write '%s': it is a folder", path);
    if (count > SHARDS_MAX) /* all are open until the last is written */
        return pg_error(s->e, PG_ELIMIT, "cannot write '%s': it would be %zu files, and %d are the most: larger ones are wanted", path, count, SHARDS_MAX);
    json_t *map = json_object(), *top = json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    int rc = top ? write_shards(s, path, count, map) : pg_error_nomem(s->e);
    if (!rc)
        rc = write_index(s, index, path, top);
    json_decref(top);
    return rc;
}

/* Everything is written; now it appears, the weights or their index last. */
static int commit(saver *s, const char *path)
{
    int rc = PG_OK;
    for (size_t i = 0; !rc && i < PG_HF_CONFIGS; i++)
        if (s->configs[i].path)
            rc = pg_outfile_commit(&s->configs[i], s->e);
    if (!rc)
        rc = pg_remove_older_set(path, s->n_files > 1 ? s->n_files - 1 : 0, s->e);
    for (size_t i = 0; !rc && i < s->n_files; i++)
        rc = pg_outfile_commit(&s->files[i], s->e);
    return rc;
}

/* f32 where any tensor is: what is read back must not lose what was trained. */
static pg_dtype main_dtype(const saver *s, bool *int8)
{
    pg_dtype t = PG_I8;
    *int8 = false;
    for (size_t i = 0; i < s->n; i++) {
        const item *it = &s->items[i];
        bool weight = !it->is_scale && !pg_ends_with(it->name, "_scale");
        *int8 |= it->dtype == PG_I8;
        if (weight && it->dtype != PG_I8)
            t = t == PG_I8 || t == it->dtype ? it->dtype : PG_F32;
    }
    return t == PG_I8 ? PG_F32 : t;
}

static int write_all(saver *s, const char *path)
{
    size_t total = 0, shards = 0;
    bool int8, changed = s->how->convert;
    char *index = pg_format("%s.index.json", path);
    for (size_t i = 0; i < s->n; i++) {
        total += s->items[i].bytes;
        changed |= s->items[i].replaced;
    }
    for (size_t i = 0; i < s->n; i = shard_end(s, i))
        shards++;
    s->files = pg_calloc(shards + 1, sizeof *s->files); /* and the index */
    pg_dtype t = main_dtype(s, &int8);
    int rc = s->files && index ? pg_save_hf_configs(s->w, path, t, changed, int8, s->configs, s->e) : pg_error_nomem(s->e);
    if (!rc && s->how->probe) {
        free(index);
        return PG_OK;
    }
    if (!rc)
        rc = shards > 1 ? write_set(s, path, index, shards, total) : write_file(s, path, path, 0, s->n);
    if (!rc)
        rc = commit(s, path);
    free(index);
    return rc;
}

int pg_save_safetensors(const pg_weights *w, const char *path, const pg_save_how *how, const bool *replaced, pg_err *e)
{
    saver s = {.w = w, .how = how, .replaced = replaced, .e = e};
    for (size_t i = 0; i < PG_HF_CONFIGS; i++)
        s.configs[i].fd = -1;
    s.m = (pg_emit){.w = w, .buf = pg_alloc(PG_EMIT_BYTES, 1), .sink = sink, .ctx = &s};
    int rc = !s.m.buf ? pg_error_nomem(e) : w->format == PG_SAFETENSORS ? plan_safetensors(&s) : plan_npz(&s);
    if (!rc)
        rc = write_all(&s, path);
    for (size_t i = 0; i < s.n; i++) {
        free(s.items[i].name);
        free(s.items[i].scale);
    }
    for (size_t i = 0; i < PG_HF_CONFIGS; i++)
        pg_outfile_abort(&s.configs[i]);
    for (size_t i = 0; i < s.n_files; i++)
        pg_outfile_abort(&s.files[i]);
    free(s.files);
    free(s.items);
    free(s.m.buf);
    return rc;
}
