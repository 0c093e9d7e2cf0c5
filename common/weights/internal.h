/* Inside the room: the two containers below, the name table in the middle, views and saving above. */
#ifndef PG_WEIGHTS_INTERNAL_H
#define PG_WEIGHTS_INTERNAL_H

#include "base/file.h"
#include "weights/weights.h"

static inline uint16_t pg_le16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t pg_le32(const unsigned char *p)
{
    return (uint32_t)pg_le16(p) | (uint32_t)pg_le16(p + 2) << 16;
}
static inline uint64_t pg_le64(const unsigned char *p)
{
    return (uint64_t)pg_le32(p) | (uint64_t)pg_le32(p + 4) << 32;
}
static inline unsigned char *pg_put(unsigned char *p, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *p++ = (unsigned char)(v >> 8 * i);
    return p;
}

/* ---- zip ---- */
typedef struct pg_zip_member {
    const char *name; /* not 0-terminated */
    size_t name_len;
    const unsigned char *data; /* as it lies in the file */
    size_t packed, len;        /* bytes there, bytes of the member; equal unless deflated */
    bool deflated;
    uint32_t crc;
} pg_zip_member;
/* Calls fn for every member of an archive, in directory order; stops at the first failure. */
int pg_zip_each(const pg_map *m, const char *path, int (*fn)(void *ctx, const pg_zip_member *z, pg_err *e), void *ctx, pg_err *e) PG_MUST_CHECK;

/* A writable map of n > 0 bytes in a file without a name, in TMPDIR. Its blocks are taken first: a full disk is an error, not a signal. */
int pg_map_temp(pg_map *m, size_t n, pg_err *e) PG_MUST_CHECK;
/* Unpacks a deflated member into a file without a name (in TMPDIR), mapped: memory stays free. Its checksum is checked. */
int pg_zip_inflate(pg_map *m, const pg_zip_member *z, const char *path, pg_err *e) PG_MUST_CHECK;

/* ---- npy ---- */
enum { PG_NPY_FORTRAN = 1, PG_NPY_BIG_ENDIAN = 2 };
/* Reads the header and checks that the data fill the rest of the member exactly. key is for messages and kept. *odd: in which way the data
 * are not what pg_npy promises; 0 where they are, or where it makes no difference. */
int pg_npy_parse(pg_npy *a, unsigned *odd, const char *path, const char *key, const unsigned char *p, size_t n, pg_err *e) PG_MUST_CHECK;
/* Puts them in C order and little endian, in a file without a name, mapped at m; the same bits of each number. */
int pg_npy_reorder(pg_map *m, pg_npy *a, unsigned odd, pg_err *e) PG_MUST_CHECK;

/* ---- the parts of an open checkpoint ---- */
typedef struct pg_tensor_entry {
    pg_weight w;
    char *name; /* owned */
    char *plain; /* owned: without prefix (npz), in the stored style's one form without "model." (safetensors) */
    size_t file; /* index into files */
    bool is_scale; /* belongs to an int8 tensor */
    bool used;     /* is a tensor of the model's, or a part of one */
} pg_tensor_entry;

enum { PG_NOT_STACKED, PG_VIT_LAYERS, PG_TEXT_LAYERS };

/* One canonical tensor. Letters name dimensions (names.c); hf lists them in the order safetensors stores them, a comma
 * between the axes of the stored shape. */
typedef struct pg_name {
    const char *name, *dims;
    int stacked;
    const char *hf[2];    /* name with %zu for the layer; the second for tensors in two pieces */
    const char *hf_dims;
    int family; /* 0: both */
    bool pieces;
} pg_name;
extern const pg_name pg_names[];
extern const size_t pg_n_names;
/* The names of a family: the PaliGemma 1 and 2 rows differ where the same stored name means another norm. */
static inline bool pg_name_in(const pg_name *n, int family)
{
    return !n->family || n->family == family;
}

typedef struct pg_dims { /* sizes by letter; 0 is not known yet */
    size_t of[128];
} pg_dims;

