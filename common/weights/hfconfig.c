/* The JSON files that transformers' from_pretrained reads beside safetensors weights. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "weights/internal.h"

enum { TEXT_MAX = 1 << 20 };
#define I(x) ((json_int_t)(x))

/* ---- made ---- */
static json_t *make_config(const pg_weights *w)
{
    const pg_model_shape *m = &w->shape;
    json_int_t rows = I(pg_hf_rows(w));
    json_t *j = json_pack(
        "{s:[s],s:i,s:i,s:i,s:I,s:i,s:I,s:I,s:s,s:I,s:I,s:{s:I,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s},s:{s:I,s:I,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:b}}",
        "architectures", "PaliGemmaForConditionalGeneration", "bos_token_id", 2, "eos_token_id", 1, "pad_token_id", 0, "hidden_size", I(m->width),
        "ignore_index", -100, "image_token_index", I(m->vocab), "_vocab_size", I(m->vocab), "model_type", "paligemma", "projection_dim", I(m->width),
        "vocab_size", rows, "text_config", "hidden_size", I(m->width), "intermediate_size", I(m->mlp), "model_type",
        m->family == 2 ? "gemma2" : "gemma", "num_attention_heads", I(m->heads), "num_hidden_layers", I(m->depth), "head_dim", I(m->head_dim),
        "num_key_value_heads", I(m->kv_heads), "num_image_tokens", I(m->n_image), "vocab_size", rows, "hidden_activation", "gelu_pytorch_tanh",
        "vision_config", "hidden_size", I(m->vit_width), "intermediate_size", I(m->vit_mlp), "image_size", I(m->image_size), "model_type",
        "siglip_vision_model", "num_attention_heads", I(m->vit_heads), "num_hidden_layers", I(m->vit_depth), "num_image_tokens", I(m->n_image),
        "patch_size", I(m->patch), "projection_dim", I(m->width), "vision_use_head", 0);
    json_t *text = json_object_get(j, "text_config");
    if (j && m->family == 2) {
        if (json_object_set_new(text, "attn_logit_softcapping", json_real(50.0)) || json_object_set_new(text, "final_logit_softcapping", json_real(30.0)) ||
            json_object_set_new(text, "query_pre_attn_scalar", json_integer(I(pg_query_scalar(m)))) || json_object_set_new(text, "sliding_window", json_integer(4096))) {
            json_decref(j);
            return NULL;
        }
    }
    return j;
}

static json_t *make_generation(const pg_weights *w)
{
    (void)w;
    return json_pack("{s:i,s:i,s:i}", "bos_token_id", 2, "eos_token_id", 1, "pad_token_id", 0);
}

/* resample 3 is bicubic, as in the published files. */
static json_t *make_preprocessor(const pg_weights *w)
{
    return json_pack("{s:b,s:b,s:b,s:[f,f,f],s:[f,f,f],s:s,s:s,s:I,s:i,s:f,s:{s:I,s:I}}", "do_normalize", 1, "do_rescale", 1, "do_resize", 1,
                     "image_mean", 0.5, 0.5, 0.5, "image_std", 0.5, 0.5, 0.5, "image_processor_type", "SiglipImageProcessor", "processor_class",
                     "PaliGemmaProcessor", "image_seq_length", I(w->shape.n_image), "resample", 3, "rescale_factor", 1.0 / 255.0, "size", "height",
                     I(w->shape.image_size), "width", I(w->shape.image_size));
}

/* ---- what a copied file must say of the new weights ---- */
typedef struct facts {
    const char *dtype; /* NULL: as it was */
    bool resized, int8;
    bool replace; /* what is there belongs to what is replaced */
} facts;

static int set_int(json_t *j, const char *key, size_t v, bool always)
{
    return json_is_object(j) && (always || json_object_get(j, key)) ? json_object_set_new(j, key, json_integer(I(v))) : 0;
}

static int set_dtype(json_t *j, const char *dtype)
{
    static const char *const keys[] = {"torch_dtype", "dtype"};
    int bad = 0;
    for (size_t i = 0; i < 2; i++)
        if (json_object_get(j, keys[i]))
            bad |= json_object_set_new(j, keys[i], json_string(dtype));
    return bad;
}

static int set_tied(json_t *j)
{
    return json_is_false(json_object_get(j, "tie_word_embeddings")) ? json_object_set_new(j, "tie_word_embeddings", json_true()) : 0;
}

static int adapt_config(const pg_weights *w, json_t *j, const facts *f)
{
    const pg_model_shape *m = &w->shape;
    json_t *text = json_object_get(j, "text_config"), *vision = json_object_get(j, "vision_config");
    int bad = 0;
    if (f->resized)
        bad |= set_int(vision, "image_size", m->image_size, true) | set_int(vision, "num_image_tokens", m->n_image, false) |
               set_int(vision, "num_positions", m->n_image, false) | set_int(text, "num_image_tokens", m->n_image, false);
    if (f->dtype) {
        if (!json_object_get(j, "torch_dtype") && !json_object_get(j, "dtype"))
            bad |= json_object_set_new(j, "torch_dtype", json_string(f->dtype));
        bad |= set_dtype(j, f->dtype) | set_dtype(text, f->dtype) | set_dtype(vision, f->dtype);
    }
    /* The output matrix does not go along (tied.c): transformers would make one up of random numbers. */
    if (w->heads[0] || w->heads[1])
        bad |= set_tied(j) | set_tied(text);
    /* A name that transformers does not know: it refuses these weights instead of taking them for numbers. */
    if (f->int8)
        bad |= json_object_set_new(j, "quantization_config", json_pack("{s:s,s:s}", "quant_method", "pg-int8", "scheme", "weight int8, weight_scale f32 by 256 of a row"));
    else
        (void)json_object_del(j, "quantization_config");
    return bad;
}

