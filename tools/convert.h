/* Parts of pg-convert. */
#ifndef PG_TOOL_CONVERT_H
#define PG_TOOL_CONVERT_H

#include "base/file.h"
#include "tool.h"
#include "weights/weights.h"

/* Where a checkpoint goes: a file, or a folder that is filled under another name and renamed when it is complete. */
typedef struct place {
    char *final;         /* the folder, or NULL where dst names a file */
    pg_temp_folder work;
    char *weights;       /* the weights' path while they are written */
} place;
void place_open(const pg_tool *t, place *p, const char *dst, bool npz, const pg_weights *source);
void place_commit(const pg_tool *t, place *p);
void place_abort(place *p);

/* The tokenizer, and for safetensors what transformers wants to know of it, beside the weights at `weights`; files that are there stay. */
int copy_tokenizer(pg_tool *t, const pg_weights *source, const char *weights, pg_err *e) PG_MUST_CHECK;

#endif
