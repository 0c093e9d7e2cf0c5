#include "train/optim.h"

#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "base/num.h"
#include "model/loss.h"

enum { CHUNK = 1 << 16 }; /* of a task over a parameter's values */

static float **moments(const pg_model *m)
{
    float **v = pg_calloc(m->n_params, sizeof *v);
    for (size_t i = 0; v && i < m->n_params; i++)
        if (!(v[i] = pg_calloc(m->params[i].count, sizeof(float)))) {
            while (i-- > 0) free(v[i]);
            free(v);
            return NULL;
        }
    return v;
}

int pg_optim_init(pg_optim *o, const pg_model *m, pg_err *e)
{
    bool adamw = o->kind == PG_ADAMW;
    o->n = m->n_params;
    o->mu = adamw || o->momentum > 0 ? moments(m) : NULL;
    o->nu = adamw && o->mu ? moments(m) : NULL;
    if ((!adamw || o->nu) && (o->momentum <= 0 || o->mu)) return PG_OK;
    pg_optim_free(o);
    return pg_error_nomem(e);
}

static void free_moments(float **v, size_t n)
{
    for (size_t i = 0; v && i < n; i++) free(v[i]);
    free(v);
}

void pg_optim_free(pg_optim *o)
{
    free_moments(o->mu, o->n);
    free_moments(o->nu, o->n);
    free(o->lr_mult);
    free(o->decay);
    o->mu = o->nu = NULL;
    o->lr_mult = o->decay = NULL;
}

/* ---- groups ---- */
static int one_mult(double *out, bool *set, const pg_model *m, const char *entry, pg_err *e)
{
    const char *eq = strrchr(entry, '=');
    double x;
    regex_t re;
    if (!eq || eq == entry || !pg_parse_double(eq + 1, &x) || x < 0) return pg_error(e, PG_EINVAL, "'%s': not REGEX=X with a number X of at least 0", entry);
    char *pattern = pg_strndup(entry, (size_t)(eq - entry));
    if (!pattern) return pg_error_nomem(e);
    int bad = regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB);
    free(pattern);
    if (bad) {
        char why[128];
        regerror(bad, &re, why, sizeof why);
        return pg_error(e, PG_EINVAL, "'%s': not a regular expression: %s", entry, why);
    }
    bool any = false;
    int yes = 0;
    for (size_t i = 0; i < m->n_params && yes >= 0; i++)
        if (!set[i] && (yes = pg_regex_matches(&re, m->params[i].name, e)) == 1) {
            out[i] = x;
            set[i] = any = true;
        }
    regfree(&re);
    if (yes < 0) return yes;
    return any ? PG_OK : pg_error(e, PG_EINVAL, "'%s': decides for no weight that is trained, such as '%s'", entry, m->n_params ? m->params[0].name : "");
}

int pg_optim_mults(double **out, const pg_model *m, const char *const *list, size_t n, double other, pg_err *e)
{
    bool *set = pg_calloc(m->n_params, sizeof *set);
    int rc = set && (*out = pg_alloc(m->n_params, sizeof **out)) ? PG_OK : pg_error_nomem(e);
    for (size_t i = 0; !rc && i < m->n_params; i++) (*out)[i] = other;
    for (size_t i = 0; !rc && i < n; i++) rc = one_mult(*out, set, m, list[i], e);
    free(set);
    return rc;
}

/* ---- the step ---- */
typedef struct trace {
    float *mu;
    const float *g;
    float momentum, scale;
    size_t n;
} trace;

static void trace_chunk(void *ctx, size_t i, size_t thread)
{
    const trace *t = ctx;
    size_t end = (i + 1) * CHUNK < t->n ? (i + 1) * CHUNK : t->n;
    (void)thread;
    for (size_t k = i * CHUNK; k < end; k++) t->mu[k] = t->momentum * t->mu[k] + t->scale * t->g[k];
}

/* Values of a parameter that are updated together: all of them, or those of a layer. */
typedef struct part {
    const pg_param *p;
    size_t i, at, n; /* p's number; from where on, how many */
    const float *g;  /* [n] */
} part;

static void sgd(pg_optim *o, const part *t, double lr, double scale)
{
    float *w = t->p->w + t->at;
    if (!o->mu) {
        pg_sgd(o->m->kern, w, t->g, (float)(lr * scale), t->n);
        return;
    }
    trace mu = {o->mu[t->i] + t->at, t->g, (float)o->momentum, (float)scale, t->n};
    pg_pool_run(pg_kern_pool(o->m->kern), (t->n + CHUNK - 1) / CHUNK, trace_chunk, &mu);
    pg_sgd(o->m->kern, w, mu.mu, (float)lr, t->n);
}

