/* Which files of a model's folder are needed. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "net/source.h"

bool pg_is_weights(const char *name) { return pg_ends_with(name, ".npz") || pg_ends_with(name, ".safetensors"); }

/* One npz file holds the whole model; several are the same in other precisions: x.npz, x.f16.npz, x.b16.npz. Half precision is
 * what the notebook takes, and half the size. The lower, the better. */
static int precision_rank(const char *name, size_t *stem)
{
    static const char *const ends[] = {".f16.npz", ".b16.npz", ".bf16.npz", ".f32.npz", ".npz"};
    size_t n = strlen(name);
    for (int i = 0; i < 5; i++)
        if (pg_ends_with(name, ends[i])) {
            *stem = n - strlen(ends[i]);
            return i;
        }
    return -1;
}

static bool is_shard(const char *name)
{
    const char *of = strstr(name, "-of-");
    return of && pg_ends_with(name, ".safetensors");
}

static bool is_setting(const char *name)
{
    static const char *const names[] = {"config.json", "preprocessor_config.json", "tokenizer.model", "paligemma_tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return false;
}

static pg_item *named(pg_items *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->at[i].name, name)) return &l->at[i];
    return NULL;
}

/* The best npz; several models are an error. */
static int select_npz(pg_items *l, const char *source, pg_err *e)
{
    pg_item *best = NULL;
    int best_rank = 9;
    size_t best_stem = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->at[i].name;
        size_t stem = 0;
        int rank = strchr(name, '/') ? -1 : precision_rank(name, &stem);
        if (rank < 0) continue;
        if (best && (stem != best_stem || strncmp(name, best->name, stem)))
            return pg_error(e, PG_EINVAL, "'%s' holds several models, among them '%s' and '%s': name one, or give --all", source, best->name, name);
        best_stem = stem;
        if (rank < best_rank) best = &l->at[i], best_rank = rank;
    }
    if (best) best->skip = false;
    return PG_OK;
}

int pg_select_model(pg_items *l, const char *source, pg_err *e)
{
    bool weights = false, shards = false, npz = false;
    if (l->data) return PG_OK;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->at[i].name;
        if (strchr(name, '/') || !pg_is_weights(name)) continue;
        weights = true;
        shards = shards || is_shard(name);
        npz = npz || pg_ends_with(name, ".npz");
    }
    if (!weights) return PG_OK;
    pg_item *index = named(l, "model.safetensors.index.json"), *single = named(l, "model.safetensors");
    bool by_index = index && shards;
    for (size_t i = 0; i < l->n; i++) {
        pg_item *it = &l->at[i];
        const char *name = it->name;
        bool top = !strchr(name, '/');
        if (by_index) it->skip = !(it == index || (top && is_shard(name))); /* which of them: pg_select_shards */
        else if (single) it->skip = it != single;
        else it->skip = npz || !top || !pg_ends_with(name, ".safetensors");
        if (top && is_setting(name)) it->skip = false;
    }
    return npz && !by_index && !single ? select_npz(l, source, e) : PG_OK;
}

static int read_index(pg_hosts *h, pg_item *index, json_t **out, pg_err *e)
{
    pg_transfer t = PG_TRANSFER_INIT;
    pg_buf b = {0};
    int rc;
    t.host = index->t.host;
    t.auth = index->t.auth;
    t.want = index->t.want;
    t.source = pg_strdup(index->t.source);
    t.url = pg_strdup(index->t.url);
    t.page = index->t.page ? pg_strdup(index->t.page) : NULL;
    if (index->cached) rc = pg_file_read(index->cached, t.max, &b, e);
    else rc = t.source && t.url ? pg_net_fetch(h->net, &t, e) : pg_error_nomem(e);
    const pg_buf *from = index->cached ? &b : &t.data;
    *out = rc ? NULL : pg_json_load((char *)from->data, from->len, 0, NULL);
    pg_buf_free(&b);
    pg_transfer_free(&t);
    return rc;
}

int pg_select_shards(pg_hosts *h, pg_items *l, const char *source, pg_err *e)
{
    pg_item *index = named(l, "model.safetensors.index.json");
    json_t *o = NULL, *v;
    const char *key;
    if (l->data || !index || index->skip) return PG_OK;
    int rc = read_index(h, index, &o, e);
    json_t *map = json_object_get(o, "weight_map");
    if (!rc && !json_is_object(map)) rc = pg_error(e, PG_EFORMAT, "'%s': its index has no 'weight_map'", source);
    for (size_t i = 0; !rc && i < l->n; i++)
        if (!strchr(l->at[i].name, '/') && pg_is_weights(l->at[i].name)) l->at[i].skip = true;
    json_object_foreach(map, key, v) {
        pg_item *shard = json_is_string(v) ? named(l, json_string_value(v)) : NULL;
        if (shard) shard->skip = false;
        else if (!rc) rc = pg_error(e, PG_EFORMAT, "'%s': the shard of '%s' that its index names is not there", source, key);
    }
    json_decref(o);
    return rc;
}
