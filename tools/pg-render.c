#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "render.h"
#include "stream/name.h"

static const char help[] =
    "usage: pg-render [-f FORMAT] [-o FILE] [STREAM...] < STREAM\n"
    "Shows a stream: captions, training events, a report.\n"
    "\n"
    "  -f, --format text|jsonl|html|svg|captions|sidecar\n"
    "                       (default: by FILE's ending, else text)\n"
    "  -o, --output FILE    write FILE, whole or not at all (default: standard output)\n"
    "      --overwrite      sidecar: replace existing .txt files\n"
    "      --with-tensors   jsonl: tensors and bytes too\n"
    "      --label NAME     html: the name of a run; once for each stream\n"
    "      --note FILE      html: text that stands before the pictures\n"
    "      --compare        html: two streams of examples must be given, the second against the first\n"
    "      --max-record SIZE  refuse larger records (default 1G)\n"
    "  -q, --quiet          no remarks\n"
    "  -v, --verbose        more of them\n"
    "  -h, --help           this text\n"
    "      --version        the version\n"
    "\n"
    "  pg-render -o report.html before.pgs after.pgs train.pgs\n";

enum { OPT_OVERWRITE = 256, OPT_TENSORS, OPT_LABEL, OPT_COMPARE, OPT_NOTE, MAX_LABELS = 64 };
typedef enum { BY_NAME, TEXT, JSONL, HTML, SVG, CAPTIONS, SIDECAR } format;

typedef struct options {
    format format;
    const char *output, *note;
    bool overwrite, with_tensors, compare;
    char *labels[MAX_LABELS];
    size_t n_labels;
} options;

/* The output under its temporary name, removed at exit unless it was committed: a tool may end anywhere. */
static pg_outfile outfile = {.fd = -1};
static void abort_outfile(void) { pg_outfile_abort(&outfile); }

static format parse_format(const pg_tool *t, const char *s)
{
    static const char *const names[] = {"text", "jsonl", "html", "svg", "captions", "sidecar"};
    for (size_t i = 0; i < 6; i++)
        if (!strcmp(s, names[i])) return (format)(TEXT + i);
    tool_usage(t, "unknown format '%s'", s);
}

static format format_of(const pg_tool *t, const char *path)
{
    static const struct {
        const char *end;
        format format;
    } endings[] = {{".html", HTML}, {".htm", HTML}, {".svg", SVG}, {".jsonl", JSONL}, {".txt", TEXT}, {".tsv", CAPTIONS}};
    if (!path) return TEXT;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (pg_ends_with(path, endings[i].end)) return endings[i].format;
    tool_usage(t, "the ending of '%s' names no format: use -f", path);
}

static void parse(pg_tool *t, options *o)
{
    static const struct option opts[] = {{"format", required_argument, NULL, 'f'},
                                         {"output", required_argument, NULL, 'o'},
                                         {"overwrite", no_argument, NULL, OPT_OVERWRITE},
                                         {"with-tensors", no_argument, NULL, OPT_TENSORS},
                                         {"label", required_argument, NULL, OPT_LABEL},
                                         {"compare", no_argument, NULL, OPT_COMPARE},
                                         TOOL_MAX_RECORD,
                                         {"note", required_argument, NULL, OPT_NOTE},
                                         {NULL, 0, NULL, 0}};
    int c;
    while ((c = tool_getopt(t, "f:o:", opts, false)) != -1) switch (c) {
        case 'f': o->format = parse_format(t, optarg); break;
        case 'o': o->output = optarg; break;
        case OPT_OVERWRITE: o->overwrite = true; break;
        case OPT_COMPARE: o->compare = true; break;
        case OPT_NOTE: o->note = optarg; break;
        case OPT_TENSORS: o->with_tensors = true; break;
        case OPT_LABEL:
            if (o->n_labels == MAX_LABELS) tool_usage(t, "more than %d labels", MAX_LABELS);
            o->labels[o->n_labels++] = optarg;
            break;
        }
    if (o->format == BY_NAME) o->format = format_of(t, o->output);
    if (o->format == SIDECAR && o->output) tool_usage(t, "sidecar files lie beside the images: -o does not apply");
    if (o->format != HTML && o->format != SVG && t->argc - optind > 1) tool_usage(t, "several streams are for html and svg only");
    if (o->format != HTML && o->compare) tool_usage(t, "--compare is for html only");
    if (o->format != HTML && o->note) tool_usage(t, "--note is for html only");
    if (o->format != HTML && o->n_labels) tool_usage(t, "--label is for html only");
    if (o->format != SIDECAR && o->overwrite) tool_usage(t, "--overwrite is for sidecar only: what -o names is replaced");
    if (o->format != JSONL && o->with_tensors) tool_usage(t, "--with-tensors is for jsonl only");
}

