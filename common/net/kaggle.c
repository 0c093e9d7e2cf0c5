/* Kaggle models: kaggle.com/api/v1 over GET; where a route answers 404, the newer form, a POST to the model service. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "net/sources.h"
#include "net/url.h"

enum { PAGES_MAX = 10000 };

/* owner, model, framework, variation of s->box, each to free. */
typedef struct handle {
    char *part[4];
    char *page; /* of the model */
} handle;

static void handle_free(handle *k)
{
    for (size_t i = 0; i < 4; i++) free(k->part[i]);
    free(k->page);
    *k = (handle){0};
}

static int handle_new(handle *k, const pg_source *s, pg_err *e)
{
    const char *c = s->box;
    *k = (handle){0};
    for (size_t i = 0; i < 4; i++, c++) {
        size_t n = strcspn(c, "/");
        if (!(k->part[i] = pg_strndup(c, n))) break;
        c += n;
    }
    if (k->part[3]) k->page = pg_format("https://www.kaggle.com/models/%s/%s", k->part[0], k->part[1]);
    if (k->page) return PG_OK;
    handle_free(k);
    return pg_error_nomem(e);
}

/* A URL of the service: https://api.kaggle.com/v1/..., or under the endpoint where one is set. */
static char *service(const char *method)
{
    char *base = pg_endpoint(PG_HOST_KAGGLE), *url;
    if (base && !strcmp(base, "https://www.kaggle.com")) url = pg_format("https://api.kaggle.com/v1/models.ModelApiService/%s", method);
    else url = base ? pg_format("%s/api/v1/models.ModelApiService/%s", base, method) : NULL;
    free(base);
    return url;
}

/* tensorFlow2 becomes MODEL_FRAMEWORK_TENSOR_FLOW_2. */
static void framework_name(const char *s, char *out, size_t n)
{
    size_t len = (size_t)snprintf(out, n, "MODEL_FRAMEWORK_");
    for (char last = 0; *s && len + 2 < n; last = *s++) {
        bool starts = islower((unsigned char)last) && (isupper((unsigned char)*s) || isdigit((unsigned char)*s));
        if (starts) out[len++] = '_';
        out[len++] = *s == '-' ? '_' : (char)toupper((unsigned char)*s);
    }
    out[len] = 0;
}

