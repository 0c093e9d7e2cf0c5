/* Opening a checkpoint: which file, which names, and the list of tensors. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "weights/internal.h"

enum { CANDIDATES_MAX = 1000 };

int pg_weights_add(pg_weights *w, const char *name, const char *plain, size_t plain_len, const pg_weight *t, size_t file, pg_err *e)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        pg_tensor_entry *p = pg_realloc(w->t, cap, sizeof *p);
        if (!p)
            return pg_error_nomem(e);
        w->t = p, w->cap = cap;
    }
    pg_tensor_entry *x = &w->t[w->n];
    *x = (pg_tensor_entry){.w = *t, .name = pg_strdup(name), .plain = pg_strndup(plain, plain_len), .file = file};
    if (!x->name || !x->plain) {
        free(x->name);
        free(x->plain);
        return pg_error_nomem(e);
    }
    x->w.name = x->name;
    w->n++;
    return PG_OK;
}

static int by_plain(const void *a, const void *b)
{
    return strcmp((*(pg_tensor_entry *const *)a)->plain, (*(pg_tensor_entry *const *)b)->plain);
}

static int sort_names(pg_weights *w, pg_err *e)
{
    if (!(w->sorted = pg_alloc(w->n, sizeof(pg_tensor_entry *))))
        return pg_error_nomem(e);
    for (size_t i = 0; i < w->n; i++)
        w->sorted[i] = &w->t[i];
    qsort(w->sorted, w->n, sizeof *w->sorted, by_plain);
    for (size_t i = 1; i < w->n; i++)
        if (!strcmp(w->sorted[i - 1]->plain, w->sorted[i]->plain))
            return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' is there twice", w->path, w->sorted[i]->name);
    return PG_OK;
}

const pg_weight *pg_weights_find(const pg_weights *w, const char *plain)
{
    pg_tensor_entry key = {.plain = (char *)(uintptr_t)plain}, *k = &key;
    pg_tensor_entry **hit = w->n ? bsearch(&k, w->sorted, w->n, sizeof *w->sorted, by_plain) : NULL;
    return hit ? &(*hit)->w : NULL;
}

bool pg_dtype_of_descr(const char *descr, pg_dtype *t)
{
    static const char *const descrs[] = {"<f4", "<f2", "|V2"};
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(descr, descrs[i]))
            return *t = (pg_dtype)i, true;
    return false;
}

/* Joins int8 tensors to their scales. */
static int find_scales(pg_weights *w, pg_err *e)
{
    for (size_t i = 0; i < w->n; i++) {
        pg_weight *t = &w->t[i].w;
        if (t->dtype != PG_I8)
            continue;
        char *name = pg_format("%s_scale", w->t[i].plain);
        if (!name)
            return pg_error_nomem(e);
        pg_weight *s = (pg_weight *)(uintptr_t)pg_weights_find(w, name);
        free(name);
        if (t->ndim != 2 || !s || s->dtype != PG_F32 || s->ndim != 2 || s->shape[0] != t->shape[0] || s->shape[1] != pg_int8_groups(t->shape[1]))
            return pg_error(e, PG_EFORMAT, "cannot read '%s': int8 tensor '%s' needs two dimensions and '%s_scale' in F32, [rows, groups of 256]", w->path,
                            t->name, t->name);
        t->scale = s->data;
        ((pg_tensor_entry *)(void *)s)->is_scale = true;
    }
    return PG_OK;
}

