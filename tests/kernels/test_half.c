/* Products in bfloat16 against sums in double of the same rounded numbers: all types, orders, sizes around the edges of panels and
 * streams, B in blocks. On a CPU without the instructions the products are float32 and are held to the unrounded numbers. */
#include "check.h"

static pg_kern *half[2]; /* 1 and 3 threads */

static int open_half(void **state)
{
    (void)state;
    pg_rng_seed(&rng, 7, 0);
    for (size_t i = 0; i < 2; i++) {
        pg_err e;
        if (pg_kern_new(&half[i], i ? 21 : 1, &e) || pg_kern_use_bf16(half[i], &e)) {
            fprintf(stderr, "%s\n", e.msg);
            return -1;
        }
    }
    printf("# %s\n", pg_kern_bf16(half[0]));
    return 0;
}

static int close_half(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) pg_kern_free(half[i]);
    return 0;
}

static bool rounds(void) { return !strncmp(pg_kern_bf16(half[0]), "AVX512", 6); }

static double rounded(float f) { return (double)(rounds() ? pg_bf16_to_f32(pg_f32_to_bf16(f)) : f); }

static double element(const pg_half_mat *B, size_t k, size_t n)
{
    size_t block = 0;
    if (B->blocks > 1) {
        block = B->down ? k / B->m.rows : n / B->m.cols;
        if (B->down) k %= B->m.rows;
        else n %= B->m.cols;
    }
    size_t i = B->m.trans ? n * B->m.ld + k : k * B->m.ld + n;
    const unsigned char *p = (const unsigned char *)B->m.data + block * B->step;
    if (B->m.type == PG_MAT_F32) {
        float f;
        memcpy(&f, p + 4 * i, 4);
        return rounded(f);
    }
    uint16_t h;
    memcpy(&h, p + 2 * i, 2);
    return B->m.type == PG_MAT_BF16 ? (double)pg_bf16_to_f32(h) : rounded(pg_f16_to_f32(h));
}

typedef struct shape {
    size_t M, N, K, blocks;
    pg_mat_type type;
    bool trans, transA, down, apart, odd;
    float beta;
} shape;

