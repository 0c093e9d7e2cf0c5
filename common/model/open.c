#include "model/open.h"

#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "model/lora.h"

enum { LIST_BYTES = 300 };

typedef struct opener {
    pg_model *m;
    pg_owned *own;
    pg_err *e;
} opener;

/* One layer's tensor, in the file or in a master copy, and where its gradient goes. */
typedef struct source {
    const char *name;
    pg_view v;
    float *g;
} source;

static int code_of(const pg_err *e)
{
    return e && e->code ? e->code : PG_ENOMEM;
}

/* ---- what is trained ---- */
static int selects(const char *trainable, const regex_t *re, const char *name, pg_err *e)
{
    if (!strcmp(trainable, "all"))
        return 1;
    if (!strcmp(trainable, "attention"))
        return !strncmp(name, "llm/layers/attn/", 16);
    if (!strcmp(trainable, "llm"))
        return !strncmp(name, "llm/", 4);
    return pg_regex_matches(re, name, e);
}

static const pg_canonical *canonical_of(const pg_weights *w, const char *name)
{
    for (size_t i = 0; i < pg_canonical_count(w); i++)
        if (!strcmp(pg_canonical_at(w, i)->name, name))
            return pg_canonical_at(w, i);
    return NULL;
}

static int all_finite(opener *o, const char *name, const float *p, size_t n)
{
    if (pg_all_finite(o->m->kern, p, n))
        return PG_OK;
    return pg_error(o->e, PG_EFORMAT, "'%s': '%s' holds values that are not finite", pg_weights_path(o->m->weights), name);
}

static int make_param(opener *o, const pg_canonical *c, pg_param *p)
{
    const pg_weights *w = o->m->weights;
    size_t parts = c->parts ? c->parts : 1, at = 0;
    pg_view v;
    *p = (pg_param){.name = c->name, .layers = c->layers ? c->layers : 1};
    for (size_t l = 0; l < p->layers; l++)
        for (size_t i = 0; i < parts; i++) {
            int rc = pg_weights_view(w, c->name, l, c->parts ? i : PG_WHOLE, &v, o->e);
            if (rc)
                return rc;
            if (!p->w) {
                p->per_layer = v.count * parts;
                p->count = p->per_layer * p->layers;
                if (!(p->w = pg_work_rows(o->own->vectors, p->layers, p->per_layer, o->e)))
                    return code_of(o->e);
                if (!(p->g = pg_floats(p->count))) /* not touched here: pg_grads_share may do with less */
                    return pg_error_nomem(o->e);
            }
            pg_view_widen(&v, p->w + at);
            at += v.count;
        }
    return all_finite(o, p->name, p->w, p->count);
}

static int no_match(opener *o, const char *trainable)
{
    char list[LIST_BYTES];
    size_t at = 0;
    for (size_t i = 0; i < pg_canonical_count(o->m->weights); i++) {
        const char *name = pg_canonical_at(o->m->weights, i)->name;
        size_t n = strlen(name);
        if (strncmp(name, "llm/", 4) || at + n + 2 >= sizeof list)
            continue;
        list[at++] = ' ';
        memcpy(list + at, name, n);
        at += n;
    }
    list[at] = 0;
    return pg_error(o->e, PG_EINVAL, "'%s' selects no weights; names are img/... and%s", trainable, list);
}

static int choose_params(opener *o, const char *trainable)
{
    pg_model *m = o->m;
    size_t n = pg_canonical_count(m->weights);
    regex_t re;
    int rc = PG_OK, bad;
    if (!trainable || !*trainable)
        return PG_OK;
    bad = regcomp(&re, trainable, REG_EXTENDED | REG_NOSUB);
    if (bad) {
        char why[128];
        regerror(bad, &re, why, sizeof why);
        return pg_error(o->e, PG_EINVAL, "'%s' is not a regular expression: %s", trainable, why);
    }
    if (!(m->params = pg_calloc(n, sizeof *m->params)))
        rc = pg_error_nomem(o->e);
    for (size_t i = 0; !rc && i < n; i++) {
        const pg_canonical *c = pg_canonical_at(m->weights, i);
        int yes = selects(trainable, &re, c->name, o->e);
        rc = yes == 1 ? make_param(o, c, &m->params[m->n_params++]) : yes;
    }
    regfree(&re);
    return !rc && !m->n_params ? no_match(o, trainable) : rc;
}

