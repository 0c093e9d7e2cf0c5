/* Sizes from shapes: every tensor's axes carry letters (names.c); the first tensor to show a letter sets it, all others must agree. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/internal.h"

/* Far above every model that exists; products of sizes stay far below 2^64. */
enum { MOST_SIDE = 1 << 16, MOST_PLACES = 1 << 20, MOST_LAYERS = 1 << 12, MOST_ELSE = 1 << 24, PUBLISHED_TOKENS = 257152 };

typedef struct resolver {
    pg_weights *w;
    int family;
    pg_err *e;
    pg_config c;
} resolver;

void pg_shape_text(char *buf, size_t n, const size_t *shape, size_t ndim)
{
    size_t k = (size_t)snprintf(buf, n, "(");
    for (size_t i = 0; i < ndim && k < n; i++)
        k += (size_t)snprintf(buf + k, n - k, i ? ", %zu" : "%zu", shape[i]);
    if (k < n)
        snprintf(buf + k, n - k, ")");
}

/* ---- letters ---- */
static size_t known(const pg_dims *d, char ch)
{
    return ch >= '1' && ch <= '3' ? (size_t)(ch - '0') : d->of[(unsigned char)ch];
}

/* Text of the shape that letters ask for, "?" where it is not known. */
static void expected(char *buf, size_t n, const pg_dims *d, const char *letters, bool groups)
{
    size_t k = (size_t)snprintf(buf, n, "(");
    for (const char *s = letters; *s && k < n;) {
        size_t v = 1;
        do
            v *= known(d, *s++);
        while (groups && *s && *s != ',');
        if (groups && *s == ',')
            s++;
        k += v ? (size_t)snprintf(buf + k, n - k, k > 1 ? ", %zu" : "%zu", v) : (size_t)snprintf(buf + k, n - k, k > 1 ? ", ?" : "?");
    }
    if (k < n)
        snprintf(buf + k, n - k, ")");
}

/* One axis against its letters; at most one of them may be new. */
static bool bind_axis(pg_dims *d, const char *letters, size_t n, size_t found)
{
    size_t product = 1;
    char open = 0;
    if (!found)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t v = known(d, letters[i]);
        if (v && !pg_mul(product, v, &product))
            return false;
        if (!v && open)
            return false;
        if (!v)
            open = letters[i];
    }
    if (!open)
        return found == product;
    if (found % product)
        return false;
    d->of[(unsigned char)open] = found / product;
    return true;
}

/* groups: commas part the axes (safetensors); else every letter is one. */
static int bind(resolver *r, const pg_weight *t, const char *letters, bool groups)
{
    pg_dims *d = &r->w->dims;
    size_t axis = 0;
    const char *s = letters;
    bool good = true;
    while (good && *s) {
        size_t n = 1;
        while (groups && s[n] && s[n] != ',')
            n++;
        good = axis < t->ndim && bind_axis(d, s, n, t->shape[axis]);
        axis++;
        s += n + (groups && s[n] == ',');
    }
    if (good && axis == t->ndim)
        return PG_OK;
    char found[100], want[100];
    pg_shape_text(found, sizeof found, t->shape, t->ndim);
    expected(want, sizeof want, d, letters, groups);
    return pg_error(r->e, PG_EFORMAT, "'%s': tensor '%s' has shape %s, expected %s", r->w->path, t->name, found, want);
}

/* ---- which stored tensor is which ---- */
static const pg_weight *take(resolver *r, const char *plain)
{
    const pg_weight *t = pg_weights_find(r->w, plain);
    if (t)
        r->w->t[(const pg_tensor_entry *)(const void *)t - r->w->t].used = true;
    return t;
}

static int missing(resolver *r, const char *name)
{
    return pg_error(r->e, PG_EFORMAT, "'%s' is not a PaliGemma checkpoint: no tensor '%s'", r->w->path, name);
}

/* Name of one layer: safetensors', or big_vision's where layers are not stacked. */
static char *layer_name(const pg_weights *w, const pg_name *n, size_t layer, size_t part)
{
    static const char vit[] = "img/Transformer/encoderblock", text[] = "llm/layers";
    if (w->format == PG_SAFETENSORS)
        return pg_layer_name(n->hf[part], layer);
    if (n->stacked == PG_VIT_LAYERS)
        return pg_format("%s_%zu%s", vit, layer, n->name + sizeof vit - 1);
    return pg_format("%s/%zu%s", text, layer, n->name + sizeof text - 1);
}

