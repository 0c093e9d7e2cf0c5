/* Loss, learning rate and held-out scores by step, as SVG: axes with units, a legend, values where the pointer rests. */
#include <math.h>
#include <string.h>

#include "render.h"

enum { WIDTH = 800, LEFT = 76, RIGHT = 784, COLOURS = 8, MOST_DOTS = 120, MOST_TICKS = 64 };

/* A distance between ticks of 1, 2 or 5 times a power of ten that gives about n of them. */
static double nice(double range, int n)
{
    double raw = range / n, base = pow(10, floor(log10(raw))), m = raw / base;
    return base * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

/* What a panel shows of a point. */
typedef double quantity(const curve_point *p);
static double loss_of(const curve_point *p) { return p->loss; }
static double lr_of(const curve_point *p) { return p->lr; }
static double exact_of(const curve_point *p) { return 100 * p->exact; }
static double cider_of(const curve_point *p) { return p->cider; }

typedef struct panel {
    const char *name, *key;        /* as people read it; in hover texts */
    quantity *train, *val;         /* NULL: not shown */
    double y0, y1;                 /* on paper; y0 is the bottom */
    double left, right, low, high; /* in data */
    int ticks;
} panel;

static double px(const panel *p, double x) { return LEFT + (x - p->left) / (p->right - p->left) * (RIGHT - LEFT); }
static double py(const panel *p, double y) { return p->y0 - (y - p->low) / (p->high - p->low) * (p->y0 - p->y1); }

static void widen(panel *p, const curve_point *c, size_t n, quantity *of)
{
    for (size_t i = 0; of && i < n; i++) {
        double y = of(&c[i]);
        p->left = fmin(p->left, c[i].step);
        p->right = fmax(p->right, c[i].step);
        if (!isfinite(y)) continue;
        p->low = fmin(p->low, y);
        p->high = fmax(p->high, y);
    }
}

static void settle(panel *p)
{
    /* Never so narrow that a tick is lost in rounding. */
    if (!(p->right - p->left > fabs(p->right) * 1e-9)) p->right = p->left + fmax(1, fabs(p->left) * 1e-6);
    if (!(p->high - p->low > fabs(p->high) * 1e-9)) p->high = p->low + (fabs(p->low) > 0 ? fabs(p->low) : 1);
    /* Room above and below: the outer ticks enclose the points. */
    double d = nice(p->high - p->low, p->ticks);
    p->high = ceil(p->high / d - 1e-9) * d;
    p->low = floor(p->low / d + 1e-9) * d;
}

static void axes(FILE *f, const panel *p, bool last)
{
    double d = nice(p->high - p->low, p->ticks);
    fprintf(f, "<text class=\"name\" x=\"%d\" y=\"%.0f\">%s</text>\n", LEFT, p->y1 - 12, p->name);
    double v = ceil(p->low / d - 1e-9) * d;
    /* NOLINTNEXTLINE(cert-flp30-c): k ends it, too, and rounding is lost in the 4 digits written */
    for (int k = 0; k < MOST_TICKS && v <= p->high + d * 1e-6; k++, v += d)
        fprintf(f, "<line class=\"%s\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" text-anchor=\"end\" x=\"%d\" y=\"%.1f\">%.4g</text>\n",
                fabs(v - p->low) < d * 1e-6 ? "axis" : "grid", LEFT, RIGHT, py(p, v), py(p, v), LEFT - 8, py(p, v) + 4, fabs(v) < d * 1e-6 ? 0 : v);
    d = fmax(1, nice(p->right - p->left, 8));
    v = ceil(p->left / d) * d;
    /* NOLINTNEXTLINE(cert-flp30-c): k ends it, too; steps are whole numbers */
    for (int k = 0; k < MOST_TICKS && v <= p->right; k++, v += d) {
        fprintf(f, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", px(p, v), px(p, v), p->y0, p->y0 + 4);
        if (last) fprintf(f, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%.10g</text>", px(p, v), p->y0 + 19, v);
    }
    if (last) fprintf(f, "\n<text class=\"tick\" text-anchor=\"middle\" x=\"%d\" y=\"%.1f\">optimizer step</text>\n", (LEFT + RIGHT) / 2, p->y0 + 38);
}

static void line(FILE *f, const panel *p, const curve_point *c, size_t n, quantity *of, const char *class, bool dots)
{
    size_t known = 0;
    for (size_t i = 0; i < n; i++) known += isfinite(of(&c[i]));
    if (known == 0) return;
    fprintf(f, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < n; i++)
        if (isfinite(of(&c[i]))) fprintf(f, "%.1f,%.1f ", px(p, c[i].step), py(p, of(&c[i])));
    fputs("\"/>\n", f);
    for (size_t i = 0; i < n && dots && n <= MOST_DOTS; i++)
        if (isfinite(of(&c[i]))) fprintf(f, "<circle class=\"%s\" r=\"3\" cx=\"%.1f\" cy=\"%.1f\"/>\n", class, px(p, c[i].step), py(p, of(&c[i])));
}

/* Invisible discs that a viewer shows a text for. */
static void hover(FILE *f, const panel *p, const curve_point *c, size_t n, quantity *of, const char *what)
{
    for (size_t i = 0; i < n && n <= 4 * MOST_DOTS; i++)
        if (isfinite(of(&c[i])))
            fprintf(f, "<circle class=\"hit\" r=\"7\" cx=\"%.1f\" cy=\"%.1f\"><title>step %.10g: %s %.5g</title></circle>\n", px(p, c[i].step),
                    py(p, of(&c[i])), c[i].step, what, of(&c[i]));
}

enum { LEGEND_ROW = 20 };

/* The names of several runs in rows, as wide as they are; the height of all rows. f NULL: only that. */
static double put_names(FILE *f, const char *const *labels, size_t n)
{
    double x = LEFT, y = LEGEND_ROW;
    for (size_t i = 0; i < n; i++) {
        double wide = 40 + 7.6 * (double)strlen(labels[i]);
        if (x + wide > RIGHT && x > LEFT) {
            x = LEFT;
            y += LEGEND_ROW;
        }
        if (f) {
            fprintf(f, "<line class=\"key r%zu%s\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\"/><text class=\"tick\" x=\"%.0f\" y=\"%.0f\">", i % COLOURS,
                    i / COLOURS % 2 ? " dashed" : "", x, x + 20, y, y, x + 26, y + 4);
            put_str(f, labels[i]);
            fputs("</text>\n", f);
        }
        x += wide;
    }
    return y;
}

static void legend(FILE *f, const char *const *labels, size_t n, bool val, bool cut)
{
    if (n > 1) {
        put_names(f, labels, n);
        return;
    }
    if (cut) fprintf(f, "<text class=\"name\" x=\"%d\" y=\"24\">the stream is cut: the end of the run is missing</text>\n", LEFT);
    fprintf(f, "<line class=\"key r0\" x1=\"%d\" x2=\"%d\" y1=\"20\" y2=\"20\"/><text class=\"tick\" x=\"%d\" y=\"24\">training</text>\n", RIGHT - 230, RIGHT - 206,
            RIGHT - 200);
    if (val)
        fprintf(f, "<line class=\"key r1\" x1=\"%d\" x2=\"%d\" y1=\"20\" y2=\"20\"/><text class=\"tick\" x=\"%d\" y=\"24\">held out</text>\n", RIGHT - 108, RIGHT - 84,
                RIGHT - 78);
}

static void draw(FILE *f, const panel *p, const curve *const *c, size_t n, bool inlined)
{
    char class[64];
    for (size_t i = 0; i < n; i++) {
        /* Beside held-out losses those of training are the background. */
        snprintf(class, sizeof class, "%sr%zu%s", n == 1 || !c[i]->n_val ? "" : "faint ", n == 1 ? 0 : i % COLOURS, i / COLOURS % 2 ? " dashed" : "");
        if (p->train) line(f, p, c[i]->train, c[i]->n_train, p->train, class, false);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(class, sizeof class, "val r%zu%s", n == 1 ? 1 : i % COLOURS, i / COLOURS % 2 ? " dashed" : "");
        if (p->val) line(f, p, c[i]->val, c[i]->n_val, p->val, class, true);
    }
    for (size_t i = 0; i < n && !inlined; i++) {
        if (p->train) hover(f, p, c[i]->train, c[i]->n_train, p->train, p->key);
        if (p->val) hover(f, p, c[i]->val, c[i]->n_val, p->val, p->val == loss_of ? "held-out loss" : p->key);
    }
}

static const char style[] =
    "<style>svg.curve{--i:#1f2b27;--s:#5c6a64;--g:#e4e1d7;--x:#a8a698;--p:#fffdf9;--r0:#2a6658;--r1:#b5561c;--r2:#3b6ea8;--r3:#8a4a8f;--r4:#7c7a1e;--r5:#b03a5b;"
    "--r6:#4d5a66;--r7:#1c8a8a;background:var(--p);font:13px system-ui,-apple-system,\"Noto Sans\",\"DejaVu Sans\",sans-serif}\n"
    "@media(prefers-color-scheme:dark){svg.curve{--i:#e7ece9;--s:#9daaa5;--g:#2c3533;--x:#5d6a66;--p:#1c2321;--r0:#7fc8b4;--r1:#f0a06a;--r2:#86b4ea;--r3:#d59ada;--r4:#cfcb6b;"
    "--r5:#f08aa8;--r6:#aab6c0;--r7:#66cfcf}}\n"
    "@media print{svg.curve{--i:#000;--s:#333;--g:#ddd;--x:#888;--p:#fff;--r0:#2a6658;--r1:#b5561c;--r2:#3b6ea8;--r3:#8a4a8f;--r4:#7c7a1e;--r5:#b03a5b;--r6:#4d5a66;--r7:#1c8a8a}}\n"
    ".curve .name{fill:var(--i);font-weight:600}.curve .tick{fill:var(--s)}.curve .grid{stroke:var(--g)}.curve .axis{stroke:var(--x)}\n"
    ".curve polyline{fill:none;stroke-width:1.75;stroke-linejoin:round}.curve polyline.faint{stroke-width:1;opacity:.45}.curve polyline.val{stroke-width:2.25}\n"
    ".curve .dashed{stroke-dasharray:5 3}.curve .key{stroke-width:2.5}.curve .hit{fill:#000;fill-opacity:0}.curve circle.val{stroke:var(--p);stroke-width:1}\n"
    ".curve .r0{stroke:var(--r0)}.curve .r1{stroke:var(--r1)}.curve .r2{stroke:var(--r2)}.curve .r3{stroke:var(--r3)}.curve .r4{stroke:var(--r4)}"
    ".curve .r5{stroke:var(--r5)}.curve .r6{stroke:var(--r6)}.curve .r7{stroke:var(--r7)}\n"
    ".curve circle.r0{fill:var(--r0)}.curve circle.r1{fill:var(--r1)}.curve circle.r2{fill:var(--r2)}.curve circle.r3{fill:var(--r3)}.curve circle.r4{fill:var(--r4)}"
    ".curve circle.r5{fill:var(--r5)}.curve circle.r6{fill:var(--r6)}.curve circle.r7{fill:var(--r7)}</style>\n";

static bool any(const curve *const *c, size_t n, quantity *of)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < c[i]->n_val; k++)
            if (isfinite(of(&c[i]->val[k]))) return true;
    return false;
}

/* The panels from the top down; their number. */
static size_t lay_out(panel *p, const curve *const *c, size_t n, double top, double *height)
{
    size_t many = 0;
    double y = top;
    p[many++] = (panel){.name = "loss, nats a token", .key = "loss", .train = loss_of, .val = loss_of, .y0 = 230, .ticks = 5};
    if (any(c, n, cider_of)) p[many++] = (panel){.name = "held-out CIDEr", .key = "CIDEr", .val = cider_of, .y0 = 100, .ticks = 3};
    if (any(c, n, exact_of)) p[many++] = (panel){.name = "held-out exact matches, %", .key = "exact matches, %", .val = exact_of, .y0 = 100, .ticks = 3};
    p[many++] = (panel){.name = "learning rate", .key = "learning rate", .train = lr_of, .y0 = 70, .ticks = 2};
    for (size_t k = 0; k < many; k++) {
        p[k].y1 = y;
        p[k].y0 += y; /* its height until here */
        y = p[k].y0 + 46;
        p[k].left = HUGE_VAL;
        p[k].right = -HUGE_VAL;
        p[k].low = k == 0 ? HUGE_VAL : 0;
        p[k].high = k == 0 ? -HUGE_VAL : 0;
        for (size_t i = 0; i < n; i++) {
            widen(&p[k], c[i]->train, c[i]->n_train, p[k].train);
            widen(&p[k], c[i]->val, c[i]->n_val, p[k].val);
        }
    }
    /* Losses far above zero need no zero; else it gives the eye its bearing. */
    if (p[0].low > 0 && p[0].low < 0.7 * p[0].high) p[0].low = 0;
    for (size_t k = 0; k < many; k++) {
        p[k].left = fmin(p[0].left, p[k].left);
        p[k].right = fmax(p[0].right, p[k].right);
        if (k) p[k].left = p[0].left, p[k].right = p[0].right;
        settle(&p[k]);
    }
    *height = y + 2;
    return many;
}

void render_svg(FILE *f, const curve *const *c, const char *const *labels, size_t n, bool inlined)
{
    panel p[4];
    double height;
    size_t points = 0, held_out = 0;
    for (size_t i = 0; i < n; i++) {
        points += c[i]->n_train + c[i]->n_val;
        held_out += c[i]->n_val;
    }
    if (points == 0) {
        fprintf(f, "<svg class=\"curve\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d 120\" role=\"img\">\n%s", WIDTH, style);
        fprintf(f, "<text class=\"name\" x=\"%d\" y=\"64\" text-anchor=\"middle\">no losses in this stream</text>\n</svg>\n", WIDTH / 2);
        return;
    }
    size_t many = lay_out(p, c, n, 40 + (n > 1 ? put_names(NULL, labels, n) : LEGEND_ROW), &height);
    fprintf(f, "<svg class=\"curve\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"loss and learning rate by step\" "
               "data-x0=\"%d\" data-x1=\"%d\" data-left=\"%.10g\" data-right=\"%.10g\" data-top=\"%.0f\" data-bottom=\"%.0f\">\n%s",
            WIDTH, height, LEFT, RIGHT, p[0].left, p[0].right, p[0].y1, p[many - 1].y0, style);
    legend(f, labels, n, held_out > 0, c[0]->cut);
    for (size_t k = 0; k < many; k++) {
        axes(f, &p[k], k + 1 == many);
        draw(f, &p[k], c, n, inlined);
    }
    fputs("</svg>\n", f);
}
