/* Images and folders. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "fetch.h"

enum { MAX_DEPTH = 64 };
static const size_t max_image = PG_RECORD_MAX - ((size_t)1 << 20);

static void must(fetch *f, int rc, const pg_err *e)
{
    if (rc) tool_die(&f->t, EXIT_FAIL, "%s", e->msg);
}

/* Names of files are any bytes; they must open the same file again, so nothing is replaced. */
static int set_name(fetch *f, const char *key, const char *s, pg_err *e)
{
    size_t n = strlen(s);
    return pg_utf8_valid(s, n) ? pg_rec_set_str(f->p.rec, key, s, n, e) : pg_rec_set_bin(f->p.rec, key, s, n, e);
}

void fetch_begin(fetch *f, const char *id, const char *source)
{
    pg_err e = {0};
    pg_rec_clear(f->p.rec);
    must(f, set_name(f, "id", id, &e), &e);
    must(f, set_name(f, "source", source, &e), &e);
}

bool fetch_bytes(fetch *f, const char *path, const char *where)
{
    pg_err e = {0};
    pg_buf b = {0};
    struct stat st;
    bool odd = !stat(path, &st) && !S_ISREG(st.st_mode); /* reading a pipe could wait for ever */
    int rc = odd ? pg_error(&e, PG_EINVAL, "'%s' is %s", path, S_ISDIR(st.st_mode) ? "a folder" : "not a regular file")
                 : pg_file_read(path, max_image, &b, &e);
    if (rc == PG_ENOMEM) must(f, rc, &e);
    if (rc) tool_record_error(&f->t, f->p.rec, "%s%s%s", where ? where : "", where ? ": " : "", e.msg);
    else must(f, pg_rec_set_bin(f->p.rec, "image", b.data, b.len, &e), &e);
    pg_buf_free(&b);
    return !rc;
}

static uint64_t hash(const char *s)
{
    uint64_t h = pg_mix(PG_MIX, s, strlen(s));
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    return h ? h : 1;
}

bool fetch_is_new(fetch *f, const char *text)
{
    if (2 * (f->n_seen + 1) > f->cap_seen) {
        size_t cap = f->cap_seen ? f->cap_seen * 2 : 1024;
        uint64_t *t = pg_calloc(cap, sizeof *t);
        if (!t) tool_die(&f->t, EXIT_FAIL, "out of memory");
        for (size_t i = 0; i < f->cap_seen; i++)
            if (f->seen[i]) {
                size_t at = f->seen[i] & (cap - 1);
                while (t[at]) at = (at + 1) & (cap - 1);
                t[at] = f->seen[i];
            }
        free(f->seen);
        f->seen = t;
        f->cap_seen = cap;
    }
    uint64_t h = hash(text);
    size_t at = h & (f->cap_seen - 1);
    for (; f->seen[at]; at = (at + 1) & (f->cap_seen - 1))
        if (f->seen[at] == h) return false;
    f->seen[at] = h;
    f->n_seen++;
    return true;
}

bool fetch_set_image(fetch *f, const pg_buf *b)
{
    pg_err e = {0};
    if (b->len > max_image) {
        tool_record_error(&f->t, f->p.rec, "larger than %zu bytes", max_image);
        return false;
    }
    must(f, pg_rec_set_bin(f->p.rec, "image", b->data, b->len, &e), &e);
    return true;
}

void fetch_put(fetch *f, const char *id)
{
    if (!fetch_is_new(f, id)) tool_record_error(&f->t, f->p.rec, "the id '%s' was there before", id);
    tool_put(&f->t, &f->p, f->p.rec);
    f->done++;
}

void fetch_free(fetch *f)
{
    free(f->seen);
    for (size_t i = 0; i < f->n_unknown; i++) free(f->unknown[i]);
}

char *fetch_sidecar(const char *path)
{
    const char *dot = strrchr(path, '.');
    return pg_format("%.*s.txt", (int)(dot - path), path);
}