typedef struct pg_resolved {
    const pg_name *n;
    bool stacked;             /* one tensor with a leading layer axis */
    const pg_weight **src;    /* 1 where stacked, else layers x parts */
    size_t first;             /* index into the axis of a joint qkv_einsum; 0 elsewhere */
    size_t layer_elements;    /* from layer to layer, where stacked */
} pg_resolved;

typedef struct pg_shard {
    pg_map map;
    char *path;
} pg_shard;

enum { PG_HEADS = 2 };

struct pg_weights {
    pg_file_format format;
    char *path, *dir;
    pg_shard *files;
    size_t n_files;
    pg_npz *npz;
    pg_tensor_entry *t;
    size_t n, cap;
    pg_tensor_entry **sorted; /* by plain name */
    pg_canonical *canon;
    pg_resolved *res;
    size_t n_canon;
    pg_dims dims;
    pg_model_shape shape;
    char *base; /* of an adapter file: the fingerprint of what it adapts, or NULL */
    unsigned char *pos; /* owned: resized position embeddings */
    const pg_weight *embed, *heads[PG_HEADS]; /* of safetensors: the embedding, and output matrices stored beside it, or NULL (tied.c) */
    pg_err why; /* code 0: the shape is good */
};

int pg_weights_add(pg_weights *w, const char *name, const char *plain, size_t plain_len, const pg_weight *t, size_t file, pg_err *e) PG_MUST_CHECK;
const pg_weight *pg_weights_find(const pg_weights *w, const char *plain);
/* Tensors of a safetensors file or of all files of an index. */
int pg_safetensors_load(pg_weights *w, const char *path, pg_err *e) PG_MUST_CHECK;
int pg_safetensors_load_index(pg_weights *w, const char *path, pg_err *e) PG_MUST_CHECK;
/* Whether a plain name is an output matrix's, or that of its scales. */
bool pg_is_head(const char *plain);
/* Finds them; PG_EFORMAT where type or shape are not the embedding's. */
int pg_tied_find(pg_weights *w, pg_err *e) PG_MUST_CHECK;
/* v: bytes of the embedding that lie side by side, against the same of output matrices, which are then let go of; any other view is PG_OK. */
int pg_tied_piece(const pg_weights *w, const pg_view *v, pg_err *e) PG_MUST_CHECK;
/* What config.json says of sizes, 0 where it does not; config.c. */
typedef struct pg_config {
    char *path;
    struct json_t *json; /* NULL: there is none */
    bool text, vision;   /* text_config and vision_config are there */
    size_t vit_heads, vit_depth, heads, kv_heads, head_dim, depth, image_token;
} pg_config;
int pg_config_read(const pg_weights *w, pg_config *c, pg_err *e) PG_MUST_CHECK; /* free it in any case */
/* PG_EFORMAT where it says another arithmetic than a model of this shape is computed with, or sizes that are not the tensors'. */
int pg_config_check(const pg_config *c, const pg_model_shape *s, pg_err *e) PG_MUST_CHECK;
void pg_config_free(pg_config *c);
/* Fills shape, canon and res, or returns why not. */
int pg_weights_resolve(pg_weights *w, pg_err *e) PG_MUST_CHECK;
void pg_shape_text(char *buf, size_t n, const size_t *shape, size_t ndim); /* "(2, 3)" */

/* Copies a view into dense elements of its own dtype, in the view's order. */
void pg_view_gather(const pg_view *v, void *out);
/* The view with its axes in the order that safetensors stores them. */
int pg_view_as_hf(const pg_name *n, bool part, pg_view *v);
/* Dense f32, canonical order. */
pg_view pg_view_dense(const pg_view *like, const float *data);
pg_view pg_view_raw(const pg_weight *w); /* as stored */

