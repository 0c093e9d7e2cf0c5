/* Inside the model room: what may follow each row. */
#ifndef PG_MODEL_CHOOSE_H
#define PG_MODEL_CHOOSE_H

#include "model/decode.h"

typedef struct pg_option {
    int32_t token; /* -1: the logits are not finite */
    double logp;
} pg_option;

typedef struct pg_row_ask {
    bool first;      /* the first token of a text */
    size_t draws;    /* samples wanted of this row */
    const double *u; /* [draws] in [0,1) */
} pg_row_ask;

typedef struct pg_chooser pg_chooser; /* scratch of the threads */
int pg_chooser_new(pg_chooser **c, const pg_model *m, const pg_decoding *how, pg_err *e) PG_MUST_CHECK;
void pg_chooser_free(pg_chooser *c);
/* Options of a row: with beams the beams + 1 likeliest (fewer where the vocabulary is smaller), then, last, eos; else one for each draw. */
size_t pg_options_of(const pg_model *m, const pg_decoding *how, size_t draws);
/* h [R,D]; options [R][per_row], with as many as pg_options_of says for the most draws of a row. */
int pg_choose(pg_chooser *c, pg_model *m, pg_work *w, const pg_decoding *how, const float *h, size_t R, const pg_row_ask *ask,
              pg_option *options, size_t per_row, pg_err *e) PG_MUST_CHECK;

#endif
