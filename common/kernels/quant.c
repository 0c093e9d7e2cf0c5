/* Products in 8-bit integers: making the weights, and how the work is cut. See quant.h for the layouts. */
#include "kernels/quant.h"

#include <stdlib.h>

#include "base/mem.h"

enum {
    DEPTH = 4,             /* groups for which C stays in the first-level cache */
    TASKS = 16,
    MAKE = 8,              /* panels made together: their rows lie next to each other in most files */
    AHEAD = 2048,          /* bytes asked for ahead of few rows; with more, the hardware's own prefetching does as well */
    MIN_ROWS = 60
};

struct pg_quant {
    size_t K, N, groups, panel; /* panel: bytes */
    unsigned char *data;
};

typedef struct job {
    const pg_kern *k;
    const pg_quant_ops *ops;
    const pg_quant *q;
    const pg_half_mat *B;
    size_t M, rows, panels, across; /* of a tile: rows, panels; tiles across */
    const float *A;
    size_t lda;
    uint32_t *a;
    float *steps;
    bool add;
    float *C;
    size_t ldc;
} job;

const char *pg_kern_int8(const pg_kern *k)
{
    return k->quant ? k->quant->name : "none, float32 instead";
}

static size_t group_rows(const pg_quant *q, size_t g)
{
    return pg_min_size(PG_GROUP, q->K - g * PG_GROUP);
}

static void make_panels(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_mat *b = &j->B->m;
    for (size_t g = 0; g < j->q->groups; g++)
        for (size_t p = i * MAKE; p < (i + 1) * MAKE && p * PG_HALF_COLS < j->q->N; p++) {
            size_t n = p * PG_HALF_COLS, width = pg_min_size(PG_HALF_COLS, j->q->N - n), block = j->B->blocks > 1 ? n / b->cols : 0;
            const unsigned char *data = (const unsigned char *)b->data + block * j->B->step;
            float *wide = j->k->scratch[thread].b + PG_GROUP * PG_HALF_COLS; /* behind what pack_b uses */
            if (b->type == PG_MAT_I8) { /* the same groups: what was rounded once is found again */
                for (size_t x = 0; x < width; x++) pg_widen_int8(b, n + x, g * PG_GROUP, group_rows(j->q, g), wide + x * PG_GROUP);
                j->ops->pack_b(j->q->data + p * j->q->panel + g * PG_GROUP_BYTES, j->k->scratch[thread].b, wide, PG_MAT_F32, true, PG_GROUP, width,
                               group_rows(j->q, g));
                continue;
            }
            size_t col = n - block * b->cols, k = g * PG_GROUP, at = b->trans ? col * b->ld + k : k * b->ld + col;
            j->ops->pack_b(j->q->data + p * j->q->panel + g * PG_GROUP_BYTES, j->k->scratch[thread].b, data + at * pg_mat_bytes(b->type),
                           b->type, b->trans, b->ld, width, group_rows(j->q, g));
        }
}

int pg_quant_new(pg_quant **out, pg_kern *k, const pg_half_mat *B, pg_err *e)
{
    size_t blocks = B->blocks > 1 ? B->blocks : 1, bytes;
    *out = NULL;
    if (!k->quant || B->down || (blocks > 1 && B->m.cols % PG_HALF_COLS)) return PG_OK;
    if (pg_kern_room(k)) return pg_error_nomem(e);
    pg_quant *q = pg_calloc(1, sizeof *q);
    if (!q) return pg_error_nomem(e);
    q->K = B->m.rows;
    q->N = B->m.cols * blocks;
    q->groups = pg_div_up(q->K, PG_GROUP);
    q->panel = (q->groups - 1) * PG_GROUP_BYTES + pg_div_up(group_rows(q, q->groups - 1), 4) * 4 * PG_HALF_COLS + 8 * PG_HALF_COLS;
    if (!pg_mul(pg_div_up(q->N, PG_HALF_COLS), q->panel, &bytes) || !(q->data = (unsigned char *)pg_floats(bytes / sizeof(float)))) {
        free(q);
        return pg_error_nomem(e);
    }
    job j = {.k = k, .ops = k->quant, .q = q, .B = B};
    pg_kern_run(k, pg_div_up(q->N, MAKE * PG_HALF_COLS), bytes, make_panels, &j);
    *out = q;
    return PG_OK;
}

