/* Values on their way out: a view in pieces of a few MiB, in another type where asked for. Each is read once; who needs all of a
 * matrix, such as its mean row, sees it pass. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "weights/internal.h"

float pg_rounded(float f, pg_dtype t)
{
    return t == PG_F16 ? pg_f16_to_f32(pg_f32_to_f16(f)) : t == PG_BF16 ? pg_bf16_to_f32(pg_f32_to_bf16(f)) : f;
}

/* From the front, in place: what is written never reaches what is still to be read. */
static int narrow(float *p, size_t n, pg_dtype to, pg_err *e)
{
    unsigned char *out = (unsigned char *)p;
    for (size_t i = 0; i < n; i++) {
        float f = p[i];
        uint16_t h = to == PG_F16 ? pg_f32_to_f16(f) : pg_f32_to_bf16(f);
        if (isfinite(f) && !isfinite(to == PG_F16 ? pg_f16_to_f32(h) : pg_bf16_to_f32(h)))
            return pg_error(e, PG_EFORMAT, "value %g is beyond the range of %s", (double)f, pg_dtype_name(to));
        pg_put(out + 2 * i, h, 2);
    }
    return PG_OK;
}

/* A dense piece of a mapped file is not looked at again. What lies scattered is: the caller forgets that as a whole. */
static void forget(const pg_weights *w, const pg_view *v)
{
    size_t last = 0;
    for (size_t i = 0; i < v->ndim; i++)
        last += (v->shape[i] - 1) * v->stride[i];
    if (w && last + 1 == v->count)
        pg_weights_forget(w, v);
}

/* As they are stored, not int8. */
static float value(const void *buf, pg_dtype t, size_t i)
{
    const unsigned char *p = buf;
    if (t == PG_F32)
        return ((const float *)buf)[i];
    return t == PG_F16 ? pg_f16_to_f32(pg_le16(p + 2 * i)) : pg_bf16_to_f32(pg_le16(p + 2 * i));
}

static void add_columns(double *sums, size_t cols, size_t at, const void *buf, pg_dtype t, size_t n)
{
    for (size_t i = 0, col = at % cols; i < n; i++, col = col + 1 < cols ? col + 1 : 0)
        sums[col] += (double)value(buf, t, i);
}

/* Values stay as they are stored unless they change, so that even a NaN keeps its bits. */
static bool widened(const pg_emit *m, const pg_view *v, pg_dtype to)
{
    return to != v->dtype || m->merge;
}

static int emit_piece(const pg_emit *m, const pg_view *v, pg_dtype to, size_t at, pg_err *e)
{
    bool wide = widened(m, v, to);
    int rc = pg_tied_piece(m->w, v, e);
    if (rc)
        return rc;
    if (wide)
        pg_view_widen(v, m->buf);
    else
        pg_view_gather(v, m->buf);
    if (m->sums)
        add_columns(m->sums, m->cols, at, m->buf, wide ? PG_F32 : v->dtype, v->count);
    if (m->merge)
        rc = pg_merge_add(m->merge, at, m->buf, v->count, e);
    if (!rc && wide && to != PG_F32)
        rc = narrow(m->buf, v->count, to, e);
    return rc || !m->sink ? rc : m->sink(m->ctx, m->buf, v->count * pg_dtype_size(to), e);
}

/* at: values before this view, of the one that was asked for. */
static int emit(const pg_emit *m, const pg_view *v, pg_dtype to, size_t at, pg_err *e)
{
    size_t size = widened(m, v, to) ? sizeof(float) : pg_dtype_size(to), own = pg_dtype_size(v->dtype), rows = v->ndim ? v->shape[0] : 1;
    if (!v->count)
        return PG_OK;
    size_t row = v->count / rows, step = row * size < PG_EMIT_BYTES ? PG_EMIT_BYTES / (row * size) : 1;
    for (size_t i = 0; i < rows; i += step) {
        pg_view s = *v;
        size_t n = rows - i < step ? rows - i : step;
        int rc;
        if (s.ndim) {
            s.data += i * v->stride[0] * own;
            s.shape[0] = n;
        }
        s.count = row * n;
        if (n == 1 && s.ndim > 1 && row * size > PG_EMIT_BYTES) { /* one row is too much: its own rows */
            s.ndim--;
            memmove(s.shape, s.shape + 1, s.ndim * sizeof *s.shape);
            memmove(s.stride, s.stride + 1, s.ndim * sizeof *s.stride);
            rc = emit(m, &s, to, at + i * row, e);
        } else {
            rc = emit_piece(m, &s, to, at + i * row, e);
            forget(m->w, &s);
        }
        if (rc)
            return rc;
    }
    return PG_OK;
}

int pg_emit_view(const pg_emit *m, const pg_view *v, pg_dtype to, pg_err *e)
{
    return emit(m, v, to, 0, e);
}

/* ---- int8 ---- */
typedef struct quantizer {
    pg_sink_fn sink;
    void *ctx;
    int8_t *out;
    float *scale;
    size_t cols;
} quantizer;

/* Symmetric: the largest magnitude of a group becomes 127. */
static int quantize_group(int8_t *out, const float *f, size_t n, float *scale, pg_err *e)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(f[i]))
            return pg_error(e, PG_EFORMAT, "a value is not finite: it has no place in int8");
        most = fabsf(f[i]) > most ? fabsf(f[i]) : most;
    }
    *scale = most / 127.0f;
    for (size_t i = 0; i < n; i++) {
        float x = *scale > 0 ? nearbyintf(f[i] / *scale) : 0;
        out[i] = (int8_t)(x > 127 ? 127 : x < -127 ? -127 : x);
    }
    return PG_OK;
}

/* Pieces are whole rows: a row is far smaller than PG_EMIT_BYTES. */
static int quantize(void *ctx, const void *p, size_t n, pg_err *e)
{
    quantizer *q = ctx;
    const float *f = p;
    size_t values = n / sizeof *f;
    for (size_t at = 0; at < values; at += q->cols)
        for (size_t i = 0; i < q->cols; i += PG_INT8_GROUP) {
            size_t some = q->cols - i < PG_INT8_GROUP ? q->cols - i : PG_INT8_GROUP;
            int rc = quantize_group(q->out + at + i, f + at + i, some, q->scale++, e);
            if (rc)
                return rc;
        }
    return q->sink(q->ctx, q->out, values, e);
}

int pg_emit_int8(const pg_emit *m, const pg_view *v, size_t cols, float *scale, pg_err *e)
{
    quantizer q = {.sink = m->sink, .ctx = m->ctx, .out = pg_alloc(PG_EMIT_BYTES / sizeof(float), 1), .scale = scale, .cols = cols};
    pg_emit rows = *m;
    rows.sink = quantize;
    rows.ctx = &q;
    int rc = !q.out ? pg_error_nomem(e)
             : cols > PG_EMIT_BYTES / sizeof(float) ? pg_error(e, PG_ELIMIT, "rows of %zu values are too long for int8", cols)
                                                   : pg_emit_view(&rows, v, PG_F32, e);
    free(q.out);
    return rc;
}
