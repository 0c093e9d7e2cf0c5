/* Attention, exact, in blocks of rows and keys: scores are never held for more than one block. A task is some rows that share a
 * key head. Rows are a strided matrix: the queries of one head (stride ldq); or the heads of one query (stride head_dim), where there
 * are fewer queries than heads of a group (decoding); or, with one key head, the heads of all queries, as they lie behind each other. */
#include <math.h>
#include <string.h>

#include "kernels/ops.h"

enum { SMALL = 200000 }; /* a call of BLIS takes about 5 us: products smaller than this are faster without */

typedef struct job {
    const pg_kern *k;
    const pg_attn *seqs;
    const pg_attn_dims *d;
    size_t n_seqs;
} job;

/* Some rows of one sequence under one key head. */
typedef struct block {
    const pg_attn *s;
    size_t rows, ldq, ldo;      /* strides between rows */
    size_t query, head;         /* of the first row */
    size_t kv;                  /* key head */
    size_t keys;                /* the largest limit of the rows */
    size_t lim[PG_ATTN_ROWS];   /* how many keys each row sees */
    size_t lse[PG_ATTN_ROWS];   /* where its lse goes */
} block;

static void transpose(float *y, const float *x, size_t rows, size_t cols, size_t ld)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++) y[c * rows + r] = x[r * ld + c];
}

/* C[M,N] (+)= op(A)·op(B), in this thread. turned: room for the transpose of a small A or B. */
static void product(const pg_kern *k, float *turned, size_t M, size_t N, size_t K, const float *A, size_t lda, bool ta, const float *B,
                    size_t ldb, bool tb, bool add, float *C, size_t ldc)
{
    if (!ta && tb && M <= 2) {
        k->ops->gemm_nt(M, N, K, A, lda, B, PG_MAT_F32, ldb, add, C, ldc);
    } else if (M * N * K <= SMALL || (!ta && !tb && M == 1)) {
        if (ta) {
            transpose(turned, A, K, M, lda);
            A = turned;
            lda = K;
        } else if (tb) {
            transpose(turned, B, N, K, ldb);
            B = turned;
            ldb = N;
        }
        for (size_t m = 0; m < M; m += PG_SMALL_M)
            k->ops->gemm_nn(pg_min_size(PG_SMALL_M, M - m), N, K, A + m * lda, lda, B, PG_MAT_F32, ldb, add, C + m * ldc, ldc);
    } else {
        pg_blas_gemm(M, N, K, A, ta ? 1 : lda, ta ? lda : 1, B, tb ? 1 : ldb, tb ? ldb : 1, add ? 1 : 0, C, ldc);
    }
}

/* How the rows of one key head lie. */
typedef enum { BY_QUERIES, BY_HEADS, FLAT } layout;

static layout layout_of(const pg_attn *s, const pg_attn_dims *d)
{
    size_t row = d->heads * d->head_dim;
    if (d->kv_heads == 1 && d->ldq == row && d->ldo == row) return FLAT;
    return s->n < d->heads / d->kv_heads ? BY_HEADS : BY_QUERIES;
}

/* Blocks of one key head, of at most PG_ATTN_ROWS rows each. */
static size_t blocks_of(const pg_attn *s, const pg_attn_dims *d)
{
    size_t group = d->heads / d->kv_heads;
    switch (layout_of(s, d)) {
    case FLAT: return pg_div_up(s->n * group, PG_ATTN_ROWS);
    case BY_HEADS: return s->n * pg_div_up(group, PG_ATTN_ROWS);
    default: return group * pg_div_up(s->n, PG_ATTN_ROWS);
    }
}

static size_t limit(const pg_attn *s, size_t query)
{
    return s->lim ? pg_min_size(s->lim[query], s->n_keys) : s->n_keys;
}

