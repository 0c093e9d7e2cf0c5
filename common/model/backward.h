/* Backward passes, one layer at a time; the counterparts of layers.h. dx [R,*] holds the gradient of a layer's output on entry and
 * of its input on return. Gradients of trainable weights are added. */
#ifndef PG_MODEL_BACKWARD_H
#define PG_MODEL_BACKWARD_H

#include "model/layers.h"

typedef struct pg_back_scratch {
    float *wide0, *wide1, *wide2; /* [R, mlp] each */
    float *d0, *d1;               /* [R, width] each */
    float *dq, *da;               /* [R, heads*head_dim] each */
    float *dk, *dv;               /* [R, kv_heads*head_dim] each */
    pg_attn *seqs;                /* one for each sequence or picture */
} pg_back_scratch;

/* below: the gradient of the layer's input is wanted. */
void pg_dec_layer_back(pg_model *m, size_t l, float *dx, bool below, const pg_rows *rows, const pg_dec_act *act,
                       const pg_back_scratch *s);
void pg_vit_layer_back(pg_model *m, size_t l, float *dx, size_t pictures, const pg_vit_act *act, const pg_back_scratch *s);

#endif
