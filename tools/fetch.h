/* pg-fetch's sources. */
#ifndef PG_FETCH_H
#define PG_FETCH_H

#include <stdio.h>

#include "tool.h"

typedef struct fetch {
    pg_tool t;
    tool_pipe p;
    size_t limit, done;
    const char *out;
    uint64_t *seen; /* hashes of ids, open addressing, 0 is free */
    size_t n_seen, cap_seen;
    char *unknown[16]; /* unknown JSONL keys that were said */
    size_t n_unknown;
} fetch;

bool fetch_is_image(const char *path);
void fetch_image(fetch *f, const char *path, const char *id); /* with its sidecar text */
void fetch_folder(fetch *f, const char *path);
void fetch_jsonl(fetch *f, FILE *in, const char *name, const char *dir);
void fetch_free(fetch *f);

/* Steps of one record, for the sources: begin; then keys; then put, which checks that the id is new. */
void fetch_begin(fetch *f, const char *id, const char *source);
bool fetch_bytes(fetch *f, const char *path, const char *where); /* the image key; false: the record carries an error now */
void fetch_put(fetch *f, const char *id);

#endif
