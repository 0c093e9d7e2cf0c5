/* Which records come, and in what order. A record passes four places: the shard that it belongs to; the shuffle buffer; what --skip
 * leaves out; the window, in which pictures of later records are fetched while earlier ones are written. Only there is a picture
 * loaded, so records that are left out or wait cost little. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fetch.h"

static void nomem(const fetch *f) { tool_die(&f->t, EXIT_FAIL, "out of memory"); }

bool fetch_more(const fetch *f) { return f->order.passed < f->limit; }

bool fetch_wanted(fetch *f)
{
    order *o = &f->order;
    size_t number = o->number++;
    if (o->shards && !o->by_source && (o->source + number) % o->shards != o->shard) return false;
    o->of_epoch++;
    return true;
}

bool fetch_skims(const fetch *f) { return !f->order.room && f->order.left_out; }

static void item_free(item *i)
{
    pg_rec_free(i->rec);
    free(i->id);
    free(i->path);
    free(i->where);
    free(i->side);
    if (i->listed) pg_item_free(i->listed);
    free(i->listed);
    ahead_free(i->picture);
    ahead_free(i->caption);
    *i = (item){0};
}

static void start(fetch *f, item *i)
{
    if (i->listed) i->picture = ahead_listed(f, i->listed);
    else if (i->path && pg_source_is_remote(i->path)) i->picture = ahead_start(f, i->path);
    if (i->picture && i->side) i->caption = ahead_start(f, i->side);
}

/* The sources' own record, f->p.rec, is empty now: the one under way takes its place. */
static void write_first(fetch *f)
{
    order *o = &f->order;
    item *i = &o->window[o->first];
    pg_rec *own = f->p.rec;
    pg_err e = {0};
    f->p.rec = i->rec;
    if (i->path) fetch_load(f, i);
    if (!fetch_is_new(f, i->id, false) && !pg_rec_has(f->p.rec, "error")) /* one reason is enough */
        tool_record_alike(&f->t, f->p.rec, "an id that was there before", i->where ? "the id '%s' was there before: give each line an \"id\" of its own" : "the id '%s' was there before", i->id);
    if (o->epochs != 1 && pg_rec_set_int(f->p.rec, "epoch", (int64_t)o->epoch + 1, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    tool_put(&f->t, &f->p, f->p.rec);
    f->done++;
    if (!o->room) { /* its memory serves the next one; a buffer's records keep to their own size */
        pg_rec_clear(own);
        i->rec = own;
    } else f->p.rec = own;
    o->remote -= i->picture != NULL;
    item_free(i);
    o->first = (o->first + 1) % FETCH_WINDOW;
    o->waiting--;
    ahead_work(f);
}

void order_drain(fetch *f)
{
    while (f->order.waiting) write_first(f);
}

/* Takes i. */
static void pass(fetch *f, item *i)
{
    order *o = &f->order;
    if (!fetch_more(f) || o->left_out) {
        if (fetch_more(f)) {
            o->left_out--;
            (void)!fetch_is_new(f, i->id, false);
        }
        item_free(i);
        return;
    }
    o->passed++;
    start(f, i);
    o->remote += i->picture != NULL;
    o->window[(o->first + o->waiting++) % FETCH_WINDOW] = *i;
    if (!o->remote) order_drain(f);
    else if (o->waiting == FETCH_WINDOW) write_first(f);
}

void fetch_put_later(fetch *f, const char *id, item *given)
{
    order *o = &f->order;
    item i = *given;
    i.rec = f->p.rec;
    f->p.rec = pg_rec_new();
    i.id = fetch_id(f, id);
    if (!f->p.rec) nomem(f);
    if (!o->room) {
        pass(f, &i);
        return;
    }
    if (o->n < o->room) {
        o->buffer[o->n++] = i;
        return;
    }
    item *out = &o->buffer[pg_rng_below(&o->rng, o->n)], first = *out;
    *out = i;
    pass(f, &first);
}

void fetch_put(fetch *f, const char *id)
{
    item nothing = {0};
    fetch_put_later(f, id, &nothing);
}

void order_epoch(fetch *f, size_t *sources, size_t n)
{
    order *o = &f->order;
    o->of_epoch = 0;
    fetch_forget_seen(f);
    if (!o->room) return;
    if (!o->buffer && !(o->buffer = pg_calloc(o->room, sizeof *o->buffer))) nomem(f);
    pg_rng_seed(&o->rng, o->seed, o->epoch);
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)pg_rng_below(&o->rng, i), last = sources[i - 1];
        sources[i - 1] = sources[j];
        sources[j] = last;
    }
}

void order_end(fetch *f)
{
    order *o = &f->order;
    while (o->n) {
        item *out = &o->buffer[pg_rng_below(&o->rng, o->n)], i = *out;
        *out = o->buffer[--o->n];
        pass(f, &i);
    }
    order_drain(f);
}

bool order_skips_epoch(fetch *f)
{
    order *o = &f->order;
    if (!o->of_epoch || o->left_out < o->of_epoch) return false; /* of_epoch is the last one's still */
    o->left_out -= o->of_epoch;
    return true;
}

void order_free(fetch *f)
{
    order *o = &f->order;
    for (size_t i = 0; i < o->n; i++) item_free(&o->buffer[i]);
    free(o->buffer);
}

static void error_record(fetch *f, const char *name, const char *why)
{
    if (!fetch_wanted(f)) {
        tool_warn(&f->t, "%s", why);
        return;
    }
    fetch_begin(f, name, name);
    tool_record_error(&f->t, f->p.rec, "%s", why);
    fetch_put(f, name);
}

void fetch_damaged(fetch *f, const char *name, const char *fmt, ...)
{
    char why[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    error_record(f, name, why);
}

void fetch_no_source(fetch *f, const char *name, int status, const char *fmt, ...)
{
    char why[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    if (!f->listed) tool_die(&f->t, status, "%s", why);
    error_record(f, name, why);
}
