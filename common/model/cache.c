#include "model/cache.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST = 4 }; /* positions of a slot that holds any */

typedef struct slot {
    float *data;
    size_t positions;
} slot;

struct pg_cache {
    slot *slots;
    size_t n, row, parts; /* row: kv_heads * head_dim; parts: keys and values of each layer */
};

int pg_cache_new(pg_cache **out, const pg_model *m, size_t slots, pg_err *e)
{
    pg_cache *c = pg_calloc(1, sizeof *c);
    *out = NULL;
    if (!c || !(c->slots = pg_calloc(slots, sizeof *c->slots))) {
        free(c);
        return pg_error_nomem(e);
    }
    c->n = slots;
    c->row = m->s.kv_heads * m->s.head_dim;
    c->parts = 2 * m->s.depth;
    *out = c;
    return PG_OK;
}

void pg_cache_free(pg_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++)
        free(c->slots[i].data);
    free(c->slots);
    free(c);
}

int pg_cache_reserve(pg_cache *c, size_t at, size_t positions, size_t kept, pg_err *e)
{
    slot *s = &c->slots[at];
    size_t n, room = 2 * s->positions;
    float *data = NULL;
    if (positions <= s->positions)
        return PG_OK;
    /* A text that grows doubles its slot; one of known length gets what it needs. */
    if (!kept || room < positions)
        room = positions < LEAST ? LEAST : positions;
    if (pg_mul(room, c->row, &n) && pg_mul(n, c->parts, &n))
        data = pg_floats(n);
    if (!data)
        return pg_error_nomem(e);
    for (size_t p = 0; kept && p < c->parts; p++)
        memcpy(data + p * room * c->row, s->data + p * s->positions * c->row, kept * c->row * sizeof *data);
    free(s->data);
    *s = (slot){data, room};
    return PG_OK;
}

void pg_cache_copy(pg_cache *c, size_t to, size_t from, size_t n)
{
    const slot *a = &c->slots[from];
    slot *b = &c->slots[to];
    for (size_t p = 0; n && p < c->parts; p++)
        memcpy(b->data + p * b->positions * c->row, a->data + p * a->positions * c->row, n * c->row * sizeof *b->data);
}

size_t pg_cache_positions(const pg_cache *c, size_t at)
{
    return at < c->n ? c->slots[at].positions : 0;
}

float *pg_cache_at(pg_cache *c, size_t layer, size_t part, size_t at)
{
    return c->slots[at].data + (layer * 2 + part) * c->slots[at].positions * c->row;
}
