/* Streams that were kept in files, as sources: their records pass as they are. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fetch.h"

/* The id decides about order and what was there before; a record may come without one. */
static void put(fetch *f, const char *name, uint64_t number)
{
    char digits[PG_ID_DIGITS];
    const char *s;
    size_t n;
    pg_err e = {0};
    bool has = pg_rec_id(f->p.rec, digits, &s, &n);
    char *id = has ? pg_strndup(s, n) : pg_format("%s:%llu", name, (unsigned long long)number);
    if (!id) tool_no_memory(&f->t);
    char *text = fetch_id(f, id);
    if (!has && pg_rec_set_str(f->p.rec, "id", text, strlen(text), &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    fetch_put(f, id);
    free(text);
    free(id);
}

static bool is_examples(const pg_rec *header)
{
    const char *kind;
    size_t n;
    return pg_rec_str(header, "kind", &kind, &n, NULL) == 1 && n == 8 && !memcmp(kind, "examples", 8);
}

static int open_stream(const fetch *f, const char *file, const char *name, int *fd, pg_reader **rd, pg_rec *header, pg_err *e)
{
    *rd = NULL;
    if ((*fd = open(file, O_RDONLY | O_CLOEXEC)) < 0) return pg_error_errno(e, "cannot open '%s'", name);
    int rc = pg_reader_new(rd, *fd, name, e);
    if (!rc) pg_reader_limit(*rd, tool_max_record(&f->t));
    if (!rc && (rc = pg_reader_header(*rd, header, e)) == 1) rc = is_examples(header) ? PG_OK : pg_error(e, PG_EFORMAT, "'%s' is no stream of examples", name);
    return rc;
}

static void close_stream(int fd, pg_reader *rd)
{
    pg_reader_free(rd);
    if (fd >= 0) close(fd);
}

void fetch_pgs(fetch *f, const char *file, const char *name)
{
    pg_reader *rd;
    pg_rec *header = pg_rec_new();
    pg_err e = {0};
    int fd, rc = 0;
    if (!header) tool_no_memory(&f->t);
    if (open_stream(f, file, name, &fd, &rd, header, &e)) fetch_no_source(f, name, tool_stream_status(&e), "%s", e.msg);
    else {
        while (fetch_more(f) && (rc = pg_reader_next(rd, f->p.rec, &e)) > 0)
            if (fetch_wanted(f)) put(f, name, pg_reader_count(rd));
        if (rc == PG_ENOMEM) tool_no_memory(&f->t);
        if (rc < 0) fetch_damaged(f, name, "%s", e.msg);
    }
    close_stream(fd, rd);
    pg_rec_free(header);
}

pg_rec *fetch_header(fetch *f, const char *file)
{
    pg_reader *rd;
    pg_rec *header = pg_rec_new();
    pg_err e = {0};
    int fd;
    if (!header) tool_no_memory(&f->t);
    if (open_stream(f, file, file, &fd, &rd, header, &e)) { /* said when its turn comes */
        pg_rec_free(header);
        header = NULL;
    }
    close_stream(fd, rd);
    return header;
}
