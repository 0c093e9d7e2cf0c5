#include "train/reduce.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/loss.h"

/* Floats of a segment at most: 1 MiB stays in the cache between its arrival and its addition, and takes a network of 10 Gb/s twenty
 * times as long as the way there. Tensors shorter than SMALL travel together. LANES: for the vectors of a sum. */
enum { SEGMENT = 256 << 10, SMALL = 64 << 10, LANES = 16 };

/* One layer of one tensor's gradient. */
typedef struct part {
    float *g;
    size_t n, stage, order;
} part;

struct pg_reduce {
    pg_link *link;
    pg_model *m;
    part *parts; /* in the order of stages; in a stage the long ones first */
    size_t n_parts, piece; /* floats summed at once */
    float *sum, *in; /* a piece that was put together from short parts; a segment from another rank */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    size_t complete; /* stages */
    double summing, waited; /* seconds */
    int rc;
    pg_err err;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the ring ---- */
static void add(float *restrict a, const float *restrict b, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) a[i + k] += b[i + k];
    for (; i < n; i++) a[i] += b[i];
}

static int ring(pg_reduce *r, float *v, size_t n, pg_err *e)
{
    pg_link *l = r->link;
    size_t N = l->size, next = (l->rank + 1) % N, previous = (l->rank + N - 1) % N;
    for (size_t k = 0; k < 2 * (N - 1); k++) {
        bool adding = k < N - 1; /* first sums go around, then what they have become */
        size_t from_out, from_in, n_out = pg_link_share(N, (l->rank + 2 * N - k) % N, n, &from_out);
        size_t n_in = pg_link_share(N, (l->rank + 2 * N - k - 1) % N, n, &from_in);
        int rc = l->exchange(l, v + from_out, n_out * sizeof *v, next, adding ? r->in : v + from_in, n_in * sizeof *v, previous, e);
        if (rc) return rc;
        if (adding) add(v + from_in, r->in, n_in);
    }
    return PG_OK;
}

/* ---- the thread ---- */
/* Floats from..from+n of the parts [first, end), taken as one row, to or from v. */
static void copy(const part *first, const part *end, size_t from, size_t n, float *v, bool back)
{
    for (const part *p = first; p < end && n; p++) {
        if (from >= p->n) {
            from -= p->n;
            continue;
        }
        size_t some = p->n - from < n ? p->n - from : n;
        if (back) memcpy(p->g + from, v, some * sizeof *v);
        else memcpy(v, p->g + from, some * sizeof *v);
        v += some;
        n -= some;
        from = 0;
    }
}

static int sum_long(pg_reduce *r, const part *p, pg_err *e)
{
    int rc = PG_OK;
    for (size_t at = 0; !rc && at < p->n; at += r->piece) rc = ring(r, p->g + at, p->n - at < r->piece ? p->n - at : r->piece, e);
    return rc;
}

static int sum_stage(pg_reduce *r, const part *first, const part *end, pg_err *e)
{
    size_t total = 0;
    int rc = PG_OK;
    for (; !rc && first < end && first->n >= SMALL; first++) rc = sum_long(r, first, e);
    for (const part *p = first; p < end; p++) total += p->n;
    for (size_t at = 0; !rc && at < total; at += r->piece) {
        size_t n = total - at < r->piece ? total - at : r->piece;
        copy(first, end, at, n, r->sum, false);
        if (!(rc = ring(r, r->sum, n, e))) copy(first, end, at, n, r->sum, true);
    }
    return rc;
}

static void *run(void *ctx)
{
    pg_reduce *r = ctx;
    for (size_t i = 0, j; i < r->n_parts && !r->rc; i = j) {
        for (j = i; j < r->n_parts && r->parts[j].stage == r->parts[i].stage; j++) {}
        pthread_mutex_lock(&r->lock);
        while (r->complete <= r->parts[i].stage) pthread_cond_wait(&r->more, &r->lock);
        pthread_mutex_unlock(&r->lock);
        double start = now();
        r->rc = sum_stage(r, r->parts + i, r->parts + j, &r->err);
        r->summing += now() - start;
    }
    return NULL;
}

static void complete(void *ctx, size_t stage)
{
    pg_reduce *r = ctx;
    pthread_mutex_lock(&r->lock);
    if (r->complete <= stage) r->complete = stage + 1;
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->lock);
}

int pg_reduce_begin(pg_reduce *r, pg_err *e)
{
    r->complete = 0;
    r->rc = PG_OK;
    if (pthread_create(&r->thread, NULL, run, r)) return pg_error(e, PG_EIO, "cannot start a thread");
    r->m->ready = complete;
    r->m->ready_ctx = r;
    return PG_OK;
}

int pg_reduce_end(pg_reduce *r, pg_err *e)
{
    double start = now();
    r->m->ready = NULL;
    complete(r, pg_grad_stages(r->m));
    pthread_join(r->thread, NULL);
    r->waited += now() - start;
    if (r->rc && e) *e = r->err;
    return r->rc;
}

void pg_reduce_times(const pg_reduce *r, double *summing, double *waited)
{
    *summing = r->summing;
    *waited = r->waited;
}

/* ---- parts ---- */
static int by_stage(const void *a, const void *b)
{
    const part *x = a, *y = b;
    if (x->stage != y->stage) return x->stage < y->stage ? -1 : 1;
    if ((x->n < SMALL) != (y->n < SMALL)) return x->n < SMALL ? 1 : -1;
    return x->order < y->order ? -1 : 1;
}

static int list_parts(pg_reduce *r, pg_err *e)
{
    const pg_model *m = r->m;
    size_t n = 0;
    for (size_t i = 0; i < m->n_params; i++) n += m->params[i].layers;
    if (!(r->parts = pg_alloc(n, sizeof *r->parts))) return pg_error_nomem(e);
    for (size_t i = 0; i < m->n_params; i++)
        for (size_t l = 0; l < m->params[i].layers; l++) {
            const pg_param *p = &m->params[i];
            r->parts[r->n_parts] = (part){p->g + l * p->per_layer, p->per_layer, pg_grad_stage(m, p, l), r->n_parts};
            r->n_parts++;
        }
    qsort(r->parts, r->n_parts, sizeof *r->parts, by_stage);
    r->piece = SEGMENT * r->link->size;
    r->sum = pg_floats(r->piece);
    r->in = pg_floats(SEGMENT);
    return r->sum && r->in ? PG_OK : pg_error_nomem(e);
}

int pg_reduce_new(pg_reduce **out, pg_link *l, pg_model *m, pg_err *e)
{
    pg_reduce *r = pg_calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return pg_error_nomem(e);
    *r = (pg_reduce){.link = l, .m = m};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->more, NULL);
    int rc = list_parts(r, e);
    if (rc) pg_reduce_free(r);
    else *out = r;
    return rc;
}

void pg_reduce_free(pg_reduce *r)
{
    if (!r) return;
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->more);
    free(r->parts);
    free(r->sum);
    free(r->in);
    free(r);
}