/* ---- tensors ---- */
static void drop_first(pg_view *v, size_t part)
{
    v->data += part * v->stride[0] * pg_dtype_size(v->dtype);
    v->count /= v->shape[0];
    v->ndim--;
    memmove(v->shape, v->shape + 1, v->ndim * sizeof *v->shape);
    memmove(v->stride, v->stride + 1, v->ndim * sizeof *v->stride);
}

/* part: PG_WHOLE, or index of the first canonical axis, whether the file has it in pieces or not. */
static int find(opener *o, const char *name, size_t layer, size_t part, source *s)
{
    const pg_canonical *c = canonical_of(o->m->weights, name);
    if (!c)
        return pg_error(o->e, PG_EFORMAT, "'%s': no '%s'", pg_weights_path(o->m->weights), name);
    *s = (source){.name = name};
    int rc = pg_weights_view(o->m->weights, name, layer, c->parts ? part : PG_WHOLE, &s->v, o->e);
    if (rc)
        return rc;
    if (part != PG_WHOLE && !c->parts)
        drop_first(&s->v, part);
    for (size_t i = 0; i < o->m->n_params; i++) {
        const pg_param *p = &o->m->params[i];
        size_t at = layer * p->per_layer + (part == PG_WHOLE ? 0 : part * s->v.count), step = 1;
        if (strcmp(p->name, name))
            continue;
        s->g = p->g + at;
        s->v.data = (const unsigned char *)(p->w + at);
        s->v.dtype = PG_F32;
        for (size_t d = s->v.ndim; d-- > 0; step *= s->v.shape[d])
            s->v.stride[d] = step;
    }
    return PG_OK;
}

static int vector(opener *o, const char *name, size_t layer, size_t count, const float **out, float **g)
{
    source s;
    float *p;
    int rc = find(o, name, layer, PG_WHOLE, &s);
    if (rc)
        return rc;
    if (s.v.count != count)
        return pg_error(o->e, PG_EFORMAT, "'%s' has %zu values, not %zu", name, s.v.count, count);
    *g = s.g;
    if (s.g) {
        *out = (const float *)(const void *)s.v.data;
        return PG_OK;
    }
    if (!(p = pg_work_floats(o->own->vectors, count, o->e)))
        return code_of(o->e);
    pg_view_widen(&s.v, p);
    *out = p;
    return all_finite(o, name, p, count);
}

/* Axes [a,b) as one axis: true, its length and stride, where they lie so. */
static bool collapse(const pg_view *v, size_t a, size_t b, size_t *n, size_t *stride)
{
    *n = 1;
    *stride = 0;
    for (size_t d = b; d-- > a;) {
        if (v->shape[d] == 1)
            continue;
        if (*n == 1)
            *stride = v->stride[d];
        else if (v->stride[d] != *n * *stride)
            return false;
        *n *= v->shape[d];
    }
    if (*n == 1)
        *stride = 1;
    return true;
}

static bool as_matrix(const pg_view *v, size_t a, size_t mid, size_t b, pg_mat *w)
{
    size_t rs, cs;
    *w = (pg_mat){.data = v->data, .type = (pg_mat_type)v->dtype, .scale = v->dtype == PG_I8 ? v->from->scale : NULL};
    if (!collapse(v, a, mid, &w->rows, &rs) || !collapse(v, mid, b, &w->cols, &cs))
        return false;
    w->trans = cs != 1 || v->dtype == PG_I8; /* int8 is always (out, in), also where one of them is 1 and strides do not tell */
    w->ld = !w->trans ? rs : w->cols == 1 ? w->rows : cs;
    if (w->trans)
        return rs == 1 && (w->cols == 1 || w->ld >= w->rows);
    if (w->rows == 1)
        w->ld = w->cols;
    return w->ld >= w->cols;
}

