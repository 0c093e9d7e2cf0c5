/* Sources to a stream of examples. What each kind of source is lies in fetch_*.c beside this file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "fetch.h"

static const char help[] =
    "usage: pg-fetch [options] SOURCE... > examples.pgs\n"
    "Writes pictures and their captions as a stream of examples.\n"
    "\n"
    "SOURCE is an image (PNG, JPEG), a folder of images (recursive, sorted; name.txt beside name.jpg is its caption),\n"
    "a .jsonl file (keys image, suffix, prefix, references, id; paths relative to the file), or - for JSON lines on stdin.\n"
    "\n"
    "  -n, --limit N    stop after N examples\n"
    "  -o, --output DIR download into DIR; for remote sources, which this build does not have\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "example:\n"
    "  pg-fetch photos/ | pg-resize | pg-tokenize -m MODEL | pg-infer -m MODEL | pg-render -f captions\n";

static bool is_remote(const char *s)
{
    static const char *const schemes[] = {"http://", "https://", "gs://", "kaggle://", "hf://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (!strncmp(s, schemes[i], strlen(schemes[i]))) return true;
    return false;
}

int main(int argc, char **argv)
{
    static const struct option opts[] = {{"limit", 1, NULL, 'n'}, {"output", 1, NULL, 'o'}, {NULL, 0, NULL, 0}};
    fetch f = {.limit = SIZE_MAX};
    tool_start(&f.t, "pg-fetch", help, argc, argv);
    for (int c; (c = tool_getopt(&f.t, "n:o:", opts, false)) != -1;) {
        if (c == 'n') f.limit = tool_size(&f.t, "--limit", optarg, 0, SIZE_MAX / 2);
        if (c == 'o') f.out = optarg;
    }
    if (optind == argc) tool_usage(&f.t, "no source: name an image, a folder, a .jsonl file, or -");
    for (int i = optind; i < argc; i++)
        if (is_remote(argv[i])) tool_die(&f.t, EXIT_FAIL, "cannot fetch '%s': remote sources are not in this build", argv[i]);
    if (f.out) tool_usage(&f.t, "-o is for remote sources; local ones become a stream");
    for (int i = optind; i < argc; i++)
        if (strcmp(argv[i], "-") && access(argv[i], R_OK)) tool_die(&f.t, EXIT_FAIL, "cannot read '%s': no such file or no permission", argv[i]);
    f.p.rec = pg_rec_new();
    if (!f.p.rec) tool_die(&f.t, EXIT_FAIL, "out of memory");
    tool_open_out(&f.t, &f.p, "examples", NULL);
    for (int i = optind; i < argc && f.done < f.limit; i++) {
        if (!strcmp(argv[i], "-")) fetch_jsonl(&f, stdin, "stdin", ".");
        else if (pg_is_dir(argv[i])) fetch_folder(&f, argv[i]);
        else if (pg_ends_with(argv[i], ".jsonl")) {
            FILE *in = fopen(argv[i], "rb");
            char *dir = pg_path_dir(argv[i]);
            if (!in || !dir) tool_die(&f.t, EXIT_FAIL, "cannot open '%s'", argv[i]);
            fetch_jsonl(&f, in, argv[i], dir);
            fclose(in);
            free(dir);
        } else if (fetch_is_image(argv[i])) fetch_image(&f, argv[i], argv[i]);
        else tool_die(&f.t, EXIT_FAIL, "'%s' is no source: neither an image (.png, .jpg, .jpeg), nor a folder, nor a .jsonl file", argv[i]);
    }
    fetch_free(&f);
    return tool_finish(&f.t, &f.p, NULL);
}
