/* Products with weights that lie in the file as 8-bit integers with a scale for each 256 of a row: some rows at a time are widened
 * into a buffer that stays in the caches, and the products of float32 (or bfloat16, where chosen) go on from there. The weights
 * themselves are read once, as they are. quant.c is faster, for the price of a copy in another order. */
#include <string.h>

#include "base/mem.h"
#include "kernels/ops.h"

enum { GROUP = 256, FLOATS = 1 << 19 };

int pg_kern_take_int8(pg_kern *k, pg_err *e)
{
    if (!k->wide && !(k->wide = pg_floats(FLOATS))) return pg_error_nomem(e);
    return PG_OK;
}

/* Length of a stored row: the input side of a layer. */
static size_t row_length(const pg_mat *b)
{
    return b->trans ? b->rows : b->cols;
}

static float scale_at(const pg_mat *b, size_t row, size_t group)
{
    float s;
    memcpy(&s, (const unsigned char *)b->scale + (row * pg_div_up(row_length(b), GROUP) + group) * sizeof s, sizeof s);
    return s;
}

void pg_widen_int8(const pg_mat *b, size_t row, size_t from, size_t n, float *y)
{
    const signed char *q = (const signed char *)b->data + row * b->ld + from;
    for (size_t i = 0; i < n;) {
        float s = scale_at(b, row, (from + i) / GROUP);
        size_t some = pg_min_size(n - i, GROUP - (from + i) % GROUP);
        if (some == GROUP) /* a number that the compiler knows, for vectors */
            for (size_t k = 0; k < GROUP; k++) y[i + k] = (float)q[i + k] * s;
        else
            for (size_t k = 0; k < some; k++) y[i + k] = (float)q[i + k] * s;
        i += some;
    }
}

typedef struct job {
    const pg_mat *b;
    size_t from, length;
    float *out;
} job;

static void widen_row(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    (void)thread;
    pg_widen_int8(j->b, j->from + i, 0, j->length, j->out + i * j->length);
}

void pg_gemm_int8(pg_kern *k, size_t M, size_t N, size_t K, const float *A, size_t lda, bool transA, const pg_mat *B, float beta, float *C,
                  size_t ldc)
{
    size_t length = row_length(B), rows = B->trans ? N : K, step = FLOATS / length ? FLOATS / length : 1;
    for (size_t r = 0; r < rows; r += step) {
        size_t n = pg_min_size(step, rows - r);
        job j = {B, r, length, k->wide};
        pg_mat w = {.data = k->wide, .type = PG_MAT_F32, .trans = B->trans, .rows = B->trans ? K : n, .cols = B->trans ? n : N, .ld = length};
        pg_kern_run(k, n, n * length, widen_row, &j);
        if (B->trans) /* stored rows are columns of the result */
            pg_gemm(k, M, n, K, A, lda, transA, &w, beta, C + r, ldc);
        else /* or pieces of the sum */
            pg_gemm(k, M, N, n, A + (transA ? r * lda : r), lda, transA, &w, r ? 1.0f : beta, C, ldc);
    }
}
