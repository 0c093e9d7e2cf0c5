/* Training examples out of a stream: tokens and masks in memory; pictures as image features (frozen tower: computed once, here or by
 * pg-infer --features) or as
 * pixels, in memory up to a limit, beyond that in a temporary file that has no name. */
#ifndef PG_TRAIN_DATA_H
#define PG_TRAIN_DATA_H

#include "model/loss.h"
#include "model/sample.h"
#include "stream/stream.h"

typedef struct pg_store pg_store; /* rows of equal size */
int pg_store_new(pg_store **s, size_t row_floats, size_t memory, pg_err *e) PG_MUST_CHECK;
void pg_store_free(pg_store *s);
int pg_store_add(pg_store *s, const float *row, pg_err *e) PG_MUST_CHECK;
void pg_store_clear(pg_store *s); /* forgets the rows, keeps the memory */
/* *at: row i, in the store where it is in memory (until the next clear or free), else read into row. */
int pg_store_get(const pg_store *s, size_t i, float *row, const float **at, pg_err *e) PG_MUST_CHECK;

typedef struct pg_data_item {
    char *id;
    int32_t *tokens; /* tokens, mask_ar, mask_loss, mask_input: 4 lists of n */
    size_t n, n_prefix, n_loss;
    uint64_t picture; /* a hash of its pixels */
} pg_data_item;

typedef struct pg_data {
    pg_data_item *items;
    size_t n, cap;
    pg_store *store;
    bool pixels;   /* the store holds pixels, else features */
    size_t errors, unusable;           /* records left out: with an error; that do not fit */
    size_t no_suffix, no_eos, beyond;  /* kept: without suffix, without eos, with pixels not in [-1,1] */
    bool skip;     /* set by the caller: pictures are not looked at, the items only count */
    uint64_t hash; /* of ids, tokens and pixels, in order */
    char first_unusable[256];
    int (*seen)(void *ctx, size_t i, const pg_rec *rec, pg_err *e); /* NULL, or told of the record that items[i] was made of */
    void *ctx;
    size_t lanes; /* encode is called for so many times PG_FEATURE_GROUP pictures; 0: 1 */
    int (*encode)(void *ctx, const float *const *pixels, size_t n, float *features, pg_err *e); /* NULL: pg_vit_forward */
    void *encode_ctx;
} pg_data;
enum { PG_FEATURE_GROUP = 8 }; /* pictures that go through the tower together */

/* Reads up to `most` records (0: to the end, which must be there). Returns 1 where the stream has ended, 0 where most was reached. */
int pg_data_read(pg_data *d, pg_reader *rd, pg_model *m, size_t most, size_t memory, pg_err *e) PG_MUST_CHECK;
void pg_data_clear(pg_data *d); /* forgets the items, keeps counts and hash */
void pg_data_free(pg_data *d);
/* Fills ex[n] from items idx[n]; rows must hold n rows of the store, for those that are in a file. */
int pg_data_batch(const pg_data *d, const pg_model *m, const size_t *idx, size_t n, float *rows, pg_example *ex, pg_err *e) PG_MUST_CHECK;
size_t pg_data_row(const pg_data *d, const pg_model *m); /* floats of a row */

/* The order of examples: a new permutation each epoch from (seed, epoch); example number k of the run. */
typedef struct pg_order {
    size_t n, epoch, *perm;
    uint64_t seed;
    bool shuffle, ready;
} pg_order;
int pg_order_new(pg_order *o, size_t n, uint64_t seed, bool shuffle, pg_err *e) PG_MUST_CHECK;
size_t pg_order_at(pg_order *o, size_t k);
void pg_order_free(pg_order *o);

#endif