static void check(const shape *s)
{
    size_t M = s->M, N = s->N, K = s->K, count = s->blocks ? s->blocks : 1;
    size_t bn = s->down ? N : N / count, bk = s->down ? K / count : K; /* of one block */
    size_t rows = s->trans ? bn : bk, cols = s->trans ? bk : bn, ld = cols + (s->odd ? 3 : 0), w = s->type == PG_MAT_F32 ? 4 : 2;
    size_t one = rows * ld, elements = (count - 1) * one + (rows - 1) * ld + cols;
    unsigned char *data = guarded(elements * w + (s->odd ? 1 : 0));
    for (size_t i = 0; i < elements; i++) {
        float f = (float)pg_rng_normal(&rng);
        uint16_t h = s->type == PG_MAT_F16 ? pg_f32_to_f16(f) : pg_f32_to_bf16(f);
        memcpy(data + i * w, s->type == PG_MAT_F32 ? (void *)&f : (void *)&h, w);
    }
    pg_half_mat B = {.m = {.data = data, .type = s->type, .trans = s->trans, .rows = bk, .cols = bn, .ld = ld},
                     .blocks = s->blocks, .step = one * w, .down = s->down};
    size_t arows = s->transA ? K : M, acols = s->transA ? M : K, lda = acols + (s->odd ? 5 : 0);
    size_t ldc = (s->apart ? bn : N) + (s->odd ? 7 : 0);
    B.c_step = s->apart ? M * ldc : 0;
    size_t room = s->apart ? count * M * ldc : (M - 1) * ldc + N;
    float *A = randoms((arows - 1) * lda + acols, 1), *start = randoms(room, 1), *before = NULL;
    float *got = pg_floats(M * N);
    double *want = pg_alloc(M * N, sizeof *want), *a = pg_alloc(M * K, sizeof *a), *b = pg_alloc(K * N, sizeof *b);
    for (size_t m = 0; m < M; m++)
        for (size_t k = 0; k < K; k++) a[m * K + k] = rounded(A[s->transA ? k * lda + m : m * lda + k]);
    for (size_t n = 0; n < N; n++)
        for (size_t k = 0; k < K; k++) b[n * K + k] = element(&B, k, n);
#define C_AT(m, n) (s->apart ? (n) / bn * B.c_step + (m) * ldc + (n) % bn : (m) * ldc + (n))
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = s->beta == 0 ? 0 : (double)start[C_AT(m, n)];
            for (size_t k = 0; k < K; k++) sum += a[m * K + k] * b[n * K + k];
            want[m * N + n] = sum;
        }
    if (s->beta == 0) start[0] = NAN; /* must not be read */
    for (size_t i = 0; i < 2; i++) {
        float *C = copy(start, room);
        if (s->blocks > 1) {
            if (!pg_gemm_half(half[i], M, N, K, A, lda, s->transA, &B, s->beta, C, ldc)) break;
        } else {
            pg_gemm(half[i], M, N, K, A, lda, s->transA, &B.m, s->beta, C, ldc);
        }
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) got[m * N + n] = C[C_AT(m, n)];
        for (size_t m = 0; m + 1 < M && !s->apart; m++)
            if (ldc > N && memcmp(C + m * ldc + N, start + m * ldc + N, (ldc - N) * sizeof *C)) fail_msg("wrote between rows");
        /* The products are exact in float32, their sums rounded: as for float32, see test_gemm.c. */
        close_to("half", half[i], got, want, M * N, 2.4e-7, (double)K);
        if (before && memcmp(before, C, room * sizeof *C)) fail_msg("depends on the number of threads");
        before = C;
        if (s->apart || s->transA) continue;
        pg_packed *p;
        pg_err e;
        assert_int_equal(pg_packed_new(&p, half[i], &B, &e), PG_OK);
        assert_non_null(p);
        C = copy(start, room);
        pg_packed_gemm(half[i], M, A, lda, p, s->beta, C, ldc);
        for (size_t m = 0; m < M; m++) memcpy(got + m * N, C + m * ldc, N * sizeof *got);
        close_to("packed", half[i], got, want, M * N, 2.4e-7, (double)K);
        pg_packed_free(p);
    }
    free(got);
    free(want);
    free(a);
    free(b);
}

static void test_shapes(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1},     {1, 70, 34},   {2, 17, 16},  {3, 1030, 10}, {8, 65, 130},  {5, 16, 257},
                                       {7, 33, 64},   {9, 31, 6},    {16, 400, 70}, {17, 64, 32}, {40, 97, 31},  {130, 50, 20},
                                       {100, 130, 40}, {4, 3, 1100}, {19, 7, 1030}, {6, 2100, 4}, {12, 64, 300}, {20, 300, 1100}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int v = 0; v < 48; v++)
            check(&(shape){.M = shapes[i][0], .N = shapes[i][1], .K = shapes[i][2], .type = (pg_mat_type)(v % 3), .trans = v / 3 % 2,
                           .transA = v / 6 % 2, .beta = v / 12 % 2 ? 1.0f : 0.0f, .odd = v / 24 % 2});
}

static void test_blocks(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 128, 64}, {9, 192, 70}, {40, 128, 96}, {3, 64, 128}};
    for (size_t i = 0; i < 4; i++)
        for (int v = 0; v < 48; v++) {
            shape s = {.M = shapes[i][0], .N = 2 * shapes[i][1], .K = shapes[i][2], .blocks = 2, .type = (pg_mat_type)(v % 3),
                       .trans = v / 3 % 2, .odd = v / 6 % 2, .beta = v / 12 % 2 ? 1.0f : 0.0f, .apart = v / 24, .transA = v / 24};
            check(&s);
            s = (shape){.M = shapes[i][0], .N = shapes[i][1], .K = 2 * 32 * (i + 1), .blocks = 2, .down = true, .type = s.type,
                        .trans = s.trans, .odd = s.odd, .beta = s.beta, .transA = s.transA};
            check(&s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_blocks)};
    return cmocka_run_group_tests_name("half", tests, open_half, close_half);
}
