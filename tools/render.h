/* The parts of pg-render: the loss curve, the SVG of it, the HTML report. */
#ifndef PG_RENDER_H
#define PG_RENDER_H

#include <stdio.h>

#include "base/mem.h"
#include "image/image.h"
#include "tool.h"

/* ---- the curve ---- */
/* Losses and learning rates by step. Holds a bounded number of points: when full, neighbours are averaged. */
enum { CURVE_POINTS = 4096 };
typedef struct curve_point {
    double step, loss, lr, exact, cider; /* training has lr, validation exact and cider; what is not known is NAN */
} curve_point;
typedef struct curve {
    curve_point train[CURVE_POINTS], val[CURVE_POINTS];
    size_t n_train, n_val;
    size_t per_point, in_last; /* steps averaged in a point; in the last one so far */
    bool cut;                  /* its stream ends too early: the picture says so */
} curve;
/* Step and val events; others are ignored. A step that was there before is where a resumed run goes on: what lies behind it is forgotten. */
void curve_add(curve *c, const pg_rec *event);
/* Several runs share the axes; one run has colours for training and held-out, several a colour each. A picture that stands alone shows
 * values where the pointer rests; one inlined in the report leaves that to the report's script, which wants the points. */
void render_svg(FILE *f, const curve *const *c, const char *const *labels, size_t n, bool inlined);
void curves_json(FILE *f, const curve *const *c, const char *const *labels, size_t n);

/* ---- text ---- */
typedef struct text_view {
    const char *s;
    size_t n;
} text_view;
/* The string under key, empty where there is none. */
text_view view(const pg_rec *r, const char *key);
void put_html(FILE *f, const char *s, size_t n); /* escaped for text and attributes */
void put_str(FILE *f, const char *s);

/* The reference nearest to the caption: its place in refs (n > 0). */
size_t nearest_reference(text_view caption, char *const *refs, size_t n);
/* `text` with the words marked that are not, in the same order, in `other`; class names the mark. */
void put_marked(FILE *f, text_view text, text_view other, const char *class, const char *title);

/* ---- captions beside pictures ---- */
typedef struct sidecars {
    uint64_t written, kept, without, refused;
    tool_seen mine; /* files of this run */
} sidecars;
/* Writes the record's caption beside its picture. A file that this run wrote for another caption is not written over: that record is refused. */
void put_sidecar(pg_tool *t, const pg_rec *rec, bool overwrite, sidecars *n);
uint64_t sidecars_end(pg_tool *t, sidecars *n); /* says what was done; how many were refused */

/* ---- the report ---- */
/* What is counted for one column. Distinct captions are counted up to a limit, so memory stays flat. */
typedef struct tally {
    uint64_t captions, matches, known, distinct, words;
    bool full; /* more are distinct than were counted */
    uint64_t *seen;
    tool_same same;
} tally;

/* One caption of a picture. */
typedef struct entry {
    char *id, *caption;
    double score, logprob; /* CIDEr; NAN where not known */
} entry;

/* What one stream of examples says. */
typedef struct column {
    const char *label;
    entry *e; /* of the second and further streams, by id */
    size_t n, cap;
    tally tally;
    char *scores; /* the end record's, as JSON */
} column;

/* Captions of held-out examples while training, in the order of the events. */
typedef struct moment {
    char *id, *caption;
    double step;
    size_t order;
} moment;

typedef struct report {
    pg_tool *t;
    FILE *cards, *chains;
    pg_image *image;
    column *columns;
    size_t n_columns;
    const curve **curves; /* one for each stream of events */
    const char **curve_labels;
    size_t n_curves;
    moment *moments;
    size_t n_moments, cap_moments;
    uint64_t records, errors, other_errors, steps, validations;
    uint64_t better, worse, equal; /* last column against the first, by score */
    bool scored, compare;
} report;


/* Boxes that the caption names (text/locations.h): a JSON array for free(), NULL where there is none; and spans of class "box", placed
 * in hundredths of a picture that lies in an element of its size. */
char *boxes_json(const pg_rec *rec);
bool has_boxes(text_view caption);
void boxes_html(FILE *f, text_view caption);

/* The report of `files` (n of them; stdin where n is 0), columns named by labels. *errors: records with an error. */
typedef struct report_options {
    char *const *labels;
    size_t n_labels;
    bool compare; /* two streams of examples are wanted */
    const char *note; /* a file of text that stands before the examples; NULL: none */
} report_options;
void render_html(pg_tool *t, FILE *f, char *const *files, size_t n, const report_options *o, uint64_t *errors);

void put_note(const pg_tool *t, FILE *f, const char *path);
void put_card(report *r, const tool_pipe *p);  /* an example's, into r->cards */
double record_score(const report *r, const pg_rec *rec);        /* CIDEr under scores, NAN where there is none */
void put_head(FILE *f);
void put_summary(const report *r, FILE *f);
void put_controls(const report *r, FILE *f);
void put_foot(const report *r, FILE *f);

#define RENDER_ASSET(name) extern const char render_##name[], render_##name##_end[]
RENDER_ASSET(report_css);
RENDER_ASSET(report_js);

#endif
