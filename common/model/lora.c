#include "model/lora.h"

#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "base/num.h"
#include "model/open.h"
#include "weights/adapter.h"

/* ---- arithmetic ---- */
static void scaled(float *x, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= s;
}

/* down [n,rank] = scale * x Aᵀ */
static void go_down(pg_kern *k, const pg_linear *l, const float *x, size_t n)
{
    const struct pg_lora *o = l->lora;
    pg_mat at = {.data = o->a, .type = PG_MAT_F32, .trans = true, .rows = l->in, .cols = o->rank, .ld = l->in};
    pg_gemm(k, n, o->rank, l->in, x, l->in, false, &at, 0, o->down, o->rank);
    scaled(o->down, o->scale, n * o->rank);
}

void pg_lora_forward(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R)
{
    const struct pg_lora *o = l->lora;
    pg_mat bt = {.data = o->b, .type = PG_MAT_F32, .trans = true, .rows = o->rank, .cols = l->out, .ld = o->rank};
    for (size_t r = 0; r < R; r += PG_LORA_ROWS) {
        size_t n = R - r < PG_LORA_ROWS ? R - r : PG_LORA_ROWS;
        go_down(k, l, x + r * l->in, n);
        pg_gemm(k, n, l->out, o->rank, o->down, o->rank, false, &bt, 1.0f, y + r * l->out, l->out);
    }
}

void pg_lora_back(pg_kern *k, const pg_linear *l, float *dx, const float *dy, const float *x, size_t R)
{
    const struct pg_lora *o = l->lora;
    pg_mat a = {.data = o->a, .type = PG_MAT_F32, .rows = o->rank, .cols = l->in, .ld = l->in};
    pg_mat b = {.data = o->b, .type = PG_MAT_F32, .rows = l->out, .cols = o->rank, .ld = o->rank};
    for (size_t r = 0; r < R; r += PG_LORA_ROWS) {
        size_t n = R - r < PG_LORA_ROWS ? R - r : PG_LORA_ROWS;
        const float *dyr = dy + r * l->out, *xr = x + r * l->in;
        pg_gemm(k, n, o->rank, l->out, dyr, l->out, false, &b, 0, o->back, o->rank); /* back = scale * dy B */
        scaled(o->back, o->scale, n * o->rank);
        if (o->ga) {
            go_down(k, l, xr, n);
            pg_mat down = {.data = o->down, .type = PG_MAT_F32, .rows = n, .cols = o->rank, .ld = o->rank};
            pg_mat in = {.data = xr, .type = PG_MAT_F32, .rows = n, .cols = l->in, .ld = l->in};
            pg_gemm(k, l->out, o->rank, n, dyr, l->out, true, &down, 1.0f, o->gb, o->rank);
            pg_gemm(k, o->rank, l->in, n, o->back, o->rank, true, &in, 1.0f, o->ga, l->in);
        }
        if (dx) pg_gemm(k, n, l->in, o->rank, o->back, o->rank, false, &a, 1.0f, dx + r * l->in, l->in);
    }
}

/* ---- modules ---- */
typedef struct slot {
    char *name;   /* of the module */
    char *params[2];
    pg_linear *l;
    struct pg_lora lora;
} slot;

struct pg_lora_set {
    slot *s;
    size_t n;
};

#define DEC "language_model.layers.%zu."
#define VIT "vision_tower.vision_model.encoder.layers.%zu."
static const struct kind {
    const char *format;
    bool dec;
    size_t at; /* of the pg_linear in its layer */
} kinds[] = {
    {VIT "self_attn.q_proj", false, offsetof(pg_vit_layer, q)},   {VIT "self_attn.k_proj", false, offsetof(pg_vit_layer, k)},
    {VIT "self_attn.v_proj", false, offsetof(pg_vit_layer, v)},   {VIT "self_attn.out_proj", false, offsetof(pg_vit_layer, o)},
    {VIT "mlp.fc1", false, offsetof(pg_vit_layer, fc1)},          {VIT "mlp.fc2", false, offsetof(pg_vit_layer, fc2)},
    {DEC "self_attn.q_proj", true, offsetof(pg_dec_layer, q)},    {DEC "self_attn.k_proj", true, offsetof(pg_dec_layer, k)},
    {DEC "self_attn.v_proj", true, offsetof(pg_dec_layer, v)},    {DEC "self_attn.o_proj", true, offsetof(pg_dec_layer, o)},
    {DEC "mlp.gate_proj", true, offsetof(pg_dec_layer, gate)},    {DEC "mlp.up_proj", true, offsetof(pg_dec_layer, up)},
    {DEC "mlp.down_proj", true, offsetof(pg_dec_layer, down)},
};
#define HEAD "multi_modal_projector.linear"

