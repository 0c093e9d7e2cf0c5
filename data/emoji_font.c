/* Strikes out of Noto Color Emoji: OpenType 1.9, cmap format 12, GSUB ligatures, CBLC index subtables of format 1, CBDT image format 17.
 * Every read is checked; one outside of the file sets bad and gives 0. */
#include <stdlib.h>
#include <string.h>

#include "emoji.h"

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

void font_find_tables(font *f)
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

bool font_picture(font *f, const unsigned *code, size_t n, const unsigned char **png, size_t *len)
{
    size_t glyphs[MAX_SEQUENCE];
    if (!n) return false;
    for (size_t i = 0; i < n; i++)
        if (!(glyphs[i] = glyph_of(f, code[i]))) return false;
    size_t glyph = n == 1 ? glyphs[0] : ligature(f, glyphs, n);
    return glyph && strike(f, glyph, png, len);
}
