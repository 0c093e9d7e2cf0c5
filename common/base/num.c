#include "base/num.h"

#include <errno.h>
#include <stdlib.h>

bool pg_parse_u64(const char *s, uint64_t *out)
{
    char *end;
    if (!s || s[0] < '0' || s[0] > '9') return false;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno || *end) return false;
    *out = v;
    return true;
}

bool pg_parse_size(const char *s, size_t *out)
{
    uint64_t v;
    if (!pg_parse_u64(s, &v) || v > SIZE_MAX / 2) return false;
    *out = (size_t)v;
    return true;
}

bool pg_parse_bytes(const char *s, size_t *out)
{
    static const char units[] = "KMG";
    char digits[24];
    size_t n = s ? strlen(s) : 0, v;
    const char *unit = n ? strchr(units, s[n - 1]) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (unit) n--;
    if (!n || n >= sizeof digits) return false;
    memcpy(digits, s, n);
    digits[n] = 0;
    if (!pg_parse_size(digits, &v) || v > SIZE_MAX / 2 >> shift) return false;
    *out = v << shift;
    return true;
}

bool pg_parse_double(const char *s, double *out)
{
    char *end;
    if (!s || !*s || !strchr("+-.0123456789", *s)) return false;
    errno = 0;
    double v = strtod(s, &end);
    if ((errno == ERANGE && fabs(v) > 1) || *end || !isfinite(v)) return false;
    *out = v;
    return true;
}

float pg_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 1023, u;
    float f;
    if (exp == 0) {
        f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    u = exp == 31 ? sign | 0x7f800000u | man << 13 : sign | (exp + 112) << 23 | man << 13;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t pg_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

uint16_t pg_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000u) { /* subnormal: in units of 2^-24, rounded by the FPU to nearest even */
        float a;
        memcpy(&a, &u, 4);
        return (uint16_t)(sign | (uint16_t)lrintf(a * 0x1p24f));
    }
    u += 0xfff + (u >> 13 & 1);
    return (uint16_t)(sign | ((u - 0x38000000u) >> 13));
}

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void pg_rng_seed(pg_rng *r, uint64_t seed, uint64_t stream)
{
    uint64_t x = stream;
    x = splitmix(&x) ^ seed;
    for (int i = 0; i < 4; i++) r->s[i] = splitmix(&x);
}

uint64_t pg_rng_u64(pg_rng *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17, out = (x << 7 | x >> 57) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return out;
}

double pg_rng_double(pg_rng *r) { return (double)(pg_rng_u64(r) >> 11) * 0x1p-53; }

uint64_t pg_rng_below(pg_rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do x = pg_rng_u64(r);
    while (x >= limit);
    return x % n;
}

double pg_rng_normal(pg_rng *r)
{
    double u = 1.0 - pg_rng_double(r), v = pg_rng_double(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void pg_rng_permutation(pg_rng *r, size_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t j = (size_t)pg_rng_below(r, i + 1);
        p[i] = p[j];
        p[j] = i;
    }
}

/* ---- telling apart ---- */
static const uint64_t prime = 0x100000001b3u;

uint64_t pg_mix(uint64_t h, const void *p, size_t n)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): clang does not follow the bytes of an array of numbers */
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)p)[i]) * prime;
    return h;
}

/* Four chains beside each other, since each multiplication waits for the one before it. */
uint64_t pg_mix_floats(uint64_t h, const float *p, size_t n)
{
    enum { CHAINS = 4, STEP = 2 * CHAINS };
    uint64_t c[CHAINS] = {h, ~h, h ^ prime, ~(h ^ prime)}, two[CHAINS];
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        memcpy(two, p + i, sizeof two);
        for (size_t j = 0; j < CHAINS; j++) {
            c[j] = (c[j] ^ two[j]) * prime;
            c[j] ^= c[j] >> 29;
        }
    }
    h = pg_mix(pg_mix(h, c, sizeof c), &n, sizeof n);
    return i < n ? pg_mix(h, p + i, (n - i) * sizeof *p) : h;
}
