/* Which ids were there before. */
#include "fetch.h"

enum { MANY = 1 << 18 }; /* ids that are compared at least, and at most twice as many: 10 MiB of hashes */

bool fetch_is_new(fetch *f, const char *text, bool all)
{
    if (tool_seen_has(&f->ids, text) || tool_seen_has(&f->before, text)) return false;
    if (!all && f->ids.n == MANY) {
        tool_seen_free(&f->before);
        f->before = f->ids;
        f->ids = (tool_seen){0};
    }
    return tool_seen_add(&f->t, &f->ids, text);
}

void fetch_forget_seen(fetch *f)
{
    tool_seen_free(&f->ids);
    tool_seen_free(&f->before);
}
