/* Boxes in captions, as the mix checkpoints answer "detect cat ; dog" and "segment cat":
 *     <loc0256><loc0128><loc0735><loc0941> cat ; <loc...>... dog        with 16 <segNNN> after the four places where asked to segment
 * The places are y0, x0, y1, x1 in 1024ths of height and width, from the upper left corner. */
#ifndef PG_TEXT_LOCATIONS_H
#define PG_TEXT_LOCATIONS_H

#include <stdbool.h>
#include <stddef.h>

enum { PG_PLACES = 1024, PG_SEGMENTS = 128, PG_MASK_CODES = 16 };

typedef struct pg_box {
    double y0, x0, y1, x1;     /* fractions, 0 to 1023/1024; as the model says them: y1 may be above y0 */
    const char *label;         /* in the caption, without white space around; may be empty */
    size_t n_label;
    int codes[PG_MASK_CODES];  /* of the segmentation, 0 to 127; a decoder that is not part of this project makes a mask of them */
    size_t n_codes;            /* 0 or 16 */
} pg_box;

/* The next box of a caption from *at on, which is moved behind it; false where there is none. Places that are not four make no box. */
bool pg_next_box(const char *caption, size_t n, size_t *at, pg_box *b);

#endif
