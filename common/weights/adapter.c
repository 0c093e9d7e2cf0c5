#include "base/guard.h"
#include "weights/adapter.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weights/internal.h"

enum { CONFIG_MAX = 1 << 24 };
#define WEIGHTS "adapter_model.safetensors"
#define CONFIG "adapter_config.json"

struct pg_adapter {
    pg_weights *w; /* not a PaliGemma, but the same container */
    char *path, *base;
    double alpha;
    bool rslora;
    size_t rank; /* of all modules, as the configuration says; 0: it leaves that to the shapes */
    pg_lora_module *m;
    size_t n;
};

/* ---- adapter_config.json ---- */
/* Absent, null, false, empty and "none" mean that the feature is not used. */
static bool in_use(const json_t *j)
{
    return j && !json_is_null(j) && !json_is_false(j) && !(json_is_object(j) && !json_object_size(j)) && !(json_is_array(j) && !json_array_size(j)) &&
           !(json_is_string(j) && !strcmp(json_string_value(j), "none"));
}

static int read_config(pg_adapter *a, const char *path, pg_err *e)
{
    /* What changes the product, or comes beside it. rank_pattern is not among them: with it ranks are in the shapes alone. */
    static const char *const unknown[] = {"use_dora", "fan_in_fan_out", "alpha_pattern", "modules_to_save", "bias", "lora_bias", "megatron_config", "use_qalora",
                                          "trainable_token_indices", "target_parameters", "layer_replication"};
    pg_buf b = {0};
    json_error_t why;
    json_t *j = NULL;
    int rc = pg_file_read(path, CONFIG_MAX, &b, e);
    if (rc)
        return rc;
    j = pg_json_load(b.len ? (const char *)b.data : "", b.len, JSON_REJECT_DUPLICATES, &why);
    const char *type = json_string_value(json_object_get(j, "peft_type")), *base = json_string_value(json_object_get(j, "base_model_name_or_path"));
    const json_t *alpha = json_object_get(j, "lora_alpha");
    if (!json_is_object(j))
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': %s", path, j ? "not an object" : why.text);
    else if (!type || strcmp(type, "LORA") != 0)
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': adapters of type '%s' are not supported, only LORA", path, type ? type : "?");
    else if (!json_is_number(alpha) || !isfinite(json_number_value(alpha)))
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': no lora_alpha", path);
    for (size_t i = 0; !rc && i < sizeof unknown / sizeof *unknown; i++)
        if (in_use(json_object_get(j, unknown[i])))
            rc = pg_error(e, PG_EFORMAT, "cannot read '%s': it uses '%s', which is not supported", path, unknown[i]);
    if (!rc) {
        a->alpha = json_number_value(alpha);
        if (!in_use(json_object_get(j, "rank_pattern")) && json_integer_value(json_object_get(j, "r")) > 0)
            a->rank = (size_t)json_integer_value(json_object_get(j, "r"));
        a->rslora = json_is_true(json_object_get(j, "use_rslora"));
        if (base && !(a->base = pg_strdup(base)))
            rc = pg_error_nomem(e);
    }
    json_decref(j);
    pg_buf_free(&b);
    return rc;
}

/* ---- names ---- */
static const char *after(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) ? s : s + n;
}

/* The module of a key, and which factor it is: 'A' or 'B'; NULL: neither. */
static char *module_of(const char *key, char *factor)
{
    const char *at = strstr(key, ".lora_A."), *s = after(after(key, "base_model.model."), "model.");
    *factor = at ? 'A' : 'B';
    if (!at && !(at = strstr(key, ".lora_B.")))
        return NULL;
    if (strcmp(at + 8, "weight") != 0 && strcmp(at + 8, "default.weight") != 0)
        return NULL;
    const char *rest = after(s, "language_model.model.");
    return at < rest ? NULL : pg_format("%s%.*s", rest == s ? "" : "language_model.", (int)(at - rest), rest);
}

/* "language_model.layers.%zu.self_attn.q_proj.weight" against "language_model.layers.7.self_attn.q_proj". */
static bool fits(const char *fmt, const char *module, size_t *layer)
{
    const char *at = strstr(fmt, "%zu");
    char *end;
    *layer = 0;
    if (at) {
        size_t n = (size_t)(at - fmt);
        if (strncmp(fmt, module, n) != 0 || module[n] < '0' || module[n] > '9' || (module[n] == '0' && module[n + 1] != '.'))
            return false;
        *layer = strtoul(module + n, &end, 10);
        fmt = at + 3;
        module = end;
    }
    size_t n = strlen(module);
    return !strncmp(fmt, module, n) && !strcmp(fmt + n, ".weight");
}

