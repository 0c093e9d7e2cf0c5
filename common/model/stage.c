/* Gradients: when the backward pass completes which, of which loss.c tells, and where they lie. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/loss.h"
#include "model/open.h"

/* ---- when ---- */
/* An adapter's tensors are a parameter for each layer, with its number in the name. */
static size_t layer_of(const pg_param *p, size_t layer)
{
    const char *at = strstr(p->name, ".layers.");
    return at ? (size_t)strtoul(at + strlen(".layers."), NULL, 10) : layer;
}

size_t pg_grad_stages(const pg_model *m)
{
    return m->s.depth + m->s.vit_depth + 2;
}

size_t pg_grad_stage(const pg_model *m, const pg_param *p, size_t layer)
{
    size_t l = layer_of(p, layer);
    if (!strncmp(p->name, "llm/layers/", 11)) return m->s.depth - 1 - l;
    if (!strncmp(p->name, "llm/", 4)) return m->s.depth;
    bool block = !strncmp(p->name, "img/Transformer/encoderblock/", 29) || strstr(p->name, ".layers.");
    return m->s.depth + (block ? m->s.vit_depth - l : m->s.vit_depth + 1);
}

/* Layers go from the last to the first, one a stage. */
bool pg_grad_layer(const pg_model *m, const pg_param *p, size_t stage, size_t *layer)
{
    size_t first = pg_grad_stage(m, p, 0);
    *layer = first - stage;
    return stage <= first && first - stage < p->layers;
}

/* ---- where ---- */
float *pg_grad_of(const pg_model *m, const pg_param *p, size_t layer)
{
    return m->grads_shared ? p->g : p->g + layer * p->per_layer;
}

static size_t held(const pg_model *m, const pg_param *p)
{
    return m->grads_shared ? p->per_layer : p->count;
}

size_t pg_grads_bytes(const pg_model *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_params; i++) n += held(m, &m->params[i]) * sizeof(float);
    return n;
}

void pg_grads_zero(pg_model *m)
{
    for (size_t i = 0; i < m->n_params; i++) memset(m->params[i].g, 0, held(m, &m->params[i]) * sizeof(float));
}

void pg_grads_pass_on(pg_model *m, size_t stage)
{
    size_t layer;
    for (size_t i = 0; m->grads_shared && i < m->n_params; i++) {
        const pg_param *p = &m->params[i];
        if (p->layers > 1 && pg_grad_layer(m, p, stage, &layer)) memset(p->g, 0, p->per_layer * sizeof *p->g);
    }
}

/* ---- one memory for all layers of a tensor ---- */
typedef struct move {
    const pg_model *m;
    float **to; /* of each parameter; NULL: stays */
} move;

/* A layer's pointer into the gradient of all layers becomes one into the layer's own. */
static void move_one(const move *v, float **g)
{
    for (size_t i = 0; *g && i < v->m->n_params; i++) {
        const pg_param *p = &v->m->params[i];
        size_t at = ((uintptr_t)*g - (uintptr_t)p->g) / sizeof **g; /* huge where it is before p->g */
        if (at >= p->count) continue;
        if (v->to[i]) *g = v->to[i] + at % p->per_layer;
        return;
    }
}

static void move_norm(const move *v, pg_norm *n)
{
    move_one(v, &n->gscale);
    move_one(v, &n->gbias);
}

static void move_all(const move *v, pg_model *m)
{
    pg_linear *some[PG_LINEARS];
    for (size_t i = 0; i < m->s.vit_depth + 1 + m->s.depth; i++) {
        size_t n = pg_model_linears(m, i, some);
        for (size_t j = 0; j < n; j++) {
            move_one(v, &some[j]->gw);
            move_one(v, &some[j]->gbias);
        }
    }
    for (size_t l = 0; l < m->s.vit_depth; l++) {
        move_norm(v, &m->vit[l].norm0);
        move_norm(v, &m->vit[l].norm1);
    }
    for (size_t l = 0; l < m->s.depth; l++) {
        pg_dec_layer *d = &m->dec[l];
        move_norm(v, &d->pre_attn);
        move_norm(v, &d->post_attn);
        move_norm(v, &d->pre_ffw);
        move_norm(v, &d->post_ffw);
    }
}

int pg_grads_share(pg_model *m, pg_err *e)
{
    float **to = pg_calloc(m->n_params, sizeof *to);
    bool some = false, enough = to != NULL;
    for (size_t i = 0; enough && !m->grads_shared && i < m->n_params; i++) {
        if (m->params[i].layers < 2) continue;
        some = true;
        enough = (to[i] = pg_floats(m->params[i].per_layer)) != NULL;
    }
    if (enough && some) move_all(&(move){m, to}, m);
    for (size_t i = 0; to && i < m->n_params; i++) {
        float *unused = enough && to[i] ? m->params[i].g : to[i];
        if (enough && to[i]) m->params[i].g = to[i];
        free(unused);
    }
    free(to);
    m->grads_shared = m->grads_shared || (enough && some);
    return enough ? PG_OK : pg_error_nomem(e);
}
