/* Products in 8-bit integers: the loops that have one version per instruction set, and their layouts. Inside the room.
 *
 * K is cut into groups of 256. B: panels of 64 columns, each its groups one after another: [K/4][64 columns][4] signed bytes (K filled
 * up to a multiple of 4 by zeros), then 64 floats (steps) and 64 int32 (where A is shifted by 128 to be unsigned, -128 times the sum of
 * the bytes). A: panels of PG_HALF_ROWS rows, [panel][K/64][rows][16 x 4] bytes, and steps [panel][group][rows]. */
#ifndef PG_KERNELS_QUANT_H
#define PG_KERNELS_QUANT_H

#include "kernels/half.h"

enum { PG_GROUP = 256, PG_GROUP_BYTES = PG_GROUP * PG_HALF_COLS + 8 * PG_HALF_COLS };

typedef struct pg_quant_ops {
    const char *name;
    /* One group of a row of A, n <= 256 floats, into its bytes: 64 in a block, blocks PG_HALF_ROWS rows apart. Returns the largest magnitude,
     * also where that is not a number: 127 steps. */
    float (*pack_row)(unsigned char *to, const float *x, size_t n);
    /* One group of one panel: n <= 64 columns, K <= 256 rows. trans: B is [n][ldb]. tile: room for 256 x 64 floats. */
    void (*pack_b)(unsigned char *out, float *tile, const void *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K);
    /* C[M,n] (+)= one group, M <= PG_HALF_ROWS. a, steps: at the group. Lines of memory are asked for from `ahead` on, as many as the
     * group has (NULL: none). */
    void (*kernel)(size_t M, size_t n, size_t K, const uint32_t *a, const float *steps, const unsigned char *b, bool add, float *C,
                   size_t ldc, const unsigned char *ahead);
} pg_quant_ops;

/* 1 / step, 0 for a group of zeros */
static inline float pg_quant_inverse(float most)
{
    return most > 0 ? 127.0f / most : 0.0f;
}

#if defined(__x86_64__)
extern const pg_quant_ops pg_quant_vnni, pg_quant_avx2;
#endif

#endif
