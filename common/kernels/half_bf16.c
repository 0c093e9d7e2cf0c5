/* half.h with AVX512-BF16. */
#if defined(__x86_64__)
#include "kernels/wide.h"

#include "kernels/half.h"

enum { MR = PG_HALF_ROWS };

ALWAYS __m512i bits(__m512bh x) { return (__m512i)x; }
ALWAYS __m512bh halves(__m512i x) { return (__m512bh)x; }
ALWAYS __m512 dot(__m512 c, __m512i a, __m512i b) { return _mm512_dpbf16_ps(c, halves(a), halves(b)); }
ALWAYS __mmask32 first32(size_t n) { return n >= 32 ? 0xffffffffu : (1u << n) - 1u; }

/* n <= 32 elements in their order, as bfloat16. */
ALWAYS __m512i halves32(const unsigned char *p, pg_mat_type type, size_t n)
{
    if (type == PG_MAT_BF16) return n == 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(first32(n), p);
    size_t low = n < 16 ? n : 16;
    __m512 a = floats16(p, type, low), b = n > 16 ? floats16(p + 16 * pg_mat_bytes(type), type, n - 16) : _mm512_setzero_ps();
    return bits(_mm512_cvtne2ps_pbh(b, a));
}

/* Pairs of two rows: columns 0..15 into lo, 16..31 into hi. */
ALWAYS void pairs32(__m512i *lo, __m512i *hi, __m512i r0, __m512i r1)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3,
                                         34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_or_si512(low, _mm512_set1_epi16(16));
    __asm__("" : "+v"(r0), "+v"(r1)); /* else the compiler loads them twice, and most lines are crossed */
    *lo = _mm512_permutex2var_epi16(r0, low, r1);
    *hi = _mm512_permutex2var_epi16(r0, high, r1);
}

/* ---- packing ---- */

static void pack_a(uint32_t *out, const float *A, size_t rs, size_t cs, size_t n, size_t K)
{
    size_t blocks = pg_div_up(K, 32), panel = blocks * MR * 16;
    if (cs == 1) {
        for (size_t m = 0; m < n; m++)
            for (size_t b = 0; b < blocks; b++)
                _mm512_storeu_si512(out + m / MR * panel + (b * MR + m % MR) * 16,
                                    halves32((const unsigned char *)(A + m * rs + b * 32), PG_MAT_F32, pg_min_size(32, K - b * 32)));
        return;
    }
    for (size_t b = 0; b < blocks; b++)
        for (size_t m = 0; m < n; m += 16) {
            __m512i r[16];
            size_t left = pg_min_size(16, n - m);
            for (size_t i = 0; i < 16; i++) {
                size_t k = b * 32 + 2 * i;
                __m512 x = k < K ? _mm512_maskz_loadu_ps(first16(left), A + k * cs + m) : _mm512_setzero_ps();
                __m512 y = k + 1 < K ? _mm512_maskz_loadu_ps(first16(left), A + (k + 1) * cs + m) : _mm512_setzero_ps();
                __m512i both = bits(_mm512_cvtne2ps_pbh(y, x)), hi;
                pairs32(&r[i], &hi, both, _mm512_castsi256_si512(_mm512_extracti64x4_epi64(both, 1)));
            }
            transpose16(r);
            for (size_t i = 0; i < left; i++)
                _mm512_storeu_si512(out + (m + i) / MR * panel + (b * MR + (m + i) % MR) * 16, r[i]);
        }
}

static void round_rows(uint16_t *out, size_t ld, const float *A, size_t lda, size_t n, size_t K)
{
    for (size_t m = 0; m < n; m++)
        for (size_t k = 0; k < ld; k += 32)
            _mm512_mask_storeu_epi16(out + m * ld + k, first32(ld - k),
                                     k < K ? halves32((const unsigned char *)(A + m * lda + k), PG_MAT_F32, pg_min_size(32, K - k))
                                           : _mm512_setzero_si512());
}

