/* W + scale * B A while W passes: the product is made line by line, so that nothing of a matrix's size is held. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights/adapter.h"
#include "weights/internal.h"

/* An axis of what passes: by how much one step on it moves on in the module's inputs, its outputs, or from its first piece to the second. */
typedef struct axis {
    size_t size, in, out, piece;
} axis;

struct pg_merge {
    const pg_weights *base;
    const pg_adapter *a;
    const pg_lora_module *piece[2]; /* of the view that passes; only the first of tensors that are in one */
    axis axes[PG_MAX_DIMS];
    size_t n_axes;
    const pg_lora_module *held; /* whose factors are in fa [rank, in] and fb [rank, out], the latter scaled */
    float *fa, *fb, *line;
};

/* The canonical tensor that a module belongs to. */
static size_t canonical_of(const pg_weights *w, const pg_lora_module *m)
{
    size_t i = 0;
    while (i < w->n_canon && strcmp(w->canon[i].name, m->canonical) != 0)
        i++;
    return i;
}

static int check(const pg_merge *m, const pg_lora_module *x, pg_err *e)
{
    const pg_weights *w = m->base;
    size_t i = canonical_of(w, x), in = 1, out = 1;
    if (i == w->n_canon || x->layer >= (w->canon[i].layers ? w->canon[i].layers : 1))
        return pg_error(e, PG_EFORMAT, "'%s' has no module '%s', which the adapter '%s' changes", w->path, x->name, pg_adapter_path(m->a));
    const char *h = w->res[i].n->hf_dims;
    for (; *h != ','; h++)
        out *= w->dims.of[(unsigned char)*h];
    while (*++h)
        in *= w->dims.of[(unsigned char)*h];
    if (out != x->out || in != x->in)
        return pg_error(e, PG_EFORMAT, "the adapter '%s' is of another model: module '%s' is [%zu, %zu] there, [%zu, %zu] in '%s'", pg_adapter_path(m->a), x->name,
                        x->out, x->in, out, in, w->path);
    return PG_OK;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

int pg_merge_new(pg_merge **out, const pg_weights *base, const pg_adapter *a, pg_err *e)
{
    *out = NULL;
    pg_merge *m = pg_calloc(1, sizeof *m);
    if (!m)
        return pg_error_nomem(e);
    m->base = base;
    m->a = a;
    size_t line = 0, na = 0, nb = 0;
    int rc = base->why.code ? pg_error(e, base->why.code, "%s", base->why.msg) : PG_OK;
    for (size_t i = 0; !rc && i < pg_adapter_count(a); i++) {
        const pg_lora_module *x = pg_adapter_at(a, i);
        rc = check(m, x, e);
        line = most(line, most(x->out, x->in));
        na = most(na, x->a->count);
        nb = most(nb, x->b->count);
    }
    if (!rc && (!(m->line = pg_alloc(line, sizeof *m->line)) || !(m->fa = pg_alloc(na, sizeof *m->fa)) || !(m->fb = pg_alloc(nb, sizeof *m->fb))))
        rc = pg_error_nomem(e);
    if (rc)
        pg_merge_free(m);
    else
        *out = m;
    return rc;
}

void pg_merge_free(pg_merge *m)
{
    if (!m)
        return;
    free(m->line);
    free(m->fa);
    free(m->fb);
    free(m);
}

bool pg_merge_touches(const pg_merge *m, const char *canonical, size_t layer, size_t part)
{
    for (size_t i = 0; i < pg_adapter_count(m->a); i++) {
        const pg_lora_module *x = pg_adapter_at(m->a, i);
        if (!strcmp(x->canonical, canonical) && (layer == PG_WHOLE || x->layer == layer) && (part == PG_WHOLE || x->part == part))
            return true;
    }
    return false;
}

/* The step of a letter in the inputs or outputs of safetensors' (out,in): the product of the sizes behind it in its group. */
static axis axis_of(const pg_weights *w, const pg_name *n, char letter)
{
    const char *comma = strchr(n->hf_dims, ','), *h = strchr(n->hf_dims, letter);
    size_t step = 1;
    if (!h)
        return (axis){.size = 2, .piece = 1};
    for (const char *p = h + 1; *p && *p != ','; p++)
        step *= w->dims.of[(unsigned char)*p];
    return (axis){.size = w->dims.of[(unsigned char)letter], .in = h > comma ? step : 0, .out = h > comma ? 0 : step};
}

int pg_merge_begin(pg_merge *m, size_t canon, size_t layer, size_t part, bool as_hf, pg_err *e)
{
    const pg_weights *w = m->base;
    const pg_name *n = w->res[canon].n;
    m->n_axes = 0;
    m->piece[0] = m->piece[1] = NULL;
    if (!pg_name_is_matrix(n))
        return pg_error(e, PG_FAIL, "'%s' is no matrix", n->name);
    for (const char *s = as_hf ? n->hf_dims : n->dims + (part != PG_WHOLE); *s; s++)
        if (*s != ',')
            m->axes[m->n_axes++] = axis_of(w, n, *s);
    for (size_t i = 0; i < pg_adapter_count(m->a); i++) {
        const pg_lora_module *x = pg_adapter_at(m->a, i);
        if (!strcmp(x->canonical, n->name) && x->layer == layer && (part == PG_WHOLE || x->part == part))
            m->piece[part == PG_WHOLE && x->part == 1] = x;
    }
    return PG_OK;
}

static void hold(pg_merge *m, const pg_lora_module *x)
{
    if (m->held == x)
        return;
    pg_view a = pg_view_raw(x->a), b = pg_view_raw(x->b);
    b.shape[0] = x->rank;
    b.shape[1] = x->out;
    b.stride[0] = 1;
    b.stride[1] = x->rank;
    pg_view_widen(&a, m->fa);
    pg_view_widen(&b, m->fb);
    for (size_t i = 0; i < b.count; i++)
        m->fb[i] = (float)(x->scale * (double)m->fb[i]);
    m->held = x;
}

/* n values that differ in the last axis alone: inputs of one output, or outputs of one input. */
static int add_line(pg_merge *m, const pg_lora_module *x, size_t in, size_t out, float *values, size_t n, pg_err *e)
{
    bool inputs = m->axes[m->n_axes - 1].in;
    hold(m, x);
    memset(m->line, 0, n * sizeof *m->line);
    for (size_t r = 0; r < x->rank; r++) {
        const float *a = m->fa + r * x->in + in, *b = m->fb + r * x->out + out, *along = inputs ? a : b;
        float f = inputs ? *b : *a;
        for (size_t i = 0; i < n; i++)
            m->line[i] += f * along[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(m->line[i])) /* it would spoil the weights without a word */
            return pg_error(e, PG_EFORMAT, "the adapter '%s' cannot be merged: what module '%s' adds is not finite", pg_adapter_path(m->a), x->name);
        values[i] += m->line[i];
    }
    return PG_OK;
}

int pg_merge_add(pg_merge *m, size_t at, float *values, size_t n, pg_err *e)
{
    int rc = PG_OK;
    size_t last = m->axes[m->n_axes - 1].size;
    for (size_t done = 0; !rc && done < n;) {
        size_t left = at + done, in = 0, out = 0, piece = 0, run = last - left % last;
        for (size_t k = m->n_axes; k-- > 0; left /= m->axes[k].size) {
            size_t i = left % m->axes[k].size;
            in += i * m->axes[k].in;
            out += i * m->axes[k].out;
            piece += i * m->axes[k].piece;
        }
        if (run > n - done)
            run = n - done;
        if (m->piece[piece])
            rc = add_line(m, m->piece[piece], in, out, values + done, run, e);
        done += run;
    }
    return rc;
}
