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
        c->train[i] = (curve_point){(a->step + b->step) / 2, (a->loss + b->loss) / 2, (a->lr + b->lr) / 2};
    }
    c->n_train = CURVE_POINTS / 2;
    c->per_point *= 2;
}

void curve_add(curve *c, const pg_rec *event)
{
    text_view kind = view(event, "event");
    curve_point p = {number(event, "step"), number(event, "loss"), number(event, "lr")};

    /* A loss that is no number has no place in a picture; the text and the report's events still tell of it. */
    if (!isfinite(p.step) || !isfinite(p.loss)) return;
    if (!isfinite(p.lr)) p.lr = 0;
    if (kind.n == 3 && !memcmp(kind.s, "val", 3)) {
        if (c->n_val < CURVE_POINTS) c->val[c->n_val++] = p;
    } else if (kind.n == 4 && !memcmp(kind.s, "step", 4)) {
        if (c->per_point == 0) c->per_point = 1;
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

/* A distance between ticks of 1, 2 or 5 times a power of ten that gives about n of them. */
static double nice(double range, int n)
{
    double raw = range / n, base = pow(10, floor(log10(raw))), m = raw / base;
    return base * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

typedef struct panel {
    double x0, x1, y0, y1;         /* on paper; y0 is the bottom */
    double left, right, low, high; /* in data */
} panel;

static double px(const panel *p, double x) { return p->x0 + (x - p->left) / (p->right - p->left) * (p->x1 - p->x0); }
static double py(const panel *p, double y) { return p->y0 - (y - p->low) / (p->high - p->low) * (p->y0 - p->y1); }

static void axes(FILE *f, const panel *p, const char *name, int ticks, bool steps)
{
    double d = nice(p->high - p->low, ticks);
    fprintf(f, "<text class=\"name\" x=\"%.0f\" y=\"%.0f\">%s</text>\n", p->x0, p->y1 - 10, name);
    for (double v = ceil(p->low / d - 1e-9) * d; v <= p->high + d * 1e-6; v += d)
        fprintf(f, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">%.4g</text>\n",
                p->x0, p->x1, py(p, v), py(p, v), p->x0 - 8, py(p, v) + 4, fabs(v) < d * 1e-6 ? 0 : v);
    d = fmax(1, nice(p->right - p->left, 8));
    for (double v = ceil(p->left / d) * d; steps && v <= p->right; v += d)
        fprintf(f, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%.10g</text>\n", px(p, v), p->y0 + 18, v);
    if (steps) fprintf(f, "<text class=\"tick\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">step</text>\n", p->x1, p->y0 + 36);
}

static void line(FILE *f, const panel *p, const curve_point *c, size_t n, bool lr, const char *class)
{
    fprintf(f, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < n; i++) fprintf(f, "%.1f,%.1f ", px(p, c[i].step), py(p, lr ? c[i].lr : c[i].loss));
    fputs("\"/>\n", f);
    for (size_t i = 0; i < n && n <= 60 && !lr; i++)
        fprintf(f, "<circle class=\"%s dot\" r=\"2.5\" cx=\"%.1f\" cy=\"%.1f\"/>\n", class, px(p, c[i].step), py(p, c[i].loss));
}

static void widen(panel *p, double x, double y)
{
    p->left = fmin(p->left, x);
    p->right = fmax(p->right, x);
    p->low = fmin(p->low, y);
    p->high = fmax(p->high, y);
}

static void settle(panel *p)
{
    if (p->right <= p->left) p->right = p->left + 1;
    if (p->high <= p->low) p->high = p->low + (p->low > 0 ? p->low : 1);
}

void render_svg(FILE *f, const curve *c)
{
    panel loss = {72, 780, 300, 44, HUGE_VAL, -HUGE_VAL, 0, -HUGE_VAL}, lr = {72, 780, 440, 360, HUGE_VAL, -HUGE_VAL, 0, 0};

    fputs("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 490\" role=\"img\" aria-label=\"loss and learning rate by step\">\n"
          "<style>svg{--i:#2b3036;--s:#68717a;--g:#dde1e5;--a:#2563a8;--b:#c2571a;background:#fff;font:13px system-ui,sans-serif}\n"
          "@media(prefers-color-scheme:dark){svg{--i:#e4e7ea;--s:#9aa4ad;--g:#343b42;--a:#7db4ee;--b:#f0a06a;background:#1b1f23}}\n"
          ".name{fill:var(--i);font-weight:600}.tick{fill:var(--s)}.grid{stroke:var(--g)}polyline{fill:none;stroke-width:2;stroke-linejoin:round}\n"
          ".train{stroke:var(--a)}.val{stroke:var(--b)}.dot.train{fill:var(--a)}.dot.val{fill:var(--b)}.key.train{fill:var(--a);stroke:none}"
          ".key.val{fill:var(--b);stroke:none}</style>\n", f);
    if (c->n_train + c->n_val == 0) {
        fputs("<text class=\"name\" x=\"400\" y=\"245\" text-anchor=\"middle\">no losses in this stream</text>\n</svg>\n", f);
        return;
    }
    for (size_t i = 0; i < c->n_train; i++) {
        widen(&loss, c->train[i].step, c->train[i].loss);
        widen(&lr, c->train[i].step, c->train[i].lr);
    }
    for (size_t i = 0; i < c->n_val; i++) widen(&loss, c->val[i].step, c->val[i].loss);
    lr.left = loss.left;
    lr.right = loss.right;
    settle(&loss);
    settle(&lr);
    axes(f, &loss, "loss", 6, false);
    axes(f, &lr, "learning rate", 3, true);
    line(f, &loss, c->train, c->n_train, false, "train");
    if (c->n_val) line(f, &loss, c->val, c->n_val, false, "val");
    line(f, &lr, c->train, c->n_train, true, "train");
    fputs("<text class=\"key train\" x=\"640\" y=\"34\">training</text>\n", f);
    if (c->n_val) fputs("<text class=\"key val\" x=\"720\" y=\"34\">held out</text>\n", f);
    fputs("</svg>\n", f);
}