/* big_vision's load_params: the subtree params, else opt/target, else everything. */
static int load_npz(pg_weights *w, pg_err *e)
{
    static const char *const prefixes[] = {"params/", "opt/target/", ""};
    int rc = pg_npz_open(&w->npz, w->path, e);
    if (rc)
        return rc;
    size_t n = pg_npz_count(w->npz), k = 0;
    for (; k < 2; k++) {
        bool any = false;
        for (size_t i = 0; i < n; i++)
            any |= !strncmp(pg_npz_at(w->npz, i)->key, prefixes[k], strlen(prefixes[k]));
        if (any)
            break;
    }
    for (size_t i = 0; i < n; i++) {
        const pg_npy *a = pg_npz_at(w->npz, i);
        size_t skip = strlen(prefixes[k]);
        const char *plain = a->key + skip;
        if (strncmp(a->key, prefixes[k], skip) != 0)
            continue;
        bool ours = !strncmp(plain, "llm/", 4) || !strncmp(plain, "img/", 4);
        pg_weight t = {.ndim = a->ndim, .count = a->count, .data = a->data};
        memcpy(t.shape, a->shape, sizeof t.shape);
        if (!pg_dtype_of_descr(a->descr, &t.dtype)) {
            if (!ours)
                continue;
            return pg_error(e, PG_EFORMAT, "cannot read '%s': tensor '%s' has dtype '%s': only '<f4', '<f2' and '|V2' (bfloat16) are weights",
                            w->path, a->key, a->descr);
        }
        if (!*prefixes[k] && !ours)
            continue;
        if ((rc = pg_weights_add(w, a->key, plain, strlen(plain), &t, 0, e)))
            return rc;
    }
    return PG_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The one checkpoint of a folder: an index if there is one, else the only npz or safetensors. */
static int choose(const char *dir, char **path, pg_err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return pg_error_errno(e, "cannot open folder '%s'", dir);
    char **names = NULL;
    size_t n = 0, indices = 0;
    int rc = PG_OK;
    bool adapter = false; /* lies beside its base, or alone */
    pg_buf list = {0};
    for (const struct dirent *f; !rc && (f = readdir(d));) {
        bool index = pg_ends_with(f->d_name, ".safetensors.index.json");
        adapter |= !strncmp(f->d_name, "adapter_model.", 14);
        if (*f->d_name == '.' || !strncmp(f->d_name, "adapter_model.", 14) || (!index && !pg_ends_with(f->d_name, ".npz") && !pg_ends_with(f->d_name, ".safetensors")))
            continue;
        if (n == CANDIDATES_MAX) {
            rc = pg_error(e, PG_ELIMIT, "folder '%s' holds more than %d checkpoints", dir, CANDIDATES_MAX);
            break;
        }
        char **grown = pg_realloc(names, n + 1, sizeof *names);
        if (grown)
            names = grown;
        if (!grown || !(names[n] = pg_strdup(f->d_name)))
            rc = pg_error_nomem(e);
        else
            n++, indices += index;
    }
    closedir(d);
    if (rc)
        goto out;
    if (n)
        qsort(names, n, sizeof *names, by_text);
    size_t fit = 0, pick = 0;
    for (size_t i = 0; i < n; i++) {
        if (indices && !pg_ends_with(names[i], ".index.json"))
            continue;
        if (fit++ && (rc = pg_buf_addf(&list, e, ", ")))
            goto out;
        if ((rc = pg_buf_addf(&list, e, "%s", names[i])))
            goto out;
        pick = i;
    }
    if (!fit)
        rc = pg_error(e, PG_EFORMAT, "folder '%s' holds no weights (*.npz or *.safetensors)%s", dir, adapter ? ", but an adapter: name its base with -m, and it with --adapter; or pg-convert --merge BASE ADAPTER NEW" : "");
    else if (fit > 1)
        rc = pg_error(e, PG_EFORMAT, "folder '%s' holds several checkpoints: name one of %.*s", dir, (int)(list.len < 300 ? list.len : 300), (char *)list.data);
    else if (!(*path = pg_path_join(dir, names[pick])))
        rc = pg_error_nomem(e);
out:
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    pg_buf_free(&list);
    return rc;
}

static int find_file(const char *path, char **file, pg_err *e)
{
    *file = NULL;
    if (pg_is_dir(path))
        return choose(path, file, e);
    if (!pg_is_file(path) && pg_ends_with(path, ".safetensors")) {
        if (!(*file = pg_format("%s.index.json", path)))
            return pg_error_nomem(e);
        if (pg_is_file(*file))
            return PG_OK;
        free(*file);
        *file = NULL;
    }
    if (!pg_is_file(path))
        return pg_error(e, PG_EIO, "cannot open '%s': no such file or folder", path);
    return (*file = pg_strdup(path)) ? PG_OK : pg_error_nomem(e);
}

int pg_weights_open(pg_weights **out, const char *path, pg_err *e)
{
    *out = NULL;
    pg_weights *w = pg_calloc(1, sizeof *w);
    if (!w)
        return pg_error_nomem(e);
    int rc = find_file(path, &w->path, e);
    if (rc)
        goto out;
    if (!(w->dir = pg_path_dir(w->path))) {
        rc = pg_error_nomem(e);
        goto out;
    }
    w->format = PG_SAFETENSORS;
    if (pg_ends_with(w->path, ".safetensors.index.json")) {
        rc = pg_safetensors_load_index(w, w->path, e);
    } else if (pg_ends_with(w->path, ".safetensors")) {
        rc = pg_safetensors_load(w, w->path, e);
    } else if (pg_ends_with(w->path, ".npz")) {
        w->format = PG_NPZ;
        rc = load_npz(w, e);
    } else {
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': not named *.npz, *.safetensors or *.safetensors.index.json", w->path);
    }
    if (rc || (rc = sort_names(w, e)) || (rc = find_scales(w, e)))
        goto out;
    pg_err why = {0};
    rc = pg_weights_resolve(w, &why);
    if (rc == PG_ENOMEM) {
        rc = pg_error_nomem(e);
        goto out;
    }
    if (rc)
        w->why = why;
    *out = w;
    return PG_OK;
out:
    pg_weights_close(w);
    return rc;
}

void pg_weights_close(pg_weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++) {
        free(w->t[i].name);
        free(w->t[i].plain);
    }
    for (size_t i = 0; i < w->n_files; i++) {
        pg_map_close(&w->files[i].map);
        free(w->files[i].path);
    }
    for (size_t i = 0; w->res && i < pg_n_names; i++)
        free(w->res[i].src);
    free(w->res);
    free(w->canon);
    free(w->base);
    free(w->pos);
    free(w->files);
    free(w->sorted);
    free(w->t);
    free(w->path);
    free(w->dir);
    pg_npz_close(w->npz);
    free(w);
}

