/* Optimizers over a model's trainable tensors. */
#ifndef PG_TRAIN_OPTIM_H
#define PG_TRAIN_OPTIM_H

#include "model/model.h"

typedef enum { PG_SGD, PG_ADAMW } pg_optim_kind;

typedef struct pg_optim {
    pg_optim_kind kind;
    double lr, weight_decay, clip, b1, b2, eps; /* clip 0: none */
    double momentum;                            /* of SGD: m = g + momentum * m, w -= lr * m; 0: none */
    double grad_scale;                          /* the gradient is this times g; 0: 1. 1/n where n batches were added up */
    size_t count;                               /* steps done */
    float **mu, **nu;                           /* per parameter; AdamW, and mu of SGD with momentum */
    double *lr_mult, *decay;                    /* per parameter: multiplies lr; of weight_decay. NULL: 1; 1 for names ending in /kernel */
    size_t n;
    /* the step that is going on */
    pg_model *m;
    double schedule, squares; /* squares: sum of the gradient's */
    size_t stage;             /* the first that was not applied */
    bool changed;
    int rc;
    pg_err err;
} pg_optim;

/* o's numbers are set by the caller; this allocates the moments. */
int pg_optim_init(pg_optim *o, const pg_model *m, pg_err *e) PG_MUST_CHECK;
void pg_optim_free(pg_optim *o);

/* A list of "REGEX=X": the first regex (POSIX extended) that matches a parameter's name gives its number, as big_vision's lr_mults and
 * wd_mults; names that none matches get `other`. *out is for free(). PG_EINVAL: an entry is malformed or decides for no name. */
int pg_optim_mults(double **out, const pg_model *m, const char *const *list, size_t n, double other, pg_err *e) PG_MUST_CHECK;

/* One update from the gradients in m->params; schedule: this step's multiplier of lr (and of the decay, which is decoupled, apart
 * from gradient and lr_mult: big_vision optax.py). norm: of the gradient before clipping. PG_FAIL where the norm is not
 * finite (nothing is changed then) or where a weight no longer is. *changed: some weight differs from before. */
int pg_optim_step(pg_optim *o, pg_model *m, double schedule, double *norm, bool *changed, pg_err *e) PG_MUST_CHECK;
/* The same around the pg_loss that completes the gradients. Where layers share their memory (pg_grads_share) each stage is applied as soon
 * as it is complete, to the same bits; so there can be no clipping, and a gradient that is not finite is noticed when weights of
 * earlier stages have changed: after PG_FAIL the weights are not to be used. Where a loss is not finite pg_loss completes no gradient. */
void pg_optim_begin(pg_optim *o, pg_model *m, double schedule);
int pg_optim_end(pg_optim *o, double *norm, bool *changed, pg_err *e) PG_MUST_CHECK;

#endif
