/* Text of the report: escapes, and what differs between a caption and a reference. */
#include <string.h>

#include "render.h"

text_view view(const pg_rec *r, const char *key)
{
    text_view v = {"", 0};
    if (pg_rec_str(r, key, &v.s, &v.n, NULL) != 1) v = (text_view){"", 0};
    return v;
}

void put_html(FILE *f, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) switch (s[i]) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        case '\'': fputs("&#39;", f); break;
        default:
            /* Control characters have no place in HTML. */
            if (((unsigned char)s[i] < 32 && s[i] != '\n' && s[i] != '\t') || s[i] == 127) fputs("\xEF\xBF\xBD", f);
            else putc(s[i], f);
        }
}

void put_str(FILE *f, const char *s) { put_html(f, s, strlen(s)); }

/* ---- differences ---- */
enum { MOST_WORDS = 200 }; /* of a text; what comes behind is not compared */

typedef struct word {
    text_view all, bare; /* as written; without punctuation around it */
} word;

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool is_sign(char c) { return strchr(".,;:!?\"'()[]", c) != NULL; }

static size_t split(text_view t, word *w)
{
    size_t n = 0, i = 0;
    while (n < MOST_WORDS) {
        while (i < t.n && is_blank(t.s[i])) i++;
        if (i == t.n) break;
        size_t from = i;
        while (i < t.n && !is_blank(t.s[i])) i++;
        size_t a = from, b = i;
        while (a < b && t.s[a] && is_sign(t.s[a])) a++;
        while (b > a && t.s[b - 1] && is_sign(t.s[b - 1])) b--;
        w[n++] = (word){{t.s + from, i - from}, {t.s + a, b - a}};
    }
    return n;
}

static int low(char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

static bool same(const word *a, const word *b)
{
    if (a->bare.n != b->bare.n) return false;
    for (size_t i = 0; i < a->bare.n; i++)
        if (low(a->bare.s[i]) != low(b->bare.s[i])) return false;
    return true;
}

/* len[i][j]: the longest common subsequence of a[i..] and b[j..]. */
typedef unsigned char table[MOST_WORDS + 1][MOST_WORDS + 1];

static void fill(table len, const word *a, size_t n, const word *b, size_t m)
{
    for (size_t i = n + 1; i-- > 0;)
        for (size_t j = m + 1; j-- > 0;) {
            unsigned char skip;
            if (i == n || j == m) {
                len[i][j] = 0;
                continue;
            }
            skip = len[i + 1][j] > len[i][j + 1] ? len[i + 1][j] : len[i][j + 1];
            len[i][j] = same(&a[i], &b[j]) ? (unsigned char)(len[i + 1][j + 1] + 1) : skip;
        }
}

size_t nearest_reference(text_view caption, char *const *refs, size_t n)
{
    word a[MOST_WORDS], b[MOST_WORDS];
    table len;
    size_t na = split(caption, a), best = 0;
    double most = -1;
    for (size_t k = 0; k < n; k++) {
        size_t nb = split((text_view){refs[k], strlen(refs[k])}, b);
        fill(len, a, na, b, nb);
        double shared = na + nb ? 2.0 * len[0][0] / (double)(na + nb) : 1;
        if (shared > most) {
            most = shared;
            best = k;
        }
    }
    return best;
}

void put_marked(FILE *f, text_view text, text_view other, const char *class, const char *title)
{
    word a[MOST_WORDS], b[MOST_WORDS];
    table len;
    size_t na = split(text, a), nb = split(other, b), i, j = 0;
    bool open = false;
    fill(len, a, na, b, nb);
    for (i = 0; i < na; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): fill() wrote all up to [na][nb] */
        while (j < nb && len[i][j] == len[i][j + 1] && !same(&a[i], &b[j])) j++;
        bool common = j < nb && same(&a[i], &b[j]) && len[i][j] == len[i + 1][j + 1] + 1;
        if (open && common) fputs("</mark>", f);
        if (i) putc(' ', f);
        if (!open && !common) fprintf(f, "<mark class=\"%s\" title=\"%s\">", class, title);
        open = !common;
        put_html(f, a[i].all.s, a[i].all.n);
        j += common;
    }
    if (open) fputs("</mark>", f);
    if (na == MOST_WORDS) put_html(f, a[na - 1].all.s + a[na - 1].all.n, (size_t)(text.s + text.n - (a[na - 1].all.s + a[na - 1].all.n)));
}