void fetch_set_caption(fetch *f, const pg_buf *text, const char *name)
{
    pg_err e = {0};
    size_t n = text->len, skip = n >= 3 && !memcmp(text->data, "\xef\xbb\xbf", 3) ? 3 : 0; /* byte order mark */
    while (n > skip && strchr("\r\n", text->data[n - 1])) n--;
    const char *caption = text->data ? (char *)text->data + skip : "";
    if (!pg_utf8_valid(caption, n - skip)) tool_record_error(&f->t, f->p.rec, "'%s' is not UTF-8", name);
    else must(f, pg_rec_set_str(f->p.rec, "suffix", caption, n - skip, &e), &e);
}

void fetch_image(fetch *f, const char *path, const char *id)
{
    pg_err e = {0};
    pg_buf text = {0};
    char *side = fetch_sidecar(path);
    if (!side) tool_die(&f->t, EXIT_FAIL, "out of memory");
    fetch_begin(f, id, path);
    int there = fetch_bytes(f, path, NULL) ? pg_file_there(side, &e) : 0;
    if (there) {
        int rc = there < 0 ? there : pg_file_read(side, (size_t)1 << 20, &text, &e);
        if (rc) tool_record_error(&f->t, f->p.rec, "%s", e.msg);
        else {
            const char *caption;
            size_t n;
            fetch_set_caption(f, &text, side);
            if (pg_rec_str(f->p.rec, "suffix", &caption, &n, NULL) == 1) fetch_remember_caption(f, side, caption, n);
        }
    }
    fetch_put(f, id);
    pg_buf_free(&text);
    free(side);
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* What cannot be looked into gets a record that says so in the place of those that are missing. */
static void put_unreadable(fetch *f, const char *id, const char *path)
{
    int why = errno;
    fetch_begin(f, id, path);
    tool_record_error(&f->t, f->p.rec, "cannot read '%s': %s", path, strerror(why));
    fetch_put(f, id);
}

/* Names of a folder, sorted, hidden ones left out. */
static char **names_of(fetch *f, const char *id, const char *path, size_t *n)
{
    DIR *d = opendir(path);
    char **names = NULL;
    size_t cap = 0;
    *n = 0;
    if (!d) {
        put_unreadable(f, id, path);
        return NULL;
    }
    for (struct dirent *x; (errno = 0, x = readdir(d));) {
        if (x->d_name[0] == '.') continue;
        if (*n == cap) {
            cap = cap ? cap * 2 : 64;
            names = pg_realloc(names, cap, sizeof *names);
        }
        if (!names || !(names[(*n)++] = pg_strdup(x->d_name))) tool_die(&f->t, EXIT_FAIL, "out of memory");
    }
    if (errno) put_unreadable(f, id, path);
    closedir(d);
    if (*n) qsort(names, *n, sizeof *names, by_bytes);
    return names;
}

static void walk(fetch *f, const char *root, const char *below, int depth)
{
    size_t n;
    char *path = *below ? pg_path_join(root, below) : pg_strdup(root);
    if (!path) tool_die(&f->t, EXIT_FAIL, "out of memory");
    char **names = depth < MAX_DEPTH ? names_of(f, *below ? below : root, path, &n) : NULL;
    if (depth >= MAX_DEPTH) tool_warn(&f->t, "'%s' lies deeper than %d folders and is left out", path, MAX_DEPTH);
    for (size_t i = 0; names && i < n; i++) {
        char *id = *below ? pg_path_join(below, names[i]) : pg_strdup(names[i]), *full = id ? pg_path_join(root, id) : NULL;
        struct stat st;
        if (!full) tool_die(&f->t, EXIT_FAIL, "out of memory");
        if (f->done < f->limit) {
            /* A link to a folder is not followed: it could lead back up. */
            bool known = !lstat(full, &st);
            if (!known && errno != ENOENT) put_unreadable(f, id, full);
            else if (known && S_ISDIR(st.st_mode)) walk(f, root, id, depth + 1);
            else if (fetch_is_image(id)) fetch_image(f, full, id);
            else fetch_leave(f, id);
        }
        free(id);
        free(full);
    }
    pg_strs_free(names, names ? n : 0);
    free(path);
}

void fetch_folder(fetch *f, const char *path)
{
    size_t before = f->done;
    walk(f, path, "", 0);
    if (f->done == before && f->limit > f->done) tool_warn(&f->t, "no images (.png, .jpg, .jpeg) in '%s'", path);
}
