/* pg-info's parts. */
#ifndef PG_INFO_H
#define PG_INFO_H

#include "tool.h"
#include "weights/weights.h"

/* The time to expect on this machine, as lines of text: from counted operations and what a probe of half a second measures. bytes: of
 * all weights as stored. */
void info_time(pg_tool *t, const pg_model_shape *s, double bytes);

#endif
