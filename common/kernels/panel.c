/* Products from panels of a few vectors of columns. Where B fits the second-level cache it is packed once, then tiles of C are computed
 * from it; of a larger B each task packs the block that it works on, widening it as it does so. A call of BLIS costs about 5 us, packs what was packed before, and its kernels for small matrices read beyond the end
 * of their operands (0.9, zen3), which may be the end of a mapped file. */
#include "kernels/ops.h"

enum {
    ROWS = 48,         /* of a tile: a multiple of the rows that a kernel takes */
    LEAST_ROWS = 9,    /* fewer stream B as it lies */
    LEAST_BLOCK_ROWS = 48,
    DEPTH = 256,       /* rows of a panel that are gone through at a time: those of A stay in the first-level cache */
    TILES = 8,         /* wanted, so that a few threads end together */
    PIECE = 128,       /* rows of K that one packing task takes */
    BLOCK_K = 512,     /* of a large B: 384 KiB at 192 columns */
    BLOCK_N = 192,
    BLOCKS = 16        /* wanted */
};

typedef struct job {
    const pg_kern *k;
    size_t M, N, K, lda, ldc, width, pieces, across, group; /* width: of a panel; group: panels of a tile; across: tiles across */
    size_t rows, cols; /* of a tile of a large B */
    const float *A;
    bool transA;
    const pg_mat *B;
    float *room;         /* to pack into */
    const float *panels; /* [panels][K][width], the last one only as wide as it must be */
    float beta;
    float *C;
} job;

static size_t padded(const job *j, size_t n)
{
    size_t l = j->k->ops->lanes;
    return (n + l - 1) / l * l;
}

bool pg_panel_fits(const pg_kern *k, size_t M, size_t N, size_t K)
{
    size_t l = k->ops->lanes;
    return M >= LEAST_ROWS && K <= PG_PANEL_FLOATS && (N + l - 1) / l * l <= PG_PANEL_FLOATS / K;
}

/* Task i packs some rows of one panel. */
static void pack(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    const pg_ops *ops = j->k->ops;
    const pg_mat *b = j->B;
    size_t col = i / j->pieces * j->width, from = i % j->pieces * PIECE, bytes = pg_mat_bytes(b->type);
    size_t n = pg_min_size(j->width, j->N - col), rows = pg_min_size(PIECE, j->K - from), w = padded(j, n);
    float *out = j->room + col * j->K + from * w, column[PIECE];
    if (!b->trans) {
        for (size_t k = 0; k < rows; k++, out += w) {
            ops->widen(out, (const unsigned char *)b->data + ((from + k) * b->ld + col) * bytes, b->type, n);
            for (size_t x = n; x < w; x++) out[x] = 0;
        }
        return;
    }
    for (size_t x = 0; x < w; x++) {
        if (x < n) ops->widen(column, (const unsigned char *)b->data + ((col + x) * b->ld + from) * bytes, b->type, rows);
        for (size_t k = 0; k < rows; k++) out[k * w + x] = x < n ? column[k] : 0;
    }
}

static void tile(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t row = i / j->across * ROWS, m = pg_min_size(ROWS, j->M - row);
    size_t first = i % j->across * j->group * j->width, end = pg_min_size(j->N, first + j->group * j->width);
    size_t rsa = j->transA ? 1 : j->lda, csa = j->transA ? j->lda : 1;
    for (size_t k = 0; k < j->K; k += DEPTH) {
        size_t kn = pg_min_size(DEPTH, j->K - k);
        for (size_t col = first; col < end; col += j->width) {
            size_t n = pg_min_size(j->width, j->N - col);
            j->k->ops->panel(m, n, kn, j->A + row * rsa + k * csa, rsa, csa, j->panels + col * j->K + k * padded(j, n),
                             k || j->beta != 0, j->C + row * j->ldc + col, j->ldc);
        }
    }
}

void pg_panel_pack(pg_kern *k, size_t N, size_t K, const pg_mat *B, float *panels)
{
    job j = {.k = k, .N = N, .K = K, .B = B, .room = panels, .width = k->ops->panel_cols, .pieces = pg_div_up(K, PIECE)};
    pg_kern_run(k, pg_div_up(N, j.width) * j.pieces, N * K * (B->trans ? 4 : 1), pack, &j);
}

