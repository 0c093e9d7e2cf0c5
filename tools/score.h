/* The parts of pg-score: captions with their references from any kind of input; scores as text, JSON or in the stream. */
#ifndef PG_SCORE_H
#define PG_SCORE_H

#include "metrics/metrics.h"
#include "text/coco.h"
#include "tool.h"

/* One caption and what it is measured against. */
typedef struct item {
    char *id, *caption;
    size_t length; /* bytes of caption */
    char **references;
    size_t n_references;
    const pg_coco_image *image; /* owns the references, where --references found it */
    const char *why_not;        /* why it is not scored; NULL: it is. Static text */
    size_t scored;              /* its number among those that are */
} item;

/* All records of one input, in order. */
typedef struct set {
    const char *name;
    item *items;
    size_t n, cap, scored;
    size_t errors;    /* records that carried an error */
    bool references;  /* from --references */
} set;

/* Reads a stream, JSON lines or COCO results, told apart by the first bytes (fd can be read at any place); path NULL: a stream on stdin.
 * Says which records cannot be scored and why; a broken input ends the program. */
void set_read(pg_tool *t, set *s, int fd, const char *path, const pg_coco *coco);
void set_free(set *s);

/* What the user asked for. */
typedef struct scoring {
    bool json, context;
    size_t bootstrap; /* resamples; 0: no intervals */
    uint64_t seed;
} scoring;

/* The items that can be scored, scored; warns of what makes the numbers worthless. */
pg_corpus *score_set(pg_tool *t, const set *s, const scoring *o);
void put_scores(pg_tool *t, const set *s, const pg_corpus *c, const scoring *o);
/* a and b hold the same pictures in the same order. */
void put_comparison(pg_tool *t, const set *a, const set *b, const scoring *o);
/* COCO's results shape: [{"image_id": .., "caption": ".."}]. */
size_t write_results(pg_tool *t, const set *s, const char *path); /* how many could not be written: JSON is UTF-8 */

#endif
