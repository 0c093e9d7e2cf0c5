/* Which ids were there before. */
#include <stdlib.h>
#include <string.h>

#include "fetch.h"

enum { MANY = 1 << 18 }; /* ids that are compared at least, and at most twice as many: 10 MiB of hashes */

static uint64_t hash(const char *s)
{
    uint64_t h = pg_mix(PG_MIX, s, strlen(s));
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    return h ? h : 1;
}

static size_t place(const seen *s, uint64_t h)
{
    size_t at = h & (s->cap - 1);
    while (s->at[at] && s->at[at] != h) at = (at + 1) & (s->cap - 1);
    return at;
}

static bool has(const seen *s, uint64_t h) { return s->cap && s->at[place(s, h)]; }

static void grow(fetch *f, seen *s)
{
    seen more = {.n = s->n, .cap = s->cap ? s->cap * 2 : 1024};
    if (!(more.at = pg_calloc(more.cap, sizeof *more.at))) tool_no_memory(&f->t);
    for (size_t i = 0; i < s->cap; i++)
        if (s->at[i]) more.at[place(&more, s->at[i])] = s->at[i];
    free(s->at);
    *s = more;
}

bool fetch_is_new(fetch *f, const char *text, bool all)
{
    uint64_t h = hash(text);
    if (has(&f->ids, h) || has(&f->before, h)) return false;
    if (!all && f->ids.n == MANY) {
        free(f->before.at);
        f->before = f->ids;
        f->ids = (seen){0};
    }
    if (2 * (f->ids.n + 1) > f->ids.cap) grow(f, &f->ids);
    f->ids.at[place(&f->ids, h)] = h;
    f->ids.n++;
    return true;
}

void fetch_forget_seen(fetch *f)
{
    free(f->ids.at);
    free(f->before.at);
    f->ids = f->before = (seen){0};
}