static int one_layer(resolver *r, const pg_name *n, size_t layer, size_t part, const pg_weight **t)
{
    char *name = layer_name(r->w, n, layer, part);
    if (!name)
        return pg_error_nomem(r->e);
    *t = take(r, name);
    int rc = *t ? PG_OK : missing(r, name);
    free(name);
    if (rc)
        return rc;
    bool hf = r->w->format == PG_SAFETENSORS;
    return bind(r, *t, hf ? n->hf_dims : n->dims, hf);
}

/* Layers counted by a tensor that every layer has; a gap shows later as a tensor left over. */
static int count_layers(resolver *r, int stacked, size_t *depth)
{
    const pg_name *n = pg_names;
    while (n->stacked != stacked)
        n++;
    for (*depth = 0;; ++*depth) {
        char *name = layer_name(r->w, n, *depth, 0);
        if (!name)
            return pg_error_nomem(r->e);
        bool there = pg_weights_find(r->w, name);
        if (!there && !*depth)
            return missing(r, name), free(name), PG_EFORMAT;
        free(name);
        if (!there)
            return PG_OK;
    }
}

static int stacked_source(resolver *r, const pg_name *n, pg_resolved *x, const pg_weight **t)
{
    char letters[10], layer = n->stacked == PG_VIT_LAYERS ? 'L' : 'J';
    *t = take(r, n->name);
    if (*t) {
        snprintf(letters, sizeof letters, "%c%s", layer, n->dims);
        x->stacked = true;
        return bind(r, *t, letters, false);
    }
    bool q = !strcmp(n->name, "llm/layers/attn/q_einsum/w"), kv = !strcmp(n->name, "llm/layers/attn/kv_einsum/w");
    if ((q || kv) && (*t = take(r, "llm/layers/attn/qkv_einsum/w"))) {
        x->stacked = true;
        x->first = kv;
        r->w->dims.of['K'] = (*t)->ndim == 5 ? (*t)->shape[2] : 0;
        return bind(r, *t, "J3NDH", false);
    }
    return PG_OK;
}

static int resolve_one(resolver *r, const pg_name *n, pg_resolved *x, pg_canonical *c)
{
    pg_weights *w = r->w;
    const pg_weight *t = NULL;
    int rc = PG_OK;
    *x = (pg_resolved){.n = n};
    *c = (pg_canonical){.name = n->name, .parts = w->format == PG_SAFETENSORS && n->pieces ? 2 : 0};
    size_t parts = c->parts ? 2 : 1, count = 1;
    char letter = n->stacked == PG_VIT_LAYERS ? 'L' : 'J';
    if (!n->stacked) {
        t = take(r, w->format == PG_NPZ ? n->name : n->hf[0]);
        if (!t)
            return missing(r, w->format == PG_NPZ ? n->name : n->hf[0]);
        rc = bind(r, t, w->format == PG_NPZ ? n->dims : n->hf_dims, w->format != PG_NPZ);
    } else {
        if (w->format == PG_NPZ && (rc = stacked_source(r, n, x, &t)))
            return rc;
        size_t *depth = &w->dims.of[(unsigned char)letter];
        if (!t && !*depth && (rc = count_layers(r, n->stacked, depth)))
            return rc;
        c->layers = *depth;
        if (!t)
            count = *depth * parts;
    }
    if (rc)
        return rc;
    if (!(x->src = pg_calloc(count, sizeof *x->src)))
        return pg_error_nomem(r->e);
    x->src[0] = t;
    for (size_t i = 0; !rc && n->stacked && !t && i < count; i++)
        rc = one_layer(r, n, i / parts, i % parts, &x->src[i]);
    if (t && x->stacked)
        x->layer_elements = t->count / t->shape[0];
    return rc;
}

static int agree(const resolver *r, const char *what, size_t said, size_t found)
{
    if (!said || said == found)
        return PG_OK;
    return pg_error(r->e, PG_EFORMAT, "'%s': config.json says %zu %s, its tensors have %zu", r->w->path, said, what, found);
}

