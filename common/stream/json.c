/* A value as JSON text. */
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "stream/record.h"

typedef struct json {
    pg_buf *out;
    bool with_tensors;
    pg_err *e;
} json;

static int lit(const json *j, const char *s) { return pg_buf_add(j->out, s, strlen(s), j->e); }

static int base64(const json *j, const unsigned char *p, size_t n)
{
    int rc = lit(j, "\"");
    if (!rc) rc = pg_buf_add_base64(j->out, p, n, j->e);
    return rc ? rc : lit(j, "\"");
}

static int string(const json *j, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    int rc = lit(j, "\"");
    for (size_t i = 0; !rc && i < n;) {
        uint32_t hidden;
        size_t len = pg_utf8_look(text + i, n - i, &hidden);
        if (!len) rc = lit(j, "\xef\xbf\xbd"), len = 1;
        else if (s[i] == '"' || s[i] == '\\') rc = pg_buf_addf(j->out, j->e, "\\%c", s[i]);
        else if (s[i] == '\n') rc = lit(j, "\\n");
        else if (hidden != UINT32_MAX) rc = pg_buf_addf(j->out, j->e, "\\u%04x", (unsigned)hidden); /* all of them below 0x10000 */
        else rc = pg_buf_add(j->out, s + i, len, j->e);
        i += len;
    }
    return rc ? rc : lit(j, "\"");
}

static int number(const json *j, double v, bool single)
{
    if (!isfinite(v)) return lit(j, "null"); /* JSON has no other word */
    char s[40];
    for (int digits = single ? 6 : 15; digits <= 17; digits++) { /* the shortest that reads back the same */
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (single ? strtof(s, NULL) == (float)v : strtod(s, NULL) == v) break;
    }
    return lit(j, s);
}

static int element(const json *j, const pg_tensor *t, const unsigned char *p)
{
    size_t size = (size_t)(t->type[2] - '0');
    char kind = t->type[1];
    if (kind == 'f' && size == 4) {
        float f;
        memcpy(&f, p, 4);
        return number(j, (double)f, true);
    }
    if (kind == 'f' && size == 8) {
        double d;
        memcpy(&d, p, 8);
        return number(j, d, false);
    }
    uint64_t u = 0;
    for (size_t i = 0; i < size; i++) u |= (uint64_t)p[i] << (8 * i);
    if (kind == 'f' && size == 2) return number(j, (double)pg_f16_to_f32((uint16_t)u), true);
    if (kind == 'u' || kind == 'b') return pg_buf_addf(j->out, j->e, "%llu", (unsigned long long)u);
    if (size < 8 && u >> (8 * size - 1)) u |= ~(uint64_t)0 << (8 * size);
    return pg_buf_addf(j->out, j->e, "%lld", (long long)u);
}

static int nested(const json *j, const pg_tensor *t, size_t dim, const unsigned char **p)
{
    if (dim == t->ndim) {
        int rc = element(j, t, *p);
        *p += t->type[2] - '0';
        return rc;
    }
    int rc = lit(j, "[");
    for (size_t i = 0; !rc && i < t->shape[dim]; i++) {
        if (i) rc = lit(j, ",");
        if (!rc) rc = nested(j, t, dim + 1, p);
    }
    return rc ? rc : lit(j, "]");
}

static int tensor(const json *j, const pg_tensor *t)
{
    if (j->with_tensors && !t->type[3] && strchr("fiub", t->type[1]) && strchr("1248", t->type[2])) {
        const unsigned char *p = t->data;
        return t->bytes ? nested(j, t, 0, &p) : lit(j, "[]"); /* a shape with a zero in it can have any other sizes */
    }
    int rc = pg_buf_addf(j->out, j->e, "{\"tensor\":\"%s\",\"shape\":[", t->type);
    for (size_t i = 0; !rc && i < t->ndim; i++) rc = pg_buf_addf(j->out, j->e, i ? ",%zu" : "%zu", t->shape[i]);
    return rc ? rc : lit(j, "]}");
}

static int value(const json *j, const msgpack_object *o)
{
    int rc = PG_OK;
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: return lit(j, "null");
    case MSGPACK_OBJECT_BOOLEAN: return lit(j, o->via.boolean ? "true" : "false");
    case MSGPACK_OBJECT_POSITIVE_INTEGER: return pg_buf_addf(j->out, j->e, "%llu", (unsigned long long)o->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return pg_buf_addf(j->out, j->e, "%lld", (long long)o->via.i64);
    case MSGPACK_OBJECT_FLOAT32: return number(j, o->via.f64, true);
    case MSGPACK_OBJECT_FLOAT64: return number(j, o->via.f64, false);
    case MSGPACK_OBJECT_STR: return string(j, o->via.str.ptr, o->via.str.size);
    case MSGPACK_OBJECT_BIN:
        if (j->with_tensors) return base64(j, (const unsigned char *)o->via.bin.ptr, o->via.bin.size);
        return pg_buf_addf(j->out, j->e, "{\"bytes\":%u}", o->via.bin.size);
    case MSGPACK_OBJECT_EXT: return pg_buf_addf(j->out, j->e, "{\"ext\":%d,\"bytes\":%u}", o->via.ext.type, o->via.ext.size);
    case MSGPACK_OBJECT_ARRAY:
        rc = lit(j, "[");
        for (uint32_t i = 0; !rc && i < o->via.array.size; i++) {
            if (i) rc = lit(j, ",");
            if (!rc) rc = value(j, &o->via.array.ptr[i]);
        }
        return rc ? rc : lit(j, "]");
    case MSGPACK_OBJECT_MAP:
        rc = lit(j, "{");
        for (uint32_t i = 0; !rc && i < o->via.map.size; i++) {
            const msgpack_object *k = &o->via.map.ptr[i].key;
            if (i) rc = lit(j, ",");
            if (rc) break;
            if (k->type == MSGPACK_OBJECT_STR) rc = string(j, k->via.str.ptr, k->via.str.size);
            else if (k->type == MSGPACK_OBJECT_BIN) rc = string(j, k->via.bin.ptr, k->via.bin.size);
            else rc = pg_buf_addf(j->out, j->e, "\"key %u\"", i);
            if (!rc) rc = lit(j, ":");
            if (!rc) rc = value(j, &o->via.map.ptr[i].val);
        }
        return rc ? rc : lit(j, "}");
    default: return lit(j, "null");
    }
}

int pg_rec_json(const pg_rec *r, size_t i, bool with_tensors, pg_buf *out, pg_err *e)
{
    json j = {out, with_tensors, e};
    pg_tensor t;
    msgpack_unpacked u;
    size_t off = 0;
    const pg_field *f = &r->fields[i];
    int rc = pg_rec_tensor(r, pg_rec_key(r, i), &t, e);
    if (rc == 1) return tensor(&j, &t);
    if (rc == PG_ENOMEM) return rc;
    msgpack_unpacked_init(&u);
    msgpack_unpack_return m = msgpack_unpack_next(&u, (const char *)r->bytes.data + f->val, f->val_len, &off);
    rc = m == MSGPACK_UNPACK_SUCCESS       ? value(&j, &u.data)
         : m == MSGPACK_UNPACK_NOMEM_ERROR ? pg_error_nomem(e)
                                           : pg_error(e, PG_EFORMAT, "'%s' cannot be decoded", pg_rec_key(r, i));
    msgpack_unpacked_destroy(&u);
    return rc;
}
