/* COCO's captions file: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}. */
#ifndef PG_TEXT_COCO_H
#define PG_TEXT_COCO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

typedef struct pg_coco_image {
    char *id;        /* as text */
    char *file_name; /* NULL where the file names none */
    char **captions; /* n, 0-terminated, in the file's order */
    size_t n, cap;
    bool whole_number; /* the id is a number in the file */
} pg_coco_image;

typedef struct pg_coco {
    pg_coco_image *images; /* in the file's order; those that only annotations name come last */
    size_t n;
    struct pg_coco_key *keys;
    size_t n_keys;
} pg_coco;

/* The message names the file and what is missing in it. PG_ELIMIT where it holds more than max bytes. */
int pg_coco_open(pg_coco *c, const char *path, size_t max, pg_err *e) PG_MUST_CHECK;
void pg_coco_close(pg_coco *c);
/* The image whose id, file name, or file name without folder or ending is `name`; NULL where there is none. */
const pg_coco_image *pg_coco_find(const pg_coco *c, const char *name);

#endif
