/* When the backward pass completes which gradient; loss.c tells of it. */
#include <stdlib.h>
#include <string.h>

#include "model/loss.h"

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
