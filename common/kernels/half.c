/* Products in bfloat16: how they are cut. See half.h for the layouts. The cut depends on the shape alone, and each element of C is
 * summed by one task in one order, so the bits do not depend on the number of threads. */
#include "kernels/half.h"

#include <string.h>

#include "base/mem.h"

enum {
    KC = 1024, NC = 192,   /* a packed block of B, 384 KiB: half of the second-level cache */
    TASKS = 16,
    MIN_ROWS = 60,
    STREAM_COLS = 2048,    /* columns of a streaming task: a row is read in runs of 4 KiB */
    DIRECT_COLS = 8192,    /* the same where nothing is packed: longer runs are read faster */
    LEAST_COLS = 512,      /* of both, where there are many threads */
    STREAM_ROWS = 8,       /* of a block that is asked for while the one before is worked on: rows that are a multiple of 4 KiB
                            * apart share a set of the first-level cache, which holds 8 */
    PACK_ROWS = 64         /* the same where the block is packed */
};

typedef struct job {
    const pg_kern *k;
    const pg_half_ops *ops;
    const pg_half_mat *B;
    size_t M, N, K, k0;  /* this pass: rows of A, columns, rows of B from k0 on */
    size_t rows, cols, across; /* of a tile; tiles across */
    size_t parts, part;  /* streaming: pieces of K, rows of each */
    const float *A;
    size_t rs, cs;
    const uint32_t *panels; /* of B, packed before; NULL: each tile packs its own */
    uint32_t *a;
    size_t lda;          /* streaming: of rounded rows */
    float *partial;
    bool add;
    float *C;
    size_t ldc;
} job;

/* Element (k, n) of a matrix that may be in blocks. */
static const unsigned char *at(const pg_half_mat *B, size_t k, size_t n)
{
    const pg_mat *b = &B->m;
    size_t block = B->blocks < 2 ? 0 : B->down ? k / b->rows : n / b->cols;
    if (block) *(B->down ? &k : &n) -= block * (B->down ? b->rows : b->cols);
    size_t i = b->trans ? n * b->ld + k : k * b->ld + n;
    return (const unsigned char *)b->data + block * B->step + i * pg_mat_bytes(b->type);
}

static float *c_at(const job *j, size_t m, size_t n)
{
    size_t block = j->B->c_step ? n / j->B->m.cols : 0;
    return j->C + block * j->B->c_step + m * j->ldc + n - (block ? block * j->B->m.cols : 0);
}

/* ---- many rows ---- */

static void pack_task(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t m = i * j->rows, panel = pg_div_up(j->K, 32) * PG_HALF_ROWS * 16;
    j->ops->pack_a(j->a + m / PG_HALF_ROWS * panel, j->A + m * j->rs + j->k0 * j->cs, j->rs, j->cs, pg_min_size(j->rows, j->M - m), j->K);
}

/* Asks for part `i` of `n` of the block of B that comes next. */
static void ask(const job *j, size_t k, size_t kn, size_t col, size_t n, size_t i, size_t of)
{
    const pg_mat *b = &j->B->m;
    size_t runs = b->trans ? n : kn, bytes = (b->trans ? kn : n) * pg_mat_bytes(b->type);
    for (size_t r = runs * i / of; r < runs * (i + 1) / of; r++) {
        const unsigned char *p = b->trans ? at(j->B, k, col + r) : at(j->B, k + r, col);
        for (size_t x = 0; x < bytes; x += 64) __builtin_prefetch(p + x, 0, 2);
        __builtin_prefetch(p + bytes - 1, 0, 2); /* where it begins within a line it ends in one more */
    }
}

static size_t round_to(size_t n, size_t step)
{
    return pg_div_up(n, step) * step;
}

/* Row k of the panel that begins with column n, of those that were packed before. */
static const uint32_t *packed_at(const job *j, size_t k, size_t n)
{
    return j->panels + n * pg_div_up(j->K, 2) + k / 2 * round_to(pg_min_size(PG_HALF_COLS, j->N - n), 16);
}

