/* Transparent pictures onto backgrounds: random colour, scale and shift, the same for the same seed. Writes a stream of examples with
 * pixels (for pre-training, a million of them), or with -o a folder of PNG files and a JSONL (for fine-tuning, to look at).
 * augment_draw.c draws, augment_text.c says what is seen. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "augment.h"
#include "stream/stream.h"

enum { FEW = 64 }; /* things that a ramp begins with */

typedef struct options {
    size_t n, size, ramp;
    uint64_t seed;
    const char *out, *things, *text, *on;
} options;

typedef struct output {
    pg_writer *w; /* a stream, or */
    FILE *list;   /* a folder's examples.jsonl */
    pg_rec *rec;
    float *pixels;
} output;

void die(const char *what, const char *why)
{
    fprintf(stderr, "augment: %s: %s\n", what, why);
    exit(1);
}

static void open_output(output *out, const options *o, int argc, char **argv)
{
    pg_err e = {0};
    out->rec = pg_rec_new();
    out->pixels = pg_floats(o->size * o->size * 3);
    if (!out->rec || !out->pixels) die("memory", "none left");
    if (!o->out) {
        if (isatty(1)) die("stdout", "a binary stream is not written to a terminal");
        if (pg_writer_new(&out->w, 1, "stdout", &e) || pg_writer_header(out->w, NULL, "examples", "augment", "1", argc, argv, NULL, &e))
            die("stdout", e.msg);
        return;
    }
    if (mkdir(o->out, 0777) && errno != EEXIST) die(o->out, strerror(errno));
    char *path = pg_format("%s/examples.jsonl", o->out);
    if (!path || !(out->list = fopen(path, "w"))) die(o->out, strerror(errno));
    free(path);
}

static void put_stream(output *out, const char *id, const char *prefix, const char *suffix, const unsigned char *rgb, size_t size)
{
    pg_err e = {0};
    size_t n = size * size * 3;
    for (size_t i = 0; i < n; i++) out->pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
    pg_tensor t = {.type = "<f4", .ndim = 3, .shape = {size, size, 3}, .data = (const unsigned char *)out->pixels, .bytes = n * sizeof(float)};
    pg_rec_clear(out->rec);
    if (pg_rec_set_str(out->rec, "id", id, strlen(id), &e) || pg_rec_set_str(out->rec, "prefix", prefix, strlen(prefix), &e) ||
        pg_rec_set_str(out->rec, "suffix", suffix, strlen(suffix), &e) || pg_rec_set_tensor(out->rec, "pixels", &t, &e) ||
        pg_writer_add(out->w, out->rec, &e))
        die("stdout", e.msg);
}

static void put_file(output *out, const char *dir, const char *id, const char *suffix, const unsigned char *rgb, size_t size)
{
    char *path = pg_format("%s/%s.png", dir, id);
    png_image p = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)size, .height = (png_uint_32)size, .format = PNG_FORMAT_RGB};
    if (!path || !png_image_write_to_file(&p, path, 0, rgb, 0, NULL)) die(id, p.message);
    json_t *line = json_pack("{s:s+,s:s,s:s}", "image", id, ".png", "suffix", suffix, "id", id);
    if (!line || json_dumpf(line, out->list, JSON_COMPACT) || fputc('\n', out->list) == EOF) die(dir, "the list cannot be written");
    json_decref(line);
    free(path);
}

/* Each language as often as the others; while things grow, the first one more often: the others build on what is seen with it. */
static size_t pick_language(const lists *l, const thing *t, double amount, pg_rng *r)
{
    if (amount < 1) {
        size_t k = (size_t)pg_rng_below(r, 2 * l->n_langs + 1), lang = k < 3 ? 0 : (k - 1) / 2;
        return pg_rng_double(r) < amount && t->name[lang] ? lang : 0;
    }
    size_t lang = (size_t)pg_rng_below(r, l->n_langs);
    return t->name[lang] ? lang : 0;
}

static void put_example(output *out, const options *o, const lists *l, thing *t, size_t i, pg_rng *r, unsigned char *rgb)
{
    char id[256], prefix[64], suffix[512];
    double amount = i < o->ramp ? (double)i / (double)o->ramp : 1; /* from easy to the full range: a small model starts faster */
    size_t lang = pick_language(l, t, amount, r), colour = WHITE;
    double white = !strcmp(o->on, "white") ? 1 : !strcmp(o->on, "colours") ? 0 : 1 - 0.8 * amount;
    if (pg_rng_double(r) >= white) colour = (size_t)pg_rng_below(r, WHITE);
    bool mix = !strcmp(o->text, "mix"), full = !strcmp(o->text, "full");
    if (mix) full = pg_rng_double(r) < 0.4 && t->described[lang] && text_describes(l->lang[lang]);
    if (!t->rgba) picture_load(t, o->size); /* a small set uses a part of the things */
    picture_draw(t, r, o->size, colour, amount, rgb);
    snprintf(id, sizeof id, "%06zu-%s", i, t->code);
    snprintf(prefix, sizeof prefix, "%s %s", mix && full ? "describe" : "caption", l->lang[lang]);
    if (!text_make(t, lang, l->lang[lang], colour, full, suffix, sizeof suffix)) die(id, "no words for it");
    if (o->out) put_file(out, o->out, id, suffix, rgb, o->size);
    else put_stream(out, id, prefix, suffix, rgb, o->size);
}

