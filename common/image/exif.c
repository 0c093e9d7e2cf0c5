#include "image/internal.h"

static unsigned get16(const unsigned char *p, bool little) { return little ? p[0] | (unsigned)p[1] << 8 : p[1] | (unsigned)p[0] << 8; }

static size_t get32(const unsigned char *p, bool little)
{
    return little ? get16(p, true) | (size_t)get16(p + 2, true) << 16 : (size_t)get16(p, false) << 16 | get16(p + 2, false);
}

int pg_exif_orientation(const unsigned char *tiff, size_t n)
{
    if (n < 8) return 1;
    const bool little = tiff[0] == 'I' && tiff[1] == 'I';
    if (!little && (tiff[0] != 'M' || tiff[1] != 'M')) return 1;
    if (get16(tiff + 2, little) != 42) return 1;
    const size_t at = get32(tiff + 4, little);
    if (at > n - 2) return 1;
    const size_t entries = get16(tiff + at, little);
    for (size_t i = 0; i < entries; i++) {
        const size_t entry = at + 2 + 12 * i;
        if (entry + 12 > n) return 1;
        const unsigned char *p = tiff + entry;
        if (get16(p, little) != 274) continue;
        const unsigned type = get16(p + 2, little);
        if (get32(p + 4, little) != 1 || (type != 3 && type != 4)) return 1;
        const size_t v = type == 3 ? get16(p + 8, little) : get32(p + 8, little);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}
