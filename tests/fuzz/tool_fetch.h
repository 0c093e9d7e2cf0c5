/* A pg-fetch whose stream goes nowhere, for one source of data in memory. */
#ifndef PG_FUZZ_TOOL_FETCH_H
#define PG_FUZZ_TOOL_FETCH_H

#include "fetch.h"
#include "fuzz.h"

/* Both inside of a guard. */
void fuzz_fetch_start(fetch *f);
void fuzz_fetch_end(fetch *f);

#endif