/* ---- saving ---- */
typedef int (*pg_sink_fn)(void *ctx, const void *p, size_t n, pg_err *e);
int pg_save_npz(const pg_weights *w, const char *path, const pg_save_how *how, const bool *replaced, pg_err *e) PG_MUST_CHECK;
int pg_save_safetensors(const pg_weights *w, const char *path, const pg_save_how *how, const bool *replaced, pg_err *e) PG_MUST_CHECK;
/* What an older checkpoint PATH.safetensors consists of, but what a new one of so many shards (0: a single file) is about to write over. */
int pg_remove_older_set(const char *path, size_t shards, pg_err *e) PG_MUST_CHECK;
/* Whether there is an older checkpoint PATH.safetensors and no other one beside it, so that config.json and the like there are its own. */
int pg_older_set_alone(const char *path, bool *alone, pg_err *e) PG_MUST_CHECK;
/* What a tensor of type own becomes; PG_I8 only where it is a matrix. */
pg_dtype pg_saved_dtype(const pg_save_how *how, pg_dtype own, bool replaced, bool matrix);
/* Where values go that are read once, and what else sees them as they pass. */
typedef struct pg_emit {
    const pg_weights *w; /* whose pages are let go of behind, and whose output matrix is compared as the embedding passes */
    void *buf;           /* PG_EMIT_BYTES */
    pg_sink_fn sink;     /* NULL: nowhere */
    void *ctx;
    double *sums;        /* NULL, or `cols` sums: those of the columns of a matrix are added, without what merge adds; never of int8 as int8 */
    size_t cols;
    pg_merge *merge;     /* NULL, or one that began with this view (pg_merge_begin): its products are added */
} pg_emit;
/* Streams a view in pieces of a few MiB as `to`, which is not PG_I8 unless the view is. */
int pg_emit_view(const pg_emit *m, const pg_view *v, pg_dtype to, pg_err *e) PG_MUST_CHECK;
/* A view in the order of safetensors as int8; scale receives those of each row of cols values. */
int pg_emit_int8(const pg_emit *m, const pg_view *v, size_t cols, float *scale, pg_err *e) PG_MUST_CHECK;
float pg_rounded(float f, pg_dtype t); /* through f16 or bf16 */
enum { PG_EMIT_BYTES = 8 << 20 };
/* Whether an adapter changes a layer (PG_WHOLE: any) of a canonical tensor, or its part. */
bool pg_merge_touches(const pg_merge *m, const char *canonical, size_t layer, size_t part);
/* A view of it is about to pass, axes in safetensors' order or big_vision's; then its values from the at-th on. */
int pg_merge_begin(pg_merge *m, size_t canon, size_t layer, size_t part, bool as_hf, pg_err *e) PG_MUST_CHECK;
int pg_merge_add(pg_merge *m, size_t at, float *values, size_t n, pg_err *e) PG_MUST_CHECK;
bool pg_dtype_of_descr(const char *descr, pg_dtype *t); /* "<f4", "<f2", "|V2" */
bool pg_one_dtype(const pg_resolved *r, const pg_canonical *c, pg_dtype *t);
/* Pages that a view lies on may leave this process: a long walk over a large file stays small. */
void pg_weights_forget(const pg_weights *w, const pg_view *v);
void pg_npz_forget(const pg_npz *z, const void *p, size_t n);
uint32_t pg_npz_crc(const pg_npz *z, size_t i); /* as the directory has it */
const unsigned char *pg_npz_member(const pg_npz *z, size_t i, size_t *n); /* header and data: what the checksum is of */
/* Key of the rows of an embedding that are no tokens, kept in an npz so that the way back is exact. */
#define PG_EXTRA_ROWS "hf/extra_embedding_rows"
/* Linear layers and the embedding: two axes in safetensors. */
bool pg_name_is_matrix(const pg_name *n);

/* Rows of an embedding in safetensors: the tokens', and those behind them that the source keeps, or that make up a multiple of 64. */
size_t pg_hf_rows(const pg_weights *w);
/* The files beside the safetensors weights `path`: config.json, generation_config.json, preprocessor_config.json; copied with sizes and
 * types set where the source has them, else made; processor_config.json where the source has it. dtype: of the weights; changed: not the
 * source's. Into f, for the caller to commit or abort; those that were not opened have no path. PG_EINVAL where one that is there says something
 * else and is not of an older checkpoint `path` alone. */
enum { PG_HF_CONFIGS = 4 };
int pg_save_hf_configs(const pg_weights *w, const char *path, pg_dtype dtype, bool changed, bool int8, pg_outfile f[PG_HF_CONFIGS], pg_err *e) PG_MUST_CHECK;

#endif