/* The tensor that a module is. */
static bool place_of(const char *module, const char **canonical, size_t *layer, size_t *part)
{
    for (size_t i = 0; i < pg_n_names; i++)
        for (size_t k = 0; k < 2 && pg_names[i].hf[k]; k++)
            if (pg_name_is_matrix(&pg_names[i]) && fits(pg_names[i].hf[k], module, layer) && strcmp(pg_names[i].name, "llm/embedder/input_embedding") != 0) {
                *canonical = pg_names[i].name;
                *part = pg_names[i].pieces ? k : PG_WHOLE;
                return true;
            }
    return false;
}

/* ---- reading ---- */
static pg_lora_module *module(pg_adapter *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (!strcmp(a->m[i].name, name))
            return &a->m[i];
    return NULL;
}

static int add_factor(pg_adapter *a, const pg_weight *t, pg_err *e)
{
    char factor, *name = module_of(t->name, &factor);
    if (!name)
        return pg_error(e, PG_EFORMAT, "'%s': tensor '%s' is no low-rank factor of a linear layer", a->path, t->name);
    pg_lora_module *m = module(a, name), fresh = {.name = name};
    if (!m) {
        if (!place_of(name, &fresh.canonical, &fresh.layer, &fresh.part)) {
            free(name);
            return pg_error(e, PG_EFORMAT, "'%s': tensor '%s' belongs to no linear layer of a PaliGemma", a->path, t->name);
        }
        a->m[a->n] = fresh;
        m = &a->m[a->n++];
    } else {
        free(name);
    }
    const pg_weight **place = factor == 'A' ? &m->a : &m->b;
    if (*place)
        return pg_error(e, PG_EFORMAT, "'%s': tensors '%s' and '%s' are the same factor", a->path, (*place)->name, t->name);
    if (t->ndim != 2 || t->dtype == PG_I8)
        return pg_error(e, PG_EFORMAT, "'%s': tensor '%s' is no matrix of floating point numbers", a->path, t->name);
    *place = t;
    return PG_OK;
}

static int finish(pg_adapter *a, pg_lora_module *m, pg_err *e)
{
    if (!m->a || !m->b)
        return pg_error(e, PG_EFORMAT, "'%s': module '%s' lacks its lora_%c", a->path, m->name, m->a ? 'B' : 'A');
    m->rank = m->a->shape[0];
    m->in = m->a->shape[1];
    m->out = m->b->shape[0];
    if (!m->rank || m->b->shape[1] != m->rank)
        return pg_error(e, PG_EFORMAT, "'%s': module '%s' has factors of rank %zu and %zu", a->path, m->name, m->rank, m->b->shape[1]);
    if (a->rank && m->rank != a->rank) /* which of them alpha is divided by cannot be told */
        return pg_error(e, PG_EFORMAT, "'%s': module '%s' has factors of rank %zu, %s says r %zu", a->path, m->name, m->rank, CONFIG, a->rank);
    m->scale = a->alpha / (a->rslora ? sqrt((double)m->rank) : (double)m->rank);
    return PG_OK;
}

static int open_parts(pg_adapter *a, const char *path, pg_err *e)
{
    bool folder = pg_is_dir(path);
    char *dir = folder ? pg_strdup(path) : pg_path_dir(path), *config = dir ? pg_path_join(dir, CONFIG) : NULL;
    int rc = PG_OK;
    a->path = folder ? pg_path_join(path, WEIGHTS) : pg_strdup(path);
    if (!config || !a->path)
        rc = pg_error_nomem(e);
    else if (!pg_is_file(a->path))
        rc = pg_error(e, PG_EIO, "'%s' is no adapter: no file '%s'", path, a->path);
    if (!rc && !(rc = read_config(a, config, e)))
        rc = pg_weights_open(&a->w, a->path, e);
    free(config);
    free(dir);
    return rc;
}

int pg_adapter_open(pg_adapter **out, const char *path, pg_err *e)
{
    *out = NULL;
    pg_adapter *a = pg_calloc(1, sizeof *a);
    if (!a)
        return pg_error_nomem(e);
    int rc = open_parts(a, path, e);
    size_t n = rc ? 0 : pg_weights_count(a->w);
    if (!rc && !(a->m = pg_calloc(n, sizeof *a->m)))
        rc = pg_error_nomem(e);
    for (size_t i = 0; !rc && i < n; i++)
        rc = add_factor(a, pg_weights_at(a->w, i), e);
    for (size_t i = 0; !rc && i < a->n; i++)
        rc = finish(a, &a->m[i], e);
    if (!rc && !a->n)
        rc = pg_error(e, PG_EFORMAT, "'%s' holds no factors", a->path);
    if (rc)
        pg_adapter_close(a);
    else
        *out = a;
    return rc;
}

void pg_adapter_close(pg_adapter *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n; i++)
        free(a->m[i].name);
    free(a->m);
    free(a->path);
    free(a->base);
    pg_weights_close(a->w);
    free(a);
}

