#include "train/optim.h"

#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "base/num.h"

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

static void sgd(pg_optim *o, pg_model *m, size_t i, double lr, double scale)
{
    pg_param *p = &m->params[i];
    if (!o->mu) {
        pg_sgd(m->kern, p->w, p->g, (float)(lr * scale), p->count);
        return;
    }
    trace t = {o->mu[i], p->g, (float)o->momentum, (float)scale, p->count};
    pg_pool_run(pg_kern_pool(m->kern), (p->count + CHUNK - 1) / CHUNK, trace_chunk, &t);
    pg_sgd(m->kern, p->w, o->mu[i], (float)lr, p->count);
}

static void update(pg_optim *o, pg_model *m, size_t i, double schedule, double scale)
{
    pg_param *p = &m->params[i];
    double wd = o->weight_decay * (o->decay ? o->decay[i] : pg_ends_with(p->name, "/kernel")), lr = o->lr * (o->lr_mult ? o->lr_mult[i] : 1);
    if (o->kind == PG_SGD) {
        if (wd > 0) pg_axpy(m->kern, p->w, (float)(-schedule * wd), p->w, p->count);
        sgd(o, m, i, lr * schedule, scale);
        return;
    }
    pg_adamw_args a = {(float)lr, (float)schedule, (float)wd, (float)o->b1, (float)o->b2, (float)o->eps, (float)(1 - pow(o->b1, (double)o->count)),
                       (float)(1 - pow(o->b2, (double)o->count)), (float)scale};
    pg_adamw(m->kern, p->w, o->mu[i], o->nu[i], p->g, &a, p->count);
}

int pg_optim_step(pg_optim *o, pg_model *m, double schedule, double *norm, bool *changed, pg_err *e)
{
    double sum = 0, scale = o->grad_scale > 0 ? o->grad_scale : 1.0;
    for (size_t i = 0; i < m->n_params; i++) sum += pg_sum_squares(m->kern, m->params[i].g, m->params[i].count);
    *norm = scale * sqrt(sum);
    if (!isfinite(*norm)) return pg_error(e, PG_FAIL, "the gradient is not finite");
    if (o->clip > 0 && *norm >= o->clip) scale *= o->clip / *norm;
    o->count++;
    *changed = false;
    for (size_t i = 0; i < m->n_params; i++) {
        pg_param *p = &m->params[i];
        double before = *changed ? 0 : pg_sum_squares(m->kern, p->w, p->count);
        update(o, m, i, schedule, scale);
        /* A sum of squares in double moves with any change that matters; equal sums mean the step was lost in rounding. */
        double after = pg_sum_squares(m->kern, p->w, p->count);
        if (!pg_all_finite(m->kern, p->w, p->count)) return pg_error(e, PG_FAIL, "a weight of '%s' is not finite any more", p->name);
        if (!*changed) *changed = before > after || before < after;
    }
    return PG_OK;
}
