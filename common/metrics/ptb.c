/* The caption tokenizer: bytes to code points and classes, tokens to words. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unictype.h>

#include "metrics/ptb.h"
#include "metrics/ptb_tables.h"
#include "metrics/words.h"
#include "text/text.h"

enum { LOOK_AHEAD = 24 }; /* characters of the next line that can matter: blanks and a word that begins a sentence */

struct pg_words {
    ptb_text t;
    pg_buf token;
};

pg_words *pg_words_new(void) { return pg_calloc(1, sizeof(pg_words)); }

void pg_words_free(pg_words *w)
{
    if (!w)
        return;
    free(w->t.c);
    free(w->t.k);
    pg_buf_free(&w->token);
    free(w);
}

static const struct ptb_special *special(uint32_t c)
{
    for (size_t k = 0; k < sizeof ptb_specials / sizeof *ptb_specials; k++)
        if (c >= ptb_specials[k].first && c <= ptb_specials[k].last)
            return &ptb_specials[k];
    return NULL;
}

static uint8_t class_of(uint32_t c)
{
    size_t lo = 0, hi = sizeof ptb_ranges / sizeof *ptb_ranges;
    if (c < 128)
        return c - '0' < 10 ? PTB_DIGIT : ptb_is_ascii_letter(c) ? PTB_WORD : c > ' ' && c < 127 ? PTB_ASCII : PTB_DELETED;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > ptb_ranges[mid].last)
            lo = mid + 1;
        else if (c < ptb_ranges[mid].first)
            hi = mid;
        else
            return ptb_ranges[mid].class == PTB_WORD && uc_is_general_category(c, UC_DECIMAL_DIGIT_NUMBER) ? PTB_DIGIT : ptb_ranges[mid].class;
    }
    return special(c) ? PTB_SPECIAL : PTB_DELETED;
}

/* Decodes one character at s[*i]; what is no UTF-8 becomes U+FFFF, which the tokenizer removes. */
static uint32_t decode(const unsigned char *s, size_t n, size_t *i)
{
    unsigned c = s[(*i)++];
    size_t more = c < 0x80 ? 0 : c >= 0xC2 && c < 0xE0 ? 1 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xF0 && c < 0xF5 ? 3 : 4;
    uint32_t v = more == 0 ? c : c & (0x3Fu >> more);
    if (more == 4 || *i + more > n)
        return 0xFFFF;
    for (size_t k = 0; k < more; k++) {
        if ((s[*i + k] & 0xC0) != 0x80)
            return 0xFFFF;
        v = v << 6 | (s[*i + k] & 0x3F);
    }
    if ((more == 2 && v < 0x800) || (more == 3 && (v < 0x10000 || v > 0x10FFFF)) || (v >= 0xD800 && v < 0xE000))
        return 0xFFFF;
    *i += more;
    return v;
}

static bool is_line_end(uint32_t c) { return (c >= 0x0A && c <= 0x0D) || c == 0x2028 || c == 0x2029; }

static size_t put(ptb_text *t, size_t at, const char *s, size_t n, size_t most)
{
    for (size_t i = 0, k = 0; i < n && k < most; k++) {
        uint32_t c = decode((const unsigned char *)s, n, &i);
        t->c[at] = is_line_end(c) || c == 0 ? ' ' : c;
        t->k[at] = class_of(t->c[at]);
        at++;
    }
    return at;
}

