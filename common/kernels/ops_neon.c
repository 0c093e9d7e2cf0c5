/* 4 lanes; see vec.h. Every 64-bit ARM has these instructions. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/ops.h"

/* Compilers load the A of all rows ahead, a register each: with 24 sums, as avx512 has them, 32 registers would not do. */
#define PANEL_MOST 3
enum { VL = 4, WIDE = 2, REST = 2, NT_ROWS = 2, PANEL_VECS = PANEL_MOST };
typedef float32x4_t vf;

/* By bytes: a pointer to float would promise that it is aligned. */
static inline uint16x4_t halves(const void *p) { return vreinterpret_u16_u8(vld1_u8(p)); }
static inline uint16x4_t halves_n(const void *p, size_t n)
{
    const unsigned char *b = p;
    uint16_t part[VL] = {0};
    if (n >= VL) return halves(p);
    if (n & 2) memcpy(part, b, 2 * sizeof *part);
    if (n & 1) memcpy(part + (n & 2), b + (n & 2) * sizeof *part, sizeof *part);
    return vld1_u16(part);
}
static inline vf v_set(float f) { return vdupq_n_f32(f); }
static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline vf v_load_any(const void *p) { return vreinterpretq_f32_u8(vld1q_u8(p)); }
static inline vf v_fill(const void *p, size_t n, float f)
{
    const unsigned char *b = p;
    float part[VL] = {f, f, f, f};
    if (n >= VL) return v_load_any(p);
    if (n & 2) memcpy(part, b, 2 * sizeof *part);
    if (n & 1) memcpy(part + (n & 2), b + (n & 2) * sizeof *part, sizeof *part);
    return vld1q_f32(part);
}
static inline vf v_load_n(const float *p, size_t n) { return v_fill(p, n, 0); }
static inline void v_store(float *p, vf x) { vst1q_f32(p, x); }
static inline void v_store_n(float *p, vf x, size_t n)
{
    if (n >= VL) vst1q_f32(p, x);
    else if (n & 2) vst1_f32(p, vget_low_f32(x));
    if (n == 3) vst1q_lane_f32(p + 2, x, 2);
    else if (n == 1) vst1q_lane_f32(p, x, 0);
}
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
/* Of a and b that cannot be compared b, as vec.h wants it: the instructions would give not-a-number. */
static inline vf v_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf v_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vf v_sqrt(vf a) { return vsqrtq_f32(a); }
static inline vf v_abs(vf a) { return vabsq_f32(a); }
static inline vf v_round(vf a) { return vrndnq_f32(a); }
static inline vf v_scale(vf p, vf n) /* p 2^n in two steps, as 2^128 is not a float */
{
    int32x4_t i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1), one = vdupq_n_s32(127);
    vf a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, one), 23));
    vf b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(i, half), one), 23));
    return p * a * b;
}
static inline vf v_zero_below(vf v, vf x, vf low) { return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(x, low))); }
static inline vf v_select_below(vf a, vf b, vf yes, vf no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
static inline vf v_sign_of(vf size, vf sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, size); }
static inline double v_sum(vf x) { return (double)vaddvq_f32(x); }
static inline float v_largest(vf x) { return vmaxvq_f32(x); }
static inline vf v_f16(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u16(halves(p))); }
static inline vf v_bf16(const void *p) { return vreinterpretq_f32_u32(vshll_n_u16(halves(p), 16)); }
/* n of them, also none or all */
static inline vf v_any_n(const void *p, size_t n) { return v_fill(p, n, 0); }
static inline vf v_f16_n(const void *p, size_t n) { return vcvt_f32_f16(vreinterpret_f16_u16(halves_n(p, n))); }
static inline vf v_bf16_n(const void *p, size_t n) { return vreinterpretq_f32_u32(vshll_n_u16(halves_n(p, n), 16)); }

static inline void v_turn(float *y, size_t ldy, const float *x, size_t ldx)
{
    vf a = vld1q_f32(x), b = vld1q_f32(x + ldx), c = vld1q_f32(x + 2 * ldx), d = vld1q_f32(x + 3 * ldx);
    float32x4x2_t ab = vtrnq_f32(a, b), cd = vtrnq_f32(c, d); /* columns 0 and 2, 1 and 3 of two rows each */
    vst1q_f32(y, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0])));
    vst1q_f32(y + ldy, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1])));
    vst1q_f32(y + 2 * ldy, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0])));
    vst1q_f32(y + 3 * ldy, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1])));
}
#define VEC_TURN

#define VEC_NAME "neon"
#define VEC_TABLE pg_ops_neon
#include "kernels/vec.h"
#endif
