/* Words and n-grams as small numbers. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "metrics/internal.h"

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static int grow(pg_ids *m, pg_err *e)
{
    size_t cap = m->cap ? m->cap * 2 : 1024;
    uint64_t *keys = pg_alloc(cap, sizeof *keys);
    uint32_t *values = pg_calloc(cap, sizeof *values);
    if (!keys || !values) {
        free(keys);
        free(values);
        return pg_error_nomem(e);
    }
    for (size_t i = 0; i < m->cap; i++)
        if (m->values[i]) {
            size_t k = (size_t)mix(m->keys[i]) & (cap - 1);
            while (values[k])
                k = (k + 1) & (cap - 1);
            keys[k] = m->keys[i];
            values[k] = m->values[i];
        }
    free(m->keys);
    free(m->values);
    m->keys = keys;
    m->values = values;
    m->cap = cap;
    return PG_OK;
}

int pg_ids_get(pg_ids *m, uint64_t key, uint32_t *id, pg_err *e)
{
    if (2 * (m->n + 1) > m->cap && grow(m, e))
        return PG_ENOMEM;
    size_t k = (size_t)mix(key) & (m->cap - 1);
    while (m->values[k] && m->keys[k] != key)
        k = (k + 1) & (m->cap - 1);
    if (!m->values[k]) {
        if (m->n >= UINT32_MAX - 1)
            return pg_error(e, PG_ELIMIT, "too many different word sequences");
        m->keys[k] = key;
        m->values[k] = (uint32_t)++m->n;
    }
    *id = m->values[k] - 1;
    return PG_OK;
}

void pg_ids_free(pg_ids *m)
{
    free(m->keys);
    free(m->values);
    *m = (pg_ids){0};
}

static uint64_t hash(const char *s, size_t n)
{
    return mix(pg_mix(PG_MIX, s, n));
}

static int rehash(pg_vocabulary *v, pg_err *e)
{
    size_t cap = v->cap ? v->cap * 2 : 1024;
    uint32_t *slots = pg_calloc(cap, sizeof *slots);
    size_t *at = pg_realloc(v->at, cap / 2 + 2, sizeof *at);
    if (at)
        v->at = at;
    if (!slots || !at) {
        free(slots);
        return pg_error_nomem(e);
    }
    for (size_t w = 0; w < v->n; w++) {
        size_t k = (size_t)hash((const char *)v->text.data + at[w], at[w + 1] - at[w]) & (cap - 1);
        while (slots[k])
            k = (k + 1) & (cap - 1);
        slots[k] = (uint32_t)w + 1;
    }
    free(v->slots);
    v->slots = slots;
    v->cap = cap;
    return PG_OK;
}

int pg_vocabulary_get(pg_vocabulary *v, const char *s, size_t n, uint32_t *id, pg_err *e)
{
    int rc = PG_OK;
    if (2 * (v->n + 1) > v->cap && (rc = rehash(v, e)))
        return rc;
    size_t k = (size_t)hash(s, n) & (v->cap - 1);
    for (; v->slots[k]; k = (k + 1) & (v->cap - 1)) {
        size_t w = v->slots[k] - 1, len = v->at[w + 1] - v->at[w];
        if (len == n && (n == 0 || !memcmp(v->text.data + v->at[w], s, n))) {
            *id = (uint32_t)w;
            return PG_OK;
        }
    }
    if (v->n >= UINT32_MAX - 2)
        return pg_error(e, PG_ELIMIT, "too many different words");
    v->at[v->n] = v->text.len;
    if ((rc = pg_buf_add(&v->text, s, n, e)))
        return rc;
    v->at[v->n + 1] = v->text.len;
    v->slots[k] = (uint32_t)v->n + 1;
    *id = (uint32_t)v->n++;
    return PG_OK;
}

void pg_vocabulary_free(pg_vocabulary *v)
{
    pg_buf_free(&v->text);
    free(v->at);
    free(v->slots);
    *v = (pg_vocabulary){0};
}
