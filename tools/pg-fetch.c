/* Sources to a stream of examples, or to files in a folder. What each kind of source is lies in fetch_*.c beside this file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/braces.h"
#include "base/file.h"
#include "base/num.h"
#include "fetch.h"
#include "net/url.h"

static const char help[] =
    "usage: pg-fetch [options] SOURCE... > examples.pgs\n"
    "       pg-fetch -o DIR [options] SOURCE...\n"
    "Writes pictures and their captions as a stream of examples, or downloads files into DIR.\n"
    "\n"
    "SOURCE is an image (PNG, JPEG), a folder of images (recursive, sorted; name.txt beside name.jpg is its caption),\n"
    "a .jsonl file (keys image, suffix, prefix, references, id; paths relative to the file), - for JSON lines on stdin,\n"
    "a .json file of COCO's captions, a .tar of WebDataset's shape, a stream kept in a .pgs file, or one of these\n"
    "from elsewhere:\n"
    "  https://HOST/PATH    gs://BUCKET/PATH    file:///PATH\n"
    "  kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION][/FILE]    hf://OWNER/REPOSITORY[@REVISION][/FILE]\n"
    "  hf://datasets/OWNER/REPOSITORY[@REVISION][/FILE]\n"
    "Lists in braces are known, here and in the shell: 'gs://BUCKET/shard-{0000..0099}.tar', '{train,val}.jsonl'.\n"
    "\n"
    "  -n, --limit N       stop after N examples\n"
    "      --shard I/N     of N parts, part I (from 0): every Nth source, or where there are fewer than N every Nth record\n"
    "      --shuffle N     in an order drawn from a buffer of N examples, sources shuffled too\n"
    "      --seed N        another such order (default 0)\n"
    "      --epochs K      K passes, each in an order of its own where shuffled; 0: without end (default 1)\n"
    "      --skip N        leave out the first N records of what comes, as after a run that was cut there\n"
    "      --images DIR    where the pictures of a .json file are (default: beside it)\n"
    "  -o, --output DIR    download into DIR and print the paths; of a model's folder, what a model needs\n"
    "      --all           everything in the folder\n"
    "      --dry-run       list sizes and names only\n"
    "      --list          print the sources, those of --shard, one a line, lists in braces taken apart; nothing is fetched\n"
    "      --sha256 HEX, --md5 HEX   what the one file must have\n"
    "      --no-cache, --cache-size SIZE   of streamed sources: none, or another size (default 4G)\n"
    "      --parallel N    transfers at once (default 4)\n"
    "      --tries N       tries without progress before giving up (default 6)\n"
    "      --stall S       seconds without progress before a connection is given up (default 30)\n"
    "      --max-record SIZE   leave out pictures that would make larger records (default 1G)\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "Credentials come from the environment or the files of the hosts' own clients: see pg-fetch(1).\n"
    "\n"
    "examples:\n"
    "  pg-fetch photos/ | pg-resize -m MODEL | pg-tokenize -m MODEL | pg-infer -m MODEL | pg-render -f captions\n"
    "  pg-fetch -o model kaggle://google/paligemma/jax/paligemma-3b-pt-224 gs://big_vision/paligemma_tokenizer.model\n";

enum { OPT_ALL = 256, OPT_IMAGES, OPT_SHARD, OPT_SHUFFLE, OPT_SEED, OPT_EPOCHS, OPT_SKIP, OPT_LIST, OPT_DRY, OPT_SHA256, OPT_MD5, OPT_NO_CACHE, OPT_CACHE_SIZE, OPT_PARALLEL, OPT_TRIES, OPT_STALL };

typedef struct source {
    char *text;
    bool listed; /* in braces, with others */
} source;
typedef struct sources {
    source *at;
    size_t n;
} sources;

/* 500M, 4G, or bytes */
static uint64_t size_option(fetch *f, const char *value)
{
    static const char units[] = "kMGT";
    size_t n = strlen(value);
    const char *unit = n ? strchr(units, value[n - 1]) : NULL;
    char *digits = pg_strndup(value, n - (n && unit && *unit));
    uint64_t v = 0, factor = 1;
    for (const char *u = units; unit && *unit && u <= unit; u++) factor *= 1000;
    if (!digits || !pg_parse_u64(digits, &v) || v > UINT64_MAX / factor) tool_usage(&f->t, "--cache-size '%s': not a size like 500M or 4G", value);
    free(digits);
    return v * factor;
}

