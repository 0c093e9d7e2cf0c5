/* The loops that have one version per instruction set. All work on one row or one run of elements, in one thread, at any
 * alignment and length; drivers (norm.c, gemm.c, attention.c, ...) cut the work into such pieces. scalar.c defines what each
 * computes; vec.h holds the vector version, built by ops_avx2.c, ops_avx512.c and ops_neon.c. */
#ifndef PG_KERNELS_OPS_H
#define PG_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { PG_SMALL_M = 8 }; /* rows that the streaming products take */

typedef struct pg_ops {
    const char *name;

    double (*sum)(const float *x, size_t n);
    double (*sum_squares)(const float *x, float mean, size_t n); /* of x - mean */
    float (*dot)(const float *x, const float *y, size_t n);
    float (*max)(const float *x, size_t n); /* -inf for n = 0 */
    bool (*all_finite)(const float *x, size_t n);
    void (*scale)(float *x, float a, size_t n);
    void (*axpy)(float *y, float a, const float *x, size_t n);
    void (*add)(float *y, const float *x, size_t n);
    void (*widen)(float *y, const void *x, pg_mat_type type, size_t n);

    /* y = (x - mean) * rstd * (plus + scale) + bias; bias may be NULL */
    void (*norm)(float *y, const float *x, float mean, float rstd, float plus, const float *scale, const float *bias, size_t n);
    /* g = dy * (plus + scale), h = (x - mean) * rstd: sums of g and of g h */
    void (*norm_sums)(const float *dy, const float *x, float mean, float rstd, float plus, const float *scale, size_t n,
                      double *g, double *gh);
    /* dx += rstd * (g - a - h b) */
    void (*norm_back)(float *dx, const float *dy, const float *x, float mean, float rstd, float plus, const float *scale, float a,
                      float b, size_t n);
    /* Columns: ds[j] += sum over r of dy[r,j] (x[r,j] - mean[r]) rstd[r], db[j] += sum of dy[r,j]; mean, ds or db may be NULL */
    void (*norm_cols)(float *ds, float *db, const float *dy, const float *x, const float *mean, const float *rstd, size_t rows,
                      size_t ld, size_t n);

    void (*gelu)(float *y, const float *x, const float *up, size_t n); /* gelu(x) * up; up NULL: 1 */
    void (*gelu_back)(float *dx, float *dup, const float *dy, const float *x, const float *up, size_t n); /* up, dup NULL: 1 */
    void (*rope)(float *x, const float *c, const float *s, size_t half, float scale, float sign);

    /* Attention rows. logit: s = cap(scale * s), returns the largest. */
    float (*logit)(float *s, float scale, float cap, size_t n);
    double (*exp_sum)(float *y, const float *x, float max, size_t n); /* y = exp(x - max), y may be NULL; returns the sum */
    /* s: q·k in, probability out; dp: dout·v in, gradient of q·k out */
    void (*attn_back)(float *s, float *dp, float scale, float cap, float lse, float delta, size_t n);

    void (*sgd)(float *w, const float *g, float lr, size_t n);
    void (*adamw)(float *w, float *mu, float *nu, const float *g, const pg_adamw_args *a, size_t n);

    /* C[M,n] (+)= A[M,K] · B, M <= PG_SMALL_M. nn: B [K, ldb] at its columns 0..n-1; nt: B [n, ldb], rows of K. B in any type. */
    void (*gemm_nn)(size_t M, size_t n, size_t K, const float *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool add,
                    float *C, size_t ldc);
    void (*gemm_nt)(size_t M, size_t n, size_t K, const float *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool add,
                    float *C, size_t ldc);

    /* y[c*ldy + r] = x[r*ldx + c], x of rows x cols. */
    void (*turn)(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols);

    /* C[M,n] (+)= A[M,K] · P. A's strides are in elements. P: a packed panel of n <= panel_cols columns, each row of K padded with
     * zeros to a multiple of lanes. */
    size_t lanes, panel_cols;
    void (*panel)(size_t M, size_t n, size_t K, const float *A, size_t rsa, size_t csa, const float *P, bool add, float *C, size_t ldc);
} pg_ops;

