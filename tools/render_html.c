/* The report. Cards go to a temporary file while records stream by; the summary, known only then, is written before them. */
#include "render.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/image.h"
#include "text/text.h"

enum { THUMB_SIDE = 224, SEEN_SLOTS = 1 << 17, SEEN_MAX = SEEN_SLOTS / 2 };

/* What is counted for one column. Distinct captions are counted up to SEEN_MAX, so memory stays flat. */
typedef struct tally {
    uint64_t captions, matches, known, distinct;
    uint64_t *seen;
} tally;

/* Captions of the second and further streams, by id. */
typedef struct entry {
    char *id, *caption;
} entry;
typedef struct column {
    const char *label;
    entry *e;
    size_t n, cap;
    tally tally;
} column;

typedef struct report {
    pg_tool *t;
    FILE *cards, *chains;
    pg_image *image;
    column *columns;
    size_t n_columns;
    curve *curve;
    char *scores;
    uint64_t records, errors, other_errors, events;
} report;

static const char style[] =
    ":root{--bg:#f6f7f8;--card:#fff;--ink:#23282d;--soft:#68717a;--line:#dde1e5;--good:#1d7a4c;--bad:#b3402e;--warn:#8a5a00}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f23;--ink:#e4e7ea;--soft:#9aa4ad;--line:#343b42;--good:#6fd0a0;"
    "--bad:#f09484;--warn:#e8bd6a}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:72rem;padding:2rem 1.25rem;background:var(--bg);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}\n"
    "h1{font-size:1.6rem;margin:0 0 1rem}h2{font-size:1.1rem;margin:2rem 0 .75rem}svg{width:100%;height:auto;border:1px solid var(--line);border-radius:8px}\n"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.25rem 1.25rem .25rem 0;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.9rem}.card img{display:block;max-width:100%;margin:0 auto .75rem;border-radius:4px}\n"
    ".card p{margin:.2rem 0}.cap{font-weight:600}.soft{color:var(--soft);font-size:.85rem}.good{color:var(--good)}.bad{color:var(--bad)}"
    ".card.error{border-color:var(--bad)}.warning{color:var(--warn);font-weight:600}\n"
    "pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.75rem;font-size:.85rem}\n";

text_view view(const pg_rec *r, const char *key)
{
    text_view v = {"", 0};
    if (pg_rec_str(r, key, &v.s, &v.n, NULL) != 1) v = (text_view){"", 0};
    return v;
}

void put_html(FILE *f, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) switch (s[i]) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        case '\'': fputs("&#39;", f); break;
        default:
            /* Control characters have no place in HTML. */
            if (((unsigned char)s[i] < 32 && s[i] != '\n' && s[i] != '\t') || s[i] == 127) fputs("\xEF\xBF\xBD", f);
            else putc(s[i], f);
        }
}

static void put_str(FILE *f, const char *s) { put_html(f, s, strlen(s)); }

static void put_base64(FILE *f, const unsigned char *p, size_t n)
{
    static const char a[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        putc(a[v >> 18], f);
        putc(a[v >> 12 & 63], f);
        putc(i + 1 < n ? a[v >> 6 & 63] : '=', f);
        putc(i + 2 < n ? a[v & 63] : '=', f);
    }
}

static void count_caption(tally *c, text_view v)
{
    uint64_t h = 14695981039346656037u;

    c->captions++;
    if (!c->seen || c->distinct >= SEEN_MAX) return;
    for (size_t i = 0; i < v.n; i++) h = (h ^ (unsigned char)v.s[i]) * 1099511628211u;
    if (h == 0) h = 1;
    size_t i = (size_t)(h ^ h >> 32) & (SEEN_SLOTS - 1);
    while (c->seen[i] && c->seen[i] != h) i = (i + 1) & (SEEN_SLOTS - 1);
    if (!c->seen[i]) c->distinct++;
    c->seen[i] = h;
}

/* Equal after lower-casing, as the suffix was in training. */
static bool same(text_view a, const char *b, size_t n)
{
    pg_buf x = {0}, y = {0};
    bool eq = !pg_text_lower(a.s, a.n, &x, NULL) && !pg_text_lower(b, n, &y, NULL) && x.len == y.len &&
              (x.len == 0 || !memcmp(x.data, y.data, x.len));
    pg_buf_free(&x);
    pg_buf_free(&y);
    return eq;
}

