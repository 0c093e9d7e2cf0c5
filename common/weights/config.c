/* What config.json says beside safetensors: sizes that shapes do not tell, and arithmetic, which must be that of the model as it is computed
 * here. A key that is absent means what transformers 4.57 takes for it; null, where it means something, is said. Sizes that would make
 * transformers refuse the tensors are left to the tensors where they are absent. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "weights/internal.h"

enum { CONFIG_MAX = 1 << 20 };

static int get(const json_t *j, const char *key, size_t *v, const char *path, pg_err *e)
{
    const json_t *x = json_object_get(j, key);
    *v = 0;
    if (!x || json_is_null(x))
        return PG_OK;
    if (!json_is_integer(x) || json_integer_value(x) < 1 || json_integer_value(x) > 1 << 30)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': '%s' is not a sensible number", path, key);
    *v = (size_t)json_integer_value(x);
    return PG_OK;
}

int pg_config_read(const pg_weights *w, pg_config *c, pg_err *e)
{
    pg_buf b = {0};
    json_error_t why;
    int rc = PG_OK;
    *c = (pg_config){.path = pg_path_join(w->dir, "config.json")};
    if (!c->path)
        return pg_error_nomem(e);
    if (w->format != PG_SAFETENSORS || !pg_is_file(c->path))
        return PG_OK;
    if ((rc = pg_file_read(c->path, CONFIG_MAX, &b, e)))
        return rc;
    json_t *j = c->json = pg_json_load(b.len ? (const char *)b.data : "", b.len, JSON_REJECT_DUPLICATES, &why);
    pg_buf_free(&b);
    if (!json_is_object(j))
        return pg_error(e, PG_EFORMAT, "cannot read '%s': %s", c->path, j ? "not an object" : why.text);
    const json_t *text = json_object_get(j, "text_config"), *vision = json_object_get(j, "vision_config");
    c->text = json_is_object(text);
    c->vision = json_is_object(vision);
    if ((rc = get(j, "image_token_index", &c->image_token, c->path, e)) || (rc = get(vision, "num_attention_heads", &c->vit_heads, c->path, e)) ||
        (rc = get(vision, "num_hidden_layers", &c->vit_depth, c->path, e)) || (rc = get(text, "num_attention_heads", &c->heads, c->path, e)) ||
        (rc = get(text, "num_key_value_heads", &c->kv_heads, c->path, e)) || (rc = get(text, "head_dim", &c->head_dim, c->path, e)) ||
        (rc = get(text, "num_hidden_layers", &c->depth, c->path, e)))
        return rc;
    return PG_OK;
}

void pg_config_free(pg_config *c)
{
    json_decref(c->json);
    free(c->path);
    *c = (pg_config){0};
}

size_t pg_query_scalar(const pg_model_shape *s)
{
    bool big = s->family == 2 && s->width == 4608 && s->heads == 32 && s->head_dim == 128;
    return big ? s->width / s->heads : s->head_dim;
}

/* ---- arithmetic ---- */
typedef struct checker {
    const pg_config *c;
    const char *part; /* text_config or vision_config */
    const json_t *j;  /* that object */
    pg_err *e;
} checker;

/* said: NULL where it says nothing, which means `usual`. */
static int differs(const checker *k, const char *key, const json_t *said, const char *usual, const char *ours)
{
    char *text = said ? pg_json_dumps(said, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(10)) : NULL;
    if (said && !text)
        return pg_error_nomem(k->e);
    int rc = said ? pg_error(k->e, PG_EFORMAT, "'%s': %s says %s %.100s, computed is with %s alone", k->c->path, k->part, key, text, ours)
                  : pg_error(k->e, PG_EFORMAT, "'%s': %s does not say %s, which means %s, computed is with %s alone", k->c->path, k->part, key, usual, ours);
    free(text);
    return rc;
}

/* Absent means `usual`. */
static int number(const checker *k, const char *key, double usual, double ours)
{
    const json_t *x = json_object_get(k->j, key);
    char a[32], b[32];
    double v = x ? json_number_value(x) : usual;
    if ((!x || json_is_number(x)) && fabs(v - ours) <= 1e-6 * ours)
        return PG_OK;
    snprintf(a, sizeof a, "%.10g", usual);
    snprintf(b, sizeof b, "%.10g", ours);
    return differs(k, key, x, a, b);
}

