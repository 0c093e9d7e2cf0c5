#include "text/written.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

enum { LINE = 17, NOTES_MAX = 1 << 30 }; /* 16 digits and the end of the line */

static uint64_t hash_of(const char *path, const char *caption, size_t n)
{
    while (n && (caption[n - 1] == '\n' || caption[n - 1] == '\r')) /* as a reader does */
        n--;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return pg_mix(pg_mix(PG_MIX, name, strlen(name) + 1), caption, n);
}

static int notes_of(const char *path, char **dir, char **notes, pg_err *e)
{
    *dir = pg_path_dir(path);
    *notes = *dir ? pg_path_join(*dir, PG_WRITTEN_NAME) : NULL;
    return *notes ? PG_OK : pg_error_nomem(e);
}

int pg_written_note(const char *path, const char *caption, size_t n, pg_err *e)
{
    char *dir, *notes, line[LINE + 1];
    int rc = notes_of(path, &dir, &notes, e), fd = -1;
    snprintf(line, sizeof line, "%016" PRIx64 "\n", hash_of(path, caption, n));
    /* Appended in one write, so that two programs do not spoil each other's lines. */
    if (!rc && ((fd = open(notes, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0 || pg_write_full(fd, line, LINE)))
        rc = pg_error_errno(e, "cannot write '%s'", notes);
    if (fd >= 0 && close(fd) && !rc)
        rc = pg_error_errno(e, "cannot write '%s'", notes);
    free(dir);
    free(notes);
    return rc;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A line that is no hash, such as a cut one, is nobody's. */
static int load(pg_written *w, const char *notes, pg_err *e)
{
    pg_buf b = {0};
    size_t n = 0;
    int rc = pg_is_file(notes) ? pg_file_read(notes, NOTES_MAX, &b, e) : PG_OK;
    if (!rc && b.len && !(w->hashes = pg_alloc(b.len / LINE + 1, sizeof *w->hashes)))
        rc = pg_error_nomem(e);
    for (size_t at = 0; !rc && at + LINE <= b.len;) {
        const char *line = (const char *)b.data + at;
        const char *end = memchr(line, '\n', b.len - at);
        if (end == line + LINE - 1)
            w->hashes[n++] = strtoull(line, NULL, 16);
        at += end ? (size_t)(end - line) + 1 : b.len;
    }
    if (n)
        qsort(w->hashes, n, sizeof *w->hashes, by_value);
    w->n = n;
    pg_buf_free(&b);
    return rc;
}

int pg_written_has(pg_written *w, const char *path, const char *caption, size_t n, pg_err *e)
{
    char *dir, *notes;
    uint64_t h = hash_of(path, caption, n);
    int rc = notes_of(path, &dir, &notes, e);
    if (!rc && (!w->dir || strcmp(w->dir, dir))) {
        pg_written_free(w);
        rc = load(w, notes, e);
        w->dir = dir;
        dir = NULL;
    }
    free(dir);
    free(notes);
    return rc ? rc : w->n && bsearch(&h, w->hashes, w->n, sizeof h, by_value);
}

void pg_written_free(pg_written *w)
{
    free(w->dir);
    free(w->hashes);
    *w = (pg_written){0};
}
