/* Checkpoints, mapped: a tensor by its big_vision name, whatever the file. Reads npz (stored or deflated; f32, f16, bf16 as V2; keys
 * bare, under params/ or opt/target/) and safetensors (single or sharded, both name styles); writes both. specs: big_vision
 * utils.py load_params, numpy's npy format, safetensors README. */
#ifndef PG_WEIGHTS_WEIGHTS_H
#define PG_WEIGHTS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

/* PG_I8: value = int8 * scale, a scale for each 256 values of a row of a matrix as safetensors stores it (out,in); the last group of
 * a row may be shorter. Only safetensors files hold it: NAME.weight I8 [out,in] beside NAME.weight_scale F32 [out,groups]. */
typedef enum { PG_F32, PG_F16, PG_BF16, PG_I8 } pg_dtype;
enum { PG_DTYPES = 4, PG_INT8_GROUP = 256 };
size_t pg_dtype_size(pg_dtype t);
size_t pg_int8_groups(size_t cols); /* of a row: rounded up */
const char *pg_dtype_name(pg_dtype t); /* "f32", "f16", "bf16", "int8" */

enum { PG_MAX_DIMS = 6 };

/* A tensor as it lies in the file: any alignment, little endian, C order. */
typedef struct pg_weight {
    const char *name;   /* as stored */
    pg_dtype dtype;
    size_t ndim, shape[PG_MAX_DIMS], count; /* count: elements */
    const unsigned char *data;              /* into the mapping */
    const unsigned char *scale;             /* PG_I8: f32 [shape[0]][groups of shape[1]], any alignment; else NULL */
} pg_weight;

typedef enum { PG_NPZ, PG_SAFETENSORS } pg_file_format;

typedef struct pg_weights pg_weights;
/* path: a file, or a folder holding *.npz or *.safetensors (an index is followed). Several candidates: an error that lists them. */
int pg_weights_open(pg_weights **w, const char *path, pg_err *e) PG_MUST_CHECK;
void pg_weights_close(pg_weights *w);
pg_file_format pg_weights_format(const pg_weights *w);
const char *pg_weights_path(const pg_weights *w); /* the file (or index) read */
size_t pg_weights_count(const pg_weights *w);
const pg_weight *pg_weights_at(const pg_weights *w, size_t i); /* in file order, stored names */
/* How many tensors are none of the model's; *first: the name of one. An npz does not take them, nor does safetensors made of an npz. */
size_t pg_weights_others(const pg_weights *w, const char **first);
size_t pg_weights_bytes(const pg_weights *w);                  /* of all tensors */

/* One layer's (or unlayered) tensor under its canonical, big_vision name without prefix, such as "llm/layers/attn/q_einsum/w".
 * The canonical shape is what big_vision has for one layer (the leading layer axis dropped): q (N,D,H), kv (2,K,D,H) etc.
 * A view is a strided walk over what is stored: element [i0,i1,..] of the canonical tensor is at
 * data + (i0*stride[0] + i1*stride[1] + ...) * pg_dtype_size(dtype). So a safetensors (out,in) matrix simply has other strides.
 * A tensor that the file keeps in several pieces (kv_einsum and gating_einsum in safetensors: k_proj and v_proj) is asked for by
 * piece: `part` selects index `part` of the first canonical axis and drops that axis; part = PG_WHOLE for all others
 * (PG_WHOLE on a tensor that is in pieces is PG_EINVAL). qkv_einsum files answer as q_einsum and kv_einsum. */
typedef struct pg_view {
    const unsigned char *data;
    pg_dtype dtype;
    size_t ndim, shape[PG_MAX_DIMS], stride[PG_MAX_DIMS], count;
    const pg_weight *from;
} pg_view;
#define PG_WHOLE ((size_t)-1)

