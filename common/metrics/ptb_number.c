/* Shapes of numbers, addresses and markup. */
#include <string.h>

#include "metrics/ptb.h"
#include "metrics/ptb_tables.h"

/* A row of these, each so many times, describes a shape; the longest way to match it counts. */
typedef struct item {
    const char *set; /* "0" stands for any digit, "_" for a blank or no-break space */
    size_t least, most;
} item;

/* "/" stands for U+2044 as well. */
static bool in_set(const ptb_text *t, size_t i, const char *set)
{
    for (; *set; set++)
        if (*set == '0' ? t->k[i] == PTB_DIGIT : *set == '_' ? t->c[i] == ' ' || t->c[i] == 0xA0
                                                              : t->c[i] == (uint32_t)(unsigned char)*set || (*set == '/' && t->c[i] == 0x2044))
            return true;
    return false;
}

/* The end of the longest match, or 0. */
static size_t longest(const ptb_text *t, size_t i, const item *items, size_t n)
{
    size_t best = 0, k = 0;
    if (n == 0)
        return i;
    for (;; k++) {
        if (k >= items->least) {
            size_t end = longest(t, i + k, items + 1, n - 1);
            best = end > best ? end : best;
        }
        if (k == items->most || !in_set(t, i + k, items->set))
            return best;
    }
}
#define LONGEST(t, i, items) longest(t, i, items, sizeof(items) / sizeof *(items))

static size_t digits(const ptb_text *t, size_t i)
{
    while (t->k[i] == PTB_DIGIT)
        i++;
    return i;
}

size_t pg_ptb_number(const ptb_text *t, size_t i)
{
    size_t p = t->c[i] == '+' || t->c[i] == '-' ? i + 1 : i, end = digits(t, p);
    if (end == p)
        end = 0;
    p = end ? end : p;
    while (t->c[p] == '.' || t->c[p] == ',' || t->c[p] == ':' || t->c[p] == 0xAD || t->k[p] == PTB_INNER_DIGITS) {
        size_t next = digits(t, p + 1);
        if (next == p + 1)
            break;
        end = p = next;
    }
    return end ? end : i;
}

size_t pg_ptb_fraction(const ptb_text *t, size_t i)
{
    static const item plain[] = {{"0", 1, 4}, {"\\", 0, 1}, {"/", 1, 1}, {"0", 1, 4}};
    static const item mixed[] = {{"0", 1, 4}, {"-_", 1, 1}, {"0", 1, 4}, {"\\", 0, 1}, {"/", 1, 1}, {"0", 1, 4}};
    size_t a, b;
    if (t->k[i] != PTB_DIGIT)
        return i;
    a = LONGEST(t, i, plain);
    b = LONGEST(t, i, mixed);
    a = a > b ? a : b;
    return a ? a : i;
}

size_t pg_ptb_date(const ptb_text *t, size_t i)
{
    static const item date[] = {{"0", 1, 2}, {"-/", 1, 1}, {"0", 1, 2}, {"-/", 1, 1}, {"0", 2, 4}};
    size_t end = t->k[i] == PTB_DIGIT ? LONGEST(t, i, date) : 0;
    return end ? end : i;
}

size_t pg_ptb_phone(const ptb_text *t, size_t i)
{
    static const item area[] = {{"(", 1, 1}, {"0", 2, 3}, {")", 1, 1}, {"_", 0, 1}, {"0", 3, 4}, {"-_", 0, 1}, {"0", 3, 5}};
    static const item rows[] = {{"+", 0, 2}, {"0", 2, 4}, {"-_", 1, 1}, {"0", 3, 4}, {"-_", 0, 1}, {"0", 3, 5}};
    static const item country[] = {{"+", 0, 2}, {"0", 2, 4}, {"-_", 1, 1}, {"0", 2, 4}, {"-_", 1, 1}, {"0", 3, 4}, {"-_", 0, 1}, {"0", 3, 5}};
    static const item stops[] = {{"+", 0, 2}, {"0", 2, 4}, {".", 1, 1}, {"0", 3, 4}, {".", 1, 1}, {"0", 3, 5}};
    static const item country_stops[] = {{"+", 0, 2}, {"0", 2, 4}, {".", 1, 1}, {"0", 2, 4}, {".", 1, 1}, {"0", 3, 4}, {".", 1, 1}, {"0", 3, 5}};
    size_t end[5], best = i;
    if (t->k[i] != PTB_DIGIT && t->c[i] != '(' && t->c[i] != '+')
        return i;
    end[0] = LONGEST(t, i, area);
    end[1] = LONGEST(t, i, rows);
    end[2] = LONGEST(t, i, country);
    end[3] = LONGEST(t, i, stops);
    end[4] = LONGEST(t, i, country_stops);
    for (size_t k = 0; k < 5; k++)
        best = end[k] > best ? end[k] : best;
    return best;
}