pg_file_format pg_weights_format(const pg_weights *w)
{
    return w->format;
}

const char *pg_weights_path(const pg_weights *w)
{
    return w->path;
}

size_t pg_weights_count(const pg_weights *w)
{
    return w->n;
}

const pg_weight *pg_weights_at(const pg_weights *w, size_t i)
{
    return i < w->n ? &w->t[i].w : NULL;
}

static bool is_used(const pg_weights *w, const char *key)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->t[i].used && !strcmp(w->t[i].name, key))
            return true;
    return false;
}

/* Of an npz, arrays outside of the subtree that was read are among them. */
size_t pg_weights_others(const pg_weights *w, const char **first)
{
    size_t others = w->npz ? pg_npz_count(w->npz) - !!pg_npz_find(w->npz, PG_EXTRA_ROWS) : 0;
    *first = NULL;
    for (size_t i = 0; w->npz && i < w->n; i++)
        others -= w->t[i].used;
    for (size_t i = 0; others && !*first && i < pg_npz_count(w->npz); i++)
        if (strcmp(pg_npz_at(w->npz, i)->key, PG_EXTRA_ROWS) != 0 && !is_used(w, pg_npz_at(w->npz, i)->key))
            *first = pg_npz_at(w->npz, i)->key;
    for (size_t i = 0; !w->npz && i < w->n; i++) {
        const pg_tensor_entry *x = &w->t[i];
        if (x->used || x->is_scale || pg_is_head(x->plain))
            continue;
        if (!others++)
            *first = x->name;
    }
    return others;
}

size_t pg_weights_bytes(const pg_weights *w)
{
    size_t sum = 0;
    for (size_t i = 0; i < w->n; i++)
        sum += w->t[i].w.count * pg_dtype_size(w->t[i].w.dtype);
    return sum;
}

int pg_weights_shape(const pg_weights *w, pg_model_shape *s, pg_err *e)
{
    if (w->why.code)
        return pg_error(e, w->why.code, "%s", w->why.msg);
    *s = w->shape;
    return PG_OK;
}

size_t pg_canonical_count(const pg_weights *w)
{
    return w->why.code ? 0 : w->n_canon;
}

const pg_canonical *pg_canonical_at(const pg_weights *w, size_t i)
{
    return i < pg_canonical_count(w) ? &w->canon[i] : NULL;
}
