#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t pg_read_full(int fd, void *p, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, (char *)p + got, n - got);
        if (r == 0) break;
        if (r < 0) {
            if (errno == EINTR) continue;
            return -1;
        }
        got += (size_t)r;
    }
    return (ssize_t)got;
}

int pg_write_full(int fd, const void *p, size_t n)
{
    const char *s = p;
    while (n) {
        ssize_t r = write(fd, s, n);
        if (r < 0) {
            if (errno == EINTR) continue;
            return -1;
        }
        s += r;
        n -= (size_t)r;
    }
    return 0;
}

ssize_t pg_pread_full(int fd, void *p, size_t n, off_t at)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(fd, (char *)p + got, n - got, at + (off_t)got);
        if (r == 0) break;
        if (r < 0 && errno != EINTR) return -1;
        if (r > 0) got += (size_t)r;
    }
    return (ssize_t)got;
}

int pg_pwrite_full(int fd, const void *p, size_t n, off_t at)
{
    for (size_t put = 0; put < n;) {
        ssize_t r = pwrite(fd, (const char *)p + put, n - put, at + (off_t)put);
        if (r < 0 && errno != EINTR) return -1;
        if (r > 0) put += (size_t)r;
    }
    return 0;
}

int pg_file_read(const char *path, size_t max, pg_buf *b, pg_err *e)
{
    int rc = PG_OK, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return pg_error_errno(e, "cannot open '%s'", path);
    size_t start = b->len;
    for (;;) {
        if ((rc = pg_buf_reserve(b, 65536, e))) break;
        ssize_t r = pg_read_full(fd, b->data + b->len, b->cap - b->len);
        if (r < 0) {
            rc = pg_error_errno(e, "cannot read '%s'", path);
            break;
        }
        if (r == 0) break;
        b->len += (size_t)r;
        if (b->len - start > max) {
            rc = pg_error(e, PG_ELIMIT, "'%s' is larger than %zu bytes", path, max);
            break;
        }
    }
    close(fd);
    return rc;
}

int pg_file_is(const char *path, const void *p, size_t n, pg_err *e)
{
    pg_buf b = {0};
    int rc = pg_file_read(path, n, &b, e);
    bool same = !rc && b.len == n && (!n || !memcmp(b.data, p, n));
    pg_buf_free(&b);
    return rc && rc != PG_ELIMIT ? rc : same;
}

int pg_map_open(pg_map *m, const char *path, pg_err *e)
{
    struct stat st;
    int rc = PG_OK, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe that nobody writes to is refused, not waited for */
    *m = (pg_map){0};
    if (fd < 0) return pg_error_errno(e, "cannot open '%s'", path);
    if (fstat(fd, &st)) rc = pg_error_errno(e, "cannot stat '%s'", path);
    else if (!S_ISREG(st.st_mode)) rc = pg_error(e, PG_EINVAL, "'%s' is not a regular file", path);
    else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) rc = pg_error_errno(e, "cannot map '%s'", path);
        else *m = (pg_map){p, (size_t)st.st_size};
#ifdef MADV_HUGEPAGE
        /* A file that is not in memory yet is then read and mapped in pieces of 2 MiB: a fifth faster to go through ever after. */
        if (m->data && m->len >= (size_t)4 << 20) (void)madvise(p, m->len, MADV_HUGEPAGE);
#endif
    }
    close(fd);
    return rc;
}

void pg_map_close(pg_map *m)
{
    if (m && m->data) munmap((void *)(uintptr_t)m->data, m->len);
    if (m) *m = (pg_map){0};
}

void pg_map_forget(const pg_map *m, const void *p, size_t n)
{
    uintptr_t at = (uintptr_t)p, start = (uintptr_t)m->data, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (!m->data || at < start || at - start >= m->len) return;
    if (n > m->len - (at - start)) n = m->len - (at - start);
    uintptr_t from = at / page * page;
#ifdef MADV_COLD
    /* Where memory is short the system drops these first, not pages that are still to be used. */
    (void)madvise((void *)from, at - from + n, MADV_COLD);
#endif
    (void)madvise((void *)from, at - from + n, MADV_DONTNEED); /* read-only and shared: nothing can be lost */
}

/* Nothing was made that would have to be removed. */
static int forget(pg_outfile *f, int rc)
{
    free(f->temp);
    f->temp = NULL;
    pg_outfile_abort(f);
    return rc;
}

int pg_outfile_open(pg_outfile *f, const char *path, pg_err *e)
{
    return pg_outfile_open_for(f, path, NULL, e);
}

static char *temp_name(const char *path, const char *set)
{
    const char *slash = set ? strrchr(set, '/') : NULL;
    char *dir = set ? pg_path_dir(path) : NULL, *named = dir ? pg_path_join(dir, slash ? slash + 1 : set) : NULL;
    char *temp = named || !set ? pg_format("%s.tmp.XXXXXX", set ? named : path) : NULL;
    free(named);
    free(dir);
    return temp;
}

