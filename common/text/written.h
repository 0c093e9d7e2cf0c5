/* Captions that a model wrote beside pictures (pg-render -f sidecar), so that whoever reads them back can tell them from a person's: a
 * hidden file in the folder, one hash a line, of a text file's name and what it says. A caption that was edited since is a person's. */
#ifndef PG_TEXT_WRITTEN_H
#define PG_TEXT_WRITTEN_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define PG_WRITTEN_NAME ".pg-captions"

/* Notes that the text file at path says caption [n]. */
int pg_written_note(const char *path, const char *caption, size_t n, pg_err *e) PG_MUST_CHECK;

/* The notes of the folder that was asked about last. Start with {0}. */
typedef struct pg_written {
    char *dir;
    uint64_t *hashes; /* sorted */
    size_t n;
} pg_written;
/* 1: so it was noted; 0: it was not; negative: no memory, or notes that cannot be read. */
int pg_written_has(pg_written *w, const char *path, const char *caption, size_t n, pg_err *e) PG_MUST_CHECK;
void pg_written_free(pg_written *w);

#endif
