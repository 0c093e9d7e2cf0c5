/* quant.h with AVX512-VNNI. */
#if defined(__x86_64__)
#include "kernels/wide.h"

#include "kernels/quant.h"

enum { MR = PG_HALF_ROWS, NR = PG_HALF_COLS };

/* The larger of two magnitudes, as bits: what is not a number stays, and becomes the step, and so the result. */
ALWAYS __m512i larger(__m512i most, __m512 x) { return _mm512_max_epu32(most, _mm512_castps_si512(_mm512_abs_ps(x))); }

static float pack_row(unsigned char *to, const float *x, size_t n)
{
    __m512i most = _mm512_setzero_si512();
    for (size_t k = 0; k < n; k += 16) most = larger(most, _mm512_maskz_loadu_ps(first16(n - k), x + k));
    float max;
    memcpy(&max, &(uint32_t){_mm512_reduce_max_epu32(most)}, sizeof max);
    __m512 f = _mm512_set1_ps(pg_quant_inverse(max));
    for (size_t k = 0; k < n; k += 16) {
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(first16(n - k), x + k), f));
        __m128i u = _mm_xor_si128(_mm512_cvtepi32_epi8(q), _mm_set1_epi8((char)0x80)); /* + 128 */
        _mm_storeu_si128((__m128i *)(void *)(to + k / 64 * MR * 64 + k % 64), u);
    }
    return max;
}

/* tile [K][64] of floats, zeros beyond n columns */
ALWAYS void fill_tile(float *tile, const unsigned char *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K)
{
    size_t w = pg_mat_bytes(type);
    for (size_t k = K; k % 4; k++)
        for (size_t i = 0; i < NR; i += 16) _mm512_storeu_ps(tile + k * NR + i, _mm512_setzero_ps());
    if (!trans) {
        for (size_t k = 0; k < K; k++)
            for (size_t i = 0; i < NR; i += 16)
                _mm512_storeu_ps(tile + k * NR + i, i < n ? floats16(B + (k * ldb + i) * w, type, n - i) : _mm512_setzero_ps());
        return;
    }
    for (size_t i = 0; i < NR; i += 16)
        for (size_t k = 0; k < K; k += 16) {
            __m512i r[16];
            UNROLL
            for (size_t j = 0; j < 16; j++)
                r[j] = _mm512_castps_si512(i + j < n ? floats16(B + ((i + j) * ldb + k) * w, type, K - k) : _mm512_setzero_ps());
            transpose16(r);
            for (size_t j = 0; j < 16 && k + j < K; j++) _mm512_storeu_si512(tile + (k + j) * NR + i, r[j]);
        }
}

static void pack_b(unsigned char *out, float *tile, const void *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K)
{
    size_t quads = pg_div_up(K, 4);
    float *steps = (float *)(void *)(out + quads * NR * 4);
    int32_t *shift = (int32_t *)(void *)(steps + NR);
    if (type == PG_MAT_F32) fill_tile(tile, B, PG_MAT_F32, trans, ldb, n, K);
    else if (type == PG_MAT_F16) fill_tile(tile, B, PG_MAT_F16, trans, ldb, n, K);
    else fill_tile(tile, B, PG_MAT_BF16, trans, ldb, n, K);
    for (size_t i = 0; i < NR; i += 16) {
        __m512i bits = _mm512_setzero_si512();
        for (size_t k = 0; k < K; k++) bits = larger(bits, _mm512_loadu_ps(tile + k * NR + i));
        __m512 most = _mm512_castsi512_ps(bits);
        __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
        __m512 f = _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0f), most);
        __m512i sum = _mm512_setzero_si512(), ones = _mm512_set1_epi32(0x01010101);
        for (size_t q = 0; q < quads; q++) { /* tile has zeros up to a multiple of 4 */
            const float *t = tile + q * 4 * NR + i;
            __m512i v0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(t), f)), v1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(t + NR), f));
            __m512i v2 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(t + 2 * NR), f));
            __m512i v3 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(t + 3 * NR), f));
            __m512i low = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, v0, _mm512_slli_epi32(v1, 8));
            __m512i high = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, v2, _mm512_slli_epi32(v3, 8));
            __m512i four = _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
            sum = _mm512_dpbusd_epi32(sum, ones, four);
            _mm512_storeu_si512(out + (q * NR + i) * 4, four);
        }
        _mm512_storeu_ps(steps + i, _mm512_div_ps(most, _mm512_set1_ps(127.0f)));
        _mm512_storeu_si512(shift + i, _mm512_mullo_epi32(sum, _mm512_set1_epi32(-128)));
    }
}

