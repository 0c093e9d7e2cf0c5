/* Where the token that begins at a position ends: every shape is tried, the longest wins. */
#include <string.h>

#include "metrics/ptb.h"
#include "metrics/ptb_tables.h"

static bool one_of(uint32_t c, const char *set) { return c && c < 128 && strchr(set, (int)c); }

static size_t run_of(const ptb_text *t, size_t i, const char *set)
{
    while (one_of(t->c[i], set))
        i++;
    return i;
}

/* 's 'm 'd 're 've 'll at i: its end, or i. */
static size_t clitic(const ptb_text *t, size_t i)
{
    static const char *const two[] = {"re", "ve", "ll"};
    size_t a = pg_ptb_apostrophe(t, i);
    if (a == i)
        return i;
    for (size_t k = 0; k < 3; k++)
        if (pg_ptb_literal(t, a, two[k]) > a)
            return a + 2;
    return one_of(t->c[a], "msdMSD") ? a + 1 : i;
}

/* n't at i. */
static size_t negation(const ptb_text *t, size_t i)
{
    size_t a;
    if (!one_of(t->c[i], "nN") || (a = pg_ptb_any_apostrophe(t, i + 1)) == i + 1)
        return i;
    return one_of(t->c[a], "tT") ? a + 1 : i;
}

/* cannot, gonna and the like are two words. */
static void assimilated(const ptb_text *t, size_t i, ptb_best *b)
{
    static const struct {
        const char *word;
        size_t first;
    } words[] = {{"cannot", 3}, {"gimme", 3}, {"gonna", 3}, {"gotta", 3}, {"lemme", 3}, {"wanna", 3}};
    for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
        size_t end = pg_ptb_literal(t, i, words[k].word);
        if (end > i)
            ptb_offer(b, i + words[k].first, end);
    }
}

/* ---- full stops that belong to a word ---- */
/* A single letter's stop before one of these and white space is the end of a sentence. */
static bool begins_sentence(const ptb_text *t, size_t i, size_t *end)
{
    static const char words[][12] = {
        "a",   "about", "according", "additionally", "after", "an",  "as",   "at",    "but",   "earlier", "he",    "her",  "here",
        "however", "if", "in",       "it",           "last",  "many", "more", "now",  "once",  "one",     "other", "our",  "she",
        "since", "so",  "some",      "such",         "that",  "the", "their", "then", "there", "these",   "they",  "this", "we",
        "what", "when", "while",     "yet",          "you"};
    char word[12];
    size_t n = 0;
    if ((t->c[i] | 32) == 'm' && one_of(t->c[i + 1] | 32, "rs") && t->c[i + 2] == '.' && ptb_is_space(t->c[i + 3])) {
        *end = i + 4;
        return ptb_is_upper(t->c[i]);
    }
    bool lower = false;
    while (ptb_is_ascii_letter(t->c[i + n]) && n < sizeof word) {
        word[n] = (char)(t->c[i + n] | 32);
        lower |= n > 0 && !ptb_is_upper(t->c[i + n]);
        n++;
    }
    if (n == 0 || !ptb_is_upper(t->c[i]) || !ptb_is_space(t->c[i + n]))
        return false;
    for (size_t k = 1; lower && k < n; k++)
        if (ptb_is_upper(t->c[i + k]))
            return false;
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (strnlen(words[k], sizeof words[k]) == n && !memcmp(words[k], word, n)) {
            *end = i + n + 1;
            return true;
        }
    return false;
}

static void acronyms(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t end = pg_ptb_acronym(t, i), p, all;
    if (end == i + 2) {
        for (p = end; ptb_is_space(t->c[p]);)
            p++;
        if (p > end && begins_sentence(t, p, &all))
            ptb_offer(b, i + 1, all);
        if (p > end && (all = pg_ptb_markup(t, p)) > p && ptb_is_space(t->c[all]))
            ptb_offer(b, i + 1, all + 1);
    }
    ptb_offer(b, end, end);
}

static char abbreviation_kind(const ptb_text *t, size_t i, size_t end)
{
    char word[8];
    size_t n = end - i, lo = 0, hi = sizeof ptb_abbreviations / sizeof *ptb_abbreviations;
    bool upper = true;
    if (n == 0 || n >= sizeof word)
        return '-';
    for (size_t k = 0; k < n; k++) {
        word[k] = (char)(t->c[i + k] | 32);
        upper &= ptb_is_upper(t->c[i + k]);
    }
    word[n] = 0;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(word, ptb_abbreviations[mid].word);
        if (order == 0)
            return ptb_abbreviations[mid].kinds[upper ? 2 : ptb_is_upper(t->c[i]) ? 1 : 0];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return '-';
}

