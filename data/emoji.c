/* Copies the PNG strikes of Noto Color Emoji out of the font and names them by Unicode's CLDR: OUT/images/CODE.png and OUT/LANG.jsonl.
 * Default: single code points of the blocks below (animals, food and plants, vehicles). --all: everything that has a name and a
 * picture, sequences too (flags, keycaps, skin tones, families); then each line has a `concept`, the same for all variants of a thing.
 * OpenType 1.9: cmap format 12, GSUB ligatures, CBLC index subtables of format 1, CBDT image format 17. */
#include <errno.h>
#include <expat.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

enum { MAX_SEQUENCE = 16, MAX_PICTURES = 16384 };

static const struct { unsigned from, to; } things[] = {{0x1f32d, 0x1f37f}, {0x1f400, 0x1f43d}, {0x1f680, 0x1f6a4}, {0x1f6f4, 0x1f6fc},
                                                       {0x1f950, 0x1f96f}, {0x1f980, 0x1f9ae}, {0x1f9c0, 0x1f9cb}};

static void die(const char *subject, const char *why)
{
    fprintf(stderr, "emoji: cannot use '%s': %s\n", subject, why);
    exit(1);
}

/* ---- the font: every read is checked; one outside sets bad and gives 0 ---- */
typedef struct font {
    const unsigned char *p;
    size_t n;
    bool bad;
    size_t cmap12, ligatures, cblc, cbdt;
} font;

static size_t u(font *f, size_t at, size_t bytes)
{
    size_t v = 0;
    if (at > f->n || f->n - at < bytes) {
        f->bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) v = v << 8 | f->p[at + i];
    return v;
}

static size_t table(font *f, const char *tag)
{
    size_t n = u(f, 4, 2), want = (size_t)tag[0] << 24 | (size_t)tag[1] << 16 | (size_t)tag[2] << 8 | (size_t)tag[3];
    for (size_t i = 0; i < n && !f->bad; i++)
        if (u(f, 12 + 16 * i, 4) == want) return u(f, 12 + 16 * i + 8, 4);
    f->bad = true;
    return 0;
}

static void find_tables(font *f)
{
    size_t tables = u(f, 4, 2);
    for (size_t i = 0; i < tables && !f->bad; i++) {
        size_t at = u(f, 12 + 16 * i + 8, 4), len = u(f, 12 + 16 * i + 12, 4);
        if (at > f->n || f->n - at < len) f->bad = true; /* a cut file, whichever table it lost */
    }
    size_t cmap = table(f, "cmap"), n = u(f, cmap + 2, 2);
    for (size_t i = 0; i < n && !f->bad; i++) {
        size_t sub = cmap + u(f, cmap + 4 + 8 * i + 4, 4);
        if (u(f, sub, 2) == 12) f->cmap12 = sub;
    }
    /* GSUB's lookup 0 holds all sequences; the others only hide stray parts of flags. */
    size_t gsub = table(f, "GSUB"), lookups = gsub + u(f, gsub + 8, 2), lookup = lookups + u(f, lookups + 2, 2);
    f->ligatures = lookup + u(f, lookup + 6, 2);
    if (u(f, lookup, 2) != 4 || u(f, lookup + 4, 2) != 1 || u(f, f->ligatures, 2) != 1) f->bad = true;
    f->cblc = table(f, "CBLC");
    f->cbdt = table(f, "CBDT");
    if (!f->cmap12) f->bad = true;
}

static size_t glyph_of(font *f, unsigned code)
{
    size_t groups = u(f, f->cmap12 + 12, 4);
    for (size_t g = 0; g < groups && !f->bad; g++) {
        size_t at = f->cmap12 + 16 + 12 * g, from = u(f, at, 4), to = u(f, at + 4, 4);
        if (code >= from && code <= to) return u(f, at + 8, 4) + (code - from);
    }
    return 0;
}

