/* Arrays of an npz in Fortran order (numpy writes a transposed array so) or big-endian. */
#include <string.h>

#include "weights/internal.h"

enum { BLOCK = 4096 }; /* elements: a block of both sides stays in the cache */

typedef struct job {
    const unsigned char *in;
    unsigned char *out;
    size_t size, ndim, in_step[PG_MAX_DIMS], out_step[PG_MAX_DIMS]; /* steps in elements */
    bool swap;
} job;

static void move(const job *j, size_t in, size_t out)
{
    const unsigned char *p = j->in + in * j->size;
    unsigned char *q = j->out + out * j->size;
    if (!j->swap)
        memcpy(q, p, j->size);
    else
        for (size_t i = 0; i < j->size; i++)
            q[i] = p[j->size - 1 - i];
}

static void move_block(const job *j, size_t in, size_t out, size_t axis, const size_t *shape)
{
    for (size_t i = 0; i < shape[axis]; i++) {
        size_t from = in + i * j->in_step[axis], to = out + i * j->out_step[axis];
        if (axis + 1 < j->ndim)
            move_block(j, from, to, axis + 1, shape);
        else
            move(j, from, to);
    }
}

/* The longest axis is halved until a block is small, so that near elements of either side are visited at about the same time, whatever
 * the size of a cache or a page. */
static void move_all(const job *j, size_t in, size_t out, const size_t *shape)
{
    size_t count = 1, half[PG_MAX_DIMS], k = 0;
    for (size_t i = 0; i < j->ndim; i++) {
        count *= half[i] = shape[i];
        k = shape[i] > shape[k] ? i : k;
    }
    if (count <= BLOCK) {
        move_block(j, in, out, 0, shape);
        return;
    }
    half[k] = shape[k] / 2;
    move_all(j, in, out, half);
    in += half[k] * j->in_step[k];
    out += half[k] * j->out_step[k];
    half[k] = shape[k] - half[k];
    move_all(j, in, out, half);
}

int pg_npy_reorder(pg_map *m, pg_npy *a, unsigned odd, pg_err *e)
{
    int rc = pg_map_temp(m, a->count * a->itemsize, e);
    if (rc)
        return rc;
    job j = {.in = a->data, .out = (unsigned char *)(uintptr_t)m->data, .size = a->itemsize, .ndim = a->ndim, .swap = odd & PG_NPY_BIG_ENDIAN};
    size_t first = 1, last = a->count;
    for (size_t i = 0; i < a->ndim; i++) {
        last /= a->shape[i];
        j.out_step[i] = last;
        j.in_step[i] = odd & PG_NPY_FORTRAN ? first : last;
        first *= a->shape[i];
    }
    if (a->ndim)
        move_all(&j, 0, 0, a->shape);
    else
        move(&j, 0, 0);
    a->data = m->data;
    pg_map_forget(m, m->data, m->len);
    return PG_OK;
}
