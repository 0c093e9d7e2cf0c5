/* The resume file: weights, moments, step, and what must be the same for the bits to go on the same. An npz. */
#ifndef PG_TRAIN_STATE_H
#define PG_TRAIN_STATE_H

#include "train/optim.h"

/* How far a run has come. */
typedef struct pg_progress {
    size_t step;      /* done */
    size_t best_step; /* of the smallest validation loss; 0: none yet */
    size_t worse;     /* validations since then */
    double best_loss;
    double first_loss, last_loss; /* of training: of the first step, and a mean of about the last ten; NAN where a state is older and has none */
    size_t high;                  /* steps at the end, one after another, whose losses were more than 1 above the first one's */
    uint64_t val;  /* a hash of the validation set; 0: there is none */
    bool moved, other_val; /* set on loading: the machine lines differ; val differs, and the best is none */
} pg_progress;

/* fingerprint: lines "name value", compared on loading. Those that begin with "machine " may differ: bits will, the run need not end. */
int pg_state_save(const char *path, const pg_model *m, const pg_optim *o, const pg_progress *p, const char *fingerprint, pg_err *e) PG_MUST_CHECK;
/* PG_EINVAL names the first line that differs. */
int pg_state_load(const char *path, pg_model *m, pg_optim *o, pg_progress *p, const char *fingerprint, pg_err *e) PG_MUST_CHECK;

#endif
