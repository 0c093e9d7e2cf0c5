/* Reading any npz: a zip of .npy members, mapped. */
#include <stdlib.h>
#include <string.h>

#include "weights/internal.h"

struct pg_npz {
    pg_map map;
    char *path;
    pg_npy *a;
    struct stored {
        const unsigned char *p; /* the whole member, npy header too */
        size_t n;
        uint32_t crc;
        pg_map unpacked;  /* of a deflated member */
        pg_map reordered; /* data of one in Fortran order or big-endian */
    } *s;
    size_t n, cap;
};

static int add(void *ctx, const pg_zip_member *m, pg_err *e)
{
    pg_npz *z = ctx;
    size_t len = m->name_len;
    if (len < 4 || memcmp(m->name + len - 4, ".npy", 4))
        return pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' is not a .npy array", z->path, (int)len, m->name);
    if (memchr(m->name, 0, len))
        return pg_error(e, PG_EFORMAT, "cannot read '%s': a member's name holds a zero byte", z->path);
    if (z->n == z->cap) {
        size_t cap = z->cap ? 2 * z->cap : 64;
        pg_npy *a = pg_realloc(z->a, cap, sizeof *a);
        struct stored *s = a ? pg_realloc((z->a = a, z->s), cap, sizeof *s) : NULL;
        if (!s)
            return pg_error_nomem(e);
        z->s = s, z->cap = cap;
    }
    char *key = pg_strndup(m->name, len - 4);
    if (!key)
        return pg_error_nomem(e);
    struct stored *s = &z->s[z->n];
    *s = (struct stored){.p = m->data, .n = m->len, .crc = m->crc};
    unsigned odd;
    int rc = m->deflated ? pg_zip_inflate(&s->unpacked, m, z->path, e) : PG_OK;
    if (m->deflated)
        s->p = s->unpacked.data;
    if (!rc)
        rc = pg_npy_parse(&z->a[z->n], &odd, z->path, key, s->p, s->n, e);
    if (!rc && odd && z->a[z->n].count && (rc = pg_npy_reorder(&s->reordered, &z->a[z->n], odd, e)))
        (void)pg_error_context(e, "cannot read '%s': array '%s'", z->path, key);
    if (!rc) {
        z->n++;
        return PG_OK;
    }
    pg_map_close(&s->unpacked);
    free(key);
    return rc;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const pg_npy *const *)a)->key, (*(const pg_npy *const *)b)->key);
}

static int check_twins(const pg_npz *z, pg_err *e)
{
    const pg_npy **s = pg_alloc(z->n, sizeof *s);
    if (!s)
        return pg_error_nomem(e);
    int rc = PG_OK;
    for (size_t i = 0; i < z->n; i++)
        s[i] = &z->a[i];
    qsort(s, z->n, sizeof *s, by_key);
    for (size_t i = 1; !rc && i < z->n; i++)
        if (!strcmp(s[i - 1]->key, s[i]->key))
            rc = pg_error(e, PG_EFORMAT, "cannot read '%s': array '%s' is there twice", z->path, s[i]->key);
    free(s);
    return rc;
}

int pg_npz_open(pg_npz **out, const char *path, pg_err *e)
{
    *out = NULL;
    pg_npz *z = pg_calloc(1, sizeof *z);
    if (!z || !(z->path = pg_strdup(path))) {
        free(z);
        return pg_error_nomem(e);
    }
    int rc = pg_map_open(&z->map, path, e);
    if (!rc)
        rc = pg_zip_each(&z->map, path, add, z, e);
    if (!rc)
        rc = check_twins(z, e);
    if (rc)
        pg_npz_close(z);
    else
        *out = z;
    return rc;
}

void pg_npz_close(pg_npz *z)
{
    if (!z)
        return;
    for (size_t i = 0; i < z->n; i++) {
        free((void *)(uintptr_t)z->a[i].key);
        pg_map_close(&z->s[i].unpacked);
        pg_map_close(&z->s[i].reordered);
    }
    free(z->a);
    free(z->s);
    free(z->path);
    pg_map_close(&z->map);
    free(z);
}

const pg_npy *pg_npz_find(const pg_npz *z, const char *key)
{
    for (size_t i = 0; i < z->n; i++)
        if (!strcmp(z->a[i].key, key))
            return &z->a[i];
    return NULL;
}

size_t pg_npz_count(const pg_npz *z)
{
    return z->n;
}

const pg_npy *pg_npz_at(const pg_npz *z, size_t i)
{
    return i < z->n ? &z->a[i] : NULL;
}

uint32_t pg_npz_crc(const pg_npz *z, size_t i)
{
    return z->s[i].crc;
}

const unsigned char *pg_npz_member(const pg_npz *z, size_t i, size_t *n)
{
    *n = z->s[i].n;
    return z->s[i].p;
}

void pg_npz_forget(const pg_npz *z, const void *p, size_t n)
{
    pg_map_forget(&z->map, p, n);
    for (size_t i = 0; i < z->n; i++) {
        pg_map_forget(&z->s[i].unpacked, p, n);
        pg_map_forget(&z->s[i].reordered, p, n);
    }
}
