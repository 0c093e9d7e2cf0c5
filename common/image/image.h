/* Encoded pictures to pixels: PNG through libpng, JPEG through libjpeg-turbo, exact resize. Decoder chosen by content. */
#ifndef PG_IMAGE_IMAGE_H
#define PG_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

typedef enum { PG_BILINEAR, PG_BICUBIC } pg_filter;

typedef struct pg_image_opts {
    size_t size;               /* output is size x size */
    pg_filter filter;          /* bilinear: tf.image.resize with antialias; bicubic: PIL's, rounded to bytes */
    bool orient;               /* apply EXIF orientation */
    bool blend;                /* blend alpha over background instead of dropping it */
    unsigned char background[3];
    size_t max_pixels;         /* 0: PG_MAX_PIXELS; checked before anything of the picture's size is allocated */
} pg_image_opts;

#define PG_MAX_PIXELS ((size_t)178956970)

typedef struct pg_image_info {
    const char *format;   /* "png" or "jpeg" */
    size_t width, height; /* as shown: after orientation, where that was asked for */
    int orientation;      /* EXIF, 1 to 8; 1 where there is none */
} pg_image_info;

/* A reusable decoder: keeps its row buffers and weight tables between pictures; one per thread. */
typedef struct pg_image pg_image;
int pg_image_new(pg_image **im, pg_err *e) PG_MUST_CHECK;
void pg_image_free(pg_image *im);

/* out: size*size*3 floats in [-1,1], row-major HWC. The message is the reason alone ("premature end of file").
 * info and warning (both may be NULL): warning receives "" or what a tolerant decoder let pass. */
int pg_image_pixels(pg_image *im, const void *bytes, size_t n, const pg_image_opts *o, float *out, pg_image_info *info,
                    char warning[256], pg_err *e) PG_MUST_CHECK;

/* Size and format from the header alone, as the file holds them: no pixel is decoded. max_pixels as above. */
int pg_image_look(pg_image *im, const void *bytes, size_t n, size_t max_pixels, pg_image_info *info, pg_err *e) PG_MUST_CHECK;

/* A small JPEG (or PNG where alpha matters not) of at most max_side pixels a side, oriented, over white; for reports. */
int pg_image_thumbnail(pg_image *im, const void *bytes, size_t n, size_t max_side, pg_buf *jpeg, pg_err *e) PG_MUST_CHECK;
/* The same from pixels f32 [size,size,3] in [-1,1], where the encoded image is no longer in the stream. */
int pg_image_encode(const float *pixels, size_t size, pg_buf *jpeg, pg_err *e) PG_MUST_CHECK;

#endif
