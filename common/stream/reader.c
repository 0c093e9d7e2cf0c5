#include <errno.h>
#include <msgpack.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "stream/record.h"
#include "stream/scan.h"

struct pg_reader {
    int fd;
    char *name;
    pg_buf buf;      /* bytes read; those before `start` are used up */
    size_t start, max;
    pg_scan scan;
    bool eof, ended;
    uint64_t count, offset;
    pg_rec *end;
    pg_writer *tied;
};

int pg_reader_new(pg_reader **out, int fd, const char *name, pg_err *e)
{
    *out = NULL;
    pg_reader *rd = pg_calloc(1, sizeof *rd);
    if (!rd) return pg_error_nomem(e);
    rd->fd = fd;
    rd->max = PG_RECORD_MAX;
    rd->name = pg_strdup(name);
    rd->end = pg_rec_new();
    if (!rd->name || !rd->end) {
        pg_reader_free(rd);
        return pg_error_nomem(e);
    }
    *out = rd;
    return PG_OK;
}

void pg_reader_free(pg_reader *rd)
{
    if (!rd) return;
    pg_buf_free(&rd->buf);
    pg_rec_free(rd->end);
    free(rd->name);
    free(rd);
}

void pg_reader_limit(pg_reader *rd, size_t max_record) { rd->max = max_record; }
void pg_reader_tie(pg_reader *rd, pg_writer *w) { rd->tied = w; }
const pg_rec *pg_reader_end(const pg_reader *rd) { return rd->end; }
bool pg_reader_cut(const pg_reader *rd) { return rd->eof && !rd->ended; }
uint64_t pg_reader_count(const pg_reader *rd) { return rd->count; }
uint64_t pg_reader_offset(const pg_reader *rd) { return rd->offset; }

