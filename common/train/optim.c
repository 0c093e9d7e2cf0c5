#include "train/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

int pg_optim_init(pg_optim *o, const pg_model *m, pg_err *e)
{
    o->n = m->n_params;
    o->mu = o->nu = NULL;
    if (o->kind != PG_ADAMW) return PG_OK;
    o->mu = pg_calloc(o->n, sizeof *o->mu);
    o->nu = pg_calloc(o->n, sizeof *o->nu);
    for (size_t i = 0; o->mu && o->nu && i < o->n; i++) {
        o->mu[i] = pg_calloc(m->params[i].count, sizeof(float));
        o->nu[i] = pg_calloc(m->params[i].count, sizeof(float));
        if (!o->mu[i] || !o->nu[i]) break;
        if (i + 1 == o->n) return PG_OK;
    }
    pg_optim_free(o);
    return pg_error_nomem(e);
}

void pg_optim_free(pg_optim *o)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->mu) free(o->mu[i]);
        if (o->nu) free(o->nu[i]);
    }
    free(o->mu);
    free(o->nu);
    o->mu = o->nu = NULL;
}

int pg_optim_step(pg_optim *o, pg_model *m, double schedule, double *norm, bool *changed, pg_err *e)
{
    double sum = 0;
    for (size_t i = 0; i < m->n_params; i++) sum += pg_sum_squares(m->kern, m->params[i].g, m->params[i].count);
    *norm = sqrt(sum);
    if (!isfinite(*norm)) return pg_error(e, PG_FAIL, "the gradient is not finite");
    double scale = o->clip > 0 && *norm >= o->clip ? o->clip / *norm : 1.0;
    o->count++;
    *changed = false;
    for (size_t i = 0; i < m->n_params; i++) {
        pg_param *p = &m->params[i];
        double wd = pg_ends_with(p->name, "/kernel") ? o->weight_decay : 0;
        double before = *changed ? 0 : pg_sum_squares(m->kern, p->w, p->count);
        if (o->kind == PG_SGD) {
            if (wd > 0) pg_axpy(m->kern, p->w, (float)(-schedule * wd), p->w, p->count);
            pg_sgd(m->kern, p->w, p->g, (float)(o->lr * schedule * scale), p->count);
        } else {
            pg_adamw_args a = {(float)o->lr, (float)schedule, (float)wd, (float)o->b1, (float)o->b2, (float)o->eps,
                               (float)(1 - pow(o->b1, (double)o->count)), (float)(1 - pow(o->b2, (double)o->count)), (float)scale};
            pg_adamw(m->kern, p->w, o->mu[i], o->nu[i], p->g, &a, p->count);
        }
        /* A sum of squares in double moves with any change that matters; equal sums mean the step was lost in rounding. */
        double after = pg_sum_squares(m->kern, p->w, p->count); /* not finite where one of them is not */
        if (!isfinite(after)) return pg_error(e, PG_FAIL, "a weight of '%s' is not finite any more", p->name);
        if (!*changed) *changed = before > after || before < after;
    }
    return PG_OK;
}
