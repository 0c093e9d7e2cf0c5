#include "stream/scan.h"

static uint64_t big(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

int pg_scan_head(const unsigned char *p, size_t n, pg_mp *kind, uint64_t *count)
{
    if (!n) return 0;
    unsigned b = p[0];
    size_t width = 0; /* bytes of the count */
    uint64_t extra = 0;
    *kind = PG_MP_SCALAR;
    *count = 0;
    if (b < 0x80 || b >= 0xe0 || b == 0xc0 || b == 0xc2 || b == 0xc3) return 1;
    if (b < 0x90) return *kind = PG_MP_MAP, *count = b & 15, 1;
    if (b < 0xa0) return *kind = PG_MP_ARRAY, *count = b & 15, 1;
    if (b < 0xc0) return *kind = PG_MP_STR, *count = b & 31, 1;
    switch (b) {
    case 0xc4: case 0xc5: case 0xc6: *kind = PG_MP_BIN; width = (size_t)1 << (b - 0xc4); break;
    case 0xc7: case 0xc8: case 0xc9: *kind = PG_MP_EXT; width = (size_t)1 << (b - 0xc7); extra = 1; break;
    case 0xca: return n < 5 ? 0 : 5;
    case 0xcb: return n < 9 ? 0 : 9;
    case 0xcc: case 0xcd: case 0xce: case 0xcf: width = 1 + ((size_t)1 << (b - 0xcc)); return n < width ? 0 : (int)width;
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: width = 1 + ((size_t)1 << (b - 0xd0)); return n < width ? 0 : (int)width;
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
        *kind = PG_MP_EXT;
        *count = 1 + ((uint64_t)1 << (b - 0xd4));
        return 1;
    case 0xd9: case 0xda: case 0xdb: *kind = PG_MP_STR; width = (size_t)1 << (b - 0xd9); break;
    case 0xdc: case 0xdd: *kind = PG_MP_ARRAY; width = (size_t)2 << (b - 0xdc); break;
    case 0xde: case 0xdf: *kind = PG_MP_MAP; width = (size_t)2 << (b - 0xde); break;
    default: return PG_EFORMAT; /* 0xc1 */
    }
    if (n < 1 + width) return 0;
    *count = big(p + 1, width) + extra;
    return (int)(1 + width);
}

int pg_scan_object(pg_scan *s, const unsigned char *p, size_t n, size_t max, pg_err *e)
{
    for (;;) {
        pg_mp kind;
        uint64_t count;
        if (s->pos > max) return pg_error(e, PG_ELIMIT, "a record is larger than %zu bytes", max);
        int head = pg_scan_head(p + s->pos, n - s->pos, &kind, &count);
        if (head < 0) return pg_error(e, PG_EFORMAT, "not msgpack (byte 0xc1)");
        if (!head) return PG_SCAN_MORE;
        size_t room = max - s->pos;
        uint64_t least = kind == PG_MP_MAP ? count * 2 : count; /* count < 2^33: no overflow */
        if ((uint64_t)head + least > room)
            return pg_error(e, PG_ELIMIT, "a record claims more than the limit of %zu bytes", max);
        if (kind == PG_MP_ARRAY || kind == PG_MP_MAP) {
            s->pos += (size_t)head;
            if (least) {
                if (s->depth == PG_SCAN_DEPTH)
                    return pg_error(e, PG_ELIMIT, "nested deeper than %d levels", PG_SCAN_DEPTH);
                s->left[s->depth++] = least;
                continue;
            }
        } else {
            size_t whole = (size_t)head + (size_t)least;
            if (n - s->pos < whole) return PG_SCAN_MORE;
            s->pos += whole;
        }
        while (s->depth && --s->left[s->depth - 1] == 0) s->depth--;
        if (!s->depth) return PG_SCAN_DONE;
    }
}
