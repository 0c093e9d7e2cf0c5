/* What connects the processes of one training run, its ranks. A table of functions, so that the library needs no MPI: tools/mpi_link.c
 * fills it with Open MPI's, tests with sockets. */
#ifndef PG_TRAIN_LINK_H
#define PG_TRAIN_LINK_H

#include <stddef.h>

#include "base/err.h"

typedef struct pg_link pg_link;
struct pg_link {
    size_t rank, size; /* rank 0..size-1 */
    size_t hosts;      /* that the ranks are on */
    size_t local;      /* ranks on this one */
    size_t cpus;       /* cores that this rank may use */
    size_t sharers;    /* ranks that may use some of the same cores, itself included */
    char host[64];
    void *ctx;
    /* Sends n_out bytes to one rank while n_in bytes come from another (0 bytes: nothing sent, nothing awaited; the other side must
     * expect the same). Returns when both buffers may be used again. One thread at a time. Between two ranks what is sent first
     * arrives first. */
    int (*exchange)(pg_link *l, const void *out, size_t n_out, size_t to, void *in, size_t n_in, size_t from, pg_err *e);
    void (*close)(pg_link *l); /* the regular end, called by all ranks; frees l */
};

int pg_link_send(pg_link *l, const void *p, size_t n, size_t to, pg_err *e) PG_MUST_CHECK;
int pg_link_recv(pg_link *l, void *p, size_t n, size_t from, pg_err *e) PG_MUST_CHECK;
/* Rank 0's n bytes reach all, from rank to rank in pieces, so that the time hardly grows with their number. Called by all. */
int pg_link_cast(pg_link *l, void *p, size_t n, pg_err *e) PG_MUST_CHECK;

/* The part of n examples that a rank works on: *from.. and how many; parts differ by one at most and keep the order. */
size_t pg_link_share(size_t size, size_t rank, size_t n, size_t *from);

#endif
