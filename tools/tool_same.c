#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tool.h"

void tool_same_add(const pg_tool *t, tool_same *s, const char *caption, size_t len, uint64_t picture)
{
    if (s->differ) return;
    if (!s->n++) {
        s->len = len;
        if (!(s->caption = pg_strndup(caption, len))) tool_no_memory(t);
    }
    s->differ = len != s->len || memcmp(caption, s->caption, len) != 0;
    if (s->pictures == TOOL_SAME_PICTURES) return;
    for (size_t i = 0; i < s->pictures; i++)
        if (s->picture[i] == picture) return;
    s->picture[s->pictures++] = picture;
}

bool tool_same_wants(const tool_same *s) { return !s->differ && s->pictures < TOOL_SAME_PICTURES; }

bool tool_same_is(const tool_same *s) { return !s->differ && s->pictures == TOOL_SAME_PICTURES; }

void tool_same_warn(pg_tool *t, const tool_same *s, const char *what)
{
    if (tool_same_is(s))
        tool_warn(t, "all %llu %s are the same, '%.100s', though the pictures differ: the model may not look at them; fewer steps or a lower learning rate may help",
                  (unsigned long long)s->n, what, s->caption);
}

void tool_same_free(tool_same *s)
{
    free(s->caption);
    *s = (tool_same){0};
}