static int load(ptb_text *t, const char *s, size_t n, pg_context context, const char *next, size_t n_next, pg_err *e)
{
    size_t need = n + LOOK_AHEAD + PTB_PAD + 2;
    if (n > SIZE_MAX / 8)
        return pg_error_nomem(e);
    if (need > t->cap) {
        size_t cap = need + need / 2;
        uint32_t *c = pg_realloc(t->c, cap, sizeof *c);
        if (c)
            t->c = c;
        uint8_t *k = c ? pg_realloc(t->k, cap, sizeof *k) : NULL;
        if (!k)
            return pg_error_nomem(e);
        t->k = k;
        t->cap = cap;
    }
    size_t at = t->end = put(t, 0, s, n, SIZE_MAX);
    for (size_t line = 0; line < (context == PG_LAST ? 0u : context == PG_FOLLOWED ? 2u : 1u); line++) {
        if (line == 1)
            at = put(t, at, next, n_next, LOOK_AHEAD);
        t->c[at] = '\n';
        t->k[at++] = PTB_DELETED;
    }
    for (size_t k = 0; k < PTB_PAD; k++) {
        t->c[at + k] = 0;
        t->k[at + k] = PTB_DELETED;
    }
    return PG_OK;
}

static int add_char(pg_buf *b, uint32_t c, pg_err *e)
{
    unsigned char s[4];
    size_t n = 0;
    if (c < 0x80)
        s[n++] = (unsigned char)c;
    else if (c < 0x800) {
        s[n++] = (unsigned char)(0xC0 | c >> 6);
        s[n++] = (unsigned char)(0x80 | (c & 0x3F));
    } else {
        if (c > 0xFFFF)
            s[n++] = (unsigned char)(0xF0 | c >> 18);
        s[n++] = (unsigned char)(c > 0xFFFF ? 0x80 | (c >> 12 & 0x3F) : 0xE0 | c >> 12);
        s[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        s[n++] = (unsigned char)(0x80 | (c & 0x3F));
    }
    return pg_buf_add(b, s, n, e);
}

static int add_text(pg_buf *b, const char *s, pg_err *e) { return pg_buf_add(b, s, strlen(s), e); }

static const char *bracket(uint32_t c, bool alone)
{
    switch (c) {
    case '(': return "-lrb-";
    case ')': return "-rrb-";
    case '[': return alone ? "-lsb-" : NULL;
    case ']': return alone ? "-rsb-" : NULL;
    case '{': return alone ? "-lcb-" : NULL;
    case '}': return alone ? "-rcb-" : NULL;
    default: return NULL;
    }
}

/* Letters, digits and marks, and a hyphen, stop or low line between letters, are one word for lower-casing. */
static bool same_word(const ptb_text *t, size_t p)
{
    uint32_t c = t->c[p];
    bool joint = c == '-' || c == '_' || c == '.' || c == 0x2010;
    return t->k[p] == PTB_WORD || t->k[p] == PTB_DIGIT || t->k[p] == PTB_MARK || c == 0xAD ||
           (joint && p > 0 && t->k[p - 1] == PTB_WORD && t->k[p + 1] == PTB_WORD);
}

/* A capital sigma is final where a letter with case stands before it in its word and none behind. */
static bool final_sigma(const ptb_text *t, size_t start, size_t at, size_t end)
{
    bool before = false, behind = false;
    for (size_t p = at; p > start && same_word(t, p - 1); p--)
        before |= uc_is_property_cased(t->c[p - 1]);
    for (size_t p = at + 1; p < end && same_word(t, p); p++)
        behind |= uc_is_property_cased(t->c[p]);
    return before && !behind;
}

static int add_special(pg_buf *b, uint32_t c, pg_err *e)
{
    const struct ptb_special *s = special(c);
    PG_KNOWN(s); /* class_of() has found it */
    return add_text(b, s->text, e);
}

/* The token as the tokenizer writes it, not yet lower-cased. */
static int write_token(const ptb_text *t, size_t i, const ptb_best *m, pg_buf *b, pg_err *e)
{
    bool alone = m->end == i + 1;
    int rc = PG_OK;
    b->len = 0;
    for (size_t p = i; !rc && p < m->end; p++) {
        uint32_t c = t->c[p];
        const char *as = m->kind == PTB_RAW ? NULL : bracket(c, alone);
        if (as)
            rc = add_text(b, as, e);
        else if (t->k[p] == PTB_SPECIAL && (alone || (m->end == i + 2 && pg_ptb_is_quote(t->c[i]) && pg_ptb_is_quote(t->c[i + 1]))))
            rc = add_special(b, c, e);
        else if (m->kind == PTB_CLITIC && pg_ptb_any_apostrophe(t, p) > p) {
            rc = add_text(b, pg_ptb_apostrophe(t, p) > p ? "'" : "`", e);
            p = pg_ptb_any_apostrophe(t, p) - 1;
        } else if (m->kind == PTB_CAPITALS && pg_ptb_literal(t, p, "&amp;") > p && p + 5 <= m->end) {
            rc = add_char(b, c, e);
            p += 4;
        } else if (c == ' ' || c == '\t')
            rc = add_char(b, 0xA0, e);
        else if (c == 0x3A3)
            rc = add_char(b, final_sigma(t, i, p, m->end) ? 0x3C2 : 0x3C3, e);
        else if (c != 0xAD || m->kind == PTB_RAW)
            rc = add_char(b, c, e);
    }
    return rc;
}

/* The entities that stand for one character, as a token by themselves; the first two in lower case only. */
static void replace_entity(pg_buf *b)
{
    static const struct {
        const char *name, *text;
    } entities[] = {{"&quot;", "\""}, {"&apos;", "'"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&amp;", "&"}, {"&nbsp;", ""}, {"&ndash;", "--"}, {"&mdash;", "--"}, {"&md;", "--"}};
    if (b->len == 0 || b->data[0] != '&')
        return;
    const size_t exact = 2; /* the first of them are known in lower case alone */
    for (size_t k = 0; k < sizeof entities / sizeof *entities; k++)
        if (b->len == strlen(entities[k].name) && /* cppcheck-suppress arrayIndexThenCheck ; k is an index in any case */
            (k < exact ? memcmp(b->data, entities[k].name, b->len) : strncasecmp((const char *)b->data, entities[k].name, b->len)) == 0) {
            b->len = strlen(entities[k].text);
            memcpy(b->data, entities[k].text, b->len);
            return;
        }
}

static bool dropped(const pg_buf *b)
{
    static const char *const list[] = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", "\""};
    size_t k;
    if (b->len == 0)
        return true;
    for (k = 0; k < sizeof list / sizeof *list; k++)
        if (b->len == strlen(list[k]) && !memcmp(b->data, list[k], b->len))
            return true;
    /* Two to four hyphens are a dash; stops in a row, with blanks or without, are one mark. */
    for (k = 0; k < b->len && b->data[k] == '-';)
        k++;
    if (k == b->len)
        return k < 5;
    for (k = 0; k < b->len && (b->data[k] == '.' || b->data[k] == 0xC2 || b->data[k] == 0xA0);)
        k++;
    return k == b->len && b->data[0] == '.';
}

static int lower(pg_buf *token, pg_buf *out, pg_err *e)
{
    for (size_t k = 0; k < token->len; k++) {
        if (token->data[k] >= 0x80)
            return pg_text_lower((const char *)token->data, token->len, out, e);
        if (ptb_is_upper(token->data[k]))
            token->data[k] |= 32;
    }
    return pg_buf_add(out, token->data, token->len, e);
}

int pg_words_make(pg_words *w, const char *caption, size_t n, pg_context context, const char *next, size_t n_next, pg_buf *out, pg_err *e)
{
    size_t start = out->len;
    int rc = load(&w->t, caption, n, context, next, n_next, e);
    for (size_t i = 0; !rc && i < w->t.end;) {
        ptb_best m;
        pg_ptb_match(&w->t, i, &m);
        if (m.end == i) {
            i++;
            continue;
        }
        rc = write_token(&w->t, i, &m, &w->token, e);
        replace_entity(&w->token);
        if (!rc && !dropped(&w->token)) {
            if (out->len > start)
                rc = pg_buf_add(out, " ", 1, e);
            if (!rc)
                rc = lower(&w->token, out, e);
        }
        i = m.end;
    }
    return rc;
}
