#define _GNU_SOURCE /* sched_getaffinity */
#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

typedef struct worker {
    pg_pool *pool;
    size_t id;
    pthread_t thread;
} worker;

enum { LINE = 64 };
/* A thread's share of a job. It takes these first, so that what it wrote for rows of a matrix it finds in its own cache when the next
 * job works on them; then what is left of the others'. */
typedef struct share {
    _Alignas(LINE) atomic_size_t next;
    size_t end;
} share;

/* A job is joined without the lock: a worker counts itself as active, then looks whether the job is open; who closes it does so
 * first, then waits until none is active. Either the worker sees it closed, or it is waited for. */
struct pg_pool {
    size_t threads, started;
    worker *workers;
    share *shares; /* [threads] */
    void (*fn)(void *, size_t, size_t);
    void *ctx;
    atomic_size_t round; /* grows by one with each job; workers spin on it briefly before they sleep */
    atomic_size_t active; /* workers that are inside the job, or looking */
    atomic_bool open, stop;
    atomic_size_t sleeping; /* workers */
    atomic_bool waiting;    /* the caller, asleep */
    pthread_mutex_t lock;   /* only for sleeping */
    pthread_cond_t go, done;
};

enum { SPINS = 20000 }; /* about 20 us: jobs of a small model come that close together */

size_t pg_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return (size_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}

static void drain(pg_pool *p, size_t thread)
{
    for (size_t s = 0; s < p->threads; s++) {
        share *h = &p->shares[(thread + s) % p->threads];
        for (size_t i; (i = atomic_fetch_add(&h->next, 1)) < h->end;) p->fn(p->ctx, i, thread);
    }
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *run(void *arg)
{
    worker *w = arg;
    pg_pool *p = w->pool;
    size_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&p->round) == seen; i++) relax();
        if (atomic_load(&p->round) == seen) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleeping, 1);
            while (atomic_load(&p->round) == seen) pthread_cond_wait(&p->go, &p->lock);
            atomic_fetch_sub(&p->sleeping, 1);
            pthread_mutex_unlock(&p->lock);
        }
        if (atomic_load(&p->stop)) return NULL;
        seen = atomic_load(&p->round);
        atomic_fetch_add(&p->active, 1);
        if (atomic_load(&p->open)) drain(p, w->id);
        if (atomic_fetch_sub(&p->active, 1) == 1 && atomic_load(&p->waiting)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

/* Workers see a new round. */
static void call(pg_pool *p)
{
    atomic_fetch_add(&p->round, 1);
    if (!atomic_load(&p->sleeping)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->go);
    pthread_mutex_unlock(&p->lock);
}

int pg_pool_new(pg_pool **out, size_t threads, pg_err *e)
{
    *out = NULL;
    if (!threads) threads = pg_cpus();
    if (threads > 1024) return pg_error(e, PG_EINVAL, "%zu threads asked for, the most is 1024", threads);
    pg_pool *p = pg_calloc(1, sizeof *p);
    if (!p) return pg_error_nomem(e);
    p->threads = threads;
    p->workers = pg_calloc(threads, sizeof *p->workers);
    p->shares = aligned_alloc(LINE, threads * sizeof *p->shares); /* at most 1024 */
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->go, NULL);
    pthread_cond_init(&p->done, NULL);
    if (!p->workers || !p->shares) {
        pg_pool_free(p);
        return pg_error_nomem(e);
    }
    for (size_t i = 1; i < threads; i++) {
        p->workers[i] = (worker){.pool = p, .id = i};
        if (pthread_create(&p->workers[i].thread, NULL, run, &p->workers[i])) {
            pg_pool_free(p);
            return pg_error(e, PG_EIO, "cannot start thread %zu", i);
        }
        p->started++;
    }
    *out = p;
    return PG_OK;
}

void pg_pool_free(pg_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    call(p);
    for (size_t i = 1; i <= p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->go);
    pthread_cond_destroy(&p->done);
    free(p->workers);
    free(p->shares);
    free(p);
}

size_t pg_pool_threads(const pg_pool *p) { return p ? p->threads : 1; }

void pg_pool_run(pg_pool *p, size_t n, void (*fn)(void *, size_t, size_t), void *ctx)
{
    if (!p || p->threads == 1 || n <= 1) {
        for (size_t i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    for (size_t t = 0; t < p->threads; t++) {
        atomic_store_explicit(&p->shares[t].next, n / p->threads * t + (n % p->threads) * t / p->threads, memory_order_relaxed);
        p->shares[t].end = n / p->threads * (t + 1) + (n % p->threads) * (t + 1) / p->threads;
    }
    atomic_store(&p->open, true);
    call(p);
    drain(p, 0);
    /* All work is claimed. A worker that has not woken yet is not waited for: on a busy machine that takes a time slice. */
    atomic_store(&p->open, false);
    for (int i = 0; i < SPINS && atomic_load(&p->active); i++) relax();
    if (!atomic_load(&p->active)) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, true);
    while (atomic_load(&p->active)) pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->waiting, false);
    pthread_mutex_unlock(&p->lock);
}
