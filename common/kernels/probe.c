#include "kernels/probe.h"

#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels/quant.h"

enum { SUMS = 16, ROUNDS = 4096 };

double pg_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Eight sums that do not wait for each other; in assembly, as a compiler that keeps them in memory would measure that. */
#if defined(__x86_64__)
#define STEP(op, i) __asm__ volatile(op " %1, %1, %0" : "+x"(c##i) : "x"(a))
#elif defined(__aarch64__)
#define STEP(op, i) __asm__ volatile(op " %0.4s, %1.4s, %1.4s" : "+w"(c##i) : "w"(a))
#endif
#define LOOP(type, op, first)                                                       \
    type a = first, c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a; \
    for (long r = 0; r < 2 * rounds; r++) {                                         \
        STEP(op, 0);                                                                \
        STEP(op, 1);                                                                \
        STEP(op, 2);                                                                \
        STEP(op, 3);                                                                \
        STEP(op, 4);                                                                \
        STEP(op, 5);                                                                \
        STEP(op, 6);                                                                \
        STEP(op, 7);                                                                \
    }
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void f32_512(long rounds)
{
    LOOP(__m512, "vfmadd231ps", _mm512_set1_ps(0.5f))
}
__attribute__((target("avx512f,avx512bw,avx512bf16"))) static void bf16_512(long rounds)
{
    LOOP(__m512, "vdpbf16ps", _mm512_set1_ps(0.5f))
}
__attribute__((target("avx512f,avx512vnni"))) static void int8_512(long rounds)
{
    LOOP(__m512i, "vpdpbusd", _mm512_set1_epi32(0x01010101))
}
__attribute__((target("avx2,fma"))) static void f32_256(long rounds)
{
    LOOP(__m256, "vfmadd231ps", _mm256_set1_ps(0.5f))
}
/* What quant_avx2.c does for 32 products. */
#undef STEP
#define STEP(op, i)                                                                                                            \
    __asm__ volatile("vpsignb %1, %1, %%ymm15\n\tvpmaddubsw %%ymm15, %1, %%ymm15\n\tvpmaddwd %1, %%ymm15, %%ymm15\n\t" op " %%ymm15, %0, %0" \
                     : "+x"(c##i) : "x"(a) : "ymm15")
__attribute__((target("avx2,fma"))) static void int8_256(long rounds)
{
    LOOP(__m256i, "vpaddd", _mm256_set1_epi32(0x01010101))
}
#elif defined(__aarch64__)
static void f32_128(long rounds)
{
    LOOP(float32x4_t, "fmla", vdupq_n_f32(0.5f))
}
#endif

typedef struct job {
    void (*loop)(long rounds);
    const pg_ops *ops;
    const float *x;
    size_t n, part;
    long times;
    float *out;
} job;

static void peak_task(void *ctx, size_t i, size_t thread)
{
    (void)i;
    (void)thread;
    const job *j = ctx;
    for (long t = 0; t < j->times; t++) j->loop(ROUNDS);
}

double pg_probe_peak(pg_kern *k, pg_peak what, double seconds, pg_clock now)
{
    job j = {.times = 1};
    double per_round = 0, took = 0;
#if defined(__x86_64__)
    bool wide = k->ops == &pg_ops_avx512;
    if (what == PG_PEAK_F32 && wide) j.loop = f32_512, per_round = SUMS * 32;
    else if (what == PG_PEAK_F32 && k->ops == &pg_ops_avx2) j.loop = f32_256, per_round = SUMS * 16;
    else if (what == PG_PEAK_BF16 && k->has_bf16) j.loop = bf16_512, per_round = SUMS * 64;
    else if (what == PG_PEAK_INT8 && k->quant == &pg_quant_vnni) j.loop = int8_512, per_round = SUMS * 128;
    else if (what == PG_PEAK_INT8 && k->quant == &pg_quant_avx2) j.loop = int8_256, per_round = SUMS * 64;
#elif defined(__aarch64__)
    if (what == PG_PEAK_F32 && k->ops == &pg_ops_neon) j.loop = f32_128, per_round = SUMS * 8;
#else
    (void)what;
#endif
    if (!j.loop) return 0;
    for (;; j.times *= 2) {
        double start = now();
        pg_pool_run(k->pool, k->threads, peak_task, &j);
        took = now() - start;
        if (took >= seconds || j.times > 1 << 24) break;
    }
    return per_round * ROUNDS * (double)j.times * (double)k->threads / took;
}

static void read_task(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t at = i * j->part;
    if (at < j->n) j->out[i % PG_ATTN_KEYS] = j->ops->max(j->x + at, pg_min_size(j->part, j->n - at));
}

double pg_probe_read(pg_kern *k, const float *x, size_t floats, pg_clock now)
{
    job j = {.ops = k->ops, .x = x, .n = floats, .part = pg_div_up(floats, k->threads), .out = k->scratch[0].s};
    double start = now();
    pg_pool_run(k->pool, k->threads, read_task, &j);
    return (double)floats * sizeof *x / (now() - start);
}
