/* Strided views of stored tensors, and the copies made from them. */
#include <string.h>

#include "base/num.h"
#include "weights/internal.h"

size_t pg_dtype_size(pg_dtype t)
{
    return t == PG_F32 ? 4 : t == PG_I8 ? 1 : 2;
}

size_t pg_int8_groups(size_t cols)
{
    return (cols + PG_INT8_GROUP - 1) / PG_INT8_GROUP;
}

const char *pg_dtype_name(pg_dtype t)
{
    static const char *const names[] = {"f32", "f16", "bf16", "int8"};
    return names[t];
}

static void dense_strides(pg_view *v)
{
    size_t s = 1;
    for (size_t i = v->ndim; i-- > 0; s *= v->shape[i])
        v->stride[i] = s;
    v->count = s;
}

pg_view pg_view_dense(const pg_view *like, const float *data)
{
    pg_view v = *like;
    v.data = (const unsigned char *)data;
    v.dtype = PG_F32;
    v.from = NULL;
    dense_strides(&v);
    return v;
}

static void drop_axis(pg_view *v)
{
    v->count = v->shape[0] ? v->count / v->shape[0] : 0;
    memmove(v->shape, v->shape + 1, (v->ndim - 1) * sizeof *v->shape);
    memmove(v->stride, v->stride + 1, (v->ndim - 1) * sizeof *v->stride);
    v->ndim--;
}

int pg_view_as_hf(const pg_name *n, bool part, pg_view *v)
{
    pg_view out = *v;
    const char *dims = n->dims + (part && n->pieces);
    size_t k = 0;
    bool used[PG_MAX_DIMS] = {false};
    for (const char *h = n->hf_dims; *h; h++) {
        if (*h == ',')
            continue;
        size_t i = 0;
        while (dims[i] && (dims[i] != *h || used[i]))
            i++;
        if (!dims[i])
            return PG_EINVAL;
        used[i] = true;
        out.shape[k] = v->shape[i];
        out.stride[k++] = v->stride[i];
    }
    out.ndim = k;
    *v = out;
    return PG_OK;
}

/* Strides of a tensor stored in safetensors order, laid out for the canonical order. */
static void hf_strides(const pg_resolved *r, pg_view *v)
{
    const char *dims = r->n->dims + r->n->pieces, *h = r->n->hf_dims;
    size_t s = 1;
    bool used[PG_MAX_DIMS] = {false};
    for (size_t k = strlen(h); k-- > 0;) {
        if (h[k] == ',')
            continue;
        for (size_t i = v->ndim; i-- > 0;)
            if (dims[i] == h[k] && !used[i]) {
                used[i] = true;
                v->stride[i] = s;
                s *= v->shape[i];
                break;
            }
    }
    for (size_t i = 0; i < v->ndim; i++)
        if (dims[i] == '1')
            v->stride[i] = v->count;
}

int pg_weights_view(const pg_weights *w, const char *canonical, size_t layer, size_t part, pg_view *v, pg_err *e)
{
    if (w->why.code)
        return pg_error(e, w->why.code, "%s", w->why.msg);
    size_t i = 0;
    while (i < w->n_canon && strcmp(w->canon[i].name, canonical) != 0)
        i++;
    if (i == w->n_canon)
        return pg_error(e, PG_EINVAL, "'%s' has no tensor '%s'", w->path, canonical);
    const pg_canonical *c = &w->canon[i];
    const pg_resolved *r = &w->res[i];
    size_t parts = c->parts ? c->parts : 1;
    if (layer >= (c->layers ? c->layers : 1))
        return pg_error(e, PG_EINVAL, "'%s': tensor '%s' has no layer %zu", w->path, canonical, layer);
    if (part == PG_WHOLE ? c->parts != 0 : !r->n->pieces || part >= 2)
        return pg_error(e, PG_EINVAL, "'%s': tensor '%s': part %zd of %zu", w->path, canonical, (ssize_t)part, c->parts);
    const pg_weight *src = r->src[r->stacked ? 0 : layer * parts + (c->parts ? part : 0)];
    *v = (pg_view){.dtype = src->dtype, .ndim = c->ndim, .from = src};
    memcpy(v->shape, c->shape, c->ndim * sizeof *c->shape);
    dense_strides(v);
    size_t at = r->first * (v->count / 2); /* in a joint qkv_einsum, k and v come after q, and are as large */
    if (r->stacked)
        at += layer * r->layer_elements;
    if (part != PG_WHOLE) {
        if (!c->parts)
            at += part * v->stride[0];
        drop_axis(v);
    }
    if (w->format == PG_SAFETENSORS)
        hf_strides(r, v);
    v->data = src->data + at * pg_dtype_size(src->dtype);
    return PG_OK;
}

