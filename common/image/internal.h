/* Inside this room only: decoders push rows, resizers take them. Nothing here holds a whole picture unless it must. */
#ifndef PG_IMAGE_INTERNAL_H
#define PG_IMAGE_INTERNAL_H

#include <stdint.h>

#include "image/image.h"

/* ---- rows: how a decoder hands over a picture, top to bottom ---- */
typedef struct pg_picture {
    size_t width, height; /* of the rows that follow; a scaled decode gives fewer than the file holds */
    size_t full_width, full_height;
    int orientation; /* EXIF, 1..8 */
    const char *format;
} pg_picture;

typedef struct pg_rows {
    void *ctx;
    int (*begin)(void *ctx, const pg_picture *p, pg_err *e); /* once, before any row */
    unsigned char *(*where)(void *ctx);                      /* room for the next row: RGB, width * 3 bytes */
    int (*put)(void *ctx, pg_err *e);                        /* that row is filled */
} pg_rows;

typedef struct pg_decode_opts {
    bool blend;
    unsigned char background[3];
    size_t max_pixels;
    size_t min_side; /* not 0: a decoder may scale down while the longer side keeps at least this many pixels */
} pg_decode_opts;

int pg_png_decode(const unsigned char *bytes, size_t n, const pg_decode_opts *o, pg_rows *rows, pg_buf *scratch, char warning[256],
                  pg_err *e) PG_MUST_CHECK;
int pg_jpeg_decode(const unsigned char *bytes, size_t n, const pg_decode_opts *o, pg_rows *rows, pg_buf *scratch, char warning[256],
                   pg_err *e) PG_MUST_CHECK;
/* rgb [height, width, 3] appended to *out as a JPEG of the given quality, 4:2:0. */
int pg_jpeg_encode(const unsigned char *rgb, size_t width, size_t height, int quality, pg_buf *out, pg_err *e) PG_MUST_CHECK;

/* Common to the decoders: the sizes in a header against the limit. */
int pg_check_pixels(size_t width, size_t height, size_t max_pixels, pg_err *e) PG_MUST_CHECK;
/* Makes room for n bytes in all, keeping nothing. */
int pg_scratch(pg_buf *b, size_t n, pg_err *e) PG_MUST_CHECK;

/* The orientation tag (274) of a TIFF block (what follows "Exif\0\0"); 1 where absent, malformed or out of range. */
int pg_exif_orientation(const unsigned char *tiff, size_t n);

/* ---- resizing ---- */
/* Per output sample the input samples first[i] .. first[i]+count[i]-1 with weights[i*stride ..]. Kept between pictures. */
typedef struct pg_taps {
    size_t n_in, n_out, stride;
    size_t *first, *count;
    float *weights; /* bilinear */
    int32_t *fixed; /* bicubic, times 2^22 */
} pg_taps;
void pg_taps_free(pg_taps *t);
int pg_taps_bilinear(pg_taps *t, size_t n_in, size_t n_out, pg_err *e) PG_MUST_CHECK;
int pg_taps_bicubic(pg_taps *t, size_t n_in, size_t n_out, pg_err *e) PG_MUST_CHECK;

/* A picture of width x height comes in row by row, out [oh, ow, 3] is filled as soon as rows allow.
 * Holds as many byte rows as one output row is made of. out: grey levels, not normalised. */
typedef struct pg_resize {
    pg_filter filter;
    bool plain; /* without vectors even where the CPU has them, so that one machine tests both */
    pg_taps across, down;
    size_t width, height, ow, oh;
    size_t in, done;            /* input rows taken, output rows finished */
    size_t ring_rows, ring_row; /* slots, bytes of a slot */
    pg_buf ring_store, row;
    unsigned char *ring;
    float *sum; /* one row */
    size_t sum_cap;
    const unsigned char **tap_rows;
    size_t tap_cap;
    float *out;
} pg_resize;
int pg_resize_begin(pg_resize *r, pg_filter filter, size_t width, size_t height, size_t ow, size_t oh, float *out,
                    pg_err *e) PG_MUST_CHECK;
unsigned char *pg_resize_where(pg_resize *r);
void pg_resize_put(pg_resize *r);
void pg_resize_free(pg_resize *r);

/* One output row of the bicubic mode; see bicubic.c. */
void pg_bicubic_across(const pg_taps *t, const unsigned char *row, unsigned char *out);
void pg_bicubic_down(const unsigned char *const *rows, const int32_t *weights, size_t taps, size_t n, float *out);

#endif
