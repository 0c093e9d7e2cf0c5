/* The exact resize: tf.image.resize(bilinear, antialias) bit for bit. Each product and each sum is rounded to float on its own,
 * taps in ascending order, height before width; this file must never be built with contraction to FMA. Wider vectors are
 * safe: they change how many columns go at once, not the order within one.
 *
 *     byte rows --> ring of as many rows as one output row needs --> down (one float row) --> across --> output row
 *
 * The ring is summed in blocks of columns that stay in registers over all taps: each byte is read from cache about twice and
 * no float row is ever read back and forth. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/internal.h"

enum { BLOCK = 64 };

void pg_taps_free(pg_taps *t)
{
    free(t->first);
    free(t->count);
    free(t->weights);
    free(t->fixed);
    *t = (pg_taps){0};
}

static size_t clamp(float v, size_t max) { return v <= 0 ? 0 : v >= (float)max ? max : (size_t)v; }

int pg_taps_bilinear(pg_taps *t, size_t n_in, size_t n_out, pg_err *e)
{
    if (t->weights && t->n_in == n_in && t->n_out == n_out) return PG_OK;
    const float scale = (float)n_out / (float)n_in, inv = (float)(1.0 / (double)scale);
    const float radius = inv > 1 ? inv : 1, narrow = 1 / radius;
    size_t stride = 1, cells;
    pg_taps_free(t);
    t->first = pg_alloc(n_out, sizeof *t->first);
    t->count = pg_alloc(n_out, sizeof *t->count);
    if (!t->first || !t->count) goto nomem;
    for (size_t i = 0; i < n_out; i++) {
        const float c = ((float)i + 0.5f) * inv;
        const size_t a = clamp(ceilf(c - radius - 0.5f), n_in - 1), b = clamp(floorf(c + radius - 0.5f), n_in - 1);
        t->first[i] = a;
        t->count[i] = b < a ? 1 : b - a + 1;
        if (t->count[i] > stride) stride = t->count[i];
    }
    if (!pg_mul(n_out, stride, &cells)) goto nomem;
    t->weights = pg_calloc(cells, sizeof *t->weights);
    if (!t->weights) goto nomem;
    for (size_t i = 0; i < n_out; i++) {
        const float c = ((float)i + 0.5f) * inv;
        float *w = t->weights + i * stride, sum = 0;
        for (size_t k = 0; k < t->count[i]; k++) {
            const float v = 1 - fabsf(((float)(t->first[i] + k) + 0.5f - c) * narrow);
            w[k] = v > 0 ? v : 0;
            sum = sum + w[k];
        }
        const float one = 1 / sum;
        for (size_t k = 0; sum > 0 && k < t->count[i]; k++) w[k] = w[k] * one;
    }
    t->n_in = n_in;
    t->n_out = n_out;
    t->stride = stride;
    return PG_OK;
nomem:
    pg_taps_free(t);
    return pg_error_nomem(e);
}

/* out[i] = ((0 + w[0] rows[0][i]) + w[1] rows[1][i]) + ... for n columns, n a multiple of BLOCK. Written with the compilers'
 * vectors: left to themselves they turn the two inner loops round, and work through memory one column at a time. */
#define VECTORS(lanes)                                                                                                   \
    typedef float f##lanes __attribute__((vector_size((lanes) * 4)));                                                    \
    typedef int32_t i##lanes __attribute__((vector_size((lanes) * 4)));                                                  \
    typedef unsigned char b##lanes __attribute__((vector_size(lanes)));
#define TAP(lanes, at)                                                                                                   \
    memcpy(&bytes, p + (at) * (lanes), sizeof bytes);                                                                    \
    s##at = s##at + v * __builtin_convertvector(__builtin_convertvector(bytes, i##lanes), f##lanes);
#define DOWN(name, attributes, lanes)                                                                                    \
    attributes static void name(const unsigned char *const *rows, const float *w, size_t taps, size_t n, float *out)    \
    {                                                                                                                    \
        for (size_t i = 0; i < n; i += 8 * (lanes)) {                                                                    \
            f##lanes s0 = {0}, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;                            \
            for (size_t k = 0; k < taps; k++) {                                                                          \
                const unsigned char *p = rows[k] + i;                                                                    \
                const f##lanes zero = {0}, v = zero + w[k];                                                              \
                b##lanes bytes;                                                                                          \
                TAP(lanes, 0) TAP(lanes, 1) TAP(lanes, 2) TAP(lanes, 3)                                                  \
                TAP(lanes, 4) TAP(lanes, 5) TAP(lanes, 6) TAP(lanes, 7)                                                  \
            }                                                                                                            \
            const f##lanes all[8] = {s0, s1, s2, s3, s4, s5, s6, s7};                                                    \
            memcpy(out + i, all, sizeof all);                                                                            \
        }                                                                                                                \
    }
