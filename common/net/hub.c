/* The Hugging Face hub: a revision becomes a commit first, and every file is asked for at that commit. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "net/sources.h"
#include "net/url.h"

enum { PAGES_MAX = 1000, DEPTH_MAX = 16, SHA = 40 };

static bool is_commit(const char *s) { return s && strlen(s) == SHA && strspn(s, "0123456789abcdef") == SHA; }

/* A data set's box begins with `datasets/`, as its addresses do; those of models begin with the owner, but for the API's. */
static bool is_set(const pg_source *s) { return !strncmp(s->box, "datasets/", 9); }

static const char *api_of(const pg_source *s) { return is_set(s) ? "api" : "api/models"; }

/* models--owner--repo or datasets--owner--repo in the cache of the hub's own client; NULL on no memory or no home. */
static char *cache_of(const pg_source *s)
{
    char *root = pg_hub_cache(), *path = NULL;
    const char *box = is_set(s) ? s->box + 9 : s->box;
    size_t owner = strcspn(box, "/");
    if (root) path = pg_format("%s/%s--%.*s--%s", root, is_set(s) ? "datasets" : "models", (int)owner, box, box + owner + 1);
    free(root);
    return path;
}

static int cached_commit(const pg_source *s, const char *cache, char **commit, pg_err *e)
{
    char *ref = pg_format("%s/refs/%s", cache, s->version ? s->version : "main");
    pg_buf b = {0};
    pg_err ignored = {0};
    int rc = ref ? PG_OK : pg_error_nomem(e);
    if (!rc && (pg_file_read(ref, 4096, &b, &ignored) || pg_buf_add(&b, "", 1, &ignored) || !is_commit((char *)b.data)))
        rc = pg_error(e, PG_FAIL, "'%s' is not in the hub's cache '%s', and HF_HUB_OFFLINE is set", s->text, cache);
    if (!rc && !(*commit = pg_strdup((char *)b.data))) rc = pg_error_nomem(e);
    pg_buf_free(&b);
    free(ref);
    return rc;
}

static int find_commit(pg_hosts *h, const pg_source *s, const char *cache, const char *page, char **commit, pg_err *e)
{
    *commit = NULL;
    const char *given = is_commit(s->version) ? s->version : pg_hosts_recall(h, s);
    if (given) return (*commit = pg_strdup(given)) ? PG_OK : pg_error_nomem(e);
    if (pg_hub_offline()) return cached_commit(s, cache, commit, e);
    char *base = pg_endpoint(PG_HOST_HUB), *repo = pg_url_encode(s->box, true), *rev = pg_url_encode(s->version ? s->version : "main", false);
    char *url = base && repo && rev ? pg_format("%s/%s/%s/revision/%s", base, api_of(s), repo, rev) : NULL;
    json_t *o = NULL;
    const pg_ask a = {.host = PG_HOST_HUB, .source = s->text, .page = page, .url = url};
    int rc = url ? pg_ask_json(h, &a, &o, NULL, NULL, e) : pg_error_nomem(e);
    const char *sha = json_string_value(json_object_get(o, "sha"));
    if (!rc && !is_commit(sha)) rc = pg_error(e, PG_EFORMAT, "cannot fetch '%s': the hub does not name the commit", s->text);
    if (!rc && !(*commit = pg_strdup(sha))) rc = pg_error_nomem(e);
    if (!rc) rc = pg_hosts_remember(h, s, *commit, e);
    json_decref(o);
    free(base);
    free(repo);
    free(rev);
    free(url);
    return rc;
}

static int add(pg_hosts *h, pg_items *l, const pg_source *s, const char *cache, const char *page, const char *commit, const char *name, pg_item **out, pg_err *e)
{
    char *source = pg_format("hf://%s/%s@%.12s", s->box, name, commit), *base = pg_endpoint(PG_HOST_HUB);
    char *repo = pg_url_encode(s->box, true), *file = pg_url_encode(name, true);
    pg_item *i = NULL;
    int rc = source && base && repo && file ? PG_OK : pg_error_nomem(e);
    if (!rc && !(i = pg_items_add(h, l, PG_HOST_HUB, source, name, e))) rc = e->code;
    if (i) {
        i->t.url = pg_format("%s/%s/resolve/%s/%s", base, repo, commit, file);
        i->t.page = pg_strdup(page);
        i->cached = cache ? pg_format("%s/snapshots/%s/%s", cache, commit, name) : NULL;
        if (!i->t.url || !i->t.page) rc = pg_error_nomem(e);
        if (i->cached && !pg_is_file(i->cached)) {
            free(i->cached);
            i->cached = NULL;
        }
        if (i->cached) { /* a link to the content, which is named by its checksum */
            char *real = realpath(i->cached, NULL), *slash = real ? strrchr(real, '/') : NULL;
            if (slash) (void)(pg_sum_hex(&i->t.want, PG_SUM_SHA256, slash + 1) || pg_sum_hex(&i->t.want, PG_SUM_GIT, slash + 1));
            free(real);
        }
    }
    free(source);
    free(base);
    free(repo);
    free(file);
    if (out) *out = i;
    return rc;
}