/* Of tensors: that they are those of this file. */
static int size(const checker *k, const char *key, size_t found)
{
    return number(k, key, (double)found, (double)found);
}

/* Names of the approximation by tanh; absent or null means that. */
static int activation(const checker *k, const char *key)
{
    static const char *const tanhs[] = {"gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh", "gelu_accurate"};
    const json_t *x = json_object_get(k->j, key);
    if (!x || json_is_null(x))
        return PG_OK;
    for (size_t i = 0; i < sizeof tanhs / sizeof *tanhs; i++)
        if (json_is_string(x) && !strcmp(json_string_value(x), tanhs[i]))
            return PG_OK;
    return differs(k, key, x, NULL, "gelu_pytorch_tanh");
}

static int word(const checker *k, const char *key, const char *ours)
{
    const json_t *x = json_object_get(k->j, key);
    return !x || (json_is_string(x) && !strcmp(json_string_value(x), ours)) ? PG_OK : differs(k, key, x, NULL, ours);
}

/* Older files have rope_theta and rope_scaling, newer ones both in rope_parameters. */
static int rope(const checker *k)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    int rc = number(k, "rope_theta", 10000, 10000);
    for (size_t i = 0; !rc && i < 2; i++) {
        const checker inner = {k->c, keys[i], json_object_get(k->j, keys[i]), k->e};
        if (!inner.j || json_is_null(inner.j))
            continue;
        if (!json_is_object(inner.j))
            return differs(k, keys[i], inner.j, NULL, "none");
        if (!(rc = word(&inner, "rope_type", "default")) && !(rc = word(&inner, "type", "default")))
            rc = number(&inner, "rope_theta", 10000, 10000);
    }
    return rc;
}

/* Every layer sees all that is before it; as far as the published window reaches that is the same. */
static int window(const checker *k)
{
    const json_t *x = json_object_get(k->j, "sliding_window");
    bool wide = json_is_integer(x) && json_integer_value(x) >= 4096;
    return !x || json_is_null(x) || wide ? PG_OK : differs(k, "sliding_window", x, NULL, "4096 or more, or null,");
}

static int second(const checker *k, const pg_model_shape *s)
{
    const json_t *cap = json_object_get(k->j, "final_logit_softcapping");
    int rc;
    if ((rc = number(k, "query_pre_attn_scalar", 256, (double)pg_query_scalar(s))) || (rc = number(k, "attn_logit_softcapping", 50, 50)) ||
        (rc = json_is_null(cap) ? PG_OK : number(k, "final_logit_softcapping", 30, 30)))
        return rc;
    return window(k);
}

static int text(const checker *k, const pg_model_shape *s)
{
    int rc;
    if ((rc = word(k, "model_type", s->family == 2 ? "gemma2" : "gemma")) || (rc = size(k, "hidden_size", s->width)) ||
        (rc = size(k, "intermediate_size", s->mlp)) || (rc = number(k, "rms_norm_eps", 1e-6, 1e-6)) || (rc = activation(k, "hidden_activation")) ||
        (s->family == 1 && (rc = activation(k, "hidden_act"))) || (rc = rope(k)))
        return rc;
    if (json_is_false(json_object_get(k->j, "use_bidirectional_attention")))
        return differs(k, "use_bidirectional_attention", json_object_get(k->j, "use_bidirectional_attention"), NULL, "true");
    return s->family == 2 ? second(k, s) : PG_OK;
}

static int vision(const checker *k, const pg_model_shape *s)
{
    int rc;
    if ((rc = word(k, "model_type", "siglip_vision_model")) || (rc = size(k, "hidden_size", s->vit_width)) || (rc = size(k, "intermediate_size", s->vit_mlp)) ||
        (rc = size(k, "patch_size", s->patch)) || (rc = size(k, "image_size", s->image_size)) || (rc = size(k, "num_channels", 3)) ||
        (rc = number(k, "layer_norm_eps", 1e-6, 1e-6)))
        return rc;
    return activation(k, "hidden_act");
}

int pg_config_check(const pg_config *c, const pg_model_shape *s, pg_err *e)
{
    const checker t = {c, "text_config", json_object_get(c->json, "text_config"), e}, v = {c, "vision_config", json_object_get(c->json, "vision_config"), e};
    int rc = json_is_object(t.j) ? text(&t, s) : PG_OK;
    return !rc && json_is_object(v.j) ? vision(&v, s) : rc;
}