void pg_quant_free(pg_quant *q)
{
    if (!q) return;
    free(q->data);
    free(q);
}

size_t pg_quant_bytes(const pg_quant *q)
{
    return q ? pg_div_up(q->N, PG_HALF_COLS) * q->panel : 0;
}

/* ---- products ---- */

static void pack_rows(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t first = i * PG_HALF_ROWS, groups = j->q->groups;
    unsigned char *panel = (unsigned char *)(j->a + i * pg_div_up(j->q->K, 64) * PG_HALF_ROWS * 16);
    float *steps = j->steps + first * groups;
    for (size_t m = 0; m < PG_HALF_ROWS && first + m < j->M; m++)
        for (size_t g = 0; g < groups; g++)
            steps[g * PG_HALF_ROWS + m] = j->ops->pack_row(panel + (g * (PG_GROUP / 64) * PG_HALF_ROWS + m) * 64,
                                                           j->A + (first + m) * j->lda + g * PG_GROUP, group_rows(j->q, g)) / 127.0f;
}

static void tile(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    const pg_quant *q = j->q;
    size_t row = i / j->across * j->rows, end = pg_min_size(j->M, row + j->rows), panel_a = pg_div_up(q->K, 64) * PG_HALF_ROWS * 16;
    size_t p = i % j->across * j->panels, last = pg_min_size(p + j->panels, pg_div_up(q->N, PG_HALF_COLS));
    for (; p < last; p++)
        for (size_t g0 = 0; g0 < q->groups; g0 += DEPTH)
            for (size_t m = row; m < end; m += PG_HALF_ROWS)
                for (size_t g = g0; g < q->groups && g < g0 + DEPTH; g++) {
                    const unsigned char *b = q->data + p * q->panel + g * PG_GROUP_BYTES;
                    size_t n = p * PG_HALF_COLS, kn = group_rows(q, g);
                    j->ops->kernel(pg_min_size(PG_HALF_ROWS, end - m), pg_min_size(PG_HALF_COLS, q->N - n), kn,
                                   j->a + m / PG_HALF_ROWS * panel_a + g * (PG_GROUP / 64) * PG_HALF_ROWS * 16,
                                   j->steps + (m / PG_HALF_ROWS * q->groups + g) * PG_HALF_ROWS, b, j->add || g, j->C + m * j->ldc + n,
                                   j->ldc, j->M <= 4 ? b + AHEAD : NULL);
                }
}

void pg_quant_gemm(pg_kern *k, size_t M, const float *A, size_t lda, const pg_quant *q, float beta, float *C, size_t ldc)
{
    size_t row = pg_div_up(q->K, 64) * 64 + q->groups * sizeof(float), most = PG_PACK_BYTES / row / PG_HALF_ROWS * PG_HALF_ROWS;
    if (!M || !q->N) return;
    most = pg_div_up(pg_div_up(M, pg_div_up(M, most)), PG_HALF_ROWS) * PG_HALF_ROWS;
    for (size_t m = 0; m < M; m += most) {
        job j = {.k = k, .ops = k->quant, .q = q, .M = pg_min_size(most, M - m), .A = A + m * lda, .lda = lda, .a = k->packed,
                 .add = beta != 0, .C = C + m * ldc, .ldc = ldc};
        size_t all = pg_div_up(q->N, PG_HALF_COLS), panels_a = pg_div_up(j.M, PG_HALF_ROWS);
        j.steps = (float *)(void *)(k->packed + panels_a * PG_HALF_ROWS * pg_div_up(q->K, 64) * 16);
        pg_kern_run(k, panels_a, j.M * q->K, pack_rows, &j);
        j.panels = pg_div_up(all, pg_tiles(k, 4 * TASKS));
        j.across = pg_div_up(all, j.panels);
        j.rows = j.M;
        if (j.across < pg_tiles(k, TASKS)) {
            j.rows = pg_div_up(pg_div_up(j.M, pg_div_up(pg_tiles(k, TASKS), j.across)), PG_HALF_ROWS) * PG_HALF_ROWS;
            if (j.rows < MIN_ROWS) j.rows = MIN_ROWS;
        }
        pg_kern_run(k, j.across * pg_div_up(j.M, j.rows), (j.M + 16) * q->N * (q->K / 64 + 1), tile, &j);
    }
}
