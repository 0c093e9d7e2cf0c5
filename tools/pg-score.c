#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "score.h"

static const char help[] =
    "usage: pg-score [OPTION]... [FILE]\n"
    "       pg-score --compare [OPTION]... A B\n"
    "Scores captions against references: CIDEr-D, BLEU-1..4, ROUGE-L, exact matches.\n"
    "FILE is a stream, JSON lines (id, caption, references) or COCO results; without it a stream\n"
    "is read from standard input.\n"
    "\n"
    "      --references FILE.json  references from a COCO captions file, found by id or file name\n"
    "      --annotate         pass the stream on, each record with its scores\n"
    "  -f, --format text|json (default text)\n"
    "      --bootstrap N      95 % intervals from N resamplings\n"
    "      --compare          two inputs with the same pictures: differences, intervals, p\n"
    "      --seed N           of the resamplings (default 0)\n"
    "      --results FILE.json  also write the captions as COCO results\n"
    "      --context          let captions change their neighbours, as pycocoevalcap does\n"
    "      --max-record SIZE  refuse larger records and JSON files (default 1G)\n"
    "  -q, --quiet            no remarks\n"
    "  -v, --verbose          more of them\n"
    "  -h, --help             this text\n"
    "      --version          the version\n"
    "\n"
    "  pg-infer -m MODEL < val.pgs | pg-score\n";

enum { OPT_REFERENCES = 256, OPT_ANNOTATE, OPT_BOOTSTRAP, OPT_COMPARE, OPT_SEED, OPT_RESULTS, OPT_CONTEXT };
enum { RESAMPLES = 1000, MOST_RESAMPLES = 1000000 };

typedef struct options {
    scoring s;
    bool annotate, compare;
    const char *references, *results;
} options;

static void parse(pg_tool *t, options *o)
{
    static const struct option opts[] = {{"references", required_argument, NULL, OPT_REFERENCES},
                                         {"annotate", no_argument, NULL, OPT_ANNOTATE},
                                         {"format", required_argument, NULL, 'f'},
                                         {"bootstrap", required_argument, NULL, OPT_BOOTSTRAP},
                                         {"compare", no_argument, NULL, OPT_COMPARE},
                                         {"seed", required_argument, NULL, OPT_SEED},
                                         {"results", required_argument, NULL, OPT_RESULTS},
                                         {"context", no_argument, NULL, OPT_CONTEXT},
                                         TOOL_MAX_RECORD,
                                         {0}};
    bool seeded = false;
    for (int c; (c = tool_getopt(t, "f:", opts, false)) != -1;)
        switch (c) {
        case OPT_REFERENCES: o->references = optarg; break;
        case OPT_ANNOTATE: o->annotate = true; break;
        case 'f':
            if (strcmp(optarg, "text") && strcmp(optarg, "json"))
                tool_usage(t, "--format '%s': neither text nor json", optarg);
            o->s.json = !strcmp(optarg, "json");
            break;
        case OPT_BOOTSTRAP: o->s.bootstrap = tool_size(t, "--bootstrap", optarg, 1, MOST_RESAMPLES); break;
        case OPT_COMPARE: o->compare = true; break;
        case OPT_SEED:
            o->s.seed = tool_size(t, "--seed", optarg, 0, SIZE_MAX);
            seeded = true;
            break;
        case OPT_RESULTS: o->results = optarg; break;
        default: o->s.context = true;
        }
    if (o->compare && t->argc - optind != 2)
        tool_usage(t, "--compare needs two inputs");
    if (!o->compare && t->argc - optind > 1)
        tool_usage(t, "'%s': unexpected operand", t->argv[optind + 1]);
    if (o->compare && (o->annotate || o->results))
        tool_usage(t, "--compare excludes --annotate and --results");
    if (o->annotate && o->s.json)
        tool_usage(t, "--annotate writes a stream, --format does not apply");
    if (o->compare && !o->s.bootstrap)
        o->s.bootstrap = RESAMPLES;
    if (seeded && !o->s.bootstrap)
        tool_usage(t, "--seed without --bootstrap or --compare: nothing is drawn");
}