static void abbreviations(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t end = i, p;
    while (ptb_is_ascii_letter(t->c[end]))
        end++;
    if (t->c[end] != '.')
        return;
    char kind = abbreviation_kind(t, i, end++);
    if (kind == 'T')
        ptb_offer(b, end, end);
    /* Whatever two characters follow are looked at, so a shorter word with a stop inside loses: inc.a is inc. and a. */
    if (kind == 'W')
        ptb_offer(b, end, end + 2);
    p = end + (t->c[end] == ' ' || t->c[end] == '\n' || t->c[end] == 0xA0);
    if (kind == 'N' && t->k[p] == PTB_DIGIT)
        ptb_offer(b, end, p + 1);
    end = pg_ptb_literal(t, i, "ph.d.");
    if (end > i)
        ptb_offer(b, end, end + 2);
}

/* Any word keeps its stop before a comma, semicolon or colon. */
static void stop_inside(const ptb_text *t, size_t end, ptb_best *b, ptb_kind kind)
{
    if (t->c[end] == '.' && (one_of(t->c[end + 1], ",;:") || t->c[end + 1] == 0x3001))
        ptb_offer_as(b, end + 1, end + 2, kind);
}

/* ---- by first character ---- */
/* Words before 's and the like, and before n't; plain words; n't itself; y'all. */
static void contractions(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t w = pg_ptb_word(t, i), letters = i, p;
    while (ptb_is_ascii_letter(t->c[letters]))
        letters++;
    if (w > i) {
        p = clitic(t, w);
        if (p > w)
            ptb_offer(b, w, p);
        p = letters == w && w > i + 1 && !one_of(t->c[w - 2], "nN") ? negation(t, w - 1) : w;
        if (p > w)
            ptb_offer(b, w - 1, p);
        ptb_offer(b, w, w);
        stop_inside(t, w, b, PTB_AS_IS);
        abbreviations(t, i, b);
    }
    p = pg_ptb_clipped(t, i);
    ptb_offer(b, p, p);
    if (one_of(t->c[i], "yY") && (p = pg_ptb_apostrophe(t, i + 1)) > i + 1 && t->k[p] == PTB_WORD)
        ptb_offer(b, p, p + 1);
    p = negation(t, i);
    if (p > i && !ptb_is_ascii_letter(t->c[p]))
        ptb_offer_as(b, p, p + 1, PTB_CLITIC);
}

/* C++, C#, US$, anti-, x_x */
static void with_signs(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t p = i, all;
    if (one_of(t->c[i], "cC") && t->c[i + 1] == '+' && t->c[i + 2] == '+')
        ptb_offer(b, i + 3, i + 3);
    if (one_of(t->c[i], "cCfF") && t->c[i + 1] == '#')
        ptb_offer(b, i + 2, i + 2);
    while (ptb_is_upper(t->c[p]))
        p++;
    if (p > i && t->c[p] == '$')
        ptb_offer(b, p + 1, p + 1);
    if ((p = pg_ptb_literal(t, i, "anti-")) > i || (p = pg_ptb_literal(t, i, "pro-")) > i)
        ptb_offer(b, p, p);
    if (t->c[i] == 'x' && (p = pg_ptb_smiley(t, i, &all)) > i)
        ptb_offer(b, p, all);
}

static void words(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t p;
    assimilated(t, i, b);
    contractions(t, i, b);
    p = pg_ptb_hyphened(t, i);
    ptb_offer(b, p, p);
    stop_inside(t, p, b, PTB_AS_IS);
    p = pg_ptb_pointed(t, i);
    ptb_offer(b, p, p);
    if (p > i)
        stop_inside(t, p, b, PTB_AS_IS);
    p = pg_ptb_slashed(t, i);
    ptb_offer(b, p, p);
    p = pg_ptb_joined_capitals(t, i);
    if (p > i) {
        stop_inside(t, p, b, PTB_CAPITALS);
        ptb_offer_as(b, p, p, PTB_CAPITALS);
    }
    with_signs(t, i, b);
    acronyms(t, i, b);
    p = pg_ptb_file(t, i);
    if (p > i && t->c[p])
        ptb_offer(b, p, p + 1);
}

static void numbers(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t p = pg_ptb_number(t, i);
    ptb_offer(b, p, p);
    p = pg_ptb_fraction(t, i);
    ptb_offer(b, p, p);
    p = pg_ptb_date(t, i);
    ptb_offer(b, p, p);
    p = pg_ptb_phone(t, i);
    ptb_offer(b, p, p);
}

static void apostrophes(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t p = clitic(t, i);
    if (p > i && !ptb_is_ascii_letter(t->c[p]))
        ptb_offer_as(b, p, p + 1, PTB_CLITIC);
    if (t->c[i] == '\'') {
        if (t->c[i + 1] == '\'')
            ptb_offer(b, i + 2, i + 2);
        p = pg_ptb_literal(t, i, "'tis");
        p = p > i ? p : pg_ptb_literal(t, i, "'twas");
        if (p > i)
            ptb_offer(b, i + 2, p);
    }
    if (ptb_is_ascii_digit(t->c[i + 1]) && ptb_is_ascii_digit(t->c[i + 2]) && ptb_is_space(t->c[i + 3]))
        ptb_offer(b, i + 3, i + 4);
    p = pg_ptb_clipped(t, i);
    ptb_offer(b, p, p);
    /* Before a letter and another character it opens a quotation: 'n. is no short form. */
    if (t->c[i] == '\'' && ptb_is_ascii_letter(t->c[i + 1]) && !ptb_is_space(t->c[i + 2]))
        ptb_offer(b, i + 1, i + 3);
    p = clitic(t, i);
    if (p > i)
        ptb_offer_as(b, p, p, PTB_CLITIC);
}

