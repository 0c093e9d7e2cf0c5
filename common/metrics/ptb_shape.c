/* Shapes of words. */
#include <string.h>

#include "metrics/ptb.h"
#include "metrics/ptb_tables.h"

static bool one_of(uint32_t c, const char *set) { return c && c < 128 && strchr(set, (int)c); }

size_t pg_ptb_literal(const ptb_text *t, size_t i, const char *word)
{
    size_t p = i;
    for (; *word; word++, p++)
        if (t->c[p] != (uint32_t)(unsigned char)*word && !(ptb_is_upper(t->c[p]) && (t->c[p] | 32) == (uint32_t)(unsigned char)*word))
            return i;
    return p;
}

size_t pg_ptb_apostrophe(const ptb_text *t, size_t i)
{
    uint32_t c = t->c[i];
    return c == '\'' || c == 0x92 || c == 0x2019 ? i + 1 : pg_ptb_literal(t, i, "&apos;");
}

size_t pg_ptb_any_apostrophe(const ptb_text *t, size_t i)
{
    uint32_t c = t->c[i];
    return c == '`' || c == 0x91 || c == 0x2018 || c == 0x201B ? i + 1 : pg_ptb_apostrophe(t, i);
}

size_t pg_ptb_ampersand(const ptb_text *t, size_t i)
{
    size_t end = pg_ptb_literal(t, i, "&amp;");
    return end > i ? end : t->c[i] == '&' ? i + 1 : i;
}

/* &eacute; &Ouml; &agrave; */
static size_t accented(const ptb_text *t, size_t i)
{
    static const char *const accents[] = {"acute;", "grave;", "uml;"};
    if (t->c[i] != '&' || !t->c[i + 1] || t->c[i + 1] > 127 || !strchr("aeiouAEIOU", (int)t->c[i + 1]))
        return i;
    for (size_t k = 0; k < 3; k++) {
        size_t end = pg_ptb_literal(t, i + 2, accents[k]);
        if (end > i + 2)
            return end;
    }
    return i;
}

size_t pg_ptb_letter(const ptb_text *t, size_t i)
{
    return t->k[i] == PTB_WORD || t->k[i] == PTB_MARK || t->c[i] == 0xAD ? i + 1 : accented(t, i);
}

static size_t letters_digits(const ptb_text *t, size_t i)
{
    for (;;) {
        size_t end = t->k[i] == PTB_DIGIT ? i + 1 : pg_ptb_letter(t, i);
        if (end == i)
            return i;
        i = end;
    }
}

size_t pg_ptb_word(const ptb_text *t, size_t i)
{
    if (pg_ptb_letter(t, i) == i)
        return i;
    i = letters_digits(t, i);
    while ((t->c[i] == '.' || t->c[i] == '!' || t->c[i] == '?') && pg_ptb_letter(t, i + 1) > i + 1)
        i = letters_digits(t, i + 1);
    return i;
}

static bool is_alnum(const ptb_text *t, size_t i) { return t->k[i] == PTB_WORD || t->k[i] == PTB_DIGIT; }

/* One part between hyphens; d' o' l' may begin it. */
static size_t part(const ptb_text *t, size_t i)
{
    size_t p = i, a;
    if (t->c[i] && t->c[i] < 128 && strchr("dDoOlL", (int)t->c[i]) && (a = pg_ptb_any_apostrophe(t, i + 1)) > i + 1 && is_alnum(t, a) && is_alnum(t, a + 1))
        p = a;
    while (is_alnum(t, p))
        p++;
    return p;
}

size_t pg_ptb_hyphened(const ptb_text *t, size_t i)
{
    size_t end = part(t, i);
    if (end == i)
        return i;
    while (t->c[end] == '-' || t->c[end] == '_' || t->k[end] == PTB_INNER) {
        size_t p = part(t, end + 1);
        if (p == end + 1)
            break;
        end = p;
    }
    return end;
}

/* Letters with stops: U.S., a.m. */
size_t pg_ptb_acronym(const ptb_text *t, size_t i)
{
    while (ptb_is_ascii_letter(t->c[i]) && t->c[i + 1] == '.')
        i += 2;
    return i;
}

size_t pg_ptb_pointed(const ptb_text *t, size_t i)
{
    size_t p = i, end = i, next;
    if (!ptb_is_ascii_alnum(t->c[p]))
        return i;
    while (ptb_is_ascii_alnum(t->c[p]) || t->c[p] == '.' || t->c[p] == ',' || t->c[p] == 0xAD)
        p++;
    for (; t->c[p] == '-'; end = p = next) {
        next = pg_ptb_acronym(t, p + 1);
        if (next <= p + 3)
            for (next = p + 1; ptb_is_ascii_alnum(t->c[next]) || t->c[next] == 0xAD;)
                next++;
        if (next == p + 1)
            break;
    }
    return end;
}

/* Letters and digits, then at most two hyphened runs of letters. */
static size_t slash_part(const ptb_text *t, size_t i)
{
    size_t p = i;
    while (ptb_is_ascii_alnum(t->c[p]))
        p++;
    for (int k = 0; p > i && k < 2 && t->c[p] == '-' && ptb_is_ascii_letter(t->c[p + 1]); k++)
        for (p++; ptb_is_ascii_letter(t->c[p]);)
            p++;
    return p;
}

