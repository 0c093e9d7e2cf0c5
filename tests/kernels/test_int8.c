/* Products with 8-bit weights in place: the same as with the widened matrix, whatever the order, with rows that are no whole number of
 * groups and pieces of the buffer. The scales are where nothing is aligned. */
#include "check.h"

static void check_shape(size_t M, size_t N, size_t K, bool trans, bool transA, float beta)
{
    pg_err e;
    size_t rows = trans ? N : K, length = trans ? K : N, groups = (length + 255) / 256;
    unsigned char *q = guarded(rows * length), *scales = guarded(rows * groups * 4 + 1);
    float *wide = pg_floats(rows * length), *row = pg_floats(length);
    assert_non_null(wide);
    for (size_t i = 0; i < rows * groups; i++) {
        float s = (float)(0.001 + 0.01 * pg_rng_double(&rng));
        memcpy(scales + 4 * i, &s, 4);
    }
    for (size_t i = 0; i < rows * length; i++) {
        int v = (int)pg_rng_below(&rng, 255) - 127;
        float s;
        q[i] = (unsigned char)v;
        memcpy(&s, scales + 4 * (i / length * groups + i % length / 256), 4);
        wide[i] = (float)v * s;
    }
    pg_mat B = {.data = q, .type = PG_MAT_I8, .trans = trans, .rows = K, .cols = N, .ld = length, .scale = scales};
    for (size_t r = 0; r < rows; r += rows / 3 + 1) {
        size_t from = length / 3;
        pg_widen_int8(&B, r, from, length - from, row);
        assert_memory_equal(row, wide + r * length + from, (length - from) * 4);
    }
    float *A = randoms(M * K, 1), *start = randoms(M * N, 1), *C = pg_floats(M * N);
    for (size_t i = 0; i < KERNS; i++) {
        assert_int_equal(pg_kern_take_int8(kerns[i], &e), 0);
        memcpy(C, start, M * N * sizeof *C);
        pg_gemm(kerns[i], M, N, K, A, transA ? M : K, transA, &B, beta, C, N);
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                double want = beta == 0 ? 0 : (double)start[m * N + n], size = fabs(want);
                for (size_t k = 0; k < K; k++) {
                    double p = (double)A[transA ? k * M + m : m * K + k] * (double)wide[trans ? n * K + k : k * N + n];
                    want += p;
                    size += fabs(p);
                }
                /* Sums in float32 are off by a few units of 6e-8 of the sum of magnitudes, as test_gemm's are. */
                if (!(fabs((double)C[m * N + n] - want) <= 1e-6 * size))
                    fail_msg("[%zu,%zu,%zu] trans %d %d: %g, not %g", M, N, K, trans, transA, (double)C[m * N + n], want);
            }
    }
    free(C);
    free(wide);
    free(row);
}

/* 8-bit products made from such weights, and from the same weights in float32: the groups are the same and the largest of each is 127
 * steps, so the integers are found again and only the last bit of a step may differ. */
static void test_quantised(void **state)
{
    (void)state;
    enum { M = 5, N = 130, K = 600, GROUPS = 3 };
    unsigned char *q = guarded(N * K), *scales = guarded(N * GROUPS * 4);
    float *wide = floats(N * K), *A = randoms(M * K, 1), a[M * N], b[M * N];
    bool any = false;
    for (size_t n = 0; n < N; n++)
        for (size_t k = 0; k < K; k++) {
            float s = (float)(0.001 + 0.001 * (double)((n + k / 256) % 7));
            int v = k % 256 == 3 ? 127 : (int)pg_rng_below(&rng, 255) - 127;
            memcpy(scales + 4 * (n * GROUPS + k / 256), &s, 4);
            q[n * K + k] = (unsigned char)v;
            wide[n * K + k] = (float)v * s;
        }
    pg_half_mat packed = {.m = {.data = q, .type = PG_MAT_I8, .trans = true, .rows = K, .cols = N, .ld = K, .scale = scales}};
    pg_half_mat plain = {.m = {.data = wide, .type = PG_MAT_F32, .trans = true, .rows = K, .cols = N, .ld = K}};
    for (size_t i = 0; i < KERNS; i++) {
        pg_err e;
        pg_quant *x, *y;
        assert_int_equal(pg_quant_new(&x, kerns[i], &packed, &e), 0);
        assert_int_equal(pg_quant_new(&y, kerns[i], &plain, &e), 0);
        assert_true(!x == !y);
        if (!x) continue;
        any = true;
        pg_quant_gemm(kerns[i], M, A, K, x, 0, a, N);
        pg_quant_gemm(kerns[i], M, A, K, y, 0, b, N);
        for (size_t k = 0; k < M * N; k++)
            if (!(fabsf(a[k] - b[k]) <= 1e-5f)) fail_msg("element %zu: %g and %g", k, (double)a[k], (double)b[k]);
        pg_quant_free(x);
        pg_quant_free(y);
    }
    if (!any) {
        print_message("no instructions for it here: skipped\n");
        skip();
    }
}

static void test_products(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 5, 7}, {1, 300, 256}, {3, 33, 257}, {8, 64, 512}, {17, 70, 300}, {40, 2100, 600}, {100, 48, 1000}, {2, 3000, 700}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 8; k++) check_shape(shapes[i][0], shapes[i][1], shapes[i][2], k & 1, k & 2, k & 4 ? 1.0f : 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_quantised)};
    return cmocka_run_group_tests_name("int8", tests, kerns_open, kerns_close);
}
