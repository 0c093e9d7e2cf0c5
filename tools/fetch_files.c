/* Images and folders. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "fetch.h"
#include "stream/name.h"

enum { MAX_DEPTH = 64 };

/* Captions are at most as long as a JSON line, and a record that they fill is refused by the next program. */
size_t fetch_max_image(const fetch *f)
{
    size_t most = tool_max_record(&f->t), rest = most / 16 < 1 << 20 ? most / 16 : 1 << 20;
    return most - rest;
}

char *fetch_id(fetch *f, const char *name)
{
    pg_err e = {0};
    pg_buf b = {0};
    tool_must(&f->t, pg_utf8_name(&b, name, strlen(name) + 1, &e), &e); /* with the 0 */
    return (char *)b.data;
}

/* Names of files are any bytes. As the source they must open the same file again, so nothing is replaced; as the id they are text. */
static void set_names(fetch *f, const char *id, const char *source)
{
    pg_err e = {0};
    char *text = fetch_id(f, id);
    if (strcmp(text, id) && !f->renamed++) snprintf(f->first_renamed, sizeof f->first_renamed, "%s", text);
    tool_must(&f->t, pg_rec_set_str(f->p.rec, "id", text, strlen(text), &e), &e);
    free(text);
    size_t n = strlen(source);
    tool_must(&f->t, pg_utf8_valid(source, n) ? pg_rec_set_str(f->p.rec, "source", source, n, &e) : pg_rec_set_bin(f->p.rec, "source", source, n, &e), &e);
}

void fetch_begin(fetch *f, const char *id, const char *source)
{
    pg_rec_clear(f->p.rec);
    set_names(f, id, source);
}

/* The image key; false: the record carries an error now. */
static bool set_file(fetch *f, const char *path, const char *where)
{
    pg_err e = {0};
    pg_buf b = {0};
    struct stat st;
    bool known = !stat(path, &st), missing = !known && errno == ENOENT;
    bool odd = known && !S_ISREG(st.st_mode); /* reading a pipe could wait for ever */
    int rc = odd ? pg_error(&e, PG_EINVAL, "'%s' is %s", path, S_ISDIR(st.st_mode) ? "a folder" : "not a regular file")
                 : pg_file_read(path, fetch_max_image(f), &b, &e);
    if (rc == PG_ENOMEM) tool_must(&f->t, rc, &e);
    if (rc) tool_record_alike(&f->t, f->p.rec, missing ? "the picture does not exist" : e.msg, "%s%s%s", where ? where : "", where ? ": " : "", e.msg);
    else tool_must(&f->t, pg_rec_set_bin(f->p.rec, "image", b.data, b.len, &e), &e);
    pg_buf_free(&b);
    return !rc;
}

bool fetch_set_image(fetch *f, const pg_buf *b)
{
    pg_err e = {0};
    if (b->len > fetch_max_image(f)) {
        tool_record_error(&f->t, f->p.rec, "larger than %zu bytes", fetch_max_image(f));
        return false;
    }
    tool_must(&f->t, pg_rec_set_bin(f->p.rec, "image", b->data, b->len, &e), &e);
    return true;
}

void fetch_free(fetch *f)
{
    order_free(f);
    fetch_forget_seen(f);
    for (size_t i = 0; i < f->n_unknown; i++) free(f->unknown[i]);
}

char *fetch_sidecar(const char *path)
{
    const char *dot = strrchr(path, '.');
    return pg_format("%.*s.txt", (int)(dot - path), path);
}

/* Without what editors put there and nobody means: a byte order mark, new lines at the end, returns before new lines, and blanks where
 * there is nothing else. Returns what is left of n bytes. */
static size_t tidy(char *s, size_t n)
{
    size_t from = n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3) ? 3 : 0, to = 0;
    bool blank = true;
    while (n > from && (s[n - 1] == '\r' || s[n - 1] == '\n')) n--;
    for (size_t i = from; i < n; i++) {
        blank = blank && fetch_blank(s[i]);
        if (s[i] != '\r' || i + 1 == n || s[i + 1] != '\n') s[to++] = s[i];
    }
    return blank ? 0 : to;
}

void fetch_set_caption(fetch *f, pg_buf *text, const char *name)
{
    pg_err e = {0};
    char *s = (char *)text->data;
    size_t n = text->len ? tidy(s, text->len) : 0;
    if (n && !pg_utf8_valid(s, n)) {
        tool_record_error(&f->t, f->p.rec, "'%s' is not UTF-8", name);
        return;
    }
    if (n && memchr(s, '\n', n) && !f->several_lines++) snprintf(f->first_several, sizeof f->first_several, "%s", name);
    tool_must(&f->t, pg_rec_set_str(f->p.rec, "suffix", n ? s : "", n, &e), &e);
}

static void load_remote(fetch *f, item *i)
{
    pg_err e = {0};
    pg_buf b = {0}, text = {0};
    if (ahead_wait(f, i->picture, &b, &e)) tool_record_error(&f->t, f->p.rec, "%s%s%s", i->where ? i->where : "", i->where ? ": " : "", e.msg);
    else fetch_set_image(f, &b);
    if (i->caption && ahead_wait(f, i->caption, &text, &e)) tool_record_error(&f->t, f->p.rec, "%s", e.msg);
    else if (i->caption) fetch_set_caption(f, &text, i->side);
    pg_buf_free(&b);
    pg_buf_free(&text);
}

