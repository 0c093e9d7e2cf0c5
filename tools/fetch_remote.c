/* pg-fetch -o: sources become files in a folder. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "fetch.h"

enum { WAIT_MS = 200 };

static void say(void *ctx, pg_say level, const char *text)
{
    fetch *f = ctx;
    progress_clear(f);
    if (level == PG_SAY_WARNING) tool_warn(&f->t, "%s", text);
    else if (level == PG_SAY_INFO) tool_info(&f->t, "%s", text);
    else tool_note(&f->t, "%s", text);
}

void fetch_connect(fetch *f)
{
    pg_err e = {0};
    if (f->hosts.net) return;
    f->net.say = say;
    f->net.tick = progress_tick;
    f->net.ctx = f;
    if (pg_net_new(&f->hosts.net, &f->net, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
}

void fetch_disconnect(fetch *f)
{
    pg_net *net = f->hosts.net;
    pg_hosts_free(&f->hosts);
    pg_net_free(net);
}

static void print_path(fetch *f, const char *path)
{
    if (puts(path) < 0 || fflush(stdout)) tool_die(&f->t, EXIT_FAIL, "cannot write 'stdout': %s", strerror(errno));
}

/* What an interrupted run left beside a file that is complete. */
static void tidy(const char *path)
{
    char *names[] = {pg_format("%s.part.lock", path), pg_format("%s.part.json", path)};
    pg_part p;
    pg_err ignored;
    for (size_t i = 0; i < 2; i++)
        if (names[i] && pg_is_file(names[i]) && pg_part_open(&p, path, &ignored) == 1) pg_part_close(&p, true);
    free(names[0]);
    free(names[1]);
}

typedef enum { PLACE_FREE, PLACE_THERE, PLACE_TAKEN } place;

/* A file that is there was put there whole. It stays unless the source now says another size or checksum, or the user does. What this
 * source did not put there is somebody's own and not replaced: many a folder has a config.json. */
static place look_at(fetch *f, const pg_item *i, const char *path, const char *source)
{
    struct stat st;
    pg_sums got, want = i->t.want;
    pg_err e = {0};
    if (stat(path, &st)) return PLACE_FREE;
    if (!S_ISREG(st.st_mode)) return PLACE_TAKEN;
    bool same = (i->t.size == PG_SIZE_UNKNOWN || (uint64_t)st.st_size == i->t.size) && pg_sums_merge(&want, &f->want);
    unsigned which = f->want.have ? f->want.have : pg_sum_best(want.have);
    if (same && which) same = !pg_hash_file(path, which, &got, &e) && !pg_sums_differ(&want, &got);
    if (same && !which && i->t.size == PG_SIZE_UNKNOWN && !pg_mark_is(path, source))
        tool_info(&f->t, "'%s' was there; whether it is that of '%s' cannot be told", path, source);
    if (same) tidy(path);
    else if (!pg_mark_is(path, source)) return PLACE_TAKEN;
    else tool_info(&f->t, "'%s' is another file than the source has now; fetching it again", path);
    return same ? PLACE_THERE : PLACE_FREE;
}

static void say_taken(const fetch *f, const char *path, const char *source)
{
    tool_error(&f->t, "cannot fetch '%s': '%s' is there, differs, and did not come from it; move it away", source, path);
}

/* A path belongs to one source of a run: a second one would be taken for there already. The same source may come twice. */
static bool claim(fetch *f, const char *path, const char *key, const char *source)
{
    char *both = pg_format("%s\n%s", path, key);
    if (!both) tool_no_memory(&f->t);
    bool first = fetch_is_new(f, path, true), known = !fetch_is_new(f, both, true);
    free(both);
    if (first || known) return true;
    tool_error(&f->t, "cannot fetch '%s': another source of this run is '%s' already", source, path);
    return false;
}

static uint64_t part_size(const char *path)
{
    char *part = pg_format("%s.part", path);
    struct stat st;
    uint64_t n = part && !stat(part, &st) ? (uint64_t)st.st_size : 0;
    free(part);
    return n;
}

/* The nearest folder above path that exists has the disk. */
static bool enough_disk(fetch *f, uint64_t need)
{
    struct statvfs v;
    char *dir = pg_strdup(f->out);
    while (dir && statvfs(dir, &v) && strcmp(dir, ".") && strcmp(dir, "/")) {
        char *up = pg_path_dir(dir);
        free(dir);
        dir = up;
    }
    bool known = dir && !statvfs(dir, &v);
    uint64_t have = known ? (uint64_t)v.f_bavail * v.f_frsize : UINT64_MAX;
    free(dir);
    if (have >= need) return true;
    char a[24], b[24];
    human_bytes(need, a);
    human_bytes(have, b);
    tool_info(&f->t, "not enough space in '%s': %s are needed, %s are free", f->out, a, b);
    return false;
}

