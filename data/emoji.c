/* Copies the PNG strikes of Noto Color Emoji out of the font and names them by Unicode's CLDR: OUT/images/CODE.png and OUT/LANG.jsonl.
 * OpenType 1.9: cmap format 12, CBLC index subtables of format 1, CBDT image format 17. Single code points only: sequences (flags,
 * skin tones) are variants of these. */
#include <errno.h>
#include <expat.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* Animals, foods and plants, vehicles: blocks of code points. */
static const struct { unsigned from, to; } things[] = {{0x1f32d, 0x1f37f}, {0x1f400, 0x1f43d}, {0x1f680, 0x1f6a4}, {0x1f6f4, 0x1f6fc},
                                                       {0x1f950, 0x1f96f}, {0x1f980, 0x1f9ae}, {0x1f9c0, 0x1f9cb}};

typedef struct font {
    const unsigned char *p;
    size_t n;
    bool bad;
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
    size_t n = u(f, 4, 2);
    for (size_t i = 0; i < n && !f->bad; i++)
        if (12 + 16 * i + 16 <= f->n && !memcmp(f->p + 12 + 16 * i, tag, 4)) return u(f, 12 + 16 * i + 8, 4);
    f->bad = true;
    return 0;
}

static size_t glyph_of(font *f, unsigned code)
{
    size_t cmap = table(f, "cmap"), n = u(f, cmap + 2, 2);
    for (size_t i = 0; i < n && !f->bad; i++) {
        size_t sub = cmap + u(f, cmap + 4 + 8 * i + 4, 4);
        if (u(f, sub, 2) != 12) continue;
        size_t groups = u(f, sub + 12, 4);
        for (size_t g = 0; g < groups && !f->bad; g++) {
            size_t at = sub + 16 + 12 * g, from = u(f, at, 4), to = u(f, at + 4, 4);
            if (code >= from && code <= to) return u(f, at + 8, 4) + (code - from);
        }
    }
    return 0;
}

/* The PNG of a glyph; false: it has none. */
static bool strike(font *f, size_t glyph, const unsigned char **png, size_t *n)
{
    size_t cblc = table(f, "CBLC"), cbdt = table(f, "CBDT"), size = cblc + 8; /* the first strike */
    size_t array = cblc + u(f, size, 4), count = u(f, size + 8, 4);
    for (size_t i = 0; i < count && !f->bad; i++) {
        size_t first = u(f, array + 8 * i, 2), last = u(f, array + 8 * i + 2, 2), sub = array + u(f, array + 8 * i + 4, 4);
        if (glyph < first || glyph > last) continue;
        if (u(f, sub, 2) != 1 || u(f, sub + 2, 2) != 17) return false;
        size_t data = cbdt + u(f, sub + 4, 4), k = glyph - first;
        size_t at = data + u(f, sub + 8 + 4 * k, 4), end = data + u(f, sub + 12 + 4 * k, 4);
        if (end <= at) return false;
        *n = u(f, at + 5, 4); /* after 5 bytes of small metrics */
        if (f->bad || at + 9 > f->n || f->n - at - 9 < *n) return false;
        *png = f->p + at + 9;
        return true;
    }
    return false;
}

/* ---- names ---- */
typedef struct names {
    char *code, *text;
    size_t text_len;
    bool in;
    json_t *all;
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
    s->in = cp && type && !strcmp(type, "tts");
    if (s->in) s->code = pg_strdup(cp), s->text = NULL, s->text_len = 0;
}

static void on_text(void *ctx, const char *p, int n)
{
    names *s = ctx;
    if (!s->in) return;
    char *t = pg_realloc(s->text, s->text_len + (size_t)n + 1, 1);
    if (!t) return;
    memcpy(t + s->text_len, p, (size_t)n);
    s->text_len += (size_t)n;
    t[s->text_len] = 0;
    s->text = t;
}

