#include "net/part.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "base/num.h"
#include "net/url.h"

enum { SIDECAR_MAX = 1 << 16 };

void pg_origin_free(pg_origin *o)
{
    free(o->source);
    free(o->etag);
    free(o->generation);
    *o = (pg_origin){.size = PG_SIZE_UNKNOWN};
}

bool pg_origin_same(const pg_origin *a, const pg_origin *b)
{
    bool common = (a->sums.have & b->sums.have) != 0;
    if (pg_sums_differ(&a->sums, &b->sums)) return false;
    if (a->size != PG_SIZE_UNKNOWN && b->size != PG_SIZE_UNKNOWN && a->size != b->size) return false;
    if (a->generation && b->generation) {
        if (strcmp(a->generation, b->generation)) return false;
        common = true;
    }
    if (a->etag && b->etag) {
        if (strcmp(a->etag, b->etag)) return false;
        common = true;
    }
    return common;
}

int pg_make_dirs(const char *path, pg_err *e)
{
    char *s = pg_strdup(path);
    if (!s) return pg_error_nomem(e);
    int rc = PG_OK;
    for (char *c = s + 1; *s && !rc && (c = strchr(c, '/')); c++) {
        *c = 0;
        if (mkdir(s, 0777) && errno != EEXIST) rc = pg_error_errno(e, "cannot make the folder '%s'", s);
        *c = '/';
    }
    free(s);
    return rc;
}

/* The sidecar of an earlier try; one that does not parse is as good as none. */
static int read_sidecar(pg_part *p, pg_err *e)
{
    pg_buf b = {0};
    pg_err ignored;
    const char *s;
    pg_origin_free(&p->from);
    if (!pg_is_file(p->sidecar) || pg_file_read(p->sidecar, SIDECAR_MAX, &b, &ignored)) {
        pg_buf_free(&b);
        return PG_OK;
    }
    json_t *o = pg_json_load((char *)b.data, b.len, 0, NULL);
    pg_buf_free(&b);
    char **texts[] = {&p->from.source, &p->from.etag, &p->from.generation};
    const char *const names[] = {"source", "etag", "generation"};
    int rc = PG_OK;
    for (size_t i = 0; i < 3; i++)
        if ((s = json_string_value(json_object_get(o, names[i]))) && !(*texts[i] = pg_strdup(s))) rc = pg_error_nomem(e);
    json_int_t size = json_integer_value(json_object_get(o, "size"));
    if (json_is_integer(json_object_get(o, "size")) && size >= 0) p->from.size = (uint64_t)size;
    for (size_t i = 0; i < PG_SUM_KINDS; i++) {
        pg_sum_view v = pg_sum_at(&p->from.sums, i);
        if ((s = json_string_value(json_object_get(o, v.name)))) (void)pg_sum_hex(&p->from.sums, v.bit, s);
    }
    json_decref(o);
    return rc;
}

/* A file's name may be any bytes and JSON may not: such a source is kept encoded, which is no source's own text. */
static json_t *source_text(const char *s)
{
    json_t *v = json_string(s);
    char *encoded = v ? NULL : pg_url_encode(s, true);
    if (encoded) v = json_string(encoded);
    free(encoded);
    return v;
}