/* ---- inputs ---- */
/* What is to be read twice, or looked at first, and comes through a pipe, is kept in a temporary file. */
static int seekable(pg_tool *t, int fd, const char *name)
{
    static unsigned char buf[1 << 16];
    int kept;
    ssize_t n;
    pg_err e = {0};
    if (lseek(fd, 0, SEEK_CUR) >= 0)
        return fd;
    if (isatty(fd))
        tool_usage(t, "no input: a stream is expected on standard input, which is a terminal");
    tool_must(t, pg_temp_file(&kept, &e), &e);
    while ((n = pg_read_full(fd, buf, sizeof buf)) > 0)
        if (pg_write_full(kept, buf, (size_t)n))
            tool_die(t, EXIT_FAIL, "cannot write a temporary file: %s", strerror(errno));
    if (n < 0)
        tool_die(t, EXIT_FAIL, "cannot read '%s': %s", name, strerror(errno));
    lseek(kept, 0, SEEK_SET);
    return kept;
}

static int open_input(pg_tool *t, const char *path)
{
    int fd = tool_open_file(t, &path);
    return seekable(t, fd, path);
}

/* ---- --annotate ---- */

static void set_scores(pg_tool *t, pg_rec *rec, const pg_scores *s)
{
    const char *names[PG_METRICS];
    pg_err e = {0};
    for (size_t m = 0; m < PG_METRICS; m++)
        names[m] = pg_metric_name(m);
    if (pg_rec_set_numbers(rec, "scores", names, s->v, PG_METRICS, &e))
        tool_die(t, EXIT_FAIL, "%s", e.msg);
}

static int annotate(pg_tool *t, int fd, const set *s, const pg_corpus *c)
{
    tool_pipe p = {0};
    pg_rec *extra = pg_rec_new();
    pg_scores total = pg_corpus_total(c);
    size_t i = 0;
    if (!extra)
        tool_no_memory(t);
    if (lseek(fd, 0, SEEK_SET) < 0)
        tool_die(t, EXIT_FAIL, "cannot read '%s' again: %s", s->name, strerror(errno));
    tool_open_in(t, &p, fd, s->name, NULL);
    tool_open_out(t, &p, NULL, NULL);
    while (tool_next(t, &p)) {
        if (!pg_rec_has(p.rec, "event") && !pg_rec_has(p.rec, "partial")) {
            if (i == s->n)
                tool_die(t, EXIT_FAIL, "'%s' has changed while it was read", s->name);
            const item *it = &s->items[i++];
            pg_scores v = it->why_not ? total : pg_corpus_image(c, it->scored);
            if (!it->why_not)
                set_scores(t, p.rec, &v);
            else if (!pg_rec_has_error(p.rec))
                tool_record_error(t, p.rec, "cannot score '%s': %s", it->id, it->why_not);
        }
        tool_put(t, &p, p.rec);
    }
    set_scores(t, extra, &total);
    int status = tool_finish(t, &p, extra);
    pg_rec_free(extra);
    return status;
}

/* ---- --compare ---- */
static int by_id(const void *a, const void *b) { return strcmp((*(item *const *)a)->id, (*(item *const *)b)->id); }

static bool same_references(const item *a, const item *b)
{
    bool same = a->n_references == b->n_references;
    for (size_t i = 0; same && i < a->n_references; i++)
        same = !strcmp(a->references[i], b->references[i]);
    return same;
}

static item **sorted(pg_tool *t, set *s)
{
    item **order = pg_alloc(s->scored, sizeof *order);
    size_t n = 0;
    if (!order)
        tool_no_memory(t);
    for (size_t i = 0; i < s->n; i++)
        if (!s->items[i].why_not)
            order[n++] = &s->items[i];
    qsort(order, n, sizeof *order, by_id);
    return order;
}