ALWAYS void pack_nn(uint32_t *out, const unsigned char *B, pg_mat_type type, size_t ldb, size_t n, size_t K)
{
    size_t w = pg_mat_bytes(type), vectors = pg_div_up(n, 16);
    for (size_t k = 0; k < K; k += 2) {
        const unsigned char *r0 = B + k * ldb * w, *r1 = k + 1 < K ? r0 + ldb * w : NULL;
        for (size_t i = 0; i < n; i += 32) {
            __m512i lo, hi, a = halves32(r0 + i * w, type, pg_min_size(32, n - i));
            __m512i b = r1 ? halves32(r1 + i * w, type, pg_min_size(32, n - i)) : _mm512_setzero_si512();
            pairs32(&lo, &hi, a, b);
            _mm512_storeu_si512(out + i, lo);
            if (i + 16 < n) _mm512_storeu_si512(out + i + 16, hi);
        }
        out += vectors * 16;
    }
}

ALWAYS void pack_nt(uint32_t *out, const unsigned char *B, pg_mat_type type, size_t ldb, size_t n, size_t K)
{
    size_t w = pg_mat_bytes(type), step = pg_div_up(n, 16) * 16;
    for (size_t i = 0; i < n; i += 16)
        for (size_t k = 0; k < K; k += 32) {
            __m512i r[16];
            size_t left = pg_min_size(16, n - i), deep = pg_min_size(32, K - k);
            if (left == 16 && deep == 32) {
                UNROLL
                for (size_t j = 0; j < 16; j++) r[j] = halves32(B + ((i + j) * ldb + k) * w, type, 32);
            } else {
                for (size_t j = 0; j < 16; j++)
                    r[j] = j < left ? halves32(B + ((i + j) * ldb + k) * w, type, deep) : _mm512_setzero_si512();
            }
            transpose16(r);
            for (size_t j = 0; 2 * j < deep; j++) _mm512_storeu_si512(out + (k / 2 + j) * step + i, r[j]);
        }
}

static void pack_b(uint32_t *out, const void *B, pg_mat_type type, bool trans, size_t ldb, size_t n, size_t K)
{
#define CASE(t)                                                       \
    case t:                                                           \
        if (trans) pack_nt(out, B, t, ldb, n, K);                     \
        else pack_nn(out, B, t, ldb, n, K);                           \
        break
    switch (type) {
        CASE(PG_MAT_F32);
        CASE(PG_MAT_F16);
        CASE(PG_MAT_BF16);
    default: break;
    }
#undef CASE
}

/* A row of the next pair is asked for as this one is used: from page to page the hardware does not look ahead. */
ALWAYS void pack_wide_as(uint32_t *out, size_t step, const unsigned char *B, pg_mat_type type, size_t ldb, size_t n, size_t K)
{
    size_t w = pg_mat_bytes(type), last = pg_div_up(n % PG_HALF_COLS, 16) * 16;
    for (size_t k = 0; k < K; k += 2) {
        const unsigned char *r0 = B + k * ldb * w, *r1 = k + 1 < K ? r0 + ldb * w : NULL;
        for (size_t i = 0; i < n; i += 32) {
            size_t take = pg_min_size(32, n - i), wide = i / PG_HALF_COLS < n / PG_HALF_COLS ? PG_HALF_COLS : last;
            uint32_t *to = out + i / PG_HALF_COLS * step + k / 2 * wide + i % PG_HALF_COLS;
            for (size_t x = 0; x < w / 2; x++) {
                _mm_prefetch((const char *)r0 + 2 * ldb * w + i * w + x * LINE, _MM_HINT_T0);
                _mm_prefetch((const char *)r0 + 3 * ldb * w + i * w + x * LINE, _MM_HINT_T0);
            }
            __m512i lo, hi;
            if (take == 32) {
                pairs32(&lo, &hi, halves32(r0 + i * w, type, 32), r1 ? halves32(r1 + i * w, type, 32) : _mm512_setzero_si512());
            } else {
                pairs32(&lo, &hi, halves32(r0 + i * w, type, take), r1 ? halves32(r1 + i * w, type, take) : _mm512_setzero_si512());
            }
            _mm512_store_si512(to, lo);
            if (take > 16) _mm512_store_si512(to + 16, hi);
        }
        /* Where rows begin within a line they end in one more. */
        _mm_prefetch((const char *)r0 + (2 * ldb + n) * w - 1, _MM_HINT_T0);
        _mm_prefetch((const char *)r0 + (3 * ldb + n) * w - 1, _MM_HINT_T0);
    }
}