int pg_outfile_open_for(pg_outfile *f, const char *path, const char *set, pg_err *e)
{
    struct stat st;
    *f = (pg_outfile){.fd = -1, .path = pg_path_behind_links(path)};
    f->temp = f->path ? temp_name(f->path, set) : NULL;
    if (!f->path || !f->temp) {
        pg_outfile_abort(f);
        return pg_error_nomem(e);
    }
    bool there = !stat(f->path, &st);
    if (!there && errno != ENOENT) return forget(f, pg_error_errno(e, "cannot write '%s'", path));
    if (there && !S_ISREG(st.st_mode)) /* a device, a pipe or a folder is not replaced by a file */
        return forget(f, pg_error(e, PG_EIO, "cannot write '%s': it is not a regular file, and only such a one can appear whole; use standard output", path));
    size_t random = strlen(f->temp) - 6;
    while ((f->fd = mkstemp(f->temp)) >= 0 && pg_temp_lock(f->fd)) {
        close(f->fd);
        memset(f->temp + random, 'X', 6);
    }
    if (f->fd < 0) return forget(f, pg_error_errno(e, "cannot write '%s'", path));
    mode_t mask = umask(0);
    umask(mask);
    (void)fchmod(f->fd, 0666 & ~mask);
    return PG_OK;
}

int pg_outfile_commit(pg_outfile *f, pg_err *e)
{
    int rc = PG_OK, fd = f->fd, lock = dup(fd); /* shares fd's lock: until it is renamed a sweep would take it for a dead process's */
    if (fsync(fd) && errno != EINVAL && errno != EROFS) rc = pg_error_errno(e, "cannot write '%s'", f->path);
    f->fd = -1;
    if (close(fd) && !rc) rc = pg_error_errno(e, "cannot write '%s'", f->path);
    if (!rc && rename(f->temp, f->path)) rc = pg_error_errno(e, "cannot rename '%s' to '%s'", f->temp, f->path);
    if (lock >= 0) close(lock);
    if (rc) {
        pg_outfile_abort(f);
        return rc;
    }
    free(f->temp);
    f->temp = NULL;
    char *dir = pg_path_dir(f->path);
    int d = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (d >= 0) {
        (void)fsync(d); /* the rename stands either way; some file systems cannot sync a folder */
        close(d);
    }
    free(dir);
    pg_outfile_abort(f);
    return PG_OK;
}

void pg_outfile_abort(pg_outfile *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    if (f->temp) unlink(f->temp);
    free(f->temp);
    free(f->path);
    *f = (pg_outfile){.fd = -1};
}

int pg_file_save(const char *path, const void *p, size_t n, pg_err *e)
{
    pg_outfile f;
    int rc = pg_outfile_open(&f, path, e);
    if (rc) return rc;
    rc = pg_write_full(f.fd, p, n) ? pg_error_errno(e, "cannot write '%s'", path) : pg_outfile_commit(&f, e);
    pg_outfile_abort(&f);
    return rc;
}

int pg_temp_file(int *fd, pg_err *e)
{
    const char *dir = getenv("TMPDIR");
    char *path = pg_format("%s/pg.XXXXXX", dir && *dir ? dir : "/tmp");
    if (!path) return pg_error_nomem(e);
    *fd = mkstemp(path);
    int rc = *fd < 0 ? pg_error_errno(e, "cannot make a temporary file '%s'", path) : PG_OK;
    if (!rc) unlink(path);
    if (!rc) (void)fcntl(*fd, F_SETFD, FD_CLOEXEC);
    free(path);
    return rc;
}

bool pg_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool pg_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool pg_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int pg_file_there(const char *path, pg_err *e)
{
    struct stat st;
    if (!stat(path, &st)) return S_ISREG(st.st_mode);
    return errno == ENOENT || errno == ENOTDIR ? 0 : pg_error_errno(e, "cannot look for '%s'", path);
}

bool pg_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !memcmp(s + n - m, end, m);
}

char *pg_path_join(const char *dir, const char *name)
{
    if (name[0] == '/' || !dir[0]) return pg_strdup(name);
    return pg_format("%s%s%s", dir, pg_ends_with(dir, "/") ? "" : "/", name);
}

char *pg_path_dir(const char *path)
{
    const char *s = strrchr(path, '/');
    if (!s) return pg_strdup(".");
    return pg_strndup(path, s == path ? 1 : (size_t)(s - path));
}

char *pg_path_behind_links(const char *path)
{
    char target[4096], *at = pg_strdup(path);
    for (int links = 0; at && links < 40; links++) { /* as many as Linux follows */
        ssize_t n = readlink(at, target, sizeof target - 1);
        if (n < 0) break;
        target[n] = 0;
        char *dir = pg_path_dir(at);
        free(at);
        at = dir ? pg_path_join(dir, target) : NULL;
        free(dir);
    }
    return at;
}
