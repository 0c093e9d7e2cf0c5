#include "net/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "net/creds.h"

enum { NOTE_MAX = 1 << 16, PART_DAYS = 7 };

struct pg_cache {
    char *dir;
    uint64_t limit, since; /* since: bytes fetched since the last look at the limit */
};

int pg_cache_open(pg_cache **out, uint64_t limit, pg_err *e)
{
    char *root = pg_env_dir("XDG_CACHE_HOME", ".cache");
    pg_cache *c = pg_calloc(1, sizeof *c);
    int rc = PG_OK;
    if (!root) rc = pg_error(e, PG_EINVAL, "neither XDG_CACHE_HOME nor HOME is set");
    else if (!c || !(c->dir = pg_format("%s/pg/fetch/", root))) rc = pg_error_nomem(e);
    else if (!(rc = pg_make_dirs(c->dir, e)) && access(c->dir, W_OK)) rc = pg_error_errno(e, "cannot write the cache '%s'", c->dir);
    free(root);
    if (rc) {
        if (c) free(c->dir);
        free(c);
        return rc;
    }
    c->limit = limit; /* cppcheck-suppress nullPointerRedundantCheck ; without c, rc is not PG_OK */
    *out = c;
    return PG_OK;
}

/* The note beside an entry: its etag and sha256. */
static json_t *read_note(const char *path)
{
    char *name = pg_format("%s.json", path);
    pg_buf b = {0};
    pg_err ignored;
    json_t *o = name && !pg_file_read(name, NOTE_MAX, &b, &ignored) ? pg_json_load((char *)b.data, b.len, 0, NULL) : NULL;
    pg_buf_free(&b);
    free(name);
    return o;
}

int pg_cache_direct(pg_cache *c, pg_transfer *t, bool anew, pg_err *e)
{
    pg_sums name = {0};
    char hex[72];
    const char *key = pg_transfer_key(t); /* hashed, so a signature in it stays secret */
    int rc = pg_hash_bytes(key, strlen(key), PG_SUM_SHA256, &name, e);
    if (rc) return rc;
    pg_sum_text(&name, PG_SUM_SHA256, hex);
    free(t->path);
    free(t->known_etag);
    t->known_etag = NULL;
    if (!(t->path = pg_format("%s%s", c->dir, hex))) return pg_error_nomem(e);
    t->also |= PG_SUM_SHA256;
    json_t *note = anew || !pg_is_file(t->path) ? NULL : read_note(t->path);
    const char *etag = json_string_value(json_object_get(note, "etag"));
    if (etag && !strpbrk(etag, "\"\r\n") && !(t->known_etag = pg_strdup(etag))) rc = pg_error_nomem(e);
    json_decref(note);
    return rc;
}

static int write_note(const pg_transfer *t, pg_err *e)
{
    char hex[72], *path = pg_format("%s.json", t->path), *text = NULL;
    pg_sum_text(&t->got, PG_SUM_SHA256, hex);
    json_t *o = json_pack("{s:s}", "sha256", hex);
    if (o) (void)json_object_set_new(o, "source", json_string(t->source)); /* for people; left out where it is not UTF-8 */
    if (o && t->etag) (void)json_object_set_new(o, "etag", json_string(t->etag));
    int rc = path && o && (text = pg_json_dumps(o, 0)) ? pg_file_save(path, text, strlen(text), e) : pg_error_nomem(e);
    free(text);
    free(path);
    json_decref(o);
    return rc;
}

int pg_cache_settle(pg_cache *c, const pg_transfer *t, pg_err *e)
{
    if (t->outcome == PG_FETCHED) {
        c->since += t->done;
        return write_note(t, e);
    }
    pg_sums want = {0}, got = {0};
    json_t *note = read_note(t->path);
    const char *hex = json_string_value(json_object_get(note, "sha256"));
    bool noted = hex && pg_sum_hex(&want, PG_SUM_SHA256, hex);
    json_decref(note);
    if (noted && !pg_hash_file(t->path, PG_SUM_SHA256, &got, e) && !pg_sums_differ(&want, &got)) {
        (void)utimensat(AT_FDCWD, t->path, NULL, 0); /* used now */
        return PG_OK;
    }
    return pg_error(e, PG_EFORMAT, "the cached copy of '%s' is damaged", t->source);
}

typedef struct entry {
    char *path;
    uint64_t size;
    struct timespec used;
} entry;

static int older_first(const void *a, const void *b)
{
    const struct timespec *x = &((const entry *)a)->used, *y = &((const entry *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* What an interrupted run left and no later one came back for. */
static void forget_old_part(const char *dir, const char *name)
{
    struct stat st;
    char *path = strstr(name, ".part") ? pg_path_join(dir, name) : NULL;
    if (path && !stat(path, &st) && st.st_mtime < time(NULL) - PART_DAYS * 24 * 3600) unlink(path);
    free(path);
}

/* What this or another process fetched ahead and has not read yet has no note; it goes only with `unread`. */
static void trim(pg_cache *c, bool unread)
{
    DIR *d = opendir(c->dir);
    entry *all = NULL;
    size_t n = 0, cap = 0;
    uint64_t total = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        struct stat st;
        forget_old_part(c->dir, x->d_name);
        char *path = strchr(x->d_name, '.') ? NULL : pg_path_join(c->dir, x->d_name); /* notes and parts go with their entry */
        if (!path) continue;
        if (n == cap) {
            entry *more = pg_realloc(all, cap ? cap * 2 : 256, sizeof *all);
            if (!more) {
                free(path);
                break;
            }
            all = more;
            cap = cap ? cap * 2 : 256;
        }
        if (stat(path, &st) || !S_ISREG(st.st_mode)) {
            free(path);
            continue;
        }
        all[n++] = (entry){path, (uint64_t)st.st_size, st.st_mtim};
        total += (uint64_t)st.st_size;
    }
    if (d) closedir(d);
    if (n) qsort(all, n, sizeof *all, older_first);
    for (size_t i = 0; i < n; i++) {
        char *note = total > c->limit ? pg_format("%s.json", all[i].path) : NULL;
        if (note && (unread || pg_is_file(note))) {
            unlink(all[i].path);
            unlink(note);
            total -= all[i].size;
        }
        free(note);
        free(all[i].path);
    }
    free(all);
    c->since = 0;
}

void pg_cache_ease(pg_cache *c)
{
    if (c->since > c->limit / 8) trim(c, false);
}

void pg_cache_close(pg_cache *c)
{
    if (!c) return;
    trim(c, true);
    free(c->dir);
    free(c);
}
