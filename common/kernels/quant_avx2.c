/* quant.h with AVX2, for the many CPUs without AVX512-VNNI: reading a byte of a weight instead of two or four is what counts when a
 * caption is decoded. Products of bytes are made in 16 bits, where 255 x 127 twice would not fit; so A keeps its sign, is at most 127,
 * and the sign goes over to B. The sums are the same integers, and the results the same bits. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "kernels/quant.h"
#include "kernels/unroll.h"

enum { MR = PG_HALF_ROWS, NR = PG_HALF_COLS, QUAD = NR * 4 /* bytes of 4 rows of a panel */ };

/* n <= 8 elements (more count as 8), zeros after them; only those are read. */
ALWAYS __m256 floats8(const unsigned char *p, pg_mat_type type, size_t n)
{
    unsigned char some[32];
    if (n < 8) {
        memset(some, 0, sizeof some);
        memcpy(some, p, n * pg_mat_bytes(type));
        p = some;
    }
    if (type == PG_MAT_F32) return _mm256_loadu_ps((const float *)(const void *)p);
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return type == PG_MAT_F16 ? _mm256_cvtph_ps(h) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* The larger of two magnitudes, as bits: what is not a number stays, and becomes the step, and so the result. */
ALWAYS __m256i larger(__m256i most, __m256 x)
{
    return _mm256_max_epu32(most, _mm256_castps_si256(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)));
}

ALWAYS __m256i rounded(__m256 x, __m256 f) { return _mm256_cvtps_epi32(_mm256_mul_ps(x, f)); }

static float pack_row(unsigned char *to, const float *x, size_t n)
{
    __m256i bits = _mm256_setzero_si256();
    uint32_t lanes[8], most = 0;
    for (size_t k = 0; k < n; k += 8) bits = larger(bits, floats8((const unsigned char *)(x + k), PG_MAT_F32, n - k));
    _mm256_storeu_si256((__m256i *)(void *)lanes, bits);
    for (size_t i = 0; i < 8; i++) most = lanes[i] > most ? lanes[i] : most;
    float max;
    memcpy(&max, &most, sizeof max);
    __m256 f = _mm256_set1_ps(pg_quant_inverse(max));
    for (size_t k = 0; k < n; k += 8) {
        __m256i q = rounded(floats8((const unsigned char *)(x + k), PG_MAT_F32, n - k), f);
        __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64((__m128i *)(void *)(to + k / 64 * MR * 64 + k % 64), _mm_packs_epi16(words, words));
    }
    return max;
}

/* tile [K][64] of floats, zeros beyond n columns and up to a multiple of 4 rows */
ALWAYS void fill_tile(float *tile, const unsigned char *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K)
{
    size_t w = pg_mat_bytes(type);
    memset(tile + K * NR, 0, (pg_div_up(K, 4) * 4 - K) * NR * sizeof *tile);
    if (!trans) {
        for (size_t k = 0; k < K; k++)
            for (size_t i = 0; i < NR; i += 8)
                _mm256_storeu_ps(tile + k * NR + i, i < n ? floats8(B + (k * ldb + i) * w, type, n - i) : _mm256_setzero_ps());
        return;
    }
    for (size_t i = 0; i < NR; i++)
        for (size_t k = 0; k < K; k += 8) {
            float column[8];
            _mm256_storeu_ps(column, i < n ? floats8(B + (i * ldb + k) * w, type, K - k) : _mm256_setzero_ps());
            for (size_t x = 0; x < 8 && k + x < K; x++) tile[(k + x) * NR + i] = column[x];
        }
}

static void pack_b(unsigned char *out, float *tile, const void *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K)
{
    size_t quads = pg_div_up(K, 4);
    float *steps = (float *)(void *)(out + quads * QUAD);
    const __m256i low = _mm256_set1_epi32(0xff);
    if (type == PG_MAT_F32) fill_tile(tile, B, PG_MAT_F32, trans, ldb, n, K);
    else if (type == PG_MAT_F16) fill_tile(tile, B, PG_MAT_F16, trans, ldb, n, K);
    else fill_tile(tile, B, PG_MAT_BF16, trans, ldb, n, K);
    for (size_t i = 0; i < NR; i += 8) {
        __m256i bits = _mm256_setzero_si256();
        for (size_t k = 0; k < K; k++) bits = larger(bits, _mm256_loadu_ps(tile + k * NR + i));
        __m256 most = _mm256_castsi256_ps(bits), some = _mm256_cmp_ps(most, _mm256_setzero_ps(), _CMP_GT_OQ);
        __m256 f = _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(127.0f), most));
        for (size_t q = 0; q < quads; q++) {
            __m256i four = _mm256_setzero_si256();
            for (size_t k = 4; k-- > 0;)
                four = _mm256_or_si256(_mm256_slli_epi32(four, 8), _mm256_and_si256(rounded(_mm256_loadu_ps(tile + (q * 4 + k) * NR + i), f), low));
            _mm256_storeu_si256((__m256i *)(void *)(out + (q * NR + i) * 4), four);
        }
        _mm256_storeu_ps(steps + i, _mm256_div_ps(most, _mm256_set1_ps(127.0f)));
    }
    memset(steps + NR, 0, NR * sizeof(int32_t)); /* A is not shifted */
}

