/* Reading safetensors: 8 bytes of header length, a JSON header, data. One file, or an index that names several. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "weights/internal.h"

enum { HEADER_MAX = 25000000, INDEX_MAX = 25000000, FILES_MAX = 10000 };

typedef struct span {
    size_t a, b;
    const char *name;
} span;

static int by_start(const void *x, const void *y)
{
    const span *p = x, *q = y;
    if (p->a != q->a)
        return p->a < q->a ? -1 : 1;
    return p->b < q->b ? -1 : p->b > q->b;
}

static int overlaps(span *s, size_t n, const char *path, pg_err *e)
{
    qsort(s, n, sizeof *s, by_start);
    for (size_t i = 1; i < n; i++)
        if (s[i].a < s[i - 1].b)
            return pg_error(e, PG_EFORMAT, "cannot read '%s': tensors '%s' and '%s' overlap", path, s[i - 1].name, s[i].name);
    return PG_OK;
}

static bool size_of(const json_t *j, size_t *v)
{
    if (!json_is_integer(j) || json_integer_value(j) < 0)
        return false;
    *v = (size_t)json_integer_value(j);
    return true;
}

static int tensor(const char *path, const char *name, const json_t *j, const unsigned char *data, size_t room, pg_weight *t, span *s, pg_err *e)
{
    const char *dtype = json_string_value(json_object_get(j, "dtype"));
    const json_t *shape = json_object_get(j, "shape"), *off = json_object_get(j, "data_offsets");
    *t = (pg_weight){.count = 1};
    if (!dtype || !json_is_array(shape) || json_array_size(off) != 2 || !size_of(json_array_get(off, 0), &s->a) ||
        !size_of(json_array_get(off, 1), &s->b))
        return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' lacks dtype, shape or data_offsets", path, name);
    if (!strcmp(dtype, "F32"))
        t->dtype = PG_F32;
    else if (!strcmp(dtype, "F16"))
        t->dtype = PG_F16;
    else if (!strcmp(dtype, "BF16"))
        t->dtype = PG_BF16;
    else if (!strcmp(dtype, "I8"))
        t->dtype = PG_I8;
    else
        return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' has dtype '%s': only F32, F16, BF16 and I8 are supported", path, name, dtype);
    t->ndim = json_array_size(shape);
    if (t->ndim > PG_MAX_DIMS)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' has %zu dimensions", path, name, t->ndim);
    size_t bytes;
    for (size_t i = 0; i < t->ndim; i++)
        if (!size_of(json_array_get(shape, i), &t->shape[i]) || !pg_mul(t->count, t->shape[i], &t->count))
            return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' has a bad shape", path, name);
    if (s->a > s->b || s->b > room)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' reaches outside the file (cut?)", path, name);
    if (!pg_mul(t->count, pg_dtype_size(t->dtype), &bytes) || bytes != s->b - s->a)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' has %zu bytes, its shape needs another number", path, name, s->b - s->a);
    t->data = data + s->a;
    s->name = name;
    return PG_OK;
}

/* One form of a name: newer files have "model." in front, older ones "model." after "language_model.". */
static int add(pg_weights *w, const char *name, const pg_weight *t, size_t file, pg_err *e)
{
    const char *p = name;
    if (!strncmp(p, "model.", 6))
        p += 6;
    if (!strncmp(p, "language_model.model.", 21)) {
        char *plain = pg_format("language_model.%s", p + 21);
        if (!plain)
            return pg_error_nomem(e);
        int rc = pg_weights_add(w, name, plain, strlen(plain), t, file, e);
        free(plain);
        return rc;
    }
    return pg_weights_add(w, name, p, strlen(p), t, file, e);
}

static int map_file(pg_weights *w, const char *path, pg_err *e)
{
    pg_shard *f = pg_realloc(w->files, w->n_files + 1, sizeof *f);
    if (!f)
        return pg_error_nomem(e);
    w->files = f;
    f += w->n_files;
    *f = (pg_shard){.path = pg_strdup(path)};
    if (!f->path)
        return pg_error_nomem(e);
    w->n_files++;
    return pg_map_open(&f->map, path, e);
}

