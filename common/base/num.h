/* Numbers: strict parsing, half precision, random numbers. */
#ifndef PG_BASE_NUM_H
#define PG_BASE_NUM_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The whole of s must be one finite number in range; nothing else is accepted. */
bool pg_parse_size(const char *s, size_t *out);
bool pg_parse_u64(const char *s, uint64_t *out);
bool pg_parse_double(const char *s, double *out);
/* A whole number, then K, M or G (times 1024, 1024^2, 1024^3) where it has a unit: "20M". */
bool pg_parse_bytes(const char *s, size_t *out);

/* Half precision, bit patterns as stored (little endian). Widening is exact; narrowing rounds to nearest even. */
static inline float pg_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
float pg_f16_to_f32(uint16_t h);
uint16_t pg_f32_to_bf16(float f);
uint16_t pg_f32_to_f16(float f);

/* Numbers that tell one thing from another (FNV-1a), not against an adversary; begin with PG_MIX. Floats are taken eight at a time: by
 * bytes a large picture would cost a millisecond. */
#define PG_MIX 0xcbf29ce484222325u
uint64_t pg_mix(uint64_t h, const void *p, size_t n);
uint64_t pg_mix_floats(uint64_t h, const float *p, size_t n);

/* xoshiro256**, seeded through splitmix64: same numbers on every machine. */
typedef struct pg_rng {
    uint64_t s[4];
} pg_rng;
void pg_rng_seed(pg_rng *r, uint64_t seed, uint64_t stream);
uint64_t pg_rng_u64(pg_rng *r);
double pg_rng_double(pg_rng *r);                /* [0,1), 53 bits */
uint64_t pg_rng_below(pg_rng *r, uint64_t n);   /* [0,n), unbiased; n > 0 */
double pg_rng_normal(pg_rng *r);                /* mean 0, variance 1 (Box-Muller) */
void pg_rng_permutation(pg_rng *r, size_t *p, size_t n); /* p becomes a permutation of 0..n-1 (Fisher-Yates) */

#endif
