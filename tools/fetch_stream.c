/* Remote sources as a stream of examples: through the cache, several at once, in order. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "fetch.h"
#include "net/url.h"

enum { WAIT_MS = 200 };
static const size_t max_lines = (size_t)1 << 30;

struct ahead {
    pg_item item;
    pg_err err; /* of the start */
    bool anew;
    bool spooled; /* the file at its path is of this run alone */
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

/* Without a cache archives lie in a folder of this run while they are read: they may be larger than memory. It goes where this program
 * ends; what a signal has ended leaves its folder to the next one. */
static pg_temp_folder spool;
static void remove_spool(void) { pg_temp_folder_remove(&spool); }

static void make_spool(fetch *f)
{
    const char *dir = getenv("TMPDIR");
    char *path = pg_path_join(dir && *dir ? dir : "/tmp", "pg-fetch");
    pg_err e = {0};
    if (!path) tool_no_memory(&f->t);
    size_t left = pg_temp_sweep(path);
    if (left) tool_info(&f->t, "removed %zu folder%s of archives that killed runs left in '%s'", left, left == 1 ? "" : "s", dir && *dir ? dir : "/tmp");
    if (pg_temp_folder_make(&spool, path, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (atexit(remove_spool)) tool_no_memory(&f->t);
    free(path);
}

static void into_spool(fetch *f, ahead *a)
{
    if (!spool.path) make_spool(f);
    a->spooled = true;
    if (!(a->item.t.path = pg_format("%s/%zu", spool.path, ++f->spooled))) tool_no_memory(&f->t);
}

/* max 0: a file of any size, never in memory. */
static void start_item(fetch *f, ahead *a, size_t max)
{
    a->item.t.max = max;
    a->item.t.most = max;
    if (!max && !f->cache) into_spool(f, a);
    if (begin(f, a, &a->err)) a->err.code = a->err.code ? a->err.code : PG_FAIL;
}

static ahead *new_ahead(fetch *f)
{
    ahead *a = pg_calloc(1, sizeof *a);
    if (!a) tool_no_memory(&f->t);
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

ahead *ahead_start(fetch *f, const char *source) { return start(f, source, fetch_max_image(f)); }

ahead *ahead_listed(fetch *f, pg_item *i)
{
    ahead *a = new_ahead(f);
    a->item = *i;
    *i = (pg_item){.t = PG_TRANSFER_INIT};
    start_item(f, a, fetch_max_image(f));
    return a;
}

void ahead_work(fetch *f)
{
    pg_err ignored = {0}; /* it comes back to who waits */
    if (f->hosts.net) (void)!pg_net_step(f->hosts.net, 0, &ignored);
}

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
    if (a->local) return pg_file_read(a->item.cached, fetch_max_image(f), out, e);
    if (f->cache) {
        rc = pg_file_read(a->item.t.path, fetch_max_image(f), out, e);
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

/* The file that arrived; NULL: it lies in memory. */
static const char *file_of(const fetch *f, const ahead *a)
{
    if (a->local) return a->item.cached;
    return f->cache || a->spooled ? a->item.t.path : NULL;
}

static void remote_lines(fetch *f, const char *source, ahead *a, const char *said)
{
    const char *file = file_of(f, a);
    pg_buf *b = &a->item.t.data;
    FILE *in = file ? fopen(file, "rb") : b->len ? fmemopen(b->data, b->len, "rb") : fopen("/dev/null", "rb");
    if (!in) tool_die(&f->t, EXIT_FAIL, "cannot open what was fetched of '%s'", said);
    fetch_jsonl(f, in, said, ".", source);
    fclose(in);
}

ahead *ahead_shard(fetch *f, const char *source)
{
    pg_err e = {0};
    pg_source s;
    if (!pg_source_is_remote(source) || pg_source_parse(&s, source, &e)) return NULL; /* which is said when its turn comes */
    bool file = s.file && (pg_ends_with(s.file, ".tar") || pg_ends_with(s.file, ".pgs")), lines = s.file && pg_ends_with(s.file, ".jsonl");
    pg_source_free(&s);
    return file || lines ? start(f, source, lines ? max_lines : 0) : NULL;
}

static void shard(fetch *f, const char *source, ahead *a, const char *name)
{
    pg_err e = {0};
    char *said = pg_url_redact(source);
    if (!said) tool_no_memory(&f->t);
    if (settle(f, a, &e)) fetch_no_source(f, said, EXIT_FAIL, "%s", e.msg);
    else if (pg_ends_with(name, ".tar")) fetch_tar(f, file_of(f, a), said);
    else if (pg_ends_with(name, ".pgs")) fetch_pgs(f, file_of(f, a), said);
    else remote_lines(f, source, a, said);
    if (a->spooled) unlink(a->item.t.path);
    if (f->cache) pg_cache_ease(f->cache);
    free(said);
}

static int by_name(const void *key, const void *entry) { return strcmp(key, ((const pg_item *)entry)->name); }

/* Where a picture's caption is; cat.jpg and cat.png share cat.txt. NULL: it has none. */
static char *caption_of(fetch *f, const pg_items *l, const char *picture)
{
    char *side = fetch_sidecar(picture);
    if (!side) tool_no_memory(&f->t);
    const pg_item *i = bsearch(side, l->at, l->n, sizeof *l->at, by_name);
    free(side);
    if (!i) return NULL;
    if (!(side = pg_strdup(i->t.source))) tool_no_memory(&f->t);
    return side;
}

/* Takes what i holds, leaving its name. */
static void put_listed(fetch *f, const pg_items *l, pg_item *i)
{
    item r = {.path = pg_strdup(i->t.source), .side = caption_of(f, l, i->name), .listed = pg_alloc(1, sizeof *r.listed)};
    char *name = pg_strdup(i->name);
    if (!r.path || !r.listed || !name) tool_no_memory(&f->t);
    *r.listed = *i;
    *i = (pg_item){.name = name, .t = PG_TRANSFER_INIT};
    fetch_begin(f, name, r.path);
    fetch_put_later(f, name, &r);
}

static void remote_folder(fetch *f, const pg_source *s)
{
    pg_err e = {0};
    pg_items l = {0};
    size_t images = 0;
    fetch_connect(f);
    if (pg_source_list(&f->hosts, s, &l, &e)) {
        fetch_no_source(f, s->text, EXIT_FAIL, "%s", e.msg);
        pg_items_free(&l);
        return;
    }
    for (size_t i = 0; i < l.n; i++) {
        images += fetch_is_image(l.at[i].name);
        if (pg_ends_with(l.at[i].name, ".jsonl"))
            tool_die(&f->t, EXIT_USAGE, "'%s' holds '%s': name that file for its examples, or give -o to fetch everything", s->text, l.at[i].name);
    }
    if (!images) fetch_no_source(f, s->text, EXIT_FAIL, "no images (.png, .jpg, .jpeg, .jpe, .jfif) in '%s'; give -o to fetch its files", s->text);
    for (size_t i = 0; i < l.n && fetch_more(f); i++)
        if (!fetch_is_image(l.at[i].name)) fetch_leave(f, l.at[i].name);
        else if (fetch_wanted(f)) put_listed(f, &l, &l.at[i]);
    order_drain(f);
    pg_items_free(&l);
}

static void remote_picture(fetch *f, const char *text, const pg_source *s)
{
    const char *slash = strrchr(s->file, '/'), *id = slash ? slash + 1 : s->file;
    item i = {.path = pg_strdup(text)};
    if (!i.path) tool_no_memory(&f->t);
    fetch_begin(f, id, s->text);
    fetch_put_later(f, id, &i);
}

void fetch_remote(fetch *f, const char *text, ahead *a)
{
    pg_err e = {0};
    pg_source s;
    if (pg_source_parse(&s, text, &e)) tool_usage(&f->t, "%s", e.msg);
    if (a) shard(f, text, a, s.file);
    else if (s.file && fetch_is_image(s.file)) {
        if (fetch_wanted(f)) remote_picture(f, text, &s);
    } else if (s.host == PG_HOST_STORAGE) remote_folder(f, &s);
    else tool_die(&f->t, EXIT_USAGE, "'%s' is neither an image nor a .jsonl, .tar or .pgs file: give -o DIR to download it", s.text);
    pg_source_free(&s);
}
