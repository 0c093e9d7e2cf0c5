/* Low-rank adapters as PEFT lays them out: a folder of adapter_config.json and adapter_model.safetensors. A module is a linear layer
 * under the name of Hugging Face, without the leading "model." and with "language_model." for "language_model.model.":
 *     y = W x + scale * B (A x),   A [rank,in], B [out,rank],   scale = alpha / rank, or alpha / sqrt(rank) (rslora)
 * Keys in the file: base_model.model.[model.]MODULE.lora_A.weight and .lora_B.weight. */
#ifndef PG_WEIGHTS_ADAPTER_H
#define PG_WEIGHTS_ADAPTER_H

#include "weights/weights.h"

typedef struct pg_lora_module {
    char *name;              /* "language_model.layers.0.self_attn.q_proj" */
    const char *canonical;   /* big_vision's tensor, its layer and part (PG_WHOLE: all of it) */
    size_t layer, part;
    size_t rank, in, out;
    double scale;
    const pg_weight *a, *b;
} pg_lora_module;

typedef struct pg_adapter pg_adapter;
/* path: the folder, or its adapter_model.safetensors. What would change the sum above (DoRA, biases, embeddings, saved modules) is
 * PG_EFORMAT. */
int pg_adapter_open(pg_adapter **a, const char *path, pg_err *e) PG_MUST_CHECK;
void pg_adapter_close(pg_adapter *a);
size_t pg_adapter_count(const pg_adapter *a);
const pg_lora_module *pg_adapter_at(const pg_adapter *a, size_t i); /* NULL beyond the last */
const char *pg_adapter_path(const pg_adapter *a);
/* What the adapter says of its base: adapter_config.json's base_model_name_or_path, or NULL; and whether its fingerprint, which
 * pg_adapter_save writes, is another than `base` has. false where it has none. */
const char *pg_adapter_base(const pg_adapter *a);
int pg_adapter_is_foreign(const pg_adapter *a, const pg_weights *base, bool *foreign, pg_err *e) PG_MUST_CHECK;

/* For pg_save_how: the adapter's products are added to base's weights as these pass. Holds the factors of one module at a time.
 * PG_EFORMAT where a shape does not fit. */
int pg_merge_new(pg_merge **m, const pg_weights *base, const pg_adapter *a, pg_err *e) PG_MUST_CHECK;
void pg_merge_free(pg_merge *m);

/* Factors to write, dense f32. */
typedef struct pg_lora_factors {
    const char *name;
    size_t rank, in, out;
    const float *a, *b;
} pg_lora_factors;
/* Makes the folder if it is missing. base: of the weights that were adapted; name: where they were read from. */
int pg_adapter_save(const char *dir, const pg_lora_factors *f, size_t n, double alpha, const pg_weights *base, pg_err *e) PG_MUST_CHECK;

#endif