/* One line whatever it holds, that shows what it holds: escapes of backslashes, control characters, what is hidden, and what is no UTF-8. */
static void put_line(FILE *f, text_view v)
{
    for (size_t i = 0, len; i < v.n; i += len) {
        unsigned char c = (unsigned char)v.s[i];
        uint32_t hidden;
        bool valid = (len = pg_utf8_look(v.s + i, v.n - i, &hidden)) > 0;
        if (!valid) len = 1;
        if (c == '\\') fputs("\\\\", f);
        else if (c == '\n') fputs("\\n", f);
        else if (c == '\t') fputs("\\t", f);
        else if (c == '\r') fputs("\\r", f);
        else if (!valid || (hidden != UINT32_MAX && len == 1)) fprintf(f, "\\x%02x", c);
        else if (hidden != UINT32_MAX) fprintf(f, "\\u%04x", (unsigned)hidden);
        else fwrite(v.s + i, 1, len, f);
    }
}

static double number(const pg_rec *r, const char *key)
{
    double v;
    return pg_rec_double(r, key, &v, NULL) == 1 ? v : 0;
}

/* Value i; a name that is no UTF-8 as pg-fetch makes an id of it. */
static int value_json(const pg_rec *rec, size_t i, bool with_tensors, pg_buf *b, pg_err *e)
{
    const char *key = pg_rec_key(rec, i), *s;
    size_t n;
    bool name = !strcmp(key, "id") || !strcmp(key, "source");
    if (!name || pg_rec_str(rec, key, &s, &n, NULL) != 1 || pg_utf8_valid(s, n)) return pg_rec_json(rec, i, with_tensors, b, e);
    pg_buf text = {0};
    pg_rec *one = pg_rec_new();
    int rc = one ? pg_utf8_name(&text, s, n, e) : pg_error_nomem(e);
    if (!rc) rc = pg_rec_set_str(one, key, (char *)text.data, text.len, e);
    if (!rc) rc = pg_rec_json(one, 0, false, b, e);
    pg_rec_free(one);
    pg_buf_free(&text);
    return rc;
}

