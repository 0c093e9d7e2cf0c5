#include "train/link.h"

enum { PIECE = 4 << 20 };

int pg_link_send(pg_link *l, const void *p, size_t n, size_t to, pg_err *e)
{
    return n ? l->exchange(l, p, n, to, NULL, 0, 0, e) : PG_OK;
}

int pg_link_recv(pg_link *l, void *p, size_t n, size_t from, pg_err *e)
{
    return n ? l->exchange(l, NULL, 0, 0, p, n, from, e) : PG_OK;
}

/* While a rank passes piece k on it receives piece k + 1. */
int pg_link_cast(pg_link *l, void *p, size_t n, pg_err *e)
{
    char *b = p;
    size_t pieces = (n + PIECE - 1) / PIECE;
    for (size_t k = 0; k <= pieces; k++) {
        size_t in = k * (size_t)PIECE, out = k ? in - PIECE : 0;
        size_t n_in = l->rank && k < pieces ? n - in < PIECE ? n - in : PIECE : 0;
        size_t n_out = l->rank + 1 < l->size && k ? n - out < PIECE ? n - out : PIECE : 0;
        int rc = n_in || n_out ? l->exchange(l, b + out, n_out, l->rank + 1, b + in, n_in, l->rank - 1, e) : PG_OK;
        if (rc) return rc;
    }
    return PG_OK;
}

size_t pg_link_share(size_t size, size_t rank, size_t n, size_t *from)
{
    size_t each = n / size, more = n % size;
    *from = rank * each + (rank < more ? rank : more);
    return each + (rank < more);
}