/* The index of a glyph in a coverage table, -1 where it is not covered. */
static long covered(font *f, size_t at, size_t glyph)
{
    size_t format = u(f, at, 2), n = u(f, at + 2, 2);
    for (size_t i = 0; i < n && !f->bad; i++)
        if (format == 1) {
            if (u(f, at + 4 + 2 * i, 2) == glyph) return (long)i;
        } else {
            size_t r = at + 4 + 6 * i, first = u(f, r, 2), last = u(f, r + 2, 2);
            if (glyph >= first && glyph <= last) return (long)(u(f, r + 4, 2) + glyph - first);
        }
    return -1;
}

/* The glyph that stands for the whole sequence, 0: there is none. */
static size_t ligature(font *f, const size_t *glyphs, size_t n)
{
    long set = covered(f, f->ligatures + u(f, f->ligatures + 2, 2), glyphs[0]);
    if (set < 0 || (size_t)set >= u(f, f->ligatures + 4, 2)) return 0;
    size_t at = f->ligatures + u(f, f->ligatures + 6 + 2 * (size_t)set, 2), count = u(f, at, 2);
    for (size_t i = 0; i < count && !f->bad; i++) {
        size_t lig = at + u(f, at + 2 + 2 * i, 2), k = 1;
        if (u(f, lig + 2, 2) != n) continue;
        while (k < n && u(f, lig + 4 + 2 * (k - 1), 2) == glyphs[k]) k++;
        if (k == n) return u(f, lig, 2);
    }
    return 0;
}

/* The PNG of a glyph in the first strike; false: it has none. */
static bool strike(font *f, size_t glyph, const unsigned char **png, size_t *n)
{
    size_t size = f->cblc + 8, array = f->cblc + u(f, size, 4), count = u(f, size + 8, 4);
    for (size_t i = 0; i < count && !f->bad; i++) {
        size_t first = u(f, array + 8 * i, 2), last = u(f, array + 8 * i + 2, 2), sub = array + u(f, array + 8 * i + 4, 4);
        if (glyph < first || glyph > last) continue;
        if (u(f, sub, 2) != 1 || u(f, sub + 2, 2) != 17) return false;
        size_t data = f->cbdt + u(f, sub + 4, 4), k = glyph - first;
        size_t at = data + u(f, sub + 8 + 4 * k, 4), end = data + u(f, sub + 12 + 4 * k, 4);
        if (end < at + 9) return false;
        *n = u(f, at + 5, 4); /* after 5 bytes of small metrics */
        if (f->bad || *n > end - at - 9 || at + 9 > f->n || f->n - at - 9 < *n) {
            f->bad = true;
            return false;
        }
        *png = f->p + at + 9;
        return *n > 8 && !memcmp(*png, "\211PNG\r\n\032\n", 8);
    }
    return false;
}

/* The code points of s without U+FE0F (variation selector: neither in cmap nor in any ligature); 0: not UTF-8, or too long. */
static size_t code_points(const char *s, unsigned out[MAX_SEQUENCE])
{
    size_t n = 0;
    while (*s) {
        unsigned char c = (unsigned char)*s++;
        size_t more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        unsigned v = c & (more ? 0x3fu >> more : 0x7fu);
        for (; more; more--, s++) {
            if (((unsigned char)*s & 0xc0) != 0x80) return 0;
            v = v << 6 | ((unsigned char)*s & 0x3fu);
        }
        if (v == 0xfe0f) continue;
        if (n == MAX_SEQUENCE) return 0;
        out[n++] = v;
    }
    return n;
}

static bool picture(font *f, const unsigned *code, size_t n, const unsigned char **png, size_t *len)
{
    size_t glyphs[MAX_SEQUENCE];
    if (!n) return false;
    for (size_t i = 0; i < n; i++)
        if (!(glyphs[i] = glyph_of(f, code[i]))) return false;
    size_t glyph = n == 1 ? glyphs[0] : ligature(f, glyphs, n);
    return glyph && strike(f, glyph, png, len);
}

/* ---- names ---- */
typedef struct names {
    char *code;
    pg_buf text;
    pg_err e;
    json_t *all; /* code points as a string: name, in the file's order */
} names;

