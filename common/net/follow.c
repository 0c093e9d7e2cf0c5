/* Checksums of a file that is being written: read back from the page cache by a thread, so that neither the network nor the
 * disk waits for md5, and what an earlier run left is hashed while new bytes arrive. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/part.h"

enum { CHUNK = 1 << 18, WORTH_A_THREAD = 1 << 20 };

struct pg_follow {
    int fd;
    unsigned which;
    pg_hash *hash;
    unsigned char *buf;
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex; /* guards what is below */
    pthread_cond_t more;
    uint64_t avail, done;
    bool stop;
    pg_err err;
};

unsigned pg_follow_which(const struct pg_follow *f) { return f->which; }

int pg_follow_new(struct pg_follow **out, int fd, unsigned which, uint64_t size, pg_err *e)
{
    struct pg_follow *f = pg_calloc(1, sizeof *f);
    if (!f) return pg_error_nomem(e);
    f->fd = fd;
    f->which = which;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->more, NULL);
    f->buf = pg_alloc(CHUNK, 1);
    int rc = f->buf ? pg_hash_new(&f->hash, which, size, e) : pg_error_nomem(e);
    if (rc) pg_follow_free(f);
    else *out = f;
    return rc;
}

/* Hashes from `from` up to `to`, a chunk at most; the bytes hashed, or below 0. */
static ssize_t hash_some(struct pg_follow *f, uint64_t from, uint64_t to, pg_err *e)
{
    size_t n = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
    ssize_t got;
    do got = pread(f->fd, f->buf, n, (off_t)from);
    while (got < 0 && errno == EINTR);
    if (got < 0) return pg_error_errno(e, "cannot read back what was downloaded");
    if (got == 0) return pg_error(e, PG_EIO, "what was downloaded was cut by another program");
    return pg_hash_add(f->hash, f->buf, (size_t)got, e) ? -1 : got;
}

static void *work(void *arg)
{
    struct pg_follow *f = arg;
    pthread_mutex_lock(&f->mutex);
    while (!f->stop && !f->err.code) {
        if (f->done == f->avail) {
            pthread_cond_wait(&f->more, &f->mutex);
            continue;
        }
        uint64_t from = f->done, to = f->avail;
        pg_err e = {0};
        pthread_mutex_unlock(&f->mutex);
        ssize_t got = hash_some(f, from, to, &e);
        pthread_mutex_lock(&f->mutex);
        if (got < 0) f->err = e;
        else f->done += (uint64_t)got;
    }
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

int pg_follow_more(struct pg_follow *f, uint64_t avail, pg_err *e)
{
    pthread_mutex_lock(&f->mutex);
    bool wake = f->done == f->avail;
    f->avail = avail;
    int rc = f->err.code;
    if (rc) *e = f->err;
    pthread_mutex_unlock(&f->mutex);
    if (f->running && wake) pthread_cond_signal(&f->more);
    if (!rc && !f->running && avail >= WORTH_A_THREAD) {
        if (pthread_create(&f->thread, NULL, work, f)) return pg_error(e, PG_FAIL, "cannot start a thread");
        f->running = true;
    }
    return rc;
}

int pg_follow_end(struct pg_follow *f, uint64_t total, pg_sums *out, pg_err *e)
{
    int rc = pg_follow_more(f, total, e);
    if (rc) return rc;
    while (!f->running && f->done < total) {
        ssize_t got = hash_some(f, f->done, total, e);
        if (got < 0) return e->code;
        f->done += (uint64_t)got;
    }
    pthread_mutex_lock(&f->mutex);
    bool whole = f->done == total;
    pthread_mutex_unlock(&f->mutex);
    if (!whole) return 0;
    rc = pg_hash_end(f->hash, out, e);
    return rc ? rc : 1;
}

void pg_follow_free(struct pg_follow *f)
{
    if (!f) return;
    if (f->running) {
        pthread_mutex_lock(&f->mutex);
        f->stop = true;
        pthread_mutex_unlock(&f->mutex);
        pthread_cond_signal(&f->more);
        pthread_join(f->thread, NULL);
    }
    pg_hash_free(f->hash);
    free(f->buf);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->more);
    free(f);
}