static void tile(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    size_t row = i / j->across * j->rows, col = i % j->across * j->cols;
    size_t m_end = pg_min_size(j->M, row + j->rows), n = pg_min_size(j->cols, j->N - col);
    size_t panel = pg_div_up(j->K, 32) * PG_HALF_ROWS * 16, kc = KC;
    if (j->B->blocks > 1 && j->B->down)
        for (kc = pg_min_size(KC, j->B->m.rows); j->B->m.rows % kc;) kc -= 32;
    uint32_t *room = (uint32_t *)(void *)j->k->scratch[thread].b;
    for (size_t k = 0; k < j->K; k += kc) {
        size_t kn = pg_min_size(kc, j->K - k), kp = pg_div_up(kn, 2), panels = pg_div_up(n, PG_HALF_COLS);
        for (size_t p = 0; p < panels && !j->panels; p++)
            j->ops->pack_b(room + p * PG_HALF_COLS * kp, at(j->B, j->k0 + k, col + p * PG_HALF_COLS), j->B->m.type, j->B->m.trans,
                           j->B->m.ld, pg_min_size(PG_HALF_COLS, n - p * PG_HALF_COLS), kn);
        size_t next = !j->panels && k + kc < j->K ? pg_min_size(kc, j->K - k - kc) : 0, calls = pg_div_up(m_end - row, PG_HALF_ROWS);
        for (size_t m = row; m < m_end; m += PG_HALF_ROWS) {
            if (next) ask(j, j->k0 + k + kc, next, col, n, (m - row) / PG_HALF_ROWS, calls);
            for (size_t p = 0; p < panels; p++)
                j->ops->kernel(pg_min_size(PG_HALF_ROWS, m_end - m), pg_min_size(PG_HALF_COLS, n - p * PG_HALF_COLS), kn,
                               j->a + m / PG_HALF_ROWS * panel + k / 32 * PG_HALF_ROWS * 16,
                               j->panels ? packed_at(j, k, col + p * PG_HALF_COLS) : room + p * PG_HALF_COLS * kp,
                               j->add || k > 0, c_at(j, m, col + p * PG_HALF_COLS), j->ldc, NULL, 0);
        }
    }
}

static void many_rows(pg_kern *k, job *j)
{
    size_t all_m = j->M, all_k = j->K, deep = PG_HALF_DEEP;
    const float *A = j->A;
    float *C = j->C;
    bool add = j->add;
    if (j->B->blocks > 1 && j->B->down) deep = deep < j->B->m.rows ? j->B->m.rows : deep / j->B->m.rows * j->B->m.rows;
    for (size_t k0 = 0; k0 < all_k; k0 += deep) {
        j->k0 = k0;
        j->K = pg_min_size(deep, all_k - k0);
        size_t most = PG_PACK_BYTES / (round_to(j->K, 32) * 2) / PG_HALF_ROWS * PG_HALF_ROWS;
        most = pg_div_up(all_m, pg_div_up(all_m, most)); /* of about equal size */
        most = round_to(most, PG_HALF_ROWS);
        for (size_t m = 0; m < all_m; m += most) {
            j->M = pg_min_size(most, all_m - m);
            j->A = A + m * j->rs;
            j->C = C + m * j->ldc;
            j->add = add || k0 > 0;
            j->rows = 48; /* a multiple of PG_HALF_ROWS and of 16 */
            pg_kern_run(k, pg_div_up(j->M, j->rows), j->M * j->K * (j->rs == 1 ? 2 : 1), pack_task, j);
            size_t tiles = pg_tiles(k, TASKS);
            j->cols = NC;
            while (j->cols > PG_HALF_COLS && pg_div_up(j->N, j->cols) < tiles) j->cols -= PG_HALF_COLS;
            if (j->B->blocks > 1 && !j->B->down)
                while (j->B->m.cols % j->cols) { /* ends: pg_gemm_half takes only blocks of a multiple of PG_HALF_COLS */
                    PG_KNOWN(j->cols > PG_HALF_COLS);
                    j->cols -= PG_HALF_COLS;
                }
            j->across = pg_div_up(j->N, j->cols);
            j->rows = j->M;
            if (j->across < tiles) {
                j->rows = round_to(pg_div_up(j->M, pg_div_up(tiles, j->across)), PG_HALF_ROWS);
                if (j->rows < MIN_ROWS) j->rows = MIN_ROWS;
            }
            pg_kern_run(k, j->across * pg_div_up(j->M, j->rows), j->M * j->N * (j->K / 32 + 1), tile, j);
        }
    }
}

