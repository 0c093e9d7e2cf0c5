/* Matrix products. The result is cut into tiles whose size depends on the shape alone; each is one task, computed by BLIS from
 * pieces of B that are widened (or, where they are not aligned as floats, copied) into the thread's scratch. Products of few rows
 * are limited by reading B and go through loops of our own that read it once. */
#include "kernels/ops.h"

enum {
    NN_COLS = 512,       /* columns of a streaming task: rows of B are read in runs of at least 1 KiB */
    NN_WIDE = 1024,      /* the same where there are many */
    NT_ELEMENTS = 65536, /* about so many elements of B in a streaming task of dot products */
    TASKS = 8,           /* tiles wanted, so that a few threads end together */
    MIN_ROWS = 96,       /* of a tile: fewer and packing B costs as much as the product */
    MIN_COLS = 96,
    DIRECT = 1 << 20,    /* elements of B */
    SMALL = 3 << 20      /* multiplications that a call of BLIS is not worth: decoding with the small model */
};

typedef struct job {
    const pg_kern *k;
    size_t M, N, K, lda, ldc, rows, cols, across; /* tile and tiles across */
    const float *A;
    bool transA, direct;
    const pg_mat *B;
    float beta;
    float *C;
} job;

static const void *at(const pg_mat *b, size_t row, size_t col)
{
    size_t i = b->trans ? col * b->ld + row : row * b->ld + col;
    return (const unsigned char *)b->data + i * pg_mat_bytes(b->type);
}

static void few_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t col = i * j->cols, n = pg_min_size(j->cols, j->N - col);
    for (size_t m = 0; m < j->M; m += PG_SMALL_M)
        (j->B->trans ? j->k->ops->gemm_nt : j->k->ops->gemm_nn)(pg_min_size(PG_SMALL_M, j->M - m), n, j->K, j->A + m * j->lda, j->lda,
                                                                at(j->B, 0, col), j->B->type, j->B->ld, j->beta != 0,
                                                                j->C + m * j->ldc + col, j->ldc);
}

static void tile(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_mat *b = j->B;
    size_t row = i / j->across * j->rows, col = i % j->across * j->cols;
    size_t m = pg_min_size(j->rows, j->M - row), n = pg_min_size(j->cols, j->N - col);
    size_t rsa = j->transA ? 1 : j->lda, csa = j->transA ? j->lda : 1;
    float *c = j->C + row * j->ldc + col;
    if (j->direct) {
        pg_blas_gemm(m, n, j->K, j->A + row * rsa, rsa, csa, at(b, 0, col), b->trans ? 1 : b->ld, b->trans ? b->ld : 1, j->beta, c,
                     j->ldc);
        return;
    }
    float *wide = j->k->scratch[thread].b;
    for (size_t k = 0; k < j->K; k += PG_TILE_K) {
        size_t kn = pg_min_size(PG_TILE_K, j->K - k);
        if (b->trans)
            for (size_t x = 0; x < n; x++) j->k->ops->widen(wide + x * kn, at(b, k, col + x), b->type, kn);
        else
            for (size_t x = 0; x < kn; x++) j->k->ops->widen(wide + x * n, at(b, k + x, col), b->type, n);
        pg_blas_gemm(m, n, kn, j->A + row * rsa + k * csa, rsa, csa, wide, b->trans ? 1 : n, b->trans ? kn : 1, k ? 1 : j->beta, c,
                     j->ldc);
    }
}

void pg_gemm(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta,
             float *C, size_t ldc)
{
    job j = {.k = k, .M = M, .N = N, .K = K, .A = A, .lda = lda, .transA = transA, .B = B, .beta = beta, .C = C, .ldc = ldc};
    if (!M || !N) return;
    if (B->type == PG_MAT_I8) {
        pg_gemm_int8(k, M, N, K, A, lda, transA, B, beta, C, ldc);
        return;
    }
    if (pg_gemm_half(k, M, N, K, A, lda, transA, &(pg_half_mat){.m = *B}, beta, C, ldc)) return;
    if (!K) {
        for (size_t m = 0; m < M && beta == 0; m++)
            for (size_t n = 0; n < N; n++) C[m * ldc + n] = 0;
        return;
    }
    if (!transA && (M <= PG_SMALL_M || (!B->trans && M <= 64 && M * N * K <= SMALL && N * K <= DIRECT / 4))) {
        j.cols = B->trans ? NT_ELEMENTS / K : N >= TASKS * NN_WIDE ? NN_WIDE : NN_COLS;
        if (j.cols < 16) j.cols = 16;
        pg_kern_run(k, pg_div_up(N, j.cols), (M + 3) * N * (K / 8 + 1), few_rows, &j);
        return;
    }
    if (pg_panel_fits(k, M, N, K)) {
        pg_panel_gemm(k, M, N, K, A, lda, transA, B, beta, C, ldc);
        return;
    }
    if (pg_panel_blocks(k, M, N, K, A, lda, transA, B, beta, C, ldc)) return;
    /* Even floats are copied where B is large: BLIS, packing it itself, misses the TLB at every row (295 against 360 GFLOP/s). */
    j.direct = B->type == PG_MAT_F32 && (uintptr_t)B->data % sizeof(float) == 0 && K * N <= DIRECT;
    /* Wide results are cut by columns, so that B is widened once; then tall ones by rows, until there are enough tiles. */
    j.cols = PG_TILE_N;
    j.across = pg_div_up(N, j.cols);
    j.rows = M;
    if (j.across > 4 && j.across < 4 * TASKS) { /* of equal width, so that two threads end together */
        j.across = pg_div_up(j.across, TASKS) * TASKS;
        j.cols = (pg_div_up(N, j.across) + 15) / 16 * 16;
        j.across = pg_div_up(N, j.cols);
    }
    if (j.across < TASKS) {
        size_t down = pg_div_up(TASKS, j.across);
        j.rows = (pg_div_up(M, down) + 31) / 32 * 32;
        if (j.rows < MIN_ROWS) j.rows = MIN_ROWS;
        if (M <= j.rows && N > MIN_COLS && j.across < 2) j.cols = (pg_div_up(N, 4) + 47) / 48 * 48;
        j.across = pg_div_up(N, j.cols);
    }
    pg_kern_run(k, j.across * pg_div_up(M, j.rows), M * N * (K / 16 + 1), tile, &j);
}
