/* Sources to a stream of examples, or to files in a folder. What each kind of source is lies in fetch_*.c beside this file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

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
    "a .json file of COCO's captions, a .tar of WebDataset's shape, or one of these from elsewhere:\n"
    "  https://HOST/PATH    gs://BUCKET/PATH    file:///PATH\n"
    "  kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION][/FILE]    hf://OWNER/REPOSITORY[@REVISION][/FILE]\n"
    "  hf://datasets/OWNER/REPOSITORY[@REVISION][/FILE]\n"
    "\n"
    "  -n, --limit N       stop after N examples\n"
    "      --images DIR    where the pictures of a .json file are (default: beside it)\n"
    "  -o, --output DIR    download into DIR and print the paths; of a model's folder, what a model needs\n"
    "      --all           everything in the folder\n"
    "      --dry-run       list sizes and names only\n"
    "      --sha256 HEX, --md5 HEX   what the one file must have\n"
    "      --no-cache, --cache-size SIZE   of streamed sources: none, or another size (default 4G)\n"
    "      --parallel N    transfers at once (default 4)\n"
    "      --tries N       tries without progress before giving up (default 6)\n"
    "      --stall S       seconds without progress before a connection is given up (default 30)\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "Credentials come from the environment or the files of the hosts' own clients: see pg-fetch(1).\n"
    "\n"
    "examples:\n"
    "  pg-fetch photos/ | pg-resize -m MODEL | pg-tokenize -m MODEL | pg-infer -m MODEL | pg-render -f captions\n"
    "  pg-fetch -o model kaggle://google/paligemma/jax/paligemma-3b-pt-224 gs://big_vision/paligemma_tokenizer.model\n";

enum { OPT_ALL = 256, OPT_IMAGES, OPT_DRY, OPT_SHA256, OPT_MD5, OPT_NO_CACHE, OPT_CACHE_SIZE, OPT_PARALLEL, OPT_TRIES, OPT_STALL };

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

static void options(fetch *f)
{
    static const struct option opts[] = {
        {"limit", 1, NULL, 'n'}, {"output", 1, NULL, 'o'}, {"all", 0, NULL, OPT_ALL}, {"images", 1, NULL, OPT_IMAGES}, {"dry-run", 0, NULL, OPT_DRY}, {"sha256", 1, NULL, OPT_SHA256},
        {"md5", 1, NULL, OPT_MD5}, {"no-cache", 0, NULL, OPT_NO_CACHE}, {"cache-size", 1, NULL, OPT_CACHE_SIZE}, {"parallel", 1, NULL, OPT_PARALLEL},
        {"tries", 1, NULL, OPT_TRIES}, {"stall", 1, NULL, OPT_STALL}, {NULL, 0, NULL, 0}};
    for (int c; (c = tool_getopt(&f->t, "n:o:", opts, false)) != -1;) {
        switch (c) {
        case 'n': f->limit = tool_size(&f->t, "--limit", optarg, 0, SIZE_MAX / 2); break;
        case 'o': f->out = *optarg ? optarg : "."; break;
        case OPT_IMAGES: f->images = *optarg ? optarg : "."; break;
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
    if (!all) tool_die(&f->t, EXIT_FAIL, "out of memory");
    return all;
}

/* file:///a%20b is the path /a b; other schemes that are not known are no paths either. */
static char *source_of(fetch *f, const char *s)
{
    char *copy = NULL;
    if (!strncasecmp(s, "file://", 7)) {
        s += 7;
        if (!strncasecmp(s, "localhost/", 10)) s += 9;
        if (*s != '/' || !(copy = pg_url_decode(s))) tool_usage(&f->t, "'file://%s': want file:///PATH", s);
        return copy;
    }
    size_t scheme = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    if (scheme && !strncmp(s + scheme, "://", 3) && !pg_source_is_remote(s))
        tool_usage(&f->t, "'%.*s://' is no scheme that is known (https, http, gs, kaggle, hf, file)", (int)scheme, s);
    if (!(copy = pg_strdup(s))) tool_die(&f->t, EXIT_FAIL, "out of memory");
    return copy;
}

