/* Keys and values of texts, for decoding. A slot holds [layer][keys, values][position][kv_heads*head_dim] in f32 and grows with its
 * text. A text may begin in a slot that others begin in too: picture and prefix are kept once, not once for each beam. */
#ifndef PG_MODEL_CACHE_H
#define PG_MODEL_CACHE_H

#include "model/model.h"

/* slots: empty at first. */
int pg_cache_new(pg_cache **c, const pg_model *m, size_t slots, pg_err *e) PG_MUST_CHECK;
void pg_cache_free(pg_cache *c);
/* Room for so many positions; what the first `kept` hold stays. */
int pg_cache_reserve(pg_cache *c, size_t slot, size_t positions, size_t kept, pg_err *e) PG_MUST_CHECK;
/* The first n positions of slot `from` into slot `to`, which must have room. */
void pg_cache_copy(pg_cache *c, size_t to, size_t from, size_t n);
size_t pg_cache_positions(const pg_cache *c, size_t slot); /* 0 where there is no such slot */
/* Keys (part 0) or values (part 1) of one layer: [positions][kv_heads*head_dim]. */
float *pg_cache_at(pg_cache *c, size_t layer, size_t part, size_t slot);

#endif
