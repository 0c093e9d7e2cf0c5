/* Remote sources as a stream of examples: through the cache, several at once, in order. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fetch.h"
#include "net/url.h"

enum { WAIT_MS = 200, WINDOW = 16 };
static const size_t max_image = PG_RECORD_MAX - ((size_t)1 << 20), max_lines = (size_t)1 << 30;

struct ahead {
    pg_item item;
    pg_err err; /* of the start */
    bool anew;
    bool local; /* nothing is transferred: item.cached, in another client's cache, is it */
};

static void open_cache(fetch *f)
{
    pg_err e = {0};
    if (f->no_cache || f->cache) return;
    if (!pg_cache_open(&f->cache, f->cache_size, &e)) return;
    tool_warn(&f->t, "nothing is cached: %s", e.msg);
    f->no_cache = true;
}

static int begin(fetch *f, ahead *a, pg_err *e)
{
    int rc = f->cache ? pg_cache_direct(f->cache, &a->item.t, a->anew, e) : PG_OK;
    return rc ? rc : pg_net_add(f->hosts.net, &a->item.t, e);
}

static void start_item(fetch *f, ahead *a, size_t max)
{
    a->item.t.max = max;
    a->item.t.most = max;
    if (begin(f, a, &a->err)) a->err.code = a->err.code ? a->err.code : PG_FAIL;
}

static ahead *new_ahead(fetch *f)
{
    ahead *a = pg_calloc(1, sizeof *a);
    if (!a) tool_die(&f->t, EXIT_FAIL, "out of memory");
    a->item.t = PG_TRANSFER_INIT;
    fetch_connect(f);
    open_cache(f);
    return a;
}

/* Another client has it, and it is right as far as is known. */
static bool is_cached(fetch *f, const pg_item *i)
{
    pg_sums got = {0};
    pg_err e = {0};
    if (!i->cached) return false;
    if (!i->t.want.have || (!pg_hash_file(i->cached, i->t.want.have, &got, &e) && !pg_sums_differ(&i->t.want, &got))) return true;
    tool_info(&f->t, "'%s' is damaged; fetching it instead", i->cached);
    return false;
}

static ahead *start(fetch *f, const char *source, size_t max)
{
    ahead *a = new_ahead(f);
    pg_source s = {0};
    if (!pg_source_parse(&s, source, &a->err) && !pg_source_item(&f->hosts, &s, &a->item, &a->err)) {
        a->local = is_cached(f, &a->item);
        if (!a->local) start_item(f, a, max);
    }
    pg_source_free(&s);
    return a;
}

ahead *ahead_start(fetch *f, const char *source) { return start(f, source, max_image); }

static int wait_for(fetch *f, ahead *a, pg_err *e)
{
    pg_transfer *t = &a->item.t;
    if (a->local) return PG_OK;
    while (!a->err.code && t->outcome == PG_PENDING) {
        int rc = pg_net_step(f->hosts.net, WAIT_MS, e);
        if (rc < 0) return rc;
    }
    if (a->err.code || t->outcome == PG_FAILED) {
        *e = a->err.code ? a->err : t->err;
        return e->code;
    }
    return PG_OK;
}

/* A cached copy that turns out damaged, or that another process has trimmed meanwhile, is fetched once more. */
static int settle(fetch *f, ahead *a, pg_err *e)
{
    const pg_transfer *t = &a->item.t;
    int rc = wait_for(f, a, e);
    if (rc || a->local || !f->cache) return rc;
    rc = pg_cache_settle(f->cache, t, e);
    if (!rc && !pg_is_file(t->path)) rc = pg_error(e, PG_EFORMAT, "the cached copy of '%s' is gone", t->source);
    if (rc != PG_EFORMAT || a->anew) return rc;
    tool_info(&f->t, "%s; fetching it again", e->msg);
    a->anew = true;
    a->item.t.outcome = PG_PENDING;
    rc = begin(f, a, e);
    return rc ? rc : settle(f, a, e);
}

int ahead_wait(fetch *f, ahead *a, pg_buf *out, pg_err *e)
{
    int rc = settle(f, a, e);
    if (rc) return rc;
    if (a->local) return pg_file_read(a->item.cached, max_image, out, e);
    if (f->cache) {
        rc = pg_file_read(a->item.t.path, max_image, out, e);
        pg_cache_ease(f->cache);
        return rc;
    }
    *out = a->item.t.data;
    a->item.t.data = (pg_buf){0};
    return PG_OK;
}

void ahead_free(ahead *a)
{
    if (!a) return;
    pg_item_free(&a->item);
    free(a);
}

