/* The report. Cards go to a temporary file while records stream by; the summary, known only then, is written before them. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "render.h"

_Noreturn static void no_memory(const report *r) { tool_die(r->t, EXIT_FAIL, "out of memory"); }

static void put_chain(report *r, const pg_rec *header, const char *name)
{
    pg_buf b = {0};
    json_t *chain = NULL, *link;
    json_error_t why = {0};
    size_t i, k;

    for (i = 0; i < pg_rec_count(header); i++) {
        if (strcmp(pg_rec_key(header, i), "chain")) continue;
        int rc = pg_rec_json(header, i, false, &b, NULL);
        if (!rc) chain = pg_json_load((const char *)b.data, b.len, JSON_ALLOW_NUL, &why);
        if (rc == PG_ENOMEM || (!rc && !chain && pg_json_no_memory(&why))) no_memory(r);
    }
    fprintf(r->chains, "<h3>");
    put_str(r->chains, name);
    fputs("</h3>\n<pre>", r->chains);
    json_array_foreach(chain, i, link) {
        const char *program = json_string_value(json_object_get(link, "program"));
        const char *version = json_string_value(json_object_get(link, "version"));
        json_t *args = json_object_get(link, "args"), *arg;

        put_str(r->chains, program ? program : "?");
        json_array_foreach(args, k, arg) {
            const char *s = json_string_value(arg);
            bool quote = s && (!*s || strpbrk(s, " \t\n'\"$\\|&;<>()*?"));
            fputs(quote ? " &#39;" : " ", r->chains);
            put_str(r->chains, s ? s : "?");
            if (quote) fputs("&#39;", r->chains);
        }
        fputs("   <span class=\"soft\">", r->chains);
        put_str(r->chains, version ? version : "");
        fputs("</span>\n", r->chains);
    }
    fputs("</pre>\n", r->chains);
    json_decref(chain);
    pg_buf_free(&b);
}

/* A caption of the second or a further stream, for the card that the first stream makes. */
static void keep(report *r, column *c, const tool_pipe *p)
{
    char id[256];
    text_view v = view(p->rec, "caption");
    if (pg_rec_has_error(p->rec)) {
        r->other_errors++;
        return;
    }
    if (!pg_rec_has(p->rec, "caption")) return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 256;
        entry *e = pg_realloc(c->e, cap, sizeof *e);
        if (!e) no_memory(r);
        c->e = e;
        c->cap = cap;
    }
    entry *e = &c->e[c->n++];
    *e = (entry){pg_strdup(tool_id(p, id, sizeof id)), pg_strndup(v.s, v.n), record_score(r, p->rec), 0};
    if (pg_rec_double(p->rec, "logprob", &e->logprob, NULL) != 1) e->logprob = NAN;
    if (!e->id || !e->caption) no_memory(r);
}

static int by_id(const void *a, const void *b) { return strcmp(((const entry *)a)->id, ((const entry *)b)->id); }

