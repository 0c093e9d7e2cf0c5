/* A file on its way: NAME.part beside NAME, what it is in NAME.part.json, one process at a time through a lock on NAME.part.lock. */
#ifndef PG_NET_PART_H
#define PG_NET_PART_H

#include "net/hash.h"

#define PG_SIZE_UNKNOWN UINT64_MAX

/* What a part belongs to; never credentials, never a signed URL. */
typedef struct pg_origin {
    char *source, *etag, *generation; /* NULL where unknown */
    uint64_t size;
    pg_sums sums;
} pg_origin;
void pg_origin_free(pg_origin *o);
/* True where both name a validator (etag, generation, checksum) and none contradicts: bytes of one continue the other's. */
bool pg_origin_same(const pg_origin *a, const pg_origin *b);

typedef struct pg_part {
    char *path, *part, *sidecar, *lock;
    int fd, lock_fd;
    uint64_t have;   /* bytes in the part */
    pg_origin from;  /* the sidecar */
    struct pg_follow *hash;
} pg_part;

/* Takes the lock and opens the part with what an earlier try left, making folders. 1: got it; 0: another process holds it; below: error. */
int pg_part_open(pg_part *p, const char *path, pg_err *e) PG_MUST_CHECK;
/* Empties the part and notes what will fill it. */
int pg_part_begin(pg_part *p, const pg_origin *from, pg_err *e) PG_MUST_CHECK;
int pg_part_write(pg_part *p, const void *data, size_t n, pg_err *e) PG_MUST_CHECK;
/* Sums of the part are computed behind the writer, the old bytes first. Call when it is known which. */
int pg_part_hash(pg_part *p, unsigned which, pg_err *e) PG_MUST_CHECK;
/* No more bytes will come: 1 and *out once the sums are known, 0 while they are being computed. */
int pg_part_sums(pg_part *p, pg_sums *out, pg_err *e) PG_MUST_CHECK;
/* fsync, rename to path, clean up. */
int pg_part_commit(pg_part *p, pg_err *e) PG_MUST_CHECK;
/* Gives the lock back; keeps bytes that a later try may continue, unless drop. */
void pg_part_close(pg_part *p, bool drop);

/* Notes the source at a finished file, where the file system can, and asks whether that is where the file came from, in whichever version. */
void pg_mark_set(int fd, const char *source);
bool pg_mark_is(const char *path, const char *source);

int pg_make_dirs(const char *path, pg_err *e) PG_MUST_CHECK; /* the folders above path */

/* The sums of a file that grows, in a thread of its own once it is worth one. */
struct pg_follow;
int pg_follow_new(struct pg_follow **f, int fd, unsigned which, uint64_t size, pg_err *e) PG_MUST_CHECK;
unsigned pg_follow_which(const struct pg_follow *f);
int pg_follow_more(struct pg_follow *f, uint64_t avail, pg_err *e) PG_MUST_CHECK;
int pg_follow_end(struct pg_follow *f, uint64_t total, pg_sums *out, pg_err *e) PG_MUST_CHECK; /* as pg_part_sums */
void pg_follow_free(struct pg_follow *f);

#endif