static void remote_lines(fetch *f, const char *source)
{
    pg_err e = {0};
    ahead *a = start(f, source, max_lines);
    FILE *in = NULL;
    char *said = pg_url_redact(source);
    if (!said) tool_die(&f->t, EXIT_FAIL, "out of memory");
    if (settle(f, a, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    pg_buf *b = &a->item.t.data;
    if (a->local || f->cache) in = fopen(a->local ? a->item.cached : a->item.t.path, "rb");
    else in = b->len ? fmemopen(b->data, b->len, "rb") : fopen("/dev/null", "rb");
    if (!in) tool_die(&f->t, EXIT_FAIL, "cannot open what was fetched of '%s'", said);
    fetch_jsonl(f, in, said, ".", source);
    fclose(in);
    free(said);
    ahead_free(a);
}

/* One picture as a record, its id the name; caption may be NULL. */
static void put_picture(fetch *f, ahead *a, ahead *caption, const char *id, const char *source)
{
    pg_err e = {0};
    pg_buf b = {0}, text = {0};
    fetch_begin(f, id, source);
    if (ahead_wait(f, a, &b, &e)) tool_record_error(&f->t, f->p.rec, "%s", e.msg);
    else fetch_set_image(f, &b);
    if (caption && ahead_wait(f, caption, &text, &e)) tool_record_error(&f->t, f->p.rec, "%s", e.msg);
    else if (caption) fetch_set_caption(f, &text, caption->item.t.source);
    fetch_put(f, id);
    pg_buf_free(&b);
    pg_buf_free(&text);
}

/* Takes a picture's item, leaving its name. */
static ahead *start_listed(fetch *f, pg_item *i)
{
    ahead *a = new_ahead(f);
    char *name = pg_strdup(i->name);
    if (!name) tool_die(&f->t, EXIT_FAIL, "out of memory");
    a->item = *i;
    *i = (pg_item){.name = name, .t = PG_TRANSFER_INIT};
    start_item(f, a, max_image);
    return a;
}

static int by_name(const void *key, const void *item) { return strcmp(key, ((const pg_item *)item)->name); }

/* A transfer of its own: cat.jpg and cat.png share cat.txt, so its item must stay. */
static ahead *start_caption(fetch *f, const pg_items *l, const char *picture)
{
    char *side = fetch_sidecar(picture);
    if (!side) tool_die(&f->t, EXIT_FAIL, "out of memory");
    const pg_item *i = bsearch(side, l->at, l->n, sizeof *l->at, by_name);
    free(side);
    return i ? ahead_start(f, i->t.source) : NULL;
}

static void pictures(fetch *f, pg_items *l)
{
    ahead *queue[WINDOW], *captions[WINDOW];
    size_t started = 0, put = 0, next = 0;
    for (;;) {
        while (next < l->n && started - put < WINDOW && started - put < f->limit - f->done) {
            pg_item *i = &l->at[next++];
            if (!fetch_is_image(i->name)) {
                fetch_leave(f, i->name);
                continue;
            }
            captions[started % WINDOW] = start_caption(f, l, i->name);
            queue[started++ % WINDOW] = start_listed(f, i);
        }
        if (put == started) return;
        ahead *a = queue[put % WINDOW], *caption = captions[put % WINDOW];
        put_picture(f, a, caption, a->item.name, a->item.t.source);
        ahead_free(a);
        ahead_free(caption);
        put++;
    }
}

static void remote_folder(fetch *f, const pg_source *s)
{
    pg_err e = {0};
    pg_items l = {0};
    size_t images = 0;
    fetch_connect(f);
    if (pg_source_list(&f->hosts, s, &l, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    for (size_t i = 0; i < l.n; i++) {
        images += fetch_is_image(l.at[i].name);
        if (pg_ends_with(l.at[i].name, ".jsonl"))
            tool_die(&f->t, EXIT_USAGE, "'%s' holds '%s': name that file for its examples, or give -o to fetch everything", s->text, l.at[i].name);
    }
    if (!images) tool_die(&f->t, EXIT_FAIL, "no images (.png, .jpg, .jpeg) in '%s'; give -o to fetch its files", s->text);
    pictures(f, &l);
    pg_items_free(&l);
}

void fetch_remote(fetch *f, const char *text)
{
    pg_err e = {0};
    pg_source s;
    if (pg_source_parse(&s, text, &e)) tool_usage(&f->t, "%s", e.msg);
    if (s.file && pg_ends_with(s.file, ".jsonl")) remote_lines(f, text);
    else if (s.file && fetch_is_image(s.file)) {
        ahead *a = ahead_start(f, text);
        const char *slash = strrchr(s.file, '/');
        put_picture(f, a, NULL, slash ? slash + 1 : s.file, s.text);
        ahead_free(a);
    } else if (s.host == PG_HOST_STORAGE) remote_folder(f, &s);
    else tool_die(&f->t, EXIT_USAGE, "'%s' is neither an image nor a .jsonl file: give -o DIR to download it", s.text);
    pg_source_free(&s);
}
