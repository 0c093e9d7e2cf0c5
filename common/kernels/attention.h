/* How attention is cut into pieces, for the files that compute one. Inside the room. */
#ifndef PG_KERNELS_ATTENTION_H
#define PG_KERNELS_ATTENTION_H

#include "kernels/ops.h"

/* Some rows of one sequence under one key head. */
typedef struct pg_attn_block {
    const pg_attn *s;
    const pg_attn_dims *d;
    size_t rows, ldq, ldo;              /* strides between rows */
    size_t query, head;                 /* of the first row */
    size_t kv;                          /* key head */
    size_t keys;                        /* the largest limit of the rows */
    size_t lim[PG_ATTN_ROWS];      /* how many keys each row sees */
    size_t lse[PG_ATTN_ROWS];      /* where its lse goes */
} pg_attn_block;

/* How many of n keys, the first of which is `key`, row r sees. */
static inline size_t pg_attn_visible(const pg_attn_block *b, size_t r, size_t key, size_t n)
{
    return b->lim[r] <= key ? 0 : pg_min_size(n, b->lim[r] - key);
}

/* Keys and values of the block's head from `key` on, *n of them at most: a run ends where the second part of the keys begins. */
void pg_attn_keys(const pg_attn_block *b, size_t key, size_t *n, const float **k, const float **v);

/* The running softmax of rows, block of keys by block of keys (online softmax, Milakov and Gimelshein 2018; FlashAttention, Dao 2022). */
typedef struct pg_softmax {
    float max[PG_ATTN_ROWS];
    double sum[PG_ATTN_ROWS];
} pg_softmax;
void pg_softmax_begin(pg_softmax *x, size_t rows);
/* Row r meets a logit of `max`: what its sum and out [H] hold already is scaled to suit. Not-a-number changes nothing: the sum will show it. */
void pg_softmax_raise(const pg_ops *ops, pg_softmax *x, size_t r, float max, float *out, size_t H);
/* s: q·k of row r with n keys, of which it sees `see`; becomes their weights. */
void pg_softmax_row(const pg_ops *ops, pg_softmax *x, const pg_attn_block *b, size_t r, size_t see, float *s, size_t n, float *out);
void pg_softmax_end(const pg_ops *ops, const pg_softmax *x, const pg_attn_block *b, float *out);

/* attention_blocks.c */
size_t pg_attn_rows(size_t run, size_t most); /* of blocks of about equal size that cover the run, at most `most` rows each */
void pg_attn_forward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w);
/* What is wanted of a block backward: dq is of all keys (first 0), dk and dv may be of some of them, first a multiple of PG_ATTN_BACK_KEYS. */
typedef struct pg_attn_part {
    size_t first, end;
    bool dq, dkv;
} pg_attn_part;
/* At most PG_ATTN_BACK_ROWS rows. Overwrites dq, adds to dk and dv; the bits do not depend on what else is wanted. */
void pg_attn_backward(const pg_kern *k, const pg_attn_block *b, const pg_attn_part *part, const pg_scratch *w);

#endif