static void pack_wide(uint32_t *out, size_t step, const void *B, pg_mat_type type, size_t ldb, size_t n, size_t K)
{
    switch (type) {
    case PG_MAT_F32: pack_wide_as(out, step, B, PG_MAT_F32, ldb, n, K); break;
    case PG_MAT_F16: pack_wide_as(out, step, B, PG_MAT_F16, ldb, n, K); break;
    default: pack_wide_as(out, step, B, PG_MAT_BF16, ldb, n, K); break;
    }
}

/* ---- the inner loop ---- */

ALWAYS void multiply(size_t M, size_t W, size_t last, size_t K2, const uint32_t *a, const uint32_t *b, bool add, float *C, size_t ldc,
                     const char *ahead, size_t lines)
{
    __m512 c[MR][4];
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < W; x++) c[m][x] = _mm512_setzero_ps();
    for (size_t k = 0; k < K2; k += 16, a += MR * 16) {
        size_t end = K2 - k < 16 ? K2 - k : 16;
        for (size_t j = 0; j < end; j++, b += W * 16) {
            __m512i v[4];
            UNROLL
            for (size_t x = 0; x < W; x++) v[x] = _mm512_load_si512(b + x * 16);
            for (size_t i = 0; i < lines; i++, ahead += LINE) _mm_prefetch(ahead, _MM_HINT_T1);
            UNROLL
            for (size_t m = 0; m < M; m++) {
                __m512i s = _mm512_set1_epi32((int)a[m * 16 + j]);
                UNROLL
                for (size_t x = 0; x < W; x++) c[m][x] = dot(c[m][x], s, v[x]);
            }
        }
    }
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < W; x++) {
            __mmask16 mask = x + 1 < W ? (__mmask16)0xffff : first16(last);
            float *p = C + m * ldc + x * 16;
            if (add) c[m][x] = _mm512_add_ps(c[m][x], _mm512_maskz_loadu_ps(mask, p));
            _mm512_mask_storeu_ps(p, mask, c[m][x]);
        }
}

#define BY_ROWS(call)       \
    switch (M) {            \
    case 1: call(1); break; \
    case 2: call(2); break; \
    case 3: call(3); break; \
    case 4: call(4); break; \
    case 5: call(5); break; \
    default: call(6); break; \
    }

static void kernel(size_t M, size_t n, size_t K, const uint32_t *a, const uint32_t *b, bool add, float *C, size_t ldc, const void *ahead,
                   size_t lines)
{
    size_t W = pg_div_up(n, 16), last = n - (W - 1) * 16, K2 = pg_div_up(K, 2);
#define CALL4(m) multiply(m, 4, last, K2, a, b, add, C, ldc, ahead, lines)
#define CALL3(m) multiply(m, 3, last, K2, a, b, add, C, ldc, ahead, lines)
#define CALL2(m) multiply(m, 2, last, K2, a, b, add, C, ldc, ahead, lines)
#define CALL1(m) multiply(m, 1, last, K2, a, b, add, C, ldc, ahead, lines)
    switch (W) {
    case 4: BY_ROWS(CALL4) break;
    case 3: BY_ROWS(CALL3) break;
    case 2: BY_ROWS(CALL2) break;
    default: BY_ROWS(CALL1) break;
    }
}

/* ---- softmax ---- */

/* 2^x for x <= 0 within 3e-6 of it: far finer than the rounding that follows. */
ALWAYS __m512 power2(__m512 x)
{
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(9.570101699e-3f); /* minimax on [-1/2, 1/2] */
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.59178603e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.2402474483f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.6931218147f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.9999992614f));
    return _mm512_scalef_ps(p, n);
}

