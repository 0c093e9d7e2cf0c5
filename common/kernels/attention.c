/* Attention, exact, in blocks of rows and keys: scores are never held for more than one block. A task is some rows that share a
 * key head. Rows are a strided matrix: the queries of one head (stride ldq); or the heads of one query (stride head_dim), where there
 * are fewer queries than heads of a group (decoding); or, with one key head, the heads of all queries, as they lie behind each other. */
#include <math.h>
#include <string.h>

#include "kernels/attention.h"

enum { LONG = 1024 }; /* keys */

typedef struct job {
    const pg_kern *k;
    const pg_attn *seqs;
    const pg_attn_dims *d;
} job;

/* How the rows of one key head lie. */
typedef enum { BY_QUERIES, BY_HEADS, FLAT } layout;

/* How the rows of one sequence are cut: runs of `run` rows, each into `pieces` blocks of `rows` rows, the last one shorter. */
typedef struct cut {
    layout how;
    size_t runs, run, pieces, rows;
} cut;

/* most: rows of a block. */
static cut cut_of(const pg_attn *s, const pg_attn_dims *d, size_t most)
{
    size_t group = d->heads / d->kv_heads, row = d->heads * d->head_dim;
    cut c;
    if (d->kv_heads == 1 && d->ldq == row && d->ldo == row) c = (cut){.how = FLAT, .runs = 1, .run = s->n * group};
    else if (s->n < group) c = (cut){.how = BY_HEADS, .runs = s->n, .run = group};
    else c = (cut){.how = BY_QUERIES, .runs = group, .run = s->n};
    c.rows = pg_attn_rows(c.run, most);
    c.pieces = pg_div_up(c.run, c.rows);
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

void pg_softmax_row(const pg_ops *ops, pg_softmax *x, const pg_attn_block *b, size_t r, size_t see, float *s, size_t n, float *out)
{
    if (see) {
        pg_softmax_raise(ops, x, r, ops->logit(s, b->d->scale, b->d->softcap, see), out, b->d->head_dim);
        x->sum[r] += ops->exp_sum(s, s, x->max[r], see);
    }
    memset(s + see, 0, (n - see) * sizeof *s);
}

void pg_softmax_end(const pg_ops *ops, const pg_softmax *x, const pg_attn_block *b, float *out)
{
    for (size_t r = 0; r < b->rows; r++) {
        ops->scale(out + r * b->ldo, (float)(1 / x->sum[r]), b->d->head_dim);
        if (b->s->lse) b->s->lse[b->lse[r]] = (float)((double)x->max[r] + log(x->sum[r]));
    }
}

/* Few rows, as in decoding: keys and values are used as they lie. */
static void few_rows(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w)
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
        ops->gemm_nt(b->rows, n, H, q, b->ldq, keys, PG_MAT_F32, ldk, false, w->s, n);
        for (size_t r = 0; r < b->rows; r++)
            pg_softmax_row(ops, &soft, b, r, pg_attn_visible(b, r, key, n), w->s + r * n, n, out + r * b->ldo);
        ops->gemm_nn(b->rows, H, n, w->s, n, values, PG_MAT_F32, ldk, key > 0, out, b->ldo);
    }
    pg_softmax_end(ops, &soft, b, out);
}

/* Of a block. The more rows, the fewer times the keys are packed; where they fit the caches anyway, more blocks occupy more threads. */
static size_t forward_rows(const pg_attn *s)
{
    return s->n_keys > LONG ? PG_ATTN_ROWS : PG_ATTN_ROWS / 2;
}

static void forward_task(void *ctx, size_t i, size_t thread)
{
    const job *j = ctx;
    const pg_attn *s = j->seqs;
    cut c;
    for (;; s++) {
        c = cut_of(s, j->d, forward_rows(s));
        if (i < j->d->kv_heads * c.runs * c.pieces) break;
        i -= j->d->kv_heads * c.runs * c.pieces;
    }
    pg_attn_block b;
    block_at(&b, s, j->d, &c, i / (c.runs * c.pieces), i % (c.runs * c.pieces));
    if (b.rows <= PG_SMALL_M) few_rows(j->k, &b, &j->k->scratch[thread]);
    else pg_attn_forward(j->k, &b, &j->k->scratch[thread]);
}

void pg_attention(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d)
{
    job j = {.k = k, .seqs = seqs, .d = d};
    size_t tasks = 0, work = 0;
    for (size_t i = 0; i < n_seqs; i++) {
        cut c = cut_of(&seqs[i], d, forward_rows(&seqs[i]));
        tasks += d->kv_heads * c.runs * c.pieces;
        work += d->heads * seqs[i].n * seqs[i].n_keys * (d->head_dim / 8 + 4);
    }
    pg_kern_run(k, tasks, work, forward_task, &j);
}

/* Backward a task is a key head of a sequence; or where that occupies too few threads, a block of its rows for dq, and a few of its keys for dk
 * and dv, whose scores are computed twice then. */
typedef struct back_job {
    job j;
    bool split;
} back_job;

static void back_block(const back_job *j, const pg_attn *s, const cut *c, size_t kv, size_t i, const pg_attn_part *part, size_t thread)
{
    pg_attn_block b;
    block_at(&b, s, j->j.d, c, kv, i);
    pg_attn_backward(j->j.k, &b, part, &j->j.k->scratch[thread]);
}

static size_t back_tasks(const back_job *j, const pg_attn *s, const cut *c)
{
    return j->j.d->kv_heads * (j->split ? pg_div_up(s->n_keys, PG_ATTN_BACK_KEYS) + c->runs * c->pieces : 1);
}

static void backward_task(void *ctx, size_t i, size_t thread)
{
    const back_job *j = ctx;
    const pg_attn *s = j->j.seqs;
    cut c;
    for (;; s++) {
        c = cut_of(s, j->j.d, PG_ATTN_BACK_ROWS);
        size_t n = back_tasks(j, s, &c);
        if (i < n) break;
        i -= n;
    }
    size_t heads = j->j.d->kv_heads, kv = i % heads, key = i / heads * PG_ATTN_BACK_KEYS, blocks = c.runs * c.pieces;
    pg_attn_part part = {.end = s->n_keys, .dq = !j->split, .dkv = true};
    if (j->split && key < s->n_keys) {
        part.first = key;
        part.end = key + PG_ATTN_BACK_KEYS;
    } else if (j->split) {
        part.dq = true;
        part.dkv = false;
        back_block(j, s, &c, kv, i / heads - pg_div_up(s->n_keys, PG_ATTN_BACK_KEYS), &part, thread);
        return;
    }
    for (size_t x = 0; x < blocks; x++) back_block(j, s, &c, kv, x, &part, thread);
}

void pg_attention_back(pg_kern *k, const pg_attn *seqs, size_t n_seqs, const pg_attn_dims *d)
{
    back_job j = {.j = {.k = k, .seqs = seqs, .d = d}, .split = n_seqs * d->kv_heads < k->threads};
    size_t work = 0, tasks = 0;
    for (size_t i = 0; i < n_seqs; i++) {
        cut c = cut_of(&seqs[i], d, PG_ATTN_BACK_ROWS);
        tasks += back_tasks(&j, &seqs[i], &c);
        work += d->heads * seqs[i].n * seqs[i].n_keys * (d->head_dim / 4 + 8);
    }
    pg_kern_run(k, tasks, work, backward_task, &j);
}
