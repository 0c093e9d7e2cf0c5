/* A fixed pool of threads. Work is handed out by index; what an index computes must not depend on who computes it,
 * so results are the same for any number of threads. */
#ifndef PG_BASE_THREAD_H
#define PG_BASE_THREAD_H

#include <stddef.h>

#include "base/err.h"

typedef struct pg_pool pg_pool;

size_t pg_cpus(void); /* the cores this process may use, at least 1 */

/* threads counts the caller's own; 0 means pg_cpus(). */
int pg_pool_new(pg_pool **pool, size_t threads, pg_err *e) PG_MUST_CHECK;
void pg_pool_free(pg_pool *pool);
size_t pg_pool_threads(const pg_pool *pool); /* 1 for NULL */

/* Calls fn(ctx, i, thread) for i = 0..n-1, thread in [0,threads); returns when all are done. A NULL pool runs them here.
 * One caller at a time. */
void pg_pool_run(pg_pool *pool, size_t n, void (*fn)(void *ctx, size_t i, size_t thread), void *ctx);

#endif