/* M rows against W vectors of 8 columns from b on. */
ALWAYS void multiply(size_t M, size_t W, size_t n, size_t quads, const uint32_t *a, const float *steps, const unsigned char *b,
                     const float *bsteps, bool add, float *C, size_t ldc, const unsigned char *ahead)
{
    __m256i c[MR][8];
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < W; x++) c[m][x] = _mm256_setzero_si256();
    for (size_t k = 0; k < quads; k += 16, a += MR * 16) {
        size_t end = quads - k < 16 ? quads - k : 16;
        for (size_t j = 0; j < end; j++, b += QUAD) {
            __m256i s[MR], size[MR];
            UNROLL
            for (size_t m = 0; m < M; m++) {
                s[m] = _mm256_set1_epi32((int)a[m * 16 + j]);
                size[m] = _mm256_abs_epi8(s[m]);
            }
            for (size_t i = 0; ahead && i < QUAD / LINE; i++, ahead += LINE) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
            UNROLL
            for (size_t x = 0; x < W; x++) {
                __m256i v = _mm256_load_si256((const __m256i *)(const void *)(b + x * 32));
                UNROLL
                for (size_t m = 0; m < M; m++)
                    c[m][x] = _mm256_add_epi32(c[m][x], _mm256_madd_epi16(_mm256_maddubs_epi16(size[m], _mm256_sign_epi8(v, s[m])), ones));
            }
        }
    }
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < W; x++) {
            float *p = C + m * ldc + x * 8, part[8];
            if (x * 8 >= n) continue;
            bool whole = n - x * 8 >= 8;
            __m256 f = _mm256_mul_ps(_mm256_loadu_ps(bsteps + x * 8), _mm256_set1_ps(steps[m])), y = _mm256_cvtepi32_ps(c[m][x]);
            y = add ? _mm256_fmadd_ps(y, f, floats8((const unsigned char *)p, PG_MAT_F32, n - x * 8)) : _mm256_mul_ps(y, f);
            _mm256_storeu_ps(whole ? p : part, y);
            if (!whole) memcpy(p, part, (n - x * 8) * sizeof *p);
        }
}

/* Registers hold the sums of 1 row and 64 columns, 2 and 32, or 3 and 16. */
ALWAYS void rows(size_t M, size_t W, size_t n, size_t quads, const uint32_t *a, const float *steps, const unsigned char *b, bool add, float *C,
                 size_t ldc, const unsigned char *ahead)
{
    for (size_t i = 0; i < n; i += W * 8)
        multiply(M, W, n - i, quads, a, steps, b + i * 4, (const float *)(const void *)(b + quads * QUAD) + i, add, C + i, ldc, i ? NULL : ahead);
}

static void kernel(size_t M, size_t n, size_t K, const uint32_t *a, const float *steps, const unsigned char *b, bool add, float *C,
                   size_t ldc, const unsigned char *ahead)
{
    size_t quads = pg_div_up(K, 4), m = 0;
    for (; M - m >= 3; m += 3, ahead = NULL)
        rows(3, 2, n, quads, a + m * 16, steps + m, b, add, C + m * ldc, ldc, ahead);
    if (M - m == 2) rows(2, 4, n, quads, a + m * 16, steps + m, b, add, C + m * ldc, ldc, ahead);
    if (M - m == 1) rows(1, 8, n, quads, a + m * 16, steps + m, b, add, C + m * ldc, ldc, ahead);
}

const pg_quant_ops pg_quant_avx2 = {.name = "AVX2", .pack_row = pack_row, .pack_b = pack_b, .kernel = kernel};
#endif
