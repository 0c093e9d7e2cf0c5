#include "net/creds.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/guard.h"

enum { SECRET_MAX = 1 << 16 };

static const char *env(const char *name)
{
    const char *s = getenv(name);
    return s && *s ? s : NULL;
}

bool pg_env_flag(const char *name)
{
    const char *s = env(name);
    return s && (!strcmp(s, "1") || !strcasecmp(s, "on") || !strcasecmp(s, "yes") || !strcasecmp(s, "true"));
}

bool pg_hub_offline(void) { return pg_env_flag("HF_HUB_OFFLINE") || pg_env_flag("TRANSFORMERS_OFFLINE"); }

char *pg_env_dir(const char *variable, const char *below)
{
    const char *s = env(variable), *home = env("HOME");
    if (s) return pg_strdup(s);
    return home ? pg_path_join(home, below) : NULL;
}

char *pg_hub_home(void)
{
    if (env("HF_HOME")) return pg_strdup(env("HF_HOME"));
    char *cache = pg_env_dir("XDG_CACHE_HOME", ".cache"), *home = cache ? pg_path_join(cache, "huggingface") : NULL;
    free(cache);
    return home;
}

char *pg_hub_cache(void)
{
    const char *s = env("HF_HUB_CACHE") ? env("HF_HUB_CACHE") : env("HUGGINGFACE_HUB_CACHE");
    if (s) return pg_strdup(s);
    char *home = pg_hub_home(), *cache = home ? pg_path_join(home, "hub") : NULL;
    free(home);
    return cache;
}

char *pg_kagglehub_cache(void) { return pg_env_dir("KAGGLEHUB_CACHE", ".cache/kagglehub"); }

char *pg_endpoint(pg_host host)
{
    const char *s = NULL, *end = "";
    switch (host) {
    case PG_HOST_KAGGLE:
        s = env("KAGGLE_API_ENDPOINT") ? env("KAGGLE_API_ENDPOINT") : "https://www.kaggle.com";
        end = "/api/v1"; /* some clients want it in the variable */
        break;
    case PG_HOST_STORAGE: s = env("STORAGE_EMULATOR_HOST") ? env("STORAGE_EMULATOR_HOST") : "https://storage.googleapis.com"; break;
    case PG_HOST_HUB: s = env("HF_ENDPOINT") ? env("HF_ENDPOINT") : "https://huggingface.co"; break;
    case PG_HOST_WEB: s = ""; break;
    }
    char *base = strstr(s, "://") || !*s ? pg_strdup(s) : pg_format("http://%s", s);
    size_t n = base ? strlen(base) : 0;
    while (n && base[n - 1] == '/') base[--n] = 0;
    if (*end && base && pg_ends_with(base, end)) base[n - strlen(end)] = 0;
    return base;
}

void pg_auth_free(pg_auth *a)
{
    if (a->secret) explicit_bzero(a->secret, strlen(a->secret));
    free(a->secret);
    free(a->where);
    *a = (pg_auth){0};
}

/* A secret must be one line of printable characters: anything else would change the request it is put into. */
static int set(pg_auth *a, int kind, const char *secret, const char *where, pg_err *e)
{
    size_t n = strlen(secret);
    while (n && strchr(" \t\r\n", secret[n - 1])) n--;
    while (n && strchr(" \t\r\n", *secret)) secret++, n--;
    if (!n) return PG_OK;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)secret[i] < 33 || secret[i] == 127) return pg_error(e, PG_EINVAL, "the credentials from %s hold a blank or control character", where);
    a->secret = pg_strndup(secret, n);
    a->where = pg_strdup(where);
    if (!a->secret || !a->where) {
        pg_auth_free(a);
        return pg_error_nomem(e);
    }
    a->kind = kind ? PG_AUTH_BEARER : PG_AUTH_BASIC;
    return PG_OK;
}