static void on_end(void *ctx, const char *name)
{
    names *s = ctx;
    (void)name;
    if (!s->in) return;
    if (s->code && s->text) json_object_set_new(s->all, s->code, json_string(s->text));
    free(s->code);
    free(s->text);
    s->in = false;
}

static json_t *read_names(const char *path)
{
    pg_err e = {0};
    pg_buf b = {0};
    names s = {.all = json_object()};
    if (pg_file_read(path, (size_t)64 << 20, &b, &e)) {
        fprintf(stderr, "emoji: %s\n", e.msg);
        exit(1);
    }
    XML_Parser x = XML_ParserCreate(NULL);
    XML_SetUserData(x, &s);
    XML_SetElementHandler(x, on_start, on_end);
    XML_SetCharacterDataHandler(x, on_text);
    if (XML_Parse(x, (const char *)b.data, (int)b.len, 1) == XML_STATUS_ERROR) {
        fprintf(stderr, "emoji: cannot read '%s': %s\n", path, XML_ErrorString(XML_GetErrorCode(x)));
        exit(1);
    }
    XML_ParserFree(x);
    pg_buf_free(&b);
    return s.all;
}

static void utf8(unsigned c, char out[5])
{
    snprintf(out, 5, "%c%c%c%c", 0xf0 | c >> 18, 0x80 | (c >> 12 & 63), 0x80 | (c >> 6 & 63), 0x80 | (c & 63)); /* all above U+FFFF */
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: emoji FONT.ttf ANNOTATIONS_FOLDER OUT LANG...\n");
        return 2;
    }
    pg_map map;
    pg_err e = {0};
    if (pg_map_open(&map, argv[1], &e)) {
        fprintf(stderr, "emoji: %s\n", e.msg);
        return 1;
    }
    font f = {map.data, map.len, false};
    char path[4096];
    snprintf(path, sizeof path, "%s/images", argv[3]);
    if ((mkdir(argv[3], 0777) && errno != EEXIST) || (mkdir(path, 0777) && errno != EEXIST)) {
        fprintf(stderr, "emoji: cannot make '%s': %s\n", path, strerror(errno));
        return 1;
    }
    for (int l = 4; l < argc; l++) {
        snprintf(path, sizeof path, "%s/%s.xml", argv[2], argv[l]);
        json_t *all = read_names(path);
        snprintf(path, sizeof path, "%s/%s.jsonl", argv[3], argv[l]);
        FILE *out = fopen(path, "w");
        size_t n = 0;
        if (!out) {
            fprintf(stderr, "emoji: cannot write '%s': %s\n", path, strerror(errno));
            return 1;
        }
        for (size_t i = 0; i < sizeof things / sizeof *things; i++)
            for (unsigned c = things[i].from; c <= things[i].to; c++) {
                const unsigned char *png;
                size_t len, glyph;
                char s[5], name[64];
                utf8(c, s);
                const char *text = json_string_value(json_object_get(all, s));
                if (!text || !(glyph = glyph_of(&f, c)) || !strike(&f, glyph, &png, &len)) continue;
                snprintf(name, sizeof name, "images/u%x.png", c);
                snprintf(path, sizeof path, "%s/%s", argv[3], name);
                FILE *img = l == 4 ? fopen(path, "wb") : NULL;
                if (l == 4 && (!img || fwrite(png, 1, len, img) != len || fclose(img))) {
                    fprintf(stderr, "emoji: cannot write '%s': %s\n", path, strerror(errno));
                    return 1;
                }
                json_t *line = json_pack("{s:s,s:s}", "image", name, "suffix", text);
                json_dumpf(line, out, JSON_COMPACT);
                fputc('\n', out);
                json_decref(line);
                n++;
            }
        if (fclose(out)) return 1;
        json_decref(all);
        if (f.bad) {
            fprintf(stderr, "emoji: '%s' is not the font that is expected, or is damaged\n", argv[1]);
            return 1;
        }
        fprintf(stderr, "emoji: %zu pictures with a name in %s\n", n, argv[l]);
    }
    pg_map_close(&map);
    return 0;
}
