/* 8 lanes; see vec.h. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/ops.h"

#define PANEL_MOST 2
enum { VL = 8, WIDE = 1, REST = 1, NT_ROWS = 1, PANEL_VECS = PANEL_MOST }; /* 8 rows of sums, B and A: 16 registers hold no more than one vector of columns */
typedef __m256 vf;

static inline __m256i first(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf v_set(float f) { return _mm256_set1_ps(f); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vf v_load_any(const void *p) { return _mm256_castsi256_ps(_mm256_loadu_si256(p)); }
static inline vf v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, first(n)); }
static inline vf v_fill(const float *p, size_t n, float f)
{
    return _mm256_blendv_ps(_mm256_set1_ps(f), v_load_n(p, n), _mm256_castsi256_ps(first(n)));
}
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm256_maskstore_ps(p, first(n), x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf v_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf v_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_scale(vf p, vf n) /* p 2^n in two steps, as 2^128 is not a float */
{
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), one = _mm256_set1_epi32(127);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), one), 23));
    return p * a * b;
}
static inline vf v_zero_below(vf v, vf x, vf low) { return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), v); }
static inline vf v_select_below(vf a, vf b, vf yes, vf no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
static inline vf v_sign_of(vf size, vf sign)
{
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, size), _mm256_and_ps(bit, sign));
}
static inline double v_sum(vf x)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return (double)_mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}
static inline float v_largest(vf x)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
static inline vf v_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
static inline vf v_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
/* n of them, also none or all */
static inline vf v_any_n(const void *p, size_t n) { return _mm256_maskload_ps(p, first(n)); }
static inline __m128i halves(const void *p, size_t n)
{
    uint16_t part[8] __attribute__((aligned(16))) = {0};
    memcpy(part, p, n * sizeof *part);
    return _mm_load_si128((const __m128i *)(const void *)part);
}
static inline vf v_f16_n(const void *p, size_t n) { return _mm256_cvtph_ps(halves(p, n)); }
static inline vf v_bf16_n(const void *p, size_t n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves(p, n)), 16)); }

#define VEC_NAME "avx2"
#define VEC_TABLE pg_ops_avx2
#include "kernels/vec.h"
#endif