static int add_listed(pg_hosts *h, pg_items *l, const pg_source *s, const char *cache, const char *page, const char *commit, const json_t *v, pg_err *e)
{
    const char *type = json_string_value(json_object_get(v, "type")), *path = json_string_value(json_object_get(v, "path"));
    const json_t *lfs = json_object_get(v, "lfs");
    const char *oid = json_string_value(json_object_get(json_is_object(lfs) ? lfs : v, "oid"));
    pg_item *i = NULL;
    if (!type || strcmp(type, "file") || !path) return PG_OK;
    int rc = add(h, l, s, cache, page, commit, path, &i, e);
    if (rc || !i) return rc;
    i->t.size = pg_json_size(json_object_get(v, "size"));
    i->t.want = (pg_sums){0};
    if (oid) (void)(pg_sum_hex(&i->t.want, PG_SUM_SHA256, oid) || pg_sum_hex(&i->t.want, PG_SUM_GIT, oid));
    return PG_OK;
}

static int list_cached(pg_hosts *h, pg_items *l, const pg_source *s, const char *cache, const char *page, const char *commit, const char *below, int depth, pg_err *e)
{
    char *path = pg_format("%s/snapshots/%s%s%s", cache, commit, *below ? "/" : "", below);
    DIR *d = path ? opendir(path) : NULL;
    int rc = path ? PG_OK : pg_error_nomem(e);
    if (!rc && !d) rc = pg_error(e, PG_FAIL, "'%s' is not in the hub's cache '%s', and HF_HUB_OFFLINE is set", s->text, cache);
    for (struct dirent *x; !rc && depth < DEPTH_MAX && (x = readdir(d));) {
        if (!strcmp(x->d_name, ".") || !strcmp(x->d_name, "..")) continue;
        char *name = *below ? pg_path_join(below, x->d_name) : pg_strdup(x->d_name), *full = name ? pg_format("%s/%s", path, x->d_name) : NULL;
        if (!full) rc = pg_error_nomem(e);
        else if (pg_is_dir(full)) rc = list_cached(h, l, s, cache, page, commit, name, depth + 1, e);
        else rc = add(h, l, s, cache, page, commit, name, NULL, e);
        free(name);
        free(full);
    }
    if (d) closedir(d);
    free(path);
    return rc;
}

static int list_tree(pg_hosts *h, pg_items *out, const pg_source *s, const char *cache, const char *page, const char *commit, pg_err *e)
{
    char *base = pg_endpoint(PG_HOST_HUB), *repo = pg_url_encode(s->box, true);
    char *url = base && repo ? pg_format("%s/%s/%s/tree/%s?recursive=true&expand=false", base, api_of(s), repo, commit) : NULL;
    int rc = url ? PG_OK : pg_error_nomem(e);
    for (int n = 0; !rc && url; n++) {
        json_t *o = NULL, *v;
        size_t i;
        char *next = NULL;
        const pg_ask a = {.host = PG_HOST_HUB, .source = s->text, .page = page, .url = url};
        rc = pg_ask_json(h, &a, &o, NULL, &next, e);
        if (!rc && !json_is_array(o)) rc = pg_error(e, PG_EFORMAT, "cannot list '%s': the hub's reply is not a list", s->text);
        json_array_foreach(o, i, v)
            if (!rc) rc = add_listed(h, out, s, cache, page, commit, v, e);
        json_decref(o);
        if (!rc && next && !pg_url_same_origin(next, base)) rc = pg_error(e, PG_EFORMAT, "cannot list '%s': the next page is on another host", s->text);
        if (!rc && next && (!strcmp(next, url) || n > PAGES_MAX)) rc = pg_error(e, PG_EFORMAT, "cannot list '%s': the hub repeats a page", s->text);
        free(url);
        url = next;
    }
    free(url);
    free(base);
    free(repo);
    return rc;
}

int pg_hub_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e)
{
    char *cache = cache_of(s), *page = pg_format("https://huggingface.co/%s", s->box), *commit = NULL;
    int rc = page && (cache || !pg_hub_offline()) ? PG_OK : pg_error_nomem(e);
    out->folder = true;
    out->data = is_set(s);
    if (!rc) rc = find_commit(h, s, cache, page, &commit, e);
    if (!rc && pg_hub_offline()) rc = list_cached(h, out, s, cache, page, commit, "", 0, e);
    else if (!rc) rc = list_tree(h, out, s, cache, page, commit, e);
    if (!rc && !out->n) rc = pg_error(e, PG_FAIL, "'%s' holds no files", s->text);
    free(cache);
    free(page);
    free(commit);
    return rc;
}

int pg_hub_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e)
{
    char *cache = cache_of(s), *page = pg_format("https://huggingface.co/%s", s->box), *commit = NULL;
    pg_items l = {0};
    int rc = page && (cache || !pg_hub_offline()) ? PG_OK : pg_error_nomem(e);
    if (!rc) rc = find_commit(h, s, cache, page, &commit, e);
    if (!rc) rc = add(h, &l, s, cache, page, commit, s->file, NULL, e);
    if (!rc && !l.n) rc = pg_error(e, PG_EINVAL, "'%s' does not name a file", s->text);
    if (!rc && pg_hub_offline() && !l.at[0].cached) rc = pg_error(e, PG_FAIL, "'%s' is not in the hub's cache '%s', and HF_HUB_OFFLINE is set", s->text, cache);
    if (!rc) {
        *out = l.at[0];
        l.n = 0;
    }
    pg_items_free(&l);
    free(cache);
    free(page);
    free(commit);
    return rc;
}