/* What shapes alone cannot tell in safetensors, where heads and their sizes are one axis. */
static int heads_of_safetensors(resolver *r)
{
    pg_dims *d = &r->w->dims;
    const pg_weight *q = pg_weights_find(r->w, "language_model.layers.0.self_attn.q_proj.weight");
    const pg_weight *v = pg_weights_find(r->w, "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight");
    size_t rows = q && q->ndim == 2 ? q->shape[0] : 0, width = v && v->ndim == 2 ? v->shape[0] : 0;
    /* A configuration without the number would mean 12 to transformers, which no published tower has. */
    d->of['A'] = r->c.vit_heads ? r->c.vit_heads : width == 1152 && !r->c.vision ? 16 : 0;
    if (width && !d->of['A'])
        return pg_error(r->e, PG_EFORMAT, "'%s': the image tower's number of heads is not known: %s", r->w->path,
                        r->c.json ? "vision_config in config.json has no num_attention_heads" : "no config.json beside it");
    if (width % (d->of['A'] ? d->of['A'] : 1))
        return pg_error(r->e, PG_EFORMAT, "'%s': config.json says %zu heads of the image tower, which its width of %zu cannot be shared by", r->w->path,
                        d->of['A'], width);
    size_t usual = rows && q->shape[1] == 4608 && !r->c.text ? 128 : 256; /* the 27B decoder alone has smaller heads */
    d->of['H'] = r->c.head_dim ? r->c.head_dim : usual;
    if (rows % d->of['H'])
        return pg_error(r->e, PG_EFORMAT, "'%s': '%s' has %zu rows, which are not heads of %zu dimensions%s", r->w->path, q->name, rows, d->of['H'],
                        r->c.head_dim ? ", as config.json says" : r->c.text ? ", which a config.json without head_dim means" : ": no config.json beside it");
    return PG_OK;
}

static int check_sizes(resolver *r)
{
    const size_t *d = r->w->dims.of;
    const char *path = r->w->path;
    pg_model_shape *s = &r->w->shape;
    size_t side = 0;
    for (const char *c = "PYLJWMABDFNKHV"; *c; c++)
        if (d[(unsigned char)*c] > (*c == 'P' ? MOST_PLACES : *c == 'L' || *c == 'J' ? MOST_LAYERS : *c == 'Y' ? MOST_SIDE : MOST_ELSE))
            return pg_error(r->e, PG_ELIMIT, "'%s': a size of %zu is none of a PaliGemma", path, d[(unsigned char)*c]);
    while (side * side < d['P'])
        side++;
    if (side * side != d['P'])
        return pg_error(r->e, PG_EFORMAT, "'%s': %zu image tokens are not a square", path, d['P']);
    if (side * d['Y'] > MOST_SIDE)
        return pg_error(r->e, PG_ELIMIT, "'%s': pictures of %zu pixels a side are none of a PaliGemma", path, side * d['Y']);
    if (d['N'] % d['K'])
        return pg_error(r->e, PG_EFORMAT, "'%s': %zu heads cannot share %zu key heads", path, d['N'], d['K']);
    if (d['H'] % 2)
        return pg_error(r->e, PG_EFORMAT, "'%s': head size %zu is odd: no rotary positions", path, d['H']);
    *s = (pg_model_shape){.family = r->family, .patch = d['Y'], .n_image = d['P'], .image_size = d['Y'] * side, .vit_width = d['W'],
                          .vit_depth = d['L'], .vit_mlp = d['M'], .vit_heads = d['A'], .vit_head_dim = d['B'], .width = d['D'], .depth = d['J'],
                          .mlp = d['F'], .heads = d['N'], .kv_heads = d['K'], .head_dim = d['H'], .vocab = d['V'], .vocab_rows = d['V']};
    int rc;
    if ((rc = agree(r, "image layers", r->c.vit_depth, s->vit_depth)) || (rc = agree(r, "text layers", r->c.depth, s->depth)) ||
        (rc = agree(r, "text heads", r->c.heads, s->heads)) || (rc = agree(r, "key heads", r->c.kv_heads, s->kv_heads)))
        return rc;
    if (r->w->format != PG_SAFETENSORS)
        return PG_OK;
    /* 64 rows are added to the real vocabulary when it is converted; they mean nothing. */
    size_t token = r->c.image_token ? r->c.image_token : s->vocab_rows == 257216 ? PUBLISHED_TOKENS : s->vocab_rows;
    if (token > s->vocab_rows)
        return pg_error(r->e, PG_EFORMAT, "'%s': config.json says image_token_index %zu, the embedding has %zu rows", path, token, s->vocab_rows);
    if (s->vocab_rows >= PUBLISHED_TOKENS && token < PUBLISHED_TOKENS)
        return pg_error(r->e, PG_EFORMAT, "'%s': config.json says image_token_index %zu, which is one of the %d tokens", path, token, PUBLISHED_TOKENS);
    s->vocab = token;
    return PG_OK;
}

