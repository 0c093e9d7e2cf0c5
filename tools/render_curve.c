/* The points of a loss curve, gathered from events. */
#include <math.h>
#include <string.h>

#include "render.h"

static double number(const pg_rec *r, const char *key)
{
    double v;
    return pg_rec_double(r, key, &v, NULL) == 1 ? v : NAN;
}

static void halve(curve *c)
{
    for (size_t i = 0; i < CURVE_POINTS / 2; i++) {
        const curve_point *a = &c->train[2 * i], *b = a + 1;
        c->train[i] = (curve_point){(a->step + b->step) / 2, (a->loss + b->loss) / 2, (a->lr + b->lr) / 2, NAN, NAN};
    }
    c->n_train = CURVE_POINTS / 2;
    c->per_point *= 2;
}

/* A killed run may have gone on behind its last save; from there its rest repeats the same steps. */
static void go_back(curve *c, double step)
{
    size_t had = c->n_train;
    while (c->n_train && c->train[c->n_train - 1].step >= step) c->n_train--;
    while (c->n_val && c->val[c->n_val - 1].step >= step) c->n_val--;
    if (c->n_train < had) c->in_last = c->per_point;
}

void curve_add(curve *c, const pg_rec *event)
{
    text_view kind = view(event, "event");
    curve_point p = {number(event, "step"), number(event, "loss"), number(event, "lr"), number(event, "exact"), number(event, "CIDEr")};

    /* A loss that is no number has no place in a picture; the text and the report's events still tell of it. */
    if (!isfinite(p.step) || !isfinite(p.loss)) return;
    if (!isfinite(p.lr)) p.lr = 0;
    if (kind.n == 3 && !memcmp(kind.s, "val", 3)) {
        if (c->n_val < CURVE_POINTS) c->val[c->n_val++] = p;
    } else if (kind.n == 4 && !memcmp(kind.s, "step", 4)) {
        if (c->per_point == 0) c->per_point = 1;
        go_back(c, p.step);
        if (c->n_train && c->in_last < c->per_point) {
            curve_point *last = &c->train[c->n_train - 1];
            double k = (double)++c->in_last;
            last->step += (p.step - last->step) / k;
            last->loss += (p.loss - last->loss) / k;
            last->lr += (p.lr - last->lr) / k;
            return;
        }
        if (c->n_train == CURVE_POINTS) halve(c);
        c->train[c->n_train++] = p;
        c->in_last = 1;
    }
}

static void put_json_text(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s; s++)
        if (*s == '<' || *s == '"' || *s == '\\' || (unsigned char)*s < 32) fprintf(f, "\\u%04x", (unsigned)(unsigned char)*s);
        else putc(*s, f);
    putc('"', f);
}

static void put_number(FILE *f, double v)
{
    if (isfinite(v)) fprintf(f, "%.6g", v);
    else fputs("null", f);
}

static void points(FILE *f, const curve_point *p, size_t n, bool val)
{
    for (size_t i = 0; i < n; i++) {
        fprintf(f, i ? ",[%.10g," : "[%.10g,", p[i].step);
        put_number(f, p[i].loss);
        putc(',', f);
        put_number(f, val ? p[i].exact : p[i].lr);
        if (val) {
            putc(',', f);
            put_number(f, p[i].cider);
        }
        putc(']', f);
    }
}

void curves_json(FILE *f, const curve *const *c, const char *const *labels, size_t n)
{
    putc('[', f);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ",{\"label\":" : "{\"label\":", f);
        put_json_text(f, labels[i]);
        fputs(",\"train\":[", f);
        points(f, c[i]->train, c[i]->n_train, false);
        fputs("],\"val\":[", f);
        points(f, c[i]->val, c[i]->n_val, true);
        fputs("]}", f);
    }
    putc(']', f);
}
