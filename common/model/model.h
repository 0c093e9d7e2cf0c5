/* PaliGemma 1 and 2: SigLIP tower, linear head, Gemma decoder. Weights stay where they lie in the checkpoint; norm scales and
 * biases are widened to f32 on opening; tensors made trainable become f32 copies with a gradient beside them.
 *
 * Everything runs on *rows*: the tokens of several sequences one after another, without padding, so that each product takes all
 * rows at once. Row r of a sequence sees keys 0..lim[r]-1 of its own sequence: the prefix-LM mask, exactly. */
#ifndef PG_MODEL_MODEL_H
#define PG_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "weights/weights.h"

/* One trainable tensor (all layers of it): master copy and gradient in the canonical layout, layers in front. g may be one layer's
 * (pg_grads_share); pg_grad_of finds a layer's. */
typedef struct pg_param {
    const char *name; /* canonical */
    size_t layers, per_layer, count; /* layers: at least 1; count = layers * per_layer */
    float *w, *g;     /* dense f32, C order of the canonical shape; g: malloc'ed */
} pg_param;

/* y[R,out] = x[R,in] · W + bias, W in `blocks` column blocks of equal width (one per head where the file has it so). */
typedef struct pg_linear {
    pg_mat w;             /* block 0: [in, out/blocks] */
    size_t blocks, block_bytes; /* bytes from block to block */
    size_t in, out;
    const float *bias;    /* f32, NULL: none */
    pg_quant *quant;      /* NULL: products with w itself */
    pg_packed *packed, *packed_back; /* w, and its transpose, packed; NULL: they are not */
    float *gw, *gbias;    /* gradient of w (canonical layout: block b at gw + b*in*(out/blocks), [in, out/blocks]) and of bias; NULL: frozen */
    struct pg_lora *lora; /* NULL: none; lora.h */
} pg_linear;
void pg_linear_forward(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R);
/* dx (NULL: not wanted) overwritten, or added to where add_dx; gradients added where not frozen. */
void pg_linear_back(pg_kern *k, const pg_linear *l, float *dx, bool add_dx, const float *dy, const float *x, size_t R);

typedef struct pg_norm { /* rms: bias NULL */
    const float *scale, *bias;
    float *gscale, *gbias; /* NULL: frozen */
} pg_norm;

typedef struct pg_vit_layer {
    pg_norm norm0, norm1;
    pg_linear q, k, v, o, fc1, fc2;
} pg_vit_layer;
typedef struct pg_dec_layer {
    pg_norm pre_attn, post_attn, pre_ffw, post_ffw; /* post_*: scale NULL in family 1 */
    pg_linear q, k, v, o, gate, up, down;
} pg_dec_layer;

typedef struct pg_model {
    pg_kern *kern;       /* borrowed */
    pg_weights *weights; /* owned */
    pg_model_shape s;
    float q_scale;       /* head_dim^-0.5; (width/heads)^-0.5 for the 27B model */
    float attn_softcap;  /* 50 in family 2, else 0 */
    pg_linear patch;     /* [patch*patch*3 -> vit_width]; patch rows are (y,x,c), or (c,y,x) where patch_chw */
    bool patch_chw;
    const float *pos;    /* [n_image, vit_width] f32 */
    float *gpos;
    pg_vit_layer *vit;
    pg_norm vit_norm;
    pg_linear head;
    pg_mat embed;        /* [width, vocab] as a product's right side: trans, ld = width */
    pg_quant *qembed;    /* NULL: products with embed itself */
    pg_packed *packed_embed, *packed_embed_back; /* as those of a pg_linear */
    float *gembed;       /* [vocab, width] */
    pg_dec_layer *dec;
    pg_norm final_norm;
    size_t recompute;    /* decoder layers, from the first on, whose activations training computes again instead of keeping them */
    pg_param *params;    /* the trainable ones */
    size_t n_params;
    bool grads_shared;   /* the layers of a tensor have one memory for their gradients: pg_grads_share */
    float *rope_cos, *rope_sin; /* [rope_positions, head_dim/2], grown on demand by pg_model_positions */
    size_t rope_positions;
    void *owned;         /* widened vectors */
    struct pg_lora_set *lora; /* adapters of linear layers; NULL: none */
    char tower[9];       /* pg_model_tower's answer; "" before it was asked */
    void (*ready)(void *ctx, size_t stage); /* NULL, or told by pg_loss that gradients are complete, stage by stage: loss.h */
    void *ready_ctx;
} pg_model;

/* trainable: "attention" (llm/layers/attn/), "llm", "all", NULL or "" (none), else a POSIX extended regex on canonical names; a
 * regex that matches nothing is an error listing names. */
int pg_model_open(pg_model **m, const char *path, const char *trainable, pg_kern *k, pg_err *e) PG_MUST_CHECK;
void pg_model_close(pg_model *m);
/* From now on products of whole layers are of 8-bit integers, made here from the weights; for inference alone. Costs about a byte for
 * each weight, reported in *bytes (may be NULL): 0 where the CPU has no instructions for it and nothing changes. */
int pg_model_quantise(pg_model *m, size_t *bytes, pg_err *e) PG_MUST_CHECK;
enum { PG_SMALL_MODEL = 32000000 }; /* parameters of a model whose weights stay in the caches of a few cores */
/* Weights of a small model that are not trained are packed once instead of with each product; of a large one nothing is done, where the
 * copy would cost more than it gains. back: for backward too. Afterwards the weights must not change, nor the type of products. */
