/* Weights packed once: panels as panel.c or half.c make them for one product, kept for all. */
#include <stdlib.h>

#include "base/mem.h"
#include "kernels/half.h"

struct pg_packed {
    size_t K, N;
    float *panels;
    uint32_t *halves; /* instead, where products are in bfloat16 */
};

/* All blocks of B as one f32 matrix [K,N]; column: room for the rows of a block. */
static void join(const pg_kern *k, const pg_half_mat *B, size_t blocks, size_t N, float *out, float *column)
{
    const pg_mat *b = &B->m;
    size_t bytes = pg_mat_bytes(b->type);
    for (size_t i = 0; i < blocks; i++) {
        const unsigned char *from = (const unsigned char *)b->data + i * B->step;
        float *to = out + i * (B->down ? b->rows * N : b->cols);
        for (size_t r = 0; !b->trans && r < b->rows; r++)
            k->ops->widen(to + r * N, from + r * b->ld * bytes, b->type, b->cols);
        for (size_t c = 0; b->trans && c < b->cols; c++) {
            k->ops->widen(column, from + c * b->ld * bytes, b->type, b->rows);
            for (size_t r = 0; r < b->rows; r++)
                to[r * N + c] = column[r];
        }
    }
}

int pg_packed_new(pg_packed **out, pg_kern *k, const pg_half_mat *B, pg_err *e)
{
    size_t blocks = B->blocks ? B->blocks : 1, K = B->m.rows * (B->down ? blocks : 1), N = B->m.cols * (B->down ? 1 : blocks);
    float *plain, *column;
    pg_packed *p;
    *out = NULL;
    if (B->m.type == PG_MAT_I8 || !K || !N || K > PG_HALF_DEEP)
        return PG_OK;
    size_t room, wide = pg_div_up(N, 16) * 16; /* lanes are 16 at most */
    if (!pg_mul(k->half ? pg_div_up(K, 2) : K, wide, &room))
        return pg_error_nomem(e);
    p = pg_calloc(1, sizeof *p);
    plain = pg_floats(K * N);
    column = pg_floats(B->m.rows);
    float *panels = pg_floats(room);
    if (p && plain && column && panels) {
        *p = (pg_packed){.K = K, .N = N};
        join(k, B, blocks, N, plain, column);
        if (k->half)
            pg_half_pack(k, N, K, plain, p->halves = (uint32_t *)(void *)panels);
        else
            pg_panel_pack(k, N, K, &(pg_mat){.data = plain, .type = PG_MAT_F32, .rows = K, .cols = N, .ld = N}, p->panels = panels);
    }
    free(plain);
    free(column);
    if (!p || !(p->panels || p->halves)) {
        free(panels);
        free(p);
        return pg_error_nomem(e);
    }
    *out = p;
    return PG_OK;
}

void pg_packed_free(pg_packed *p)
{
    if (!p)
        return;
    free(p->panels);
    free(p->halves);
    free(p);
}

void pg_packed_gemm(pg_kern *k, size_t M, const float *A, size_t lda, const pg_packed *p, float beta, float *C, size_t ldc)
{
    if (p->halves)
        pg_half_run(k, M, p->N, p->K, A, lda, p->halves, beta, C, ldc);
    else
        pg_panel_run(k, M, p->N, p->K, A, lda, false, p->panels, beta, C, ldc);
}