/* ---- few rows ---- */

/* The block that follows is asked for in the order in which it lies while this one is worked on, panel by panel. */
static void stream_packed(const job *j, size_t k, size_t end, size_t col, size_t n, bool more, float *c, size_t ldc, uint32_t *packed)
{
    const pg_mat *b = &j->B->m;
    size_t panel = j->lda * PG_HALF_ROWS / 2, step = PG_HALF_COLS * (PACK_ROWS / 2 + 1); /* not 8 KiB apart: see STREAM_ROWS */
    size_t panels = pg_div_up(n, PG_HALF_COLS), row = n * pg_mat_bytes(b->type), calls = pg_div_up(j->M, PG_HALF_ROWS);
    size_t whole = PG_HALF_COLS * pg_mat_bytes(b->type) * 2 / 64, lines = pg_div_up(whole, calls); /* of a row pair of a panel */
    for (; k < end; k += PACK_ROWS, more = true) {
        size_t kn = pg_min_size(PACK_ROWS, end - k);
        bool next = k + 2 * PACK_ROWS <= end;
        j->ops->pack_wide(packed, step, at(j->B, k, col), b->type, b->ld, n, kn);
        for (size_t p = 0; p < panels; p++)
            for (size_t i = 0; i < calls; i++) {
                size_t m = i * PG_HALF_ROWS, byte = (p * whole + i * lines) * 64 * PACK_ROWS / 2;
                bool ask = next && i * lines < whole && byte / row < PACK_ROWS;
                j->ops->kernel(pg_min_size(PG_HALF_ROWS, j->M - m), pg_min_size(PG_HALF_COLS, n - p * PG_HALF_COLS), kn,
                               j->a + i * panel + k / 2 % 16 + k / 32 * PG_HALF_ROWS * 16, packed + p * step, more,
                               c + m * ldc + p * PG_HALF_COLS, ldc,
                               ask ? at(j->B, k + PACK_ROWS + byte / row, col) + byte % row : NULL, ask ? lines : 0);
            }
    }
}

static void stream_task(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const uint16_t *a = (const uint16_t *)j->a;
    size_t part = i / j->across, col = i % j->across * j->cols, n = pg_min_size(j->cols, j->N - col);
    size_t k = part * j->part, end = pg_min_size(j->K, k + j->part);
    const pg_mat *b = &j->B->m;
    float *c = j->parts > 1 ? j->partial + part * j->M * j->N + col : j->C + col;
    size_t ldc = j->parts > 1 ? j->N : j->ldc;
    bool add = j->parts == 1 && j->add;
    if (b->trans) {
        j->ops->stream_nt(j->M, n, j->K, a, j->lda, at(j->B, 0, col), b->type, b->ld, add, c, ldc);
        return;
    }
    if (j->M > PG_HALF_DIRECT) {
        stream_packed(j, k, end, col, n, add, c, ldc, (uint32_t *)(void *)j->k->scratch[thread].b);
        return;
    }
    for (bool more = add; k < end; k += STREAM_ROWS, more = true) {
        size_t kn = pg_min_size(STREAM_ROWS, end - k);
        const unsigned char *next = k + 2 * STREAM_ROWS <= end ? at(j->B, k + STREAM_ROWS, col) : NULL;
        j->ops->stream_nn(j->M, n, kn, a + k, j->lda, at(j->B, k, col), b->type, b->ld, more, c, ldc, next);
    }
}

static void sum_parts(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t col = i * STREAM_COLS, n = pg_min_size(STREAM_COLS, j->N - col);
    for (size_t m = 0; m < j->M; m++)
        for (size_t p = 0; p < j->parts; p++) {
            const float *from = j->partial + (p * j->M + m) * j->N + col;
            float *c = j->C + m * j->ldc + col;
            if (p || j->add) j->k->ops->add(c, from, n);
            else memcpy(c, from, n * sizeof *c);
        }
}