int pg_safetensors_load(pg_weights *w, const char *path, pg_err *e)
{
    int rc = map_file(w, path, e);
    if (rc)
        return rc;
    const pg_map *m = &w->files[w->n_files - 1].map;
    if (m->len < 8)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': too short for a safetensors file", path);
    uint64_t len = pg_le64(m->data);
    if (len > HEADER_MAX)
        return pg_error(e, PG_ELIMIT, "cannot read '%s': header of %llu bytes is over the limit of %d: not safetensors?", path,
                        (unsigned long long)len, HEADER_MAX);
    if (len > m->len - 8)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': cut inside the header", path);
    json_error_t why;
    span *s = NULL;
    json_t *j = pg_json_load((const char *)m->data + 8, (size_t)len, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(j)) {
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': bad header: %s", path, j ? "not an object" : why.text);
        goto out;
    }
    if (!(s = pg_calloc(json_object_size(j), sizeof *s))) {
        rc = pg_error_nomem(e);
        goto out;
    }
    size_t n = 0, room = m->len - 8 - (size_t)len;
    const char *name;
    json_t *v;
    json_object_foreach(j, name, v)
    {
        const char *base = strcmp(name, "__metadata__") ? NULL : json_string_value(json_object_get(v, "pg_base"));
        if (base && !w->base && !(w->base = pg_strdup(base))) {
            rc = pg_error_nomem(e);
            goto out;
        }
        if (!strcmp(name, "__metadata__") || pg_ends_with(name, "embeddings.position_ids"))
            continue;
        pg_weight t;
        if ((rc = tensor(path, name, v, m->data + 8 + len, room, &t, &s[n++], e)) || (rc = add(w, name, &t, w->n_files - 1, e)))
            goto out;
    }
    rc = overlaps(s, n, path, e);
out:
    free(s);
    json_decref(j);
    return rc;
}

/* A name from an index must stay in the index's folder. */
static bool plain_file(const char *s)
{
    return *s && !strchr(s, '/') && strcmp(s, "..") != 0;
}

int pg_safetensors_load_index(pg_weights *w, const char *path, pg_err *e)
{
    pg_buf b = {0};
    json_error_t why;
    json_t *j = NULL, *files = NULL;
    const char *name;
    json_t *v;
    int rc = pg_file_read(path, INDEX_MAX, &b, e);
    if (rc)
        goto out;
    j = pg_json_load(b.len ? (const char *)b.data : "", b.len, JSON_REJECT_DUPLICATES, &why);
    const json_t *map = json_object_get(j, "weight_map");
    if (!json_is_object(map)) {
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': %s", path, j ? "no weight_map" : why.text);
        goto out;
    }
    if (!(files = json_object())) {
        rc = pg_error_nomem(e);
        goto out;
    }
    json_object_foreach((json_t *)(uintptr_t)map, name, v)
    {
        const char *file = json_string_value(v);
        if (!file || !plain_file(file)) {
            rc = pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' is not in a file of the same folder", path, name);
            goto out;
        }
        if (json_object_get(files, file))
            continue;
        char *full = pg_path_join(w->dir, file);
        if (!full || json_object_set_new(files, file, json_integer((json_int_t)w->n_files)))
            rc = pg_error_nomem(e);
        else if (w->n_files >= FILES_MAX)
            rc = pg_error(e, PG_ELIMIT, "cannot read '%s': more than %d files", path, FILES_MAX);
        else
            rc = pg_safetensors_load(w, full, e);
        free(full);
        if (rc)
            goto out;
    }
    size_t found = 0;
    for (size_t i = 0; i < w->n; i++) {
        const char *file = json_string_value(json_object_get(map, w->t[i].name));
        const json_t *at = file ? json_object_get(files, file) : NULL;
        found += at && (size_t)json_integer_value(at) == w->t[i].file;
    }
    if (found != w->n)
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': its files hold tensors that it does not list", path);
    size_t listed = 0;
    json_object_foreach((json_t *)(uintptr_t)map, name, v) listed += !pg_ends_with(name, "embeddings.position_ids");
    if (!rc && listed != w->n)
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': it lists %zu tensors, its files hold %zu", path, listed, w->n);
out:
    json_decref(files);
    json_decref(j);
    pg_buf_free(&b);
    return rc;
}
