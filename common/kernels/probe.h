/* What the machine can do at best, measured: the limits that speeds are given as fractions of. */
#ifndef PG_KERNELS_PROBE_H
#define PG_KERNELS_PROBE_H

#include "kernels/kernels.h"

typedef enum { PG_PEAK_F32, PG_PEAK_BF16, PG_PEAK_INT8, PG_PEAKS } pg_peak;
typedef double (*pg_clock)(void);
double pg_seconds(void); /* of a clock that only goes forward */
/* Operations a second (a multiply-add counts as two) of all threads, from registers, over about `seconds`; 0: the CPU has no
 * instructions for it that this program uses. */
double pg_probe_peak(pg_kern *k, pg_peak what, double seconds, pg_clock now);
/* Bytes a second of all threads reading `floats` floats, a contiguous part each. */
double pg_probe_read(pg_kern *k, const float *x, size_t floats, pg_clock now);

#endif