static void put_json(pg_tool *t, FILE *f, const pg_rec *rec, bool with_tensors, pg_buf *b)
{
    pg_err e;
    b->len = 0;
    for (size_t i = 0; i < pg_rec_count(rec); i++) {
        pg_rec *key = NULL;
        /* The key as JSON through the same writer as values. */
        if (!(key = pg_rec_new()) || pg_rec_set_str(key, "k", pg_rec_key(rec, i), strlen(pg_rec_key(rec, i)), &e) ||
            pg_buf_addf(b, &e, i ? "," : "{") || pg_rec_json(key, 0, false, b, &e) || pg_buf_addf(b, &e, ":") ||
            value_json(rec, i, with_tensors, b, &e))
            tool_die(t, EXIT_FAIL, "cannot write a record as JSON: %s", key ? e.msg : "out of memory");
        pg_rec_free(key);
    }
    if (pg_rec_count(rec) == 0 && pg_buf_addf(b, &e, "{")) tool_die(t, EXIT_FAIL, "%s", e.msg);
    char *boxes = pg_rec_has(rec, "boxes") ? NULL : boxes_json(rec);
    if (boxes && pg_buf_addf(b, &e, ",\"boxes\":%s", boxes)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    free(boxes);
    fwrite(b->data, 1, b->len, f);
    fputs("}\n", f);
}

static void put_event(FILE *f, const pg_rec *rec, text_view kind)
{
    long long step = (long long)number(rec, "step");
    text_view path = view(rec, "path");

    if (kind.n == 4 && !memcmp(kind.s, "step", 4)) {
        double lr = number(rec, "lr");
        fprintf(f, "step: %2lld/%lld   lr: ", step, (long long)number(rec, "steps"));
        fprintf(f, lr > 0 && lr < 1e-4 ? "%.3g" : "%.5f", lr); /* as the notebook, but for rates of which that would show nothing */
        fprintf(f, "   loss: %.4f", number(rec, "loss"));
        if (pg_rec_has(rec, "examples_per_s")) fprintf(f, "   %.1f examples/s", number(rec, "examples_per_s"));
    } else if (kind.n == 3 && !memcmp(kind.s, "val", 3)) {
        fprintf(f, "val:  step %lld   loss: %.4f", step, number(rec, "loss"));
        if (pg_rec_has(rec, "CIDEr")) fprintf(f, "   CIDEr: %.4f   exact: %.3f", number(rec, "CIDEr"), number(rec, "exact"));
    } else if (kind.n == 7 && !memcmp(kind.s, "caption", 7)) {
        fprintf(f, "caption: step %lld   ", step);
        put_line(f, view(rec, "id"));
        fputs(": ", f);
        put_line(f, view(rec, "caption"));
    } else {
        put_line(f, kind);
        if (pg_rec_has(rec, "step")) fprintf(f, ": step %lld", step);
        if (path.n) fputs("   ", f);
        put_line(f, path);
    }
    putc('\n', f);
}

/* The id, else the source, as its bytes are: names of files need not be UTF-8. */
static bool put_raw_id(FILE *f, const pg_rec *rec)
{
    char digits[PG_ID_DIGITS];
    text_view v = {0};
    if (!pg_rec_id(rec, digits, &v.s, &v.n) || !v.n) v = view(rec, "source");
    put_line(f, v);
    return v.n > 0;
}

/* Returns whether there was something to show. */
static bool put_text(FILE *f, const tool_pipe *p, bool tsv)
{
    char id[256];
    text_view kind = view(p->rec, "event");

    if (kind.n) {
        bool example = kind.n == 7 && !memcmp(kind.s, "example", 7); /* for reports */
        if (!tsv && !example) put_event(f, p->rec, kind);
        return !tsv;
    }
    bool scored = !pg_rec_has(p->rec, "caption") && pg_rec_has(p->rec, "token_logprobs"); /* pg-infer --score-only */
    if (pg_rec_has(p->rec, "partial") || (tsv && !scored && !pg_rec_has(p->rec, "caption"))) return false;
    if (!put_raw_id(f, p->rec)) {
        tool_id(p, id, sizeof id);
        put_line(f, (text_view){id, strlen(id)});
    }
    fputs(tsv ? "\t" : ": ", f);
    if (pg_rec_has_error(p->rec) && !tsv) {
        char *why = pg_rec_error(p->rec);
        fputs("error: ", f);
        put_line(f, (text_view){why ? why : "", why ? strlen(why) : 0});
        free(why);
    } else if (scored) fprintf(f, tsv ? "%.6g" : "logprob %.6g", number(p->rec, "logprob"));
    else put_line(f, view(p->rec, "caption"));
    putc('\n', f);
    return true;
}

/* A curve is drawn of what came before a stream was cut; other formats would pass for whole. */
static bool next(pg_tool *t, tool_pipe *p, format as, curve *c)
{
    pg_err e = {0};
    if (as != SVG) return tool_next(t, p);
    int rc = tool_read(p, &e);
    if (rc >= 0) return rc == 1;
    if (e.code != PG_EFORMAT || c->n_train + c->n_val == 0) tool_bad_stream(t, p, &e);
    tool_warn(t, "%s: the curve ends there", e.msg);
    c->cut = true;
    return false;
}

/* The second and further streams of one curve are a resumed run's: they go on where it was, and do not begin again. */
static void check_rest(const pg_tool *t, const pg_rec *rec, const curve *c, const char *file)
{
    if (number(rec, "step") <= c->train[0].step)
        tool_die(t, EXIT_FAIL, "'%s' begins with step %.10g, so it is not the rest of the run before it: html compares runs", file, number(rec, "step"));
}

typedef struct shown {
    FILE *f;
    uint64_t errors, records, shown;
    sidecars n;
    pg_buf b;
    curve *c;
} shown;

static void render_stream(pg_tool *t, const options *o, const char *file, shown *s)
{
    tool_pipe p = {0};
    int fd = tool_open_file(t, &file);
    bool rest = s->c->n_train > 0;

    tool_open_in(t, &p, fd, file, NULL);
    s->c->cut = false;
    while (next(t, &p, o->format, s->c)) {
        s->errors += pg_rec_has_error(p.rec);
        s->records++;
        switch (o->format) {
        case JSONL: put_json(t, s->f, p.rec, o->with_tensors, &s->b); break;
        case SVG:
            if (rest && pg_rec_has(p.rec, "loss")) {
                check_rest(t, p.rec, s->c, file);
                rest = false;
            }
            curve_add(s->c, p.rec);
            break;
        case SIDECAR: put_sidecar(t, p.rec, o->overwrite, &s->n); break;
        default: s->shown += put_text(s->f, &p, o->format == CAPTIONS);
        }
        /* Somebody may be watching: what is known is shown. */
        if (!o->output && fflush(s->f)) break;
    }
    tool_finish(t, &p, NULL);
    if (fd) close(fd);
}

/* Returns the exit status. files: n of them, else standard input. */
static int render_records(pg_tool *t, const options *o, char *const *files, size_t n, FILE *f)
{
    shown s = {.f = f, .c = pg_calloc(1, sizeof *s.c)};
    if (!s.c) tool_no_memory(t);
    for (size_t i = 0; i < (n ? n : 1); i++) render_stream(t, o, n ? files[i] : "-", &s);
    if (o->format == SVG) {
        if (s.c->n_train + s.c->n_val == 0)
            tool_die(t, EXIT_FAIL, "there are no losses to draw in '%s'%s: svg is for the events of pg-train", n ? files[0] : "standard input", n > 1 ? " and the others" : "");
        render_svg(f, (const curve *const[]){s.c}, (const char *const[]){"training"}, 1, false);
    }
    if (o->format == CAPTIONS && s.records && !s.shown) tool_warn(t, "no record has a caption, of %llu", (unsigned long long)s.records);
    if (o->format == SIDECAR) s.errors += sidecars_end(t, &s.n);
    int status = s.c->cut ? EXIT_STREAM : s.errors ? EXIT_RECORDS : EXIT_OK;
    pg_buf_free(&s.b);
    free(s.c);
    return status;
}

int main(int argc, char **argv)
{
    pg_tool t;
    options o = {0};
    int status;
    FILE *f = stdout;
    pg_err e;

    tool_start(&t, "pg-render", help, argc, argv);
    parse(&t, &o);
    if (o.output) {
        int fd;
        size_t left = pg_temp_sweep(o.output);
        if (left) tool_info(&t, "removed %zu temporary file%s that a killed run left of '%s'", left, left == 1 ? "" : "s", o.output);
        if (pg_outfile_open(&outfile, o.output, &e)) tool_die(&t, EXIT_FAIL, "%s", e.msg);
        atexit(abort_outfile);
        if ((fd = dup(outfile.fd)) < 0 || !(f = fdopen(fd, "w"))) tool_die(&t, EXIT_FAIL, "cannot open '%s': %s", o.output, strerror(errno));
    }
    if (o.format == HTML) {
        uint64_t errors = 0;
        render_html(&t, f, argv + optind, (size_t)(argc - optind), &(report_options){o.labels, o.n_labels, o.compare, o.note}, &errors);
        status = errors ? EXIT_RECORDS : EXIT_OK;
    } else status = render_records(&t, &o, argv + optind, (size_t)(argc - optind), f);
    if (o.output) {
        bool bad = ferror(f) != 0;
        if (fclose(f) || bad) tool_die(&t, EXIT_FAIL, "cannot write '%s': %s", o.output, strerror(errno));
        if (pg_outfile_commit(&outfile, &e)) tool_die(&t, EXIT_FAIL, "%s", e.msg);
    }
    if (tool_close_stdout(&t)) return EXIT_FAIL;
    return status;
}