/* Gemma 2's sizes without its norms: a conversion that lost them would compute as Gemma 1 does, and nothing but the captions would tell. */
static int check_family(resolver *r)
{
    static const size_t second[][2] = {{2304, 9216}, {3584, 14336}, {4608, 36864}}; /* width and mlp of 2B, 9B, 27B */
    const pg_model_shape *s = &r->w->shape;
    for (size_t i = 0; r->family == 1 && i < sizeof second / sizeof *second; i++)
        if (s->width == second[i][0] && s->mlp == second[i][1])
            return pg_error(r->e, PG_EFORMAT, "'%s': a language model of %zu by %zu is PaliGemma 2's, but its post_attention_norm and post_ffw_norm are missing",
                            r->w->path, s->width, s->mlp);
    return PG_OK;
}

static int check_leftovers(resolver *r)
{
    static const char *const ours[] = {"img/", "llm/", "vision_tower.", "language_model.", "multi_modal_projector."};
    const pg_weights *w = r->w;
    for (size_t i = 0; i < w->n; i++) {
        const char *plain = w->t[i].plain;
        if (w->t[i].used || w->t[i].is_scale || pg_is_head(plain))
            continue;
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
            if (!strncmp(plain, ours[k], strlen(ours[k])))
                return pg_error(r->e, PG_EFORMAT, "'%s': tensor '%s' has no place in a PaliGemma %d (or a layer before it is missing)", w->path,
                                w->t[i].name, r->family);
    }
    return PG_OK;
}

static bool second_family(const pg_weights *w)
{
    if (w->format == PG_SAFETENSORS)
        return pg_weights_find(w, "language_model.layers.0.pre_feedforward_layernorm.weight");
    return pg_weights_find(w, "llm/layers/post_attention_norm/scale") || pg_weights_find(w, "llm/layers/0/post_attention_norm/scale");
}

static void fill_shapes(pg_weights *w)
{
    pg_dims d = w->dims;
    d.of['V'] = w->shape.vocab;
    for (size_t i = 0; i < w->n_canon; i++) {
        pg_canonical *c = &w->canon[i];
        size_t count = c->layers ? c->layers : 1;
        for (const char *s = w->res[i].n->dims; *s; s++)
            count *= c->shape[c->ndim++] = known(&d, *s);
        w->shape.parameters += count;
    }
}

int pg_weights_resolve(pg_weights *w, pg_err *e)
{
    resolver r = {.w = w, .family = 1 + second_family(w), .e = e};
    int rc = PG_OK;
    w->dims.of['C'] = 3;
    w->canon = pg_calloc(pg_n_names, sizeof *w->canon);
    w->res = pg_calloc(pg_n_names, sizeof *w->res);
    if (!w->canon || !w->res) {
        rc = pg_error_nomem(e);
        goto out;
    }
    if ((rc = pg_config_read(w, &r.c, e)) || (w->format == PG_SAFETENSORS && (rc = heads_of_safetensors(&r))))
        goto out;
    for (size_t i = 0; !rc && i < pg_n_names; i++) {
        if (!pg_name_in(&pg_names[i], r.family))
            continue;
        rc = resolve_one(&r, &pg_names[i], &w->res[w->n_canon], &w->canon[w->n_canon]);
        w->n_canon++;
    }
    if (rc || (rc = check_sizes(&r)) || (rc = check_family(&r)) || (rc = check_leftovers(&r)) || (rc = pg_config_check(&r.c, &w->shape, e)) ||
        (rc = pg_tied_find(w, e)))
        goto out;
    fill_shapes(w);
out:
    pg_config_free(&r.c);
    return rc;
}
