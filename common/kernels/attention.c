/* Attention, exact, in blocks of rows and keys: scores are never held for more than one block. A task is some rows that share a
 * key head. Rows are a strided matrix: the queries of one head (stride ldq); or the heads of one query (stride head_dim), where there
 * are fewer queries than heads of a group (decoding); or, with one key head, the heads of all queries, as they lie behind each other. */
#include <math.h>
#include <string.h>

#include "kernels/attention.h"

enum {
    SMALL = 200000, /* a call of BLIS takes about 5 us: products smaller than this are faster without */
    LONG = 1024     /* keys */
};

typedef struct job {
    const pg_kern *k;
    const pg_attn *seqs;
    const pg_attn_dims *d;
} job;

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

/* How the rows of one sequence are cut: runs of `run` rows, each into `pieces` blocks of `rows` rows, the last one shorter. */
typedef struct cut {
    layout how;
    bool half;
    size_t runs, run, pieces, rows;
} cut;

/* half_rows: most of a block in bfloat16. */
static cut cut_of(const pg_kern *k, const pg_attn *s, const pg_attn_dims *d, size_t half_rows)
{
    size_t group = d->heads / d->kv_heads, row = d->heads * d->head_dim;
    cut c;
    if (d->kv_heads == 1 && d->ldq == row && d->ldo == row) c = (cut){.how = FLAT, .runs = 1, .run = s->n * group};
    else if (s->n < group) c = (cut){.how = BY_HEADS, .runs = s->n, .run = group};
    else c = (cut){.how = BY_QUERIES, .runs = group, .run = s->n};
    c.half = pg_attn_half_suits(k, c.run, d);
    size_t most = c.half ? half_rows : PG_ATTN_ROWS;
    c.pieces = pg_div_up(c.run, most);
    c.rows = c.half ? pg_attn_half_rows(c.run, c.pieces) : most;
    return c;
}

static size_t limit(const pg_attn *s, size_t query)
{
    return s->lim ? pg_min_size(s->lim[query], s->n_keys) : s->n_keys;
}

static void block_at(pg_attn_block *b, const pg_attn *s, const pg_attn_dims *d, const cut *c, size_t kv, size_t i)
{
    size_t group = d->heads / d->kv_heads, run = i / c->pieces, first = i % c->pieces * c->rows;
    b->s = s;
    b->d = d;
    b->kv = kv;
    b->rows = pg_min_size(c->rows, c->run - first);
    b->ldq = c->how == BY_QUERIES ? d->ldq : d->head_dim;
    b->ldo = c->how == BY_QUERIES ? d->ldo : d->head_dim;
    switch (c->how) {
    case FLAT:
        b->query = first / group;
        b->head = first % group;
        break;
    case BY_HEADS:
        b->query = run;
        b->head = kv * group + first;
        break;
    case BY_QUERIES:
        b->query = first;
        b->head = kv * group + run;
        break;
    }
    size_t query = b->query, head = b->head;
    b->keys = 0;
    for (size_t r = 0; r < b->rows; r++) {
        b->lim[r] = limit(s, query);
        b->lse[r] = head * s->n + query;
        if (b->lim[r] > b->keys) b->keys = b->lim[r];
        if (c->how == BY_QUERIES) query++;
        else if (++head == (kv + 1) * group) {
            head = kv * group;
            query++;
        }
    }
}

void pg_attn_keys(const pg_attn_block *b, size_t key, size_t *n, const float **k, const float **v)
{
    const pg_attn *s = b->s;
    bool second = s->k2 && key >= s->split;
    size_t at = (second ? key - s->split : key) * b->d->ldk + b->kv * b->d->head_dim;
    *k = (second ? s->k2 : s->k) + at;
    *v = (second ? s->v2 : s->v) + at;
    if (s->k2 && !second) *n = pg_min_size(*n, s->split - key);
}

void pg_softmax_begin(pg_softmax *x, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        x->max[r] = -INFINITY;
        x->sum[r] = 0;
    }
}

void pg_softmax_raise(const pg_ops *ops, pg_softmax *x, size_t r, float max, float *out, size_t H)
{
    if (max <= x->max[r]) return;
    if (x->max[r] > -INFINITY) {
        float shrink = expf(x->max[r] - max);
        x->sum[r] *= (double)shrink;
        ops->scale(out, shrink, H);
    }
    x->max[r] = max;
}

void pg_softmax_end(const pg_ops *ops, const pg_softmax *x, const pg_attn_block *b, float *out)
{
    for (size_t r = 0; r < b->rows; r++) {
        ops->scale(out + r * b->ldo, (float)(1 / x->sum[r]), b->d->head_dim);
        if (b->s->lse) b->s->lse[b->lse[r]] = (float)((double)x->max[r] + log(x->sum[r]));
    }
}

