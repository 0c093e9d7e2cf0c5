/* The stream reader, with a limit on records that is within reach; and that what was read goes out byte for byte. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { LIMIT = 4096 };

/* What the writer makes of a record reads as the same record. */
static void check_copy(const pg_rec *r)
{
    const char *path = fuzz_file("copy.pgs", "", 0);
    int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
    pg_writer *w;
    pg_reader *rd;
    pg_rec *again = pg_rec_new();
    FUZZ_CHECK(fd >= 0 && again && !pg_writer_new(&w, fd, "copy", NULL) && !pg_reader_new(&rd, fd, "copy", NULL));
    FUZZ_CHECK(!pg_writer_header(w, NULL, "examples", "fuzz", "0", 0, NULL, NULL, NULL) && !pg_writer_add(w, r, NULL) && !pg_writer_end(w, NULL, NULL));
    FUZZ_CHECK(lseek(fd, 0, SEEK_SET) == 0 && pg_reader_header(rd, again, NULL) == 1 && pg_reader_next(rd, again, NULL) == 1);
    FUZZ_CHECK(pg_rec_count(again) == pg_rec_count(r));
    for (size_t i = 0; i < pg_rec_count(r); i++) {
        size_t n, m;
        const unsigned char *p = pg_rec_raw(r, i, &n), *q = pg_rec_raw(again, i, &m);
        FUZZ_CHECK(!strcmp(pg_rec_key(r, i), pg_rec_key(again, i)) && n == m && !memcmp(p, q, n));
    }
    FUZZ_CHECK(pg_reader_next(rd, again, NULL) == 0);
    pg_writer_free(w);
    pg_reader_free(rd);
    pg_rec_free(again);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("in.pgs", data, size);
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    pg_reader *rd;
    pg_rec *r = pg_rec_new();
    pg_err e = {0};
    FUZZ_CHECK(fd >= 0 && r && !pg_reader_new(&rd, fd, "in", &e));
    pg_reader_limit(rd, LIMIT);
    if ((rc = pg_reader_header(rd, r, &e)) == 1)
        while ((rc = pg_reader_next(rd, r, &e)) == 1) check_copy(r);
    FUZZ_CHECK(rc <= 0 && (rc == 0 || (e.code && e.msg[0])));
    pg_reader_free(rd);
    pg_rec_free(r);
    close(fd);
    return 0;
}