/* Three to five stops, or three to five with a blank between them. */
static void dots(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t n = 0, k;
    while (n < 5 && t->c[i + n] == '.')
        n++;
    if (n >= 3)
        ptb_offer(b, i + n, i + n);
    for (k = 0; k < 4 && t->c[i + 2 * k] == '.' && (t->c[i + 2 * k + 1] == ' ' || t->c[i + 2 * k + 1] == 0xA0);)
        k++;
    while (k >= 2 && t->c[i + 2 * k] != '.')
        k--;
    if (k >= 2)
        ptb_offer(b, i + 2 * k + 1, i + 2 * k + 1);
}

static void signs(const ptb_text *t, size_t i, ptb_best *b)
{
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&nbsp;", "&ndash;", "&mdash;", "&md;"};
    size_t p, all;
    uint32_t c = t->c[i];
    p = pg_ptb_smiley(t, i, &all);
    ptb_offer(b, p, all);
    if (one_of(c, "*_@#"))
        p = run_of(t, i, (char[]){(char)c, 0});
    else if (one_of(c, "!?"))
        p = run_of(t, i, "!?");
    else if (c == '-')
        p = run_of(t, i, "-");
    else if (c == '\\')
        while (p < i + 6 && t->c[p] == '\\' && t->c[p + 1] == '*')
            p += 2;
    else if (one_of(c, "<>"))
        p = t->c[i + 1] == c ? i + 2 : i + 1;
    ptb_offer(b, p, p);
    if (c == '<') {
        p = pg_ptb_markup(t, i);
        ptb_offer_as(b, p, p, PTB_RAW);
    }
    if (c == '@' || c == '#') {
        p = pg_ptb_handle(t, i);
        ptb_offer_as(b, p, p, PTB_RAW);
    }
    if (c == '&') {
        p = pg_ptb_entity(t, i);
        ptb_offer(b, p, p);
        for (size_t k = 0; k < sizeof entities / sizeof *entities; k++) {
            p = pg_ptb_literal(t, i, entities[k]);
            ptb_offer(b, p, p);
        }
    }
    if (c == '.')
        dots(t, i, b);
}

/* Quotes other than the plain ones: two of them are one token. */
bool pg_ptb_is_quote(uint32_t c)
{
    return c == '`' || (c >= 0x91 && c <= 0x94) || c == 0xAB || c == 0xBB || (c >= 0x2018 && c <= 0x201F) || c == 0x2039 || c == 0x203A;
}

/* Superscripts, or subscripts, with a sign of that kind before them. */
static size_t small_digits(const ptb_text *t, size_t i)
{
    uint32_t c = t->c[i];
    size_t first = c == 0x207A || c == 0x207B || c == 0x208A || c == 0x208B ? i + 1 : i, p = first;
    while (t->k[p] == PTB_RUN && !pg_ptb_is_quote(t->c[p]) && (t->c[p] >= 0x2080) == (t->c[first] >= 0x2080))
        p++;
    return p > first ? p : i;
}

void pg_ptb_match(const ptb_text *t, size_t i, ptb_best *b)
{
    size_t p = i;
    *b = (ptb_best){i, i, PTB_AS_IS};
    if (!one_of(t->c[i], " \t\n")) {
        p = pg_ptb_address(t, i);
        ptb_offer_as(b, p, p, PTB_RAW);
    }
    switch (t->k[i]) {
    case PTB_DELETED: break;
    case PTB_RUN:
    case PTB_SYMBOL:
        p = small_digits(t, i);
        ptb_offer(b, p, p);
        break;
    case PTB_WORD:
    case PTB_MARK: words(t, i, b); break;
    case PTB_DIGIT:
        words(t, i, b);
        numbers(t, i, b);
        break;
    case PTB_ASCII:
        signs(t, i, b);
        if (one_of(t->c[i], "+-.,:("))
            numbers(t, i, b);
        if (t->c[i] == '&')
            words(t, i, b);
        break;
    case PTB_SPECIAL:
        if (t->c[i] == 0xAD)
            words(t, i, b);
    }
    if (pg_ptb_apostrophe(t, i) > i)
        apostrophes(t, i, b);
    if (pg_ptb_is_quote(t->c[i]) && pg_ptb_is_quote(t->c[i + 1]))
        ptb_offer(b, i + 2, i + 2);
    if (t->k[i] == PTB_INNER_DIGITS || t->c[i] == 0xAD)
        numbers(t, i, b);
    if (b->end == i && t->k[i] != PTB_DELETED && t->k[i] != PTB_INNER && t->k[i] != PTB_INNER_DIGITS)
        b->end = i + 1;
}
