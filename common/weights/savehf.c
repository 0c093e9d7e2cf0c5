/* Saving safetensors: a plan of all tensors first (the header needs every offset), then their data, one or several files. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/internal.h"

enum { ROW_STEP = 64 };
static const size_t SHARD_BYTES = (size_t)5 * 1000 * 1000 * 1000;

typedef struct item {
    char *name;
    const pg_weight *raw;    /* copied as it is; NULL: from canon, layer, part */
    const pg_name *n;
    size_t canon, layer, part;
    bool replaced;
    pg_dtype dtype;
    size_t ndim, shape[PG_MAX_DIMS], bytes;
} item;

typedef struct saver {
    const pg_weights *w;
    pg_replace_fn replace;
    void *ctx;
    const bool *replaced;
    item *items;
    size_t n, cap;
    void *buf;
    pg_outfile f;
    pg_err *e;
} saver;

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

/* Stored names are kept where the source has them; the tensor behind each canonical piece is found by its address. */
static int plan_safetensors(saver *s)
{
    const pg_weights *w = s->w;
    int rc = PG_OK;
    bool embed = false;
    for (size_t i = 0; i < w->n_canon; i++)
        embed |= s->replaced[i] && !strcmp(w->canon[i].name, "llm/embedder/input_embedding");
    for (size_t t = 0; !rc && t < w->n; t++) {
        const pg_weight *x = &w->t[t].w;
        if (embed && pg_ends_with(x->name, "lm_head.weight"))
            continue;
        item it = {.raw = x, .dtype = x->dtype, .ndim = x->ndim};
        memcpy(it.shape, x->shape, sizeof it.shape);
        for (size_t i = 0; i < w->n_canon && !it.replaced; i++) {
            const pg_canonical *c = &w->canon[i];
            size_t parts = c->parts ? 2 : 1, count = (c->layers ? c->layers : 1) * parts;
            for (size_t k = 0; s->replaced[i] && k < count; k++)
                if (w->res[i].src[k] == x) {
                    it.replaced = true;
                    it.canon = i, it.layer = k / parts, it.part = c->parts ? k % parts : PG_WHOLE;
                    it.n = w->res[i].n;
                    it.dtype = PG_F32;
                }
        }
        if (!(it.name = pg_strdup(x->name)))
            return pg_error_nomem(s->e);
        rc = push(s, &it);
    }
    return rc;
}

static char *hf_name(const char *fmt, size_t layer)
{
    const char *at = strstr(fmt, "%zu");
    char *name = at ? pg_format("%.*s%zu%s", (int)(at - fmt), fmt, layer, at + 3) : pg_strdup(fmt);
    if (!name || strncmp(name, "language_model.", 15) != 0)
        return name;
    char *full = pg_format("language_model.model.%s", name + 15);
    free(name);
    return full;
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
            item it = {.n = n, .canon = i, .layer = k / parts, .part = n->pieces ? k % parts : PG_WHOLE, .replaced = s->replaced[i]};
            pg_view v;
            if ((rc = pg_weights_view(w, c->name, it.layer, it.part, &v, s->e)))
                return rc;
            it.dtype = it.replaced ? PG_F32 : v.dtype;
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
                it.shape[0] = (w->shape.vocab + 2 + ROW_STEP - 1) / ROW_STEP * ROW_STEP;
            if (!(it.name = hf_name(n->hf[n->pieces ? it.part : 0], it.layer)))
                return pg_error_nomem(s->e);
            rc = push(s, &it);
        }
    }
    return rc;
}

/* ---- data ---- */
static int sink(void *ctx, const void *p, size_t n, pg_err *e)
{
    saver *s = ctx;
    if (pg_write_full(s->f.fd, p, n))
        return pg_error_errno(e, "cannot write '%s'", s->f.path);
    return PG_OK;
}

static int zeros(saver *s, size_t n)
{
    int rc = PG_OK;
    memset(s->buf, 0, n < PG_EMIT_BYTES ? n : PG_EMIT_BYTES);
    while (!rc && n) {
        size_t some = n < PG_EMIT_BYTES ? n : PG_EMIT_BYTES;
        rc = sink(s, s->buf, some, s->e);
        n -= some;
    }
    return rc;
}

