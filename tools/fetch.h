/* pg-fetch's sources. */
#ifndef PG_FETCH_H
#define PG_FETCH_H

#include <jansson.h>
#include <stdio.h>

#include "base/num.h"
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

/* A remote file that is being fetched ahead, for a record that comes later. */
typedef struct ahead ahead;

/* A record whose picture is still to be loaded, so that what is left out, waits or is shuffled costs little. */
typedef struct item {
    pg_rec *rec;
    char *id;
    char *path;  /* of the picture, or its remote source; NULL: nothing is to be loaded */
    char *where; /* begins messages about it; may be NULL */
    char *side;  /* the file of its caption, or the remote source; may be NULL */
    pg_item *listed; /* the picture as a listing told of it; else NULL */
    ahead *picture, *caption; /* under way */
} item;

enum { FETCH_WINDOW = 16 }; /* records whose pictures are fetched ahead */

/* Which records come in what order: fetch_order.c */
typedef struct order {
    size_t shard, shards;       /* --shard I/N; shards 0: all */
    bool by_source;             /* a shard has whole sources */
    size_t source, number;      /* of the current source, and of its next record */
    uint64_t left_out;          /* of --skip: still to go */
    size_t room, n;             /* --shuffle: what the buffer takes and holds */
    item *buffer;
    uint64_t seed, epoch, epochs; /* epoch: from 0; epochs 0: without end */
    uint64_t of_epoch;          /* records of this shard in this epoch so far */
    pg_rng rng;
    item window[FETCH_WINDOW];
    size_t first, waiting, remote;
    size_t passed;              /* into the window, of limit */
} order;

typedef struct fetch {
    pg_tool t;
    tool_pipe p;
    size_t limit, done;
    tool_seen ids, before; /* of the stream: this and the last quarter million; with -o ids are paths, all of them */
    order order;
    bool listed; /* the current source is one of a list in braces */
    char *unknown[16]; /* unknown keys, and endings of a tar's members, that were said */
    size_t n_unknown;
    size_t left, rendered, renamed; /* pictures that are not read; captions that pg-render wrote; ids that are not the name's bytes */
    size_t several_lines; /* captions beside pictures that have some */
    char first_left[256], first_renamed[256], first_several[256];
    pg_written written;
    const char *images; /* the folder of a COCO file's pictures; NULL: the file's own */
    /* remote sources */
    const char *out;
    bool all, dry_run, list, no_cache;
    size_t spooled; /* --no-cache: archives that were fetched into a folder of this run */
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
void fetch_tar(fetch *f, const char *file, const char *name); /* name: what messages and records call it */
void fetch_pgs(fetch *f, const char *file, const char *name);
pg_rec *fetch_header(fetch *f, const char *file); /* of a stream; NULL: it cannot be had */
/* base: the remote source that images are beside, else NULL and they are relative to dir. */
void fetch_jsonl(fetch *f, FILE *in, const char *name, const char *dir, const char *base);
/* Nothing can be had of a source: one of a list is a record with an error, else the run ends. */
void fetch_no_source(fetch *f, const char *name, int status, const char *fmt, ...) PG_PRINTF(4, 5);
/* The rest of an archive cannot be read: a record with an error. */
void fetch_damaged(fetch *f, const char *name, const char *fmt, ...) PG_PRINTF(3, 4);
void fetch_free(fetch *f);

/* Steps of one record, for the sources: more; wanted; begin; then keys; then put or put_later, which check that the id is new. */
char *fetch_id(fetch *f, const char *name); /* the name, or where it is not UTF-8 a form of it that is (pg_utf8_name); ends the run on no memory */
bool fetch_more(const fetch *f); /* false: enough */
bool fetch_wanted(fetch *f);     /* once for each record that there is; false: it is another shard's, and nothing is to be done for it */
bool fetch_skims(const fetch *f); /* the record will be left out: its picture is not needed */
void fetch_begin(fetch *f, const char *id, const char *source);
size_t fetch_max_image(const fetch *f); /* bytes of a picture: --max-record, less room for the other keys */
bool fetch_set_image(fetch *f, const pg_buf *b);
void fetch_set_caption(fetch *f, pg_buf *text, const char *name); /* the text of a sidecar, as the suffix; it is changed */
size_t fetch_odd_scheme(const char *s); /* the length of a scheme that is none of ours; 0: there is none */
void fetch_bad(fetch *f, const char *where, const char *why); /* makes it a record with an error; of many alike a few are said */
bool fetch_keys(fetch *f, const json_t *o, const char *where); /* prefix, suffix, references; false: the record carries an error now; o may be NULL */
char *fetch_given_id(const fetch *f, const json_t *o, bool *bad); /* NULL: o gives none; *bad: it gives what is no id */
bool fetch_first_time(fetch *f, const char *what); /* something unknown that was not said yet */
static inline bool fetch_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
char *fetch_sidecar(const char *path); /* name.txt of name.jpg; NULL on no memory */
void fetch_put(fetch *f, const char *id);
void fetch_put_later(fetch *f, const char *id, item *i); /* takes i's strings, whose picture is loaded when its turn comes */
void fetch_load(fetch *f, item *i); /* fetch_files.c: that picture, and caption, into f->p.rec */

/* fetch_order.c */
void order_epoch(fetch *f, size_t *sources, size_t n); /* before each pass: puts sources into its order */
bool order_skips_epoch(fetch *f); /* it lies before what --skip leaves */
void order_drain(fetch *f); /* what waits for its picture */
void order_end(fetch *f);   /* of a pass: what the buffer holds */
void order_free(fetch *f);  /* after fetch_disconnect */
/* fetch_seen.c. False where the text was there before (tool_seen); for all texts, or the last quarter million. */
bool fetch_is_new(fetch *f, const char *text, bool all);
void fetch_forget_seen(fetch *f);

/* fetch_remote.c: downloads into f->out; the exit status. */
int fetch_download(fetch *f, char **sources, size_t n);
void fetch_connect(fetch *f); /* makes f->hosts.net */
void fetch_disconnect(fetch *f);

/* fetch_stream.c: a remote source as examples; a: its file, if it is under way. */
void fetch_remote(fetch *f, const char *source, ahead *a);
ahead *ahead_shard(fetch *f, const char *source); /* NULL: no archive, stream or lines */
ahead *ahead_start(fetch *f, const char *source);
ahead *ahead_listed(fetch *f, pg_item *i); /* takes what i holds */
int ahead_wait(fetch *f, ahead *a, pg_buf *out, pg_err *e) PG_MUST_CHECK;
void ahead_work(fetch *f); /* what can be done for all of them without waiting */
void ahead_free(ahead *a); /* must have been waited for, or the net is gone */

/* fetch_progress.c */
void progress_start(fetch *f, pg_transfer **all, size_t n);
void progress_tick(void *f);
void progress_clear(fetch *f); /* before a message */
void progress_end(fetch *f);
void human_bytes(uint64_t n, char out[24]);

#endif
