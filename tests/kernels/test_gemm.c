/* Products against sums in double: all types, orders, betas, alignments, sizes around the edges of the tiles. */
#include "check.h"

static float value(const pg_mat *b, size_t r, size_t c)
{
    size_t i = b->trans ? c * b->ld + r : r * b->ld + c;
    const unsigned char *p = b->data;
    if (b->type == PG_MAT_F32) {
        float f;
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    uint16_t h;
    memcpy(&h, p + 2 * i, 2);
    return b->type == PG_MAT_F16 ? pg_f16_to_f32(h) : pg_bf16_to_f32(h);
}

/* The same product with B packed before, held to the same sums. */
static void check_packed(size_t i, size_t M, const float *A, size_t lda, const pg_mat *B, float beta, const float *start, size_t ldc,
                         float *got, const double *want)
{
    size_t N = B->cols, K = B->rows;
    pg_packed *p;
    pg_err e;
    assert_int_equal(pg_packed_new(&p, kerns[i], &(pg_half_mat){.m = *B}, &e), PG_OK);
    assert_non_null(p);
    float *C = copy(start, (M - 1) * ldc + N);
    pg_packed_gemm(kerns[i], M, A, lda, p, beta, C, ldc);
    for (size_t m = 0; m < M; m++) memcpy(got + m * N, C + m * ldc, N * sizeof *got);
    for (size_t m = 0; m + 1 < M; m++)
        if (ldc > N && memcmp(C + m * ldc + N, start + m * ldc + N, (ldc - N) * sizeof *C)) fail_msg("packed: wrote between rows");
    close_to("packed", kerns[i], got, want, M * N, 2.4e-7, (double)K);
    pg_packed_free(p);
}

static void check_shape(size_t M, size_t N, size_t K, pg_mat_type type, bool trans, bool transA, float beta, bool odd)
{
    size_t rows = trans ? N : K, cols = trans ? K : N, ld = cols + (odd ? 3 : 0), size = type == PG_MAT_F32 ? 4 : 2;
    size_t elements = (rows - 1) * ld + cols;
    unsigned char *data = guarded(elements * size + (odd ? 1 : 0)); /* odd: not even aligned to 2 */
    for (size_t i = 0; i < elements; i++) {
        float f = (float)pg_rng_normal(&rng);
        uint16_t h = type == PG_MAT_F16 ? pg_f32_to_f16(f) : pg_f32_to_bf16(f);
        memcpy(data + i * size, type == PG_MAT_F32 ? (void *)&f : (void *)&h, size);
    }
    pg_mat B = {.data = data, .type = type, .trans = trans, .rows = K, .cols = N, .ld = ld};
    size_t arows = transA ? K : M, acols = transA ? M : K, lda = acols + (odd ? 5 : 0), ldc = N + (odd ? 7 : 0);
    float *A = randoms((arows - 1) * lda + acols, 1), *start = randoms((M - 1) * ldc + N, 1);
    double *want = pg_alloc(M * N, sizeof *want);
    float *got = pg_floats(M * N), *before = pg_floats(M * N);
    if (beta == 0) start[0] = NAN; /* must not be read */
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double s = beta == 0 ? 0 : (double)start[m * ldc + n];
            for (size_t k = 0; k < K; k++) s += (double)A[transA ? k * lda + m : m * lda + k] * (double)value(&B, k, n);
            want[m * N + n] = s;
        }
    for (size_t i = 0; i < KERNS; i++) {
        float *C = copy(start, (M - 1) * ldc + N);
        pg_gemm(kerns[i], M, N, K, A, lda, transA, &B, beta, C, ldc);
        for (size_t m = 0; m < M; m++) memcpy(got + m * N, C + m * ldc, N * sizeof *got);
        for (size_t m = 0; m + 1 < M; m++)
            if (ldc > N && memcmp(C + m * ldc + N, start + m * ldc + N, (ldc - N) * sizeof *C)) fail_msg("wrote between rows");
        /* K partial sums of order sqrt(K), each rounded: sqrt(K) sqrt(K) 6e-8 is usual, four times that the worst of many */
        close_to("gemm", kerns[i], got, want, M * N, 2.4e-7, (double)K);
        same_bits("gemm", i, got, before, M * N);
        memcpy(before, got, M * N * sizeof *got);
        if (!transA) check_packed(i, M, A, lda, &B, beta, start, ldc, got, want);
    }
    free(want);
    free(got);
    free(before);
}