void pg_panel_run(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const float *panels, float beta, float *C,
                  size_t ldc)
{
    job j = {.k = k, .M = M, .N = N, .K = K, .A = A, .lda = lda, .transA = transA, .panels = panels, .beta = beta, .C = C, .ldc = ldc,
             .width = k->ops->panel_cols};
    size_t across = pg_div_up(N, j.width), down = pg_div_up(M, ROWS), wanted = pg_div_up(pg_tiles(k, TILES), down);
    j.group = wanted >= across ? 1 : across / wanted;
    j.across = pg_div_up(across, j.group);
    pg_kern_run(k, down * j.across, M * N * (K / 16 + 1), tile, &j);
}

void pg_panel_gemm(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta,
                   float *C, size_t ldc)
{
    pg_panel_pack(k, N, K, B, k->panels);
    pg_panel_run(k, M, N, K, A, lda, transA, k->panels, beta, C, ldc);
}

/* ---- a large B ---- */

/* Rows k.. and columns col.. of B into panels at out. */
static void pack_block(const job *j, size_t k, size_t kn, size_t col, size_t n, float *out)
{
    const pg_mat *b = j->B;
    size_t bytes = pg_mat_bytes(b->type);
    for (size_t x = 0; x < n; x += j->width) {
        size_t take = pg_min_size(j->width, n - x), w = padded(j, take);
        const unsigned char *from = (const unsigned char *)b->data + (k * b->ld + col + x) * bytes;
        for (size_t i = 0; i < kn; i++, out += w) {
            j->k->ops->widen(out, from + i * b->ld * bytes, b->type, take);
            for (size_t z = take; z < w; z++) out[z] = 0;
        }
    }
}

static void block_tile(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    size_t row = i / j->across * j->rows, end = pg_min_size(j->M, row + j->rows);
    size_t col = i % j->across * j->cols, n = pg_min_size(j->cols, j->N - col);
    size_t rsa = j->transA ? 1 : j->lda, csa = j->transA ? j->lda : 1;
    float *panels = j->k->scratch[thread].b;
    for (size_t k = 0; k < j->K; k += BLOCK_K) {
        size_t kn = pg_min_size(BLOCK_K, j->K - k);
        pack_block(j, k, kn, col, n, panels);
        for (size_t m = row; m < end; m += ROWS)
            for (size_t x = 0; x < n; x += j->width)
                for (size_t d = 0; d < kn; d += DEPTH) {
                    size_t take = pg_min_size(j->width, n - x);
                    j->k->ops->panel(pg_min_size(ROWS, end - m), take, pg_min_size(DEPTH, kn - d), j->A + m * rsa + (k + d) * csa, rsa, csa,
                                     panels + x * kn + d * padded(j, take), k || d || j->beta != 0, j->C + m * j->ldc + col + x, j->ldc);
                }
    }
}

bool pg_panel_blocks(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta,
                     float *C, size_t ldc)
{
    if (B->trans || M < LEAST_BLOCK_ROWS) return false;
    job j = {.k = k, .M = M, .N = N, .K = K, .A = A, .lda = lda, .transA = transA, .B = B, .beta = beta, .C = C, .ldc = ldc,
             .width = k->ops->panel_cols, .cols = BLOCK_N, .rows = M};
    size_t tiles = pg_tiles(k, BLOCKS);
    while (j.cols > j.width && pg_div_up(N, j.cols) < tiles) j.cols -= j.width;
    j.across = pg_div_up(N, j.cols);
    if (j.across < tiles) {
        j.rows = pg_div_up(pg_div_up(M, pg_div_up(tiles, j.across)), ROWS) * ROWS;
        if (j.rows < LEAST_BLOCK_ROWS) j.rows = LEAST_BLOCK_ROWS;
    }
    pg_kern_run(k, j.across * pg_div_up(M, j.rows), M * N * (K / 16 + 1), block_tile, &j);
    return true;
}