static bool would_block(const pg_reader *rd)
{
    struct pollfd p = {.fd = rd->fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* Until there is input, or nobody is left to read the output: a pipeline that waits ends as a whole when its last program has. */
static int wait_for_input(const pg_reader *rd, pg_err *e)
{
    struct pollfd p[2] = {{.fd = rd->fd, .events = POLLIN}, {.fd = pg_writer_fd(rd->tied)}};
    while (poll(p, 2, -1) < 0)
        if (errno != EINTR) return PG_OK; /* the read will tell */
    if (p[0].revents || !(p[1].revents & POLLERR)) return PG_OK;
    errno = EPIPE;
    int rc = pg_error_errno(e, "cannot write to the next program");
    errno = EPIPE;
    return rc;
}

static int fill(pg_reader *rd, pg_err *e)
{
    int rc;
    size_t held = rd->buf.len - rd->start;
    if (rd->start && rd->start >= held) { /* moving less than what is freed: linear over all */
        memmove(rd->buf.data, rd->buf.data + rd->start, held);
        rd->buf.len = held;
        rd->start = 0;
    }
    if ((rc = pg_buf_reserve(&rd->buf, 65536, e))) return rc;
    if (rd->tied && would_block(rd) && ((rc = pg_writer_flush(rd->tied, e)) || (rc = wait_for_input(rd, e)))) return rc;
    for (;;) {
        ssize_t n = read(rd->fd, rd->buf.data + rd->buf.len, rd->buf.cap - rd->buf.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return pg_error_errno(e, "cannot read '%s'", rd->name);
        rd->eof = n == 0;
        rd->buf.len += (size_t)n;
        return PG_OK;
    }
}

/* 1: the object of rd->scan.pos bytes at *p; 0: end of file before its first byte; < 0. */
static int object(pg_reader *rd, const unsigned char **p, pg_err *e)
{
    rd->scan = (pg_scan){0};
    for (;;) {
        size_t held = rd->buf.len - rd->start;
        int rc = held ? pg_scan_object(&rd->scan, rd->buf.data + rd->start, held, rd->max, e) : PG_SCAN_MORE;
        if (rc < 0) return rc;
        if (rc == PG_SCAN_DONE) {
            *p = rd->buf.data + rd->start;
            rd->start += rd->scan.pos;
            rd->offset += rd->scan.pos;
            return 1;
        }
        if (rd->eof) return held ? pg_error(e, PG_EFORMAT, "cut in the middle of a record") : 0;
        if ((rc = fill(rd, e))) return rc;
    }
}

bool pg_reader_ready(pg_reader *rd)
{
    size_t held = rd->buf.len - rd->start;
    pg_scan s = {0};
    if (rd->eof || rd->ended) return true;
    if (held && pg_scan_object(&s, rd->buf.data + rd->start, held, rd->max, NULL) != PG_SCAN_MORE) return true;
    return !would_block(rd);
}

static int in_header(pg_reader *rd, pg_err *e) { return pg_error_context(e, "bad stream '%s', header", rd->name); }

static int in_record(pg_reader *rd, pg_err *e)
{
    return pg_error_context(e, "bad stream '%s', record %llu", rd->name, (unsigned long long)rd->count + 1);
}

/* By its first byte. */
static const char *what_begins_so(const unsigned char *p)
{
    if (p && (*p == '{' || *p == '[')) return ", but as JSON does, which pg-fetch makes a stream of";
    if (p && (*p == 0x89 || *p == 0xff)) return ", but as PNG or JPEG does, which pg-fetch makes a stream of";
    return "";
}

int pg_reader_header(pg_reader *rd, pg_rec *header, pg_err *e)
{
    const unsigned char *p = NULL;
    int rc = object(rd, &p, e);
    if (rc == 0) return pg_error(e, PG_EFORMAT, "bad stream '%s': empty, not even a header: what should have written it may have failed", rd->name);
    if (rc < 0) return e && e->code == PG_EIO ? rc : in_header(rd, e);
    int32_t *v = NULL;
    size_t n = 0;
    rc = pg_rec_parse(header, p, rd->scan.pos, e);
    bool is_header = header->n && !strcmp(pg_rec_key(header, 0), "pg-stream");
    if (rc && (rc == PG_ENOMEM || is_header)) return rc == PG_ENOMEM ? rc : in_header(rd, e);
    if (rc || !is_header)
        return pg_error(e, PG_EFORMAT, "'%s' is not a pg stream: it does not begin with a header%s", rd->name,
                                           what_begins_so(p));
    if ((rc = pg_rec_ints(header, "pg-stream", &v, &n, e)) < 0) return rc == PG_ENOMEM ? rc : in_header(rd, e);
    if (rc == 1 && n == 2 && v[0] != PG_STREAM_MAJOR)
        rc = pg_error(e, PG_EFORMAT, "'%s' is a stream of version %d.%d, this program reads %d.x", rd->name, v[0], v[1], PG_STREAM_MAJOR);
    else if (rc != 1 || n != 2) rc = pg_error(e, PG_EFORMAT, "bad stream '%s': no version in the header", rd->name);
    free(v);
    return rc;
}

static int check_end(pg_reader *rd, pg_err *e)
{
    int64_t count;
    int rc = pg_rec_int(rd->end, "pg-end", &count, e);
    if (rc < 0) return in_record(rd, e);
    if (rc == 0 || count < 0 || (uint64_t)count != rd->count)
        return pg_error(e, PG_EFORMAT, "bad stream '%s': the end record counts %lld records, %llu came", rd->name,
                        rc ? (long long)count : -1LL, (unsigned long long)rd->count);
    rd->ended = true;
    while (rd->start == rd->buf.len && !rd->eof)
        if ((rc = fill(rd, e))) return rc;
    if (rd->start < rd->buf.len) return pg_error(e, PG_EFORMAT, "bad stream '%s': bytes after the end record (streams are joined by pg-fetch a.pgs b.pgs, not by cat)", rd->name);
    return 0;
}

int pg_reader_next(pg_reader *rd, pg_rec *rec, pg_err *e)
{
    const unsigned char *p = NULL;
    if (rd->ended) return 0;
    int rc = object(rd, &p, e);
    if (rc == 0)
        return pg_error(e, PG_EFORMAT, "stream '%s' is cut: no end record after %llu records", rd->name, (unsigned long long)rd->count);
    if (rc < 0) return e && e->code == PG_EIO ? rc : in_record(rd, e);
    if ((rc = pg_rec_parse(rec, p, rd->scan.pos, e))) return rc == PG_ENOMEM ? rc : in_record(rd, e);
    for (size_t i = 0; i < rec->n; i++) {
        const char *key = pg_rec_key(rec, i);
        if (strncmp(key, "pg-", 3)) continue;
        if (i == 0 && !strcmp(key, "pg-end")) {
            if ((rc = pg_rec_copy(rd->end, rec, e))) return rc;
            return check_end(rd, e);
        }
        pg_error(e, PG_EFORMAT, "the key '%s' is reserved", key);
        return in_record(rd, e);
    }
    rd->count++;
    return 1;
}
