/* Inside of a record; for the stream room alone. */
#ifndef PG_STREAM_RECORD_H
#define PG_STREAM_RECORD_H

#include "stream/stream.h"

typedef struct pg_field {
    size_t key, key_len; /* offsets into bytes; the key is followed by a 0 */
    size_t val, val_len;
} pg_field;

struct pg_rec {
    pg_buf bytes; /* keys and values; a replaced value leaves a hole until the record is cleared */
    pg_field *fields;
    size_t n, cap;
};

/* Takes over one scanned object: a map with distinct string keys. */
int pg_rec_parse(pg_rec *r, const unsigned char *p, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_rec_copy(pg_rec *to, const pg_rec *from, pg_err *e) PG_MUST_CHECK;
const pg_field *pg_rec_find(const pg_rec *r, const char *key);

int pg_writer_fd(const pg_writer *w);

/* Appends s, U+FFFD in the place of every byte that is not UTF-8. */
int pg_utf8_add(pg_buf *out, const char *s, size_t n, pg_err *e) PG_MUST_CHECK;

#endif