static int by_id_and_order(const void *a, const void *b)
{
    const moment *x = a, *y = b;
    int order = strcmp(x->id, y->id);
    return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

/* A caption while training. */
static void keep_moment(report *r, const pg_rec *rec)
{
    text_view id = view(rec, "id"), v = view(rec, "caption");
    double step = 0;
    if (!id.n || pg_rec_double(rec, "step", &step, NULL) != 1) return;
    if (r->n_moments == r->cap_moments) {
        size_t cap = r->cap_moments ? r->cap_moments * 2 : 256;
        moment *m = pg_realloc(r->moments, cap, sizeof *m);
        if (!m) no_memory(r);
        r->moments = m;
        r->cap_moments = cap;
    }
    moment *m = &r->moments[r->n_moments];
    *m = (moment){pg_strndup(id.s, id.n), pg_strndup(v.s, v.n), step, r->n_moments};
    if (!m->id || !m->caption) no_memory(r);
    r->n_moments++;
}

static bool is_event(const pg_rec *rec, const char *kind)
{
    text_view v = view(rec, "event");
    return v.n == strlen(kind) && !memcmp(v.s, kind, v.n);
}

static char *end_scores(const tool_pipe *p)
{
    const pg_rec *end = pg_reader_end(p->in);
    char *scores = NULL;
    for (size_t i = 0; i < pg_rec_count(end); i++) {
        pg_buf b = {0};
        if (!scores && !strcmp(pg_rec_key(end, i), "scores") && !pg_rec_json(end, i, false, &b, NULL)) scores = pg_strndup((const char *)b.data, b.len);
        pg_buf_free(&b);
    }
    return scores;
}

/* Without a stream of examples, those that validation told of are shown with their captions over time. The captions come behind the
 * examples, so these wait in a stream of their own. */
typedef struct waiting {
    FILE *f;
    pg_writer *w;
} waiting;

static void set_aside(report *r, waiting *x, const pg_rec *rec)
{
    pg_err e;
    if (!x->f && !(x->f = tmpfile())) tool_die(r->t, EXIT_FAIL, "cannot open a temporary file: %s", strerror(errno));
    if ((!x->w && (pg_writer_new(&x->w, fileno(x->f), "a temporary file", &e) ||
                   pg_writer_header(x->w, NULL, "events", r->t->name, PG_VERSION, 0, NULL, NULL, &e))) ||
        pg_writer_add(x->w, rec, &e))
        tool_die(r->t, EXIT_FAIL, "%s", e.msg);
}

static void read_events(report *r, tool_pipe *p, curve *c, waiting *x)
{
    while (tool_next(r->t, p)) {
        r->steps += is_event(p->rec, "step");
        r->validations += is_event(p->rec, "val");
        curve_add(c, p->rec);
        if (is_event(p->rec, "caption")) keep_moment(r, p->rec);
        if (!r->n_columns && r->n_curves == 1 && is_event(p->rec, "example")) set_aside(r, x, p->rec);
    }
}

static void put_waiting(report *r, waiting *x)
{
    tool_pipe p = {0};
    pg_err e;
    if (!x->w) return;
    if (pg_writer_end(x->w, NULL, &e)) tool_die(r->t, EXIT_FAIL, "%s", e.msg);
    rewind(x->f);
    tool_open_in(r->t, &p, fileno(x->f), "a temporary file", NULL);
    while (tool_next(r->t, &p)) put_card(r, &p);
    tool_finish(r->t, &p, NULL);
    pg_writer_free(x->w);
    fclose(x->f);
}

/* Examples into column c: as cards from the first stream, as kept captions from the others. */
static void read_examples(report *r, tool_pipe *p, column *c, bool first)
{
    while (tool_next(r->t, p)) {
        if (pg_rec_has(p->rec, "event") || pg_rec_has(p->rec, "partial")) continue;
        if (first) put_card(r, p);
        else keep(r, c, p);
    }
    c->scores = end_scores(p);
    if (c->n) qsort(c->e, c->n, sizeof *c->e, by_id);
}

static void append(const report *r, FILE *to, FILE *from)
{
    char buf[65536];
    size_t n;
    if (fflush(from) || ferror(from)) tool_die(r->t, EXIT_FAIL, "cannot write a temporary file: %s", strerror(errno));
    rewind(from);
    while ((n = fread(buf, 1, sizeof buf, from)) > 0) fwrite(buf, 1, n, to);
    if (ferror(from)) tool_die(r->t, EXIT_FAIL, "cannot read a temporary file: %s", strerror(errno));
}

static void put_page(report *r, FILE *f, const char *note)
{
    put_head(f);
    put_summary(r, f);
    if (note) put_note(r->t, f, note);
    if (r->records) {
        put_controls(r, f);
        append(r, f, r->cards);
        fputs("</div>\n</section>\n", f);
    }
    fputs("<section class=\"commands\">\n<details><summary>The commands that made this</summary>\n", f);
    append(r, f, r->chains);
    fputs("</details>\n</section>\n", f);
    put_foot(r, f);
}

/* One of the inputs. */
typedef struct input {
    const char *name;
    char *label; /* without folder and ending */
    tool_pipe p;
    int fd;
    bool events;
    size_t number; /* among those of its kind */
} input;

static void open_input(report *r, input *in, const char *name)
{
    in->fd = tool_open_file(r->t, &name);
    const char *base = strrchr(name, '/');
    in->name = name;
    in->label = pg_strdup(base ? base + 1 : name);
    if (!in->label) no_memory(r);
    if (pg_ends_with(in->label, ".pgs")) in->label[strlen(in->label) - 4] = 0;
    tool_open_in(r->t, &in->p, in->fd, name, NULL);
    put_chain(r, in->p.header, name);
    text_view kind = view(in->p.header, "kind");
    in->events = kind.n == 6 && !memcmp(kind.s, "events", 6);
    in->number = in->events ? r->n_curves++ : r->n_columns++;
}

/* Labels name streams of examples in their order, further ones streams of events. */
static void label(report *r, input *in, const report_options *o)
{
    size_t k = in->events ? r->n_columns + in->number : in->number;
    const char *name = k < o->n_labels ? o->labels[k] : in->label;
    if (in->events) {
        curve *c = pg_calloc(1, sizeof *c);
        if (!c) no_memory(r);
        r->curves[in->number] = c;
        r->curve_labels[in->number] = name;
    } else r->columns[in->number].label = name;
}

static void free_report(report *r)
{
    for (size_t i = 0; i < r->n_columns; i++) {
        for (size_t k = 0; k < r->columns[i].n; k++) {
            free(r->columns[i].e[k].id);
            free(r->columns[i].e[k].caption);
        }
        free(r->columns[i].e);
        free(r->columns[i].tally.seen);
        tool_same_free(&r->columns[i].tally.same);
        free(r->columns[i].scores);
    }
    for (size_t i = 0; i < r->n_moments; i++) {
        free(r->moments[i].id);
        free(r->moments[i].caption);
    }
    for (size_t i = 0; i < r->n_curves; i++) free((curve *)r->curves[i]);
    free(r->curves);
    free(r->curve_labels);
    free(r->columns);
    free(r->moments);
    fclose(r->cards);
    fclose(r->chains);
    pg_image_free(r->image);
}

void render_html(pg_tool *t, FILE *f, char *const *files, size_t n, const report_options *o, uint64_t *errors)
{
    report r = {.t = t, .cards = tmpfile(), .chains = tmpfile()};
    waiting aside = {0};
    size_t total = n ? n : 1;
    input *in = pg_calloc(total, sizeof *in);
    pg_err e;

    r.columns = pg_calloc(total, sizeof *r.columns);
    r.curves = pg_calloc(total, sizeof *r.curves);
    r.curve_labels = pg_calloc(total, sizeof *r.curve_labels);
    if (!r.columns || !in || !r.curves || !r.curve_labels) no_memory(&r);
    if (!r.cards || !r.chains) tool_die(t, EXIT_FAIL, "cannot open a temporary file: %s", strerror(errno));
    if (pg_image_new(&r.image, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    for (size_t i = 0; i < total; i++) open_input(&r, &in[i], n ? files[i] : "-");
    for (size_t i = 0; i < total; i++) label(&r, &in[i], o);
    if (o->n_labels > total) tool_usage(t, "%zu labels for %zu streams", o->n_labels, total);
    if (o->compare && r.n_columns < 2) tool_usage(t, "--compare needs two streams of examples");
    for (size_t i = 0; i < total; i++)
        if (in[i].events) read_events(&r, &in[i].p, (curve *)r.curves[in[i].number], &aside);
    if (r.n_moments) qsort(r.moments, r.n_moments, sizeof *r.moments, by_id_and_order);
    /* The first stream of examples makes the cards, so it is read last, when the others' captions are known. */
    for (size_t i = total; i-- > 0;)
        if (!in[i].events) read_examples(&r, &in[i].p, &r.columns[in[i].number], in[i].number == 0);
    put_waiting(&r, &aside);
    put_page(&r, f, o->note);
    *errors = r.errors + r.other_errors;
    for (size_t i = 0; i < total; i++) {
        tool_finish(t, &in[i].p, NULL);
        if (in[i].fd > 0) close(in[i].fd);
        free(in[i].label);
    }
    free(in);
    free_report(&r);
}
