/* Writing an npz as a stream: every size is known from the shapes before the data, so only the checksum is written afterwards.
 * Local headers carry a zip64 field always, as numpy's do; padding puts the data on a multiple of 64 bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "weights/internal.h"

enum { LOCAL = 30, ALIGN = 64, PAD_ID = 0xd935, KEY_MAX = 60000, HEAD_MAX = 1024 };
static const uint64_t BIG = 0xffffffff;

typedef struct member {
    char *name;
    uint64_t at, size;
    uint32_t crc;
} member;

struct pg_npz_writer {
    pg_outfile f;
    member *m;
    size_t n, cap;
    uint64_t pos, left; /* left: bytes of data still to come for the open member */
    bool open;
};

int pg_npz_create(pg_npz_writer **out, const char *path, pg_err *e)
{
    *out = NULL;
    pg_npz_writer *z = pg_calloc(1, sizeof *z);
    if (!z)
        return pg_error_nomem(e);
    int rc = pg_outfile_open(&z->f, path, e);
    if (rc)
        free(z);
    else
        *out = z;
    return rc;
}

static int put(pg_npz_writer *z, const void *p, size_t n, pg_err *e)
{
    if (pg_write_full(z->f.fd, p, n))
        return pg_error_errno(e, "cannot write '%s'", z->f.path);
    z->pos += n;
    return PG_OK;
}

static int end_member(pg_npz_writer *z, pg_err *e)
{
    if (!z->open)
        return PG_OK;
    member *m = &z->m[z->n - 1];
    if (z->left)
        return pg_error(e, PG_EINVAL, "cannot write '%s': array '%s' got fewer bytes than its shape needs", z->f.path, m->name);
    unsigned char crc[4];
    pg_put(crc, m->crc, 4);
    if (pg_pwrite_full(z->f.fd, crc, 4, (off_t)m->at + 14))
        return pg_error_errno(e, "cannot write '%s'", z->f.path);
    z->open = false;
    return PG_OK;
}

