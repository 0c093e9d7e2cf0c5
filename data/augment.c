/* Transparent pictures onto backgrounds: random colour, scale and shift, the same for the same seed. Writes a stream of examples with
 * pixels (for pre-training, thousands of them), or with -o a folder of PNG files and a JSONL (for fine-tuning, to look at).
 *
 * What is said of a thing depends on a hash: half of the things are also *described* ("red apple on a blue background"), the other
 * half only named. So the two halves never mix, whatever the seed. The description begins with the name, without "a": a tokenizer gives
 * a word another token after a space, and tokens that names never start with could not be learnt. The hash is of a line's `concept`,
 * where it has one (variants of a thing stay together), else of its picture's name. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "stream/stream.h"

static const struct { const char *name; unsigned char rgb[3]; } colours[] = {
    {"red", {205, 40, 40}}, {"orange", {245, 140, 30}}, {"yellow", {250, 225, 70}}, {"green", {60, 160, 70}}, {"blue", {50, 95, 205}},
    {"purple", {130, 60, 165}}, {"pink", {250, 160, 195}}, {"brown", {125, 80, 45}}, {"gray", {130, 130, 130}}, {"black", {20, 20, 20}}};
enum { N_COLOURS = sizeof colours / sizeof *colours, WHITE = N_COLOURS, MAX_THINGS = 8192, MAX_SIZE = 1024 };

typedef struct thing {
    char *name, *code;
    unsigned char *rgba;
    size_t w, h;
    bool described;
} thing;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "augment: %s: %s\n", what, why);
    exit(1);
}

static uint64_t hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return (h ^ h >> 29) * 0x9e3779b97f4a7c15u >> 40;
}

static void load(thing *t, const char *dir, const char *image)
{
    char *path = pg_path_join(dir, image);
    png_image p = {.version = PNG_IMAGE_VERSION};
    if (!path || !png_image_begin_read_from_file(&p, path)) die(image, p.message);
    p.format = PNG_FORMAT_RGBA;
    t->w = p.width;
    t->h = p.height;
    t->rgba = malloc(PNG_IMAGE_SIZE(p));
    if (!t->rgba || !png_image_finish_read(&p, NULL, t->rgba, 0, NULL)) die(image, p.message);
    free(path);
}

/* Bilinear sample of premultiplied colour at (x, y) in pixels; outside is transparent. */
static void sample(const thing *t, double x, double y, double out[4])
{
    long x0 = (long)floor(x - 0.5), y0 = (long)floor(y - 0.5);
    double fx = x - 0.5 - (double)x0, fy = y - 0.5 - (double)y0;
    memset(out, 0, 4 * sizeof *out);
    for (long j = 0; j < 2; j++)
        for (long i = 0; i < 2; i++) {
            long px = x0 + i, py = y0 + j;
            if (px < 0 || py < 0 || px >= (long)t->w || py >= (long)t->h) continue;
            const unsigned char *c = t->rgba + ((size_t)py * t->w + (size_t)px) * 4;
            double w = (i ? fx : 1 - fx) * (j ? fy : 1 - fy) * c[3] / 255.0;
            for (int k = 0; k < 3; k++) out[k] += w * c[k];
            out[3] += w;
        }
}