static float exp_row(uint32_t *out, const float *s, float scale, float max, size_t n, size_t K)
{
    const float log2e = 1.44269504f;
    const __m512 a = _mm512_set1_ps(scale * log2e), b = _mm512_set1_ps(-max * log2e);
    __m512 sum = _mm512_setzero_ps();
    for (size_t k = 0; k < K; k += 32, out += MR * 16) {
        __m512 e[2];
        UNROLL
        for (size_t x = 0; x < 2; x++) {
            size_t at = k + x * 16;
            __mmask16 see = at < n ? first16(n - at) : 0;
            __m512 v = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(see, s + at), a, b);
            e[x] = _mm512_maskz_mov_ps(see, power2(v));
            sum = _mm512_add_ps(sum, e[x]);
        }
        _mm512_storeu_si512(out, bits(_mm512_cvtne2ps_pbh(e[1], e[0])));
    }
    return _mm512_reduce_add_ps(sum);
}

/* ---- few rows ---- */

/* One strip of 32 columns, all K rows; ahead (NULL: none): lines to ask for, as many as this strip has. */
ALWAYS void nn_strip(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                     bool add, float *C, size_t ldc, const unsigned char *ahead)
{
    size_t w = pg_mat_bytes(type);
    __m512 c[PG_HALF_DIRECT][2];
    __mmask16 low = first16(n), high = n > 16 ? first16(n - 16) : 0;
    UNROLL
    for (size_t m = 0; m < M; m++) {
        c[m][0] = add ? _mm512_maskz_loadu_ps(low, C + m * ldc) : _mm512_setzero_ps();
        c[m][1] = add ? _mm512_maskz_loadu_ps(high, C + m * ldc + 16) : _mm512_setzero_ps();
    }
    for (size_t k = 0; k < K; k += 2) {
        const unsigned char *r = B + k * ldb * w;
        __m512i lo, hi;
        pairs32(&lo, &hi, halves32(r, type, n), halves32(r + ldb * w, type, n));
        if (ahead)
            for (size_t i = 0; i < w; i++) _mm_prefetch((const char *)ahead + (k * w / 2 + i) * LINE, _MM_HINT_T1);
        UNROLL
        for (size_t m = 0; m < M; m++) {
            int s;
            memcpy(&s, a + m * lda + k, sizeof s);
            __m512i v = _mm512_set1_epi32(s);
            c[m][0] = dot(c[m][0], v, lo);
            c[m][1] = dot(c[m][1], v, hi);
        }
    }
    UNROLL
    for (size_t m = 0; m < M; m++) {
        _mm512_mask_storeu_ps(C + m * ldc, low, c[m][0]);
        _mm512_mask_storeu_ps(C + m * ldc + 16, high, c[m][1]);
    }
}

/* The jump from row to row defeats the hardware's prefetcher, so the block that follows is asked for in the order in which it lies,
 * a part of it with each strip. */
ALWAYS void nn_block(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                     bool add, float *C, size_t ldc, const unsigned char *next)
{
    size_t w = pg_mat_bytes(type), i = 0;
    for (; i + 32 <= n; i += 32) {
        size_t at = i * w * K;
        nn_strip(M, 32, K, a, lda, B + i * w, type, ldb, add, C + i, ldc, next ? next + at / (n * w) * ldb * w + at % (n * w) : NULL);
    }
    if (i < n) nn_strip(M, n - i, K, a, lda, B + i * w, type, ldb, add, C + i, ldc, NULL);
}

#define BY_DIRECT(call)     \
    switch (M) {            \
    case 1: call(1); break; \
    case 2: call(2); break; \
    case 3: call(3); break; \
    default: call(4); break; \
    }

static void stream_nn(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool add,
                      float *C, size_t ldc, const void *next)
{
#define CALL_F32(m) nn_block(m, n, K, a, lda, B, PG_MAT_F32, ldb, add, C, ldc, next)
#define CALL_F16(m) nn_block(m, n, K, a, lda, B, PG_MAT_F16, ldb, add, C, ldc, next)
#define CALL_BF16(m) nn_block(m, n, K, a, lda, B, PG_MAT_BF16, ldb, add, C, ldc, next)
    switch (type) {
    case PG_MAT_F32: BY_DIRECT(CALL_F32) break;
    case PG_MAT_F16: BY_DIRECT(CALL_F16) break;
    default: BY_DIRECT(CALL_BF16) break;
    }
}

