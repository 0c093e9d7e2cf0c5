/* Arithmetic on f32 rows. Every function has a scalar definition (scalar.c) and faster versions, of which the CPU chooses at run time;
 * PG_CPU_DISABLE=avx512,avx2,neon in the environment switches them off. Results do not depend on the number of threads: what one
 * output element is made of, and in which order, is fixed. All matrices row-major; ld = elements between rows.
 * Backward functions *add* into gradients of parameters and *overwrite* gradients of activations unless said otherwise. */
#ifndef PG_KERNELS_KERNELS_H
#define PG_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/thread.h"

typedef struct pg_kern pg_kern; /* threads, dispatch table, per-thread scratch (allocated on creation) */
int pg_kern_new(pg_kern **k, size_t threads, pg_err *e) PG_MUST_CHECK; /* 0: pg_cpus(). Forces BLIS's architecture if it does not know the CPU */
void pg_kern_free(pg_kern *k);
size_t pg_kern_threads(const pg_kern *k);
pg_pool *pg_kern_pool(pg_kern *k);
const char *pg_kern_isa(const pg_kern *k);  /* "avx512", "avx2", "scalar" */
const char *pg_kern_blas(const pg_kern *k); /* "BLIS 0.9.0, skx (forced)" */

typedef enum { PG_MAT_F32, PG_MAT_F16, PG_MAT_BF16, PG_MAT_I8 } pg_mat_type; /* values equal pg_dtype's */

/* A matrix [rows, cols] that may be half precision, unaligned, and stored transposed:
 * element (r,c) is at r*ld + c, or at c*ld + r where trans. */
typedef struct pg_mat {
    const void *data;
    pg_mat_type type;
    bool trans;
    size_t rows, cols, ld;
    const void *scale; /* PG_MAT_I8: f32 [stored rows][ceil(ld / 256)], any alignment; a stored row is a whole one, ld long */
} pg_mat;

/* C[M,N] = A[M,K] · B[K,N] + beta·C, beta 0 or 1 (0 never reads C). A f32; transA: A is stored [K,M] with lda.
 * Through BLIS, B widened tile by tile; few rows (M <= 8 or so) through own streaming kernels that read B once. */
void pg_gemm(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta,
             float *C, size_t ldc);

/* Before the first product with PG_MAT_I8: takes the memory it needs. */
int pg_kern_take_int8(pg_kern *k, pg_err *e) PG_MUST_CHECK;
/* y = n values of a stored row of a PG_MAT_I8. */
void pg_widen_int8(const pg_mat *b, size_t row, size_t from, size_t n, float *y);

/* From now on products are of bfloat16: A (and B, where it is of another type) is rounded to nearest even, sums are kept in
 * float32. Where the CPU has no instructions for it nothing changes: products stay in float32. */
int pg_kern_use_bf16(pg_kern *k, pg_err *e) PG_MUST_CHECK;
bool pg_kern_uses_bf16(const pg_kern *k);
const char *pg_kern_bf16(const pg_kern *k); /* "AVX512-BF16", or "none, float32 instead" */

/* B in `blocks` matrices like m, `step` bytes apart: beside each other, or below each other where down. c_step: elements between the
 * parts of C that belong to blocks beside each other; 0: C is one matrix. */
typedef struct pg_half_mat {
    pg_mat m;
    size_t blocks, step;
    bool down;
    size_t c_step;
} pg_half_mat;
/* As pg_gemm. false: nothing done, as products are in float32 or the shape does not suit; use pg_gemm block by block. */
bool pg_gemm_half(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_half_mat *B, float beta,
                  float *C, size_t ldc);

/* Weights as 8-bit integers with a step for each column and 256 rows; A is treated the same way, row by row, as it comes. */
typedef struct pg_quant pg_quant;
/* *q NULL with PG_OK: the CPU has no instructions for it, or the shape does not suit (blocks below each other, or not of whole panels
 * of 64 columns); use the other products. Costs about K*N bytes. */
int pg_quant_new(pg_quant **q, pg_kern *k, const pg_half_mat *B, pg_err *e) PG_MUST_CHECK;
void pg_quant_free(pg_quant *q);
size_t pg_quant_bytes(const pg_quant *q);
const char *pg_kern_int8(const pg_kern *k); /* "AVX512-VNNI", "AVX2", or "none, float32 instead" */
/* C[M,N] = A[M,K] · B + beta C. */
void pg_quant_gemm(pg_kern *k, size_t M, const float *A, size_t lda, const pg_quant *q, float beta, float *C, size_t ldc);

/* Weights of a small model, packed once as products want them (bfloat16 where products are of it): 4 or 2 bytes an element beside the
 * weights themselves. They are not seen to change afterwards. Other than with pg_gemm, the bits of a row of C never depend on M. */
typedef struct pg_packed pg_packed;
/* *p NULL with PG_OK: B is of 8-bit integers, or has more than 16384 rows; use the other products. */
int pg_packed_new(pg_packed **p, pg_kern *k, const pg_half_mat *B, pg_err *e) PG_MUST_CHECK;
void pg_packed_free(pg_packed *p);
/* C[M,N] = A[M,K] · B + beta C, C one matrix however many blocks B has. */
void pg_packed_gemm(pg_kern *k, size_t M, const float *A, size_t lda, const pg_packed *p, float beta, float *C, size_t ldc);

