#include "kernels/probe.h"

#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/ops.h"

enum { SUMS = 16, ROUNDS = 4096 };

double pg_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
/* Sixteen sums that do not wait for each other; the empty asm keeps them in registers and the loop as it is. */
#define LOOP(type, zero, step)                                                                            \
    type c[SUMS];                                                                                         \
    for (int i = 0; i < SUMS; i++) c[i] = zero;                                                           \
    for (long r = 0; r < rounds; r++) {                                                                   \
        _Pragma("GCC unroll 16") for (int i = 0; i < SUMS; i++) step;                                     \
        __asm__ volatile("" : "+v"(c[0]), "+v"(c[1]), "+v"(c[2]), "+v"(c[3]), "+v"(c[4]), "+v"(c[5]), "+v"(c[6]), "+v"(c[7])); \
        __asm__ volatile("" : "+v"(c[8]), "+v"(c[9]), "+v"(c[10]), "+v"(c[11]), "+v"(c[12]), "+v"(c[13]), "+v"(c[14]), "+v"(c[15])); \
    }

__attribute__((target("avx512f"))) static void f32_512(long rounds)
{
    __m512 a = _mm512_set1_ps(0.5f);
    LOOP(__m512, a, c[i] = _mm512_fmadd_ps(a, a, c[i]))
}
__attribute__((target("avx512f,avx512bw,avx512bf16"))) static void bf16_512(long rounds)
{
    __m512i a = _mm512_set1_epi16(0x3f00);
    LOOP(__m512, _mm512_set1_ps(0.5f), c[i] = _mm512_dpbf16_ps(c[i], (__m512bh)a, (__m512bh)a))
}
__attribute__((target("avx512f,avx512vnni"))) static void int8_512(long rounds)
{
    __m512i a = _mm512_set1_epi8(1);
    LOOP(__m512i, a, c[i] = _mm512_dpbusd_epi32(c[i], a, a))
}
__attribute__((target("avx2,fma"))) static void f32_256(long rounds)
{
    __m256 a = _mm256_set1_ps(0.5f), c[8];
    for (int i = 0; i < 8; i++) c[i] = a;
    for (long r = 0; r < 2 * rounds; r++) {
        _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) c[i] = _mm256_fmadd_ps(a, a, c[i]);
        __asm__ volatile("" : "+x"(c[0]), "+x"(c[1]), "+x"(c[2]), "+x"(c[3]), "+x"(c[4]), "+x"(c[5]), "+x"(c[6]), "+x"(c[7]));
    }
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

double pg_probe_peak(pg_kern *k, pg_peak what, double seconds)
{
    job j = {.times = 1};
    double per_round = 0, took = 0;
#if defined(__x86_64__)
    bool wide = k->ops == &pg_ops_avx512;
    if (what == PG_PEAK_F32 && wide) j.loop = f32_512, per_round = SUMS * 32;
    else if (what == PG_PEAK_F32 && k->ops == &pg_ops_avx2) j.loop = f32_256, per_round = SUMS * 16;
    else if (what == PG_PEAK_BF16 && k->has_bf16) j.loop = bf16_512, per_round = SUMS * 64;
    else if (what == PG_PEAK_INT8 && wide && __builtin_cpu_supports("avx512vnni")) j.loop = int8_512, per_round = SUMS * 128;
#else
    (void)what;
#endif
    if (!j.loop) return 0;
    for (;; j.times *= 2) {
        double start = pg_seconds();
        pg_pool_run(k->pool, k->threads, peak_task, &j);
        took = pg_seconds() - start;
        if (took >= seconds || j.times > 1 << 24) break;
    }
    return per_round * ROUNDS * (double)j.times * (double)k->threads / took;
}

static void read_task(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t at = i * j->part;
    if (at < j->n) j->out[i % PG_ATTN_ROWS] = j->ops->max(j->x + at, pg_min_size(j->part, j->n - at));
}

double pg_probe_read(pg_kern *k, const float *x, size_t floats)
{
    job j = {.ops = k->ops, .x = x, .n = floats, .part = pg_div_up(floats, k->threads), .out = k->scratch[0].s};
    double start = pg_seconds();
    pg_pool_run(k->pool, k->threads, read_task, &j);
    return (double)floats * sizeof *x / (pg_seconds() - start);
}