typedef struct pg_model_shape { /* inferred from shapes, checked against each other */
    int family; /* 1 or 2: post_attention_norm present */
    size_t image_size, patch, n_image; /* pixels a side, patch side, image tokens */
    size_t vit_width, vit_depth, vit_mlp, vit_heads, vit_head_dim;
    size_t width, depth, mlp, heads, kv_heads, head_dim, vocab; /* vocab: rows that are tokens (HF: below image_token_index) */
    size_t vocab_rows; /* rows stored */
    size_t parameters;
} pg_model_shape;
/* Error: missing tensor (named), wrong shape (found and expected), not a PaliGemma. Safetensors: config.json beside it is used
 * where it is there (heads, image_token_index), shapes otherwise; PG_EFORMAT where it says another arithmetic than is computed. */
int pg_weights_shape(const pg_weights *w, pg_model_shape *s, pg_err *e) PG_MUST_CHECK;
/* Queries are divided by the root of this: the size of a head, but for the 27B language model, which alone takes its width over its heads;
 * nothing in the tensors says so. */
size_t pg_query_scalar(const pg_model_shape *s);

/* layer: 0.. for tensors stacked by layer, 0 for the others. */
int pg_weights_view(const pg_weights *w, const char *canonical, size_t layer, size_t part, pg_view *v, pg_err *e) PG_MUST_CHECK;
/* All canonical names of a model, in big_vision's order, with layer count (0: not stacked), the canonical per-layer shape and the
 * number of parts that a view must be asked by (0: PG_WHOLE). */
typedef struct pg_canonical {
    const char *name;
    size_t layers, parts, ndim, shape[PG_MAX_DIMS];
} pg_canonical;
size_t pg_canonical_count(const pg_weights *w);
const pg_canonical *pg_canonical_at(const pg_weights *w, size_t i);
/* Gathers a view into dense f32, C order of the canonical shape; exact (of int8: the product with its scale). */
void pg_view_widen(const pg_view *v, float *out);

/* Another picture size: the position embeddings become those of image_size/patch squared tokens, as big_vision's resample_posemb
 * makes them (scipy.ndimage.zoom, order 1: bilinear, corners on corners), rounded to their own type. Views made before are void. */
int pg_weights_resize(pg_weights *w, size_t image_size, pg_err *e) PG_MUST_CHECK;

/* A name of a layer from one with %zu in its number's place (without: as it is); free() it, NULL on no memory. */
char *pg_layer_name(const char *format, size_t layer) PG_MUST_CHECK;

/* ---- identity ---- */
/* CRC-32 of a canonical tensor's values, all layers, in the order and type that an npz would hold them: the same for every
 * layout of the same values. *t: that type (f32 where layers differ, and for int8). */
int pg_weights_checksum(const pg_weights *w, size_t canonical, uint32_t *crc, pg_dtype *t, pg_err *e) PG_MUST_CHECK;
/* A few values of every tensor, rounded to bf16 so that f32 and bf16 of one model agree: tells one model from another at the cost
 * of a few pages. */
int pg_weights_fingerprint(const pg_weights *w, uint32_t *crc, pg_err *e) PG_MUST_CHECK;
/* The same of the image tower and its head alone, their values as they are: features that another one made are not to be taken for its own. */
int pg_weights_tower(const pg_weights *w, uint32_t *crc, pg_err *e) PG_MUST_CHECK;
/* Reads everything: checksums of zip members, values that are not finite. Calls say for each fault; *faults counts them. */
int pg_weights_verify(const pg_weights *w, void (*say)(void *ctx, const char *text), void *ctx, size_t *faults, pg_err *e) PG_MUST_CHECK;

/* Whether an output matrix that a safetensors file stores beside the embedding is the same, bit for bit; PG_EFORMAT names one that is not.
 * Opening compares types and shapes alone: call this before computing with weights that were only opened. Saving, checksums of the embedding
 * and pg_weights_verify compare on their way. */
int pg_weights_tied(const pg_weights *w, pg_err *e) PG_MUST_CHECK;