/* The file's text in *b, ended by a 0; false where there is no such file. */
static bool read_secret(const char *path, pg_net *n, pg_buf *b, pg_err *e)
{
    struct stat st;
    if (!path || stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (n && st.st_mode & 044)
        pg_net_say(n, PG_SAY_WARNING, "the credentials in '%s' can be read by other users of this machine; 'chmod 600 %s' mends that", path, path);
    return !pg_file_read(path, SECRET_MAX, b, e) && !pg_buf_add(b, "", 1, e);
}

static void forget(pg_buf *b)
{
    if (b->data) explicit_bzero(b->data, b->cap);
    pg_buf_free(b);
}

static int token_file(pg_auth *a, const char *path, pg_net *n, pg_err *e)
{
    pg_buf b = {0};
    int rc = PG_OK;
    e->code = 0;
    if (read_secret(path, n, &b, e)) rc = set(a, 1, (char *)b.data, path, e);
    else rc = e->code;
    forget(&b);
    return rc;
}

static int kaggle_json(pg_auth *a, const char *path, pg_net *n, pg_err *e)
{
    pg_buf b = {0};
    e->code = 0;
    if (!read_secret(path, n, &b, e)) {
        forget(&b);
        return e->code;
    }
    json_t *o = pg_json_load((char *)b.data, b.len - 1, 0, NULL);
    const char *user = json_string_value(json_object_get(o, "username")), *key = json_string_value(json_object_get(o, "key"));
    char *both = user && *user && key && *key ? pg_format("%s:%s", user, key) : NULL;
    int rc = both ? set(a, 0, both, path, e) : pg_error(e, PG_EFORMAT, "'%s' is not JSON with 'username' and 'key'", path);
    if (both) explicit_bzero(both, strlen(both));
    free(both);
    json_decref(o);
    forget(&b);
    return rc;
}

/* dir/name, in the first of several dirs that has it. */
static int in_dir(pg_auth *a, char *dir, const char *name, int (*read)(pg_auth *, const char *, pg_net *, pg_err *), pg_net *n, pg_err *e)
{
    char *path = dir && !a->kind ? pg_path_join(dir, name) : NULL;
    int rc = path ? read(a, path, n, e) : PG_OK;
    free(path);
    free(dir);
    return rc;
}

static char *under_home(const char *below)
{
    const char *home = env("HOME");
    return home ? pg_path_join(home, below) : NULL;
}

static int kaggle(pg_auth *a, pg_net *n, pg_err *e)
{
    const char *token = env("KAGGLE_API_TOKEN"), *user = env("KAGGLE_USERNAME"), *key = env("KAGGLE_KEY"), *dir = env("KAGGLE_CONFIG_DIR");
    int rc = PG_OK;
    if (token && pg_is_file(token)) rc = token_file(a, token, n, e);
    else if (token) rc = set(a, 1, token, "KAGGLE_API_TOKEN", e);
    if (!rc) rc = in_dir(a, under_home(".kaggle"), "access_token", token_file, n, e);
    if (!rc) rc = in_dir(a, under_home(".kaggle"), "access_token.txt", token_file, n, e);
    if (!rc && !a->kind && user && key) {
        char *both = pg_format("%s:%s", user, key);
        rc = both ? set(a, 0, both, "KAGGLE_USERNAME and KAGGLE_KEY", e) : pg_error_nomem(e);
        free(both);
    }
    if (!rc) rc = in_dir(a, dir ? pg_strdup(dir) : NULL, "kaggle.json", kaggle_json, n, e);
    if (!rc) rc = in_dir(a, under_home(".kaggle"), "kaggle.json", kaggle_json, n, e);
    if (!rc) rc = in_dir(a, pg_env_dir("XDG_CONFIG_HOME", ".config"), "kaggle/kaggle.json", kaggle_json, n, e);
    return rc;
}

static int hub(pg_auth *a, pg_net *n, pg_err *e)
{
    const char *token = env("HF_TOKEN"), *old = env("HUGGING_FACE_HUB_TOKEN"), *path = env("HF_TOKEN_PATH");
    int rc = PG_OK;
    if (pg_env_flag("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return PG_OK;
    if (token) rc = set(a, 1, token, "HF_TOKEN", e);
    if (!rc && !a->kind && old) rc = set(a, 1, old, "HUGGING_FACE_HUB_TOKEN", e);
    if (!rc && !a->kind && path) rc = token_file(a, path, n, e);
    if (!rc && !path) rc = in_dir(a, pg_hub_home(), "token", token_file, n, e);
    return rc;
}

int pg_auth_find(pg_auth *a, pg_host host, pg_net *n, pg_err *e)
{
    const char *google = env("GOOGLE_OAUTH_ACCESS_TOKEN");
    *a = (pg_auth){0};
    switch (host) {
    case PG_HOST_KAGGLE: return kaggle(a, n, e);
    case PG_HOST_HUB: return hub(a, n, e);
    case PG_HOST_STORAGE: return google && !env("STORAGE_EMULATOR_HOST") ? set(a, 1, google, "GOOGLE_OAUTH_ACCESS_TOKEN", e) : PG_OK;
    case PG_HOST_WEB: break;
    }
    return PG_OK;
}
