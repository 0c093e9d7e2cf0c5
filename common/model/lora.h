/* Low-rank adapters at run time: a linear layer with one gives y = x W + bias + scale * (x Aᵀ) Bᵀ, A [rank,in], B [out,rank].
 * The weights themselves stay mapped and untouched. Names of modules and files: weights/adapter.h. */
#ifndef PG_MODEL_LORA_H
#define PG_MODEL_LORA_H

#include "model/model.h"

struct pg_lora {
    size_t rank;
    float scale;
    const float *a, *b;
    float *ga, *gb;         /* NULL: frozen */
    float *down, *back;     /* scratch of the whole model: [PG_LORA_ROWS, rank] each */
};
enum { PG_LORA_ROWS = 256 };

void pg_lora_forward(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R);                        /* y is added to */
void pg_lora_back(pg_kern *k, const pg_linear *l, float *dx, const float *dy, const float *x, size_t R); /* dx (may be NULL) is added to */

/* How many modules of each part have an adapter. */
typedef struct pg_lora_counts {
    size_t language, tower, head, rank; /* rank: the largest */
} pg_lora_counts;

/* New factors, to be trained: they become the model's params. targets: POSIX extended regex on module names. A is uniform within
 * 1/sqrt(in), B is 0, as PEFT starts them. A regex that matches nothing is PG_EINVAL. The model must train nothing else. */
int pg_lora_create(pg_model *m, const char *targets, size_t rank, double alpha, uint64_t seed, pg_lora_counts *n, pg_err *e) PG_MUST_CHECK;
/* Frozen factors from a folder or file. *foreign: it was made on another base. */
int pg_lora_load(pg_model *m, const char *path, pg_lora_counts *n, bool *foreign, pg_err *e) PG_MUST_CHECK;
/* Of pg_lora_create, as they are now: adapter_config.json and adapter_model.safetensors in dir. */
int pg_lora_save(const pg_model *m, const char *dir, double alpha, pg_err *e) PG_MUST_CHECK;
void pg_lora_free(pg_model *m); /* pg_model_close calls it */

#endif