/* ---- addresses ---- */
static bool none_of(uint32_t c, const char *set) { return c && c != '\n' && !(c < 128 && strchr(set, (int)c)); }

/* Characters outside `set`, the last of them outside `last` as well; i where there are fewer than two. */
static size_t run_ending(const ptb_text *t, size_t i, const char *set, const char *last)
{
    size_t p = i, end = i;
    for (; none_of(t->c[p], set); p++)
        if ((p > i || t->c[p] > 0xFFFF) && none_of(t->c[p], last)) /* beyond U+FFFF the reference counts two */
            end = p + 1;
    return end;
}

#define URL_STOP " \t\"<>|(){}"
#define PATH_STOP " \t\"<>|()"
#define URL_LAST " \t\"<>|.!?(){},-"

static size_t full_url(const ptb_text *t, size_t i)
{
    size_t p = pg_ptb_literal(t, i, "http"), end;
    if (p == i)
        return i;
    p += t->c[p] == 's' || t->c[p] == 'S';
    if (t->c[p] != ':' || t->c[p + 1] != '/' || t->c[p + 2] != '/')
        return i;
    end = run_ending(t, p + 3, URL_STOP, URL_LAST);
    return end > p + 3 ? end : i;
}

/* Lower-case letters and few signs: digits and capitals do not make a host here. */
#define HOST_STOP " \t\"`'<>|.!?(){},-_$/:;=@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ[]\\^"

#define WWW_STOP " \t\"<>|.!?(){},"

/* A top-level domain at i: its end, or i. */
static size_t top_level(const ptb_text *t, size_t i, bool www, size_t letters)
{
    static const char *const tops[] = {"com", "net", "org", "edu"};
    size_t end = i;
    for (size_t k = 0; !www && k < 4; k++)
        if (letters == 3 && pg_ptb_literal(t, i, tops[k]) > i)
            end = i + 3;
    for (size_t k = 0; www && k < letters && ptb_is_ascii_letter(t->c[i + k]); k++)
        end = k + 1 == letters ? i + letters : i;
    return end;
}

/* Labels with stops between them, one a top-level domain, and a path: the longest. */
static size_t host(const ptb_text *t, size_t i, bool www)
{
    size_t p = i, end = i;
    for (;;) {
        size_t label = p;
        while (none_of(t->c[p], www ? WWW_STOP : HOST_STOP))
            p++;
        if (p == label || t->c[p] != '.')
            return end;
        p++;
        for (size_t letters = 2; letters <= 4; letters++) {
            size_t top = top_level(t, p, www, letters), path;
            if (top == p)
                continue;
            path = t->c[top] == '/' ? run_ending(t, top + 1, PATH_STOP, URL_LAST) : top;
            top = path > top + 1 ? path : top;
            end = top > end ? top : end;
        }
    }
}

/* www.host.dom, host.com, with a path. */
static size_t likely_url(const ptb_text *t, size_t i)
{
    size_t from = pg_ptb_literal(t, i, "www."), www = from > i ? host(t, from, true) : i, plain = host(t, i, false);
    www = www > from ? www : i;
    return www > plain ? www : plain;
}

#define MAIL_STOP " \t\"<>|(){}"

/* An address that is longer is none (RFC 5321 allows 64 + 1 + 255), though the reference tool takes it: else text without blanks
 * would be read again at each of its characters. */
enum { MAIL_MAX = 320 };

static size_t mail(const ptb_text *t, size_t i)
{
    const size_t most = i + MAIL_MAX;
    size_t p = t->c[i] == '<' ? i + 1 : pg_ptb_literal(t, i, "&lt;"), end = i;
    if (!ptb_is_ascii_alnum(t->c[p]))
        return i;
    for (p++; p < most && none_of(t->c[p], MAIL_STOP) && t->c[p] != 0xA0; p++)
        if (t->c[p] == '@') {
            size_t q = p + 1, label;
            for (;; q++) {
                for (label = q; q < most && none_of(t->c[q], MAIL_STOP ".") && t->c[q] != 0xA0;)
                    q++;
                if (q == label || t->c[q] != '.')
                    break;
            }
            if (q == label)
                q--;
            if (q > p + 1 && q < most)
                end = t->c[q] == '>' ? q + 1 : pg_ptb_literal(t, q, "&gt;");
        }
    return end;
}