static void on_start(void *ctx, const char *name, const char **attr)
{
    names *s = ctx;
    const char *cp = NULL, *type = NULL;
    if (strcmp(name, "annotation")) return;
    for (; attr[0]; attr += 2) {
        if (!strcmp(attr[0], "cp")) cp = attr[1];
        if (!strcmp(attr[0], "type")) type = attr[1];
    }
    if (cp && type && !strcmp(type, "tts") && !(s->code = pg_strdup(cp))) die("names", "out of memory");
}

static void on_text(void *ctx, const char *p, int n)
{
    names *s = ctx;
    if (s->code && pg_buf_add(&s->text, p, (size_t)n, &s->e)) die("names", s->e.msg);
}

static void on_end(void *ctx, const char *name)
{
    names *s = ctx;
    (void)name;
    if (!s->code) return;
    if (s->text.len && json_object_set_new(s->all, s->code, json_stringn((const char *)s->text.data, s->text.len)))
        die("names", "a name that is not UTF-8, or out of memory");
    free(s->code);
    s->code = NULL;
    s->text.len = 0;
}

static void read_names(const char *dir, const char *derived, const char *lang, json_t *all)
{
    pg_err e = {0};
    pg_buf b = {0};
    names s = {.all = all};
    char *path = pg_format("%s%s/%s.xml", dir, derived, lang);
    if (!path) die(lang, "out of memory");
    if (pg_file_read(path, (size_t)64 << 20, &b, &e)) die(path, e.msg);
    XML_Parser x = XML_ParserCreate(NULL);
    if (!x) die(path, "out of memory");
    XML_SetUserData(x, &s);
    XML_SetElementHandler(x, on_start, on_end);
    XML_SetCharacterDataHandler(x, on_text);
    if (XML_Parse(x, (const char *)b.data, (int)b.len, 1) == XML_STATUS_ERROR) die(path, XML_ErrorString(XML_GetErrorCode(x)));
    XML_ParserFree(x);
    pg_buf_free(&b);
    pg_buf_free(&s.text);
    free(path);
}

/* The thing that an English name is a variant of: without skin tone, hair and sex. A flag or a keycap is what follows its colon. */
static void concept_of(const char *name, char *out, size_t room)
{
    static const char *const people[] = {"man", "woman", "person", "men", "women", "people", "boy", "girl", "child", "and", NULL};
    static const char *const same[][2] = {{"merman", "merperson"}, {"mermaid", "merperson"}, {"older", "old"}, {"adult", ""}};
    size_t end = strcspn(name, ":"), n = 0;
    if (!strncmp(name, "flag:", 5) || !strncmp(name, "keycap:", 7)) end = strlen(name);
    out[0] = 0;
    for (const char *p = name; p < name + end;) {
        size_t len = strcspn(p, " ");
        if (len > (size_t)(name + end - p)) len = (size_t)(name + end - p);
        char word[64];
        const char *w = word;
        snprintf(word, sizeof word, "%.*s", (int)len, p);
        for (size_t i = 0; people[i]; i++)
            if (!strcmp(word, people[i])) w = "";
        for (size_t i = 0; i < sizeof same / sizeof *same; i++)
            if (!strcmp(word, same[i][0])) w = same[i][1];
        if (*w && n < room) n += (size_t)snprintf(out + n, room - n, "%s%s", n ? " " : "", w);
        p += len + 1;
    }
    if (!out[0]) snprintf(out, room, "person");
}

/* ---- output ---- */
typedef struct output {
    font *f;
    const char *dir;
    FILE *list;
    bool all, images; /* images: write them too (the first language does) */
    json_t *english;
    struct { const unsigned char *png; size_t len; char *concept; } *seen; /* a picture drawn twice (flags of dependencies) is one concept */
    size_t n_seen, n;
} output;

