/* Finds the end of one msgpack object in bytes that may still be arriving, and refuses what a reader should not allocate for. */
#ifndef PG_STREAM_SCAN_H
#define PG_STREAM_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { PG_SCAN_DEPTH = 32 };

/* Start with {0}; call again with more bytes (the same ones in front) after PG_SCAN_MORE. */
typedef struct pg_scan {
    size_t pos, depth;
    uint64_t left[PG_SCAN_DEPTH];
} pg_scan;

enum { PG_SCAN_MORE = 0, PG_SCAN_DONE = 1 };
/* PG_SCAN_DONE: the object is p[0..pos). PG_SCAN_MORE: it goes on after p[n). < 0: not msgpack, nested deeper than
 * PG_SCAN_DEPTH, or larger than max bytes (a container counts at least a byte for each element that it claims). */
int pg_scan_object(pg_scan *s, const unsigned char *p, size_t n, size_t max, pg_err *e) PG_MUST_CHECK;

/* One head: kind of the object at p, its count (bytes of a str, bin or ext; elements of an array; pairs of a map). Returns the
 * head's length in bytes, 0 where n is too short, PG_EFORMAT for the never-used byte. */
typedef enum { PG_MP_SCALAR, PG_MP_STR, PG_MP_BIN, PG_MP_EXT, PG_MP_ARRAY, PG_MP_MAP } pg_mp;
int pg_scan_head(const unsigned char *p, size_t n, pg_mp *kind, uint64_t *count) PG_MUST_CHECK;

#endif