ALWAYS void multiply(size_t M, size_t n, size_t quads, const uint32_t *a, const float *steps, const unsigned char *b, bool add, float *C,
                     size_t ldc, const unsigned char *ahead)
{
    __m512i c[MR][4];
    const float *bsteps = (const float *)(const void *)(b + quads * NR * 4);
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < 4; x++) c[m][x] = _mm512_loadu_si512(bsteps + NR + x * 16);
    for (size_t k = 0; k < quads; k += 16, a += MR * 16) {
        size_t end = quads - k < 16 ? quads - k : 16;
        for (size_t j = 0; j < end; j++, b += NR * 4) {
            __m512i v[4];
            UNROLL
            for (size_t x = 0; x < 4; x++) v[x] = _mm512_load_si512(b + x * 64);
            if (ahead) {
                UNROLL
                for (size_t x = 0; x < 4; x++) _mm_prefetch((const char *)ahead + x * LINE, _MM_HINT_T1);
                ahead += 4 * LINE;
            }
            UNROLL
            for (size_t m = 0; m < M; m++) {
                __m512i s = _mm512_set1_epi32((int)a[m * 16 + j]);
                UNROLL
                for (size_t x = 0; x < 4; x++) c[m][x] = _mm512_dpbusd_epi32(c[m][x], s, v[x]);
            }
        }
    }
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < 4; x++) {
            __m512 s = _mm512_mul_ps(_mm512_loadu_ps(bsteps + x * 16), _mm512_set1_ps(steps[m])), y = _mm512_cvtepi32_ps(c[m][x]);
            float *p = C + m * ldc + x * 16;
            if (n == NR) {
                _mm512_storeu_ps(p, add ? _mm512_fmadd_ps(y, s, _mm512_loadu_ps(p)) : _mm512_mul_ps(y, s));
            } else if (x * 16 < n) {
                __mmask16 mask = first16(n - x * 16);
                _mm512_mask_storeu_ps(p, mask, add ? _mm512_fmadd_ps(y, s, _mm512_maskz_loadu_ps(mask, p)) : _mm512_mul_ps(y, s));
            }
        }
}

static void kernel(size_t M, size_t n, size_t K, const uint32_t *a, const float *steps, const unsigned char *b, bool add, float *C,
                   size_t ldc, const unsigned char *ahead)
{
    size_t quads = pg_div_up(K, 4);
    switch (M) {
    case 1: multiply(1, n, quads, a, steps, b, add, C, ldc, ahead); break;
    case 2: multiply(2, n, quads, a, steps, b, add, C, ldc, ahead); break;
    case 3: multiply(3, n, quads, a, steps, b, add, C, ldc, ahead); break;
    case 4: multiply(4, n, quads, a, steps, b, add, C, ldc, ahead); break;
    case 5: multiply(5, n, quads, a, steps, b, add, C, ldc, ahead); break;
    default: multiply(6, n, quads, a, steps, b, add, C, ldc, ahead); break;
    }
}

const pg_quant_ops pg_quant_vnni = {.name = "AVX512-VNNI", .pack_row = pack_row, .pack_b = pack_b, .kernel = kernel};
#endif
