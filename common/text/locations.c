#include "text/locations.h"

#include <string.h>

/* "<loc0123>": the number, or -1 where no such token begins here. */
static int token(const char *s, size_t n, const char *name, size_t digits, int limit)
{
    int v = 0;
    if (n < digits + 5 || s[0] != '<' || strncmp(s + 1, name, 3) != 0 || s[4 + digits] != '>') return -1;
    for (size_t i = 4; i < 4 + digits; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        v = 10 * v + (s[i] - '0');
    }
    return v < limit ? v : -1;
}

enum { LOC = 9, SEG = 8 }; /* bytes of a token */

static size_t places(const char *s, size_t n, int *v, size_t most)
{
    size_t k = 0;
    while (k < most && k * LOC < n && (v[k] = token(s + k * LOC, n - k * LOC, "loc", 4, PG_PLACES)) >= 0) k++;
    return k;
}

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool pg_next_box(const char *s, size_t n, size_t *at, pg_box *b)
{
    int v[5];
    size_t i = *at, k = 0;
    while (i < n && (k = places(s + i, n - i, v, 5)) != 4) i += k ? k * LOC : 1;
    *at = n;
    if (i >= n) return false;
    *b = (pg_box){.y0 = v[0] / (double)PG_PLACES, .x0 = v[1] / (double)PG_PLACES, .y1 = v[2] / (double)PG_PLACES, .x1 = v[3] / (double)PG_PLACES};
    i += 4 * LOC;
    while (b->n_codes < PG_MASK_CODES && i < n && (b->codes[b->n_codes] = token(s + i, n - i, "seg", 3, PG_SEGMENTS)) >= 0) {
        b->n_codes++;
        i += SEG;
    }
    if (b->n_codes != PG_MASK_CODES) b->n_codes = 0;
    size_t end = i;
    while (end < n && s[end] != ';' && places(s + end, n - end, v, 1) == 0 && token(s + end, n - end, "seg", 3, PG_SEGMENTS) < 0) end++;
    *at = end;
    while (i < end && blank(s[i])) i++;
    while (end > i && blank(s[end - 1])) end--;
    b->label = s + i;
    b->n_label = end - i;
    return true;
}