static int write_item(saver *s, const item *it)
{
    const pg_weights *w = s->w;
    pg_view v;
    int rc;
    if (it->raw && !it->replaced)
        return sink(s, it->raw->data, it->bytes, s->e);
    const char *name = w->canon[it->canon].name;
    if ((rc = pg_weights_view(w, name, it->layer, it->part, &v, s->e)))
        return rc;
    if (it->replaced) {
        /* An npz keeps k and v, gate and up, in one tensor: its replacement comes whole. */
        bool whole = !w->canon[it->canon].parts;
        const float *f = s->replace(s->ctx, name, it->layer, whole ? PG_WHOLE : it->part);
        if (f)
            v = pg_view_dense(&v, f + (whole && it->part != PG_WHOLE ? it->part * v.count : 0));
    }
    pg_view rows = v;
    if (pg_view_as_hf(it->n, it->n->pieces, &v))
        return pg_error(s->e, PG_FAIL, "tensor '%s' has no place in safetensors", name);
    if ((rc = pg_emit_view(&v, it->dtype == PG_F32 && v.dtype != PG_F32, s->buf, sink, s, s->e)))
        return rc;
    size_t left = it->bytes - v.count * pg_dtype_size(it->dtype);
    if (left && it->raw) { /* the rows that are no tokens */
        rows = (pg_view){.data = it->raw->data + v.count * pg_dtype_size(it->raw->dtype), .dtype = it->raw->dtype, .ndim = 1,
                         .shape = {left / 4}, .stride = {1}, .count = left / 4};
        return pg_emit_view(&rows, true, s->buf, sink, s, s->e);
    }
    return zeros(s, left);
}

