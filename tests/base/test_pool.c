/* Every index of every job exactly once, whatever the number of threads and how soon jobs follow each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/thread.h"

enum { MOST = 1000, JOBS = 4000 };

static atomic_int times[MOST];
static atomic_size_t highest;

static void count(void *ctx, size_t i, size_t thread)
{
    const size_t *n = ctx;
    size_t most = atomic_load(&highest);
    assert_true(i < *n);
    atomic_fetch_add(&times[i], 1);
    while (thread > most && !atomic_compare_exchange_weak(&highest, &most, thread))
        ;
}

static void test_once(void **state)
{
    (void)state;
    static const size_t threads[] = {1, 2, 3, 8};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        pg_pool *p;
        pg_err e;
        assert_int_equal(pg_pool_new(&p, threads[t], &e), PG_OK);
        assert_int_equal(pg_pool_threads(p), threads[t]);
        atomic_store(&highest, 0);
        for (size_t j = 0; j < JOBS; j++) {
            size_t n = j * 7919 % (j % 10 ? 12 : MOST);
            memset((void *)times, 0, sizeof times);
            pg_pool_run(p, n, count, &n);
            for (size_t i = 0; i < MOST; i++)
                assert_int_equal(atomic_load(&times[i]), i < n);
            if (j % 500 == 499) nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* workers fall asleep meanwhile */
        }
        assert_true(atomic_load(&highest) < threads[t]);
        pg_pool_free(p);
    }
}

static void test_none(void **state)
{
    (void)state;
    size_t n = 3;
    memset((void *)times, 0, sizeof times);
    pg_pool_run(NULL, n, count, &n);
    assert_int_equal(atomic_load(&times[2]), 1);
    pg_pool_free(NULL);
    pg_err e;
    pg_pool *p;
    assert_int_equal(pg_pool_new(&p, 5000, &e), PG_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_once), cmocka_unit_test(test_none)};
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