/* y = (x - mean) * rstd * scale + bias, eps 1e-6, over D; mean, rstd [R] saved (may be NULL in forward). */
void pg_layer_norm(pg_kern *k, float *y, float *mean, float *rstd, const float *x, const float *scale, const float *bias, size_t R, size_t D);
/* dx [R,D] is added to; dscale, dbias [D] added to (NULL: not wanted). */
void pg_layer_norm_back(pg_kern *k, float *dx, float *dscale, float *dbias, const float *dy, const float *x, const float *mean,
                        const float *rstd, const float *scale, size_t R, size_t D);
/* y = x * rstd * (1 + scale), rstd = 1/sqrt(mean(x^2) + 1e-6). */
void pg_rms_norm(pg_kern *k, float *y, float *rstd, const float *x, const float *scale, size_t R, size_t D);
void pg_rms_norm_back(pg_kern *k, float *dx /* added to */, float *dscale, const float *dy, const float *x, const float *rstd,
                      const float *scale, size_t R, size_t D);

/* tanh form: 0.5 x (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3))). In place allowed (y == x). */
void pg_gelu(pg_kern *k, float *y, const float *x, size_t n);
void pg_gelu_back(pg_kern *k, float *dx, const float *dy, const float *x, size_t n); /* dx may be dy */
void pg_geglu(pg_kern *k, float *y, const float *gate, const float *up, size_t n); /* y = gelu(gate) * up */
void pg_geglu_back(pg_kern *k, float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n);

void pg_add_bias(pg_kern *k, float *x, const float *bias, size_t R, size_t D);              /* x += bias */
void pg_add_bias_back(pg_kern *k, float *dbias /* added to */, const float *dx, size_t R, size_t D);
void pg_axpy(pg_kern *k, float *y, float a, const float *x, size_t n);                      /* y += a x */

/* x [R, heads, H] with row stride ldx; pairs are the two halves of H; cos, sin [positions, H/2]; pos [R]. Then x *= scale.
 * inverse: rotates back (the backward). */
void pg_rope_table(float *cosines, float *sines, size_t positions, size_t H); /* angles in double, base 10000 */
void pg_rope(pg_kern *k, float *x, size_t ldx, const uint32_t *pos, const float *cosines, const float *sines, size_t R,
             size_t heads, size_t H, float scale, bool inverse);

enum { PG_MOST_HEAD_DIM = 512 }; /* what is packed of a block fits a thread's scratch; Gemma has 256 */

/* Attention of some query rows of one sequence over its keys. Query row i sees keys 0..lim[i]-1 (lim >= 1), which is all that
 * the prefix-LM mask needs. Head h of `heads` uses key head h / (heads / kv_heads). logits = q·k (q is already scaled by the
 * caller, or by `scale`), softcap c > 0: c*tanh(x/c); softmax in f32. */
typedef struct pg_attn {
    size_t n;                 /* query rows */
    const float *q;           /* [n, heads, H], row stride ldq */
    const float *k, *v;       /* [keys, kv_heads, H], row stride ldk */
    const uint32_t *lim;      /* [n]; NULL: all rows see n_keys */
    size_t n_keys;
    const float *k2, *v2;     /* where k2: keys `split`, split+1, ... lie here from row 0 on; k and v hold those before (forward only) */
    size_t split;
    float *out;               /* [n, heads, H], row stride ldo */
    float *lse;               /* [heads, n] log of the softmax's denominator, for backward; NULL: not wanted */
    /* backward only; strides as their counterparts; overwritten, except dk, dv which are added to */
    const float *dout;
    float *dq, *dk, *dv;
} pg_attn;
typedef struct pg_attn_dims {
    size_t heads, kv_heads, head_dim, ldq, ldk, ldo;
    float scale, softcap;
} pg_attn_dims;
void pg_attention(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d); /* threads over sequences and heads */
void pg_attention_back(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d);

/* Rows of logits [R,V] (row stride V). log-softmax of the target; in place, if grad: logits become weight[r]*(softmax - onehot).
 * target -1: row ignored (logp 0, gradient 0). logp [R] in double inside, float out. */
void pg_xent(pg_kern *k, float *logits, const int32_t *target, const float *weight, float *logp, size_t R, size_t V, bool grad);
/* The largest of each row (the first on a tie) and its log-probability. softcap 0: none. */
void pg_argmax(pg_kern *k, int32_t *token, float *logp, const float *logits, size_t R, size_t V);

void pg_widen(pg_kern *k, float *y, const void *x, pg_mat_type type, size_t n); /* exact; x at any alignment */
double pg_sum_squares(pg_kern *k, const float *x, size_t n); /* fixed order, in double */
bool pg_all_finite(pg_kern *k, const float *x, size_t n);

/* Optimizer updates, in place. */
void pg_sgd(pg_kern *k, float *w, const float *g, float lr, size_t n); /* w -= lr g */
/* mu = b1 mu + (1-b1) g; nu = b2 nu + (1-b2) g^2; w -= schedule*(lr * (mu/c1)/(sqrt(nu/c2)+eps) + wd*w); g is first
 * multiplied by gscale (clipping). c1 = 1-b1^t, c2 = 1-b2^t given by the caller. */
typedef struct pg_adamw_args {
    float lr, schedule, wd, b1, b2, eps, c1, c2, gscale;
} pg_adamw_args;
void pg_adamw(pg_kern *k, float *w, float *mu, float *nu, const float *g, const pg_adamw_args *a, size_t n);

#endif