static int header(saver *s, size_t from, size_t to)
{
    static const char *const types[] = {"F32", "F16", "BF16"};
    pg_buf b = {0};
    size_t at = 0;
    int rc = pg_buf_addf(&b, s->e, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = from; !rc && i < to; i++) {
        const item *it = &s->items[i];
        json_t *name = json_string(it->name);
        char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
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

static int write_file(saver *s, const char *path, size_t from, size_t to)
{
    int rc = pg_outfile_open(&s->f, path, s->e);
    if (rc)
        return rc;
    rc = header(s, from, to);
    for (size_t i = from; !rc && i < to; i++)
        rc = write_item(s, &s->items[i]);
    if (!rc)
        rc = pg_outfile_commit(&s->f, s->e);
    pg_outfile_abort(&s->f);
    return rc;
}

static int write_text(saver *s, const char *path, const void *p, size_t n)
{
    int rc = pg_outfile_open(&s->f, path, s->e);
    if (rc)
        return rc;
    rc = sink(s, p, n, s->e);
    if (!rc)
        rc = pg_outfile_commit(&s->f, s->e);
    pg_outfile_abort(&s->f);
    return rc;
}

/* ---- several files ---- */
static size_t shard_end(const saver *s, size_t from)
{
    size_t sum = 0, i = from;
    do
        sum += s->items[i++].bytes;
    while (i < s->n && sum + s->items[i].bytes <= SHARD_BYTES);
    return i;
}

static int write_shards(saver *s, const char *path, size_t count, size_t total)
{
    int stem = (int)(strlen(path) - strlen(".safetensors")), rc = PG_OK;
    const char *slash = strrchr(path, '/');
    size_t skip = slash ? (size_t)(slash + 1 - path) : 0, from = 0;
    char *text = NULL, *index = pg_format("%s.index.json", path);
    json_t *map = json_object(), *top = json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    if (!top || !index)
        rc = pg_error_nomem(s->e);
    for (size_t k = 1; !rc && k <= count; k++) {
        size_t to = shard_end(s, from);
        char *name = pg_format("%.*s-%05zu-of-%05zu.safetensors", stem, path, k, count);
        rc = name ? write_file(s, name, from, to) : pg_error_nomem(s->e);
        for (; !rc && from < to; from++)
            if (json_object_set_new(map, s->items[from].name, json_string(name + skip)))
                rc = pg_error_nomem(s->e);
        free(name);
    }
    if (!rc)
        rc = (text = json_dumps(top, JSON_INDENT(1))) ? write_text(s, index, text, strlen(text)) : pg_error_nomem(s->e);
    json_decref(top);
    free(text);
    free(index);
    return rc;
}

/* ---- config.json ---- */
static int make_config(saver *s, const char *path)
{
    const pg_model_shape *m = &s->w->shape;
    json_int_t rows = (json_int_t)((m->vocab + 2 + ROW_STEP - 1) / ROW_STEP * ROW_STEP);
#define I(x) ((json_int_t)(x))
    json_t *j = json_pack(
        "{s:[s],s:i,s:i,s:i,s:I,s:i,s:I,s:I,s:s,s:I,s:I,s:{s:I,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s},s:{s:I,s:I,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:b}}",
        "architectures", "PaliGemmaForConditionalGeneration", "bos_token_id", 2, "eos_token_id", 1, "pad_token_id", 0, "hidden_size", I(m->width),
        "ignore_index", -100, "image_token_index", I(m->vocab), "_vocab_size", I(m->vocab), "model_type", "paligemma", "projection_dim", I(m->width),
        "vocab_size", rows, "text_config", "hidden_size", I(m->width), "intermediate_size", I(m->mlp), "model_type",
        m->family == 2 ? "gemma2" : "gemma", "num_attention_heads", I(m->heads), "num_hidden_layers", I(m->depth), "head_dim", I(m->head_dim),
        "num_key_value_heads", I(m->kv_heads), "num_image_tokens", I(m->n_image), "vocab_size", rows, "hidden_activation", "gelu_pytorch_tanh",
        "vision_config", "hidden_size", I(m->vit_width), "intermediate_size", I(m->vit_mlp), "image_size", I(m->image_size), "model_type",
        "siglip_vision_model", "num_attention_heads", I(m->vit_heads), "num_hidden_layers", I(m->vit_depth), "num_image_tokens", I(m->n_image),
        "patch_size", I(m->patch), "projection_dim", I(m->width), "vision_use_head", 0);
    json_t *text = json_object_get(j, "text_config");
    int bad = !j;
    if (j && m->family == 2) {
        /* The 27B decoder alone scales by width / heads; head size otherwise. */
        size_t scale = m->width == 4608 && m->head_dim == 128 ? m->width / m->heads : m->head_dim;
        bad |= json_object_set_new(text, "attn_logit_softcapping", json_real(50.0)) | json_object_set_new(text, "final_logit_softcapping", json_real(30.0)) |
               json_object_set_new(text, "query_pre_attn_scalar", json_integer(I(scale))) | json_object_set_new(text, "sliding_window", json_integer(4096));
    }
    char *out = bad ? NULL : json_dumps(j, JSON_INDENT(1));
    int rc = out ? write_text(s, path, out, strlen(out)) : pg_error_nomem(s->e);
    free(out);
    json_decref(j);
    return rc;
#undef I
}

static int config(saver *s, const char *path)
{
    char *dir = pg_path_dir(path), *to = dir ? pg_path_join(dir, "config.json") : NULL, *from = pg_path_join(s->w->dir, "config.json");
    pg_buf b = {0};
    int rc = PG_OK;
    if (!to || !from)
        rc = pg_error_nomem(s->e);
    else if (s->w->format == PG_SAFETENSORS && pg_is_file(from))
        rc = pg_file_read(from, 1 << 20, &b, s->e) ? s->e ? s->e->code : PG_FAIL : write_text(s, to, b.data, b.len);
    else
        rc = make_config(s, to);
    pg_buf_free(&b);
    free(from);
    free(to);
    free(dir);
    return rc;
}

int pg_save_safetensors(const pg_weights *w, const char *path, pg_replace_fn replace, void *ctx, const bool *replaced, pg_err *e)
{
    pg_err own = {0};
    saver s = {.w = w, .replace = replace, .ctx = ctx, .replaced = replaced, .f = {.fd = -1}, .e = e ? e : &own};
    size_t total = 0, shards = 0;
    int rc = PG_OK;
    if (!(s.buf = pg_alloc(PG_EMIT_BYTES, 1)))
        rc = pg_error_nomem(s.e);
    else
        rc = w->format == PG_SAFETENSORS ? plan_safetensors(&s) : plan_npz(&s);
    for (size_t i = 0; !rc && i < s.n; i++)
        total += s.items[i].bytes;
    for (size_t i = 0; !rc && i < s.n; i = shard_end(&s, i))
        shards++;
    /* The configuration first: weights that appear are complete then. */
    if (!rc && !(rc = config(&s, path)))
        rc = shards > 1 ? write_shards(&s, path, shards, total) : write_file(&s, path, 0, s.n);
    for (size_t i = 0; i < s.n; i++)
        free(s.items[i].name);
    free(s.items);
    free(s.buf);
    return rc;
}
