/* Sums over ranks, here threads of one process with sockets between them: the order of additions, the same bits everywhere, while the
 * backward pass goes on; and what the link offers beside them. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/loss.h"
#include "train/reduce.h"

enum { MOST = 5, DEPTH = 3, TOWER = 2, PARAMS = 5, BIG = (5 << 20) + 3, SEGMENT = 256 << 10 };

/* ---- a link of sockets ---- */
typedef struct net {
    int fd[MOST][MOST]; /* [a][b]: a's end of the connection to b */
    atomic_size_t exchanges;
    atomic_bool broken;
} net;

static int exchange(pg_link *l, const void *out, size_t n_out, size_t to, void *in, size_t n_in, size_t from, pg_err *e)
{
    net *w = l->ctx;
    const char *o = out;
    char *i = in;
    atomic_fetch_add(&w->exchanges, 1);
    if (atomic_load(&w->broken)) return pg_error(e, PG_EIO, "lost");
    while (n_out || n_in) {
        struct pollfd p[2] = {{n_out ? w->fd[l->rank][to] : -1, POLLOUT, 0}, {n_in ? w->fd[l->rank][from] : -1, POLLIN, 0}};
        if (poll(p, 2, 60000) <= 0) return pg_error(e, PG_EIO, "nothing comes");
        ssize_t n = p[0].revents ? send(p[0].fd, o, n_out, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (n > 0) o += n, n_out -= (size_t)n;
        n = p[1].revents ? recv(p[1].fd, i, n_in, MSG_DONTWAIT) : 0;
        if (n > 0) i += n, n_in -= (size_t)n;
    }
    return PG_OK;
}

static void open_net(net *w, size_t size)
{
    atomic_init(&w->exchanges, 0);
    atomic_init(&w->broken, false);
    for (size_t a = 0; a < size; a++)
        for (size_t b = a + 1; b < size; b++) {
            int s[2];
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
            w->fd[a][b] = s[0];
            w->fd[b][a] = s[1];
        }
}

static void close_net(net *w, size_t size)
{
    for (size_t a = 0; a < size; a++)
        for (size_t b = 0; b < size; b++)
            if (a != b) close(w->fd[a][b]);
}

/* ---- ranks ---- */
/* Layers of the decoder, the embedding, layers of the tower and what else it has; one tensor is longer than what is summed at once. */
static const struct shape {
    const char *name;
    size_t layers, per_layer;
} shapes[PARAMS] = {{"img/head/kernel", 1, 7}, {"img/Transformer/encoderblock/x", TOWER, 3}, {"llm/embedder/input_embedding", 1, BIG},
                    {"llm/layers/attn/q_einsum/w", DEPTH, 1001}, {"llm/layers/pre_attention_norm/scale", DEPTH, 1}};

typedef struct rank {
    pg_link link;
    pg_model m;
    pg_param params[PARAMS];
    pg_reduce *r;
    pg_err err;
    int rc;
    pthread_t thread;
    size_t told; /* stages told of in the "backward pass" */
} rank;

static float value(size_t k, size_t param, size_t i)
{
    uint32_t h = (uint32_t)(k * 2654435761u + param * 40503u + i * 2246822519u);
    h ^= h >> 15;
    return ((float)(h % 2000003u) - 1e6f) * (h & 64 ? 1e-3f : 1e-6f);
}

static void open_rank(rank *k, net *w, size_t size, size_t number)
{
    *k = (rank){.link = {.rank = number, .size = size, .ctx = w, .exchange = exchange}};
    k->m.s.depth = DEPTH;
    k->m.s.vit_depth = TOWER;
    k->m.params = k->params;
    k->m.n_params = PARAMS;
    for (size_t i = 0; i < PARAMS; i++) {
        pg_param *p = &k->params[i];
        *p = (pg_param){.name = shapes[i].name, .layers = shapes[i].layers, .per_layer = shapes[i].per_layer,
                        .count = shapes[i].layers * shapes[i].per_layer};
        p->g = malloc(p->count * sizeof *p->g);
        assert_non_null(p->g);
    }
    assert_int_equal(pg_reduce_new(&k->r, &k->link, &k->m, &k->err), PG_OK);
}

static void fill(rank *k)
{
    for (size_t i = 0; i < PARAMS; i++)
        for (size_t j = 0; j < k->params[i].count; j++) k->params[i].g[j] = value(k->link.rank, i, j);
}

static void close_rank(rank *k)
{
    pg_reduce_free(k->r);
    for (size_t i = 0; i < PARAMS; i++) free(k->params[i].g);
}

static void *reduce(void *ctx)
{
    rank *k = ctx;
    if ((k->rc = pg_reduce_begin(k->r, &k->err))) return NULL;
    for (size_t s = 0; s < k->told; s++) k->m.ready(k->m.ready_ctx, s);
    k->rc = pg_reduce_end(k->r, &k->err);
    return NULL;
}

static void on_all(rank *k, size_t size, void *(*fn)(void *))
{
    for (size_t i = 0; i < size; i++) assert_int_equal(pthread_create(&k[i].thread, NULL, fn, &k[i]), 0);
    for (size_t i = 0; i < size; i++) pthread_join(k[i].thread, NULL);
}

/* What the head file promises: element at `at` of `total` that are summed at once is of segment s and begins with rank s. */
static float expected(size_t size, size_t param, size_t i, size_t at, size_t total)
{
    size_t s = 0, from;
    for (; s < size; s++) {
        size_t n = pg_link_share(size, s, total, &from);
        if (at >= from && at < from + n) break;
    }
    float sum = value(s, param, i);
    for (size_t k = 1; k < size; k++) sum += value((s + k) % size, param, i);
    return sum;
}

static void sums_have_one_order(void **state)
{
    (void)state;
    for (size_t size = 2; size <= MOST; size++) {
        net w;
        rank k[MOST];
        open_net(&w, size);
        for (size_t i = 0; i < size; i++) open_rank(&k[i], &w, size, i);
        for (size_t run = 0; run < 3; run++) { /* told of nothing, of some, each of another number of stages */
            for (size_t i = 0; i < size; i++) {
                fill(&k[i]);
                k[i].told = run == 1 ? 2 : run * i;
            }
            on_all(k, size, reduce);
            for (size_t i = 0; i < size; i++) assert_int_equal(k[i].rc, PG_OK);
            for (size_t i = 0; i < size; i++)
                for (size_t p = 0; p < PARAMS; p++) assert_memory_equal(k[i].params[p].g, k[0].params[p].g, k[0].params[p].count * sizeof(float));
            /* A layer's stage: 1001 floats of the one tensor, then 1 of the other. */
            for (size_t l = 0; l < DEPTH; l++) {
                for (size_t j = 0; j < 1001; j += 13)
                    assert_float_equal(k[0].params[3].g[l * 1001 + j], expected(size, 3, l * 1001 + j, j, 1002), 0);
                assert_float_equal(k[0].params[4].g[l], expected(size, 4, l, 1001, 1002), 0);
            }
            for (size_t j = 0; j < BIG; j += 4099) { /* pieces of so many segments as there are ranks */
                size_t once = SEGMENT * size, at = j % once, total = BIG - (j - at) < once ? BIG - (j - at) : once;
                assert_float_equal(k[0].params[2].g[j], expected(size, 2, j, at, total), 0);
            }
        }
        for (size_t i = 0; i < size; i++) close_rank(&k[i]);
        close_net(&w, size);
    }
}

/* Layer by layer, each summed before the next is complete: the test waits for that, so sums that only begin at the end would hang it. */
static void layers_are_summed_meanwhile(void **state)
{
    enum { SIZE = 3 };
    net w;
    rank k[SIZE];
    (void)state;
    open_net(&w, SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        open_rank(&k[i], &w, SIZE, i);
        fill(&k[i]);
        assert_int_equal(pg_reduce_begin(k[i].r, &k[i].err), PG_OK);
    }
    for (size_t s = 0; s < DEPTH; s++) {
        for (size_t i = 0; i < SIZE; i++) k[i].m.ready(k[i].m.ready_ctx, s);
        size_t want = (s + 1) * SIZE * 2 * (SIZE - 1);
        for (int wait = 0; atomic_load(&w.exchanges) < want && wait < 60000; wait++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        assert_int_equal(atomic_load(&w.exchanges), want);
    }
    for (size_t i = 1; i < SIZE; i++) k[i].m.ready(k[i].m.ready_ctx, pg_grad_stages(&k[i].m)); /* theirs may all be complete before */
    for (size_t i = 0; i < SIZE; i++) assert_int_equal(pg_reduce_end(k[i].r, &k[i].err), PG_OK);
    for (size_t i = 0; i < SIZE; i++) close_rank(&k[i]);
    close_net(&w, SIZE);
}

static void a_lost_rank_is_an_error(void **state)
{
    net w;
    rank k[2];
    (void)state;
    open_net(&w, 2);
    for (size_t i = 0; i < 2; i++) {
        open_rank(&k[i], &w, 2, i);
        fill(&k[i]);
    }
    atomic_store(&w.broken, true);
    on_all(k, 2, reduce);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(k[i].rc, PG_EIO);
        assert_string_equal(k[i].err.msg, "lost");
        close_rank(&k[i]);
    }
    close_net(&w, 2);
}

/* ---- the link ---- */
typedef struct caster {
    rank k;
    char *p;
    size_t n;
} caster;

static void *cast(void *ctx)
{
    caster *c = ctx;
    c->k.rc = pg_link_cast(&c->k.link, c->p, c->n, &c->k.err);
    return NULL;
}

static void everyone_gets_what_rank_0_has(void **state)
{
    static const size_t sizes[] = {0, 1, (4 << 20), (9 << 20) + 5};
    (void)state;
    for (size_t t = 0; t < 4; t++) {
        net w;
        caster c[MOST] = {0};
        open_net(&w, MOST);
        for (size_t i = 0; i < MOST; i++) {
            c[i].k.link = (pg_link){.rank = i, .size = MOST, .ctx = &w, .exchange = exchange};
            c[i].n = sizes[t];
            c[i].p = calloc(sizes[t] + 1, 1);
            assert_non_null(c[i].p);
        }
        for (size_t i = 0; i < sizes[t]; i++) c[0].p[i] = (char)(i * 31 + i / 4096);
        for (size_t i = 0; i < MOST; i++) assert_int_equal(pthread_create(&c[i].k.thread, NULL, cast, &c[i]), 0);
        for (size_t i = 0; i < MOST; i++) pthread_join(c[i].k.thread, NULL);
        for (size_t i = 0; i < MOST; i++) {
            assert_int_equal(c[i].k.rc, PG_OK);
            assert_memory_equal(c[i].p, c[0].p, sizes[t] + 1);
        }
        for (size_t i = 0; i < MOST; i++) free(c[i].p);
        close_net(&w, MOST);
    }
}

static void shares_cover_in_order(void **state)
{
    (void)state;
    for (size_t size = 1; size < 9; size++)
        for (size_t n = 0; n < 30; n++) {
            size_t next = 0, from, least = n, most = 0;
            for (size_t k = 0; k < size; k++) {
                size_t some = pg_link_share(size, k, n, &from);
                assert_int_equal(from, next);
                next += some;
                least = some < least ? some : least;
                most = some > most ? some : most;
            }
            assert_int_equal(next, n);
            assert_true(most - least <= 1);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_have_one_order), cmocka_unit_test(layers_are_summed_meanwhile),
                                       cmocka_unit_test(a_lost_rank_is_an_error), cmocka_unit_test(everyone_gets_what_rank_0_has),
                                       cmocka_unit_test(shares_cover_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
