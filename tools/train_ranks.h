/* What rank 0 says to the others: a message, then what its kind needs. Answers go back in the order of ranks. */
#ifndef PG_TRAIN_RANKS_H
#define PG_TRAIN_RANKS_H

#include "train.h"

typedef enum {
    MSG_GO = 1,   /* parse the options, open the model, answer with train_twin_text: its length in a uint64_t, then itself */
    MSG_END,      /* leave */
    MSG_FEATURES, /* pixels of n pictures follow; answer with their features, one picture after another */
    MSG_BATCH,    /* examples follow (see below); loss and gradients, answer with n losses (double), once all gradients are summed if `last` */
    MSG_LOSS,     /* examples follow; answer with their mean loss (double) */
    MSG_STATE,    /* after `count` steps: weights and moments follow, cast from rank to rank */
    MSG_STEP      /* the optimizer's step with this multiplier of the rate; no answer */
} msg_kind;

/* Examples: `words` int32_t, for each its length L and 4 lists of L; then for each a row of floats, features or pixels. */
typedef struct msg {
    uint64_t kind, n, of; /* n examples of a batch of `of` */
    uint64_t words, longest, count;
    uint64_t pixels, first, last; /* rows are pixels; first and last batch of a step */
    double mult;
} msg;

#endif
