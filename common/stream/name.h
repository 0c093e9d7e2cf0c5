/* Names of files as text. */
#ifndef PG_STREAM_NAME_H
#define PG_STREAM_NAME_H

#include <stddef.h>

#include "base/mem.h"

/* Appends a name that any tool can take, from which the bytes can be had again: one that is UTF-8 as it is; else with \xHH for each byte that is
 * not, and two backslashes for one. */
int pg_utf8_name(pg_buf *out, const char *s, size_t n, pg_err *e) PG_MUST_CHECK;

#endif