static void put_picture(report *r, const pg_rec *rec)
{
    const unsigned char *p;
    size_t n;
    pg_buf jpeg = {0};
    pg_tensor x;
    bool ok = pg_rec_bin(rec, "image", &p, &n, NULL) == 1 && !pg_image_thumbnail(r->image, p, n, THUMB_SIDE, &jpeg, NULL);

    if (!ok && pg_rec_tensor(rec, "pixels", &x, NULL) == 1 && !strcmp(x.type, "<f4") && x.ndim == 3 && x.shape[0] == x.shape[1] &&
        x.shape[2] == 3) {
        float *v = pg_floats(x.bytes / 4);
        jpeg.len = 0;
        if (v) {
            memcpy(v, x.data, x.bytes);
            ok = !pg_image_encode(v, x.shape[0], &jpeg, NULL);
        }
        free(v);
    }
    if (ok) {
        fputs("<img alt=\"\" loading=\"lazy\" src=\"data:image/jpeg;base64,", r->cards);
        put_base64(r->cards, jpeg.data, jpeg.len);
        fputs("\">", r->cards);
    }
    pg_buf_free(&jpeg);
}

static int by_id(const void *a, const void *b) { return strcmp(((const entry *)a)->id, ((const entry *)b)->id); }

static void put_caption(report *r, column *c, text_view caption, char **refs, size_t n_refs)
{
    bool match = false;
    for (size_t i = 0; i < n_refs; i++) match |= same(caption, refs[i], strlen(refs[i]));
    count_caption(&c->tally, caption);
    c->tally.known += n_refs > 0;
    c->tally.matches += match;
    fputs("<p class=\"cap\">", r->cards);
    if (r->n_columns > 1) {
        fputs("<span class=\"soft\">", r->cards);
        put_str(r->cards, c->label);
        fputs("</span> ", r->cards);
    }
    put_html(r->cards, caption.s, caption.n);
    if (n_refs) fputs(match ? " <span class=\"good\" title=\"matches a reference\">✓</span>" : " <span class=\"bad\" title=\"matches no reference\">✗</span>", r->cards);
    fputs("</p>\n", r->cards);
}

static void put_error(report *r, const tool_pipe *p)
{
    char id[256], *why = pg_rec_error(p->rec);
    r->errors++;
    fputs("<article class=\"card error\">", r->cards);
    put_picture(r, p->rec);
    fputs("<p class=\"cap bad\">error</p><p>", r->cards);
    put_str(r->cards, why ? why : "unknown");
    fputs("</p><p class=\"soft\">", r->cards);
    put_str(r->cards, tool_id(p, id, sizeof id));
    fputs("</p></article>\n", r->cards);
    free(why);
}

static void put_scores(FILE *f, const pg_rec *rec)
{
    for (size_t i = 0; i < pg_rec_count(rec); i++) {
        pg_buf b = {0};
        if (!strcmp(pg_rec_key(rec, i), "scores") && !pg_rec_json(rec, i, false, &b, NULL)) {
            fputs("<p class=\"soft\">", f);
            put_html(f, (const char *)b.data, b.len);
            fputs("</p>\n", f);
        }
        pg_buf_free(&b);
    }
}