extern const pg_ops pg_ops_scalar;
void pg_turn(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols); /* pg_ops_scalar's, where a vector version has none */
#if defined(__x86_64__)
extern const pg_ops pg_ops_avx2, pg_ops_avx512;
#elif defined(__aarch64__)
extern const pg_ops pg_ops_neon;
#endif

enum {
    PG_TILE_K = 1024, /* a widened tile of B: 1.5 MB, which stays in the second-level cache or near it */
    PG_TILE_N = 384,  /* a multiple of BLIS's 12 and 16 columns */
    PG_PANEL_FLOATS = 1 << 19,
    PG_ATTN_ROWS = 384,      /* of a block of attention, at most */
    PG_ATTN_BACK_ROWS = 96,  /* the same backward */
    PG_ATTN_BACK_KEYS = 64,  /* of a task of keys */
    PG_ATTN_SCORES = 96 * 128, /* that are held at a time */
    PG_ATTN_KEYS = 256
};

typedef struct pg_scratch {
    float *b;         /* [PG_TILE_K, PG_TILE_N] */
    float *s, *ds;    /* [PG_ATTN_SCORES] */
} pg_scratch;

struct pg_half_ops;
struct pg_quant_ops;
struct pg_kern {
    pg_pool *pool;
    const pg_ops *ops;
    size_t threads;
    pg_scratch *scratch; /* [threads] */
    float *panels;       /* [PG_PANEL_FLOATS], shared: B of one product, packed */
    float *memory;
    char blas[96];
    bool has_bf16;
    const struct pg_quant_ops *quant; /* products in 8-bit integers; NULL: the CPU has no instructions for them */
    const struct pg_half_ops *half; /* products in bfloat16; NULL: in float32 */
    uint32_t *packed;               /* their left side */
    float *wide;                    /* widened rows of int8 weights; NULL: there are none */
};

/* Runs fn over n pieces; in this thread where the work (about one per element and operation) is too little to share. */
void pg_kern_run(pg_kern *k, size_t n, size_t work, void (*fn)(void *ctx, size_t i, size_t thread), void *ctx);

/* panel.c: products small enough that B, packed once, stays in the caches; pg_gemm chooses. panels: K times N, filled up to whole
 * vectors, floats. */
bool pg_panel_fits(const pg_kern *k, size_t M, size_t N, size_t K);
void pg_panel_pack(pg_kern *k, size_t N, size_t K, const pg_mat *B, float *panels);
void pg_panel_run(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const float *panels, float beta, float *C,
                  size_t ldc);
void pg_panel_gemm(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta,
                   float *C, size_t ldc);

/* Of any size. false: nothing done, as B is transposed or there are few rows. */
bool pg_panel_blocks(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta,
                     float *C, size_t ldc);

/* int8.c */
void pg_gemm_int8(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta, float *C,
                  size_t ldc);

/* blas.c: the only file that sees BLIS. C = A·B + beta C in this thread; strides (row, column) in elements. */
void pg_blas_init(char *name, size_t len);
void pg_blas_gemm(size_t M, size_t N, size_t K, const float *A, size_t rsa, size_t csa, const float *B, size_t rsb, size_t csb,
                  float beta, float *C, size_t ldc);

static inline size_t pg_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline size_t pg_div_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}
/* Tiles to cut a product into, at least. How a result is cut changes none of its bits, how K is cut would. */
static inline size_t pg_tiles(const pg_kern *k, size_t least)
{
    return 2 * k->threads > least ? 2 * k->threads : least;
}
static inline size_t pg_mat_bytes(pg_mat_type t)
{
    return t == PG_MAT_F32 ? 4 : t == PG_MAT_I8 ? 1 : 2;
}

#endif
