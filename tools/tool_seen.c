#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "tool.h"

static uint64_t hash(const char *s)
{
    uint64_t h = pg_mix(PG_MIX, s, strlen(s));
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    return h ? h : 1;
}

static size_t place(const tool_seen *s, uint64_t h)
{
    size_t at = h & (s->cap - 1);
    while (s->at[at] && s->at[at] != h) at = (at + 1) & (s->cap - 1);
    return at;
}

bool tool_seen_has(const tool_seen *s, const char *text) { return s->cap && s->at[place(s, hash(text))]; }

static void grow(const pg_tool *t, tool_seen *s)
{
    tool_seen more = {.n = s->n, .cap = s->cap ? s->cap * 2 : 1024};
    if (!(more.at = pg_calloc(more.cap, sizeof *more.at))) tool_no_memory(t);
    for (size_t i = 0; i < s->cap; i++)
        if (s->at[i]) more.at[place(&more, s->at[i])] = s->at[i];
    free(s->at);
    *s = more;
}

bool tool_seen_add(const pg_tool *t, tool_seen *s, const char *text)
{
    if (tool_seen_has(s, text)) return false;
    if (2 * (s->n + 1) > s->cap) grow(t, s);
    uint64_t h = hash(text);
    s->at[place(s, h)] = h;
    s->n++;
    return true;
}

void tool_seen_free(tool_seen *s)
{
    free(s->at);
    *s = (tool_seen){0};
}