/* From another client's cache, if it is there and right. */
static bool from_cache(fetch *f, pg_item *i)
{
    pg_err e = {0};
    pg_sums want = i->t.want;
    if (!i->cached || !pg_sums_merge(&want, &f->want)) return false;
    if (pg_local_fetch(i->cached, i->t.path, &want, true, &e)) {
        tool_info(&f->t, "%s; fetching it instead", e.msg);
        return false;
    }
    tool_note(&f->t, "'%s' was in the cache: '%s'", i->name, i->cached);
    return true;
}

static void report(fetch *f, const pg_transfer *t)
{
    char a[24], verified[64] = "";
    pg_sums got = t->got;
    human_bytes(t->done, a);
    for (size_t i = 0; i < PG_SUM_KINDS; i++) {
        pg_sum_view v = pg_sum_at(&got, i);
        if (got.have & v.bit) snprintf(verified + strlen(verified), sizeof verified - strlen(verified), ", %s", v.name);
    }
    tool_note(&f->t, "'%s': %s%s%s", t->path, a, *verified ? ", checked:" : ", no checksum given", *verified ? verified + 1 : "");
}

/* Whether i is to be transferred, because it is neither in its place nor in another client's cache. Where its
 * place belongs to something else it is left out, which is said and makes *ok false. */
static bool is_missing(fetch *f, pg_item *i, bool *ok)
{
    if (!(i->t.path = pg_path_join(f->out, i->name))) tool_no_memory(&f->t);
    place where = PLACE_TAKEN;
    if (claim(f, i->t.path, pg_transfer_key(&i->t), i->t.source)) {
        where = look_at(f, i, i->t.path, i->t.source);
        if (where == PLACE_TAKEN) say_taken(f, i->t.path, i->t.source);
    }
    if (where == PLACE_TAKEN) {
        i->skip = true;
        *ok = false;
        return false;
    }
    i->t.outcome = PG_KEPT;
    if (where == PLACE_THERE || from_cache(f, i)) return false;
    i->t.outcome = PG_PENDING;
    i->t.must = f->want;
    if (pg_sums_differ(&i->t.want, &f->want)) tool_die(&f->t, EXIT_FAIL, "'%s': the checksum given is not the one that the source has", i->t.source);
    return true;
}

/* Bytes that are still to come, added to need; sizes are what a server says. */
static uint64_t add_rest(const pg_transfer *t, uint64_t need)
{
    if (t->size == PG_SIZE_UNKNOWN) return need;
    uint64_t have = part_size(t->path), rest = t->size > have ? t->size - have : 0;
    return rest < UINT64_MAX - need ? need + rest : UINT64_MAX;
}

/* Downloads what is needed of l; false where something failed. */
static bool download(fetch *f, pg_items *l)
{
    pg_err e = {0};
    uint64_t need = 0;
    size_t n = 0;
    bool ok = true;
    pg_transfer **all = pg_calloc(l->n, sizeof *all);
    if (!all) tool_no_memory(&f->t);
    for (size_t k = 0; k < l->n; k++) {
        pg_item *i = &l->at[k];
        if (i->skip || !is_missing(f, i, &ok)) continue;
        need = add_rest(&i->t, need);
        all[n++] = &i->t;
    }
    if (n && !enough_disk(f, need)) tool_die(&f->t, EXIT_FAIL, "nothing was fetched");
    for (size_t k = 0; k < n; k++)
        if (pg_net_add(f->hosts.net, all[k], &all[k]->err)) all[k]->outcome = PG_FAILED;
    progress_start(f, all, n);
    for (size_t k = 0; k < l->n; k++) {
        pg_transfer *t = &l->at[k].t;
        if (l->at[k].skip) continue;
        while (t->outcome == PG_PENDING)
            if (pg_net_step(f->hosts.net, WAIT_MS, &e) < 0) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
        progress_clear(f);
        if (t->outcome == PG_FETCHED) report(f, t);
        if (t->outcome == PG_FAILED) {
            ok = false;
            tool_error(&f->t, "%s", t->err.msg);
        } else print_path(f, t->path);
    }
    progress_end(f);
    free(all);
    return ok;
}

