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

struct pg_pool {
    size_t threads, started;
    worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t go, done;
    atomic_size_t round; /* grows by one with each job; workers spin on it briefly before they sleep */
    bool stop, open; /* open: a job that workers may still join */
    void (*fn)(void *, size_t, size_t);
    void *ctx;
    size_t n;
    atomic_size_t next, active; /* active: workers inside the job */
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
    for (;;) {
        size_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n) return;
        p->fn(p->ctx, i, thread);
    }
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void *run(void *arg)
{
    worker *w = arg;
    pg_pool *p = w->pool;
    size_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&p->round) == seen; i++) relax();
        pthread_mutex_lock(&p->lock);
        while (atomic_load(&p->round) == seen && !p->stop) pthread_cond_wait(&p->go, &p->lock);
        if (p->stop) {
            pthread_mutex_unlock(&p->lock);
            return NULL;
        }
        seen = atomic_load(&p->round);
        bool join = p->open;
        if (join) atomic_fetch_add(&p->active, 1);
        pthread_mutex_unlock(&p->lock);
        if (!join) continue;
        drain(p, w->id);
        pthread_mutex_lock(&p->lock);
        if (atomic_fetch_sub(&p->active, 1) == 1) pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
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
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->go, NULL);
    pthread_cond_init(&p->done, NULL);
    if (!p->workers) {
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
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->go);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 1; i <= p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->go);
    pthread_cond_destroy(&p->done);
    free(p->workers);
    free(p);
}

size_t pg_pool_threads(const pg_pool *p) { return p ? p->threads : 1; }

void pg_pool_run(pg_pool *p, size_t n, void (*fn)(void *, size_t, size_t), void *ctx)
{
    if (!p || p->threads == 1 || n <= 1) {
        for (size_t i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->ctx = ctx;
    p->n = n;
    atomic_store(&p->next, 0);
    p->open = true;
    atomic_fetch_add(&p->round, 1);
    pthread_cond_broadcast(&p->go);
    pthread_mutex_unlock(&p->lock);
    drain(p, 0);
    /* All work is claimed. A worker that has not woken yet is not waited for: on a busy machine that takes a time slice. */
    pthread_mutex_lock(&p->lock);
    p->open = false;
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < SPINS && atomic_load(&p->active); i++) relax();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->active)) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