/* Canonical axes: `heads` leading ones (0 or 1) that number column blocks, then n_in input axes, then output axes. */
static int linear(opener *o, const char *name, size_t layer, size_t part, size_t heads, size_t n_in, size_t in, size_t out, pg_linear *l)
{
    source s;
    int rc = find(o, name, layer, part, &s);
    pg_view *v = &s.v;
    bool ok;
    if (rc)
        return rc;
    l->blocks = heads ? v->shape[0] : 1;
    l->gw = s.g;
    ok = as_matrix(v, heads, heads + n_in, v->ndim, &l->w);
    if (ok && heads) {
        size_t step = v->stride[0];
        l->block_bytes = step * pg_dtype_size(v->dtype);
        /* Heads whose columns follow each other are one product; gradients stay by head. */
        if (!s.g && l->w.trans && step == l->w.cols * l->w.ld) {
            l->w.cols *= l->blocks;
            l->blocks = 1;
        }
    }
    l->in = in;
    l->out = out;
    if (!ok || l->w.rows != in || l->w.cols * l->blocks != out)
        return pg_error(o->e, PG_EFORMAT, "'%s' does not lie in the file as a matrix of %zu by %zu", name, in, out);
    return PG_OK;
}

/* ---- the parts ---- */
#define BLOCK "img/Transformer/encoderblock/"
#define MHA BLOCK "MultiHeadDotProductAttention_0/"

static int patch_kernel(opener *o)
{
    pg_model *m = o->m;
    source s;
    size_t P = m->s.patch, in = P * P * 3;
    int rc = find(o, "img/embedding/kernel", 0, PG_WHOLE, &s);
    if (rc)
        return rc;
    const pg_view *v = &s.v;
    if (v->ndim == 4 && v->stride[0] == P && v->stride[1] == 1 && v->stride[2] == P * P) {
        m->patch_chw = true;
        m->patch = (pg_linear){.w = {.data = v->data, .type = (pg_mat_type)v->dtype, .trans = true, .rows = in, .cols = m->s.vit_width, .ld = v->stride[3]},
                               .blocks = 1, .in = in, .out = m->s.vit_width};
    } else if ((rc = linear(o, "img/embedding/kernel", 0, PG_WHOLE, 0, 3, in, m->s.vit_width, &m->patch))) {
        return rc;
    }
    if ((rc = vector(o, "img/embedding/bias", 0, m->s.vit_width, &m->patch.bias, &m->patch.gbias)))
        return rc;
    return vector(o, "img/pos_embedding", 0, m->s.n_image * m->s.vit_width, &m->pos, &m->gpos);
}

static int layer_norm(opener *o, const char *scale, const char *bias, size_t l, pg_norm *n)
{
    int rc = vector(o, scale, l, o->m->s.vit_width, &n->scale, &n->gscale);
    return rc ? rc : vector(o, bias, l, o->m->s.vit_width, &n->bias, &n->gbias);
}

static int biased(opener *o, const char *kernel, const char *bias, size_t l, size_t n_in, size_t in, size_t out, pg_linear *x)
{
    int rc = linear(o, kernel, l, PG_WHOLE, 0, n_in, in, out, x);
    return rc ? rc : vector(o, bias, l, out, &x->bias, &x->gbias);
}

static int vit_layer(opener *o, size_t l)
{
    pg_vit_layer *x = &o->m->vit[l];
    size_t E = o->m->s.vit_width, A = o->m->s.vit_heads * o->m->s.vit_head_dim, F = o->m->s.vit_mlp;
    int rc;
    if ((rc = layer_norm(o, BLOCK "LayerNorm_0/scale", BLOCK "LayerNorm_0/bias", l, &x->norm0)) ||
        (rc = layer_norm(o, BLOCK "LayerNorm_1/scale", BLOCK "LayerNorm_1/bias", l, &x->norm1)) ||
        (rc = biased(o, MHA "query/kernel", MHA "query/bias", l, 1, E, A, &x->q)) ||
        (rc = biased(o, MHA "key/kernel", MHA "key/bias", l, 1, E, A, &x->k)) ||
        (rc = biased(o, MHA "value/kernel", MHA "value/bias", l, 1, E, A, &x->v)) ||
        (rc = biased(o, MHA "out/kernel", MHA "out/bias", l, 2, A, E, &x->o)) ||
        (rc = biased(o, BLOCK "MlpBlock_0/Dense_0/kernel", BLOCK "MlpBlock_0/Dense_0/bias", l, 1, E, F, &x->fc1)))
        return rc;
    return biased(o, BLOCK "MlpBlock_0/Dense_1/kernel", BLOCK "MlpBlock_0/Dense_1/bias", l, 1, F, E, &x->fc2);
}

