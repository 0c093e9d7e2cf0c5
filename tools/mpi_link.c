/* pg_link over Open MPI: the one file that knows MPI. It becomes pg-mpi.so, which pg-train loads only when mpirun has started it
 * (train_ranks.c): a pg-train on its own neither needs Open MPI installed nor pays for its start, and a package of pg need not depend
 * on it. Nothing here uses the library: messages are made with snprintf. */
#define _GNU_SOURCE /* sched_getaffinity */
#include <mpi.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpi_link.h"

enum { PIECE = 1 << 30, TAG = 1, SPINS = 1000, SHORTEST_NAP = 20000, LONGEST_NAP = 1000000 }; /* naps in nanoseconds */

static int fail(pg_err *e, const char *what, int rc)
{
    char why[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (rc != MPI_SUCCESS) MPI_Error_string(rc, why, &n);
    e->code = PG_EIO;
    snprintf(e->msg, sizeof e->msg, "%s%s%.300s", what, n ? ": " : "", why);
    return e->code;
}

/* Open MPI's own waiting takes a whole core all the time. Ranks wait here for each other's products, so after a moment they nap, each time
 * for an eighth of what they have waited; what arrives meanwhile is kept by the kernel. */
static int wait_all(MPI_Request *q, int n)
{
    long waited = 0;
    for (int i = 0, done = 0;; i++) {
        int rc = MPI_Testall(n, q, &done, MPI_STATUSES_IGNORE);
        if (rc != MPI_SUCCESS || done) return rc;
        if (i < SPINS) continue;
        long nap = waited / 8 < SHORTEST_NAP ? SHORTEST_NAP : waited / 8 < LONGEST_NAP ? waited / 8 : LONGEST_NAP;
        nanosleep(&(struct timespec){.tv_nsec = nap}, NULL);
        waited += nap;
    }
}

static int exchange(pg_link *l, const void *out, size_t n_out, size_t to, void *in, size_t n_in, size_t from, pg_err *e)
{
    char what[64];
    while (n_out || n_in) {
        MPI_Request q[2];
        int n = 0, rc = MPI_SUCCESS;
        size_t some_in = n_in < PIECE ? n_in : PIECE, some_out = n_out < PIECE ? n_out : PIECE;
        if (n_in) rc = MPI_Irecv(in, (int)some_in, MPI_BYTE, (int)from, TAG, MPI_COMM_WORLD, &q[n++]);
        if (n_out && rc == MPI_SUCCESS) rc = MPI_Isend(out, (int)some_out, MPI_BYTE, (int)to, TAG, MPI_COMM_WORLD, &q[n++]);
        if (rc == MPI_SUCCESS) rc = wait_all(q, n);
        if (rc != MPI_SUCCESS) {
            snprintf(what, sizeof what, "rank %zu has lost the connection to rank %zu", l->rank, n_in ? from : to);
            return fail(e, what, rc);
        }
        in = some_in ? (char *)in + some_in : in;
        out = some_out ? (const char *)out + some_out : out;
        n_in -= some_in;
        n_out -= some_out;
    }
    return PG_OK;
}

static void finish(pg_link *l)
{
    MPI_Finalize();
    free(l);
}

/* Who else is on this host, and who of them may use the same cores: mpirun may have bound ranks to some, or to none. */
static int look_around(pg_link *l)
{
    MPI_Comm here;
    int local, first, hosts;
    cpu_set_t own, both, *sets = NULL;
    CPU_ZERO(&own);
    if (sched_getaffinity(0, sizeof own, &own)) CPU_SET(0, &own);
    int rc = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    if (rc != MPI_SUCCESS) return rc;
    MPI_Comm_size(here, &local);
    MPI_Comm_rank(here, &first);
    first = first == 0;
    if (!(sets = calloc((size_t)local, sizeof *sets))) return MPI_ERR_NO_MEM;
    rc = MPI_Allgather(&own, sizeof own, MPI_BYTE, sets, sizeof own, MPI_BYTE, here);
    if (rc == MPI_SUCCESS) rc = MPI_Allreduce(&first, &hosts, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rc == MPI_SUCCESS) {
        l->local = (size_t)local;
        l->hosts = (size_t)hosts;
        l->cpus = (size_t)CPU_COUNT(&own);
        for (int i = 0; i < local; i++) {
            CPU_AND(&both, &own, &sets[i]);
            l->sharers += CPU_COUNT(&both) > 0;
        }
    }
    free(sets);
    MPI_Comm_free(&here);
    return rc;
}

int pg_mpi_open(pg_link **out, pg_err *e)
{
    char name[MPI_MAX_PROCESSOR_NAME] = "";
    int given = 0, rank = 0, size = 0, len;
    pg_link *l = calloc(1, sizeof *l);
    if (!l) return fail(e, "out of memory", MPI_SUCCESS);
    /* A thread sums gradients while the main one computes; they never call at the same time. */
    int rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &given);
    if (rc != MPI_SUCCESS || given < MPI_THREAD_SERIALIZED) {
        free(l);
        return fail(e, rc == MPI_SUCCESS ? "this MPI does not allow threads" : "MPI cannot start", rc);
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(name, &len);
    *l = (pg_link){.rank = (size_t)rank, .size = (size_t)size, .exchange = exchange, .close = finish};
    snprintf(l->host, sizeof l->host, "%.63s", name);
    if ((rc = look_around(l)) != MPI_SUCCESS) {
        free(l);
        return fail(e, "MPI cannot tell which ranks share a host", rc);
    }
    *out = l;
    return PG_OK;
}
