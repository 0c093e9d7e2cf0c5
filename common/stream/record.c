#include "stream/record.h"

#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/scan.h"

enum { MAX_KEYS = 65536, FEW_KEYS = 64 };

pg_rec *pg_rec_new(void) { return pg_calloc(1, sizeof(pg_rec)); }

void pg_rec_free(pg_rec *r)
{
    if (!r) return;
    pg_buf_free(&r->bytes);
    free(r->fields);
    free(r);
}

void pg_rec_clear(pg_rec *r) { r->n = r->bytes.len = 0; }
size_t pg_rec_count(const pg_rec *r) { return r->n; }
const char *pg_rec_key(const pg_rec *r, size_t i) { return (const char *)r->bytes.data + r->fields[i].key; }

const unsigned char *pg_rec_raw(const pg_rec *r, size_t i, size_t *len)
{
    *len = r->fields[i].val_len;
    return r->bytes.data + r->fields[i].val;
}

const pg_field *pg_rec_find(const pg_rec *r, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < r->n; i++)
        if (r->fields[i].key_len == len && !memcmp(r->bytes.data + r->fields[i].key, key, len)) return &r->fields[i];
    return NULL;
}

bool pg_rec_has(const pg_rec *r, const char *key) { return pg_rec_find(r, key) != NULL; }

static int add_field(pg_rec *r, const char *key, size_t key_len, const void *val, size_t val_len, pg_err *e)
{
    if (r->n == MAX_KEYS) return pg_error(e, PG_ELIMIT, "more than %d keys in a record", MAX_KEYS);
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        pg_field *f = pg_realloc(r->fields, cap, sizeof *f);
        if (!f) return pg_error_nomem(e);
        r->fields = f;
        r->cap = cap;
    }
    pg_field f = {.key = r->bytes.len, .key_len = key_len, .val_len = val_len};
    int rc = pg_buf_add(&r->bytes, key, key_len, e);
    if (!rc) rc = pg_buf_add(&r->bytes, "", 1, e);
    f.val = r->bytes.len;
    if (!rc) rc = pg_buf_add(&r->bytes, val, val_len, e);
    if (!rc) r->fields[r->n++] = f;
    return rc;
}

static int twice(const char *key, pg_err *e) { return pg_error(e, PG_EFORMAT, "the key '%s' twice", key); }

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Comparing each key with each would let a hostile record cost seconds. */
static int distinct(const pg_rec *r, pg_err *e)
{
    const char **keys = pg_alloc(r->n, sizeof *keys);
    int rc = PG_OK;
    if (!keys) return pg_error_nomem(e);
    for (size_t i = 0; i < r->n; i++) keys[i] = pg_rec_key(r, i);
    qsort(keys, r->n, sizeof *keys, by_name);
    for (size_t i = 1; !rc && i < r->n; i++)
        if (!strcmp(keys[i - 1], keys[i])) rc = twice(keys[i], e);
    free(keys);
    return rc;
}

int pg_rec_parse(pg_rec *r, const unsigned char *p, size_t n, pg_err *e)
{
    pg_mp kind;
    uint64_t pairs, count;
    pg_rec_clear(r);
    int rc, head = pg_scan_head(p, n, &kind, &pairs);
    if (head <= 0 || kind != PG_MP_MAP) return pg_error(e, PG_EFORMAT, "not a map");
    size_t at = (size_t)head;
    for (uint64_t i = 0; i < pairs; i++) {
        head = pg_scan_head(p + at, n - at, &kind, &count);
        if (head <= 0 || kind != PG_MP_STR) return pg_error(e, PG_EFORMAT, "a key that is not a string");
        const char *key = (const char *)p + at + head;
        size_t key_len = (size_t)count;
        if (memchr(key, 0, key_len)) return pg_error(e, PG_EFORMAT, "a key that holds a zero byte");
        if (!pg_utf8_valid(key, key_len)) return pg_error(e, PG_EFORMAT, "a key that is not UTF-8");
        at += (size_t)head + key_len;
        pg_scan s = {0};
        if (pg_scan_object(&s, p + at, n - at, n, e) != PG_SCAN_DONE) return pg_error(e, PG_EFORMAT, "a value is cut");
        if ((rc = add_field(r, key, key_len, p + at, s.pos, e))) return rc;
        const pg_field *first = r->n <= FEW_KEYS ? pg_rec_find(r, pg_rec_key(r, r->n - 1)) : NULL;
        if (first && first != &r->fields[r->n - 1]) return twice(pg_rec_key(r, r->n - 1), e);
        at += s.pos;
    }
    return r->n > FEW_KEYS ? distinct(r, e) : PG_OK;
}