static void draw(const thing *t, pg_rng *r, size_t size, size_t colour, unsigned char *rgb)
{
    unsigned char bg[3];
    for (int k = 0; k < 3; k++) {
        double v = colour == WHITE ? 255 : colours[colour].rgb[k] + 24 * (pg_rng_double(r) - 0.5);
        bg[k] = (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    double longest = (double)(t->w > t->h ? t->w : t->h), scale = (double)size / longest * (0.7 + 0.3 * pg_rng_double(r));
    double free_x = (double)size - scale * (double)t->w, free_y = (double)size - scale * (double)t->h;
    double ox = free_x * pg_rng_double(r), oy = free_y * pg_rng_double(r);
    for (size_t y = 0; y < size; y++)
        for (size_t x = 0; x < size; x++) {
            double c[4];
            sample(t, ((double)x + 0.5 - ox) / scale, ((double)y + 0.5 - oy) / scale, c);
            for (int k = 0; k < 3; k++) rgb[(y * size + x) * 3 + (size_t)k] = (unsigned char)(c[k] + (1 - c[3]) * bg[k] + 0.5);
        }
}

static size_t read_things(const char *file, thing *things)
{
    FILE *in = fopen(file, "r");
    char *line = NULL, *dir = pg_path_dir(file);
    size_t room = 0, n = 0;
    if (!in || !dir) die(file, strerror(errno));
    while (getline(&line, &room, in) >= 0 && n < MAX_THINGS) {
        json_error_t e;
        json_t *o = json_loads(line, 0, &e);
        const char *image = json_string_value(json_object_get(o, "image")), *name = json_string_value(json_object_get(o, "suffix"));
        const char *concept = json_string_value(json_object_get(o, "concept"));
        if (!image || !name) die(file, "a line without image or suffix");
        const char *slash = strrchr(image, '/');
        things[n] = (thing){.name = pg_strdup(name), .code = pg_strdup(slash ? slash + 1 : image)};
        load(&things[n], dir, image);
        if (!things[n].name || !things[n].code) die(file, "out of memory");
        things[n].code[strcspn(things[n].code, ".")] = 0;
        things[n].described = hash(concept ? concept : image) & 1;
        n++;
        json_decref(o);
    }
    free(line);
    free(dir);
    fclose(in);
    return n;
}

static void text_of(const thing *t, size_t colour, bool full, char *out, size_t n)
{
    if (!full) snprintf(out, n, "%s", t->name);
    else
        snprintf(out, n, "%s on a%s %s background", t->name, colour < N_COLOURS && strchr("aeiou", colours[colour].name[0]) ? "n" : "",
                 colour == WHITE ? "white" : colours[colour].name);
}

static void put_stream(pg_writer *w, pg_rec *rec, const char *id, const char *prefix, const char *suffix, const unsigned char *rgb, size_t size, float *pixels)
{
    pg_err e = {0};
    size_t n = size * size * 3;
    for (size_t i = 0; i < n; i++) pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
    pg_tensor t = {.type = "<f4", .ndim = 3, .shape = {size, size, 3}, .data = (const unsigned char *)pixels, .bytes = n * sizeof(float)};
    pg_rec_clear(rec);
    if (pg_rec_set_str(rec, "id", id, strlen(id), &e) || pg_rec_set_str(rec, "prefix", prefix, strlen(prefix), &e) ||
        pg_rec_set_str(rec, "suffix", suffix, strlen(suffix), &e) || pg_rec_set_tensor(rec, "pixels", &t, &e) || pg_writer_add(w, rec, &e))
        die("stdout", e.msg);
}

int main(int argc, char **argv)
{
    static const struct option opts[] = {{"things", 1, NULL, 't'}, {"text", 1, NULL, 'x'}, {"seed", 1, NULL, 's'}, {"size", 1, NULL, 'z'},
                                         {"on", 1, NULL, 'b'}, {NULL, 0, NULL, 0}};
    const char *out = NULL, *which = "all", *text = "mix", *on = "both";
    size_t n = 0, size = 96;
    uint64_t seed = 0;
    for (int c; (c = getopt_long(argc, argv, "n:o:", opts, NULL)) != -1;)
        switch (c) {
        case 'n': if (!pg_parse_size(optarg, &n)) die("-n", "not a number"); break;
        case 'o': out = optarg; break;
        case 't': which = optarg; break;
        case 'x': text = optarg; break;
        case 'b': on = optarg; break;
        case 's': if (!pg_parse_u64(optarg, &seed)) die("--seed", "not a number"); break;
        case 'z': if (!pg_parse_size(optarg, &size) || !size || size > MAX_SIZE) die("--size", "not between 1 and 1024"); break;
        default: return 2;
        }
    if (optind + 1 != argc || !n) {
        fprintf(stderr, "usage: augment -n N [--seed S] [--size 96] [--things all|described|named] [--text mix|name|full]\n"
                        "               [--on both|white|colours] [-o DIR] THINGS.jsonl\n");
        return 2;
    }
    static thing things[MAX_THINGS];
    size_t count = read_things(argv[optind], things), kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(which, "all") || things[i].described == !strcmp(which, "described")) things[kept++] = things[i];
    if (!kept) die(argv[optind], "no things");
    unsigned char *rgb = malloc(size * size * 3);
    float *pixels = pg_floats(size * size * 3);
    size_t *perm = pg_calloc(kept, sizeof *perm);
    pg_rec *rec = pg_rec_new();
    pg_writer *w = NULL;
    pg_err e = {0};
    FILE *list = NULL;
    char path[4096], caption[512], id[256];
    if (!rgb || !pixels || !rec || !perm) die("memory", "none left");
    if (out) {
        if (mkdir(out, 0777) && errno != EEXIST) die(out, strerror(errno));
        snprintf(path, sizeof path, "%s/examples.jsonl", out);
        if (!(list = fopen(path, "w"))) die(path, strerror(errno));
    } else {
        if (isatty(1)) die("stdout", "a binary stream is not written to a terminal");
        if (pg_writer_new(&w, 1, "stdout", &e) || pg_writer_header(w, NULL, "examples", "augment", "1", argc, argv, NULL, &e)) die("stdout", e.msg);
    }
    pg_rng r;
    pg_rng_seed(&r, seed, 77);
    for (size_t i = 0; i < n; i++) {
        if (i % kept == 0) pg_rng_permutation(&r, perm, kept); /* each thing as often as the others */
        const thing *t = &things[perm[i % kept]];
        size_t colour = pg_rng_double(&r) < (!strcmp(on, "white") ? 1 : !strcmp(on, "colours") ? 0 : 0.2) ? WHITE : (size_t)pg_rng_below(&r, N_COLOURS);
        bool full = !strcmp(text, "full") || (!strcmp(text, "mix") && t->described && pg_rng_double(&r) < 0.4);
        draw(t, &r, size, colour, rgb);
        text_of(t, colour, full, caption, sizeof caption);
        snprintf(id, sizeof id, "%06zu-%s", i, t->code);
        if (!out) {
            put_stream(w, rec, id, full && strcmp(text, "full") ? "describe en" : "caption en", caption, rgb, size, pixels);
            continue;
        }
        snprintf(path, sizeof path, "%s/%s.png", out, id);
        png_image p = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)size, .height = (png_uint_32)size, .format = PNG_FORMAT_RGB};
        if (!png_image_write_to_file(&p, path, 0, rgb, 0, NULL)) die(path, p.message);
        json_t *line = json_pack("{s:s+,s:s,s:s}", "image", id, ".png", "suffix", caption, "id", id);
        json_dumpf(line, list, JSON_COMPACT);
        fputc('\n', list);
        json_decref(line);
    }
    if (w && pg_writer_end(w, NULL, &e)) die("stdout", e.msg);
    if (list && fclose(list)) die(out, strerror(errno));
    return 0;
}