/* R rows of B along K against M rows of A. While they are read, so many bytes beyond them are asked for: the rows that follow. */
ALWAYS void nt_rows(size_t M, size_t R, size_t K, const uint16_t *a, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                    bool add, float *C, size_t ldc, bool ask)
{
    size_t w = pg_mat_bytes(type), k = 0;
    const unsigned char *ahead = B + R * ldb * w;
    __m512 c[MR][4];
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t r = 0; r < R; r++) c[m][r] = _mm512_setzero_ps();
    for (; k + 32 <= K; k += 32) {
        __m512i b[4];
        UNROLL
        for (size_t r = 0; r < R; r++) b[r] = halves32(B + (r * ldb + k) * w, type, 32);
        for (size_t i = 0; ask && i < R * w / 2; i++, ahead += LINE) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
        UNROLL
        for (size_t m = 0; m < M; m++) {
            __m512i v = _mm512_loadu_si512(a + m * lda + k);
            UNROLL
            for (size_t r = 0; r < R; r++) c[m][r] = dot(c[m][r], v, b[r]);
        }
    }
    if (k < K)
        UNROLL
        for (size_t m = 0; m < M; m++) {
            __m512i v = _mm512_maskz_loadu_epi16(first32(K - k), a + m * lda + k);
            UNROLL
            for (size_t r = 0; r < R; r++) c[m][r] = dot(c[m][r], v, halves32(B + (r * ldb + k) * w, type, K - k));
        }
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t r = 0; r < R; r++) {
            float s = _mm512_reduce_add_ps(c[m][r]), *p = C + m * ldc + r;
            *p = add ? *p + s : s;
        }
}

ALWAYS void nt_as(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                  bool add, float *C, size_t ldc)
{
    size_t w = pg_mat_bytes(type), i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t m = 0; m < M; m += MR) {
            const uint16_t *am = a + m * lda;
            const unsigned char *b = B + i * ldb * w;
            float *c = C + m * ldc + i;
            switch (M - m) {
            case 1: nt_rows(1, 4, K, am, lda, b, type, ldb, add, c, ldc, m == 0); break;
            case 2: nt_rows(2, 4, K, am, lda, b, type, ldb, add, c, ldc, m == 0); break;
            case 3: nt_rows(3, 4, K, am, lda, b, type, ldb, add, c, ldc, m == 0); break;
            case 4: nt_rows(4, 4, K, am, lda, b, type, ldb, add, c, ldc, m == 0); break;
            case 5: nt_rows(5, 4, K, am, lda, b, type, ldb, add, c, ldc, m == 0); break;
            default: nt_rows(6, 4, K, am, lda, b, type, ldb, add, c, ldc, m == 0); break;
            }
        }
    for (; i < n; i++)
        for (size_t m = 0; m < M; m++) nt_rows(1, 1, K, a + m * lda, lda, B + i * ldb * w, type, ldb, add, C + m * ldc + i, ldc, false);
}

static void stream_nt(size_t M, size_t n, size_t K, const uint16_t *a, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool add,
                      float *C, size_t ldc)
{
    switch (type) {
    case PG_MAT_F32: nt_as(M, n, K, a, lda, B, PG_MAT_F32, ldb, add, C, ldc); break;
    case PG_MAT_F16: nt_as(M, n, K, a, lda, B, PG_MAT_F16, ldb, add, C, ldc); break;
    default: nt_as(M, n, K, a, lda, B, PG_MAT_BF16, ldb, add, C, ldc); break;
    }
}

const pg_half_ops pg_half_bf16 = {.name = "AVX512-BF16", .pack_a = pack_a, .round = round_rows, .pack_b = pack_b,
    .exp_row = exp_row, .pack_wide = pack_wide, .kernel = kernel, .stream_nn = stream_nn, .stream_nt = stream_nt};
#endif
