/* Shared by the kernel tests: one kern per instruction set and thread count, random rows that end at an unmapped page. */
#ifndef TESTS_KERNELS_CHECK_H
#define TESTS_KERNELS_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/num.h"
#include "kernels/kernels.h"

enum { KERNS = 6 };
/* scalar, avx2, avx512 (on ARM scalar and twice neon); each with 1 and 3 threads, the last with 21, for which results are cut smaller */
static pg_kern *kerns[KERNS];
static pg_rng rng;

static inline int kerns_open(void **state)
{
    (void)state;
    static const char *const off[] = {"avx512,avx2,neon", "avx512", ""};
    pg_rng_seed(&rng, 42, 0);
    for (size_t i = 0; i < KERNS; i++) {
        pg_err e;
        setenv("PG_CPU_DISABLE", off[i / 2], 1);
        if (pg_kern_new(&kerns[i], i % 2 ? i == KERNS - 1 ? 21 : 3 : 1, &e)) {
            fprintf(stderr, "%s\n", e.msg);
            return -1;
        }
    }
    unsetenv("PG_CPU_DISABLE");
    printf("# %s\n", pg_kern_blas(kerns[0]));
    return 0;
}

static inline int kerns_close(void **state)
{
    (void)state;
    for (size_t i = 0; i < KERNS; i++) pg_kern_free(kerns[i]);
    return 0;
}

/* n bytes that end where the map ends: reading or writing past them is a fault. Never freed: tests are short. */
static inline void *guarded(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), len = (n + page - 1) / page * page;
    unsigned char *p = mmap(NULL, len + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + len, page, PROT_NONE), 0);
    return p + len - n;
}

static inline float *floats(size_t n)
{
    return guarded(n * sizeof(float));
}

static inline float *randoms(size_t n, double size)
{
    float *p = floats(n);
    for (size_t i = 0; i < n; i++) p[i] = (float)(size * pg_rng_normal(&rng));
    return p;
}

static inline float *copy(const float *x, size_t n)
{
    float *p = floats(n);
    memcpy(p, x, n * sizeof *p);
    return p;
}

/* |got - want| <= tol * (|want| + size) */
static inline void close_to(const char *what, const pg_kern *k, const float *got, const double *want, size_t n, double tol, double size)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol * (fabs(want[i]) + size)))
            fail_msg("%s, %s, %zu threads: element %zu of %zu is %.9g, not %.9g", what, pg_kern_isa(k), pg_kern_threads(k), i, n,
                     (double)got[i], want[i]);
}

/* kerns[i] and kerns[i-1] differ in threads alone: odd i must give the bits of the one before. */
static inline void same_bits(const char *what, size_t i, const float *a, const float *b, size_t n)
{
    if (i % 2 && memcmp(a, b, n * sizeof *a)) fail_msg("%s: %s depends on the number of threads", what, pg_kern_isa(kerns[i]));
}

#endif