int pg_rec_copy(pg_rec *to, const pg_rec *from, pg_err *e)
{
    pg_rec_clear(to);
    for (size_t i = 0; i < from->n; i++) {
        const pg_field *f = &from->fields[i];
        int rc = add_field(to, (const char *)from->bytes.data + f->key, f->key_len, from->bytes.data + f->val, f->val_len, e);
        if (rc) return rc;
    }
    return PG_OK;
}

int pg_rec_set_raw(pg_rec *r, const char *key, const void *msgpack, size_t n, pg_err *e)
{
    pg_field *f = (pg_field *)pg_rec_find(r, key);
    if (!f) return add_field(r, key, strlen(key), msgpack, n, e);
    if (n > f->val_len) {
        size_t at = r->bytes.len;
        int rc = pg_buf_add(&r->bytes, msgpack, n, e);
        if (rc) return rc;
        f->val = at;
    } else {
        memcpy(r->bytes.data + f->val, msgpack, n);
    }
    f->val_len = n;
    return PG_OK;
}

void pg_rec_del(pg_rec *r, const char *key)
{
    const pg_field *f = pg_rec_find(r, key);
    if (!f) return;
    size_t i = (size_t)(f - r->fields);
    memmove(r->fields + i, r->fields + i + 1, (r->n - i - 1) * sizeof *f);
    r->n--;
}

/* ---- reading values ---- */

static const char *type_name(const pg_rec *r, const pg_field *f)
{
    unsigned b = r->bytes.data[f->val];
    pg_mp kind;
    uint64_t count;
    if (pg_scan_head(r->bytes.data + f->val, f->val_len, &kind, &count) < 0) return "nothing";
    static const char *const names[] = {"a number", "a string", "bytes", "an extension", "a list", "a map"};
    if (kind == PG_MP_SCALAR && (b == 0xc2 || b == 0xc3)) return "a boolean";
    return names[kind];
}

static int wrong(const pg_rec *r, const pg_field *f, const char *want, pg_err *e)
{
    return pg_error(e, PG_EFORMAT, "'%s' is %s, not %s", (const char *)r->bytes.data + f->key, type_name(r, f), want);
}

/* 1: *f is there and not nil. */
static int present(const pg_rec *r, const char *key, const pg_field **f)
{
    *f = pg_rec_find(r, key);
    return *f && r->bytes.data[(*f)->val] != 0xc0;
}

static int text_or_bytes(const pg_rec *r, const char *key, const char *want, const unsigned char **p, size_t *n, pg_err *e)
{
    const pg_field *f;
    pg_mp kind;
    uint64_t count;
    if (!present(r, key, &f)) return 0;
    int head = pg_scan_head(r->bytes.data + f->val, f->val_len, &kind, &count);
    if (head <= 0 || (kind != PG_MP_STR && kind != PG_MP_BIN)) return wrong(r, f, want, e);
    *p = r->bytes.data + f->val + head;
    *n = (size_t)count;
    return 1;
}

int pg_rec_str(const pg_rec *r, const char *key, const char **s, size_t *n, pg_err *e)
{
    return text_or_bytes(r, key, "a string", (const unsigned char **)s, n, e);
}

int pg_rec_bin(const pg_rec *r, const char *key, const unsigned char **p, size_t *n, pg_err *e)
{
    return text_or_bytes(r, key, "bytes", p, n, e);
}

/* One value through msgpack-c; `zone` keeps what it allocates. The scanner has checked every length before. */
static int unpack(const pg_rec *r, const pg_field *f, msgpack_unpacked *u, pg_err *e)
{
    size_t off = 0;
    msgpack_unpacked_init(u);
    msgpack_unpack_return rc = msgpack_unpack_next(u, (const char *)r->bytes.data + f->val, f->val_len, &off);
    if (rc == MSGPACK_UNPACK_SUCCESS) return PG_OK;
    msgpack_unpacked_destroy(u);
    if (rc == MSGPACK_UNPACK_NOMEM_ERROR) return pg_error_nomem(e);
    return pg_error(e, PG_EFORMAT, "'%s' cannot be decoded", (const char *)r->bytes.data + f->key);
}

static bool as_int(const msgpack_object *o, int64_t *v)
{
    if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) return *v = o->via.i64, true;
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > INT64_MAX) return false;
    *v = (int64_t)o->via.u64;
    return true;
}

int pg_rec_int(const pg_rec *r, const char *key, int64_t *v, pg_err *e)
{
    const pg_field *f;
    msgpack_unpacked u;
    if (!present(r, key, &f)) return 0;
    int rc = unpack(r, f, &u, e);
    if (rc) return rc;
    rc = as_int(&u.data, v) ? 1 : wrong(r, f, "an integer", e);
    msgpack_unpacked_destroy(&u);
    return rc;
}