static int dec_layer(opener *o, size_t l)
{
    pg_dec_layer *x = &o->m->dec[l];
    const pg_model_shape *s = &o->m->s;
    size_t D = s->width, q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    int rc;
    if ((rc = vector(o, "llm/layers/pre_attention_norm/scale", l, D, &x->pre_attn.scale, &x->pre_attn.gscale)) ||
        (rc = vector(o, "llm/layers/pre_ffw_norm/scale", l, D, &x->pre_ffw.scale, &x->pre_ffw.gscale)))
        return rc;
    if (s->family == 2 &&
        ((rc = vector(o, "llm/layers/post_attention_norm/scale", l, D, &x->post_attn.scale, &x->post_attn.gscale)) ||
         (rc = vector(o, "llm/layers/post_ffw_norm/scale", l, D, &x->post_ffw.scale, &x->post_ffw.gscale))))
        return rc;
    if ((rc = linear(o, "llm/layers/attn/q_einsum/w", l, PG_WHOLE, 1, 1, D, q, &x->q)) ||
        (rc = linear(o, "llm/layers/attn/kv_einsum/w", l, 0, 1, 1, D, kv, &x->k)) ||
        (rc = linear(o, "llm/layers/attn/kv_einsum/w", l, 1, 1, 1, D, kv, &x->v)) ||
        (rc = linear(o, "llm/layers/attn/attn_vec_einsum/w", l, PG_WHOLE, 0, 2, q, D, &x->o)) ||
        (rc = linear(o, "llm/layers/mlp/gating_einsum", l, 0, 0, 1, D, s->mlp, &x->gate)) ||
        (rc = linear(o, "llm/layers/mlp/gating_einsum", l, 1, 0, 1, D, s->mlp, &x->up)))
        return rc;
    return linear(o, "llm/layers/mlp/linear", l, PG_WHOLE, 0, 1, s->mlp, D, &x->down);
}

static int embedding(opener *o)
{
    pg_model *m = o->m;
    source s;
    int rc = find(o, "llm/embedder/input_embedding", 0, PG_WHOLE, &s);
    if (rc)
        return rc;
    if (s.v.ndim != 2 || s.v.shape[0] < m->s.vocab || s.v.shape[1] != m->s.width || s.v.stride[1] != 1)
        return pg_error(o->e, PG_EFORMAT, "'%s' does not lie in the file as %zu rows of %zu", s.name, m->s.vocab, m->s.width);
    m->embed = (pg_mat){.data = s.v.data, .type = (pg_mat_type)s.v.dtype, .trans = true, .rows = m->s.width,
                        .cols = m->s.vocab, .ld = s.v.stride[0], .scale = s.v.dtype == PG_I8 ? s.v.from->scale : NULL};
    m->gembed = s.g;
    return PG_OK;
}

static int fill(opener *o)
{
    pg_model *m = o->m;
    int rc;
    if ((rc = patch_kernel(o)) || (rc = embedding(o)) ||
        (rc = layer_norm(o, "img/Transformer/encoder_norm/scale", "img/Transformer/encoder_norm/bias", 0, &m->vit_norm)) ||
        (rc = biased(o, "img/head/kernel", "img/head/bias", 0, 1, m->s.vit_width, m->s.width, &m->head)) ||
        (rc = vector(o, "llm/final_norm/scale", 0, m->s.width, &m->final_norm.scale, &m->final_norm.gscale)))
        return rc;
    for (size_t l = 0; l < m->s.vit_depth; l++)
        if ((rc = vit_layer(o, l)))
            return rc;
    for (size_t l = 0; l < m->s.depth; l++)
        if ((rc = dec_layer(o, l)))
            return rc;
    return PG_OK;
}

