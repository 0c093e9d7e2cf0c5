/* Calls of other libraries that, where memory runs out, say nothing or the wrong thing. These say it. */
#ifndef PG_BASE_GUARD_H
#define PG_BASE_GUARD_H

#include <jansson.h>
#include <regex.h>

#include "base/err.h"

/* json_loadb, NULL where any allocation failed: Jansson 2.14 by itself would go on without a character of a text, crash, or blame the syntax.
 * why (may be NULL) says "out of memory", which pg_json_no_memory recognises. */
json_t *pg_json_load(const void *p, size_t n, size_t flags, json_error_t *why) PG_MUST_CHECK;
int pg_json_no_memory(const json_error_t *why);
/* json_dumps, NULL where any allocation failed: Jansson 2.14 may leave out a piece then. free() it. */
char *pg_json_dumps(const json_t *j, size_t flags) PG_MUST_CHECK;

/* 1: the text matches; 0: it does not; < 0: no memory, which glibc 2.36 may call no match. */
int pg_regex_matches(const regex_t *re, const char *text, pg_err *e) PG_MUST_CHECK;

#endif
