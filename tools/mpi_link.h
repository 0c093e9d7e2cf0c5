/* What pg-mpi.so offers. */
#ifndef PG_MPI_LINK_H
#define PG_MPI_LINK_H

#include "train/link.h"

/* Starts MPI and links the ranks that mpirun has started. *out: until its close(). Fills *e on failure. */
__attribute__((visibility("default"))) int pg_mpi_open(pg_link **out, pg_err *e);
typedef int (*pg_mpi_open_fn)(pg_link **out, pg_err *e);
#define PG_MPI_PLUGIN "pg-mpi.so"
#define PG_MPI_ENTRY "pg_mpi_open"

#endif
