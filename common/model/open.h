/* Inside the model room: what pg_model.owned holds. */
#ifndef PG_MODEL_OPEN_H
#define PG_MODEL_OPEN_H

#include "model/layers.h"

typedef struct pg_owned {
    pg_work *vectors; /* widened norms and biases, master copies, gradients */
    pg_work *scratch; /* for the image tower */
} pg_owned;

void pg_model_free_forms(pg_model *m); /* what pg_model_quantise and pg_model_pack made */
pg_work *pg_model_scratch(const pg_model *m);

#endif