static void few_rows(pg_kern *k, job *j)
{
    const pg_mat *b = &j->B->m;
    j->lda = round_to(j->K, 32);
    if (b->trans || j->M <= PG_HALF_DIRECT) j->ops->round((uint16_t *)(void *)j->a, j->lda, j->A, j->rs, j->M, j->K);
    else j->ops->pack_a(j->a, j->A, j->rs, 1, j->M, j->K);
    j->partial = (float *)(void *)j->a + round_to(j->M, PG_HALF_ROWS) * j->lda / 2;
    j->parts = 1;
    j->part = j->K;
    if (b->trans) {
        j->cols = round_to(pg_div_up(j->N, 4 * TASKS), 16);
    } else {
        j->cols = j->M <= PG_HALF_DIRECT ? DIRECT_COLS : STREAM_COLS;
        if (j->B->blocks > 1 && !j->B->down) j->cols = pg_min_size(j->cols, b->cols);
        size_t tiles = pg_div_up(j->N, j->cols);
        if (tiles < TASKS && j->K >= 2 * PACK_ROWS) {
            j->part = round_to(pg_div_up(j->K, pg_div_up(TASKS, tiles)), PACK_ROWS);
            j->parts = pg_div_up(j->K, j->part);
        }
        while (j->B->blocks < 2 && j->cols > LEAST_COLS && pg_div_up(j->N, j->cols) * j->parts < pg_tiles(k, 0))
            j->cols = round_to(j->cols / 2, PG_HALF_COLS);
    }
    j->across = pg_div_up(j->N, j->cols);
    pg_kern_run(k, j->across * j->parts, j->N * j->K, stream_task, j);
    if (j->parts > 1) pg_kern_run(k, pg_div_up(j->N, STREAM_COLS), j->M * j->N * j->parts, sum_parts, j);
}

static bool fits_stream(const pg_half_mat *B, size_t M, size_t K, bool transA)
{
    if (transA || M > PG_HALF_FEW || K > PG_HALF_DEEP || B->c_step) return false;
    if (B->m.trans) return B->blocks < 2;
    return K % 2 == 0 && (B->blocks < 2 || !B->down);
}

bool pg_gemm_half(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_half_mat *B, float beta,
                  float *C, size_t ldc)
{
    if (!k->half || B->m.type == PG_MAT_I8) return false;
    if (B->blocks > 1 && (B->down ? B->m.rows % 32 != 0 : B->m.cols % PG_HALF_COLS != 0)) return false;
    if (B->blocks < 2 && B->c_step) return false;
    if (!M || !N || !K) return false;
    job j = {.k = k, .ops = k->half, .B = B, .M = M, .N = N, .K = K, .A = A, .rs = transA ? 1 : lda, .cs = transA ? lda : 1,
             .a = k->packed, .add = beta != 0, .C = C, .ldc = ldc};
    if (fits_stream(B, M, K, transA)) few_rows(k, &j);
    else many_rows(k, &j);
    return true;
}

void pg_half_pack(pg_kern *k, size_t N, size_t K, const float *B, uint32_t *panels)
{
    for (size_t n = 0; n < N; n += PG_HALF_COLS)
        k->half->pack_b(panels + n * pg_div_up(K, 2), B + n, PG_MAT_F32, false, N, pg_min_size(PG_HALF_COLS, N - n), K);
}

void pg_half_run(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, const uint32_t *panels, float beta, float *C,
                 size_t ldc)
{
    static const pg_half_mat plain = {0};
    job j = {.k = k, .ops = k->half, .B = &plain, .panels = panels, .M = M, .N = N, .K = K, .A = A, .rs = lda, .cs = 1, .a = k->packed,
             .add = beta != 0, .C = C, .ldc = ldc};
    many_rows(k, &j);
}

int pg_kern_room(pg_kern *k)
{
    if (!k->packed) k->packed = (uint32_t *)(void *)pg_floats(PG_PACK_BYTES / sizeof(float));
    return k->packed ? PG_OK : PG_ENOMEM;
}

int pg_kern_use_bf16(pg_kern *k, pg_err *e)
{
    if (!k->has_bf16 || k->half) return PG_OK;
    if (pg_kern_room(k)) return pg_error_nomem(e);
#if defined(__x86_64__)
    k->half = &pg_half_bf16;
#endif
    return PG_OK;
}

bool pg_kern_uses_bf16(const pg_kern *k)
{
    return k->half != NULL;
}

const char *pg_kern_bf16(const pg_kern *k)
{
    return k->has_bf16 ? "AVX512-BF16" : "none, float32 instead";
}
