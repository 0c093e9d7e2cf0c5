/* Learning-rate schedules, as big_vision's create_learning_rate_schedule and the notebook call them. */
#ifndef PG_TRAIN_SCHEDULE_H
#define PG_TRAIN_SCHEDULE_H

#include <stddef.h>

typedef enum { PG_COSINE, PG_CONSTANT } pg_schedule;

/* base at the end of the linear warm-up (a fraction of total, rounded half to even, at least one step unless 0), falling along
 * a cosine to 0 at step = total. Constant: base after the warm-up. */
double pg_schedule_at(pg_schedule kind, size_t step, size_t total, double base, double warmup);
/* Of step 1..steps as the notebook numbers them: total is steps + 1. */
double pg_learning_rate(pg_schedule kind, size_t step, size_t steps, double base, double warmup);

#endif