static char *service_body(const handle *k, const char *version, const char *token, const char *path, int page_size)
{
    char framework[80];
    framework_name(k->part[2], framework, sizeof framework);
    json_t *o = json_pack("{s:s,s:s,s:s,s:s}", "ownerSlug", k->part[0], "modelSlug", k->part[1], "framework", framework, "instanceSlug", k->part[3]);
    int bad = !o;
    if (!bad && version) bad = json_object_set_new(o, "versionNumber", json_integer(strtoll(version, NULL, 10)));
    if (!bad && page_size) bad = json_object_set_new(o, "pageSize", json_integer(page_size));
    if (!bad && token) bad = json_object_set_new(o, "pageToken", json_string(token));
    if (!bad && path) bad = json_object_set_new(o, "path", json_string(path));
    char *text = bad ? NULL : pg_json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

/* {endpoint}/api/v1/models/owner/model/framework/variation/below */
static char *route(const handle *k, const char *below)
{
    char *base = pg_endpoint(PG_HOST_KAGGLE), *url = base ? pg_format("%s/api/v1/models", base) : NULL;
    for (size_t i = 0; i < 5 && url; i++) {
        char *enc = i < 4 ? pg_url_encode(k->part[i], false) : pg_strdup(below), *longer = enc ? pg_format("%s/%s", url, enc) : NULL;
        free(enc);
        free(url);
        url = longer;
    }
    free(base);
    return url;
}

static int ask(pg_hosts *h, const handle *k, const pg_source *s, const char *below, const char *method, char *alt_body, json_t **out, pg_err *e)
{
    char *url = route(k, below), *alt = service(method);
    int rc = url && alt && alt_body ? PG_OK : pg_error_nomem(e);
    const pg_ask a = {PG_HOST_KAGGLE, s->text, k->page, url, alt, alt_body};
    if (!rc) rc = pg_ask_json(h, &a, out, NULL, NULL, e);
    free(url);
    free(alt);
    free(alt_body);
    return rc;
}

/* The version that s names, or the latest. */
static int find_version(pg_hosts *h, const handle *k, const pg_source *s, char **version, pg_err *e)
{
    json_t *o = NULL;
    *version = NULL;
    const char *given = s->version ? s->version : pg_hosts_recall(h, s);
    if (given) return (*version = pg_strdup(given)) ? PG_OK : pg_error_nomem(e);
    int rc = ask(h, k, s, "get", "GetModelInstance", service_body(k, NULL, NULL, NULL, 0), &o, e);
    if (rc) return rc;
    json_int_t v = json_integer_value(json_object_get(o, "versionNumber"));
    json_decref(o);
    if (v <= 0) return pg_error(e, PG_EFORMAT, "cannot fetch '%s': Kaggle does not say which version is the latest; name one: %s/1", s->text, s->text);
    if (!(*version = pg_format("%lld", (long long)v))) return pg_error_nomem(e);
    return pg_hosts_remember(h, s, *version, e);
}

/* root/models/box/version/file, if it is complete: a file without its marker is a broken download. */
static char *complete_copy(const char *root, const char *box, const char *version, const char *file)
{
    char *path = pg_format("%s/models/%s/%s/%s", root, box, version, file), *found = NULL;
    char *whole = pg_format("%s/models/%s/%s.complete", root, box, version);
    char *mark = pg_format("%s/models/%s/.complete/%s/%s.complete", root, box, version, file);
    if (path && whole && mark && pg_is_file(path) && (pg_is_file(whole) || pg_is_file(mark))) {
        found = path;
        path = NULL;
    }
    free(path);
    free(whole);
    free(mark);
    return found;
}

/* kagglehub's copy; the framework may be written jax or JAX. */
static char *cached(const handle *k, const char *version, const char *file)
{
    char *root = pg_kagglehub_cache(), *found = NULL, *upper = pg_strdup(k->part[2]);
    for (char *c = upper; c && *c; c++) *c = (char)toupper((unsigned char)*c);
    const char *const framework[] = {k->part[2], upper};
    for (size_t i = 0; i < 2 && root && upper && !found; i++) {
        char *box = pg_format("%s/%s/%s/%s", k->part[0], k->part[1], framework[i], k->part[3]);
        if (box) found = complete_copy(root, box, version, file);
        free(box);
    }
    free(root);
    free(upper);
    return found;
}

static int fill(pg_item *i, const handle *k, const char *version, const char *file, pg_err *e)
{
    char *enc = pg_url_encode(file, true), *below = enc ? pg_format("%s/download/%s", version, enc) : NULL;
    i->t.url = below ? route(k, below) : NULL;
    i->t.alt_url = service("DownloadModelInstanceVersion");
    i->t.alt_body = service_body(k, version, NULL, file, 0);
    i->t.page = pg_strdup(k->page);
    i->cached = cached(k, version, file);
    free(enc);
    free(below);
    return i->t.url && i->t.alt_url && i->t.alt_body && i->t.page ? PG_OK : pg_error_nomem(e);
}

static int add(pg_hosts *h, pg_items *l, const handle *k, const pg_source *s, const char *version, const char *file, uint64_t size, pg_err *e)
{
    char *source = pg_format("kaggle://%s/%s/%s", s->box, version, file);
    pg_item *i = source ? pg_items_add(h, l, PG_HOST_KAGGLE, source, file, e) : NULL;
    int rc = !source ? pg_error_nomem(e) : i ? fill(i, k, version, file, e) : e->code;
    if (i) i->t.size = size;
    free(source);
    return rc;
}

static int list_pages(pg_hosts *h, const handle *k, const pg_source *s, const char *version, pg_items *out, pg_err *e)
{
    char *token = NULL;
    int rc = PG_OK;
    for (int page = 0; !rc; page++) {
        char *enc = token ? pg_url_encode(token, false) : NULL;
        /* Which spelling of the token the server takes has changed; an unknown parameter is ignored. */
        char *below = token ? (enc ? pg_format("%s/files?page_size=25&pageToken=%s&page_token=%s", version, enc, enc) : NULL)
                            : pg_format("%s/files?page_size=25", version);
        json_t *o = NULL, *v;
        size_t i;
        rc = below ? ask(h, k, s, below, "ListModelInstanceVersionFiles", service_body(k, version, token, NULL, 25), &o, e) : pg_error_nomem(e);
        free(enc);
        free(below);
        json_array_foreach(json_object_get(o, "files"), i, v) {
            const char *name = json_string_value(json_object_get(v, "name"));
            if (!rc && name) rc = add(h, out, k, s, version, name, pg_json_size(json_object_get(v, "size")), e);
        }
        const char *next = json_string_value(json_object_get(o, "nextPageToken"));
        bool last = rc || !next || !*next;
        if (!last && ((token && !strcmp(token, next)) || page > PAGES_MAX))
            rc = pg_error(e, PG_EFORMAT, "cannot list '%s': the server repeats a page token", s->text);
        free(token);
        token = last || rc ? NULL : pg_strdup(next);
        if (!last && !rc && !token) rc = pg_error_nomem(e);
        json_decref(o);
        if (last) break;
    }
    free(token);
    return rc;
}

int pg_kaggle_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e)
{
    handle k;
    char *version = NULL;
    int rc = handle_new(&k, s, e);
    out->folder = true;
    if (!rc) rc = find_version(h, &k, s, &version, e);
    if (!rc) rc = list_pages(h, &k, s, version, out, e);
    if (!rc && !out->n) rc = pg_error(e, PG_FAIL, "'%s' holds no files", s->text);
    free(version);
    handle_free(&k);
    return rc;
}

int pg_kaggle_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e)
{
    handle k;
    char *version = NULL;
    pg_items l = {0};
    int rc = handle_new(&k, s, e);
    if (!rc) rc = find_version(h, &k, s, &version, e);
    if (!rc) rc = add(h, &l, &k, s, version, s->file, PG_SIZE_UNKNOWN, e);
    if (!rc && !l.n) rc = pg_error(e, PG_EINVAL, "'%s' does not name a file", s->text);
    if (!rc) {
        *out = l.at[0];
        l.n = 0;
    }
    pg_items_free(&l);
    free(version);
    handle_free(&k);
    return rc;
}
