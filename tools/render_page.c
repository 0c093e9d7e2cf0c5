/* What stands around the cards: style and script, numbers, curves, controls. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/guard.h"
#include "render.h"

void put_head(FILE *f)
{
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
          "<title>Captions</title>\n<style>\n", f);
    fwrite(render_report_css, 1, (size_t)(render_report_css_end - render_report_css), f);
    fputs("</style>\n</head>\n<body>\n", f);
}

/* ---- numbers ---- */
static const char *const shown[] = {"CIDEr", "BLEU-4", "ROUGE-L"};
enum { SHOWN = sizeof shown / sizeof *shown };

static double score_of(const char *scores, const char *name)
{
    json_t *o = scores ? pg_json_load(scores, strlen(scores), 0, NULL) : NULL, *v = json_object_get(o, name);
    double x = json_is_number(v) ? json_number_value(v) : NAN;
    json_decref(o);
    return x;
}

static void cell(FILE *f, double v, const char *format, bool best)
{
    fputs(best ? "<td class=\"best\">" : "<td>", f);
    if (isfinite(v)) fprintf(f, format, v);
    else fputs("–", f);
    fputs("</td>", f);
}

/* The largest of several columns, where they differ. */
static double largest(const report *r, size_t k)
{
    double most = -HUGE_VAL, least = HUGE_VAL;
    for (size_t i = 0; i < r->n_columns; i++) {
        double v = score_of(r->columns[i].scores, shown[k]);
        most = fmax(most, v);
        least = fmin(least, v);
    }
    return most > least ? most : NAN;
}