static block block_at(const pg_attn *s, const pg_attn_dims *d, size_t kv, size_t i)
{
    size_t group = d->heads / d->kv_heads, first, runs;
    layout how = layout_of(s, d);
    block b = {.s = s, .kv = kv, .head = kv * group, .ldq = d->head_dim, .ldo = d->head_dim};
    switch (how) {
    case FLAT:
        first = i * PG_ATTN_ROWS;
        b.rows = pg_min_size(PG_ATTN_ROWS, s->n * group - first);
        b.query = first / group;
        b.head += first % group;
        break;
    case BY_HEADS:
        runs = pg_div_up(group, PG_ATTN_ROWS);
        first = i % runs * PG_ATTN_ROWS;
        b.rows = pg_min_size(PG_ATTN_ROWS, group - first);
        b.query = i / runs;
        b.head += first;
        break;
    case BY_QUERIES:
        runs = pg_div_up(s->n, PG_ATTN_ROWS);
        b.query = i % runs * PG_ATTN_ROWS;
        b.rows = pg_min_size(PG_ATTN_ROWS, s->n - b.query);
        b.head += i / runs;
        b.ldq = d->ldq;
        b.ldo = d->ldo;
        break;
    }
    size_t query = b.query, head = b.head;
    for (size_t r = 0; r < b.rows; r++) {
        b.lim[r] = limit(s, query);
        b.lse[r] = head * s->n + query;
        if (b.lim[r] > b.keys) b.keys = b.lim[r];
        if (how == BY_QUERIES) query++;
        else if (++head == (kv + 1) * group) {
            head = kv * group;
            query++;
        }
    }
    return b;
}

static size_t visible(const block *b, size_t r, size_t key, size_t n)
{
    return b->lim[r] <= key ? 0 : pg_min_size(n, b->lim[r] - key);
}

/* Keys and values from `key` on, *n of them at most: a run ends where the second part of the keys begins. */
static void keys_at(const pg_attn *s, size_t ldk, size_t key, size_t *n, const float **k, const float **v)
{
    bool second = s->k2 && key >= s->split;
    size_t row = second ? key - s->split : key;
    *k = (second ? s->k2 : s->k) + row * ldk;
    *v = (second ? s->v2 : s->v) + row * ldk;
    if (s->k2 && !second) *n = pg_min_size(*n, s->split - key);
}

static void forward(const job *j, const block *b, const pg_scratch *w)
{
    const pg_attn_dims *d = j->d;
    const pg_ops *ops = j->k->ops;
    size_t H = d->head_dim;
    const float *q = b->s->q + b->query * d->ldq + b->head * H;
    float *out = b->s->out + b->query * d->ldo + b->head * H, max[PG_ATTN_ROWS];
    double sum[PG_ATTN_ROWS];
    for (size_t r = 0; r < b->rows; r++) {
        max[r] = -INFINITY;
        sum[r] = 0;
    }
    for (size_t key = 0, n; key < b->keys; key += n) {
        const float *keys, *values;
        n = pg_min_size(PG_ATTN_KEYS, b->keys - key);
        keys_at(b->s, d->ldk, key, &n, &keys, &values);
        product(j->k, w->b, b->rows, n, H, q, b->ldq, false, keys + b->kv * H, d->ldk, true, false, w->s, n);
        for (size_t r = 0; r < b->rows; r++) {
            float *s = w->s + r * n;
            size_t see = visible(b, r, key, n);
            memset(s + see, 0, (n - see) * sizeof *s);
            if (!see) continue;
            float m = ops->logit(s, d->scale, d->softcap, see);
            if (m > max[r]) {
                if (key) {
                    float shrink = expf(max[r] - m);
                    sum[r] *= (double)shrink;
                    ops->scale(out + r * b->ldo, shrink, H);
                }
                max[r] = m;
            }
            sum[r] += ops->exp_sum(s, s, max[r], see);
        }
        product(j->k, w->b, b->rows, H, n, w->s, n, false, values + b->kv * H, d->ldk, false, key > 0, out, b->ldo);
    }
    for (size_t r = 0; r < b->rows; r++) {
        ops->scale(out + r * b->ldo, (float)(1 / sum[r]), H);
        if (b->s->lse) b->s->lse[b->lse[r]] = (float)((double)max[r] + log(sum[r]));
    }
}

