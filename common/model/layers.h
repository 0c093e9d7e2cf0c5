/* Inside the model room: one layer at a time, the arena, the pieces that training shares with inference.
 * The layer functions fill the act they are given: training keeps one per layer, inference reuses one for all. */
#ifndef PG_MODEL_LAYERS_H
#define PG_MODEL_LAYERS_H

#include "model/model.h"

/* ---- arena: floats that live until released; chunks are kept, so a second pass of the same size allocates nothing ---- */
typedef struct pg_mark {
    size_t chunk, used;
} pg_mark;
/* n floats, 64-byte aligned, not cleared; NULL with *e set on no memory. n = 0 gives a valid pointer. */
float *pg_work_floats(pg_work *w, size_t n, pg_err *e) PG_MUST_CHECK;
/* a*b floats, overflow checked. */
float *pg_work_rows(pg_work *w, size_t a, size_t b, pg_err *e) PG_MUST_CHECK;
void *pg_work_bytes(pg_work *w, size_t n, size_t size, pg_err *e) PG_MUST_CHECK;
pg_mark pg_work_mark(const pg_work *w);
void pg_work_release(pg_work *w, pg_mark mark);

/* y [R,out] += x · W + bias. */
void pg_linear_add(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R);

/* ---- image tower ---- */
/* Copies pixels [image_size,image_size,3] of n pictures into patch rows [n*n_image, patch*patch*3], in the order that
 * m->patch wants (patch_chw). */
void pg_patches(const pg_model *m, float *rows, const float *const *pixels, size_t n);
/* x [R,E] = patches · m->patch + pos, R = pictures * n_image. */
void pg_vit_embed(pg_model *m, float *x, const float *patches, size_t pictures);
/* Layer l, x [R,E] in place. act: q, k, v, a, y0, y1, h must be there; x, x_mid, mean*, rstd*, lse may be NULL (not kept).
 * Where they are not kept, y1 may be y0 and h may be tmp. tmp [R * mlp] and seqs [pictures]: scratch. */
void pg_vit_layer_forward(pg_model *m, size_t l, float *x, size_t pictures, const pg_vit_act *act, float *tmp, pg_attn *seqs);
/* out [R,width] = head(norm(x)); y [R,E] keeps the normed rows (wanted by backward); mean, rstd [R] may be NULL. */
void pg_vit_head(pg_model *m, float *out, float *y, float *mean, float *rstd, const float *x, size_t pictures);

/* ---- decoder ---- */
typedef struct pg_dec_scratch {
    float *tmp;      /* [R * D] */
    float *act;      /* [mlp_rows * F], gelu(gate)*up; may be act->gate where that is not to be kept */
    size_t mlp_rows; /* R: gate and up hold all rows (training); less: they hold this many rows and are used again and again */
    pg_attn *seqs;   /* [n_seqs] */
} pg_dec_scratch;
/* Layer l, x [R,D] in place. act: y0, q, k, v, a, y1, gate, up, o, f must be there (where not kept y1 may be y0,
 * o may be y0, f may be y1; in family 1 o and f may be NULL); x, x_mid, rstd*, lse may be NULL (not kept). q is kept after RoPE and times q_scale, so
 * attention's scale is 1. cache NULL: keys are the sequence's own rows; else as pg_decoder_forward. */
void pg_dec_layer_forward(pg_model *m, size_t l, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at,
                          const pg_dec_act *act, const pg_dec_scratch *s);
/* Its two halves after attention: x [R,D] += o(a), and += mlp(norm(x)). */
void pg_dec_attention_out(pg_model *m, size_t l, float *x, size_t R, const pg_dec_act *act, const pg_dec_scratch *s);
void pg_dec_mlp(pg_model *m, size_t l, float *x, size_t R, const pg_dec_act *act, const pg_dec_scratch *s);

/* Some rows, in order, of packed sequences: picked row i is row[i]; rows: they as sequences (start counts picked rows; a sequence may
 * have none), with their pos and lim. */
typedef struct pg_pick {
    const size_t *row;
    pg_rows rows;
} pg_pick;
/* The last layer: out [M,D] for the picked rows of x [R,D]. In act q, a, lse, o, rstd_o and all from x_mid on hold M rows. No cache. */
void pg_dec_last_forward(pg_model *m, float *out, const float *x, const pg_rows *rows, const pg_pick *p, const pg_dec_act *act,
                         const pg_dec_scratch *s);
/* Dimensions of attention over rows without a cache. */
pg_attn_dims pg_vit_attn_dims(const pg_model *m);
pg_attn_dims pg_dec_attn_dims(const pg_model *m);
/* Fills seqs[n_seqs] for rows without a cache: q, k, v, a, lse as in act (lse may be NULL); nothing for backward. */
void pg_dec_seqs(const pg_model *m, const pg_rows *rows, const pg_dec_act *act, pg_attn *seqs);
void pg_vit_seqs(const pg_model *m, size_t pictures, const pg_vit_act *act, pg_attn *seqs);

#endif
