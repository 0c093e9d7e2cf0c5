/* Optimizers over a model's trainable tensors. */
#ifndef PG_TRAIN_OPTIM_H
#define PG_TRAIN_OPTIM_H

#include "model/model.h"

typedef enum { PG_SGD, PG_ADAMW } pg_optim_kind;

typedef struct pg_optim {
    pg_optim_kind kind;
    double lr, weight_decay, clip, b1, b2, eps; /* clip 0: none */
    size_t count;                               /* steps done */
    float **mu, **nu;                           /* per parameter; AdamW only */
    size_t n;
} pg_optim;

/* o's numbers are set by the caller; this allocates the moments. */
int pg_optim_init(pg_optim *o, const pg_model *m, pg_err *e) PG_MUST_CHECK;
void pg_optim_free(pg_optim *o);
/* One update from the gradients in m->params; schedule: this step's multiplier of lr (and of AdamW's decay, which is decoupled:
 * big_vision optax.py; only names ending in /kernel decay). norm: of the gradient before clipping. PG_FAIL where the norm is not
 * finite (nothing is changed then) or where a weight no longer is. *changed: some weight differs from before. */
int pg_optim_step(pg_optim *o, pg_model *m, double schedule, double *norm, bool *changed, pg_err *e) PG_MUST_CHECK;

#endif
