#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "text/coco.h"

/* A name under which an image is found. */
struct pg_coco_key {
    char *name;
    size_t image, rank; /* ids before file names */
};

static int by_name(const void *a, const void *b)
{
    const struct pg_coco_key *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->rank < y->rank ? -1 : x->rank > y->rank;
}

static char *id_text(const json_t *v)
{
    if (json_is_integer(v))
        return pg_format("%lld", (long long)json_integer_value(v));
    return json_is_string(v) ? pg_strdup(json_string_value(v)) : NULL;
}

static int add_key(pg_coco *c, char *name, size_t image, size_t rank, pg_err *e)
{
    if (!name)
        return pg_error_nomem(e);
    if ((c->n_keys & (c->n_keys - 1)) == 0) {
        struct pg_coco_key *k = pg_realloc(c->keys, c->n_keys ? c->n_keys * 2 : 1, sizeof *k);
        if (!k) {
            free(name);
            return pg_error_nomem(e);
        }
        c->keys = k;
    }
    c->keys[c->n_keys++] = (struct pg_coco_key){name, image, rank};
    return PG_OK;
}

static int add_image(pg_coco *c, const json_t *id, const char *file, pg_err *e)
{
    if ((c->n & (c->n - 1)) == 0) {
        pg_coco_image *im = pg_realloc(c->images, c->n ? c->n * 2 : 1, sizeof *im);
        if (!im)
            return pg_error_nomem(e);
        c->images = im;
    }
    pg_coco_image *im = &c->images[c->n];
    *im = (pg_coco_image){.id = id_text(id), .file_name = file ? pg_strdup(file) : NULL, .whole_number = json_is_integer(id)};
    c->n++;
    if (!im->id || (file && !im->file_name))
        return pg_error_nomem(e);
    return add_key(c, pg_strdup(im->id), c->n - 1, 0, e);
}

/* photos/cat.jpg is found as such, as cat.jpg and as cat. */
static int add_file_names(pg_coco *c, size_t image, pg_err *e)
{
    const char *file = c->images[image].file_name, *base, *dot;
    if (!file)
        return PG_OK;
    base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    dot = strrchr(base, '.');
    int rc = add_key(c, pg_strdup(file), image, 1, e);
    if (!rc && base != file)
        rc = add_key(c, pg_strdup(base), image, 2, e);
    if (!rc && dot && dot > base)
        rc = add_key(c, pg_strndup(base, (size_t)(dot - base)), image, 3, e);
    return rc;
}

static int add_caption(pg_coco_image *im, const char *s, pg_err *e)
{
    if (im->n == im->cap) {
        size_t cap = im->cap ? im->cap * 2 : 5;
        char **p = pg_realloc(im->captions, cap, sizeof *p);
        if (!p)
            return pg_error_nomem(e);
        im->captions = p;
        im->cap = cap;
    }
    if (!(im->captions[im->n] = pg_strdup(s)))
        return pg_error_nomem(e);
    im->n++;
    return PG_OK;
}

static const struct pg_coco_key *find(const pg_coco *c, const char *name)
{
    size_t lo = 0, hi = c->n_keys;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(c->keys[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_keys && !strcmp(c->keys[lo].name, name) ? &c->keys[lo] : NULL;
}

static bool is_id(const json_t *v) { return json_is_integer(v) || json_is_string(v); }

/* First the images, so that their order is the file's; then those that only annotations name. */
static int read_images(pg_coco *c, const json_t *images, const json_t *annotations, const char *path, pg_err *e)
{
    json_t *seen = json_object(), *v;
    size_t i;
    int rc = seen ? PG_OK : pg_error_nomem(e);
    json_array_foreach(images, i, v) {
        const json_t *id = json_object_get(v, "id");
        char *name = NULL;
        if (rc)
            break;
        if (!is_id(id))
            rc = pg_error(e, PG_EFORMAT, "'%s': image %zu has no id", path, i);
        else if (!(name = id_text(id)) || json_object_set_new_nocheck(seen, name, json_true()))
            rc = pg_error_nomem(e);
        else
            rc = add_image(c, id, json_string_value(json_object_get(v, "file_name")), e);
        free(name);
    }
    json_array_foreach(annotations, i, v) {
        const json_t *id = json_object_get(v, "image_id");
        char *name = NULL;
        if (rc)
            break;
        if (!is_id(id) || !json_is_string(json_object_get(v, "caption")))
            rc = pg_error(e, PG_EFORMAT, "'%s': annotation %zu has no image_id or no caption", path, i);
        else if (!(name = id_text(id)))
            rc = pg_error_nomem(e);
        else if (!json_object_get(seen, name))
            rc = json_object_set_new_nocheck(seen, name, json_true()) ? pg_error_nomem(e) : add_image(c, id, NULL, e);
        free(name);
    }
    json_decref(seen);
    return rc;
}

int pg_coco_open(pg_coco *c, const char *path, size_t max, pg_err *e)
{
    json_error_t why;
    pg_buf b = {0};
    size_t i;
    *c = (pg_coco){0};
    int rc = pg_file_read(path, max, &b, e);
    json_t *file = rc ? NULL : pg_json_load(b.len ? (const char *)b.data : "", b.len, 0, &why), *annotations = json_object_get(file, "annotations"), *v;
    pg_buf_free(&b);
    if (!file)
        return rc ? rc
                  : pg_error(e, PG_EFORMAT, "'%s', line %d: %s%s", path, why.line, why.text,
                             json_error_code(&why) == json_error_end_of_input_expected ? " (JSON lines are in files named .jsonl)" : "");
    if (!json_is_array(annotations)) {
        bool list = json_is_array(file);
        json_decref(file);
        return pg_error(e, PG_EFORMAT, "'%s' is no COCO captions file: %s", path, list ? "a list, of which jq -c '.[]' makes JSON lines" : "no list 'annotations'");
    }
    rc = read_images(c, json_object_get(file, "images"), annotations, path, e);
    for (i = 0; !rc && i < c->n; i++)
        rc = add_file_names(c, i, e);
    if (!rc && c->n_keys)
        qsort(c->keys, c->n_keys, sizeof *c->keys, by_name);
    json_array_foreach(annotations, i, v) {
        char *name = rc ? NULL : id_text(json_object_get(v, "image_id"));
        if (rc)
            break;
        rc = name ? add_caption(&c->images[find(c, name)->image], json_string_value(json_object_get(v, "caption")), e) : pg_error_nomem(e);
        free(name);
    }
    json_decref(file);
    if (rc)
        pg_coco_close(c);
    return rc;
}

void pg_coco_close(pg_coco *c)
{
    for (size_t i = 0; i < c->n; i++) {
        for (size_t k = 0; k < c->images[i].n; k++)
            free(c->images[i].captions[k]);
        free(c->images[i].captions);
        free(c->images[i].id);
        free(c->images[i].file_name);
    }
    for (size_t i = 0; i < c->n_keys; i++)
        free(c->keys[i].name);
    free(c->images);
    free(c->keys);
    *c = (pg_coco){0};
}

const pg_coco_image *pg_coco_find(const pg_coco *c, const char *name)
{
    const struct pg_coco_key *k = find(c, name);
    return k ? &c->images[k->image] : NULL;
}