/* Calls fn for each linear layer until it fails: tower, head, decoder. */
static int each_module(pg_model *m, int (*fn)(void *ctx, const char *name, pg_linear *l, pg_err *e), void *ctx, pg_err *e)
{
    int rc = PG_OK;
    for (int dec = 0; dec < 2; dec++) {
        size_t layers = dec ? m->s.depth : m->s.vit_depth;
        for (size_t l = 0; !rc && l < layers; l++)
            for (size_t i = 0; !rc && i < sizeof kinds / sizeof *kinds; i++) {
                if (kinds[i].dec != (bool)dec) continue;
                char *base = dec ? (char *)&m->dec[l] : (char *)&m->vit[l], *name = pg_layer_name(kinds[i].format, l);
                rc = name ? fn(ctx, name, (pg_linear *)(void *)(base + kinds[i].at), e) : pg_error_nomem(e);
                free(name);
            }
        if (!dec && !rc) rc = fn(ctx, HEAD, &m->head, e);
    }
    return rc;
}

static void count(pg_lora_counts *n, const char *name, size_t rank)
{
    if (!strcmp(name, HEAD)) n->head++;
    else if (!strncmp(name, "vision", 6)) n->tower++;
    else n->language++;
    if (rank > n->rank) n->rank = rank;
}

static int new_set(pg_model *m, size_t most, pg_err *e)
{
    m->lora = pg_calloc(1, sizeof *m->lora);
    if (m->lora && (m->lora->s = pg_calloc(most, sizeof(slot)))) return PG_OK;
    return pg_error_nomem(e);
}

/* Scratch for the largest rank, then the layers are told. */
static int attach(pg_model *m, size_t rank, pg_err *e)
{
    pg_work *w = ((pg_owned *)m->owned)->vectors;
    float *down = pg_work_rows(w, PG_LORA_ROWS, rank, e), *back = down ? pg_work_rows(w, PG_LORA_ROWS, rank, e) : NULL;
    if (!back) return e && e->code ? e->code : PG_ENOMEM;
    for (size_t i = 0; i < m->lora->n; i++) {
        slot *s = &m->lora->s[i];
        s->lora.down = down;
        s->lora.back = back;
        s->l->lora = &s->lora;
    }
    return PG_OK;
}

/* ---- to be trained ---- */
typedef struct maker {
    pg_model *m;
    const regex_t *re;
    size_t rank;
    double alpha;
    pg_rng rng;
    pg_lora_counts *n;
} maker;

/* Whether a gradient has to reach it is told by the beginning of a parameter's name, as everywhere. */
static char *param_name(const char *module, char factor)
{
    const char *front = !strcmp(module, HEAD) ? "img/head/" : !strncmp(module, "vision", 6) ? "img/" : "llm/layers/";
    return pg_format("%s%s/lora_%c", front, module, factor);
}

static int new_factor(maker *k, slot *s, size_t which, size_t rows, size_t cols, pg_err *e)
{
    pg_param *p = &k->m->params[k->m->n_params];
    pg_work *w = ((pg_owned *)k->m->owned)->vectors;
    *p = (pg_param){.layers = 1, .per_layer = rows * cols, .count = rows * cols};
    if (!(s->params[which] = param_name(s->name, which ? 'B' : 'A'))) return pg_error_nomem(e);
    p->name = s->params[which];
    p->w = pg_work_rows(w, rows, cols, e);
    if (!p->w) return e && e->code ? e->code : PG_ENOMEM;
    if (!(p->g = pg_floats(p->count))) return pg_error_nomem(e);
    memset(p->w, 0, p->count * sizeof *p->w);
    double most = 1.0 / sqrt((double)cols);
    for (size_t i = 0; !which && i < p->count; i++) p->w[i] = (float)(most * (2 * pg_rng_double(&k->rng) - 1));
    k->m->n_params++;
    return PG_OK;
}

static int make(void *ctx, const char *name, pg_linear *l, pg_err *e)
{
    maker *k = ctx;
    int yes = pg_regex_matches(k->re, name, e);
    if (yes != 1) return yes;
    slot *s = &k->m->lora->s[k->m->lora->n++];
    *s = (slot){.l = l, .name = pg_strdup(name)};
    if (!s->name) return pg_error_nomem(e);
    pg_param *p = &k->m->params[k->m->n_params];
    int rc = new_factor(k, s, 0, k->rank, l->in, e);
    if (rc || (rc = new_factor(k, s, 1, l->out, k->rank, e))) return rc;
    s->lora = (struct pg_lora){.rank = k->rank, .scale = (float)(k->alpha / (double)k->rank), .a = p[0].w, .ga = p[0].g, .b = p[1].w, .gb = p[1].g};
    count(k->n, name, k->rank);
    return PG_OK;
}