static void shuffle(pg_rng *r, size_t *v, size_t *perm, size_t n)
{
    size_t *old = pg_calloc(n, sizeof *old);
    if (!old) die("memory", "none left");
    memcpy(old, v, n * sizeof *old);
    pg_rng_permutation(r, perm, n);
    for (size_t i = 0; i < n; i++) v[i] = old[perm[i]];
    free(old);
}

static bool one_of(const char *s, const char *a, const char *b, const char *c)
{
    return !strcmp(s, a) || !strcmp(s, b) || !strcmp(s, c);
}

static int parse(options *o, int argc, char **argv)
{
    static const struct option opts[] = {{"things", 1, NULL, 't'}, {"text", 1, NULL, 'x'}, {"seed", 1, NULL, 's'}, {"size", 1, NULL, 'z'},
                                         {"on", 1, NULL, 'b'}, {"ramp", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "n:o:", opts, NULL)) != -1;)
        switch (c) {
        case 'n': if (!pg_parse_size(optarg, &o->n)) die("-n", "not a number"); break;
        case 'o': o->out = optarg; break;
        case 't': o->things = optarg; break;
        case 'x': o->text = optarg; break;
        case 'b': o->on = optarg; break;
        case 'r': if (!pg_parse_size(optarg, &o->ramp)) die("--ramp", "not a number"); break;
        case 's': if (!pg_parse_u64(optarg, &o->seed)) die("--seed", "not a number"); break;
        case 'z': if (!pg_parse_size(optarg, &o->size) || !o->size || o->size > MAX_SIZE) die("--size", "not between 1 and 1024"); break;
        default: return 2;
        }
    if (optind < argc && o->n && one_of(o->things, "all", "described", "named") && one_of(o->text, "mix", "name", "full") &&
        one_of(o->on, "both", "white", "colours")) return 0;
    fprintf(stderr, "usage: augment -n N [--seed S] [--size 96] [--things all|described|named] [--text mix|name|full]\n"
                    "               [--on both|white|colours] [--ramp N] [-o DIR] LANG.jsonl...\n");
    return 2;
}

int main(int argc, char **argv)
{
    options o = {.size = 96, .things = "all", .text = "mix", .on = "both"};
    if (parse(&o, argc, argv)) return 2;
    lists l = {.things = pg_calloc(MAX_THINGS, sizeof *l.things)};
    if (!l.things) die("memory", "none left");
    for (int i = optind; i < argc; i++) lists_read(&l, argv[i]);
    if (!strcmp(o.text, "full") && !text_describes(l.lang[0])) die(l.lang[0], "no form for descriptions in this language");
    size_t kept = 0;
    size_t *use = pg_calloc(l.n + 1, sizeof *use), *perm = pg_calloc(l.n + 1, sizeof *perm);
    unsigned char *rgb = malloc(o.size * o.size * 3);
    if (!rgb || !use || !perm) die("memory", "none left");
    for (size_t i = 0; i < l.n; i++)
        if (!strcmp(o.things, "all") || l.things[i].described[0] == !strcmp(o.things, "described")) use[kept++] = i;
    if (!kept) die(argv[optind], "no things");
    output out = {0};
    pg_rng r;
    pg_err e = {0};
    open_output(&out, &o, argc, argv);
    pg_rng_seed(&r, o.seed, 77);
    if (o.ramp) shuffle(&r, use, perm, kept);
    for (size_t i = 0, round = 0, active = 0; i < o.n; i++, round++) { /* in a round each thing as often as the others */
        if (round == active) {
            round = 0;
            active = i < o.ramp ? (size_t)((double)kept * ((double)i / (double)o.ramp)) : kept;
            if (active < FEW) active = kept < FEW ? kept : FEW;
            pg_rng_permutation(&r, perm, active);
        }
        put_example(&out, &o, &l, &l.things[use[perm[round]]], i, &r, rgb);
    }
    if (out.w && pg_writer_end(out.w, NULL, &e)) die("stdout", e.msg);
    if (out.list && fclose(out.list)) die(o.out, strerror(errno));
    return 0;
}
