/* Sums gradients over the ranks of a run while the backward pass goes on: as soon as a layer's gradient is complete (pg_model.ready)
 * a thread of its own sums it with those of the other ranks.
 *
 * The order of additions is fixed, so the sum has the same bits on all ranks and in every run with as many ranks: a tensor's gradient is
 * worked on in pieces of at most `size` MiB, each cut into as many segments as there are ranks, and segment s goes around the ring from
 * rank s on: ((g[s] + g[s+1]) + ...) + g[s-1]. Each rank sends and receives 2 (size - 1) / size of the gradient's bytes. */
#ifndef PG_TRAIN_REDUCE_H
#define PG_TRAIN_REDUCE_H

#include "model/model.h"
#include "train/link.h"

typedef struct pg_reduce pg_reduce;

/* Of m's trainable tensors; l and m are borrowed. */
int pg_reduce_new(pg_reduce **r, pg_link *l, pg_model *m, pg_err *e) PG_MUST_CHECK;
void pg_reduce_free(pg_reduce *r);

/* Before the backward pass that completes the gradients (the last one, where several batches are added up). From here to
 * pg_reduce_end the link belongs to the thread. Called by all ranks, also by one that has no example of this batch. */
int pg_reduce_begin(pg_reduce *r, pg_err *e) PG_MUST_CHECK;
/* Whatever has not been told to be complete is now. Waits; then the params' g hold the sum. */
int pg_reduce_end(pg_reduce *r, pg_err *e) PG_MUST_CHECK;

/* Seconds since pg_reduce_new: *summing, of the thread, its waiting for other ranks included; *waited, in pg_reduce_end: what the backward
 * pass did not hide. */
void pg_reduce_times(const pg_reduce *r, double *summing, double *waited);

#endif