/* ---- writing ---- */
/* Whether writing path would change what w was read from: the same file, or, both being safetensors, the same folder, in which shards,
 * index and configuration have fixed names. */
bool pg_weights_touches(const pg_weights *w, const char *path);
/* A new checkpoint like w with some canonical tensors replaced: `replace(ctx, name, layer, part)` returns NULL (keep what w
 * holds, in its own dtype, bytes copied) or dense f32 values in canonical order for that layer (and part, where the source is in
 * parts; PG_WHOLE else); those are written as f32. Format from path's ending: .npz (names with params/, as Kaggle files; stored,
 * zip64 where needed, readable by numpy.load) or .safetensors (index and shards at 5 GB; config.json and the like copied or made).
 * Appears whole or not at all, in the place of an older one of that name; memory stays flat. A config.json there that says something else and
 * that another checkpoint, or none, has put there is not written over: PG_EINVAL. */
typedef const float *(*pg_replace_fn)(void *ctx, const char *canonical, size_t layer, size_t part);
int pg_weights_save(const pg_weights *w, const char *path, pg_replace_fn replace, void *ctx, pg_err *e) PG_MUST_CHECK;

typedef struct pg_merge pg_merge; /* adapter.h */
/* The same with a choice of types. Narrowing rounds to nearest even; a finite value beyond the new type's range is PG_EFORMAT.
 * PG_I8 turns the matrices of linear layers and the embedding to int8 (safetensors alone); all others keep their type. */
typedef struct pg_save_how {
    pg_replace_fn replace;
    void *ctx;
    pg_merge *merge; /* an adapter whose products are added, or NULL */
    bool own;       /* replaced and merged values in the type that the source has; false: as f32 */
    bool convert;   /* all tensors as dtype */
    pg_dtype dtype;
    bool probe;     /* write nothing: only whether the files beside a safetensors checkpoint could be written */
    size_t shard;   /* most bytes of a safetensors file that holds more than one tensor; 0: 5 GB */
} pg_save_how;
int pg_weights_save_as(const pg_weights *w, const char *path, const pg_save_how *how, pg_err *e) PG_MUST_CHECK;

/* Writing an npz from nothing, tensor by tensor, streaming; for generators, state files and tests. */
typedef struct pg_npz_writer pg_npz_writer;
int pg_npz_create(pg_npz_writer **z, const char *path, pg_err *e) PG_MUST_CHECK;
/* descr: "<f4", "<f2", "|V2", "<i4", "<i8", "|u1"; then exactly count*itemsize bytes through pg_npz_data in any pieces. */
int pg_npz_begin(pg_npz_writer *z, const char *key, const char *descr, size_t ndim, const size_t *shape, pg_err *e) PG_MUST_CHECK;
int pg_npz_data(pg_npz_writer *z, const void *p, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_npz_commit(pg_npz_writer *z, pg_err *e) PG_MUST_CHECK; /* central directory, fsync, rename */
void pg_npz_abort(pg_npz_writer *z);                          /* frees; removes what was not committed */

/* Any npz by key (golden files, state files): ints too. */
typedef struct pg_npz pg_npz;
typedef struct pg_npy {
    const char *key;
    char descr[8];
    size_t ndim, shape[PG_MAX_DIMS], count, itemsize;
    const unsigned char *data;
} pg_npy;
int pg_npz_open(pg_npz **z, const char *path, pg_err *e) PG_MUST_CHECK;
void pg_npz_close(pg_npz *z);
const pg_npy *pg_npz_find(const pg_npz *z, const char *key); /* NULL: absent */
size_t pg_npz_count(const pg_npz *z);
const pg_npy *pg_npz_at(const pg_npz *z, size_t i);
/* Reads all of it: PG_EFORMAT names the first array that is not what its checksum was made of. */
int pg_npz_verify(const pg_npz *z, pg_err *e) PG_MUST_CHECK;

#endif
