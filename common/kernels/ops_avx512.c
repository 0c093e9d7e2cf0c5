/* 16 lanes; see vec.h. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/wide.h"

#define PANEL_MOST 4
enum { VL = 16, WIDE = 3, REST = 2, NT_ROWS = 3, PANEL_VECS = PANEL_MOST }; /* 8 rows x 3 vectors of sums, 3 of B and one of A fit in 32 registers */
typedef __m512 vf;

static inline __mmask16 first(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}
static inline vf v_set(float f) { return _mm512_set1_ps(f); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf v_load_any(const void *p) { return _mm512_loadu_ps(p); }
static inline vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
static inline vf v_fill(const float *p, size_t n, float f) { return _mm512_mask_loadu_ps(_mm512_set1_ps(f), first(n), p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline void v_store_n(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf v_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_scale(vf p, vf n) { return _mm512_scalef_ps(p, n); } /* p 2^n */
static inline vf v_zero_below(vf v, vf x, vf low) { return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(x, low, _CMP_LT_OQ), _mm512_setzero_ps()); }
static inline vf v_select_below(vf a, vf b, vf yes, vf no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
static inline vf v_sign_of(vf size, vf sign)
{
    const __m512 bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(bit, size), _mm512_and_ps(bit, sign));
}
static inline double v_sum(vf x) { return (double)_mm512_reduce_add_ps(x); }
static inline float v_largest(vf x) { return _mm512_reduce_max_ps(x); }
static inline vf v_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline vf v_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
/* n of them, also none or all */
static inline vf v_any_n(const void *p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
static inline vf v_f16_n(const void *p, size_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p)); }
static inline vf v_bf16_n(const void *p, size_t n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p)), 16));
}

static inline void v_turn(float *y, size_t ldy, const float *x, size_t ldx)
{
    __m512i r[16];
    for (size_t i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(x + i * ldx);
    transpose16(r);
    for (size_t i = 0; i < 16; i++) _mm512_storeu_si512(y + i * ldy, r[i]);
}
#define VEC_TURN

#define VEC_NAME "avx512"
#define VEC_TABLE pg_ops_avx512
#include "kernels/vec.h"
#endif
