/* The header of a .npy file: a Python dict of three keys, in any order. numpy/lib/format.py. */
#include <string.h>

#include "weights/internal.h"

enum { HEADER_MAX = 65536 };

typedef struct cursor {
    const char *p, *end;
} cursor;

static void space(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t'))
        c->p++;
}

static bool eat(cursor *c, char ch)
{
    space(c);
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

static bool quoted(cursor *c, char *out, size_t n)
{
    space(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return false;
    char q = *c->p++;
    size_t k = 0;
    while (c->p < c->end && *c->p != q) {
        if (k + 1 >= n)
            return false;
        out[k++] = *c->p++;
    }
    out[k] = 0;
    return c->p < c->end && *c->p++ == q;
}

static bool word(cursor *c, const char *s)
{
    size_t n = strlen(s);
    space(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, s, n))
        return false;
    c->p += n;
    return true;
}

static bool number(cursor *c, size_t *v)
{
    space(c);
    const char *start = c->p;
    *v = 0;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        if (!pg_mul(*v, 10, v) || !pg_add(*v, (size_t)(*c->p++ - '0'), v))
            return false;
    return c->p > start;
}

static bool tuple(cursor *c, pg_npy *a)
{
    if (!eat(c, '('))
        return false;
    a->ndim = 0;
    while (!eat(c, ')')) {
        if (a->ndim == PG_MAX_DIMS || !number(c, &a->shape[a->ndim++]))
            return false;
        if (!eat(c, ',') && (space(c), c->p == c->end || *c->p != ')'))
            return false;
    }
    return true;
}

static int bad(pg_err *e, const char *path, const char *key, const char *why)
{
    return pg_error(e, PG_EFORMAT, "cannot read '%s': array '%s': %s", path, key, why);
}

/* numpy's type strings: byte order, kind, bytes. Raw bytes have no order. */
static const char *check_descr(pg_npy *a, unsigned *odd, const char *d)
{
    static const char kinds[] = "fiubV";
    if (strlen(d) >= sizeof a->descr || strlen(d) < 3)
        return "unknown dtype";
    if (d[1] == 'O')
        return "holds Python objects, not numbers";
    if (!strchr("<>|=", d[0]) || !strchr(kinds, d[1]) || (d[0] == '>' && d[1] == 'V'))
        return "unknown dtype";
    if (d[3] || d[2] < '1' || d[2] > '8')
        return "unknown dtype";
    a->itemsize = (size_t)(d[2] - '0');
    *odd |= d[0] == '>' && a->itemsize > 1 ? PG_NPY_BIG_ENDIAN : 0;
    memcpy(a->descr, (char[]){d[1] == 'V' || a->itemsize == 1 ? '|' : '<', d[1], d[2], 0}, 4);
    return NULL;
}

int pg_npy_parse(pg_npy *a, unsigned *odd, const char *path, const char *key, const unsigned char *p, size_t n, pg_err *e)
{
    *a = (pg_npy){.key = key, .count = 1};
    *odd = 0;
    if (n < 10 || memcmp(p, "\x93NUMPY", 6))
        return bad(e, path, key, "not a .npy file");
    if (p[6] < 1 || p[6] > 3)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': array '%s': npy version %d is not known", path, key, p[6]);
    size_t head = p[6] == 1 ? 10 : 12;
    size_t len = p[6] == 1 ? pg_le16(p + 8) : n >= 12 ? pg_le32(p + 8) : HEADER_MAX + 1;
    if (n < head || len > HEADER_MAX || len > n - head)
        return bad(e, path, key, "npy header longer than the member");
    cursor c = {(const char *)p + head, (const char *)p + head + len};
    char name[16], descr[16] = "";
    bool fortran = false, seen[3] = {false, false, false};
    if (!eat(&c, '{'))
        return bad(e, path, key, "bad npy header");
    while (!eat(&c, '}')) {
        if (!quoted(&c, name, sizeof name) || !eat(&c, ':'))
            return bad(e, path, key, "bad npy header");
        if (!strcmp(name, "descr")) {
            if (!quoted(&c, descr, sizeof descr))
                return bad(e, path, key, "dtype is not a simple one");
            seen[0] = true;
        } else if (!strcmp(name, "fortran_order")) {
            fortran = word(&c, "True");
            if (!fortran && !word(&c, "False"))
                return bad(e, path, key, "bad npy header");
            seen[1] = true;
        } else if (!strcmp(name, "shape")) {
            if (!tuple(&c, a))
                return bad(e, path, key, "bad shape, or more than 6 dimensions");
            seen[2] = true;
        } else {
            return bad(e, path, key, "unknown key in npy header");
        }
        if (!eat(&c, ',') && (space(&c), c.p == c.end || *c.p != '}'))
            return bad(e, path, key, "bad npy header");
    }
    if (!seen[0] || !seen[1] || !seen[2])
        return bad(e, path, key, "npy header without descr, fortran_order or shape");
    const char *why = check_descr(a, odd, descr);
    if (why)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': array '%s': %s (dtype '%s')", path, key, why, descr);
    size_t bytes, long_axes = 0;
    for (size_t i = 0; i < a->ndim; i++) {
        if (!pg_mul(a->count, a->shape[i], &a->count))
            return bad(e, path, key, "shape overflows");
        long_axes += a->shape[i] > 1;
    }
    *odd |= fortran && long_axes > 1 ? PG_NPY_FORTRAN : 0;
    if (!pg_mul(a->count, a->itemsize, &bytes) || bytes != n - head - len)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': array '%s': %zu bytes of data, its shape needs another number", path, key, n - head - len);
    a->data = p + head + len;
    return PG_OK;
}