size_t pg_ptb_address(const ptb_text *t, size_t i)
{
    size_t end = full_url(t, i), b = likely_url(t, i), c = mail(t, i);
    end = b > end ? b : end;
    return c > end ? c : end;
}

size_t pg_ptb_handle(const ptb_text *t, size_t i)
{
    size_t p = i + 1;
    if (t->c[i] == '@' && (ptb_is_ascii_letter(t->c[p]) || t->c[p] == '_')) {
        while (ptb_is_ascii_alnum(t->c[p]) || t->c[p] == '_')
            p++;
        return p;
    }
    if (t->c[i] == '#') {
        while (pg_ptb_letter(t, p) > p)
            p = pg_ptb_letter(t, p);
        return p > i + 1 ? p : i;
    }
    return i;
}

/* ---- markup ---- */
static size_t blanks(const ptb_text *t, size_t i)
{
    while (t->c[i] == ' ' || t->c[i] == '\t' || t->c[i] == 0xA0)
        i++;
    return i;
}

static size_t name(const ptb_text *t, size_t i)
{
    if (!ptb_is_ascii_letter(t->c[i]))
        return i;
    while (ptb_is_ascii_alnum(t->c[i]) || (t->c[i] && t->c[i] < 128 && strchr("_:.-", (int)t->c[i])))
        i++;
    return i;
}

static size_t attribute(const ptb_text *t, size_t i)
{
    size_t p = name(t, i), q = blanks(t, p);
    if (p == i || t->c[q] != '=')
        return p;
    q = blanks(t, q + 1);
    if (t->c[q] != '"' && t->c[q] != '\'')
        return p;
    for (uint32_t quote = t->c[q++]; t->c[q] != quote; q++)
        if (!t->c[q] || t->c[q] == '\n')
            return p;
    return q + 1;
}

size_t pg_ptb_markup(const ptb_text *t, size_t i)
{
    size_t p = i + 1, end;
    bool closing = t->c[p] == '/';
    if (t->c[i] != '<')
        return i;
    if (t->c[p] == '!' || t->c[p] == '?') {
        if (!ptb_is_ascii_letter(t->c[++p]) && t->c[p] != '-')
            return i;
        while (t->c[p] && t->c[p] != '\n' && t->c[p] != '>')
            p++;
        return t->c[p] == '>' ? p + 1 : i;
    }
    p += closing;
    end = name(t, p);
    if (end == p)
        return i;
    for (p = end; !closing && blanks(t, p) > p && (end = attribute(t, blanks(t, p))) > blanks(t, p);)
        p = end;
    p = blanks(t, p);
    if (!closing && t->c[p] == '/')
        p = blanks(t, p + 1);
    return t->c[p] == '>' ? p + 1 : i;
}

size_t pg_ptb_entity(const ptb_text *t, size_t i)
{
    static const char *const whole[] = {"&ht;", "&tl;", "&ur;", "&lr;", "&qc;", "&ql;", "&qr;", "&odq;", "&cdq;"};
    size_t p = i + 2;
    if (t->c[i] != '&')
        return i;
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        size_t end = pg_ptb_literal(t, i, whole[k]);
        if (end > i)
            return end;
    }
    if (t->c[i + 1] != '#')
        return i;
    while (ptb_is_ascii_digit(t->c[p]))
        p++;
    return p > i + 2 && t->c[p] == ';' ? p + 1 : i;
}

/* ---- smileys ---- */
static bool one_of(uint32_t c, const char *set) { return c && c < 128 && strchr(set, (int)c); }

size_t pg_ptb_smiley(const ptb_text *t, size_t i, size_t *all)
{
    const char *eyes = "-^x=~<>'";
    size_t p = i + one_of(t->c[i], "<>"), end = i;
    *all = i;
    if (one_of(t->c[p], ":;=")) {
        p += 1 + one_of(t->c[p + 1], "-o*'");
        if (one_of(t->c[p], "()DPdpO\\{@|[]") && t->c[p + 1] && !ptb_is_ascii_alnum(t->c[p + 1])) {
            end = p + 1;
            *all = p + 2;
        }
    }
    if (one_of(t->c[i], eyes) && t->c[i + 1] == '_' && one_of(t->c[i + 2], eyes) && i + 3 > *all)
        *all = end = i + 3;
    for (size_t mouth = 0; t->c[i] == '(' && one_of(t->c[i + 1], eyes) && mouth <= (size_t)one_of(t->c[i + 2], "_.-"); mouth++) {
        p = i + 2 + mouth;
        if (one_of(t->c[p], eyes) && t->c[p + 1] == ')' && p + 2 > *all)
            *all = end = p + 2;
    }
    return end;
}