/* Beside IMG.JPG lies IMG.TXT, where a system that does not tell them apart has written them. */
static void find_upper(item *i)
{
    char *end = i->side + strlen(i->side) - 3;
    pg_err e;
    if (!isupper((unsigned char)strrchr(i->path, '.')[1]) || pg_file_there(i->side, &e)) return;
    memcpy(end, "TXT", 4);
    if (!pg_file_there(i->side, &e)) memcpy(end, "txt", 4);
}

void fetch_load(fetch *f, item *i)
{
    pg_err e = {0};
    pg_buf text = {0};
    int there = 0;
    if (i->picture) load_remote(f, i);
    else if (set_file(f, i->path, i->where) && i->side) {
        find_upper(i);
        there = pg_file_there(i->side, &e);
    }
    if (there) {
        int rc = there < 0 ? there : pg_file_read(i->side, (size_t)1 << 20, &text, &e);
        if (rc) tool_record_error(&f->t, f->p.rec, "%s", e.msg);
        else {
            const char *caption;
            size_t n;
            fetch_set_caption(f, &text, i->side);
            if (pg_rec_str(f->p.rec, "suffix", &caption, &n, NULL) == 1) fetch_remember_caption(f, i->side, caption, n);
        }
    }
    pg_buf_free(&text);
}

void fetch_image(fetch *f, const char *path, const char *id)
{
    if (!fetch_wanted(f)) return;
    item i = {.path = pg_strdup(path), .side = fetch_sidecar(path)};
    if (!i.path || !i.side) tool_no_memory(&f->t);
    fetch_begin(f, id, path);
    fetch_put_later(f, id, &i);
}

/* What cannot be looked into gets a record that says so in the place of those that are missing. */
static void put_unreadable(fetch *f, const char *id, const char *path)
{
    int why = errno;
    if (!fetch_wanted(f)) return;
    fetch_begin(f, id, path);
    tool_record_error(&f->t, f->p.rec, "cannot read '%s': %s", path, strerror(why));
    fetch_put(f, id);
}

/* The names of a folder: what is neither picture nor folder is not kept, so a name costs its length and some 20 bytes while the
 * folder is read. Before each name lies a byte that tells a folder. */
typedef struct names {
    pg_buf text;
    char **at;
    size_t n;
} names;

static void free_names(names *l)
{
    pg_buf_free(&l->text);
    free(l->at);
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a + 1, *(char *const *)b + 1); }

static bool is_folder(fetch *f, const char *path, const char *name, unsigned char type)
{
    struct stat st;
    if (type != DT_UNKNOWN) return type == DT_DIR; /* a link to a folder is not followed: it could lead back up */
    char *full = pg_path_join(path, name);
    if (!full) tool_no_memory(&f->t);
    bool known = !lstat(full, &st);
    if (!known && errno != ENOENT) put_unreadable(f, full, full);
    free(full);
    return known && S_ISDIR(st.st_mode);
}

static void leave(fetch *f, const char *below, const char *name)
{
    char *id = *below ? pg_path_join(below, name) : pg_strdup(name);
    if (!id) tool_no_memory(&f->t);
    fetch_leave(f, id);
    free(id);
}

/* Sorted, hidden ones left out. id: of the record where the folder cannot be read. */
static bool read_names(fetch *f, const char *id, const char *below, const char *path, names *l)
{
    DIR *d = opendir(path);
    pg_err e = {0};
    if (!d) {
        put_unreadable(f, id, path);
        return false;
    }
    for (struct dirent *x; (errno = 0, x = readdir(d));) {
        const char *name = x->d_name;
        bool folder = *name != '.' && is_folder(f, path, name, x->d_type);
        if (*name == '.') continue;
        if (!folder && !fetch_is_image(name)) {
            leave(f, below, name);
            continue;
        }
        tool_must(&f->t, pg_buf_add(&l->text, folder ? "/" : " ", 1, &e) || pg_buf_add(&l->text, name, strlen(name) + 1, &e), &e);
        l->n++;
    }
    if (errno) put_unreadable(f, id, path);
    closedir(d);
    if (!(l->at = pg_alloc(l->n, sizeof *l->at))) tool_no_memory(&f->t);
    char *next = (char *)l->text.data;
    for (size_t i = 0; i < l->n; i++, next += strlen(next) + 1) l->at[i] = next;
    if (l->n) qsort(l->at, l->n, sizeof *l->at, by_bytes);
    return true;
}

static void walk(fetch *f, const char *root, const char *below, int depth)
{
    names l = {0};
    char *path = *below ? pg_path_join(root, below) : pg_strdup(root);
    if (!path) tool_no_memory(&f->t);
    if (depth >= MAX_DEPTH) tool_warn(&f->t, "'%s' lies deeper than %d folders and is left out", path, MAX_DEPTH);
    else if (!read_names(f, *below ? below : root, below, path, &l)) l.n = 0;
    for (size_t i = 0; i < l.n && fetch_more(f); i++) {
        const char *name = l.at[i] + 1;
        char *id = *below ? pg_path_join(below, name) : pg_strdup(name), *full = id ? pg_path_join(root, id) : NULL;
        if (!full) tool_no_memory(&f->t);
        if (*l.at[i] == '/') walk(f, root, id, depth + 1);
        else fetch_image(f, full, id);
        free(id);
        free(full);
    }
    free_names(&l);
    free(path);
}

void fetch_folder(fetch *f, const char *path)
{
    walk(f, path, "", 0);
    if (!f->order.number && fetch_more(f)) tool_warn(&f->t, "no images (.png, .jpg, .jpeg, .jpe, .jfif) in '%s'", path);
}
