#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "stream/record.h"

enum { FLUSH_AT = 1 << 18, LARGE = 1 << 15 }; /* a value so large is written from where it lies */

struct pg_writer {
    int fd;
    char *name;
    pg_buf buf;
    uint64_t count, errors;
};

int pg_writer_new(pg_writer **out, int fd, const char *name, pg_err *e)
{
    *out = NULL;
    pg_writer *w = pg_calloc(1, sizeof *w);
    if (!w || !(w->name = pg_strdup(name))) {
        free(w);
        return pg_error_nomem(e);
    }
    w->fd = fd;
    *out = w;
    return PG_OK;
}

void pg_writer_free(pg_writer *w)
{
    if (!w) return;
    pg_buf_free(&w->buf);
    free(w->name);
    free(w);
}

int pg_writer_fd(const pg_writer *w) { return w->fd; }

uint64_t pg_writer_errors(const pg_writer *w) { return w->errors; }

int pg_writer_flush(pg_writer *w, pg_err *e)
{
    if (w->buf.len && pg_write_full(w->fd, w->buf.data, w->buf.len)) return pg_error_errno(e, "cannot write '%s'", w->name);
    w->buf.len = 0;
    return PG_OK;
}

static int put(void *b, const char *p, size_t n) { return pg_buf_add(b, p, n, NULL); }

static int put_map(pg_writer *w, const pg_rec *rec, pg_err *e)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, &w->buf, put);
    int bad = msgpack_pack_map(&pk, rec->n);
    for (size_t i = 0; !bad && i < rec->n; i++) {
        const pg_field *f = &rec->fields[i];
        const unsigned char *val = rec->bytes.data + f->val;
        bad = msgpack_pack_str(&pk, f->key_len) || msgpack_pack_str_body(&pk, rec->bytes.data + f->key, f->key_len);
        if (bad) break;
        if (f->val_len < LARGE) {
            bad = put(&w->buf, (const char *)val, f->val_len);
            continue;
        }
        int rc = pg_writer_flush(w, e);
        if (!rc && pg_write_full(w->fd, val, f->val_len)) rc = pg_error_errno(e, "cannot write '%s'", w->name);
        if (rc) return rc;
    }
    if (bad) return pg_error_nomem(e);
    return w->buf.len >= FLUSH_AT ? pg_writer_flush(w, e) : PG_OK;
}

static int text(msgpack_packer *pk, const char *s)
{
    pg_buf clean = {0}; /* arguments are any bytes */
    int bad = pg_utf8_add(&clean, s, strlen(s), NULL) || msgpack_pack_str(pk, clean.len) ||
              msgpack_pack_str_body(pk, clean.len ? (const void *)clean.data : "", clean.len);
    pg_buf_free(&clean);
    return bad;
}

/* The chain of `in` (a msgpack array, or nothing) with one more link. */
static int chain(pg_rec *h, const pg_rec *in, const char *program, const char *version, int argc, char *const *argv, pg_err *e)
{
    pg_buf b = {0};
    msgpack_packer pk;
    msgpack_unpacked old;
    size_t off = 0, links = 0;
    const pg_field *f = in ? pg_rec_find(in, "chain") : NULL;
    msgpack_packer_init(&pk, &b, put);
    msgpack_unpacked_init(&old);
    msgpack_unpack_return was = f ? msgpack_unpack_next(&old, (const char *)in->bytes.data + f->val, f->val_len, &off) : MSGPACK_UNPACK_PARSE_ERROR;
    if (was == MSGPACK_UNPACK_SUCCESS && old.data.type == MSGPACK_OBJECT_ARRAY) links = old.data.via.array.size;
    int bad = was == MSGPACK_UNPACK_NOMEM_ERROR || msgpack_pack_array(&pk, links + 1);
    for (size_t i = 0; !bad && i < links; i++) bad = msgpack_pack_object(&pk, old.data.via.array.ptr[i]);
    bad = bad || msgpack_pack_map(&pk, 3) || text(&pk, "program") || text(&pk, program) || text(&pk, "version") ||
          text(&pk, version) || text(&pk, "args") || msgpack_pack_array(&pk, argc > 0 ? (size_t)argc - 1 : 0);
    for (int i = 1; !bad && i < argc; i++) bad = text(&pk, argv[i]);
    msgpack_unpacked_destroy(&old);
    int rc = bad ? pg_error_nomem(e) : pg_rec_set_raw(h, "chain", b.data, b.len, e);
    pg_buf_free(&b);
    return rc;
}

int pg_writer_header(pg_writer *w, const pg_rec *in, const char *kind, const char *program, const char *version, int argc,
                     char *const *argv, const pg_rec *extra, pg_err *e)
{
    static const int32_t stream_version[] = {PG_STREAM_MAJOR, PG_STREAM_MINOR};
    int rc = PG_ENOMEM;
    pg_rec *h = pg_rec_new();
    if (!h) return pg_error_nomem(e);
    if ((rc = pg_rec_set_ints(h, "pg-stream", stream_version, 2, e))) goto out;
    if (in && (rc = pg_rec_copy(h, in, e))) goto out;
    if ((rc = pg_rec_set_ints(h, "pg-stream", stream_version, 2, e))) goto out;
    if (kind && (rc = pg_rec_set_str(h, "kind", kind, strlen(kind), e))) goto out;
    if ((rc = chain(h, in, program, version, argc, argv, e))) goto out;
    for (size_t i = 0; extra && i < extra->n; i++) {
        const pg_field *f = &extra->fields[i];
        if ((rc = pg_rec_set_raw(h, pg_rec_key(extra, i), extra->bytes.data + f->val, f->val_len, e))) goto out;
    }
    rc = put_map(w, h, e);
out:
    pg_rec_free(h);
    return rc;
}

int pg_writer_add(pg_writer *w, const pg_rec *rec, pg_err *e)
{
    w->count++;
    if (pg_rec_has_error(rec)) w->errors++;
    return put_map(w, rec, e);
}

int pg_writer_end(pg_writer *w, const pg_rec *extra, pg_err *e)
{
    pg_rec *end = pg_rec_new();
    if (!end) return pg_error_nomem(e);
    int rc = pg_rec_set_int(end, "pg-end", (int64_t)w->count, e);
    if (!rc) rc = pg_rec_set_int(end, "errors", (int64_t)w->errors, e);
    for (size_t i = 0; !rc && extra && i < extra->n; i++) {
        const pg_field *f = &extra->fields[i];
        const char *key = pg_rec_key(extra, i);
        if (!strcmp(key, "pg-end") || !strcmp(key, "errors")) continue;
        rc = pg_rec_set_raw(end, key, extra->bytes.data + f->val, f->val_len, e);
    }
    if (!rc) rc = put_map(w, end, e);
    if (!rc) rc = pg_writer_flush(w, e);
    pg_rec_free(end);
    return rc;
}