/* ---- copies ---- */
static void copy_run(unsigned char *out, const unsigned char *in, size_t size, size_t rows, size_t cols, size_t sr, size_t sc)
{
    enum { TILE = 32 };
    if (sc == 1) {
        for (size_t r = 0; r < rows; r++)
            memcpy(out + r * cols * size, in + r * sr * size, cols * size);
        return;
    }
    for (size_t r0 = 0; r0 < rows; r0 += TILE)
        for (size_t c0 = 0; c0 < cols; c0 += TILE)
            for (size_t r = r0; r < rows && r < r0 + TILE; r++)
                for (size_t c = c0; c < cols && c < c0 + TILE; c++) {
                    const unsigned char *s = in + (r * sr + c * sc) * size;
                    unsigned char *d = out + (r * cols + c) * size;
                    if (size == 4)
                        memcpy(d, s, 4);
                    else if (size == 2)
                        memcpy(d, s, 2);
                    else
                        *d = *s;
                }
}

static unsigned char *gather(const pg_view *v, size_t axis, const unsigned char *in, unsigned char *out, size_t size)
{
    size_t left = v->ndim - axis;
    if (left > 2) {
        for (size_t i = 0; i < v->shape[axis]; i++)
            out = gather(v, axis + 1, in + i * v->stride[axis] * size, out, size);
        return out;
    }
    size_t rows = left == 2 ? v->shape[axis] : 1, cols = left ? v->shape[v->ndim - 1] : 1;
    copy_run(out, in, size, rows, cols, left == 2 ? v->stride[axis] : 0, left ? v->stride[v->ndim - 1] : 1);
    return out + rows * cols * size;
}

void pg_view_gather(const pg_view *v, void *out)
{
    if (v->count)
        gather(v, 0, v->data, out, pg_dtype_size(v->dtype));
}

/* From the back, so that halves gathered into the same memory are read before they are overwritten. */
static void widen_in_place(float *out, size_t n, pg_dtype t)
{
    const unsigned char *h = (const unsigned char *)out;
    if (t == PG_F32)
        return;
    for (size_t i = n; i-- > 0;) {
        uint16_t u = pg_le16(h + 2 * i);
        out[i] = t == PG_F16 ? pg_f16_to_f32(u) : pg_bf16_to_f32(u);
    }
}

/* int8: where an element lies in the stored matrix says which scale is its own. */
static float *widen_int8(const pg_view *v, size_t axis, size_t at, float *out)
{
    const pg_weight *w = v->from;
    if (axis == v->ndim) {
        size_t cols = w->shape[1];
        float scale;
        memcpy(&scale, w->scale + (at / cols * pg_int8_groups(cols) + at % cols / PG_INT8_GROUP) * sizeof scale, sizeof scale);
        *out = (float)(int8_t)w->data[at] * scale;
        return out + 1;
    }
    for (size_t i = 0; i < v->shape[axis]; i++)
        out = widen_int8(v, axis + 1, at + i * v->stride[axis], out);
    return out;
}

void pg_view_widen(const pg_view *v, float *out)
{
    if (v->dtype == PG_I8) {
        if (v->count)
            widen_int8(v, 0, (size_t)(v->data - v->from->data), out);
        return;
    }
    pg_view_gather(v, out);
    widen_in_place(out, v->count, v->dtype);
}

pg_view pg_view_raw(const pg_weight *w)
{
    pg_view v = {.data = w->data, .dtype = w->dtype, .ndim = w->ndim, .from = w};
    memcpy(v.shape, w->shape, sizeof v.shape);
    dense_strides(&v);
    return v;
}