static void dry_run(fetch *f, pg_items *l)
{
    pg_err e = {0};
    for (size_t k = 0; k < l->n; k++) {
        pg_transfer *t = &l->at[k].t;
        struct stat st;
        if (l->at[k].skip) continue;
        if (t->size == PG_SIZE_UNKNOWN && l->at[k].cached && !stat(l->at[k].cached, &st)) t->size = (uint64_t)st.st_size;
        if (t->size == PG_SIZE_UNKNOWN) {
            t->probe = true;
            if (pg_net_fetch(f->hosts.net, t, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
            t->size = t->total;
        }
        if (t->size == PG_SIZE_UNKNOWN) printf("?\t%s\n", l->at[k].name);
        else printf("%llu\t%s\n", (unsigned long long)t->size, l->at[k].name);
    }
}

/* After a listing was refused: the pictures that the downloaded JSON lines name. */
static void add_named(fetch *f, const pg_items *have, const char *base, pg_items *out)
{
    pg_err e = {0};
    tool_seen named = {0};
    size_t room_for = 0;
    for (size_t k = 0; k < have->n; k++) {
        FILE *in = pg_ends_with(have->at[k].name, ".jsonl") ? fopen(have->at[k].t.path, "rb") : NULL;
        char *line = NULL;
        size_t room = 0;
        for (ssize_t n; in && (n = getline(&line, &room, in)) >= 0;) {
            json_t *o = pg_json_load(line, (size_t)n, 0, NULL);
            const char *image = json_string_value(json_object_get(o, "image"));
            char *text = image ? pg_source_beside(base, image) : NULL;
            pg_source s;
            if (text && tool_seen_add(&f->t, &named, text) && !pg_source_parse(&s, text, &e)) {
                if (out->n == room_for) {
                    room_for = room_for ? 2 * room_for : 64;
                    pg_item *more = pg_realloc(out->at, room_for, sizeof *more);
                    if (!more) tool_no_memory(&f->t);
                    out->at = more;
                }
                if (!pg_source_item(&f->hosts, &s, &out->at[out->n], &e)) out->n++;
                else tool_warn(&f->t, "%s", e.msg);
                pg_source_free(&s);
            }
            free(text);
            json_decref(o);
        }
        free(line);
        if (in) fclose(in);
    }
    tool_seen_free(&named);
}

static bool one_remote(fetch *f, const char *text)
{
    pg_err e = {0};
    pg_source s;
    pg_items l = {0}, more = {0};
    bool weights = false, tokenizer = false;
    int rc = pg_source_parse(&s, text, &e);
    if (rc) tool_usage(&f->t, "%s", e.msg);
    fetch_connect(f);
    rc = pg_source_list(&f->hosts, &s, &l, &e);
    if (!rc && l.folder && !f->all) rc = pg_select_model(&l, s.text, &e);
    if (!rc && l.folder && !f->all) rc = pg_select_shards(&f->hosts, &l, s.text, &e);
    if (!rc && f->want.have && l.n != 1) rc = pg_error(&e, PG_EINVAL, "'%s' is not one file, so one checksum cannot be that of all", s.text);
    bool ok = !rc;
    if (rc) tool_error(&f->t, "%s", e.msg);
    else if (f->dry_run) dry_run(f, &l);
    else {
        ok = download(f, &l);
        char *base = l.by_name ? pg_format("gs://%s/", s.box) : NULL;
        if (base) add_named(f, &l, base, &more);
        free(base);
        if (more.n) ok = download(f, &more) && ok;
    }
    for (size_t i = 0; i < l.n; i++) {
        weights = weights || (!l.at[i].skip && pg_is_weights(l.at[i].name));
        tokenizer = tokenizer || pg_ends_with(l.at[i].name, "tokenizer.model");
    }
    if (ok && l.folder && weights && !tokenizer && !f->dry_run)
        tool_info(&f->t, "the tokenizer is not among them; it is at gs://big_vision/paligemma_tokenizer.model");
    ok = ok && !l.rejected;
    pg_items_free(&l);
    pg_items_free(&more);
    pg_source_free(&s);
    return ok;
}

static bool copy_local(fetch *f, const pg_item *i, const char *path, const char *to)
{
    pg_err e = {0};
    char *real = realpath(path, NULL);
    place where = look_at(f, i, to, real ? real : path);
    free(real);
    if (where == PLACE_TAKEN) say_taken(f, to, path);
    if (where != PLACE_FREE) return where == PLACE_THERE;
    if (!pg_local_fetch(path, to, &f->want, false, &e)) return true;
    tool_error(&f->t, "%s", e.msg);
    return false;
}

static bool one_local(fetch *f, const char *path)
{
    struct stat st;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) {
        tool_error(&f->t, "cannot copy '%s': %s", path,
                pg_is_dir(path) ? "a folder; without -o its pictures become a stream" : "no such file, or not a regular one");
        return false;
    }
    char *to = pg_path_join(f->out, name);
    if (!to) tool_no_memory(&f->t);
    const pg_item i = {.t = {.size = (uint64_t)st.st_size}};
    bool ok = f->dry_run || claim(f, to, path, path);
    if (f->dry_run) printf("%llu\t%s\n", (unsigned long long)st.st_size, name);
    else if (ok) ok = copy_local(f, &i, path, to);
    if (ok && !f->dry_run) print_path(f, to);
    free(to);
    return ok;
}

int fetch_download(fetch *f, char **sources, size_t n)
{
    bool ok = true;
    if (f->want.have && n > 1) tool_usage(&f->t, "one checksum cannot be that of %zu sources", n);
    for (size_t i = 0; i < n; i++) {
        bool done = pg_source_is_remote(sources[i]) ? one_remote(f, sources[i]) : one_local(f, sources[i]);
        ok = ok && done;
    }
    fetch_disconnect(f);
    int rc = tool_close_stdout(&f->t);
    return rc ? rc : ok ? EXIT_OK : EXIT_FAIL;
}
