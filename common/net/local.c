/* Local files put in place as downloads are. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "net/source.h"

enum { CHUNK = 1 << 20, LOCK_TRIES = 600, LOCK_PAUSE_MS = 100 };

/* Another client's cache is not written to again: a second name for its file is as good as a copy. */
static bool linked(const char *from, const char *path, const pg_sums *want, pg_err *e)
{
    char *real = realpath(from, NULL);
    pg_sums got = {0};
    bool ok = real && (!want->have || (!pg_hash_file(real, want->have, &got, e) && !pg_sums_differ(want, &got)));
    ok = ok && !pg_make_dirs(path, e) && !link(real, path);
    free(real);
    return ok;
}

static int copy(int in, const char *from, pg_part *p, const pg_sums *want, pg_err *e)
{
    char *buf = pg_alloc(CHUNK, 1);
    char *real = realpath(from, NULL);
    const pg_origin origin = {.source = real ? real : p->path, .size = PG_SIZE_UNKNOWN};
    pg_sums got = {0};
    off_t size = lseek(in, 0, SEEK_END);
    int rc = !buf ? pg_error_nomem(e) : size < 0 || lseek(in, 0, SEEK_SET) < 0 ? pg_error_errno(e, "cannot read '%s'", from) : pg_part_begin(p, &origin, e);
    p->from.size = (uint64_t)size;
    if (!rc) rc = pg_part_hash(p, want->have, e);
    while (!rc) {
        ssize_t n = pg_read_full(in, buf, CHUNK);
        if (n < 0) rc = pg_error_errno(e, "cannot read '%s'", from);
        else if (n == 0) break;
        else rc = pg_part_write(p, buf, (size_t)n, e);
    }
    while (!rc && (rc = pg_part_sums(p, &got, e)) == 0) usleep(1000);
    if (rc == 1) rc = pg_sums_differ(want, &got) ? pg_error(e, PG_EFORMAT, "the checksum of '%s' is wrong", from) : PG_OK;
    free(buf);
    free(real);
    return rc ? rc : pg_part_commit(p, e);
}

int pg_local_fetch(const char *from, const char *path, const pg_sums *want, bool may_link, pg_err *e)
{
    pg_part p;
    int rc = 0, in;
    if (may_link && linked(from, path, want, e)) return PG_OK;
    if ((in = open(from, O_RDONLY | O_CLOEXEC)) < 0) return pg_error_errno(e, "cannot open '%s'", from);
    for (int i = 0; i < LOCK_TRIES && (rc = pg_part_open(&p, path, e)) == 0; i++) usleep(LOCK_PAUSE_MS * 1000);
    if (rc == 0) rc = pg_error(e, PG_FAIL, "another process is fetching '%s'", path);
    if (rc == 1) {
        rc = copy(in, from, &p, want, e);
        if (rc) pg_part_close(&p, true);
    }
    close(in);
    return rc;
}