static void put_card(report *r, const tool_pipe *p)
{
    char id[256], **refs = NULL;
    size_t n_refs = 0;
    text_view suffix = view(p->rec, "suffix"), prefix = view(p->rec, "prefix");
    double logprob;

    r->records++;
    if (pg_rec_has_error(p->rec)) {
        put_error(r, p);
        return;
    }
    if (pg_rec_strs(p->rec, "references", &refs, &n_refs, NULL) != 1 || n_refs == 0) {
        refs = suffix.n ? pg_calloc(1, sizeof *refs) : NULL;
        n_refs = refs && (refs[0] = pg_strndup(suffix.s, suffix.n)) ? 1 : 0;
    }
    tool_id(p, id, sizeof id);
    fputs("<article class=\"card\">", r->cards);
    put_picture(r, p->rec);
    if (pg_rec_has(p->rec, "caption")) put_caption(r, &r->columns[0], view(p->rec, "caption"), refs, n_refs);
    for (size_t i = 1; i < r->n_columns; i++) {
        entry key = {id, NULL}, *e = r->columns[i].n ? bsearch(&key, r->columns[i].e, r->columns[i].n, sizeof key, by_id) : NULL;
        if (e) put_caption(r, &r->columns[i], (text_view){e->caption, strlen(e->caption)}, refs, n_refs);
    }
    for (size_t i = 0; i < n_refs; i++) {
        fputs("<p class=\"soft\">reference: ", r->cards);
        put_str(r->cards, refs[i]);
        fputs("</p>\n", r->cards);
    }
    put_scores(r->cards, p->rec);
    fputs("<p class=\"soft\">", r->cards);
    put_str(r->cards, id);
    if (prefix.n) {
        fputs(" · ", r->cards);
        put_html(r->cards, prefix.s, prefix.n);
    }
    if (pg_rec_double(p->rec, "logprob", &logprob, NULL) == 1) fprintf(r->cards, " · log-probability %.3f", logprob);
    fputs("</p></article>\n", r->cards);
    pg_strs_free(refs, n_refs);
}

static void put_chain(report *r, const pg_rec *header, const char *name)
{
    pg_buf b = {0};
    json_t *chain = NULL, *link;
    size_t i, k;

    for (i = 0; i < pg_rec_count(header); i++)
        if (!strcmp(pg_rec_key(header, i), "chain") && !pg_rec_json(header, i, false, &b, NULL))
            chain = json_loadb((const char *)b.data, b.len, JSON_ALLOW_NUL, NULL);
    fprintf(r->chains, "<h2>Commands: ");
    put_str(r->chains, name);
    fputs("</h2>\n<pre>", r->chains);
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
        if (!e) tool_die(r->t, EXIT_FAIL, "out of memory");
        c->e = e;
        c->cap = cap;
    }
    c->e[c->n] = (entry){pg_strdup(tool_id(p, id, sizeof id)), pg_strndup(v.s, v.n)};
    if (!c->e[c->n].id || !c->e[c->n].caption) tool_die(r->t, EXIT_FAIL, "out of memory");
    c->n++;
}

/* Reads one stream: events into the curve, examples into column c as cards (first) or kept captions. */
static void read_stream(report *r, tool_pipe *p, column *c, bool first)
{
    pg_err e;
    while (tool_next(r->t, p)) {
        if (pg_rec_has(p->rec, "event")) {
            r->events++;
            curve_add(r->curve, p->rec);
        } else if (pg_rec_has(p->rec, "partial")) continue;
        else if (first) put_card(r, p);
        else keep(r, c, p);
    }
    for (size_t i = 0; first && i < pg_rec_count(pg_reader_end(p->in)); i++) {
        pg_buf b = {0};
        if (!strcmp(pg_rec_key(pg_reader_end(p->in), i), "scores") && !pg_rec_json(pg_reader_end(p->in), i, false, &b, &e))
            r->scores = pg_strndup((const char *)b.data, b.len);
        pg_buf_free(&b);
    }
    if (c->n) qsort(c->e, c->n, sizeof *c->e, by_id);
}

