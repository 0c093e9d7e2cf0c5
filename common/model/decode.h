/* Decoding: greedy, beams, samples. One engine for all: a decoder has seats, each for one picture and prefix, whose keys are computed
 * once and kept once; the texts that grow from it (beams, samples) have slots of their own for what comes after. A step adds one
 * token to every text of every seat, all rows in one product. Seats need not start together: as soon as a caption has been taken,
 * its seat is free for the next. */
#ifndef PG_MODEL_DECODE_H
#define PG_MODEL_DECODE_H

#include "model/model.h"

typedef struct pg_caption {
    const float *pixels;         /* in; or features [n_image,width] where not NULL */
    const float *features;
    const int32_t *prefix;       /* in: tokens, bos to newline */
    size_t n_prefix;
    uint64_t stream;             /* in: which of the seed's random sequences samples of this one are drawn with */
    int32_t *tokens;             /* out: room for max_len; eos included where reached */
    size_t n;
    double logprob;              /* out: sum, natural log, eos included; the model's own, whatever temperature and nucleus */
    bool ended;                  /* eos reached */
    pg_err err;                  /* code 0: fine; else why this one has no caption */
} pg_caption;

typedef struct pg_decoding {
    size_t max_len;      /* most tokens of a caption, eos counted; at least 1 */
    size_t beams;        /* 0: no beam search. A beam's caption always ends with eos: the likeliest finished one within max_len */
    double temperature;  /* 0: the likeliest token */
    double top_p;        /* 0: no nucleus */
    size_t samples;      /* of each, the likeliest being kept; 0 is 1 */
    uint64_t seed;
    float final_softcap; /* 0: none. Applied to all tokens but the first, as the reference does */
    /* NULL: the seeded generator. Else a number in [0,1) for token `at` of a sample. */
    double (*uniform)(void *ctx, const pg_caption *c, size_t sample, size_t at);
    /* NULL: nobody. Told after each step: c->tokens and c->n are the text so far, with beams the likeliest unfinished one.
     * Not with several samples. Non-zero stops the step with PG_FAIL. */
    int (*told)(void *ctx, pg_caption *c);
    void *ctx;
} pg_decoding;

enum { PG_MAX_BEAMS = 64, PG_MAX_SAMPLES = 1024 };

typedef struct pg_decoder pg_decoder;
/* m and w are borrowed. PG_EINVAL where the options exclude each other. */
int pg_decoder_new(pg_decoder **d, pg_model *m, pg_work *w, const pg_decoding *how, size_t seats, pg_err *e) PG_MUST_CHECK;
void pg_decoder_free(pg_decoder *d);
/* false: no seat is free. c and what it points to must stay until it is taken. */
bool pg_decoder_add(pg_decoder *d, pg_caption *c) PG_MUST_CHECK;
size_t pg_decoder_seated(const pg_decoder *d);
/* Reads the pictures and prefixes that were added since and chooses their first tokens, then adds a token to every text. A caption
 * that cannot be made gets its err and is finished, the others go on; a failure that is returned is one of all. */
int pg_decoder_step(pg_decoder *d, pg_err *e) PG_MUST_CHECK;
/* A finished caption, whose seat is free now; NULL: none. */
pg_caption *pg_decoder_take(pg_decoder *d);

/* All of c[0..n), on so many seats. */
int pg_decode(pg_model *m, pg_work *w, const pg_decoding *how, pg_caption *c, size_t n, size_t seats, pg_err *e) PG_MUST_CHECK;

#endif