static void table(const report *r, FILE *f)
{
    bool any = false;
    for (size_t i = 0; i < r->n_columns; i++) any |= r->columns[i].scores != NULL;
    fputs("<div class=\"wide\"><table class=\"numbers\">\n<thead><tr><td></td>", f);
    for (size_t k = 0; any && k < SHOWN; k++) fprintf(f, "<th scope=\"col\">%s</th>", shown[k]);
    fputs("<th scope=\"col\">exact matches</th><th scope=\"col\">captions</th><th scope=\"col\">distinct</th><th scope=\"col\">words a caption</th></tr></thead>\n<tbody>\n", f);
    for (size_t i = 0; i < r->n_columns; i++) {
        const column *c = &r->columns[i];
        const tally *t = &c->tally;
        fputs("<tr><th scope=\"row\">", f);
        put_str(f, c->label);
        fputs("</th>", f);
        for (size_t k = 0; any && k < SHOWN; k++) {
            double v = score_of(c->scores, shown[k]);
            cell(f, v, "%.3f", r->n_columns > 1 && v == largest(r, k));
        }
        if (t->known) fprintf(f, "<td>%llu of %llu</td>", (unsigned long long)t->matches, (unsigned long long)t->known);
        else fputs("<td>–</td>", f);
        fprintf(f, "<td>%llu</td><td>%llu%s</td>", (unsigned long long)t->captions, (unsigned long long)t->distinct, t->full ? " or more" : "");
        cell(f, t->captions ? (double)t->words / (double)t->captions : NAN, "%.1f", false);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

static void change(const report *r, FILE *f)
{
    if (r->n_columns != 2 || r->better + r->worse + r->equal == 0) return;
    fputs("<p>Against <b>", f);
    put_str(f, r->columns[0].label);
    fputs("</b>, <b>", f);
    put_str(f, r->columns[r->n_columns - 1].label);
    fprintf(f, "</b> is better on %llu pictures, worse on %llu, equal on %llu, by %s.</p>\n", (unsigned long long)r->better, (unsigned long long)r->worse,
            (unsigned long long)r->equal, r->scored ? "CIDEr" : "exact matches");
}

static void training(const report *r, FILE *f)
{
    size_t points = 0;
    for (size_t i = 0; i < r->n_curves; i++) points += r->curves[i]->n_train + r->curves[i]->n_val;
    fputs("<section aria-labelledby=\"training\">\n<h2 id=\"training\">Training</h2>\n", f);
    if (points) {
        fputs("<figure class=\"plot\" tabindex=\"0\" aria-label=\"Curve; left and right arrow read it\">\n", f);
        render_svg(f, r->curves, r->curve_labels, r->n_curves, true);
        fputs("<output class=\"tip\" hidden></output>\n</figure>\n<script type=\"application/json\" id=\"curves\">", f);
        curves_json(f, r->curves, r->curve_labels, r->n_curves);
        fputs("</script>\n", f);
    } else fputs("<p class=\"warning\">There are no losses to draw: no step of the training is in its stream.</p>\n", f);
    fputs("</section>\n", f);
}

void put_summary(const report *r, FILE *f)
{
    bool pictures = r->records || !r->n_curves;
    fprintf(f, "<header>\n<h1>%s</h1>\n<p class=\"soft\">", r->n_columns ? "Captions" : "Training");
    if (pictures) fprintf(f, "%llu picture%s", (unsigned long long)r->records, r->records == 1 ? "" : "s");
    if (r->errors) fprintf(f, ", %llu with an error", (unsigned long long)r->errors);
    if (r->other_errors) fprintf(f, ", %llu errors in the other runs", (unsigned long long)r->other_errors);
    if (r->n_curves) fprintf(f, "%s%llu training step%s", pictures ? ", " : "", (unsigned long long)r->steps, r->steps == 1 ? "" : "s");
    if (r->validations) fprintf(f, ", %llu validation%s", (unsigned long long)r->validations, r->validations == 1 ? "" : "s");
    fputs("</p>\n</header>\n<main>\n", f);
    if (r->n_columns) {
        fputs("<section aria-label=\"Scores\">\n", f);
        table(r, f);
        change(r, f);
        for (size_t i = 0; i < r->n_columns; i++)
            if (tool_same_is(&r->columns[i].tally.same)) {
                fputs("<p class=\"warning\">All captions of ", f);
                put_str(f, r->columns[i].label);
                fputs(" are the same, though the pictures differ: the model may not look at them.</p>\n", f);
            }
        if (!r->scored && r->columns[0].tally.known) fputs("<p class=\"soft\">For CIDEr, BLEU and ROUGE-L, pass the stream through <code>pg-score --annotate</code>.</p>\n", f);
        fputs("</section>\n", f);
    }
    if (r->n_curves) training(r, f);
}

/* ---- controls: hidden until the script runs ---- */
static void option(FILE *f, const char *value, size_t run, const char *label, const char *what)
{
    fprintf(f, "<option value=\"%s%zu\">", value, run);
    if (label) {
        put_str(f, label);
        fputs(": ", f);
    }
    fprintf(f, "%s</option>", what);
}

void put_controls(const report *r, FILE *f)
{
    bool refs = false;
    for (size_t i = 0; i < r->n_columns; i++) refs |= r->columns[i].tally.known > 0;
    fputs("<section aria-labelledby=\"examples\">\n<h2 id=\"examples\">Examples</h2>\n<form class=\"controls\" role=\"search\" hidden>\n"
          "<label>Find <input type=\"search\" id=\"find\" placeholder=\"words of captions, references, ids\"></label>\n"
          "<label>Sort <select id=\"sort\"><option value=\"o0\">as in the stream</option>", f);
    for (size_t i = r->n_columns; refs && i-- > 0;) {
        const char *label = r->n_columns > 1 ? r->columns[i].label : NULL;
        option(f, "w", i, label, "worst first");
        option(f, "b", i, label, "best first");
    }
    if (refs && r->n_columns == 2) fputs("<option value=\"g0\">most improved first</option><option value=\"l0\">most worsened first</option>", f);
    if (r->n_columns) fputs("<option value=\"s0\">shortest first</option><option value=\"n0\">longest first</option>", f);
    fputs("</select></label>\n<label>Show <select id=\"show\"><option value=\"all\">all</option>", f);
    if (refs) fputs("<option value=\"match\">exact matches</option><option value=\"differ\">others</option>", f);
    if (r->n_columns > 1) fputs("<option value=\"changed\">changed</option>", f);
    if (r->errors) fputs("<option value=\"error\">errors</option>", f);
    fputs("</select></label>\n<output id=\"count\" aria-live=\"polite\"></output>\n</form>\n", f);
    if (refs)
        fputs("<p class=\"soft legend\"><mark class=\"extra\">Marked</mark> in a caption: not in the nearest reference. "
              "<mark class=\"missing\">Marked</mark> in a reference: not in the caption", f);
    if (refs && r->n_columns > 1) {
        fputs(" of ", f);
        put_str(f, r->columns[r->n_columns - 1].label);
    }
    if (refs) fputs(".</p>\n", f);
    fputs("<div class=\"cards\" id=\"cards\">\n", f);
}

void put_foot(const report *r, FILE *f)
{
    (void)r;
    fputs("</main>\n<script>\n", f);
    fwrite(render_report_js, 1, (size_t)(render_report_js_end - render_report_js), f);
    fputs("</script>\n</body>\n</html>\n", f);
}