static void local(fetch *f, const char *path)
{
    if (!strcmp(path, "-")) fetch_jsonl(f, stdin, "stdin", ".", NULL);
    else if (pg_is_dir(path)) fetch_folder(f, path);
    else if (pg_ends_with(path, ".jsonl")) {
        FILE *in = fopen(path, "rb");
        char *dir = pg_path_dir(path);
        if (!in || !dir) tool_die(&f->t, EXIT_FAIL, "cannot open '%s'", path);
        fetch_jsonl(f, in, path, dir, NULL);
        fclose(in);
        free(dir);
    } else if (pg_ends_with(path, ".json")) fetch_coco(f, path);
    else if (pg_ends_with(path, ".tar")) fetch_tar(f, path);
    else if (fetch_is_image(path)) fetch_image(f, path, path);
    else tool_die(&f->t, EXIT_FAIL, "'%s' is no source: neither an image (.png, .jpg, .jpeg, .jpe, .jfif), nor a folder, nor a .jsonl, .json or .tar file", path);
}

static int stream(fetch *f, char **sources, size_t n)
{
    if (f->all || f->want.have) tool_usage(&f->t, "%s is for downloads: give -o DIR", f->all ? "--all" : "a checksum");
    bool coco = false;
    for (size_t i = 0; i < n; i++) coco = coco || (!pg_source_is_remote(sources[i]) && pg_ends_with(sources[i], ".json"));
    if (f->images && !coco) tool_usage(&f->t, "--images '%s': no source is a .json file of COCO's captions", f->images);
    if (f->images && !pg_is_dir(f->images)) tool_die(&f->t, EXIT_FAIL, "--images '%s': no such folder", f->images);
    for (size_t i = 0; i < n; i++)
        if (!pg_source_is_remote(sources[i]) && strcmp(sources[i], "-") && access(sources[i], R_OK))
            tool_die(&f->t, EXIT_FAIL, "cannot read '%s': no such file or no permission", sources[i]);
    f->p.rec = pg_rec_new();
    if (!f->p.rec) tool_die(&f->t, EXIT_FAIL, "out of memory");
    f->t.argv = public_arguments(f, f->t.argc, f->t.argv);
    tool_open_out(&f->t, &f->p, "examples", NULL);
    for (size_t i = 0; i < n && f->done < f->limit; i++) {
        if (pg_source_is_remote(sources[i])) fetch_remote(f, sources[i]);
        else local(f, sources[i]);
    }
    fetch_remarks(f);
    fetch_disconnect(f);
    pg_cache_close(f->cache);
    pg_strs_free(f->t.argv, (size_t)f->t.argc);
    return tool_finish(&f->t, &f->p, NULL);
}

int main(int argc, char **argv)
{
    fetch f = {.limit = SIZE_MAX, .cache_size = 4000000000u};
    tool_start(&f.t, "pg-fetch", help, argc, argv);
    options(&f);
    if (optind == argc) tool_usage(&f.t, "no source: name an image, a folder, a .jsonl file, a URL, or -");
    size_t n = (size_t)(argc - optind);
    char **sources = pg_calloc(n, sizeof *sources);
    if (!sources) tool_die(&f.t, EXIT_FAIL, "out of memory");
    for (size_t i = 0; i < n; i++) sources[i] = source_of(&f, argv[optind + (int)i]);
    int rc;
    if (f.out || f.dry_run) {
        if (f.images) tool_usage(&f.t, "--images is for streams, not for downloads");
        if (!f.out) f.out = ".";
        rc = fetch_download(&f, sources, n);
    } else rc = stream(&f, sources, n);
    fetch_free(&f);
    pg_strs_free(sources, n);
    return rc;
}
