/* Products in bfloat16 with sums in float32: the loops that need dot-product instructions, and their layouts. Inside the room.
 *
 * A (activations) is rounded to bfloat16 and packed as pairs along K: panels of PG_HALF_ROWS rows, each cut into blocks of 16
 * pairs, [panel][K/32][rows][16 pairs], K filled up with zeros. B (weights, any type, any order) is packed block by block into
 * panels of 64 columns, [panel][K/2][64 pairs]; a last panel holds as many vectors of 16 as it needs. */
#ifndef PG_KERNELS_HALF_H
#define PG_KERNELS_HALF_H

#include "kernels/ops.h"

enum {
    PG_PACK_BYTES = 24 << 20, /* of A at a time: stays in the last-level cache or near it */
    PG_HALF_ROWS = 6,   /* 6 x 4 vectors of sums, 4 of B and one of A: 29 of 32 registers */
    PG_HALF_COLS = 64,
    PG_HALF_DEEP = 16384, /* of K at a time */
    PG_HALF_FEW = 48,   /* rows for which B is streamed: reading it is what takes the time */
    PG_HALF_DIRECT = 4  /* rows for which it is not packed either */
};

typedef struct pg_half_ops {
    const char *name;
    /* rows of A (element (m,k) at A[m*rs + k*cs]; rs or cs is 1), K of them, into panels at out; rows beyond n are left alone. */
    void (*pack_a)(uint32_t *out, const float *A, size_t rs, size_t cs, size_t n, size_t K);
    /* rows as plain bfloat16, [n][ld], filled with zeros up to ld. */
    void (*round)(uint16_t *out, size_t ld, const float *A, size_t lda, size_t n, size_t K);
    /* n <= 64 columns, K rows of B into one panel of (n+15)/16 vectors. trans: B is [n][ldb]. */
    void (*pack_b)(uint32_t *out, const void *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K);
    /* The same for any number of columns, row pair by row pair: B is read in the order in which it lies. Panel p at out + p*step. */
    void (*pack_wide)(uint32_t *out, size_t step, const void *B, pg_mat_type type, size_t ldb, size_t n, size_t K);
    /* C[M,n] (+)= panel of A · panel of B, M <= PG_HALF_ROWS, n <= 64, K filled up to a multiple of 2. a: at its first block.
     * With every pair of K so many lines of memory are asked for, from `ahead` on: all at once they would stall it. */
    void (*kernel)(size_t M, size_t n, size_t K, const uint32_t *a, const uint32_t *b, bool add, float *C, size_t ldc, const void *ahead,
                   size_t lines);
    /* exp(scale * s - max), at most 1, of n values as one row of a left side at out, filled with zeros up to K and whole blocks of 32; returns
     * their sum before rounding. */
    float (*exp_row)(uint32_t *out, const float *s, float scale, float max, size_t n, size_t K);
    /* Few rows, B read in place. a: rounded rows. nn: M <= PG_HALF_DIRECT, K even, B [K][ldb], n columns; next (NULL: none): where the following K x n
     * elements lie, asked for in their order while these are worked on. nt: B [n][ldb], K along its rows. */
    void (*stream_nn)(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const void *B, pg_mat_type type, size_t ldb,
                      bool add, float *C, size_t ldc, const void *next);
    void (*stream_nt)(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const void *B, pg_mat_type type, size_t ldb,
                      bool add, float *C, size_t ldc);
} pg_half_ops;

/* half.c: all of a plain f32 B [K,N] into panels, one after another ((K+1)/2 * (N filled up to 16) pairs), and products with them;
 * K of PG_HALF_DEEP at most. */
void pg_half_pack(pg_kern *k, size_t N, size_t K, const float *B, uint32_t *panels);
void pg_half_run(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, const uint32_t *panels, float beta, float *C,
                 size_t ldc);

int pg_kern_room(pg_kern *k) PG_MUST_CHECK; /* makes k->packed, PG_PACK_BYTES */

#if defined(__x86_64__)
extern const pg_half_ops pg_half_bf16;
#endif

#endif