static int adapt_preprocessor(const pg_weights *w, json_t *j, const facts *f)
{
    const pg_model_shape *m = &w->shape;
    json_t *size = json_object_get(j, "size");
    if (!f->resized)
        return 0;
    if (json_is_integer(size)) /* a square */
        return set_int(j, "image_seq_length", m->n_image, true) | set_int(j, "size", m->image_size, true);
    return set_int(j, "image_seq_length", m->n_image, true) | set_int(size, "height", m->image_size, false) | set_int(size, "width", m->image_size, false);
}

/* Newer files hold the image processor's too. */
static int adapt_processor(const pg_weights *w, json_t *j, const facts *f)
{
    json_t *image = json_object_get(j, "image_processor");
    int bad = f->resized ? set_int(j, "image_seq_length", w->shape.n_image, false) : 0;
    return image ? bad | adapt_preprocessor(w, image, f) : bad;
}

static int adapt_nothing(const pg_weights *w, json_t *j, const facts *f)
{
    (void)w, (void)j, (void)f;
    return 0;
}

static int put(pg_outfile *f, const void *p, size_t n, pg_err *e)
{
    return pg_write_full(f->fd, p, n) ? pg_error_errno(e, "cannot write '%s'", f->path) : PG_OK;
}

static int put_json(pg_outfile *f, json_t *j, pg_err *e)
{
    char *out = pg_json_dumps(j, JSON_INDENT(1));
    int rc = out ? put(f, out, strlen(out), e) : pg_error_nomem(e);
    free(out);
    return rc ? rc : put(f, "\n", 1, e);
}

/* What is there and says the same may be anybody's. */
static int not_anothers(const char *path, const char *set, const json_t *now, pg_err *e)
{
    pg_buf b = {0};
    json_error_t why;
    json_t *was = NULL;
    int rc = PG_OK;
    if (!pg_is_file(path))
        return PG_OK;
    rc = pg_file_read(path, TEXT_MAX, &b, e);
    if (!rc && !(was = pg_json_load(b.len ? (const char *)b.data : "", b.len, 0, &why)) && pg_json_no_memory(&why))
        rc = pg_error_nomem(e);
    if (rc == PG_ELIMIT || (!rc && !(was && json_equal(was, now))))
        rc = pg_error(e, PG_EINVAL, "cannot write '%s': one is there that says something else and is not of an older '%s' alone; choose another folder, or move it away",
                      path, set);
    json_decref(was);
    pg_buf_free(&b);
    return rc;
}

/* Copied and adapted where the source has it, else made, unless make is NULL. */
static int one(const pg_weights *w, const char *set, const char *name, pg_outfile *out, json_t *(*make)(const pg_weights *w),
               int (*adapt)(const pg_weights *w, json_t *j, const facts *f), const facts *f, pg_err *e)
{
    char *dir = pg_path_dir(set), *to = dir ? pg_path_join(dir, name) : NULL, *from = pg_path_join(w->dir, name);
    pg_buf b = {0};
    json_t *was = NULL, *now = NULL;
    json_error_t why;
    int rc = to && from ? PG_OK : pg_error_nomem(e);
    bool there = !rc && w->format == PG_SAFETENSORS && pg_is_file(from);
    if (rc || (!there && !make) || (rc = pg_outfile_open_for(out, to, set, e)))
        goto out;
    if (there) {
        if ((rc = pg_file_read(from, TEXT_MAX, &b, e)))
            goto out;
        was = pg_json_load(b.len ? (const char *)b.data : "", b.len, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(was)) {
            rc = pg_error(e, PG_EFORMAT, "cannot read '%s': %s", from, was ? "not an object" : why.text);
            goto out;
        }
    }
    now = there ? json_deep_copy(was) : make(w);
    if (!now || adapt(w, now, f))
        rc = pg_error_nomem(e);
    if (!rc && !f->replace)
        rc = not_anothers(to, set, now, e);
    if (!rc)
        rc = there && json_equal(was, now) ? put(out, b.data, b.len, e) : put_json(out, now, e);
out:
    json_decref(was);
    json_decref(now);
    pg_buf_free(&b);
    free(from);
    free(dir);
    free(to);
    return rc;
}

int pg_save_hf_configs(const pg_weights *w, const char *path, pg_dtype dtype, bool changed, bool int8, pg_outfile f[PG_HF_CONFIGS], pg_err *e)
{
    static const char *const types[] = {"float32", "float16", "bfloat16", "float32"};
    facts about = {.dtype = changed || w->format == PG_NPZ ? types[dtype] : NULL, .resized = w->pos, .int8 = int8};
    int rc = pg_older_set_alone(path, &about.replace, e);
    if (!rc)
        rc = one(w, path, "config.json", &f[0], make_config, adapt_config, &about, e);
    if (!rc)
        rc = one(w, path, "generation_config.json", &f[1], make_generation, adapt_nothing, &about, e);
    if (!rc)
        rc = one(w, path, "preprocessor_config.json", &f[2], make_preprocessor, adapt_preprocessor, &about, e);
    return rc ? rc : one(w, path, "processor_config.json", &f[3], NULL, adapt_processor, &about, e);
}
