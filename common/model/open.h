/* Inside the model room: what pg_model.owned holds. */
#ifndef PG_MODEL_OPEN_H
#define PG_MODEL_OPEN_H

#include "model/layers.h"

typedef struct pg_owned {
    pg_work *vectors; /* widened norms and biases, master copies */
    pg_work *scratch; /* for the image tower */
} pg_owned;

/* The linear layers of step i of the model: tower, head, decoder. Returns how many. */
enum { PG_LINEARS = 7 };
size_t pg_model_linears(pg_model *m, size_t i, pg_linear *out[PG_LINEARS]);
void pg_model_free_forms(pg_model *m); /* what pg_model_quantise and pg_model_pack made */
pg_work *pg_model_scratch(const pg_model *m);

#endif
