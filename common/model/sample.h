/* From a stream's record to what the model takes, checked against the model's sizes. */
#ifndef PG_MODEL_SAMPLE_H
#define PG_MODEL_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "model/model.h"
#include "stream/stream.h"

typedef struct pg_sample {
    pg_model *features_of; /* set by the caller: records may have this model's features instead of pixels; NULL: they may not */
    bool has_features;     /* features hold the picture, else pixels do */
    float *pixels, *features; /* [image_size,image_size,3]; [n_image,width]; kept from one read to the next */
    size_t pixels_room, features_room;
    int32_t *tokens, *mask_ar, *mask_loss, *mask_input; /* [n]; new with each read */
    bool beyond;     /* pixels are not in [-1,1] */
    size_t n;        /* tokens with mask_input 1 (padding at the end is cut off) */
    size_t n_prefix; /* leading tokens with mask_ar 0 */
    size_t n_loss;   /* tokens, the first aside, with mask_loss 1 */
} pg_sample;

/* Start with {0}. Reads pixels or features, tokens, mask_ar, mask_input (absent: no padding), mask_loss (absent: none). PG_EFORMAT says what
 * is missing or wrong and which tool helps: pixels of another size or not finite, lists of unequal length, masks that are not 0
 * or 1, padding before the end, tokens outside the vocabulary, no prefix. */
int pg_sample_read(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e) PG_MUST_CHECK;
int pg_sample_pixels(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e) PG_MUST_CHECK; /* them alone */
uint64_t pg_sample_picture(const pg_sample *s, const pg_model_shape *shape); /* a hash of the pixels or features that were read */
/* Puts m's features [n_image,width] of a picture in the place of its pixels; half: as float16, where a value beyond its range is PG_EFORMAT. */
int pg_sample_set_features(pg_rec *rec, pg_model *m, const float *features, bool half, pg_err *e) PG_MUST_CHECK;
void pg_sample_free(pg_sample *s);

#endif
