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
    size_t lim[PG_ATTN_MOST_ROWS];      /* how many keys each row sees */
    size_t lse[PG_ATTN_MOST_ROWS];      /* where its lse goes */
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
    float max[PG_ATTN_MOST_ROWS];
    double sum[PG_ATTN_MOST_ROWS];
} pg_softmax;
void pg_softmax_begin(pg_softmax *x, size_t rows);
/* Row r meets a logit of `max`: what its sum and out [H] hold already is scaled to suit. Not-a-number changes nothing: the sum will show it. */
void pg_softmax_raise(const pg_ops *ops, pg_softmax *x, size_t r, float max, float *out, size_t H);
void pg_softmax_end(const pg_ops *ops, const pg_softmax *x, const pg_attn_block *b, float *out);

/* s: q·k of row r with n keys from `key` on, becomes their weights; ds: dout·v, becomes the gradient of q·k. delta: the row's dout·out. */
void pg_attn_row_back(const pg_ops *ops, const pg_attn_block *b, size_t r, float *s, float *ds, float delta, size_t key, size_t n);

/* attention_half.c: the products in bfloat16, sums and softmax as elsewhere. */
bool pg_attn_half_suits(const pg_kern *k, size_t rows, const pg_attn_dims *d);
size_t pg_attn_half_rows(size_t run, size_t pieces); /* of a block, so that pieces of about equal size cover the run */
void pg_attn_half_forward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w);
/* Adds to dk and dv. */
void pg_attn_half_backward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w);

#endif