/* I/N */
static void shard_option(fetch *f, const char *value)
{
    order *o = &f->order;
    size_t slash = strcspn(value, "/");
    char *i = pg_strndup(value, slash);
    if (!i) tool_no_memory(&f->t);
    if (!value[slash] || !pg_parse_size(i, &o->shard) || !pg_parse_size(value + slash + 1, &o->shards) || o->shard >= o->shards)
        tool_usage(&f->t, "--shard '%s': not I/N with I from 0 to N-1", value);
    free(i);
}

static void options(fetch *f)
{
    static const struct option opts[] = {
        {"shard", 1, NULL, OPT_SHARD}, {"shuffle", 1, NULL, OPT_SHUFFLE}, {"seed", 1, NULL, OPT_SEED},
        {"epochs", 1, NULL, OPT_EPOCHS}, {"skip", 1, NULL, OPT_SKIP}, {"list", 0, NULL, OPT_LIST}, {"limit", 1, NULL, 'n'},
        {"output", 1, NULL, 'o'}, {"all", 0, NULL, OPT_ALL}, {"images", 1, NULL, OPT_IMAGES},
        {"dry-run", 0, NULL, OPT_DRY}, {"sha256", 1, NULL, OPT_SHA256}, {"md5", 1, NULL, OPT_MD5},
        {"no-cache", 0, NULL, OPT_NO_CACHE}, {"cache-size", 1, NULL, OPT_CACHE_SIZE}, {"parallel", 1, NULL, OPT_PARALLEL},
        {"tries", 1, NULL, OPT_TRIES}, {"stall", 1, NULL, OPT_STALL}, TOOL_MAX_RECORD, {NULL, 0, NULL, 0}};
    for (int c; (c = tool_getopt(&f->t, "n:o:", opts, false)) != -1;) {
        switch (c) {
        case 'n': f->limit = tool_size(&f->t, "--limit", optarg, 0, SIZE_MAX / 2); break;
        case 'o': f->out = *optarg ? optarg : "."; break;
        case OPT_IMAGES: f->images = *optarg ? optarg : "."; break;
        case OPT_SHARD: shard_option(f, optarg); break;
        case OPT_SHUFFLE: f->order.room = tool_size(&f->t, "--shuffle", optarg, 1, 100000000); break;
        case OPT_SEED: f->order.seed = tool_size(&f->t, "--seed", optarg, 0, SIZE_MAX); break;
        case OPT_EPOCHS: f->order.epochs = tool_size(&f->t, "--epochs", optarg, 0, SIZE_MAX / 2); break;
        case OPT_SKIP: f->order.left_out = tool_size(&f->t, "--skip", optarg, 0, SIZE_MAX / 2); break;
        case OPT_LIST: f->list = true; break;
        case OPT_ALL: f->all = true; break;
        case OPT_DRY: f->dry_run = true; break;
        case OPT_SHA256:
            if (!pg_sum_hex(&f->want, PG_SUM_SHA256, optarg)) tool_usage(&f->t, "--sha256 '%s': not 64 hexadecimal digits", optarg);
            break;
        case OPT_MD5:
            if (!pg_sum_hex(&f->want, PG_SUM_MD5, optarg)) tool_usage(&f->t, "--md5 '%s': not 32 hexadecimal digits", optarg);
            break;
        case OPT_NO_CACHE: f->no_cache = true; break;
        case OPT_CACHE_SIZE: f->cache_size = size_option(f, optarg); break;
        case OPT_PARALLEL: f->net.transfers = tool_size(&f->t, "--parallel", optarg, 1, 16); break;
        case OPT_TRIES: f->net.tries = tool_size(&f->t, "--tries", optarg, 1, 1000); break;
        case OPT_STALL: f->net.stall_s = tool_size(&f->t, "--stall", optarg, 1, 86400); break;
        default: break;
        }
    }
}

/* The command line goes into the stream's header and from there into reports: a URL's query may be a signature. */
static char **public_arguments(fetch *f, int argc, char **argv)
{
    char **all = pg_calloc((size_t)argc + 1, sizeof *all);
    for (int i = 0; all && i < argc; i++)
        if (!(all[i] = pg_url_redact(argv[i]))) all = NULL;
    if (!all) tool_no_memory(&f->t);
    return all;
}

static char *source_of(fetch *f, const char *s)
{
    char *copy = NULL;
    if (pg_url_is_file(s)) {
        if (!(copy = pg_url_file(s))) tool_usage(&f->t, "'%s': want file:///PATH", s);
        return copy;
    }
    size_t scheme = fetch_odd_scheme(s);
    if (scheme)
        tool_usage(&f->t, "'%.*s://' is no scheme that is known (https, http, gs, kaggle, hf, file)", (int)scheme, s);
    if (!(copy = pg_strdup(s))) tool_no_memory(&f->t);
    return copy;
}

