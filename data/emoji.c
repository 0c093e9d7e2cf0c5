/* Emoji as pictures with names: OUT/images/CODE.png and OUT/LANG.jsonl, whose lines have `image`, `suffix` (the name), `concept` (the
 * same for all variants of a thing) and `split`. The pictures are PNG files already, inside Noto Color Emoji or in a folder; they are
 * copied as they are. Default: the lexicon below. --all: everything that has a name and a picture, sequences too (flags, keycaps, skin
 * tones, families). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "concept.h"
#include "emoji.h"

/* The lexicon: single code points of these blocks (things, animals, people, faces; no clocks, moons, buttons, skin tones) whose names
 * have at most 4 words and 28 characters in the four languages that the small model learns. */
static const struct { unsigned from, to; } blocks[] = {{0x1f300, 0x1f310}, {0x1f319, 0x1f3fa}, {0x1f400, 0x1f4ff}, {0x1f524, 0x1f52e},
                                                       {0x1f568, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f90c, 0x1f9ff}, {0x1fa70, 0x1faff}};
static const char *const languages[] = {"en", "es", "de", "fr"};
enum { N_BLOCKS = sizeof blocks / sizeof *blocks, N_LANGUAGES = sizeof languages / sizeof *languages, MAX_WORDS = 4, MAX_CHARS = 28 };
enum { MAX_PICTURES = 16384 };

typedef struct picture {
    unsigned char *png;
    size_t len;
    char *concept;
} picture;

typedef struct output {
    font font;
    json_t *files; /* instead of a font */
    pg_buf file;
    const char *source, *dir;
    FILE *list;
    bool all, images;           /* images: write them too (the first language does) */
    json_t *names[N_LANGUAGES]; /* for the lexicon and the concepts */
    picture *seen;              /* a picture drawn twice (flags of dependencies) is one concept */
    size_t n_seen, n;
} output;

void die(const char *subject, const char *why)
{
    fprintf(stderr, "emoji: cannot use '%s': %s\n", subject, why);
    exit(1);
}

