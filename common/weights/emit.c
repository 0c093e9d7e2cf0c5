/* Values on their way out: a view in pieces of a few MiB, in another type where asked for. */
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

static int emit_piece(const pg_view *v, pg_dtype to, void *buf, pg_sink_fn sink, void *ctx, pg_err *e)
{
    int rc = PG_OK;
    if (to == v->dtype)
        pg_view_gather(v, buf);
    else
        pg_view_widen(v, buf);
    if (to != v->dtype && to != PG_F32)
        rc = narrow(buf, v->count, to, e);
    return rc ? rc : sink(ctx, buf, v->count * pg_dtype_size(to), e);
}

int pg_emit_view(const pg_weights *w, const pg_view *v, pg_dtype to, void *buf, pg_sink_fn sink, void *ctx, pg_err *e)
{
    size_t size = to == v->dtype ? pg_dtype_size(to) : sizeof(float), own = pg_dtype_size(v->dtype), rows = v->ndim ? v->shape[0] : 1;
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
            rc = pg_emit_view(w, &s, to, buf, sink, ctx, e);
        } else {
            rc = emit_piece(&s, to, buf, sink, ctx, e);
            forget(w, &s);
        }
        if (rc)
            return rc;
    }
    return PG_OK;
}

/* ---- the mean row of a matrix ---- */
typedef struct summer {
    double *sum;
    size_t cols;
} summer;

static int add_rows(void *ctx, const void *p, size_t n, pg_err *e)
{
    (void)e;
    summer *m = ctx;
    const float *f = p;
    for (size_t i = 0; i < n / sizeof *f; i++)
        m->sum[i % m->cols] += (double)f[i];
    return PG_OK;
}

int pg_mean_row(const pg_weights *w, const pg_view *v, float *row, void *buf, pg_err *e)
{
    size_t rows = v->shape[0], cols = v->shape[1];
    summer m = {pg_calloc(cols, sizeof(double)), cols};
    int rc = m.sum ? pg_emit_view(w, v, PG_F32, buf, add_rows, &m, e) : pg_error_nomem(e);
    for (size_t i = 0; !rc && i < cols; i++)
        row[i] = (float)(m.sum[i] / (double)rows);
    free(m.sum);
    return rc;
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

int pg_emit_int8(const pg_weights *w, const pg_view *v, size_t cols, float *scale, void *buf, pg_sink_fn sink, void *ctx, pg_err *e)
{
    quantizer q = {.sink = sink, .ctx = ctx, .out = pg_alloc(PG_EMIT_BYTES / sizeof(float), 1), .scale = scale, .cols = cols};
    int rc = !q.out ? pg_error_nomem(e)
             : cols > PG_EMIT_BYTES / sizeof(float) ? pg_error(e, PG_ELIMIT, "rows of %zu values are too long for int8", cols)
                                                   : pg_emit_view(w, v, PG_F32, buf, quantize, &q, e);
    free(q.out);
    return rc;
}
