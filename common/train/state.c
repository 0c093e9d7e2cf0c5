#include "train/state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FACTS = 5, LOSSES = 3 }; /* numbers under "step" and "losses" */

static int put(pg_npz_writer *z, const char *kind, const pg_param *p, const float *v, pg_err *e)
{
    char *key = pg_format("%s/%s", kind, p->name);
    size_t shape[] = {p->layers, p->per_layer};
    int rc = key ? pg_npz_begin(z, key, "<f4", 2, shape, e) : pg_error_nomem(e);
    free(key);
    return rc ? rc : pg_npz_data(z, v, p->count * sizeof *v, e);
}

int pg_state_save(const char *path, const pg_model *m, const pg_optim *o, const pg_progress *p, const char *fingerprint, pg_err *e)
{
    pg_npz_writer *z;
    int64_t at[FACTS] = {(int64_t)p->step, (int64_t)o->count, (int64_t)p->best_step, (int64_t)p->worse, (int64_t)p->val};
    const double losses[LOSSES] = {p->first_loss, p->last_loss, (double)p->high};
    size_t facts = FACTS, one = 1, n_losses = LOSSES, len = strlen(fingerprint);
    int rc = pg_npz_create(&z, path, e);
    if (rc) return rc;
    if ((rc = pg_npz_begin(z, "step", "<i8", 1, &facts, e)) || (rc = pg_npz_data(z, at, sizeof at, e)) ||
        (rc = pg_npz_begin(z, "best_loss", "<f8", 1, &one, e)) || (rc = pg_npz_data(z, &p->best_loss, sizeof p->best_loss, e)) ||
        (rc = pg_npz_begin(z, "losses", "<f8", 1, &n_losses, e)) || (rc = pg_npz_data(z, losses, sizeof losses, e)) ||
        (rc = pg_npz_begin(z, "fingerprint", "|u1", 1, &len, e)) || (rc = pg_npz_data(z, fingerprint, len, e)))
        goto fail;
    for (size_t i = 0; i < m->n_params; i++) {
        if ((rc = put(z, "w", &m->params[i], m->params[i].w, e))) goto fail;
        if ((o->mu && (rc = put(z, "mu", &m->params[i], o->mu[i], e))) || (o->nu && (rc = put(z, "nu", &m->params[i], o->nu[i], e)))) goto fail;
    }
    if (!(rc = pg_npz_commit(z, e))) return PG_OK;
fail:
    pg_npz_abort(z);
    return rc;
}

static int get(const pg_npz *z, const char *path, const char *kind, const pg_param *p, float *v, pg_err *e)
{
    char *key = pg_format("%s/%s", kind, p->name);
    if (!key) return pg_error_nomem(e);
    const pg_npy *a = pg_npz_find(z, key);
    int rc = PG_OK;
    if (!a || strcmp(a->descr, "<f4") || a->count != p->count) rc = pg_error(e, PG_EFORMAT, "'%s' has no '%s' of %zu floats", path, key, p->count);
    else memcpy(v, a->data, p->count * sizeof *v);
    free(key);
    return rc;
}

static bool is_machine(const char *line, size_t n)
{
    return n > 8 && !memcmp(line, "machine ", 8);
}

/* Line by line: the first that differs is named, one of the machine only noticed. That line is the last; options that only some runs name
 * stand before it, so where one side is there already, the other has an option more. */
static int compare(const char *path, const char *was, size_t n, const char *now, bool *moved, pg_err *e)
{
    static const char remedy[] = ": give the same, or remove it to begin anew";
    size_t i = 0;
    while (i < n || *now) {
        const char *end = i < n ? memchr(was + i, '\n', n - i) : NULL;
        size_t a = end ? (size_t)(end - (was + i)) : n - i, b = strcspn(now, "\n");
        bool same = a == b && !memcmp(was + i, now, a), fewer = is_machine(was + i, a) || !a, more = is_machine(now, b) || !b;
        if (!same && fewer && !more) return pg_error(e, PG_EINVAL, "'%s' is of another run: it has no '%.*s', which this run has%s", path, (int)b, now, remedy);
        if (!same && more && !fewer) return pg_error(e, PG_EINVAL, "'%s' is of another run: it has '%.*s', which this run has not%s", path, (int)a, was + i, remedy);
        if (!same && !fewer)
            return pg_error(e, PG_EINVAL, "'%s' is of another run: it has '%.*s', this run '%.*s'%s", path, (int)a, was + i, (int)b, now, remedy);
        *moved = *moved || !same;
        i += a + (i + a < n);
        now += b + (now[b] != 0);
    }
    return PG_OK;
}

int pg_state_load(const char *path, pg_model *m, pg_optim *o, pg_progress *p, const char *fingerprint, pg_err *e)
{
    pg_npz *z;
    int64_t at[FACTS];
    bool moved = false;
    int rc = pg_npz_open(&z, path, e);
    if (rc) return rc;
    const pg_npy *s = pg_npz_find(z, "step"), *f = pg_npz_find(z, "fingerprint"), *b = pg_npz_find(z, "best_loss"), *l = pg_npz_find(z, "losses");
    if (!s || !f || !b || s->count != FACTS || strcmp(s->descr, "<i8") || f->itemsize != 1 || b->count != 1 || strcmp(b->descr, "<f8")) {
        rc = pg_error(e, PG_EFORMAT, "'%s' is not a training state", path);
        goto out;
    }
    memcpy(at, s->data, sizeof at);
    if ((rc = compare(path, (const char *)f->data, f->count, fingerprint, &moved, e))) goto out;
    for (size_t i = 0; i < m->n_params; i++) {
        if ((rc = get(z, path, "w", &m->params[i], m->params[i].w, e))) goto out;
        if ((o->mu && (rc = get(z, path, "mu", &m->params[i], o->mu[i], e))) || (o->nu && (rc = get(z, path, "nu", &m->params[i], o->nu[i], e))))
            goto out;
    }
    pg_err damage;
    if ((rc = pg_npz_verify(z, &damage))) {
        rc = pg_error(e, rc, "'%s' is damaged: %s", path, damage.msg);
        goto out;
    }
    p->step = (size_t)at[0];
    o->count = (size_t)at[1];
    p->best_step = (size_t)at[2];
    p->worse = (size_t)at[3];
    memcpy(&p->best_loss, b->data, sizeof p->best_loss);
    double losses[LOSSES] = {NAN, NAN, 0};
    if (l && l->count == LOSSES && !strcmp(l->descr, "<f8")) memcpy(losses, l->data, sizeof losses);
    p->first_loss = losses[0];
    p->last_loss = losses[1];
    p->high = losses[2] > 0 && losses[2] <= (double)p->step ? (size_t)losses[2] : 0;
    p->moved = moved;
    p->other_val = p->best_step && p->val != (uint64_t)at[4];
    if (p->other_val) p->best_step = p->worse = 0;
out:
    pg_npz_close(z);
    return rc;
}