/* Lists in braces are several sources. A file that has such a name is that file. */
static void add_sources(fetch *f, sources *l, const char *text)
{
    char **names = NULL;
    size_t n = 0;
    pg_err e = {0};
    if (!access(text, F_OK)) {
        names = pg_calloc(1, sizeof *names);
        if (names && (names[0] = pg_strdup(text))) n = 1;
    } else if (pg_braces(text, &names, &n, &e)) tool_usage(&f->t, "'%s': %s", text, e.msg);
    source *at = n ? pg_realloc(l->at, l->n + n, sizeof *at) : NULL;
    if (!at) tool_no_memory(&f->t);
    l->at = at;
    for (size_t i = 0; i < n; i++) {
        at[l->n++] = (source){source_of(f, names[i]), n > 1};
        free(names[i]);
    }
    free(names);
}

/* With at least as many sources as shards, this one's are what stays. */
static void keep_shard(fetch *f, sources *l)
{
    order *o = &f->order;
    size_t n = 0;
    if (!o->shards || l->n < o->shards) return;
    o->by_source = true;
    for (size_t i = 0; i < l->n; i++) {
        if (i % o->shards == o->shard) l->at[n++] = l->at[i];
        else free(l->at[i].text);
    }
    l->n = n;
}

static void lines(fetch *f, const char *path)
{
    FILE *in = fopen(path, "rb");
    char *dir = pg_path_dir(path);
    if (!dir) tool_no_memory(&f->t);
    if (in) fetch_jsonl(f, in, path, dir, NULL);
    else fetch_no_source(f, path, EXIT_FAIL, "cannot open '%s': %s", path, strerror(errno));
    if (in) fclose(in);
    free(dir);
}

/* Of a table: how it becomes a source. */
static void no_source(fetch *f, const char *path)
{
    bool csv = pg_ends_with(path, ".csv");
    if (csv || pg_ends_with(path, ".tsv"))
        fetch_no_source(f, path, EXIT_FAIL, "'%s' is no source, but Miller makes JSON lines of a table with columns image and caption: mlr -S --i%s --ojsonl rename caption,suffix '%s' > train.jsonl",
                        path, csv ? "csv" : "tsv", path);
    else
        fetch_no_source(f, path, EXIT_FAIL, "'%s' is no source: neither an image (.png, .jpg, .jpeg, .jpe, .jfif), nor a folder, nor a .jsonl, .json, .tar or .pgs file", path);
}

static void local(fetch *f, const char *path)
{
    if (!strcmp(path, "-")) fetch_jsonl(f, stdin, "stdin", ".", NULL);
    else if (pg_is_dir(path)) fetch_folder(f, path);
    else if (pg_ends_with(path, ".jsonl")) lines(f, path);
    else if (pg_ends_with(path, ".json")) fetch_coco(f, path);
    else if (pg_ends_with(path, ".tar")) fetch_tar(f, path, path);
    else if (pg_ends_with(path, ".pgs")) fetch_pgs(f, path, path);
    else if (fetch_is_image(path)) fetch_image(f, path, path);
    else no_source(f, path);
}

/* What would fail at once fails before anything is written. */
static void check(fetch *f, const sources *l)
{
    if (f->order.seed && !f->order.room) tool_usage(&f->t, "--seed without --shuffle: nothing is drawn");
    if (f->all || f->want.have) tool_usage(&f->t, "%s is for downloads: give -o DIR", f->all ? "--all" : "a checksum");
    bool coco = false;
    for (size_t i = 0; i < l->n; i++) {
        const char *s = l->at[i].text;
        bool input = !strcmp(s, "-");
        if (pg_source_is_remote(s)) continue;
        coco = coco || pg_ends_with(s, ".json");
        if (input && f->order.epochs != 1) tool_usage(&f->t, "--epochs: standard input can be read once");
        if (!input && !l->at[i].listed && access(s, R_OK)) tool_die(&f->t, EXIT_FAIL, "cannot read '%s': %s", s, strerror(errno));
    }
    if (f->images && !coco) tool_usage(&f->t, "--images '%s': no source is a .json file of COCO's captions", f->images);
    if (f->images && !pg_is_dir(f->images)) tool_die(&f->t, EXIT_FAIL, "--images '%s': no such folder", f->images);
}