size_t pg_adapter_count(const pg_adapter *a)
{
    return a->n;
}

const pg_lora_module *pg_adapter_at(const pg_adapter *a, size_t i)
{
    return i < a->n ? &a->m[i] : NULL;
}

const char *pg_adapter_path(const pg_adapter *a)
{
    return a->path;
}

const char *pg_adapter_base(const pg_adapter *a)
{
    return a->base;
}

int pg_adapter_is_foreign(const pg_adapter *a, const pg_weights *base, bool *foreign, pg_err *e)
{
    uint32_t crc;
    char text[16];
    *foreign = false;
    if (!a->w->base)
        return PG_OK;
    int rc = pg_weights_fingerprint(base, &crc, e);
    if (rc)
        return rc;
    snprintf(text, sizeof text, "%08x", crc);
    *foreign = strcmp(text, a->w->base) != 0;
    return PG_OK;
}

/* ---- writing ---- */
static json_t *config_of(const pg_lora_factors *f, size_t n, double alpha, const char *base)
{
    json_t *targets = json_array(), *j;
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(targets, json_string(f[i].name))) {
            json_decref(targets);
            return NULL;
        }
    j = json_pack("{s:s,s:s,s:s,s:i,s:f,s:f,s:s,s:b,s:b,s:b,s:b,s:n,s:n,s:o}", "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base,
                  "r", (int)f[0].rank, "lora_alpha", alpha, "lora_dropout", 0.0, "bias", "none", "fan_in_fan_out", 0, "inference_mode", 1, "use_dora", 0,
                  "use_rslora", 0, "modules_to_save", "layers_to_transform", "target_modules", targets);
    return j;
}

static int add_tensor(pg_buf *b, const char *module, char factor, size_t rows, size_t cols, size_t *at, pg_err *e)
{
    size_t bytes = rows * cols * sizeof(float);
    int rc = pg_buf_addf(b, e, ",\"base_model.model.model.%s.lora_%c.weight\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]}", module, factor,
                         rows, cols, *at, *at + bytes);
    *at += bytes;
    return rc;
}

static int write_factors(const char *path, const pg_lora_factors *f, size_t n, uint32_t crc, pg_err *e)
{
    pg_buf b = {0};
    pg_outfile o;
    size_t at = 0;
    int rc = pg_outfile_open(&o, path, e);
    if (rc)
        return rc;
    rc = pg_buf_addf(&b, e, "{\"__metadata__\":{\"format\":\"pt\",\"pg_base\":\"%08x\"}", crc);
    for (size_t i = 0; !rc && i < n; i++) /* names of modules hold nothing that JSON would escape */
        if (!(rc = add_tensor(&b, f[i].name, 'A', f[i].rank, f[i].in, &at, e)))
            rc = add_tensor(&b, f[i].name, 'B', f[i].out, f[i].rank, &at, e);
    if (!rc)
        rc = pg_buf_addf(&b, e, "}");
    while (!rc && b.len % 8)
        rc = pg_buf_add(&b, " ", 1, e);
    unsigned char len[8];
    pg_put(len, b.len, 8);
    bool bad = !rc && (pg_write_full(o.fd, len, 8) || pg_write_full(o.fd, b.data, b.len));
    for (size_t i = 0; !rc && !bad && i < n; i++)
        bad = pg_write_full(o.fd, f[i].a, f[i].rank * f[i].in * sizeof(float)) || pg_write_full(o.fd, f[i].b, f[i].rank * f[i].out * sizeof(float));
    if (bad)
        rc = pg_error_errno(e, "cannot write '%s'", path);
    if (!rc)
        rc = pg_outfile_commit(&o, e);
    pg_outfile_abort(&o);
    pg_buf_free(&b);
    return rc;
}

int pg_adapter_save(const char *dir, const pg_lora_factors *f, size_t n, double alpha, const pg_weights *base, pg_err *e)
{
    char *config = pg_path_join(dir, CONFIG), *weights = pg_path_join(dir, WEIGHTS), *text = NULL, *from = pg_path_dir(pg_weights_path(base));
    json_t *j = n && from ? config_of(f, n, alpha, from) : NULL;
    uint32_t crc;
    int rc = PG_OK;
    if (!config || !weights || !j || !(text = pg_json_dumps(j, JSON_INDENT(1))))
        rc = pg_error_nomem(e);
    else if (mkdir(dir, 0777) && !pg_is_dir(dir))
        rc = pg_error_errno(e, "cannot make the folder '%s'", dir);
    else if (!(rc = pg_weights_fingerprint(base, &crc, e)) && !(rc = pg_file_save(config, text, strlen(text), e)))
        rc = write_factors(weights, f, n, crc, e); /* last: an adapter that is found is complete */
    free(text);
    free(config);
    free(weights);
    free(from);
    json_decref(j);
    return rc;
}