VECTORS(4)
VECTORS(8)
DOWN(down_plain, , 4)
#if defined(__x86_64__)
DOWN(down_avx2, __attribute__((target("avx2"))), 8)
#define HAVE_AVX2 __builtin_cpu_supports("avx2")
#else
#define down_avx2 down_plain
#define HAVE_AVX2 0
#endif

static void across(const pg_taps *t, const float *row, float *out)
{
    for (size_t i = 0; i < t->n_out; i++) {
        const float *w = t->weights + i * t->stride, *p = row + t->first[i] * 3;
        float r = 0, g = 0, b = 0;
        for (size_t k = 0; k < t->count[i]; k++, p += 3) {
            r = r + w[k] * p[0];
            g = g + w[k] * p[1];
            b = b + w[k] * p[2];
        }
        out[i * 3] = r;
        out[i * 3 + 1] = g;
        out[i * 3 + 2] = b;
    }
}

int pg_resize_begin(pg_resize *r, pg_filter filter, size_t width, size_t height, size_t ow, size_t oh, float *out, pg_err *e)
{
    const bool cubic = filter == PG_BICUBIC;
    int rc;
    if (!width || !height || !ow || !oh) return pg_error(e, PG_EINVAL, "a picture without pixels");
    if ((rc = cubic ? pg_taps_bicubic(&r->across, width, ow, e) : pg_taps_bilinear(&r->across, width, ow, e))) return rc;
    if ((rc = cubic ? pg_taps_bicubic(&r->down, height, oh, e) : pg_taps_bilinear(&r->down, height, oh, e))) return rc;
    size_t most = 1, bytes;
    for (size_t i = 0; i < oh; i++)
        if (r->down.count[i] > most) most = r->down.count[i];
    /* The bicubic mode keeps rows already resized across. */
    if (!pg_mul(cubic ? ow : width, 3, &bytes) || !pg_add(bytes, BLOCK - 1, &bytes)) return pg_error_nomem(e);
    r->ring_row = bytes / BLOCK * BLOCK;
    if (!pg_mul(r->ring_row, most, &bytes)) return pg_error_nomem(e);
    if ((rc = pg_scratch(&r->ring_store, bytes, e))) return rc;
    if (cubic && (!pg_mul(width, 3, &bytes) || (rc = pg_scratch(&r->row, bytes, e)))) return pg_error_nomem(e);
    if (r->sum_cap < r->ring_row) {
        free(r->sum);
        r->sum_cap = 0;
        if (!(r->sum = pg_floats(r->ring_row))) return pg_error_nomem(e);
        r->sum_cap = r->ring_row;
    }
    if (r->tap_cap < most) {
        const unsigned char **p = pg_realloc(r->tap_rows, most, sizeof *p);
        if (!p) return pg_error_nomem(e);
        r->tap_rows = p;
        r->tap_cap = most;
    }
    r->filter = filter;
    r->width = width;
    r->height = height;
    r->ow = ow;
    r->oh = oh;
    r->in = r->done = 0;
    r->ring_rows = most;
    r->ring = r->ring_store.data;
    /* The columns between the row's end and the block's are computed too, and never used. */
    for (size_t i = 0; i < most; i++) memset(r->ring + (i + 1) * r->ring_row - BLOCK, 0, BLOCK);
    r->out = out;
    return PG_OK;
}

unsigned char *pg_resize_where(pg_resize *r)
{
    return r->filter == PG_BICUBIC ? r->row.data : r->ring + r->in % r->ring_rows * r->ring_row;
}

void pg_resize_put(pg_resize *r)
{
    const bool cubic = r->filter == PG_BICUBIC;
    const bool avx2 = !r->plain && HAVE_AVX2;
    if (cubic) pg_bicubic_across(&r->across, r->row.data, r->ring + r->in % r->ring_rows * r->ring_row);
    r->in++;
    while (r->done < r->oh && r->down.first[r->done] + r->down.count[r->done] <= r->in) {
        const size_t first = r->down.first[r->done], taps = r->down.count[r->done];
        float *out = r->out + r->done * r->ow * 3;
        for (size_t k = 0; k < taps; k++) r->tap_rows[k] = r->ring + (first + k) % r->ring_rows * r->ring_row;
        if (cubic) {
            pg_bicubic_down(r->tap_rows, r->down.fixed + r->done * r->down.stride, taps, r->ow * 3, out);
        } else {
            const float *w = r->down.weights + r->done * r->down.stride;
            if (avx2) down_avx2(r->tap_rows, w, taps, r->ring_row, r->sum);
            else down_plain(r->tap_rows, w, taps, r->ring_row, r->sum);
            across(&r->across, r->sum, out);
        }
        r->done++;
    }
}

void pg_resize_free(pg_resize *r)
{
    pg_taps_free(&r->across);
    pg_taps_free(&r->down);
    pg_buf_free(&r->ring_store);
    pg_buf_free(&r->row);
    free(r->sum);
    free(r->tap_rows);
    *r = (pg_resize){0};
}