/* Leaves in both sets the pictures that both have, b's in a's order. */
static void align(pg_tool *t, set *a, set *b)
{
    static const char ALONE[] = "not in the other input";
    item **order = sorted(t, b), **out = pg_alloc(a->n, sizeof *out);
    item *items = pg_alloc(a->n, sizeof *items);
    size_t both = 0, others = 0, had = b->scored;
    if (!out || !items)
        tool_no_memory(t);
    for (size_t i = 0; i < a->n; i++) {
        item *it = &a->items[i];
        item **found = it->why_not || !had ? NULL : bsearch(&it, order, had, sizeof *order, by_id);
        if (!it->why_not && !found)
            it->why_not = ALONE;
        if (it->why_not)
            continue;
        others += !same_references(it, *found);
        it->scored = both;
        out[both++] = *found;
    }
    if (both < a->scored || both < b->scored)
        tool_warn(t, "%zu pictures are in both inputs and compared; %zu are in '%s' alone, %zu in '%s' alone", both, a->scored - both, a->name,
                  b->scored - both, b->name);
    if (others)
        tool_die(t, EXIT_FAIL, "%zu pictures have other references in '%s' than in '%s': their scores cannot be compared", others, a->name, b->name);
    if (!both)
        tool_die(t, EXIT_FAIL, "'%s' and '%s' have no picture in common (compared by id)", a->name, b->name);
    for (size_t i = 0; i < both; i++)
        items[i] = *out[i];
    /* What b keeps moves over; what it loses is freed. */
    for (size_t i = 0; i < both; i++)
        *out[i] = (item){.image = out[i]->image};
    set_free(&(set){.items = b->items, .n = b->n});
    b->items = items;
    b->n = b->scored = a->scored = both;
    free(order);
    free(out);
}

static int compare(pg_tool *t, const options *o, const pg_coco *coco)
{
    set s[2] = {{0}, {0}};
    bool bad = false;
    for (int i = 0; i < 2; i++) {
        int fd = open_input(t, t->argv[optind + i]);
        set_read(t, &s[i], fd, t->argv[optind + i], coco);
        close(fd);
        bad |= s[i].scored < s[i].n;
    }
    align(t, &s[0], &s[1]);
    put_comparison(t, &s[0], &s[1], &o->s);
    set_free(&s[0]);
    set_free(&s[1]);
    return bad ? EXIT_RECORDS : EXIT_OK;
}

static int score(pg_tool *t, const options *o, const pg_coco *coco)
{
    const char *path = optind < t->argc ? t->argv[optind] : NULL;
    int fd = path ? open_input(t, path) : 0, status;
    char first;
    set s = {0};
    off_t at = path ? -1 : lseek(fd, 0, SEEK_CUR);
    if (at >= 0 && pg_pread_full(fd, &first, 1, at) == 1 && (first == '{' || first == '['))
        tool_die(t, EXIT_STREAM, "standard input is JSON, a stream is wanted there: name the file, pg-score FILE");
    if (o->annotate && !path)
        fd = seekable(t, fd, "standard input");
    set_read(t, &s, fd, path, coco);
    pg_corpus *c = score_set(t, &s, &o->s);
    status = s.scored < s.n ? EXIT_RECORDS : EXIT_OK;
    if (o->results && write_results(t, &s, o->results))
        status = EXIT_RECORDS;
    if (o->annotate) {
        int done = annotate(t, fd, &s, c);
        status = done ? done : status;
    }
    else
        put_scores(t, &s, c, &o->s);
    pg_corpus_free(c);
    set_free(&s);
    return status;
}

int main(int argc, char **argv)
{
    pg_tool t;
    options o = {0};
    pg_coco coco = {0};
    pg_err e = {0};
    tool_start(&t, "pg-score", help, argc, argv);
    parse(&t, &o);
    if (o.references && pg_coco_open(&coco, o.references, tool_max_record(&t), &e))
        tool_die(&t, tool_stream_status(&e), "%s", e.msg);
    if (o.references && coco.n == 0)
        tool_die(&t, EXIT_FAIL, "'%s' holds no images", o.references);
    int status = o.compare ? compare(&t, &o, &coco) : score(&t, &o, &coco);
    pg_coco_close(&coco);
    /* With --annotate stdout is closed, and checked, already. */
    return o.annotate ? status : tool_close_stdout(&t) ? EXIT_FAIL : status;
}