int pg_rec_double(const pg_rec *r, const char *key, double *v, pg_err *e)
{
    const pg_field *f;
    msgpack_unpacked u;
    int64_t i;
    if (!present(r, key, &f)) return 0;
    int rc = unpack(r, f, &u, e);
    if (rc) return rc;
    rc = 1;
    if (u.data.type == MSGPACK_OBJECT_FLOAT32 || u.data.type == MSGPACK_OBJECT_FLOAT64) *v = u.data.via.f64;
    else if (as_int(&u.data, &i)) *v = (double)i;
    else rc = wrong(r, f, "a number", e);
    msgpack_unpacked_destroy(&u);
    return rc;
}

bool pg_rec_id(const pg_rec *r, char digits[PG_ID_DIGITS], const char **s, size_t *n)
{
    int64_t v;
    if (pg_rec_str(r, "id", s, n, NULL) == 1) return true;
    if (pg_rec_int(r, "id", &v, NULL) != 1) return false;
    *n = (size_t)snprintf(digits, PG_ID_DIGITS, "%lld", (long long)v);
    *s = digits;
    return true;
}

int pg_rec_ints(const pg_rec *r, const char *key, int32_t **v, size_t *n, pg_err *e)
{
    const pg_field *f;
    msgpack_unpacked u;
    *v = NULL;
    *n = 0;
    if (!present(r, key, &f)) return 0;
    int rc = unpack(r, f, &u, e);
    if (rc) return rc;
    rc = 1;
    if (u.data.type != MSGPACK_OBJECT_ARRAY) rc = wrong(r, f, "a list of integers", e);
    else if (!(*v = pg_alloc(u.data.via.array.size, sizeof **v))) rc = pg_error_nomem(e);
    for (uint32_t i = 0; rc == 1 && i < u.data.via.array.size; i++) {
        int64_t x;
        if (!as_int(&u.data.via.array.ptr[i], &x) || x < INT32_MIN || x > INT32_MAX)
            rc = pg_error(e, PG_EFORMAT, "element %u of '%s' is not a 32-bit integer", i, key);
        else (*v)[(*n)++] = (int32_t)x; /* NOLINT(clang-analyzer-core.NullDereference): rc is 1 only where *v is there */
    }
    if (rc != 1) {
        free(*v);
        *v = NULL;
        *n = 0;
    }
    msgpack_unpacked_destroy(&u);
    return rc;
}

void pg_strs_free(char **s, size_t n)
{
    if (!s) return;
    for (size_t i = 0; i < n; i++) free(s[i]);
    free(s);
}

int pg_rec_strs(const pg_rec *r, const char *key, char ***s, size_t *n, pg_err *e)
{
    const pg_field *f;
    msgpack_unpacked u;
    *s = NULL;
    *n = 0;
    if (!present(r, key, &f)) return 0;
    int rc = unpack(r, f, &u, e);
    if (rc) return rc;
    rc = 1;
    if (u.data.type != MSGPACK_OBJECT_ARRAY) rc = wrong(r, f, "a list of strings", e);
    else if (!(*s = pg_calloc(u.data.via.array.size, sizeof **s))) rc = pg_error_nomem(e);
    for (uint32_t i = 0; rc == 1 && i < u.data.via.array.size; i++) {
        const msgpack_object *o = &u.data.via.array.ptr[i];
        bool bin = o->type == MSGPACK_OBJECT_BIN; /* a string that is not UTF-8 */
        if (!bin && o->type != MSGPACK_OBJECT_STR) rc = pg_error(e, PG_EFORMAT, "element %u of '%s' is not a string", i, key);
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as above */
        else if (!((*s)[i] = bin ? pg_strndup(o->via.bin.ptr, o->via.bin.size) : pg_strndup(o->via.str.ptr, o->via.str.size)))
            rc = pg_error_nomem(e);
        else ++*n;
    }
    if (rc != 1) {
        pg_strs_free(*s, *n);
        *s = NULL;
        *n = 0;
    }
    msgpack_unpacked_destroy(&u);
    return rc;
}

static bool name_is(const msgpack_object *o, const char *name)
{
    size_t n = strlen(name);
    if (o->type == MSGPACK_OBJECT_BIN) return o->via.bin.size == n && !memcmp(o->via.bin.ptr, name, n);
    return o->type == MSGPACK_OBJECT_STR && o->via.str.size == n && !memcmp(o->via.str.ptr, name, n);
}

