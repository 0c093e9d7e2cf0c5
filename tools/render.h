/* The parts of pg-render: the loss curve, the SVG of it, the HTML report. */
#ifndef PG_RENDER_H
#define PG_RENDER_H

#include <stdio.h>

#include "tool.h"

/* Losses and learning rates by step. Holds a bounded number of points: when full, neighbours are averaged. */
enum { CURVE_POINTS = 4096 };
typedef struct curve_point {
    double step, loss, lr;
} curve_point;
typedef struct curve {
    curve_point train[CURVE_POINTS], val[CURVE_POINTS]; /* of val only step and loss */
    size_t n_train, n_val;
    size_t per_point, in_last; /* steps averaged in a point; in the last one so far */
} curve;
void curve_add(curve *c, const pg_rec *event); /* step and val events; others are ignored */
void render_svg(FILE *f, const curve *c);

typedef struct text_view {
    const char *s;
    size_t n;
} text_view;
/* The string under key, empty where there is none. */
text_view view(const pg_rec *r, const char *key);
void put_html(FILE *f, const char *s, size_t n); /* escaped for text and attributes */

/* Boxes that the caption names (text/locations.h): a JSON array for free(), NULL where there is none; and spans of class "box", placed
 * in hundredths of a picture that lies in an element of its size. */
char *boxes_json(const pg_rec *rec);
void boxes_html(FILE *f, text_view caption);

/* The report of `files` (n of them; stdin where n is 0), columns named by labels. *errors: records with an error. */
void render_html(pg_tool *t, FILE *f, char *const *files, size_t n, char *const *labels, size_t n_labels, uint64_t *errors);

#endif
