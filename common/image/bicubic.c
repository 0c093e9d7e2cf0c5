/* PIL's resize with BICUBIC, in its integer arithmetic: width first, bytes in between, weights in 1/2^22. */
#include <math.h>
#include <stdlib.h>

#include "image/internal.h"

enum { BITS = 22 };

static double cubic(double x)
{
    const double a = -0.5;
    if (x < 0) x = -x;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

int pg_taps_bicubic(pg_taps *t, size_t n_in, size_t n_out, pg_err *e)
{
    if (t->fixed && t->n_in == n_in && t->n_out == n_out) return PG_OK;
    const double scale = (double)n_in / (double)n_out, widen = scale > 1 ? scale : 1, support = 2 * widen;
    const size_t stride = (size_t)ceil(support) * 2 + 1;
    size_t cells;
    double *w = NULL;
    pg_taps_free(t);
    if (!pg_mul(n_out, stride, &cells)) return pg_error_nomem(e);
    t->first = pg_alloc(n_out, sizeof *t->first);
    t->count = pg_alloc(n_out, sizeof *t->count);
    t->fixed = pg_calloc(cells, sizeof *t->fixed);
    w = pg_alloc(stride, sizeof *w);
    if (!t->first || !t->count || !t->fixed || !w) {
        free(w);
        pg_taps_free(t);
        return pg_error_nomem(e);
    }
    for (size_t i = 0; i < n_out; i++) {
        const double c = ((double)i + 0.5) * scale;
        const double a = c - support + 0.5, b = c + support + 0.5;
        const size_t first = a > 0 ? (size_t)a : 0, end = b < (double)n_in ? (size_t)b : n_in;
        double sum = 0;
        for (size_t k = first; k < end; k++) sum += w[k - first] = cubic(((double)k - c + 0.5) * (1 / widen));
        for (size_t k = first; k < end; k++) {
            const double v = (sum != 0 ? w[k - first] / sum : w[k - first]) * (1 << BITS);
            t->fixed[i * stride + k - first] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        t->first[i] = first;
        t->count[i] = end - first;
    }
    free(w);
    t->n_in = n_in;
    t->n_out = n_out;
    t->stride = stride;
    return PG_OK;
}

static unsigned char clip(int32_t v)
{
    v >>= BITS;
    return (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* The sums fit: positive weights of this kernel add up to less than 1.3, so to less than 1.3 * 255 * 2^22 < 2^31. */
void pg_bicubic_across(const pg_taps *t, const unsigned char *row, unsigned char *out)
{
    for (size_t i = 0; i < t->n_out; i++) {
        const int32_t *w = t->fixed + i * t->stride;
        const unsigned char *p = row + t->first[i] * 3;
        int32_t r = 1 << (BITS - 1), g = r, b = r;
        for (size_t k = 0; k < t->count[i]; k++, p += 3) {
            r += w[k] * p[0];
            g += w[k] * p[1];
            b += w[k] * p[2];
        }
        out[i * 3] = clip(r);
        out[i * 3 + 1] = clip(g);
        out[i * 3 + 2] = clip(b);
    }
}

void pg_bicubic_down(const unsigned char *const *rows, const int32_t *weights, size_t taps, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        int32_t v = 1 << (BITS - 1);
        for (size_t k = 0; k < taps; k++) v += weights[k] * rows[k][i];
        out[i] = clip(v);
    }
}
