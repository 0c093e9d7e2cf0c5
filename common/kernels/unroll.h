/* For loops of intrinsics whose sums have to stay in registers. */
#ifndef PG_KERNELS_UNROLL_H
#define PG_KERNELS_UNROLL_H

#define ALWAYS static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16") /* else arrays of sums are not kept in registers */
#endif
enum { LINE = 64 };

#endif
