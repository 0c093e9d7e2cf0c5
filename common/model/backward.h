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
/* Of pg_dec_last_forward: dout [M,D] is the gradient of out (changed here), dx [R,D] is overwritten where below is wanted. */
void pg_dec_last_back(pg_model *m, float *dx, float *dout, bool below, const pg_rows *rows, const pg_pick *p, const pg_dec_act *act,
                      const pg_back_scratch *s);
/* Pieces: x += mlp(norm(x)); x += o(a), leaving the gradient of a in s->da; gradients of sequence i at these offsets. */
void pg_dec_mlp_back(pg_model *m, const pg_dec_layer *w, float *dx, size_t R, const pg_dec_act *act, const pg_back_scratch *s);
void pg_dec_attention_out_back(pg_model *m, const pg_dec_layer *w, const float *dx, size_t R, const pg_dec_act *act,
                               const pg_back_scratch *s);
void pg_attach_grads(pg_attn *seqs, size_t i, size_t q_at, size_t kv_at, const pg_back_scratch *s);
void pg_vit_layer_back(pg_model *m, size_t l, float *dx, size_t pictures, const pg_vit_act *act, const pg_back_scratch *s);

#endif