int pg_model_pack(pg_model *m, bool back, pg_err *e) PG_MUST_CHECK;
int pg_model_positions(pg_model *m, size_t positions, pg_err *e) PG_MUST_CHECK;

/* ---- image tower ---- */
/* What one layer keeps for backward; forward without gradients uses one set for all layers. Rows R = pictures * n_image. */
typedef struct pg_vit_act {
    float *x;                       /* [R,E] the layer's input */
    float *mean0, *rstd0, *y0;      /* y0 [R,E] normed */
    float *q, *k, *v, *a, *lse;     /* [R,E] each; lse [pictures][heads][n_image] */
    float *x_mid, *mean1, *rstd1, *y1;
    float *h;                       /* [R,mlp] before gelu */
} pg_vit_act;

/* pixels: n pointers to f32 [image_size,image_size,3]; out [n*n_image, width]. */
int pg_vit_forward(pg_model *m, const float *const *pixels, size_t n, float *out, pg_err *e) PG_MUST_CHECK;

/* What tells features of this tower from another's: 8 hexadecimal digits. PG_EINVAL where the tower is trained or an adapter changes
 * it: then no features that were stored are those that it would give. */
int pg_model_tower(pg_model *m, const char **name, pg_err *e) PG_MUST_CHECK;

/* ---- decoder ---- */
typedef struct pg_rows { /* sequences packed one after another */
    size_t n_seqs, R;
    const size_t *start;  /* [n_seqs+1] first row of each */
    const uint32_t *pos;  /* [R] RoPE position: index in its sequence */
    const uint32_t *lim;  /* [R] how many keys of its sequence the row sees */
} pg_rows;

typedef struct pg_dec_act {
    float *x;                 /* [R,D] the layer's input */
    float *rstd0, *y0;        /* pre-attention norm */
    float *q, *k, *v;         /* [R,heads*H], [R,kv*H] after RoPE; q scaled */
    float *a, *lse;           /* [R,heads*H]; per sequence [heads][rows], one after another: at heads*start[s] */
    float *o, *rstd_o;        /* [R,D] projection before post_attn norm (family 2) */
    float *x_mid, *rstd1, *y1;
    float *gate, *up;         /* [R,F] */
    float *f, *rstd_f;        /* [R,D] before post_ffw norm (family 2) */
} pg_dec_act;

typedef struct pg_cache pg_cache; /* keys and values, for decoding: cache.h */
/* Where a text's keys are: positions 0..shared-1 in slot `base`, later ones in `slot`, from its position 0 on. */
typedef struct pg_place {
    size_t slot, base, shared; /* shared 0: all are in `slot` */
} pg_place;

/* Reusable memory for forward passes; grown as needed, freed at the end. */
typedef struct pg_work pg_work;
int pg_work_new(pg_work **w, pg_err *e) PG_MUST_CHECK;
void pg_work_free(pg_work *w);

/* x [R,D]: embeddings in, output of the final norm out. Rows of sequence s are put into the cache at at[s] and see its positions
 * 0..lim-1. cache NULL: keys are the sequence's own rows. */
int pg_decoder_forward(pg_model *m, pg_work *w, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at, pg_err *e) PG_MUST_CHECK;

/* The same for whole prefixes, from position 0 on, where only what each one's last row says is wanted: out [n_seqs,D]; x is overwritten. */
int pg_decoder_read(pg_model *m, pg_work *w, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at, float *out,
                    pg_err *e) PG_MUST_CHECK;

/* x[r] = embedding of token * sqrt(width), for n tokens; a token outside the vocabulary is PG_EFORMAT. */
int pg_embed(pg_model *m, float *x, const int32_t *tokens, size_t n, pg_err *e) PG_MUST_CHECK;
/* logits [R,vocab] of rows h [R,D]; not soft-capped. vocab leaves out the rows that converted checkpoints have beyond the tokens. */
void pg_logits(pg_model *m, float *logits, const float *h, size_t R);

/* From a text's masks to lim and the loss weights (text tokens only; the image's n_image tokens come first and see each other and
 * the prefix): i sees j where cumsum(mask_ar)[j] <= cumsum(mask_ar)[i]; padding (mask_input 0) must be at the end and is cut off.
 * Error where mask_ar is not 0/1 or padding is in the middle. lim [*n] counts image tokens too. lim_image: what image rows see. */
int pg_mask_limits(const int32_t *mask_ar, const int32_t *mask_input, size_t n_text, size_t n_image, uint32_t *lim,
                   uint32_t *lim_image, size_t *n, pg_err *e) PG_MUST_CHECK;

/* ---- scoring; decoding is in decode.h ---- */
/* Teacher-forced scoring of one text; see loss.h for training. */
typedef struct pg_scoring {
    const float *pixels, *features; /* features [n_image,width]: taken where not NULL */
    const int32_t *tokens, *mask_ar, *mask_loss; /* [n], without padding */
    size_t n;
    float *logp; /* out [n]: natural log of p(token | what is before) where mask_loss is 1, else 0; 0 for the first */
} pg_scoring;
int pg_score(pg_model *m, pg_work *w, const pg_scoring *s, pg_err *e) PG_MUST_CHECK;

#endif
