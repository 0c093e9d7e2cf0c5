/* Parts of pg-infer: options and what is opened (infer_setup.c), the threads that caption
 * (infer_replica.c), the loop over records (pg-infer.c). */
#ifndef PG_INFER_H
#define PG_INFER_H

#include <pthread.h>

#include "model/decode.h"
#include "model/sample.h"
#include "text/text.h"
#include "tool.h"

/* A record between coming and going. Only the main thread touches rec, id and state; a replica what is under `caption`, while the
 * record is its own. */
typedef struct slot {
    char id[128]; /* for messages */
    uint64_t picture; /* a hash of its pixels */
    pg_rec *rec;
    pg_sample sample;
    pg_caption caption;
    int32_t *tokens;
    float *made;     /* --score-only: log-probabilities [sample.n]; --features: those [n_image,width] */
    pg_err err;      /* of these two: why there are none */
    bool finished;   /* may go, once all before it have gone; under the lock, as what follows */
    pg_buf told;     /* --partial: of each text so far its length, then its tokens (int32) */
    pg_buf said;     /* the main thread's: what was told and is now written */
} slot;

/* One model with threads of its own, and the thread that leads them. Several where the model is small: its products are over
 * sooner than threads that share them could meet. */
typedef struct replica {
    struct infer *f;
    pg_kern *kern;
    pg_model *m;
    pg_work *w;
    pg_decoder *decoder; /* NULL: --score-only, --features */
    pthread_t thread;
} replica;

typedef struct infer {
    pg_tool t;
    tool_pipe p;
    const char *model, *tokenizer_path, *adapter;
    pg_decoding how;
    size_t batch;
    bool partial, score, features, half, bf16, int8; /* half: features are stored as float16 */
    pg_model *m; /* the first replica's, for its shape */
    pg_tokenizer *tok;
    replica *replicas;
    size_t n_replicas, seats; /* seats: of each */
    slot *slots; /* a ring, in the order of the stream: slot n % n_slots holds the n-th record that came */
    size_t n_slots, come, gone;
    pg_rec *partial_rec;
    pg_buf text;
    uint64_t done, tokens, cut, no_newline, no_eos, beyond;
    char first_no_newline[128];
    tool_same same;
    /* shared with the replicas */
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    size_t ready, taken; /* records up to `ready` may be taken, those up to `taken` were */
    bool over;           /* no more will come */
    pg_err failed;       /* of a replica; all end */
    int wake[2];         /* a pipe: the main thread waits for it and the stream at once */
} infer;

void infer_parse(infer *f, int argc, char **argv);
void infer_set_up(infer *f);
void infer_tear_down(infer *f);

int infer_told(void *replica, pg_caption *c); /* for pg_decoding.told */
/* Replicas take records as they become ready and mark them as finished. */
void infer_start(infer *f);
void infer_stop(infer *f); /* after the last record is finished */
/* Until the stream has something to read (where `stream`), a replica has something to tell, or the output has nobody to read it. */
void infer_wait(infer *f, bool stream);

#endif
