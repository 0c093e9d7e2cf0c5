/* From a stream's record to what the model takes, checked against the model's sizes. */
#ifndef PG_MODEL_SAMPLE_H
#define PG_MODEL_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "stream/stream.h"
#include "weights/weights.h"

typedef struct pg_sample {
    float *pixels; /* [image_size,image_size,3]; kept from one read to the next */
    size_t pixels_room;
    int32_t *tokens, *mask_ar, *mask_loss, *mask_input; /* [n]; new with each read */
    size_t n;        /* tokens with mask_input 1 (padding at the end is cut off) */
    size_t n_prefix; /* leading tokens with mask_ar 0 */
    size_t n_loss;   /* tokens, the first aside, with mask_loss 1 */
} pg_sample;

/* Start with {0}. Reads pixels, tokens, mask_ar, mask_input (absent: no padding), mask_loss (absent: none). PG_EFORMAT says what
 * is missing or wrong and which tool helps: pixels of another size or not finite, lists of unequal length, masks that are not 0
 * or 1, padding before the end, tokens outside the vocabulary, no prefix. */
int pg_sample_read(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e) PG_MUST_CHECK;
void pg_sample_free(pg_sample *s);

#endif
