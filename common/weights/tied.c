/* The output matrix, where a safetensors file stores it beside the embedding: the two are one, so both must hold the same bits. They are
 * compared as values are read, not when a file is opened, since they may be half of its bytes. */
#include <string.h>

#include "weights/internal.h"

static const char *const heads[PG_HEADS] = {"language_model.lm_head.weight", "lm_head.weight"};

bool pg_is_head(const char *plain)
{
    for (size_t i = 0; i < PG_HEADS; i++) {
        size_t n = strlen(heads[i]);
        if (!strncmp(plain, heads[i], n) && (!plain[n] || !strcmp(plain + n, "_scale")))
            return true;
    }
    return false;
}

static int untied(const pg_weights *w, const pg_weight *head, pg_err *e)
{
    return pg_error(e, PG_EFORMAT, "'%s': tensor '%s' differs from the embedding: untied weights are not supported", w->path, head->name);
}

int pg_tied_find(pg_weights *w, pg_err *e)
{
    w->embed = pg_weights_find(w, "language_model.embed_tokens.weight");
    for (size_t i = 0; w->embed && i < PG_HEADS; i++) {
        const pg_weight *m = w->embed, *h = pg_weights_find(w, heads[i]);
        if (h && (h->dtype != m->dtype || h->ndim != m->ndim || memcmp(h->shape, m->shape, sizeof h->shape) != 0))
            return untied(w, h, e);
        w->heads[i] = h;
    }
    return PG_OK;
}

static bool equal_scales(const pg_weight *a, const pg_weight *b)
{
    return !a->scale || !memcmp(a->scale, b->scale, a->shape[0] * pg_int8_groups(a->shape[1]) * sizeof(float));
}

int pg_tied_piece(const pg_weights *w, const pg_view *v, pg_err *e)
{
    for (size_t i = 0; w && v->from && v->from == w->embed && i < PG_HEADS; i++) {
        const pg_weight *h = w->heads[i];
        pg_view other = *v;
        size_t at = (size_t)(v->data - w->embed->data);
        if (!h)
            continue;
        other.data = h->data + at;
        if (memcmp(v->data, other.data, v->count * pg_dtype_size(v->dtype)) != 0 || (!at && !equal_scales(w->embed, h)))
            return untied(w, h, e);
        pg_weights_forget(w, &other);
    }
    return PG_OK;
}

int pg_weights_tied(const pg_weights *w, pg_err *e)
{
    size_t bytes = w->heads[0] || w->heads[1] ? w->embed->count * pg_dtype_size(w->embed->dtype) : 0;
    int rc = PG_OK;
    for (size_t at = 0; !rc && at < bytes; at += PG_EMIT_BYTES) {
        size_t n = bytes - at < PG_EMIT_BYTES ? bytes - at : PG_EMIT_BYTES;
        rc = pg_tied_piece(w, &(pg_view){.data = w->embed->data + at, .dtype = PG_I8, .ndim = 1, .shape = {n}, .stride = {1}, .count = n, .from = w->embed}, e);
    }
    return rc;
}