static size_t npy_header(char *h, const char *descr, size_t ndim, const size_t *shape)
{
    char *p = h + 10, *end = h + HEAD_MAX;
    p += snprintf(p, (size_t)(end - p), "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (size_t i = 0; i < ndim; i++)
        p += snprintf(p, (size_t)(end - p), "%zu%s", shape[i], ndim == 1 ? "," : i + 1 < ndim ? ", " : "");
    p += snprintf(p, (size_t)(end - p), "), }");
    while ((size_t)(p - h + 1) % ALIGN)
        *p++ = ' ';
    *p++ = '\n';
    memcpy(h, "\x93NUMPY\1", 8);
    h[7] = 0;
    pg_put((unsigned char *)h + 8, (uint64_t)(p - h - 10), 2);
    return (size_t)(p - h);
}

int pg_npz_begin(pg_npz_writer *z, const char *key, const char *descr, size_t ndim, const size_t *shape, pg_err *e)
{
    int rc = end_member(z, e);
    if (rc)
        return rc;
    size_t item = strlen(descr) == 3 && descr[2] >= '1' && descr[2] <= '8' ? (size_t)(descr[2] - '0') : 0, bytes = item;
    if (!item || ndim > PG_MAX_DIMS || strlen(key) > KEY_MAX)
        return pg_error(e, PG_EINVAL, "cannot write '%s': array '%s': bad dtype, name or number of dimensions", z->f.path, key);
    for (size_t i = 0; i < ndim; i++)
        if (!pg_mul(bytes, shape[i], &bytes))
            return pg_error(e, PG_EINVAL, "cannot write '%s': array '%s': shape overflows", z->f.path, key);
    if (z->n == z->cap) {
        size_t cap = z->cap ? 2 * z->cap : 64;
        member *m = pg_realloc(z->m, cap, sizeof *m);
        if (!m)
            return pg_error_nomem(e);
        z->m = m, z->cap = cap;
    }
    char head[HEAD_MAX];
    size_t head_len = npy_header(head, descr, ndim, shape);
    member *m = &z->m[z->n];
    *m = (member){pg_format("%s.npy", key), z->pos, (uint64_t)bytes + head_len, 0};
    if (!m->name)
        return pg_error_nomem(e);
    z->n++;
    size_t name = strlen(m->name), start = (size_t)(z->pos + LOCAL + name + 20 + 4) % ALIGN, pad = (ALIGN - start) % ALIGN;
    unsigned char local[LOCAL] = "PK\3\4", extra[20 + 4 + ALIGN] = {0}, *p = local + 4;
    p = pg_put(p, 45, 2);
    p = pg_put(p, 0, 4);
    p = pg_put(p, 0, 2);
    p = pg_put(p, 0x21, 2); /* 1 January 1980, so that equal tensors give equal files */
    p = pg_put(p, 0, 4);
    p = pg_put(p, BIG, 4);
    p = pg_put(p, BIG, 4);
    p = pg_put(p, name, 2);
    pg_put(p, 20 + 4 + pad, 2);
    p = pg_put(extra, 1, 2);
    p = pg_put(p, 16, 2);
    p = pg_put(p, m->size, 8);
    p = pg_put(p, m->size, 8);
    p = pg_put(p, PAD_ID, 2);
    pg_put(p, pad, 2);
    if ((rc = put(z, local, LOCAL, e)) || (rc = put(z, m->name, name, e)) || (rc = put(z, extra, 24 + pad, e)))
        return rc;
    z->open = true;
    z->left = m->size;
    return pg_npz_data(z, head, head_len, e);
}

int pg_npz_data(pg_npz_writer *z, const void *data, size_t n, pg_err *e)
{
    if (!z->open || n > z->left)
        return pg_error(e, PG_EINVAL, "cannot write '%s': more bytes than the array's shape holds", z->f.path);
    member *m = &z->m[z->n - 1];
    const unsigned char *p = data;
    for (size_t at = 0; at < n;) {
        size_t some = n - at < (1u << 30) ? n - at : 1u << 30;
        m->crc = (uint32_t)crc32(m->crc, p + at, (uInt)some);
        at += some;
    }
    int rc = put(z, data, n, e);
    if (!rc)
        z->left -= n;
    return rc;
}

static int directory_entry(pg_npz_writer *z, const member *m, pg_err *e)
{
    unsigned char h[46] = "PK\1\2", extra[28], *p = h + 4, *x = extra + 4;
    bool big = m->size >= BIG, far = m->at >= BIG;
    if (big) {
        x = pg_put(x, m->size, 8);
        x = pg_put(x, m->size, 8);
    }
    if (far)
        x = pg_put(x, m->at, 8);
    size_t n = big || far ? (size_t)(x - extra) : 0, name = strlen(m->name);
    pg_put(extra, 1, 2);
    pg_put(extra + 2, n ? n - 4 : 0, 2);
    p = pg_put(p, 45 | 3 << 8, 2);
    p = pg_put(p, 45, 2);
    p = pg_put(p, 0, 4);
    p = pg_put(p, 0, 2);
    p = pg_put(p, 0x21, 2);
    p = pg_put(p, m->crc, 4);
    p = pg_put(p, big ? BIG : m->size, 4);
    p = pg_put(p, big ? BIG : m->size, 4);
    p = pg_put(p, name, 2);
    p = pg_put(p, n, 2);
    p = pg_put(p, 0, 6);
    p = pg_put(p, (uint64_t)0644 << 16, 4);
    pg_put(p, far ? BIG : m->at, 4);
    int rc = put(z, h, 46, e);
    if (!rc)
        rc = put(z, m->name, name, e);
    return rc || !n ? rc : put(z, extra, n, e);
}

int pg_npz_commit(pg_npz_writer *z, pg_err *e)
{
    int rc = end_member(z, e);
    uint64_t start = z->pos;
    for (size_t i = 0; !rc && i < z->n; i++)
        rc = directory_entry(z, &z->m[i], e);
    if (rc)
        return rc;
    uint64_t size = z->pos - start, n = z->n;
    unsigned char t[56 + 20 + 22], *p = t;
    if (start >= BIG || size >= BIG || n >= 0xffff) {
        memcpy(p, "PK\6\6", 4);
        p = pg_put(p + 4, 44, 8);
        p = pg_put(p, 45 | 45 << 16, 4);
        p = pg_put(p, 0, 8);
        p = pg_put(p, n, 8);
        p = pg_put(p, n, 8);
        p = pg_put(p, size, 8);
        p = pg_put(p, start, 8);
        memcpy(p, "PK\6\7", 4);
        p = pg_put(p + 4, 0, 4);
        p = pg_put(p, z->pos, 8);
        p = pg_put(p, 1, 4);
    }
    memcpy(p, "PK\5\6", 4);
    p = pg_put(p + 4, 0, 4);
    p = pg_put(p, n < 0xffff ? n : 0xffff, 2);
    p = pg_put(p, n < 0xffff ? n : 0xffff, 2);
    p = pg_put(p, size < BIG ? size : BIG, 4);
    p = pg_put(p, start < BIG ? start : BIG, 4);
    p = pg_put(p, 0, 2);
    if ((rc = put(z, t, (size_t)(p - t), e)) || (rc = pg_outfile_commit(&z->f, e)))
        return rc;
    pg_npz_abort(z);
    return PG_OK;
}

void pg_npz_abort(pg_npz_writer *z)
{
    if (!z)
        return;
    pg_outfile_abort(&z->f);
    for (size_t i = 0; i < z->n; i++)
        free(z->m[i].name);
    free(z->m);
    free(z);
}
