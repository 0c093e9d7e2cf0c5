/* Memory with checked sizes, and a growing byte buffer. */
#ifndef PG_BASE_MEM_H
#define PG_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* *out = a*b or a+b; false on overflow. */
bool pg_mul(size_t a, size_t b, size_t *out) PG_MUST_CHECK;
bool pg_add(size_t a, size_t b, size_t *out) PG_MUST_CHECK;

/* n objects of size bytes; NULL on overflow or no memory; never NULL for n = 0. free() them. */
void *pg_alloc(size_t n, size_t size) PG_MUST_CHECK;  /* not cleared */
void *pg_calloc(size_t n, size_t size) PG_MUST_CHECK; /* cleared */
void *pg_realloc(void *p, size_t n, size_t size) PG_MUST_CHECK;
/* n floats, aligned to 64 bytes, not cleared; on huge pages where large. free() them. */
float *pg_floats(size_t n) PG_MUST_CHECK;
char *pg_strdup(const char *s) PG_MUST_CHECK;
char *pg_strndup(const char *s, size_t n) PG_MUST_CHECK; /* n bytes, then a 0 */
char *pg_format(const char *fmt, ...) PG_PRINTF(1, 2) PG_MUST_CHECK; /* asprintf; NULL on no memory */

/* Bytes that grow. Start with {0}. data may be NULL while len is 0. pg_buf_free leaves {0}. */
typedef struct pg_buf {
    unsigned char *data;
    size_t len, cap;
} pg_buf;

int pg_buf_reserve(pg_buf *b, size_t more, pg_err *e) PG_MUST_CHECK;
int pg_buf_add(pg_buf *b, const void *p, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_buf_addf(pg_buf *b, pg_err *e, const char *fmt, ...) PG_PRINTF(3, 4) PG_MUST_CHECK;
int pg_buf_add_base64(pg_buf *b, const void *p, size_t n, pg_err *e) PG_MUST_CHECK;
void pg_buf_free(pg_buf *b);

#endif
