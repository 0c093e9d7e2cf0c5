/* W + scale * B A, a layer of one tensor at a time, in big_vision's order. */
#include <stdlib.h>
#include <string.h>

#include "weights/adapter.h"
#include "weights/internal.h"

struct pg_merge {
    const pg_weights *base;
    const pg_adapter *a;
    float *layer; /* the largest that is asked for */
    float *fa, *fb, *sum; /* factors widened, one row of their product */
    size_t *row, *col;    /* offsets */
};

/* The canonical tensor that a module belongs to. */
static size_t canonical_of(const pg_weights *w, const pg_lora_module *m)
{
    size_t i = 0;
    while (i < w->n_canon && strcmp(w->canon[i].name, m->canonical) != 0)
        i++;
    return i;
}

/* Offsets of the module's rows and columns, safetensors' (out,in), in a dense canonical view. */
static size_t offsets(const pg_view *v, size_t from, size_t to, size_t *at)
{
    size_t n = 1;
    for (size_t d = from; d < to; d++)
        n *= v->shape[d];
    for (size_t i = 0; at && i < n; i++) {
        size_t left = i;
        at[i] = 0;
        for (size_t d = to; d-- > from; left /= v->shape[d])
            at[i] += left % v->shape[d] * v->stride[d];
    }
    return n;
}

/* How many axes of the canonical tensor are the module's rows. */
static size_t row_axes(const pg_name *n)
{
    return (size_t)(strchr(n->hf_dims, ',') - n->hf_dims);
}

static int view_of(const pg_merge *m, const pg_lora_module *x, const float *data, pg_view *v, size_t *axes, pg_err *e)
{
    const pg_weights *w = m->base;
    size_t i = canonical_of(w, x);
    if (i == w->n_canon || x->layer >= (w->canon[i].layers ? w->canon[i].layers : 1))
        return pg_error(e, PG_EFORMAT, "'%s' has no module '%s', which the adapter '%s' changes", w->path, x->name, pg_adapter_path(m->a));
    const pg_name *n = w->res[i].n;
    int rc = pg_weights_view(w, x->canonical, x->layer, x->part, v, e);
    if (rc)
        return rc;
    *v = pg_view_dense(v, data);
    if (pg_view_as_hf(n, n->pieces, v))
        return pg_error(e, PG_FAIL, "'%s' is no matrix", x->name);
    *axes = row_axes(n);
    size_t out = offsets(v, 0, *axes, NULL), in = offsets(v, *axes, v->ndim, NULL);
    if (out != x->out || in != x->in)
        return pg_error(e, PG_EFORMAT, "the adapter '%s' is of another model: module '%s' is [%zu, %zu] there, [%zu, %zu] in '%s'", pg_adapter_path(m->a), x->name,
                        x->out, x->in, out, in, w->path);
    return PG_OK;
}

static void add_product(pg_merge *m, const pg_lora_module *x, float *data)
{
    pg_view v, a = pg_view_raw(x->a), b = pg_view_raw(x->b);
    size_t axes;
    if (view_of(m, x, data, &v, &axes, NULL)) /* cannot be: pg_merge_new has looked */
        return;
    offsets(&v, 0, axes, m->row);
    offsets(&v, axes, v.ndim, m->col);
    pg_view_widen(&a, m->fa);
    pg_view_widen(&b, m->fb);
    for (size_t o = 0; o < x->out; o++) {
        memset(m->sum, 0, x->in * sizeof *m->sum);
        for (size_t r = 0; r < x->rank; r++) {
            float s = (float)(x->scale * (double)m->fb[o * x->rank + r]);
            const float *from = m->fa + r * x->in;
            for (size_t i = 0; i < x->in; i++)
                m->sum[i] += s * from[i];
        }
        for (size_t i = 0; i < x->in; i++)
            data[m->row[o] + m->col[i]] += m->sum[i];
    }
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
    size_t rows = 0, cols = 0, layer = 0, na = 0, nb = 0;
    int rc = base->why.code ? pg_error(e, base->why.code, "%s", base->why.msg) : PG_OK;
    for (size_t i = 0; !rc && i < pg_adapter_count(a); i++) {
        const pg_lora_module *x = pg_adapter_at(a, i);
        pg_view v;
        size_t axes;
        if ((rc = view_of(m, x, NULL, &v, &axes, e)))
            break;
        rows = most(rows, x->out);
        cols = most(cols, x->in);
        layer = most(layer, v.count * (x->part == PG_WHOLE ? 1 : 2));
        na = most(na, x->a->count);
        nb = most(nb, x->b->count);
    }
    if (!rc && (!(m->row = pg_alloc(rows, sizeof *m->row)) || !(m->col = pg_alloc(cols, sizeof *m->col)) || !(m->sum = pg_alloc(cols, sizeof *m->sum)) ||
                !(m->layer = pg_alloc(layer, sizeof *m->layer)) || !(m->fa = pg_alloc(na, sizeof *m->fa)) || !(m->fb = pg_alloc(nb, sizeof *m->fb))))
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
    free(m->row);
    free(m->col);
    free(m->sum);
    free(m->layer);
    free(m->fa);
    free(m->fb);
    free(m);
}

const float *pg_merge_replace(void *ctx, const char *canonical, size_t layer, size_t part)
{
    pg_merge *m = ctx;
    pg_view v;
    bool touched = false;
    /* A tensor is replaced in all of its layers, or in none: what changes one layer makes the others be asked for too. */
    for (size_t i = 0; i < pg_adapter_count(m->a) && !touched; i++)
        touched = !strcmp(pg_adapter_at(m->a, i)->canonical, canonical);
    if (!touched || pg_weights_view(m->base, canonical, layer, part, &v, NULL))
        return NULL;
    pg_view_widen(&v, m->layer);
    for (size_t i = 0; i < pg_adapter_count(m->a); i++) {
        const pg_lora_module *x = pg_adapter_at(m->a, i);
        if (strcmp(x->canonical, canonical) != 0 || x->layer != layer || (part != PG_WHOLE && part != x->part))
            continue;
        /* A tensor of two pieces that is asked for whole holds the second behind the first. */
        add_product(m, x, m->layer + (part == PG_WHOLE && x->part != PG_WHOLE ? x->part * (v.count / 2) : 0));
    }
    return m->layer;
}