static int prepare_int8(opener *o)
{
    const pg_weights *w = o->m->weights;
    for (size_t i = 0; i < pg_weights_count(w); i++)
        if (pg_weights_at(w, i)->dtype == PG_I8)
            return pg_kern_take_int8(o->m->kern, o->e);
    return PG_OK;
}

int pg_model_open(pg_model **out, const char *path, const char *trainable, pg_kern *k, pg_err *e)
{
    pg_err local = {0};
    pg_model *m = pg_calloc(1, sizeof *m);
    pg_owned *own = pg_calloc(1, sizeof *own);
    opener o = {m, own, e ? e : &local};
    int rc = PG_OK;
    *out = NULL;
    if (!m || !own) {
        free(m);
        free(own);
        return pg_error_nomem(e);
    }
    m->kern = k;
    m->owned = own;
    if ((rc = pg_work_new(&own->vectors, o.e)) || (rc = pg_work_new(&own->scratch, o.e)) ||
        (rc = pg_weights_open(&m->weights, path, o.e)) || (rc = pg_weights_shape(m->weights, &m->s, o.e)) ||
        (rc = pg_weights_tied(m->weights, o.e)) || (rc = prepare_int8(&o)))
        goto out;
    if (m->s.head_dim > PG_MOST_HEAD_DIM || m->s.vit_head_dim > PG_MOST_HEAD_DIM) {
        rc = pg_error(o.e, PG_ELIMIT, "'%s': heads of %zu (image tower) and %zu (language model) dimensions; at most %d are handled",
                      path, m->s.vit_head_dim, m->s.head_dim, PG_MOST_HEAD_DIM);
        goto out;
    }
    m->q_scale = (float)(1.0 / sqrt((double)pg_query_scalar(&m->s)));
    m->attn_softcap = m->s.family == 2 ? 50.0f : 0.0f;
    m->vit = pg_calloc(m->s.vit_depth, sizeof *m->vit);
    m->dec = pg_calloc(m->s.depth, sizeof *m->dec);
    if (!m->vit || !m->dec)
        rc = pg_error_nomem(o.e);
    else if (!(rc = choose_params(&o, trainable)))
        rc = fill(&o);
out:
    if (rc)
        pg_model_close(m);
    else
        *out = m;
    return rc;
}

void pg_model_close(pg_model *m)
{
    if (!m)
        return;
    pg_owned *own = m->owned;
    pg_model_free_forms(m);
    pg_work_free(own->vectors);
    pg_work_free(own->scratch);
    free(own);
    pg_weights_close(m->weights);
    pg_lora_free(m);
    free(m->vit);
    free(m->dec);
    for (size_t i = 0; i < m->n_params; i++)
        free(m->params[i].g);
    free(m->params);
    free(m->rope_cos);
    free(m->rope_sin);
    free(m);
}

pg_work *pg_model_scratch(const pg_model *m)
{
    return ((pg_owned *)m->owned)->scratch;
}

int pg_model_positions(pg_model *m, size_t positions, pg_err *e)
{
    size_t half = m->s.head_dim / 2, n, room = m->rope_positions ? m->rope_positions : 512;
    if (positions <= m->rope_positions)
        return PG_OK;
    while (room < positions)
        room *= 2;
    if (!pg_mul(room, half, &n))
        return pg_error_nomem(e);
    float *c = pg_floats(n), *s = pg_floats(n);
    if (!c || !s) {
        free(c);
        free(s);
        return pg_error_nomem(e);
    }
    pg_rope_table(c, s, room, m->s.head_dim);
    free(m->rope_cos);
    free(m->rope_sin);
    m->rope_cos = c;
    m->rope_sin = s;
    m->rope_positions = room;
    return PG_OK;
}
