/* CRC-32C (Castagnoli; reflected polynomial 0x82F63B78, as in RFC 3720 B.4). No Debian library offers it. */
#include <string.h>

#include "net/hash.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

/* Entry i is i after four steps of the division, so a byte takes two look-ups. */
static const uint32_t nibble[16] = {0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
                                    0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u};

uint32_t pg_crc32c_table(uint32_t crc, const void *p, size_t n)
{
    const unsigned char *s = p;
    crc = ~crc;
    for (; n; n--) {
        crc ^= *s++;
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const unsigned char *s, size_t n)
{
    uint64_t c = ~crc, word;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&word, s, 8);
        c = _mm_crc32_u64(c, word);
    }
    uint32_t last = (uint32_t)c;
    for (; n; n--) last = _mm_crc32_u8(last, *s++);
    return ~last;
}
#endif

uint32_t pg_crc32c(uint32_t crc, const void *p, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return crc_sse42(crc, p, n);
#endif
    return pg_crc32c_table(crc, p, n);
}