static void put_summary(const report *r, FILE *f)
{
    fprintf(f, "<h1>Captions</h1>\n<p>%llu records, %llu with errors", (unsigned long long)r->records, (unsigned long long)r->errors);
    if (r->events) fprintf(f, ", %llu training events", (unsigned long long)r->events);
    fputs("</p>\n", f);
    if (r->records) fputs("<table><tr><th></th><th>captions</th><th>exact matches</th><th>distinct</th></tr>\n", f);
    for (size_t i = 0; r->records && i < r->n_columns; i++) {
        const tally *c = &r->columns[i].tally;
        fputs("<tr><th>", f);
        put_str(f, r->columns[i].label);
        fprintf(f, "</th><td>%llu</td><td>", (unsigned long long)c->captions);
        if (c->known) fprintf(f, "%llu of %llu", (unsigned long long)c->matches, (unsigned long long)c->known);
        else fputs("–", f);
        fprintf(f, "</td><td>%llu%s</td></tr>\n", (unsigned long long)c->distinct, c->distinct >= SEEN_MAX ? " or more" : "");
    }
    if (r->records) fputs("</table>\n", f);
    for (size_t i = 0; i < r->n_columns; i++)
        if (r->columns[i].tally.captions > 1 && r->columns[i].tally.distinct == 1) {
            fputs("<p class=\"warning\">All captions of ", f);
            put_str(f, r->columns[i].label);
            fputs(" are the same.</p>\n", f);
        }
    if (r->scores) {
        fputs("<p>Scores: ", f);
        put_str(f, r->scores);
        fputs("</p>\n", f);
    }
    if (r->events) {
        fputs("<h2>Loss and learning rate</h2>\n", f);
        render_svg(f, r->curve);
    }
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

void render_html(pg_tool *t, FILE *f, char *const *files, size_t n, char *const *labels, size_t n_labels, uint64_t *errors)
{
    report r = {.t = t, .cards = tmpfile(), .chains = tmpfile(), .curve = pg_calloc(1, sizeof(curve))};
    size_t total = n ? n : 1, next = 0;
    tool_pipe *p = pg_calloc(total, sizeof *p);
    size_t *which = pg_calloc(total, sizeof *which);
    pg_err e;

    r.columns = pg_calloc(total + 1, sizeof *r.columns);
    if (!r.columns || !r.curve || !p || !which) tool_die(t, EXIT_FAIL, "out of memory");
    if (!r.cards || !r.chains) tool_die(t, EXIT_FAIL, "cannot open a temporary file: %s", strerror(errno));
    if (pg_image_new(&r.image, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    for (size_t i = 0; i < total; i++) {
        const char *name = n ? files[i] : "stdin", *base = strrchr(name, '/');
        int fd = n ? open(name, O_RDONLY | O_CLOEXEC) : 0;
        if (fd < 0) tool_die(t, EXIT_FAIL, "cannot open '%s': %s", name, strerror(errno));
        tool_open_in(t, &p[i], fd, name, NULL);
        put_chain(&r, p[i].header, name);
        text_view kind = view(p[i].header, "kind");
        which[i] = total;
        if (kind.n == 6 && !memcmp(kind.s, "events", 6)) continue;
        which[i] = next;
        column *c = &r.columns[next];
        c->label = next < n_labels ? labels[next] : base ? base + 1 : name;
        c->tally.seen = pg_calloc(SEEN_SLOTS, sizeof *c->tally.seen);
        if (!c->tally.seen) tool_die(t, EXIT_FAIL, "out of memory");
        next++;
    }
    r.n_columns = next;
    if (n_labels > next) tool_usage(t, "%zu labels for %zu streams of examples", n_labels, next);
    /* The first stream of examples makes the cards, so it is read last, when the others' captions are known. */
    for (size_t i = total; i-- > 0;)
        if (which[i] != 0) read_stream(&r, &p[i], &r.columns[which[i]], false);
    for (size_t i = 0; i < total; i++)
        if (which[i] == 0) read_stream(&r, &p[i], &r.columns[0], true);
    fputs("<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\"><title>pg report</title>\n<style>\n", f);
    fputs(style, f);
    fputs("</style></head>\n<body>\n", f);
    put_summary(&r, f);
    if (r.records) fputs("<h2>Examples</h2>\n<div class=\"cards\">\n", f);
    append(&r, f, r.cards);
    if (r.records) fputs("</div>\n", f);
    append(&r, f, r.chains);
    fputs("</body>\n</html>\n", f);
    *errors = r.errors + r.other_errors;
    for (size_t i = 0; i < total; i++) {
        for (size_t k = 0; k < r.columns[i].n; k++) {
            free(r.columns[i].e[k].id);
            free(r.columns[i].e[k].caption);
        }
        free(r.columns[i].e);
        free(r.columns[i].tally.seen);
        tool_finish(t, &p[i], NULL);
    }
    free(r.columns);
    free(r.curve);
    free(r.scores);
    free(which);
    free(p);
    fclose(r.cards);
    fclose(r.chains);
    pg_image_free(r.image);
}
