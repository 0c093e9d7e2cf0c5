/* Inside the decoder: a seat and the texts that grow on it. */
#ifndef PG_MODEL_SEAT_H
#define PG_MODEL_SEAT_H

#include "model/cache.h"
#include "model/choose.h"

#define PG_NOWHERE SIZE_MAX

/* One chosen token; a text is read from its last one back to the first. */
typedef struct pg_node {
    size_t before; /* PG_NOWHERE: it is the first */
    int32_t token;
} pg_node;

typedef struct pg_path { /* a beam or a sample */
    size_t slot;      /* of the cache: what comes after picture and prefix */
    size_t last;      /* node */
    double score;
    bool ended;
} pg_path;

typedef struct pg_seat {
    pg_caption *c; /* NULL: free */
    bool read, done; /* picture and prefix are in the cache; finished */
    size_t base;     /* slot of picture and prefix */
    size_t shared;   /* their positions */
    size_t n;        /* tokens chosen of each path */
    pg_path *paths, *offers; /* [width] */
    size_t live;     /* paths; before the first token there is one beam, and samples go together */
    pg_node *nodes;
    size_t n_nodes, nodes_room;
    size_t best;     /* beams: the last node of the likeliest finished text, eos not in it */
    double best_score;
} pg_seat;

struct pg_decoder {
    pg_model *m;
    pg_work *w;
    pg_decoding how;
    size_t n_seats, width; /* most paths of a seat */
    pg_seat *seats;
    pg_path *paths; /* of all seats, twice */
    pg_cache *cache;
    pg_chooser *chooser;
};

/* What a step's options [rows of the seat][per_row] (choose.h) make of its texts; done and the caption are set where they end. */
int pg_seat_samples(pg_decoder *d, pg_seat *s, const pg_option *o, size_t per_row, pg_err *e) PG_MUST_CHECK;
int pg_seat_beams(pg_decoder *d, pg_seat *s, const pg_option *o, size_t per_row, pg_err *e) PG_MUST_CHECK;
void pg_seat_fail(pg_seat *s, int code, const char *why);

#endif
