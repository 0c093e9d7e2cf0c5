/* The zip directory. Sizes and offsets are taken from the central directory alone: numpy's local headers hold placeholders. */
#include <string.h>

#include "weights/internal.h"

enum { EOCD = 22, EOCD64 = 56, LOCATOR = 20, ENTRY = 46, LOCAL = 30, COMMENT_MAX = 65535, DEFLATE = 8 };

static const unsigned char *find_end(const pg_map *m)
{
    if (m->len < EOCD)
        return NULL;
    size_t lowest = m->len > EOCD + COMMENT_MAX ? m->len - EOCD - COMMENT_MAX : 0;
    for (size_t at = m->len - EOCD + 1; at-- > lowest;) {
        const unsigned char *p = m->data + at;
        if (!memcmp(p, "PK\5\6", 4) && at + EOCD + pg_le16(p + 20) <= m->len)
            return p;
    }
    return NULL;
}

static int bad(pg_err *e, const char *path, const char *why)
{
    return pg_error(e, PG_EFORMAT, "cannot read '%s': %s", path, why);
}

static int directory(const pg_map *m, const char *path, size_t *at, size_t *len, size_t *entries, pg_err *e)
{
    const unsigned char *end = find_end(m);
    if (!end)
        return bad(e, path, "no zip directory at the end: cut, or not an npz");
    uint64_t n = pg_le16(end + 10), size = pg_le32(end + 12), off = pg_le32(end + 16);
    size_t limit = (size_t)(end - m->data);
    if (limit >= LOCATOR && !memcmp(end - LOCATOR, "PK\6\7", 4)) {
        uint64_t o = pg_le64(end - LOCATOR + 8);
        if (limit < LOCATOR + EOCD64 || o > limit - LOCATOR - EOCD64 || memcmp(m->data + o, "PK\6\6", 4))
            return bad(e, path, "bad zip64 end record");
        n = pg_le64(m->data + o + 32);
        size = pg_le64(m->data + o + 40);
        off = pg_le64(m->data + o + 48);
        limit = (size_t)o;
    }
    if (off > limit || size > limit - off)
        return bad(e, path, "zip directory outside the file");
    if (n > size / ENTRY)
        return bad(e, path, "zip directory shorter than its count of members");
    *at = (size_t)off, *len = (size_t)size, *entries = (size_t)n;
    return PG_OK;
}

/* The zip64 extra holds, in this order, only those of size, compressed size and offset that did not fit. */
static int wide_fields(const unsigned char *x, size_t n, uint64_t *usize, uint64_t *csize, uint64_t *off)
{
    uint64_t *want[3] = {usize, csize, off};
    bool any = false;
    for (size_t i = 0; i < 3; i++)
        any |= *want[i] == 0xffffffff;
    if (!any)
        return 0;
    while (n >= 4) {
        size_t id = pg_le16(x), len = pg_le16(x + 2);
        if (len > n - 4)
            return -1;
        if (id == 1) {
            const unsigned char *p = x + 4;
            for (size_t i = 0; i < 3; i++) {
                if (*want[i] != 0xffffffff)
                    continue;
                if (len < 8)
                    return -1;
                *want[i] = pg_le64(p);
                p += 8, len -= 8;
            }
            return 0;
        }
        x += 4 + len, n -= 4 + len;
    }
    return -1;
}

int pg_zip_each(const pg_map *m, const char *path, int (*fn)(void *ctx, const pg_zip_member *z, pg_err *e), void *ctx, pg_err *e)
{
    size_t at = 0, left = 0, entries = 0, held = 0;
    int rc = directory(m, path, &at, &left, &entries, e);
    const size_t limit = at;
    for (size_t i = 0; !rc && i < entries; i++) {
        const unsigned char *p = m->data + at;
        if (left < ENTRY || memcmp(p, "PK\1\2", 4))
            return bad(e, path, "bad zip directory entry");
        size_t flags = pg_le16(p + 8), method = pg_le16(p + 10);
        uint64_t csize = pg_le32(p + 20), usize = pg_le32(p + 24), off = pg_le32(p + 42);
        size_t name = pg_le16(p + 28), extra = pg_le16(p + 30), all = ENTRY + name + extra + pg_le16(p + 32);
        if (all > left)
            return bad(e, path, "zip directory entry longer than the directory");
        const char *s = (const char *)p + ENTRY;
        if (wide_fields(p + ENTRY + name, extra, &usize, &csize, &off))
            return bad(e, path, "bad zip64 field");
        if (flags & 1)
            return pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' is encrypted", path, (int)name, s);
        if (method && method != DEFLATE)
            return pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' is compressed by method %zu: only stored and deflated ones are read", path,
                            (int)name, s, method);
        if (off > limit || limit - off < LOCAL || memcmp(m->data + off, "PK\3\4", 4))
            return pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' has no local header where the directory says", path, (int)name, s);
        size_t skip = LOCAL + (size_t)pg_le16(m->data + off + 26) + pg_le16(m->data + off + 28);
        if ((!method && usize != csize) || skip > limit - off || csize > limit - off - skip)
            return pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' reaches outside the file", path, (int)name, s);
        /* Members that share their bytes could unpack to any size. No overflow: each is smaller than the file. */
        if ((held += (size_t)csize) > limit)
            return bad(e, path, "members overlap");
        pg_zip_member z = {s, name, m->data + off + skip, (size_t)csize, (size_t)usize, method == DEFLATE, pg_le32(p + 16)};
        rc = fn(ctx, &z, e);
        at += all, left -= all;
    }
    return rc;
}
