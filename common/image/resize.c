/* The exact resize: tf.image.resize(bilinear, antialias) bit for bit. Each product and each sum is rounded to float on its own,
 * taps in ascending order, height before width; this file must never be built with contraction to FMA. Wider vectors are
 * safe: they change how many columns go at once, not the order within one.
 *
 *     byte rows --> ring of as many rows as one output row needs --> down (one float row) --> across --> output row
 *
 * The ring is summed in blocks of columns that stay in registers over all taps: each byte is read from cache about twice and
 * no float row is ever read back and forth. */
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
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

/* out[i] = ((0 + w[0] rows[0][i]) + w[1] rows[1][i]) + ... for n columns, n a multiple of BLOCK. Written with intrinsics: compilers
 * turn the two inner loops round, or take bytes to floats one at a time. */
static void down_plain(const unsigned char *const *rows, const float *w, size_t taps, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        float s = 0;
        for (size_t k = 0; k < taps; k++) s = s + w[k] * (float)rows[k][i];
        out[i] = s;
    }
}

#if defined(__x86_64__)
#define TARGET(isa) __attribute__((target(isa)))
TARGET("avx2") static inline __m256 eight(const unsigned char *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

TARGET("avx2") static void down_avx2(const unsigned char *const *rows, const float *w, size_t taps, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        __m256 s[8];
        for (int x = 0; x < 8; x++) s[x] = _mm256_setzero_ps();
        for (size_t k = 0; k < taps; k++) {
            const unsigned char *p = rows[k] + i;
            const __m256 v = _mm256_set1_ps(w[k]);
            for (int x = 0; x < 8; x++) s[x] = _mm256_add_ps(s[x], _mm256_mul_ps(v, eight(p + 8 * x)));
        }
        for (int x = 0; x < 8; x++) _mm256_storeu_ps(out + i + 8 * x, s[x]);
    }
}

TARGET("avx512f") static inline __m512 sixteen(const unsigned char *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

TARGET("avx512f") static void down_avx512(const unsigned char *const *rows, const float *w, size_t taps, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
        for (size_t k = 0; k < taps; k++) {
            const unsigned char *p = rows[k] + i;
            const __m512 v = _mm512_set1_ps(w[k]);
            a = _mm512_add_ps(a, _mm512_mul_ps(v, sixteen(p)));
            b = _mm512_add_ps(b, _mm512_mul_ps(v, sixteen(p + 16)));
            c = _mm512_add_ps(c, _mm512_mul_ps(v, sixteen(p + 32)));
            d = _mm512_add_ps(d, _mm512_mul_ps(v, sixteen(p + 48)));
        }
        _mm512_storeu_ps(out + i, a);
        _mm512_storeu_ps(out + i + 16, b);
        _mm512_storeu_ps(out + i + 32, c);
        _mm512_storeu_ps(out + i + 48, d);
    }
}
#elif defined(__aarch64__)
static inline float32x4_t add_four(float32x4_t sum, float32x4_t w, uint16x4_t bytes)
{
    return vaddq_f32(sum, vmulq_f32(w, vcvtq_f32_u32(vmovl_u16(bytes))));
}

static void down_neon(const unsigned char *const *rows, const float *w, size_t taps, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 16) {
        float32x4_t a = vdupq_n_f32(0), b = a, c = a, d = a;
        for (size_t k = 0; k < taps; k++) {
            const uint8x16_t p = vld1q_u8(rows[k] + i);
            const uint16x8_t low = vmovl_u8(vget_low_u8(p)), high = vmovl_u8(vget_high_u8(p));
            const float32x4_t v = vdupq_n_f32(w[k]);
            a = add_four(a, v, vget_low_u16(low));
            b = add_four(b, v, vget_high_u16(low));
            c = add_four(c, v, vget_low_u16(high));
            d = add_four(d, v, vget_high_u16(high));
        }
        vst1q_f32(out + i, a);
        vst1q_f32(out + i + 4, b);
        vst1q_f32(out + i + 8, c);
        vst1q_f32(out + i + 12, d);
    }
}
#endif

typedef void down_fn(const unsigned char *const *rows, const float *w, size_t taps, size_t n, float *out);

static down_fn *choose_down(bool plain)
{
#if defined(__x86_64__)
    if (!plain && __builtin_cpu_supports("avx512f")) return down_avx512;
    if (!plain && __builtin_cpu_supports("avx2")) return down_avx2;
#elif defined(__aarch64__)
    if (!plain) return down_neon;
#endif
    (void)plain;
    return down_plain;
}

/* Red, green, blue, and one lane that is not used. */
typedef float pixel __attribute__((vector_size(16)));
enum { TOGETHER = 4 }; /* output pixels summed side by side, as each sum waits for its last addition */

static inline pixel tap(pixel sum, float w, const float *p)
{
    pixel v;
    memcpy(&v, p, sizeof v);
    return sum + w * v;
}

/* room: floats of row that may be read; more than its pixels, as the row is padded. */
static void across(const pg_taps *t, const float *row, size_t room, float *out)
{
    const size_t stride = t->stride;
    size_t i = 0;
    for (; i + TOGETHER < t->n_out && t->first[i + TOGETHER - 1] * 3 + (stride + 1) * 3 <= room; i += TOGETHER) {
        const float *w = t->weights + i * stride, *p0 = row + t->first[i] * 3, *p1 = row + t->first[i + 1] * 3;
        const float *p2 = row + t->first[i + 2] * 3, *p3 = row + t->first[i + 3] * 3;
        pixel s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
        for (size_t k = 0; k < stride; k++, w++) { /* weights beyond a pixel's own taps are 0, which changes no sum */
            s0 = tap(s0, w[0], p0 + 3 * k);
            s1 = tap(s1, w[stride], p1 + 3 * k);
            s2 = tap(s2, w[2 * stride], p2 + 3 * k);
            s3 = tap(s3, w[3 * stride], p3 + 3 * k);
        }
        memcpy(out + i * 3, &s0, sizeof s0); /* the next pixel overwrites the fourth lane */
        memcpy(out + i * 3 + 3, &s1, sizeof s1);
        memcpy(out + i * 3 + 6, &s2, sizeof s2);
        memcpy(out + i * 3 + 9, &s3, sizeof s3);
    }
    for (; i < t->n_out; i++) {
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
    down_fn *down = choose_down(r->plain);
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
            down(r->tap_rows, w, taps, r->ring_row, r->sum);
            across(&r->across, r->sum, r->ring_row, out);
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