static void test_gemm(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1},    {1, 70, 33},  {2, 17, 16},  {3, 1030, 9}, {8, 65, 130}, {5, 16, 257},  {7, 33, 64},
                                       {9, 31, 5},   {9, 400, 70}, {33, 64, 32}, {40, 97, 31}, {130, 50, 20}, {200, 130, 40}, {4, 3, 1100},
                                       {10, 7, 1030}, {6, 600, 3}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int v = 0; v < 48; v++)
            check_shape(shapes[s][0], shapes[s][1], shapes[s][2], (pg_mat_type)(v % 3), v / 3 % 2, v / 6 % 2, v / 12 % 2 ? 1.0f : 0.0f,
                        v / 24 % 2);
}

/* More of B than is packed at once. */
static void test_large(void **state)
{
    (void)state;
    for (int v = 0; v < 8; v++)
        check_shape(50, 600, 900, (pg_mat_type)(v % 3), v >= 6, v == 3 || v == 4 || v == 7, v % 2 ? 1.0f : 0.0f, v % 4 == 1);
}

static void test_empty(void **state)
{
    (void)state;
    float c[2] = {1, 2}, a[2] = {0, 0};
    pg_mat b = {.data = a, .cols = 2, .ld = 2};
    pg_gemm(kerns[0], 1, 2, 0, a, 1, false, &b, 1, c, 2);
    assert_true(c[0] == 1 && c[1] == 2);
    pg_gemm(kerns[0], 1, 2, 0, a, 1, false, &b, 0, c, 2);
    assert_true(c[0] == 0 && c[1] == 0);
}

static void test_packed_limits(void **state)
{
    (void)state;
    static const float one[1] = {1};
    pg_packed *p = (pg_packed *)1;
    pg_err e;
    assert_int_equal(pg_packed_new(&p, kerns[0], &(pg_half_mat){.m = {.data = one, .rows = 16385, .cols = 16, .ld = 16}}, &e), PG_OK);
    assert_null(p);
    pg_packed_free(NULL);
}

/* A row's bits do not depend on how many there are, nor where the matrix is too large for panels made for one product. */
static void test_packed_rows(void **state)
{
    (void)state;
    enum { K = 900, N = 700, M = 53 };
    float *A = randoms(M * K, 1), *B = randoms(K * N, 1), *all = pg_floats(M * N), *one = pg_floats(N);
    for (size_t i = 0; i < KERNS; i++) {
        pg_packed *p;
        pg_err e;
        pg_mat b = {.data = B, .type = PG_MAT_F32, .rows = K, .cols = N, .ld = N};
        assert_int_equal(pg_packed_new(&p, kerns[i], &(pg_half_mat){.m = b}, &e), PG_OK);
        pg_packed_gemm(kerns[i], M, A, K, p, 0, all, N);
        for (size_t m = 0; m < M; m++) {
            pg_packed_gemm(kerns[i], 1, A + m * K, K, p, 0, one, N);
            assert_memory_equal(one, all + m * N, N * sizeof *one);
        }
        pg_packed_free(p);
    }
    free(all);
    free(one);
}

static void test_widen(void **state)
{
    (void)state;
    for (int type = PG_MAT_F16; type <= PG_MAT_BF16; type++) {
        unsigned char *x = (unsigned char *)guarded(65536 * 2 + 1);
        for (uint32_t u = 0; u < 65536; u++) memcpy(x + 2 * u, &(uint16_t){(uint16_t)u}, 2);
        for (size_t i = 0; i < KERNS; i++) {
            float *y = floats(65531);
            pg_widen(kerns[i], y, x, (pg_mat_type)type, 65531);
            for (uint32_t u = 0; u < 65531; u++) {
                float want = type == PG_MAT_F16 ? pg_f16_to_f32((uint16_t)u) : pg_bf16_to_f32((uint16_t)u);
                if (isnan(want) ? !isnan(y[u]) : memcmp(&want, &y[u], 4) != 0)
                    fail_msg("%s: %#x of type %d becomes %g, not %g", pg_kern_isa(kerns[i]), u, type, (double)y[u], (double)want);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gemm), cmocka_unit_test(test_large), cmocka_unit_test(test_empty), cmocka_unit_test(test_packed_limits), cmocka_unit_test(test_packed_rows), cmocka_unit_test(test_widen)};
    return cmocka_run_group_tests_name("gemm", tests, kerns_open, kerns_close);
}