static void update(pg_optim *o, const part *t, double scale)
{
    pg_kern *k = o->m->kern;
    float *w = t->p->w + t->at;
    double wd = o->weight_decay * (o->decay ? o->decay[t->i] : pg_ends_with(t->p->name, "/kernel")), lr = o->lr * (o->lr_mult ? o->lr_mult[t->i] : 1);
    if (o->kind == PG_SGD) {
        if (wd > 0) pg_axpy(k, w, (float)(-o->schedule * wd), w, t->n);
        sgd(o, t, lr * o->schedule, scale);
        return;
    }
    pg_adamw_args a = {(float)lr, (float)o->schedule, (float)wd, (float)o->b1, (float)o->b2, (float)o->eps, (float)(1 - pow(o->b1, (double)o->count)),
                       (float)(1 - pow(o->b2, (double)o->count)), (float)scale};
    pg_adamw(k, w, o->mu[t->i] + t->at, o->nu[t->i] + t->at, t->g, &a, t->n);
}

static int apply(pg_optim *o, const part *t, double scale)
{
    pg_kern *k = o->m->kern;
    const float *w = t->p->w + t->at;
    double before = o->changed ? 0 : pg_sum_squares(k, w, t->n);
    update(o, t, scale);
    /* A sum of squares in double moves with any change that matters; equal sums mean the step was lost in rounding. */
    double after = o->changed ? 0 : pg_sum_squares(k, w, t->n);
    if (!pg_all_finite(k, w, t->n)) return pg_error(&o->err, PG_FAIL, "a weight of '%s' is not finite any more", t->p->name);
    o->changed = o->changed || before > after || before < after;
    return PG_OK;
}

static double grad_scale(const pg_optim *o)
{
    return o->grad_scale > 0 ? o->grad_scale : 1.0;
}

/* Adds to the sum of squares; what it has become must be a number before anything is changed. */
static int measure(pg_optim *o, const float *g, size_t n)
{
    o->squares += pg_sum_squares(o->m->kern, g, n);
    return isfinite(o->squares) ? PG_OK : pg_error(&o->err, PG_FAIL, "the gradient is not finite");
}

/* All at once: measured first, since clipping wants its length. */
static void whole(pg_optim *o)
{
    const pg_model *m = o->m;
    double scale = grad_scale(o);
    for (size_t i = 0; !o->rc && i < m->n_params; i++) o->rc = measure(o, m->params[i].g, m->params[i].count);
    o->count += !o->rc;
    double norm = scale * sqrt(o->squares);
    if (o->clip > 0 && norm >= o->clip) scale *= o->clip / norm;
    for (size_t i = 0; !o->rc && i < m->n_params; i++) o->rc = apply(o, &(part){&m->params[i], i, 0, m->params[i].count, m->params[i].g}, scale);
}

/* Up to a stage whose gradients are complete; those before it are, too. */
static void staged(void *ctx, size_t stage)
{
    pg_optim *o = ctx;
    const pg_model *m = o->m;
    size_t l;
    for (; o->stage <= stage; o->stage++)
        for (size_t i = 0; !o->rc && i < m->n_params; i++) {
            const pg_param *p = &m->params[i];
            if (!pg_grad_layer(m, p, o->stage, &l)) continue;
            part t = {p, i, l * p->per_layer, p->per_layer, pg_grad_of(m, p, l)};
            if (!(o->rc = measure(o, t.g, t.n))) o->rc = apply(o, &t, grad_scale(o));
        }
}

void pg_optim_begin(pg_optim *o, pg_model *m, double schedule)
{
    o->m = m;
    o->schedule = schedule;
    o->squares = 0;
    o->stage = 0;
    o->changed = false;
    o->rc = PG_OK;
    if (!m->grads_shared) return;
    o->count++;
    m->ready = staged;
    m->ready_ctx = o;
    if (o->clip > 0) o->rc = pg_error(&o->err, PG_EINVAL, "a gradient cannot be clipped layer by layer");
}

int pg_optim_end(pg_optim *o, double *norm, bool *changed, pg_err *e)
{
    pg_model *m = o->m;
    if (m->grads_shared) {
        m->ready = NULL;
        staged(o, pg_grad_stages(m) - 1);
    } else {
        whole(o);
    }
    *norm = grad_scale(o) * sqrt(o->squares);
    *changed = o->changed;
    if (o->rc && e) *e = o->err;
    return o->rc;
}

int pg_optim_step(pg_optim *o, pg_model *m, double schedule, double *norm, bool *changed, pg_err *e)
{
    pg_optim_begin(o, m, schedule);
    return pg_optim_end(o, norm, changed, e);
}