size_t pg_ptb_slashed(const ptb_text *t, size_t i)
{
    size_t p = slash_part(t, i), end = i;
    for (int k = 0; p > i && k < 2; k++) {
        size_t slash = p + (t->c[p] == '\\'), next = slash_part(t, slash + 1);
        if (t->c[slash] != '/' || next == slash + 1)
            break;
        end = p = next;
    }
    return end;
}

static size_t capitals(const ptb_text *t, size_t i)
{
    while (ptb_is_upper(t->c[i]))
        i++;
    return i;
}

size_t pg_ptb_joined_capitals(const ptb_text *t, size_t i)
{
    size_t p = capitals(t, i), end = i;
    while (p > i) {
        size_t entity = pg_ptb_literal(t, p, "&amp;"), next = p;
        if (entity > p)
            next = capitals(t, entity);
        if (next == p || next == entity)
            next = t->c[p] == '+' || t->c[p] == '&' ? capitals(t, p + 1) : p;
        if (next <= p + 1)
            break;
        end = p = next;
    }
    return end;
}

/* Letters and digits in parts with a stop between them, the last of them a file's ending. */
size_t pg_ptb_file(const ptb_text *t, size_t i)
{
    static const char endings[][6] = {"bat", "bmp", "c",   "cgi",  "class", "cpp", "dll", "doc", "docx", "exe", "gif", "gz",
                                      "h",   "htm", "html", "jar", "java", "jpeg", "jpg", "mov", "mp3",  "pdf", "php", "pl",
                                      "png", "ppt", "ps",  "py",   "sql",  "tar", "txt", "wav", "x",    "xml", "zip"};
    size_t p = letters_digits(t, i), end = i;
    while (p > i && t->c[p] == '.') {
        size_t from = p + 1;
        p = letters_digits(t, from);
        if (p == from)
            break;
        for (size_t k = 0; k < sizeof endings / sizeof *endings; k++)
            if (pg_ptb_literal(t, from, endings[k]) == p && (ptb_is_space(t->c[p]) || one_of(t->c[p], ".?!,")))
                end = p;
    }
    return end;
}

/* ---- words with an apostrophe of their own ---- */
static size_t letters(const ptb_text *t, size_t i)
{
    while (t->k[i] == PTB_WORD)
        i++;
    return i;
}

/* 'n', 'em, 'cause, '90s, 'til */
static size_t leading(const ptb_text *t, size_t i)
{
    static const char *const words[] = {"n", "em", "til", "till", "cause"};
    size_t a = pg_ptb_apostrophe(t, i), end = i;
    if (a == i)
        return i;
    for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
        size_t p = pg_ptb_literal(t, a, words[k]);
        if (p > a && p > end)
            end = p;
    }
    if (end == a + 1 && pg_ptb_apostrophe(t, end) > end)
        end = pg_ptb_apostrophe(t, end);
    if (t->c[a] - '2' < 8 && t->c[a + 1] == '0' && (t->c[a + 2] | 32) == 's')
        end = a + 3;
    return end;
}

/* O'Neil, o'clock, B'nai; you'all, Hawai'i; somethin', ol', c'mon */
static size_t inner(const ptb_text *t, size_t i)
{
    static const struct {
        const char *before, *after;
    } whole[] = {{"dunkin", ""}, {"somethin", ""}, {"ol", ""},     {"o", "clock"}, {"ma", "am"},     {"c", "mon"}, {"e", "er"},
                 {"s", "mores"}, {"ev", "ry"},     {"li", "l"},    {"nat", "l"},   {"nor", "easter"}, {"d", "ye"}, {"c", "est"}};
    size_t end = i, a, p;
    if (one_of(t->c[i], "lLdDjJ") && (a = pg_ptb_apostrophe(t, i + 1)) > i + 1)
        end = a;
    if (one_of(t->c[i], "ABCDEFGHJKLMNOPQRSTUVWXZn") && (a = pg_ptb_any_apostrophe(t, i + 1)) > i + 1 && (p = letters(t, a)) >= a + 2)
        end = p > end ? p : end;
    if (one_of(t->c[i], "oO") && (a = pg_ptb_any_apostrophe(t, i + 1)) > i + 1 && one_of(t->c[a], "oO") && a + 1 > end)
        end = a + 1;
    p = letters(t, i);
    for (size_t k = i; k < p; k++)
        if (one_of(t->c[k], "aeiouyAEIOUY") && (a = pg_ptb_any_apostrophe(t, k + 1)) > k + 1 &&
            (one_of(t->c[a], "aeiou") || ptb_is_upper(t->c[a])) && k > i) {
            size_t q = letters(t, a);
            end = q > end ? q : end;
        }
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        size_t q = pg_ptb_literal(t, i, whole[k].before);
        if (q > i && (a = pg_ptb_apostrophe(t, q)) > q && (p = pg_ptb_literal(t, a, whole[k].after)) >= a && (p > a || !*whole[k].after))
            end = p > end ? p : end;
    }
    return end;
}

size_t pg_ptb_clipped(const ptb_text *t, size_t i)
{
    size_t a = leading(t, i), b = inner(t, i);
    return a > b ? a : b;
}
