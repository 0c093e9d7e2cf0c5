/* Writing values into a record, packed by msgpack-c. */
#include <msgpack.h>
#include <string.h>

#include "stream/record.h"

/* msgpack-c's packers call this for every piece. */
static int put(void *b, const char *p, size_t n) { return pg_buf_add(b, p, n, NULL); }

typedef struct packed {
    pg_buf b;
    msgpack_packer pk;
} packed;

static void start(packed *k)
{
    k->b = (pg_buf){0};
    msgpack_packer_init(&k->pk, &k->b, put);
}

static int finish(pg_rec *r, const char *key, packed *k, int failed, pg_err *e)
{
    int rc = failed ? pg_error_nomem(e) : pg_rec_set_raw(r, key, k->b.data, k->b.len, e);
    pg_buf_free(&k->b);
    return rc;
}

static int pack_str(msgpack_packer *pk, const char *s, size_t n)
{
    return msgpack_pack_str(pk, n) || msgpack_pack_str_body(pk, s, n);
}

static int pack_key(msgpack_packer *pk, const char *s) /* msgpack-numpy's keys are bytes */
{
    return msgpack_pack_bin(pk, strlen(s)) || msgpack_pack_bin_body(pk, s, strlen(s));
}

static int too_long(const char *key, pg_err *e) { return pg_error(e, PG_ELIMIT, "'%s' is larger than 4 GiB", key); }

int pg_rec_set_str(pg_rec *r, const char *key, const char *s, size_t n, pg_err *e)
{
    packed k;
    if (n > UINT32_MAX) return too_long(key, e);
    start(&k);
    return finish(r, key, &k, pack_str(&k.pk, s, n), e);
}

int pg_rec_set_bin(pg_rec *r, const char *key, const void *p, size_t n, pg_err *e)
{
    packed k;
    if (n > UINT32_MAX) return too_long(key, e);
    start(&k);
    return finish(r, key, &k, msgpack_pack_bin(&k.pk, n) || msgpack_pack_bin_body(&k.pk, p, n), e);
}

int pg_rec_set_int(pg_rec *r, const char *key, int64_t v, pg_err *e)
{
    packed k;
    start(&k);
    return finish(r, key, &k, msgpack_pack_int64(&k.pk, v), e);
}

int pg_rec_set_double(pg_rec *r, const char *key, double v, pg_err *e)
{
    packed k;
    start(&k);
    return finish(r, key, &k, msgpack_pack_double(&k.pk, v), e);
}

int pg_rec_set_bool(pg_rec *r, const char *key, bool v, pg_err *e)
{
    packed k;
    start(&k);
    return finish(r, key, &k, v ? msgpack_pack_true(&k.pk) : msgpack_pack_false(&k.pk), e);
}

int pg_rec_set_ints(pg_rec *r, const char *key, const int32_t *v, size_t n, pg_err *e)
{
    packed k;
    if (n > UINT32_MAX) return too_long(key, e);
    start(&k);
    int bad = msgpack_pack_array(&k.pk, n);
    for (size_t i = 0; !bad && i < n; i++) bad = msgpack_pack_int32(&k.pk, v[i]);
    return finish(r, key, &k, bad, e);
}

int pg_rec_set_doubles(pg_rec *r, const char *key, const double *v, size_t n, pg_err *e)
{
    packed k;
    if (n > UINT32_MAX) return too_long(key, e);
    start(&k);
    int bad = msgpack_pack_array(&k.pk, n);
    for (size_t i = 0; !bad && i < n; i++) bad = msgpack_pack_double(&k.pk, v[i]);
    return finish(r, key, &k, bad, e);
}

int pg_rec_set_strs(pg_rec *r, const char *key, const char *const *s, size_t n, pg_err *e)
{
    packed k;
    start(&k);
    int bad = msgpack_pack_array(&k.pk, n);
    for (size_t i = 0; !bad && i < n; i++) bad = pack_str(&k.pk, s[i], strlen(s[i]));
    return finish(r, key, &k, bad, e);
}

int pg_rec_set_numbers(pg_rec *r, const char *key, const char *const *names, const double *v, size_t n, pg_err *e)
{
    packed k;
    start(&k);
    int bad = msgpack_pack_map(&k.pk, n);
    for (size_t i = 0; !bad && i < n; i++) bad = pack_str(&k.pk, names[i], strlen(names[i])) || msgpack_pack_double(&k.pk, v[i]);
    return finish(r, key, &k, bad, e);
}

int pg_rec_set_tensor(pg_rec *r, const char *key, const pg_tensor *t, pg_err *e)
{
    packed k;
    if (t->bytes > UINT32_MAX) return too_long(key, e);
    start(&k);
    msgpack_packer *pk = &k.pk;
    int bad = pg_buf_reserve(&k.b, t->bytes + 128, NULL) || msgpack_pack_map(pk, 5) || pack_key(pk, "nd") ||
              msgpack_pack_true(pk) || pack_key(pk, "type") || pack_str(pk, t->type, strlen(t->type)) ||
              pack_key(pk, "kind") || msgpack_pack_bin(pk, 0) || pack_key(pk, "shape") || msgpack_pack_array(pk, t->ndim);
    for (size_t i = 0; !bad && i < t->ndim; i++) bad = msgpack_pack_uint64(pk, t->shape[i]);
    bad = bad || pack_key(pk, "data") || msgpack_pack_bin(pk, t->bytes) || msgpack_pack_bin_body(pk, t->data, t->bytes);
    return finish(r, key, &k, bad, e);
}

int pg_rec_set_error(pg_rec *r, const char *tool, const char *message, pg_err *e)
{
    packed k;
    pg_buf clean = {0}; /* a message may quote anything, and may be cut within a character */
    start(&k);
    msgpack_packer *pk = &k.pk;
    int bad = pg_utf8_add(&clean, message, strlen(message), NULL) || msgpack_pack_map(pk, 2) || pack_str(pk, "tool", 4) || pack_str(pk, tool, strlen(tool)) ||
              pack_str(pk, "message", 7) || pack_str(pk, clean.len ? (const char *)clean.data : "", clean.len);
    pg_buf_free(&clean);
    return finish(r, "error", &k, bad, e);
}
