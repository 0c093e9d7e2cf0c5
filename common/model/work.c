#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/layers.h"

enum { MAX_CHUNKS = 256, CHUNK_FLOATS = 1 << 20, ALIGN_FLOATS = 16 };

typedef struct chunk {
    float *p;
    size_t cap;
} chunk;

struct pg_work {
    chunk chunks[MAX_CHUNKS];
    size_t n_chunks;
    pg_mark at;
};

int pg_work_new(pg_work **w, pg_err *e)
{
    *w = pg_calloc(1, sizeof **w);
    return *w ? PG_OK : pg_error_nomem(e);
}

void pg_work_free(pg_work *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_chunks; i++)
        free(w->chunks[i].p);
    free(w);
}

pg_mark pg_work_mark(const pg_work *w)
{
    return w->at;
}

/* With nothing in use any more, many chunks become one, so that the next pass of this size lies in one piece. */
void pg_work_release(pg_work *w, pg_mark mark)
{
    w->at = mark;
    if (mark.chunk || mark.used || w->n_chunks < 2)
        return;
    size_t total = 0;
    for (size_t i = 0; i < w->n_chunks; i++) {
        total += w->chunks[i].cap;
        free(w->chunks[i].p);
    }
    w->n_chunks = 0;
    w->chunks[0].p = pg_floats(total);
    if (w->chunks[0].p) {
        w->chunks[0].cap = total;
        w->n_chunks = 1;
    }
}

float *pg_work_floats(pg_work *w, size_t n, pg_err *e)
{
    size_t need;
    if (!pg_add(n, ALIGN_FLOATS, &need))
        return pg_error_nomem(e), NULL;
    need = need / ALIGN_FLOATS * ALIGN_FLOATS;
    while (w->at.chunk < w->n_chunks) {
        const chunk *c = &w->chunks[w->at.chunk];
        if (c->cap - w->at.used >= need) {
            float *p = c->p + w->at.used;
            w->at.used += need;
            return p;
        }
        w->at.chunk++;
        w->at.used = 0;
    }
    if (w->n_chunks == MAX_CHUNKS)
        return pg_error_nomem(e), NULL;
    /* As much again as is held: few chunks whatever the size, room for a group that is a little larger than the last, and memory that
     * is never touched costs nothing. */
    size_t held = 0, cap;
    for (size_t i = 0; i < w->n_chunks; i++)
        held += w->chunks[i].cap;
    cap = held > CHUNK_FLOATS ? held : CHUNK_FLOATS;
    if (cap < need)
        cap = need;
    float *p = pg_floats(cap);
    if (!p && cap > need)
        p = pg_floats(cap = need);
    if (!p)
        return pg_error_nomem(e), NULL;
    w->chunks[w->n_chunks] = (chunk){p, cap};
    w->at = (pg_mark){w->n_chunks++, need};
    return p;
}

float *pg_work_rows(pg_work *w, size_t a, size_t b, pg_err *e)
{
    size_t n;
    if (!pg_mul(a, b, &n))
        return pg_error_nomem(e), NULL;
    return pg_work_floats(w, n, e);
}

void *pg_work_bytes(pg_work *w, size_t n, size_t size, pg_err *e)
{
    size_t bytes;
    if (!pg_mul(n, size, &bytes))
        return pg_error_nomem(e), NULL;
    return pg_work_floats(w, bytes / sizeof(float) + 1, e);
}
