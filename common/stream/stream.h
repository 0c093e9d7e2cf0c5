/* The stream: a sequence of msgpack maps. First the header (its first key is "pg-stream"), then records, last the end
 * record (its first key is "pg-end"). man 5 pg-stream defines it. Values that a tool does not touch keep their bytes.
 *
 * A reader owns its buffers; a record is allocated once and reused for the whole stream. Pointers into a record live until
 * that record is read into, changed, or freed. */
#ifndef PG_STREAM_STREAM_H
#define PG_STREAM_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define PG_STREAM_MAJOR 1
#define PG_STREAM_MINOR 0
#define PG_RECORD_MAX ((size_t)1 << 30) /* bytes of one record that a reader accepts */

/* ---- records: an ordered map from string to one msgpack value ---- */
typedef struct pg_rec pg_rec;
pg_rec *pg_rec_new(void); /* NULL on no memory */
void pg_rec_free(pg_rec *r);
void pg_rec_clear(pg_rec *r);
size_t pg_rec_count(const pg_rec *r);
/* Key number i (0-terminated) and the raw msgpack bytes of its value. */
const char *pg_rec_key(const pg_rec *r, size_t i);
const unsigned char *pg_rec_raw(const pg_rec *r, size_t i, size_t *len);
bool pg_rec_has(const pg_rec *r, const char *key);

/* Readers: 1 found, 0 absent (or nil), PG_EFORMAT of another type (the message names key and type found).
 * Strings: str or bin; *s is not 0-terminated. Bytes: bin or str. Ints: an array of integers in int32, into a new array for
 * free(); PG_EFORMAT for anything else in it. Doubles accept integers. */
int pg_rec_str(const pg_rec *r, const char *key, const char **s, size_t *n, pg_err *e) PG_MUST_CHECK;
/* The id: a string, or the digits of an integer, as other programs may write it. False: there is none to tell the record by. */
enum { PG_ID_DIGITS = 24 };
bool pg_rec_id(const pg_rec *r, char digits[PG_ID_DIGITS], const char **s, size_t *n);
int pg_rec_bin(const pg_rec *r, const char *key, const unsigned char **p, size_t *n, pg_err *e) PG_MUST_CHECK;
int pg_rec_int(const pg_rec *r, const char *key, int64_t *v, pg_err *e) PG_MUST_CHECK;
int pg_rec_double(const pg_rec *r, const char *key, double *v, pg_err *e) PG_MUST_CHECK;
int pg_rec_ints(const pg_rec *r, const char *key, int32_t **v, size_t *n, pg_err *e) PG_MUST_CHECK;
/* A list of strings: *s is a new array of n new 0-terminated strings, for pg_strs_free. */
int pg_rec_strs(const pg_rec *r, const char *key, char ***s, size_t *n, pg_err *e) PG_MUST_CHECK;
void pg_strs_free(char **s, size_t n);
/* The whole value as JSON text appended to out: tensors as {"tensor":"<f4","shape":[..]} and bytes as {"bytes":N}
 * unless with_tensors (then tensors as nested lists, bytes as base64). */
int pg_rec_json(const pg_rec *r, size_t i, bool with_tensors, pg_buf *out, pg_err *e) PG_MUST_CHECK;

/* A tensor as msgpack-numpy writes it. data points into the record, at any alignment; C order, little endian. */
typedef struct pg_tensor {
    char type[8]; /* "<f4", "<i4", "|u1", ... */
    size_t ndim, shape[8];
    const unsigned char *data;
    size_t bytes;
} pg_tensor;
int pg_rec_tensor(const pg_rec *r, const char *key, pg_tensor *t, pg_err *e) PG_MUST_CHECK;

/* Other programs refuse a msgpack str that is not UTF-8: what may not be goes into the record with pg_rec_set_bin. */
bool pg_utf8_valid(const char *s, size_t n);
/* The bytes of the character at s (n > 0 of them are there), 0 where they are no UTF-8. *hidden: its code where it is not seen itself but
 * changes what is: control characters, line separators, marks and overrides of writing direction, zero width spaces; else 0xffffffff. */
size_t pg_utf8_look(const char *s, size_t n, uint32_t *hidden);

