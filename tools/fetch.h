/* pg-fetch's sources. */
#ifndef PG_FETCH_H
#define PG_FETCH_H

#include <jansson.h>
#include <stdio.h>

#include "net/cache.h"
#include "net/source.h"
#include "text/written.h"
#include "tool.h"

/* The lines on a terminal that show what is under way. */
typedef struct progress {
    bool on;
    size_t drawn; /* lines */
    long long start, last;
    pg_transfer **all;
    size_t n;
} progress;

typedef struct fetch {
    pg_tool t;
    tool_pipe p;
    size_t limit, done;
    uint64_t *seen; /* hashes of ids, or with -o of paths, open addressing, 0 is free */
    size_t n_seen, cap_seen;
    char *unknown[16]; /* unknown keys, and endings of a tar's members, that were said */
    size_t n_unknown;
    size_t left, rendered; /* pictures that are not read; captions that pg-render wrote */
    char first_left[256];
    pg_written written;
    const char *images; /* the folder of a COCO file's pictures; NULL: the file's own */
    /* remote sources */
    const char *out;
    bool all, dry_run, no_cache;
    uint64_t cache_size;
    pg_sums want; /* --sha256, --md5 */
    pg_net_options net;
    pg_hosts hosts; /* hosts.net: NULL until a remote source comes */
    pg_cache *cache;
    progress bar;
} fetch;

/* fetch_remarks.c */
bool fetch_is_image(const char *path); /* by its ending */
void fetch_leave(fetch *f, const char *name); /* a file that is no source; counted where it is a picture */
void fetch_remember_caption(fetch *f, const char *path, const char *caption, size_t n); /* of a sidecar; counted where pg-render wrote it */
void fetch_remarks(fetch *f);

void fetch_image(fetch *f, const char *path, const char *id); /* with its sidecar text */
void fetch_folder(fetch *f, const char *path);
void fetch_coco(fetch *f, const char *file);
void fetch_tar(fetch *f, const char *file);
/* base: the remote source that images are beside, else NULL and they are relative to dir. */
void fetch_jsonl(fetch *f, FILE *in, const char *name, const char *dir, const char *base);
/* False where the text was there before (or, with odds of n^2 / 2^65, another one has its hash). */
bool fetch_is_new(fetch *f, const char *text);
void fetch_free(fetch *f);

/* Steps of one record, for the sources: begin; then keys; then put, which checks that the id is new. */
void fetch_begin(fetch *f, const char *id, const char *source);
bool fetch_bytes(fetch *f, const char *path, const char *where); /* the image key; false: the record carries an error now */
bool fetch_set_image(fetch *f, const pg_buf *b);
void fetch_set_caption(fetch *f, const pg_buf *text, const char *name); /* the text of a sidecar, as the suffix */
bool fetch_keys(fetch *f, const json_t *o, const char *where); /* prefix, suffix, references; false: as fetch_bytes; o may be NULL */
char *fetch_given_id(const fetch *f, const json_t *o, bool *bad); /* NULL: o gives none; *bad: it gives what is no id */
bool fetch_first_time(fetch *f, const char *what); /* something unknown that was not said yet */
char *fetch_sidecar(const char *path); /* name.txt of name.jpg; NULL on no memory */
void fetch_put(fetch *f, const char *id);

/* fetch_remote.c: downloads into f->out; the exit status. */
int fetch_download(fetch *f, char **sources, size_t n);
void fetch_connect(fetch *f); /* makes f->hosts.net */
void fetch_disconnect(fetch *f);

/* fetch_stream.c: a remote source as examples. */
void fetch_remote(fetch *f, const char *source);

/* A remote file that is being fetched ahead, for a record that comes later. */
typedef struct ahead ahead;
ahead *ahead_start(fetch *f, const char *source);
int ahead_wait(fetch *f, ahead *a, pg_buf *out, pg_err *e) PG_MUST_CHECK;
void ahead_free(ahead *a); /* must have been waited for, or the net is gone */

/* fetch_progress.c */
void progress_start(fetch *f, pg_transfer **all, size_t n);
void progress_tick(void *f);
void progress_clear(fetch *f); /* before a message */
void progress_end(fetch *f);
void human_bytes(uint64_t n, char out[24]);

#endif