static int read_tensor(const msgpack_object *o, const char *key, pg_tensor *t, pg_err *e)
{
    const msgpack_object *nd = NULL, *type = NULL, *kind = NULL, *shape = NULL, *data = NULL;
    if (o->type != MSGPACK_OBJECT_MAP) return pg_error(e, PG_EFORMAT, "'%s' is not a tensor", key);
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        const msgpack_object_kv *kv = &o->via.map.ptr[i];
        if (name_is(&kv->key, "nd")) nd = &kv->val;
        else if (name_is(&kv->key, "type")) type = &kv->val;
        else if (name_is(&kv->key, "kind")) kind = &kv->val;
        else if (name_is(&kv->key, "shape")) shape = &kv->val;
        else if (name_is(&kv->key, "data")) data = &kv->val;
    }
    if (!nd || nd->type != MSGPACK_OBJECT_BOOLEAN || !nd->via.boolean || !type || !shape || !data)
        return pg_error(e, PG_EFORMAT, "'%s' is not a tensor as msgpack-numpy writes it", key);
    (void)kind;
    if (type->type != MSGPACK_OBJECT_STR || type->via.str.size >= sizeof t->type || type->via.str.size < 3 || memchr(type->via.str.ptr, 0, type->via.str.size))
        return pg_error(e, PG_EFORMAT, "the tensor '%s' has a type that is not supported", key);
    memcpy(t->type, type->via.str.ptr, type->via.str.size);
    t->type[type->via.str.size] = 0;
    if (!((t->type[1] >= 'a' && t->type[1] <= 'z') || (t->type[1] >= 'A' && t->type[1] <= 'Z'))) /* it is written as it is, in JSON too */
        return pg_error(e, PG_EFORMAT, "the tensor '%s' has a type that is not supported", key);
    if (t->type[0] != '<' && t->type[0] != '|') return pg_error(e, PG_EFORMAT, "the tensor '%s' has type '%s', not little endian", key, t->type);
    size_t bytes = 0;
    for (const char *c = t->type + 2; *c; c++) {
        if (*c < '0' || *c > '9') return pg_error(e, PG_EFORMAT, "the tensor '%s' has the unknown type '%s'", key, t->type);
        bytes = bytes * 10 + (size_t)(*c - '0');
    }
    if (shape->type != MSGPACK_OBJECT_ARRAY || shape->via.array.size > 8)
        return pg_error(e, PG_EFORMAT, "the tensor '%s' has no shape of at most 8 sizes", key);
    t->ndim = shape->via.array.size;
    for (size_t i = 0; i < t->ndim; i++) {
        int64_t v;
        if (!as_int(&shape->via.array.ptr[i], &v) || v < 0 || !pg_mul(bytes, (size_t)v, &bytes))
            return pg_error(e, PG_EFORMAT, "the tensor '%s' has an impossible shape", key);
        t->shape[i] = (size_t)v;
    }
    if (data->type != MSGPACK_OBJECT_BIN) return pg_error(e, PG_EFORMAT, "the tensor '%s' has no bytes", key);
    if (data->via.bin.size != bytes)
        return pg_error(e, PG_EFORMAT, "the tensor '%s' holds %u bytes, its shape and type need %zu", key, data->via.bin.size, bytes);
    t->data = (const unsigned char *)data->via.bin.ptr;
    t->bytes = bytes;
    return 1;
}

int pg_rec_tensor(const pg_rec *r, const char *key, pg_tensor *t, pg_err *e)
{
    const pg_field *f;
    msgpack_unpacked u;
    if (!present(r, key, &f)) return 0;
    int rc = unpack(r, f, &u, e); /* str and bin point into the record, not into the zone */
    if (rc) return rc;
    rc = read_tensor(&u.data, key, t, e);
    msgpack_unpacked_destroy(&u);
    return rc;
}

bool pg_rec_has_error(const pg_rec *r)
{
    const pg_field *f;
    return present(r, "error", &f);
}

bool pg_rec_passes(const pg_rec *r)
{
    const pg_field *f;
    return pg_rec_has_error(r) || present(r, "partial", &f);
}

char *pg_rec_error(const pg_rec *r)
{
    const pg_field *f;
    msgpack_unpacked u;
    char *out = NULL;
    if (!present(r, "error", &f) || unpack(r, f, &u, NULL)) return NULL;
    const msgpack_object *o = &u.data, *tool = NULL, *message = NULL;
    if (o->type == MSGPACK_OBJECT_MAP)
        for (uint32_t i = 0; i < o->via.map.size; i++) {
            if (name_is(&o->via.map.ptr[i].key, "tool")) tool = &o->via.map.ptr[i].val;
            if (name_is(&o->via.map.ptr[i].key, "message")) message = &o->via.map.ptr[i].val;
        }
    if (tool && message && tool->type == MSGPACK_OBJECT_STR && message->type == MSGPACK_OBJECT_STR)
        out = pg_format("%.*s: %.*s", (int)tool->via.str.size, tool->via.str.ptr, (int)message->via.str.size, message->via.str.ptr);
    else if (o->type == MSGPACK_OBJECT_STR) out = pg_strndup(o->via.str.ptr, o->via.str.size);
    else out = pg_strdup("an error of unknown form");
    msgpack_unpacked_destroy(&u);
    return out;
}