static void forward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w)
{
    const pg_ops *ops = k->ops;
    size_t H = b->d->head_dim, ldk = b->d->ldk;
    const float *q = b->s->q + b->query * b->d->ldq + b->head * H;
    float *out = b->s->out + b->query * b->d->ldo + b->head * H;
    pg_softmax soft;
    pg_softmax_begin(&soft, b->rows);
    for (size_t key = 0, n; key < b->keys; key += n) {
        const float *keys, *values;
        n = pg_min_size(PG_ATTN_KEYS, b->keys - key);
        pg_attn_keys(b, key, &n, &keys, &values);
        product(k, w->b, b->rows, n, H, q, b->ldq, false, keys, ldk, true, false, w->s, n);
        for (size_t r = 0; r < b->rows; r++) {
            float *s = w->s + r * n;
            size_t see = pg_attn_visible(b, r, key, n);
            memset(s + see, 0, (n - see) * sizeof *s);
            if (!see) continue;
            pg_softmax_raise(ops, &soft, r, ops->logit(s, b->d->scale, b->d->softcap, see), out + r * b->ldo, H);
            soft.sum[r] += ops->exp_sum(s, s, soft.max[r], see);
        }
        product(k, w->b, b->rows, H, n, w->s, n, false, values, ldk, false, key > 0, out, b->ldo);
    }
    pg_softmax_end(ops, &soft, b, out);
}

/* Of a block in bfloat16. The more rows, the fewer times the keys are packed; where they fit the caches anyway, more blocks occupy more threads. */
static size_t forward_rows(const pg_attn *s)
{
    return s->n_keys > LONG ? PG_ATTN_HALF_ROWS : PG_ATTN_HALF_ROWS / 2;
}

static void forward_task(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_attn *s = j->seqs;
    cut c;
    for (;; s++) {
        c = cut_of(j->k, s, j->d, forward_rows(s));
        if (i < j->d->kv_heads * c.runs * c.pieces) break;
        i -= j->d->kv_heads * c.runs * c.pieces;
    }
    pg_attn_block b;
    block_at(&b, s, j->d, &c, i / (c.runs * c.pieces), i % (c.runs * c.pieces));
    if (c.half) pg_attn_half_forward(j->k, &b, &j->k->scratch[thread]);
    else forward(j->k, &b, &j->k->scratch[thread]);
}

void pg_attention(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d)
{
    job j = {.k = k, .seqs = seqs, .d = d};
    size_t tasks = 0, work = 0;
    for (size_t i = 0; i < n_seqs; i++) {
        cut c = cut_of(k, &seqs[i], d, forward_rows(&seqs[i]));
        tasks += d->kv_heads * c.runs * c.pieces;
        work += d->heads * seqs[i].n * seqs[i].n_keys * (d->head_dim / 8 + 4);
    }
    pg_kern_run(k, tasks, work, forward_task, &j);
}

/* p = softmax; dv += p' dout; ds = p (dout v' - dout·out) slope; dq = ds k; dk += ds' q. */
static void backward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w)
{
    const pg_attn_dims *d = b->d;
    const pg_ops *ops = k->ops;
    size_t H = d->head_dim, first = b->query * d->ldq + b->head * H, ofirst = b->query * d->ldo + b->head * H;
    const float *q = b->s->q + first, *out = b->s->out + ofirst, *dout = b->s->dout + ofirst;
    float *dq = b->s->dq + first, delta[PG_ATTN_ROWS];
    for (size_t r = 0; r < b->rows; r++) delta[r] = ops->dot(dout + r * b->ldo, out + r * b->ldo, H);
    for (size_t key = 0; key < b->keys; key += PG_ATTN_KEYS) {
        size_t n = pg_min_size(PG_ATTN_KEYS, b->keys - key), at = key * d->ldk + b->kv * H;
        product(k, w->b, b->rows, n, H, q, b->ldq, false, b->s->k + at, d->ldk, true, false, w->s, n);
        product(k, w->b, b->rows, n, H, dout, b->ldo, false, b->s->v + at, d->ldk, true, false, w->ds, n);
        for (size_t r = 0; r < b->rows; r++) pg_attn_row_back(ops, b, r, w->s + r * n, w->ds + r * n, delta[r], key, n);
        product(k, w->b, b->rows, H, n, w->ds, n, false, b->s->k + at, d->ldk, false, key > 0, dq, b->ldq);
        product(k, w->b, n, H, b->rows, w->ds, n, true, q, b->ldq, false, true, b->s->dk + at, d->ldk);
        product(k, w->b, n, H, b->rows, w->s, n, true, dout, b->ldo, false, true, b->s->dv + at, d->ldk);
    }
}

void pg_attn_row_back(const pg_ops *ops, const pg_attn_block *b, size_t r, float *s, float *ds, float delta, size_t key, size_t n)
{
    size_t see = pg_attn_visible(b, r, key, n);
    ops->attn_back(s, ds, b->d->scale, b->d->softcap, b->s->lse[b->lse[r]], delta, see);
    memset(s + see, 0, (n - see) * sizeof *s);
    memset(ds + see, 0, (n - see) * sizeof *ds);
}

static void backward_task(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_attn *s = &j->seqs[i / j->d->kv_heads];
    cut c = cut_of(j->k, s, j->d, PG_ATTN_BACK_ROWS);
    for (size_t x = 0; x < c.runs * c.pieces; x++) {
        pg_attn_block b;
        block_at(&b, s, j->d, &c, i % j->d->kv_heads, x);
        if (c.half) pg_attn_half_backward(j->k, &b, &j->k->scratch[thread]);
        else backward(j->k, &b, &j->k->scratch[thread]);
    }
}

void pg_attention_back(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d)
{
    job j = {.k = k, .seqs = seqs, .d = d};
    size_t work = 0;
    for (size_t i = 0; i < n_seqs; i++) work += d->heads * seqs[i].n * seqs[i].n_keys * (d->head_dim / 4 + 8);
    pg_kern_run(k, n_seqs * d->kv_heads, work, backward_task, &j);
}