static void put(output *o, const char *cp, const char *text)
{
    unsigned code[MAX_SEQUENCE];
    const unsigned char *png;
    size_t len, n = code_points(cp, code), at = 0;
    char name[256] = "images/", concept[256] = "";
    if (!picture(o->f, code, n, &png, &len)) return;
    for (size_t i = 0; i < n; i++) {
        at = strlen(name);
        snprintf(name + at, sizeof name - at, "%s%x", i ? "-" : "u", code[i]);
    }
    at = strlen(name);
    snprintf(name + at, sizeof name - at, ".png");
    if (o->images) {
        char *path = pg_path_join(o->dir, name);
        FILE *img = path ? fopen(path, "wb") : NULL;
        if (!img || fwrite(png, 1, len, img) != len || fclose(img)) die(path ? path : name, strerror(errno));
        free(path);
    }
    json_t *line = json_pack("{s:s,s:s}", "image", name, "suffix", text);
    if (o->all) {
        size_t k = 0;
        const char *english = json_string_value(json_object_get(o->english, cp));
        concept_of(english ? english : text, concept, sizeof concept);
        while (k < o->n_seen && (o->seen[k].len != len || memcmp(o->seen[k].png, png, len))) k++;
        if (k == MAX_PICTURES) die(o->dir, "too many pictures");
        if (k == o->n_seen) {
            if (!(o->seen[k].concept = pg_strdup(concept))) die(name, "out of memory");
            o->seen[k].png = png;
            o->seen[k].len = len;
            o->n_seen++;
        }
        json_object_set_new(line, "concept", json_string(o->seen[k].concept));
    }
    if (!line || json_dumpf(line, o->list, JSON_COMPACT) || fputc('\n', o->list) == EOF) die(name, "cannot be written to the list");
    json_decref(line);
    o->n++;
}

static void put_things(output *o, const json_t *all)
{
    for (size_t i = 0; i < sizeof things / sizeof *things; i++)
        for (unsigned c = things[i].from; c <= things[i].to; c++) {
            char s[5] = {(char)(0xf0 | c >> 18), (char)(0x80 | (c >> 12 & 63)), (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63)), 0};
            const char *text = json_string_value(json_object_get(all, s)); /* all are above U+FFFF: four bytes */
            if (text) put(o, s, text);
        }
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0777) && errno != EEXIST) die(path, strerror(errno));
}

int main(int argc, char **argv)
{
    bool all = argc > 1 && !strcmp(argv[1], "--all");
    argv += all;
    argc -= all;
    if (argc < 5 || argv[1][0] == '-') {
        fprintf(stderr, "usage: emoji [--all] FONT.ttf ANNOTATIONS_FOLDER OUT LANG...\n");
        return 2;
    }
    pg_map map;
    pg_err e = {0};
    if (pg_map_open(&map, argv[1], &e)) die(argv[1], e.msg);
    font f = {.p = map.data, .n = map.len};
    find_tables(&f);
    if (f.bad) die(argv[1], "not the font that is expected, or damaged");
    char *images = pg_path_join(argv[3], "images");
    output o = {.f = &f, .dir = argv[3], .all = all, .images = true, .english = json_object(), .seen = pg_calloc(MAX_PICTURES, sizeof *o.seen)};
    if (!images || !o.seen || !o.english) die(argv[3], "out of memory");
    make_dir(argv[3]);
    make_dir(images);
    free(images);
    if (all) {
        read_names(argv[2], "", "en", o.english);
        read_names(argv[2], "Derived", "en", o.english);
    }
    for (int l = 4; l < argc; l++) {
        json_t *texts = json_object();
        char *path = pg_format("%s/%s.jsonl", argv[3], argv[l]);
        if (!texts || !path) die(argv[l], "out of memory");
        read_names(argv[2], "", argv[l], texts);
        if (all) read_names(argv[2], "Derived", argv[l], texts);
        if (!(o.list = fopen(path, "w"))) die(path, strerror(errno));
        o.n = 0;
        if (all) {
            const char *cp;
            json_t *text;
            json_object_foreach(texts, cp, text) put(&o, cp, json_string_value(text));
        } else put_things(&o, texts);
        if (fclose(o.list)) die(path, strerror(errno));
        if (f.bad) die(argv[1], "not the font that is expected, or damaged");
        if (!o.n) die(path, "no picture has a name");
        fprintf(stderr, "emoji: %zu pictures with a name in %s\n", o.n, argv[l]);
        o.images = false;
        json_decref(texts);
        free(path);
    }
    for (size_t i = 0; i < o.n_seen; i++) free(o.seen[i].concept);
    free(o.seen);
    json_decref(o.english);
    pg_map_close(&map);
    return 0;
}