/* Written whole before the first byte of the part, so a part never stands beside another file's sidecar. */
static int write_sidecar(pg_part *p, pg_err *e)
{
    json_t *o = json_object();
    int bad = !o || json_object_set_new(o, "source", source_text(p->from.source));
    /* A validator that is not UTF-8 is left out: the part is then not continued. */
    if (!bad && p->from.etag) (void)json_object_set_new(o, "etag", json_string(p->from.etag));
    if (!bad && p->from.generation) (void)json_object_set_new(o, "generation", json_string(p->from.generation));
    if (!bad && p->from.size <= INT64_MAX) bad = json_object_set_new(o, "size", json_integer((json_int_t)p->from.size));
    for (size_t i = 0; i < PG_SUM_KINDS && !bad; i++) {
        pg_sum_view v = pg_sum_at(&p->from.sums, i);
        char hex[72];
        if (!(p->from.sums.have & v.bit)) continue;
        pg_sum_text(&p->from.sums, v.bit, hex);
        bad = json_object_set_new(o, v.name, json_string(hex));
    }
    char *text = bad ? NULL : pg_json_dumps(o, JSON_INDENT(1)), *temp = pg_format("%s.new", p->sidecar);
    int rc = PG_OK, fd = -1;
    json_decref(o);
    if (!text || !temp) rc = pg_error_nomem(e);
    else if ((fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0 || pg_write_full(fd, text, strlen(text)))
        rc = pg_error_errno(e, "cannot write '%s'", temp);
    if (fd >= 0 && close(fd) && !rc) rc = pg_error_errno(e, "cannot write '%s'", temp);
    if (!rc && rename(temp, p->sidecar)) rc = pg_error_errno(e, "cannot write '%s'", p->sidecar);
    free(text);
    free(temp);
    return rc;
}

/* A lock on a name that was unlinked meanwhile would keep nobody out. */
static bool still_there(int fd, const char *path)
{
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int take_lock(pg_part *p, pg_err *e)
{
    for (int i = 0; i < 100; i++) {
        p->lock_fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (p->lock_fd < 0) return pg_error_errno(e, "cannot write '%s'", p->lock);
        if (flock(p->lock_fd, LOCK_EX | LOCK_NB)) {
            int rc = errno == EWOULDBLOCK || errno == EINTR ? 0 : pg_error_errno(e, "cannot lock '%s'", p->lock);
            close(p->lock_fd);
            p->lock_fd = -1;
            return rc;
        }
        if (still_there(p->lock_fd, p->lock)) return 1;
        close(p->lock_fd);
        p->lock_fd = -1;
    }
    return 0;
}

int pg_part_open(pg_part *p, const char *path, pg_err *e)
{
    struct stat st;
    *p = (pg_part){.fd = -1, .lock_fd = -1, .from = {.size = PG_SIZE_UNKNOWN}};
    p->path = pg_strdup(path);
    p->part = pg_format("%s.part", path);
    p->sidecar = pg_format("%s.part.json", path);
    p->lock = pg_format("%s.part.lock", path);
    int rc = p->path && p->part && p->sidecar && p->lock ? pg_make_dirs(path, e) : pg_error_nomem(e);
    if (!rc) rc = take_lock(p, e);
    if (rc == 1) {
        p->fd = open(p->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (p->fd < 0 || fstat(p->fd, &st)) rc = pg_error_errno(e, "cannot write '%s'", p->part);
        else if (read_sidecar(p, e)) rc = PG_ENOMEM;
        else p->have = (uint64_t)st.st_size;
    }
    if (rc == 1 && p->have && !p->from.source) {
        p->have = 0; /* nobody knows what these bytes are */
        if (ftruncate(p->fd, 0)) rc = pg_error_errno(e, "cannot write '%s'", p->part);
    }
    if (rc != 1) pg_part_close(p, false);
    return rc;
}

int pg_part_begin(pg_part *p, const pg_origin *from, pg_err *e)
{
    pg_follow_free(p->hash);
    p->hash = NULL;
    if (ftruncate(p->fd, 0)) return pg_error_errno(e, "cannot write '%s'", p->part);
    p->have = 0;
    pg_origin_free(&p->from);
    p->from.source = pg_strdup(from->source);
    p->from.etag = from->etag ? pg_strdup(from->etag) : NULL;
    p->from.generation = from->generation ? pg_strdup(from->generation) : NULL;
    p->from.size = from->size;
    p->from.sums = from->sums;
    if (!p->from.source || (from->etag && !p->from.etag) || (from->generation && !p->from.generation)) return pg_error_nomem(e);
    return write_sidecar(p, e);
}

int pg_part_write(pg_part *p, const void *data, size_t n, pg_err *e)
{
    const char *s = data;
    while (n) {
        ssize_t got = pwrite(p->fd, s, n, (off_t)p->have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return pg_error_errno(e, "cannot write '%s'", p->part);
        s += got;
        n -= (size_t)got;
        p->have += (uint64_t)got;
    }
    return p->hash ? pg_follow_more(p->hash, p->have, e) : PG_OK;
}

int pg_part_hash(pg_part *p, unsigned which, pg_err *e)
{
    /* git's sha1 begins with the size. */
    if (p->from.size == PG_SIZE_UNKNOWN) which &= ~(unsigned)PG_SUM_GIT;
    if (p->hash && pg_follow_which(p->hash) == which) return PG_OK;
    pg_follow_free(p->hash);
    p->hash = NULL;
    int rc = which ? pg_follow_new(&p->hash, p->fd, which, p->from.size, e) : PG_OK;
    return rc || !p->hash ? rc : pg_follow_more(p->hash, p->have, e);
}

int pg_part_sums(pg_part *p, pg_sums *out, pg_err *e)
{
    *out = (pg_sums){0};
    return p->hash ? pg_follow_end(p->hash, p->have, out, e) : 1;
}

int pg_part_commit(pg_part *p, pg_err *e)
{
    pg_mark_set(p->fd, p->from.source);
    if (fsync(p->fd) && errno != EINVAL && errno != EROFS) return pg_error_errno(e, "cannot write '%s'", p->part);
    if (rename(p->part, p->path)) return pg_error_errno(e, "cannot rename '%s' to '%s'", p->part, p->path);
    char *dir = pg_path_dir(p->path);
    int d = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (d >= 0) {
        (void)fsync(d); /* the rename stands either way; some file systems cannot sync a folder */
        close(d);
    }
    free(dir);
    pg_part_close(p, true);
    return PG_OK;
}

void pg_part_close(pg_part *p, bool drop)
{
    pg_follow_free(p->hash);
    if (p->lock_fd >= 0) { /* without the lock these files are another's */
        PG_KNOWN(p->part && p->sidecar && p->lock); /* pg_part_open locks when it has the names */
        char *temp = pg_format("%s.new", p->sidecar);
        if (temp) unlink(temp);
        free(temp);
        if (drop || !p->have) {
            unlink(p->part);
            unlink(p->sidecar);
        }
        unlink(p->lock);
    }
    if (p->fd >= 0) close(p->fd);
    if (p->lock_fd >= 0) close(p->lock_fd);
    pg_origin_free(&p->from);
    free(p->path);
    free(p->part);
    free(p->sidecar);
    free(p->lock);
    *p = (pg_part){.fd = -1, .lock_fd = -1, .from = {.size = PG_SIZE_UNKNOWN}};
}