int pg_lora_create(pg_model *m, const char *targets, size_t rank, double alpha, uint64_t seed, pg_lora_counts *n, pg_err *e)
{
    regex_t re;
    size_t most = m->s.vit_depth * 6 + m->s.depth * 7 + 1;
    maker k = {.m = m, .re = &re, .rank = rank, .alpha = alpha, .n = n};
    *n = (pg_lora_counts){0};
    if (m->n_params || m->lora || !rank) return pg_error(e, PG_EINVAL, "an adapter of rank %zu beside other trained weights is not possible", rank);
    int rc = regcomp(&re, targets, REG_EXTENDED | REG_NOSUB);
    if (rc) {
        char why[128];
        regerror(rc, &re, why, sizeof why);
        return pg_error(e, PG_EINVAL, "'%s' is not a regular expression: %s", targets, why);
    }
    pg_rng_seed(&k.rng, seed, 0x10aa); /* a stream apart from that of the permutations */
    free(m->params);
    if (!(m->params = pg_calloc(2 * most, sizeof *m->params))) rc = pg_error_nomem(e);
    if (!rc && !(rc = new_set(m, most, e))) rc = each_module(m, make, &k, e);
    regfree(&re);
    if (!rc && !m->n_params)
        rc = pg_error(e, PG_EINVAL, "'%s' matches no linear layer; names are language_model.layers.0.self_attn.q_proj, ...mlp.gate_proj, "
                      "vision_tower.vision_model.encoder.layers.0.self_attn.out_proj, ...mlp.fc1, " HEAD, targets);
    return rc ? rc : attach(m, rank, e);
}

int pg_lora_save(const pg_model *m, const char *dir, double alpha, pg_err *e)
{
    size_t n = m->lora ? m->lora->n : 0;
    pg_lora_factors *f = pg_alloc(n, sizeof *f);
    if (!f) return pg_error_nomem(e);
    for (size_t i = 0; i < n; i++) {
        const slot *s = &m->lora->s[i];
        f[i] = (pg_lora_factors){.name = s->name, .rank = s->lora.rank, .in = s->l->in, .out = s->l->out, .a = s->lora.a, .b = s->lora.b};
    }
    int rc = pg_adapter_save(dir, f, n, alpha, m->weights, e);
    free(f);
    return rc;
}

/* ---- to be used ---- */
typedef struct finder {
    pg_model *m;
    const pg_adapter *a;
    pg_lora_counts *n;
    size_t found;
} finder;

static const float *widened(finder *f, const pg_weight *t, pg_err *e)
{
    pg_view v = {.data = t->data, .dtype = t->dtype, .ndim = 1, .shape = {t->count}, .stride = {1}, .count = t->count, .from = t};
    float *p = pg_work_floats(((pg_owned *)f->m->owned)->vectors, t->count, e);
    if (p) pg_view_widen(&v, p);
    return p;
}

static int take(void *ctx, const char *name, pg_linear *l, pg_err *e)
{
    finder *f = ctx;
    const pg_lora_module *x = NULL;
    for (size_t i = 0; i < pg_adapter_count(f->a) && !x; i++)
        if (!strcmp(pg_adapter_at(f->a, i)->name, name)) x = pg_adapter_at(f->a, i);
    if (!x) return PG_OK;
    if (x->in != l->in || x->out != l->out)
        return pg_error(e, PG_EFORMAT, "the adapter '%s' is of another model: module '%s' is [%zu, %zu] there, [%zu, %zu] in '%s'", pg_adapter_path(f->a), name,
                        x->out, x->in, l->out, l->in, pg_weights_path(f->m->weights));
    slot *s = &f->m->lora->s[f->m->lora->n];
    *s = (slot){.l = l, .lora = {.rank = x->rank, .scale = (float)x->scale}};
    if (!(s->lora.a = widened(f, x->a, e)) || !(s->lora.b = widened(f, x->b, e))) return e && e->code ? e->code : PG_ENOMEM;
    if (!pg_all_finite(f->m->kern, s->lora.a, x->a->count) || !pg_all_finite(f->m->kern, s->lora.b, x->b->count))
        return pg_error(e, PG_EFORMAT, "the adapter '%s' holds values that are not finite in '%s'", pg_adapter_path(f->a), name);
    f->m->lora->n++;
    f->found++;
    count(f->n, name, x->rank);
    return PG_OK;
}

int pg_lora_load(pg_model *m, const char *path, pg_lora_counts *n, bool *foreign, pg_err *e)
{
    pg_adapter *a;
    *n = (pg_lora_counts){0};
    if (m->lora) return pg_error(e, PG_EINVAL, "'%s': the model has an adapter already", path);
    int rc = pg_adapter_open(&a, path, e);
    if (rc) return rc;
    finder f = {.m = m, .a = a, .n = n};
    if (!(rc = new_set(m, pg_adapter_count(a), e)) && !(rc = each_module(m, take, &f, e)) && f.found < pg_adapter_count(a))
        rc = pg_error(e, PG_EFORMAT, "the adapter '%s' is of another model: %zu of its %zu modules have no place in '%s'", pg_adapter_path(a),
                      pg_adapter_count(a) - f.found, pg_adapter_count(a), pg_weights_path(m->weights));
    if (!rc && !(rc = attach(m, n->rank, e))) rc = pg_adapter_is_foreign(a, m->weights, foreign, e);
    pg_adapter_close(a);
    return rc;
}

void pg_lora_free(pg_model *m)
{
    if (!m->lora) return;
    for (size_t i = 0; m->lora->s && i < m->lora->n; i++) {
        free(m->lora->s[i].name);
        free(m->lora->s[i].params[0]);
        free(m->lora->s[i].params[1]);
    }
    free(m->lora->s);
    free(m->lora);
    m->lora = NULL;
}
