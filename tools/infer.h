/* Parts of pg-infer: options and what is opened (infer_setup.c), the loop over records (pg-infer.c). */
#ifndef PG_INFER_H
#define PG_INFER_H

#include "model/decode.h"
#include "model/sample.h"
#include "text/text.h"
#include "tool.h"

/* A record between coming and going. */
typedef struct slot {
    char id[128]; /* for messages */
    uint64_t picture; /* a hash of its pixels */
    pg_rec *rec;
    pg_sample sample;
    pg_caption caption;
    bool finished; /* may go, once all before it have gone */
    int32_t *tokens;
} slot;

typedef struct infer {
    pg_tool t;
    tool_pipe p;
    const char *model, *tokenizer_path, *adapter;
    pg_decoding how;
    size_t batch;
    bool partial, score, bf16, int8;
    pg_kern *kern;
    pg_model *m;
    pg_work *w;
    pg_decoder *decoder;
    pg_tokenizer *tok;
    slot *slots; /* a ring: `held` from `first` on, in the order of the stream */
    size_t n_slots, first, held;
    pg_rec *partial_rec;
    pg_buf text;
    uint64_t come, done, tokens, cut, no_newline, no_eos;
    char first_no_newline[128];
    tool_same same;
    double patience; /* seconds that may be waited for another record */
} infer;

void infer_parse(infer *f, int argc, char **argv);
void infer_set_up(infer *f);
void infer_tear_down(infer *f);
_Noreturn void infer_no_memory(const infer *f);

#endif