/* Writers: replace the value in place, or append the key. */
int pg_rec_set_str(pg_rec *r, const char *key, const char *s, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_bin(pg_rec *r, const char *key, const void *p, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_int(pg_rec *r, const char *key, int64_t v, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_double(pg_rec *r, const char *key, double v, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_bool(pg_rec *r, const char *key, bool v, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_doubles(pg_rec *r, const char *key, const double *v, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_ints(pg_rec *r, const char *key, const int32_t *v, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_strs(pg_rec *r, const char *key, const char *const *s, size_t n, pg_err *e) PG_MUST_CHECK;
/* A map from names to numbers. */
int pg_rec_set_numbers(pg_rec *r, const char *key, const char *const *names, const double *v, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_tensor(pg_rec *r, const char *key, const pg_tensor *t, pg_err *e) PG_MUST_CHECK;
int pg_rec_set_raw(pg_rec *r, const char *key, const void *msgpack, size_t n, pg_err *e) PG_MUST_CHECK;
void pg_rec_del(pg_rec *r, const char *key);

/* The error key: {"tool": ..., "message": ...}. A record that has one is passed along untouched by later tools. */
bool pg_rec_has_error(const pg_rec *r);
/* An error, or the text so far of pg-infer --partial: no example, which tools pass along untouched. */
bool pg_rec_passes(const pg_rec *r);
int pg_rec_set_error(pg_rec *r, const char *tool, const char *message, pg_err *e) PG_MUST_CHECK;
/* "tool: message" as a new string for free(), NULL where there is none (or no memory). */
char *pg_rec_error(const pg_rec *r);

/* ---- reading ---- */
typedef struct pg_reader pg_reader;
typedef struct pg_writer pg_writer;

/* Reads fd (not closed by the reader). name is for messages. */
int pg_reader_new(pg_reader **rd, int fd, const char *name, pg_err *e) PG_MUST_CHECK;
void pg_reader_free(pg_reader *rd);
void pg_reader_limit(pg_reader *rd, size_t max_record); /* instead of PG_RECORD_MAX */
/* When a read would block, w is flushed first: an interactive pipeline never waits for a full buffer. Where w is a pipe whose
 * reader is gone by then, reading fails with PG_EIO and errno EPIPE. */
void pg_reader_tie(pg_reader *rd, pg_writer *w);
/* Three outcomes: 1 a record, 0 the clean end (end record seen, its count right), < 0 failure: bad or cut input.
 * pg_reader_header must come first: 1, or < 0 (no header, other major version: both numbers are named). */
int pg_reader_header(pg_reader *rd, pg_rec *header, pg_err *e) PG_MUST_CHECK;
int pg_reader_next(pg_reader *rd, pg_rec *rec, pg_err *e) PG_MUST_CHECK;
const pg_rec *pg_reader_end(const pg_reader *rd); /* the end record, once next returned 0 */
/* True where pg_reader_next would not wait: a whole record lies in the buffer, or input (or its end) is there to read. */
bool pg_reader_ready(pg_reader *rd);
bool pg_reader_cut(const pg_reader *rd); /* the input has ended, and no end record had come */
uint64_t pg_reader_count(const pg_reader *rd);    /* records so far */
uint64_t pg_reader_offset(const pg_reader *rd);   /* bytes of the stream consumed so far: where the next record starts */

/* ---- writing ---- */
int pg_writer_new(pg_writer **w, int fd, const char *name, pg_err *e) PG_MUST_CHECK;
void pg_writer_free(pg_writer *w); /* does not flush */
/* in: the header read, or NULL at a stream's source. kind: "examples", "events"; NULL keeps in's. Appends
 * {"program","version","args"} to the chain; `extra` (NULL: none) is a record whose keys are set in the header. */
int pg_writer_header(pg_writer *w, const pg_rec *in, const char *kind, const char *program, const char *version,
                     int argc, char *const *argv, const pg_rec *extra, pg_err *e) PG_MUST_CHECK;
int pg_writer_add(pg_writer *w, const pg_rec *rec, pg_err *e) PG_MUST_CHECK; /* counts it, and its error if it has one */
int pg_writer_end(pg_writer *w, const pg_rec *extra, pg_err *e) PG_MUST_CHECK; /* end record, then flush */
int pg_writer_flush(pg_writer *w, pg_err *e) PG_MUST_CHECK;
uint64_t pg_writer_errors(const pg_writer *w); /* records with an error so far */

#endif
