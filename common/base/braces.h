/* Lists in names, as the shell writes them: shard-{0000..0099}.tar, {train,val}.jsonl. */
#ifndef PG_BASE_BRACES_H
#define PG_BASE_BRACES_H

#include <stddef.h>

#include "base/err.h"

enum { PG_BRACES_MAX = 1000000 };

/* The names that s stands for, in the shell's order, as a new array of n new strings (free each, then the array). {a,b} gives its
 * parts, {8..12} and {12..8} the whole numbers between; where either end has a leading zero all are as wide as the wider end. Lists
 * may follow each other and lie in each other. Other braces stand for themselves: then n is 1 and the name is s. PG_ELIMIT: more than
 * PG_BRACES_MAX names. */
int pg_braces(const char *s, char ***names, size_t *n, pg_err *e) PG_MUST_CHECK;

#endif