enum { SHARDS_AHEAD = 4 }; /* remote archives under way, the one that is read among them */

/* One pass over the sources in `turn`. */
static void pass(fetch *f, const sources *l, const size_t *turn)
{
    ahead *under_way[SHARDS_AHEAD] = {0};
    size_t started = 0, i = 0;
    for (; i < l->n && fetch_more(f); i++) {
        for (; started < l->n && started < i + SHARDS_AHEAD; started++)
            under_way[started % SHARDS_AHEAD] = ahead_shard(f, l->at[turn[started]].text);
        const source *s = &l->at[turn[i]];
        ahead **a = &under_way[i % SHARDS_AHEAD];
        f->order.source = turn[i];
        f->order.number = 0;
        f->listed = s->listed;
        if (!fetch_is_image(s->text)) order_drain(f);
        if (pg_source_is_remote(s->text)) fetch_remote(f, s->text, *a);
        else local(f, s->text);
        ahead_free(*a);
        *a = NULL;
    }
    order_end(f);
    if (i < started) fetch_disconnect(f); /* enough was had before their turn */
    for (; i < started; i++) ahead_free(under_way[i % SHARDS_AHEAD]);
}

static int stream(fetch *f, sources *l)
{
    order *o = &f->order;
    size_t *turn = pg_alloc(l->n, sizeof *turn);
    check(f, l);
    f->p.rec = pg_rec_new();
    if (!f->p.rec || !turn) tool_no_memory(&f->t);
    f->t.argv = public_arguments(f, f->t.argc, f->t.argv);
    if (l->n && pg_ends_with(l->at[0].text, ".pgs") && pg_is_file(l->at[0].text)) f->p.header = fetch_header(f, l->at[0].text);
    tool_open_out(&f->t, &f->p, "examples", NULL);
    for (o->epoch = 0; (!o->epochs || o->epoch < o->epochs) && fetch_more(f); o->epoch++) {
        if (order_skips_epoch(f)) continue;
        for (size_t i = 0; i < l->n; i++) turn[i] = i;
        order_epoch(f, turn, l->n);
        pass(f, l, turn);
        if (!o->of_epoch) break; /* nor will the next pass give any */
    }
    if (o->left_out && fetch_more(f)) tool_warn(&f->t, "--skip leaves out %llu more records than there are", (unsigned long long)o->left_out);
    fetch_remarks(f);
    fetch_disconnect(f);
    free(turn);
    pg_cache_close(f->cache);
    pg_strs_free(f->t.argv, (size_t)f->t.argc);
    return tool_finish(&f->t, &f->p, NULL);
}

static void need_sources(fetch *f, const char *what)
{
    const order *o = &f->order;
    if (o->shards && !o->by_source) tool_usage(&f->t, "--shard %zu/%zu: %s by sources, of which there are fewer", o->shard, o->shards, what);
}

static int list(fetch *f, const sources *l)
{
    need_sources(f, "--list goes");
    for (size_t i = 0; i < l->n; i++) puts(l->at[i].text);
    return tool_close_stdout(&f->t);
}

static int download(fetch *f, sources *l)
{
    const order *o = &f->order;
    const char *odd = f->images ? "--images" : o->room ? "--shuffle" : o->epochs != 1 ? "--epochs" : o->left_out ? "--skip" : NULL;
    if (odd) tool_usage(&f->t, "%s is for streams, not for downloads", odd);
    need_sources(f, "downloads go");
    if (!f->out) f->out = ".";
    char **texts = pg_calloc(l->n, sizeof *texts);
    if (!texts) tool_no_memory(&f->t);
    for (size_t i = 0; i < l->n; i++) texts[i] = l->at[i].text;
    int rc = fetch_download(f, texts, l->n);
    free(texts);
    return rc;
}

int main(int argc, char **argv)
{
    fetch f = {.limit = SIZE_MAX, .cache_size = 4000000000u, .order.epochs = 1};
    sources l = {0};
    tool_start(&f.t, "pg-fetch", help, argc, argv);
    options(&f);
    if (optind == argc) tool_usage(&f.t, "no source: name an image, a folder, a .jsonl file, a URL, or -");
    for (int i = optind; i < argc; i++) add_sources(&f, &l, argv[i]);
    keep_shard(&f, &l);
    int rc = f.list ? list(&f, &l) : f.out || f.dry_run ? download(&f, &l) : stream(&f, &l);
    fetch_free(&f);
    for (size_t i = 0; i < l.n; i++) free(l.at[i].text);
    free(l.at);
    return rc;
}