static void forward_task(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_attn *s = j->seqs;
    for (;; s++) {
        size_t n = j->d->kv_heads * blocks_of(s, j->d);
        if (i < n) break;
        i -= n;
    }
    size_t per = blocks_of(s, j->d);
    block b = block_at(s, j->d, i / per, i % per);
    forward(j, &b, &j->k->scratch[thread]);
}

void pg_attention(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d)
{
    job j = {.k = k, .seqs = seqs, .n_seqs = n_seqs, .d = d};
    size_t tasks = 0, work = 0;
    for (size_t i = 0; i < n_seqs; i++) {
        tasks += d->kv_heads * blocks_of(&seqs[i], d);
        work += d->heads * seqs[i].n * seqs[i].n_keys * (d->head_dim / 8 + 4);
    }
    pg_kern_run(k, tasks, work, forward_task, &j);
}

/* p = softmax; dv += p' dout; ds = p (dout v' - dout·out) slope; dq = ds k; dk += ds' q. */
static void backward(const job *j, const block *b, const pg_scratch *w)
{
    const pg_attn_dims *d = j->d;
    const pg_ops *ops = j->k->ops;
    size_t H = d->head_dim, first = b->query * d->ldq + b->head * H, ofirst = b->query * d->ldo + b->head * H;
    const float *q = b->s->q + first, *out = b->s->out + ofirst, *dout = b->s->dout + ofirst;
    float *dq = b->s->dq + first, delta[PG_ATTN_ROWS];
    for (size_t r = 0; r < b->rows; r++) delta[r] = ops->dot(dout + r * b->ldo, out + r * b->ldo, H);
    for (size_t key = 0; key < b->keys; key += PG_ATTN_KEYS) {
        size_t n = pg_min_size(PG_ATTN_KEYS, b->keys - key), at = key * d->ldk + b->kv * H;
        product(j->k, w->b, b->rows, n, H, q, b->ldq, false, b->s->k + at, d->ldk, true, false, w->s, n);
        product(j->k, w->b, b->rows, n, H, dout, b->ldo, false, b->s->v + at, d->ldk, true, false, w->ds, n);
        for (size_t r = 0; r < b->rows; r++) {
            float *s = w->s + r * n, *ds = w->ds + r * n;
            size_t see = visible(b, r, key, n);
            ops->attn_back(s, ds, d->scale, d->softcap, b->s->lse[b->lse[r]], delta[r], see);
            memset(s + see, 0, (n - see) * sizeof *s);
            memset(ds + see, 0, (n - see) * sizeof *ds);
        }
        product(j->k, w->b, b->rows, H, n, w->ds, n, false, b->s->k + at, d->ldk, false, key > 0, dq, b->ldq);
        product(j->k, w->b, n, H, b->rows, w->ds, n, true, q, b->ldq, false, true, b->s->dk + at, d->ldk);
        product(j->k, w->b, n, H, b->rows, w->s, n, true, dout, b->ldo, false, true, b->s->dv + at, d->ldk);
    }
}

static void backward_task(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_attn *s = &j->seqs[i / j->d->kv_heads];
    size_t n = blocks_of(s, j->d);
    for (size_t x = 0; x < n; x++) {
        block b = block_at(s, j->d, i % j->d->kv_heads, x);
        backward(j, &b, &j->k->scratch[thread]);
    }
}

void pg_attention_back(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d)
{
    job j = {.k = k, .seqs = seqs, .n_seqs = n_seqs, .d = d};
    size_t work = 0;
    for (size_t i = 0; i < n_seqs; i++) work += d->heads * seqs[i].n * seqs[i].n_keys * (d->head_dim / 4 + 8);
    pg_kern_run(k, n_seqs * d->kv_heads, work, backward_task, &j);
}