static bool short_name(const char *s)
{
    size_t words = 1, chars = 0;
    for (; s && *s; s++) {
        words += *s == ' ';
        chars += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return s && words <= MAX_WORDS && chars <= MAX_CHARS;
}

static bool in_lexicon(const output *o, const char *cp, const unsigned *code, size_t n)
{
    bool in = false;
    for (size_t i = 0; n == 1 && i < N_BLOCKS; i++) in = in || (code[0] >= blocks[i].from && code[0] <= blocks[i].to);
    for (size_t i = 0; in && i < N_LANGUAGES; i++) in = short_name(json_string_value(json_object_get(o->names[i], cp)));
    return in;
}

static bool find_picture(output *o, const unsigned *code, size_t n, const unsigned char **png, size_t *len)
{
    if (!o->files) return font_picture(&o->font, code, n, png, len);
    if (!folder_picture(o->files, code, n, &o->file)) return false;
    *png = o->file.data;
    *len = o->file.len;
    return true;
}

static const char *concept(output *o, const char *english, const unsigned char *png, size_t len)
{
    char text[256];
    size_t k = 0;
    names_concept(english, text, sizeof text);
    while (k < o->n_seen && (o->seen[k].len != len || memcmp(o->seen[k].png, png, len))) k++;
    if (k < o->n_seen) return o->seen[k].concept;
    if (k == MAX_PICTURES) die(o->dir, "too many pictures");
    o->seen[k] = (picture){.png = malloc(len), .len = len, .concept = pg_strdup(text)};
    if (!o->seen[k].png || !o->seen[k].concept) die(o->dir, "out of memory");
    memcpy(o->seen[k].png, png, len);
    o->n_seen++;
    return o->seen[k].concept;
}

static void put_image(const output *o, const char *name, const unsigned char *png, size_t len)
{
    char *path = pg_path_join(o->dir, name);
    FILE *img = path ? fopen(path, "wb") : NULL;
    if (!img || fwrite(png, 1, len, img) != len || fclose(img)) die(path ? path : name, strerror(errno));
    free(path);
}

static void put(output *o, const char *cp, const char *text)
{
    unsigned code[MAX_SEQUENCE];
    const unsigned char *png;
    size_t len, n = names_code_points(cp, code), at;
    char name[256] = "images/";
    if (!n || (!o->all && !in_lexicon(o, cp, code, n)) || !find_picture(o, code, n, &png, &len)) return;
    for (size_t i = 0; i < n; i++) {
        at = strlen(name);
        snprintf(name + at, sizeof name - at, "%s%x", i ? "-" : "u", code[i]);
    }
    at = strlen(name);
    snprintf(name + at, sizeof name - at, ".png");
    if (o->images) put_image(o, name, png, len);
    const char *english = json_string_value(json_object_get(o->names[0], cp)), *c = concept(o, english ? english : text, png, len);
    json_t *line = json_pack("{s:s,s:s,s:s,s:s}", "image", name, "suffix", text, "concept", c, "split", concept_split(c));
    if (!line || json_dumpf(line, o->list, JSON_COMPACT) || fputc('\n', o->list) == EOF) die(name, "cannot be written to the list");
    json_decref(line);
    o->n++;
}

static json_t *read_names(const char *dir, const char *lang, bool derived)
{
    json_t *all = json_object();
    if (!all) die(lang, "out of memory");
    names_read(dir, "", lang, all);
    if (derived) names_read(dir, "Derived", lang, all);
    return all;
}

static void put_list(output *o, const char *names, const char *lang)
{
    json_t *texts = read_names(names, lang, o->all), *text;
    char *path = pg_format("%s/%s.jsonl", o->dir, lang);
    const char *cp;
    if (!path || !(o->list = fopen(path, "w"))) die(path ? path : lang, strerror(errno));
    o->n = 0;
    json_object_foreach(texts, cp, text) put(o, cp, json_string_value(text));
    if (fclose(o->list)) die(path, strerror(errno));
    if (o->font.bad) die(o->source, "not the font that is expected, or damaged");
    if (!o->n) die(path, "no picture has a name");
    fprintf(stderr, "emoji: %zu pictures with a name in %s\n", o->n, lang);
    o->images = false;
    json_decref(texts);
    free(path);
}

static void make_dirs(const char *dir)
{
    char *images = pg_path_join(dir, "images");
    if ((mkdir(dir, 0777) && errno != EEXIST) || !images || (mkdir(images, 0777) && errno != EEXIST)) die(dir, strerror(errno));
    free(images);
}

int main(int argc, char **argv)
{
    bool all = argc > 1 && !strcmp(argv[1], "--all");
    argv += all;
    argc -= all;
    if (argc < 5 || argv[1][0] == '-') {
        fprintf(stderr, "usage: emoji [--all] FONT.ttf|FOLDER ANNOTATIONS_FOLDER OUT LANG...\n");
        return 2;
    }
    pg_map map = {0};
    pg_err e = {0};
    struct stat st;
    output o = {.source = argv[1], .dir = argv[3], .all = all, .images = true, .seen = pg_calloc(MAX_PICTURES, sizeof *o.seen)};
    if (!o.seen) die(argv[3], "out of memory");
    if (!stat(argv[1], &st) && S_ISDIR(st.st_mode)) o.files = folder_open(argv[1]);
    else {
        if (pg_map_open(&map, argv[1], &e)) die(argv[1], e.msg);
        o.font = (font){.p = map.data, .n = map.len};
        font_find_tables(&o.font);
        if (o.font.bad) die(argv[1], "not the font that is expected, or damaged");
    }
    for (size_t i = 0; i < (all ? 1 : N_LANGUAGES); i++) o.names[i] = read_names(argv[2], languages[i], all);
    make_dirs(argv[3]);
    for (int l = 4; l < argc; l++) put_list(&o, argv[2], argv[l]);
    for (size_t i = 0; i < o.n_seen; i++) {
        free(o.seen[i].png);
        free(o.seen[i].concept);
    }
    for (size_t i = 0; i < N_LANGUAGES; i++) json_decref(o.names[i]);
    free(o.seen);
    json_decref(o.files);
    pg_buf_free(&o.file);
    if (!o.files) pg_map_close(&map);
    return 0;
}
