#include "base/braces.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { DIGITS = 9 /* of an end of a range */, LISTS_MAX = 64 /* in one name */ };

typedef struct names {
    char **at;
    size_t n, cap, depth;
} names;

static int add(names *l, const char *name, pg_err *e)
{
    if (l->n == PG_BRACES_MAX) return pg_error(e, PG_ELIMIT, "more than %d names", PG_BRACES_MAX);
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        char **at = pg_realloc(l->at, cap, sizeof *at);
        if (!at) return pg_error_nomem(e);
        l->at = at;
        l->cap = cap;
    }
    if (!(l->at[l->n] = pg_strdup(name))) return pg_error_nomem(e);
    l->n++;
    return PG_OK;
}

/* The end of a part: the next comma or closing brace of this depth; NULL where the brace is never closed. */
static const char *part_end(const char *s)
{
    int depth = 0;
    for (; *s; s++) {
        if (*s == '{') depth++;
        else if (*s == '}' && depth-- == 0) return s;
        else if (*s == ',' && depth == 0) return s;
    }
    return NULL;
}

static bool number(const char *s, const char *end, size_t *v)
{
    if (s == end || end - s > DIGITS) return false;
    for (*v = 0; s < end; s++) {
        if (*s < '0' || *s > '9') return false;
        *v = *v * 10 + (size_t)(*s - '0');
    }
    return true;
}

typedef struct range {
    size_t from, to;
    int width;
} range;

/* s: behind the opening brace. */
static bool is_range(const char *s, const char *close, range *r)
{
    const char *dots = strstr(s, "..");
    if (!dots || dots >= close || !number(s, dots, &r->from) || !number(dots + 2, close, &r->to)) return false;
    size_t a = (size_t)(dots - s), b = (size_t)(close - dots) - 2;
    bool zeros = (*s == '0' && a > 1) || (dots[2] == '0' && b > 1);
    r->width = zeros ? (int)(a > b ? a : b) : 0;
    return true;
}

static int expand(names *l, const char *front, size_t done, pg_err *e);

/* front with `part` in place of what lies between open and behind. */
static int replace(names *l, const char *front, const char *open, const char *part, size_t len, const char *behind, pg_err *e)
{
    size_t done = (size_t)(open - front);
    if (l->depth == LISTS_MAX) return pg_error(e, PG_ELIMIT, "more than %d lists in a name", LISTS_MAX);
    char *s = pg_format("%.*s%.*s%s", (int)done, front, (int)len, part, behind);
    l->depth++;
    int rc = s ? expand(l, s, done, e) : pg_error_nomem(e);
    l->depth--;
    free(s);
    return rc;
}

static int numbers(names *l, const char *s, const char *open, const char *close, const range *r, pg_err *e)
{
    int rc = PG_OK;
    for (size_t i = r->from;; r->from < r->to ? i++ : i--) {
        char text[32];
        snprintf(text, sizeof text, "%0*zu", r->width, i);
        rc = replace(l, s, open, text, strlen(text), close + 1, e);
        if (rc || i == r->to) return rc;
    }
}

/* The first `done` bytes of s hold no list. */
static int expand(names *l, const char *s, size_t done, pg_err *e)
{
    for (const char *open = strchr(s + done, '{'); open; open = strchr(open + 1, '{')) {
        const char *end = part_end(open + 1), *close = end;
        range r;
        while (close && *close == ',') close = part_end(close + 1);
        if (!close) continue;
        if (*end != ',') {
            if (is_range(open + 1, close, &r)) return numbers(l, s, open, close, &r, e);
            continue;
        }
        for (const char *part = open + 1;; part = end + 1) {
            end = part_end(part);
            int rc = replace(l, s, open, part, (size_t)(end - part), close + 1, e);
            if (rc || end == close) return rc;
        }
    }
    return add(l, s, e);
}

int pg_braces(const char *s, char ***out, size_t *n, pg_err *e)
{
    names l = {0};
    int rc = expand(&l, s, 0, e);
    if (rc) {
        for (size_t i = 0; i < l.n; i++) free(l.at[i]);
        free(l.at);
        return rc;
    }
    *out = l.at;
    *n = l.n;
    return PG_OK;
}
