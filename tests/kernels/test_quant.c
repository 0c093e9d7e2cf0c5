/* Products in 8-bit integers against the same integers and steps worked out one by one. */
#include "check.h"

enum { GROUP = 256 };
enum { FORMS = 2 }; /* what the CPU has best; AVX2 */
static pg_kern *kern[2 * FORMS]; /* each with 1 and 21 threads */

static int open_two(void **state)
{
    (void)state;
    pg_rng_seed(&rng, 9, 0);
    for (size_t i = 0; i < 2 * FORMS; i++) {
        pg_err e;
        setenv("PG_CPU_DISABLE", i < 2 ? "" : "avx512", 1);
        if (pg_kern_new(&kern[i], i % 2 ? 21 : 1, &e)) return -1;
    }
    unsetenv("PG_CPU_DISABLE");
    printf("# %s; %s\n", pg_kern_int8(kern[0]), pg_kern_int8(kern[2]));
    return 0;
}

static int close_two(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * FORMS; i++) pg_kern_free(kern[i]);
    return 0;
}

static float narrow(float f, pg_mat_type t, uint16_t *h)
{
    *h = t == PG_MAT_F16 ? pg_f32_to_f16(f) : pg_f32_to_bf16(f);
    return t == PG_MAT_F32 ? f : t == PG_MAT_F16 ? pg_f16_to_f32(*h) : pg_bf16_to_f32(*h);
}

/* x[0], x[step], ...: integers out, step returned. */
static float quantise(int *q, const float *x, size_t step, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i * step]));
    float inverse = most > 0 ? 127.0f / most : 0;
    for (size_t i = 0; i < n; i++) q[i] = (int)rintf(x[i * step] * inverse);
    return most / 127.0f;
}

static void check(size_t M, size_t N, size_t K, pg_mat_type type, bool trans, size_t blocks, float beta)
{
    size_t bn = N / blocks, rows = trans ? bn : K, cols = trans ? K : bn, ld = cols + 3, w = type == PG_MAT_F32 ? 4 : 2, one = rows * ld;
    unsigned char *data = guarded(((blocks - 1) * one + (rows - 1) * ld + cols) * w);
    float *B = pg_floats(K * N), *A = randoms((M - 1) * (K + 1) + K, 1), *start = randoms((M - 1) * (N + 2) + N, 1), *first = NULL;
    double *want = pg_calloc(M * N, sizeof *want);
    float *got = pg_floats(M * N);
    int *qa = pg_alloc(M * GROUP, sizeof *qa), *qb = pg_alloc(N * GROUP, sizeof *qb);
    float *sa = pg_floats(M), *sb = pg_floats(N);
    for (size_t n = 0; n < N; n++)
        for (size_t k = 0; k < K; k++) {
            uint16_t h;
            float f = (float)pg_rng_normal(&rng) * (n % 7 == 3 ? 0 : 1), v = narrow(f, type, &h);
            size_t at = n / bn * one + (trans ? n % bn * ld + k : k * ld + n % bn);
            B[n * K + k] = v;
            memcpy(data + at * w, type == PG_MAT_F32 ? (void *)&v : (void *)&h, w);
        }
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N && beta != 0; n++) want[m * N + n] = (double)start[m * (N + 2) + n];
    for (size_t g = 0; g < K; g += GROUP) {
        size_t kn = K - g < GROUP ? K - g : GROUP;
        for (size_t m = 0; m < M; m++) sa[m] = quantise(qa + m * GROUP, A + m * (K + 1) + g, 1, kn);
        for (size_t n = 0; n < N; n++) sb[n] = quantise(qb + n * GROUP, B + n * K + g, 1, kn);
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                long sum = 0;
                for (size_t k = 0; k < kn; k++) sum += qa[m * GROUP + k] * qb[n * GROUP + k];
                want[m * N + n] += (double)sa[m] * (double)sb[n] * (double)sum;
            }
    }
    for (size_t i = 0; i < 2 * FORMS; i++) {
        pg_half_mat mat = {.m = {.data = data, .type = type, .trans = trans, .rows = K, .cols = bn, .ld = ld}, .blocks = blocks, .step = one * w};
        pg_quant *q;
        pg_err e;
        float *C = copy(start, (M - 1) * (N + 2) + N);
        assert_int_equal(pg_quant_new(&q, kern[i], &mat, &e), PG_OK);
        if (!q) {
            assert_true(!strncmp(pg_kern_int8(kern[i]), "none", 4));
            continue;
        }
        pg_quant_gemm(kern[i], M, A, K + 1, q, beta, C, N + 2);
        for (size_t m = 0; m < M; m++) memcpy(got + m * N, C + m * (N + 2), N * sizeof *got);
        /* the integers are exact; each group's product and sum is rounded to float32 */
        close_to("quant", kern[i], got, want, M * N, 1e-6, sqrt((double)K));
        if (first && memcmp(first, C, ((M - 1) * (N + 2) + N) * sizeof *C)) fail_msg("%s: depends on the number of threads or the instructions", pg_kern_int8(kern[i]));
        first = C;
        pg_quant_free(q);
    }
    free(B), free(want), free(got), free(qa), free(qb), free(sa), free(sb);
}

static void test_quant(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {1, 70, 34}, {6, 64, 256}, {7, 130, 300}, {13, 256, 515}, {40, 97, 31}, {100, 200, 1100}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int v = 0; v < 12; v++)
            check(shapes[i][0], shapes[i][1], shapes[i][2], (pg_mat_type)(v % 3), v / 3 % 2, 1, v / 6 ? 1.0f : 0.0f);
    for (int v = 0; v < 6; v++) check(9, 384, 300, (pg_mat_type)(v % 3), v / 3, 3, 0);
}

/* A damaged weight or activation must not become a plausible number. */
static void damage(pg_kern *k, bool weight, size_t at)
{
    enum { M = 7, N = 64, K = 300 };
    float *A = randoms(M * K, 1), *B = randoms(K * N, 1), C[M * N];
    pg_quant *q;
    pg_err e;
    (weight ? B + at * N + 5 : A + 2 * K + at)[0] = NAN;
    pg_half_mat mat = {.m = {.data = B, .type = PG_MAT_F32, .rows = K, .cols = N, .ld = N}, .blocks = 1};
    assert_int_equal(pg_quant_new(&q, k, &mat, &e), PG_OK);
    if (!q) return;
    pg_quant_gemm(k, M, A, K, q, 0, C, N);
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) assert_true(isnan(C[m * N + n]) == (weight ? n == 5 : m == 2));
    pg_quant_free(q);
}

static void test_not_a_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * FORMS; i += 2)
        for (size_t at = 0; at < 300; at += 37) {
            damage(kern[i], false, at);
            damage(kern[i], true, at);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quant), cmocka_unit_test(test_not_a_number)};
    return cmocka_run_group_tests_name("quant", tests, open_two, close_two);
}
