#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/guard.h"
#include "base/num.h"
#include "net/internal.h"
#include "net/sources.h"
#include "net/url.h"

enum { API_MAX = 64 << 20 };

static const struct {
    const char *prefix;
    pg_host host;
} schemes[] = {{"http://", PG_HOST_WEB}, {"https://", PG_HOST_WEB}, {"gs://", PG_HOST_STORAGE}, {"kaggle://", PG_HOST_KAGGLE}, {"hf://", PG_HOST_HUB}};

static const char *after_scheme(const char *text, pg_host *host)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t n = strlen(schemes[i].prefix);
        if (strncasecmp(text, schemes[i].prefix, n)) continue;
        *host = schemes[i].host;
        return text + n;
    }
    return NULL;
}

bool pg_source_is_remote(const char *text)
{
    pg_host host;
    return after_scheme(text, &host) != NULL;
}

void pg_source_free(pg_source *s)
{
    free(s->text);
    free(s->box);
    free(s->version);
    free(s->file);
    *s = (pg_source){0};
}

/* The first n parts of s as one string; *rest is what follows, NULL where nothing does. NULL where there are fewer. */
static char *parts(const char *s, size_t n, const char **rest)
{
    const char *c = s;
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(c, "/");
        if (!len) return NULL;
        c += len;
        if (i + 1 < n && *c++ != '/') return NULL;
    }
    *rest = *c == '/' && c[1] ? c + 1 : NULL;
    return pg_strndup(s, (size_t)(c - s));
}

static bool is_number(const char *s, size_t n) { return n && strspn(s, "0123456789") >= n; }

static int parse_kaggle(pg_source *s, const char *rest, pg_err *e)
{
    const char *c = NULL;
    s->box = parts(rest, 4, &c);
    if (!s->box) return pg_error(e, PG_EINVAL, "'%s': want kaggle://owner/model/framework/variation[/version][/file]", s->text);
    size_t n = c ? strcspn(c, "/") : 0;
    if (c && is_number(c, n)) {
        s->version = pg_strndup(c, n);
        if (!s->version) return pg_error_nomem(e);
        c = c[n] && c[n + 1] ? c + n + 1 : NULL;
    }
    if (c && !strncmp(c, "./", 2)) c += 2; /* as the notebook writes it */
    return !c || (s->file = pg_strdup(c)) ? PG_OK : pg_error_nomem(e);
}

static int parse_hub(pg_source *s, const char *rest, pg_err *e)
{
    const char *c = NULL, *at;
    bool set = !strncmp(rest, "datasets/", 9);
    s->box = parts(rest, set ? 3 : 2, &c);
    if (!s->box) return pg_error(e, PG_EINVAL, "'%s': want hf://%sowner/repository[@revision][/file]", s->text, set ? "datasets/" : "");
    if (c && !(s->file = pg_strdup(c))) return pg_error_nomem(e);
    char *in_box = strchr(s->box, '@'), *in_file = !in_box && s->file ? strrchr(s->file, '@') : NULL, *mark = in_box ? in_box : in_file;
    if (!mark) return PG_OK;
    *mark = 0;
    at = mark + 1;
    if (!*at || !*(in_box ? s->box : s->file)) return pg_error(e, PG_EINVAL, "'%s': an empty name or revision", s->text);
    s->version = pg_url_decode(at); /* refs%2Fpr%2F1 */
    return s->version ? PG_OK : pg_error_nomem(e);
}

int pg_source_parse(pg_source *s, const char *text, pg_err *e)
{
    pg_host host = PG_HOST_WEB;
    const char *rest = after_scheme(text, &host), *c = NULL;
    *s = (pg_source){.host = host, .text = pg_url_redact(text)};
    int rc = PG_OK;
    if (!s->text) return pg_error_nomem(e);
    if (!rest) rc = pg_error(e, PG_EINVAL, "'%s': not a scheme that is known (http, https, gs, kaggle, hf)", s->text);
    else if (host == PG_HOST_KAGGLE) rc = parse_kaggle(s, rest, e);
    else if (host == PG_HOST_HUB) rc = parse_hub(s, rest, e);
    else if (host == PG_HOST_STORAGE) {
        s->box = parts(rest, 1, &c);
        if (!s->box) rc = pg_error(e, PG_EINVAL, "'%s': want gs://bucket/name", s->text);
        else if (c && !(s->file = pg_strdup(c))) rc = pg_error_nomem(e);
    } else {
        s->box = pg_strdup(text);
        s->file = pg_url_last(text);
        if (!s->box) rc = pg_error_nomem(e);
        else if (pg_url_has_user(text)) rc = pg_error(e, PG_EINVAL, "'%s': a user or password does not belong into a URL, where other users of this machine can see it", s->text);
        else if (!s->file && text[strcspn(text, " \t\r\n")]) rc = pg_error(e, PG_EINVAL, "'%s': a blank in the URL: write it as %%20", s->text);
        else if (!s->file) rc = pg_error(e, PG_EINVAL, "'%s': the URL does not end in the name of a file", s->text);
    }
    if (rc) pg_source_free(s);
    return rc;
}

char *pg_source_beside(const char *text, const char *name)
{
    pg_host host = PG_HOST_WEB;
    if (pg_source_is_remote(name) || !after_scheme(text, &host)) return pg_strdup(name);
    char *base = pg_strdup(text), *out = NULL;
    if (!base) return NULL;
    if (host == PG_HOST_WEB) base[strcspn(base, "?#")] = 0;
    char *rev = host == PG_HOST_HUB ? strrchr(base, '@') : NULL, *slash = strrchr(base, '/');
    if (rev && slash < rev) { /* hf://owner/repo/dir/file@rev */
        char *owner = strchr(base + 5, '/'), *third = owner ? strchr(owner + 1, '/') : NULL;
        if (third) {
            *rev = 0;
            slash = strrchr(base, '/');
            out = pg_format("%.*s/%s@%s", (int)(slash - base), base, name, rev + 1);
            free(base);
            return out;
        }
    }
    char *encoded = host == PG_HOST_WEB ? pg_url_encode(name, true) : pg_strdup(name);
    if (encoded && slash) out = pg_format("%.*s/%s", (int)(slash - base), base, encoded);
    free(encoded);
    free(base);
    return out;
}

void pg_item_free(pg_item *i)
{
    free(i->name);
    free(i->cached);
    pg_transfer_free(&i->t);
    i->name = i->cached = NULL;
}

void pg_items_free(pg_items *l)
{
    for (size_t i = 0; i < l->n; i++) pg_item_free(&l->at[i]);
    free(l->at);
    *l = (pg_items){0};
}

void pg_hosts_free(pg_hosts *h)
{
    for (size_t i = 0; i <= PG_HOST_HUB; i++) pg_auth_free(&h->auth[i]);
    free(h->asked);
    free(h->version);
    *h = (pg_hosts){0};
}

static char *question(const pg_source *s) { return pg_format("%d %s@%s", (int)s->host, s->box, s->version ? s->version : ""); }

const char *pg_hosts_recall(const pg_hosts *h, const pg_source *s)
{
    char *key = h->asked ? question(s) : NULL;
    bool same = key && !strcmp(key, h->asked);
    free(key);
    return same ? h->version : NULL;
}

int pg_hosts_remember(pg_hosts *h, const pg_source *s, const char *version, pg_err *e)
{
    free(h->asked);
    free(h->version);
    h->version = pg_strdup(version);
    h->asked = h->version ? question(s) : NULL;
    return h->asked ? PG_OK : pg_error_nomem(e);
}

const pg_auth *pg_hosts_auth(pg_hosts *h, pg_host host, pg_err *e)
{
    if (!h->known[host] && pg_auth_find(&h->auth[host], host, h->net, e)) return NULL;
    h->known[host] = true;
    return &h->auth[host];
}

uint64_t pg_json_size(const json_t *v)
{
    uint64_t n;
    if (json_is_integer(v) && json_integer_value(v) >= 0) return (uint64_t)json_integer_value(v);
    return json_is_string(v) && pg_parse_u64(json_string_value(v), &n) ? n : PG_SIZE_UNKNOWN;
}

pg_item *pg_items_add(pg_hosts *h, pg_items *l, pg_host host, const char *source, const char *name, pg_err *e)
{
    size_t len = strlen(name);
    e->code = 0;
    if (len && name[len - 1] == '/') return NULL;
    const char *why = pg_name_reject(name);
    if (why) {
        l->rejected++;
        pg_net_say(h->net, PG_SAY_WARNING, "'%s' is left out: its name %s", source, why);
        return NULL;
    }
    const pg_auth *auth = pg_hosts_auth(h, host, e);
    if (!auth) return NULL;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        pg_item *at = pg_realloc(l->at, cap, sizeof *at);
        if (!at) {
            pg_error_nomem(e);
            return NULL;
        }
        l->at = at;
        l->cap = cap;
    }
    pg_item *i = &l->at[l->n];
    *i = (pg_item){.name = pg_strdup(name), .t = PG_TRANSFER_INIT};
    i->t.host = host;
    i->t.auth = auth;
    i->t.source = pg_strdup(source);
    if (!i->name || !i->t.source) {
        pg_item_free(i);
        pg_error_nomem(e);
        return NULL;
    }
    l->n++;
    return i;
}

/* The target of `Link: <URL>; rel="next"`; NULL where there is none. */
static char *next_link(const pg_reply *r)
{
    const char *s = pg_reply_header(r, "link", 0);
    while (s && (s = strchr(s, '<'))) {
        size_t n = strcspn(++s, ">"), rest = strcspn(s + n, ",");
        const char *rel = strstr(s + n, "rel=\"next\"");
        if (rel && rel < s + n + rest) return pg_strndup(s, n);
        s += n;
    }
    return NULL;
}

static int set_strings(pg_transfer *t, const pg_ask *a)
{
    const char *const from[] = {a->source, a->page, a->url, a->alt_url, a->alt_body};
    char **const to[] = {&t->source, &t->page, &t->url, &t->alt_url, &t->alt_body};
    for (size_t i = 0; i < 5; i++)
        if (from[i] && !(*to[i] = pg_strdup(from[i]))) return PG_ENOMEM;
    return PG_OK;
}

int pg_ask_json(pg_hosts *h, const pg_ask *a, json_t **out, long *status, char **next, pg_err *e)
{
    pg_transfer t = PG_TRANSFER_INIT;
    json_error_t why;
    t.host = a->host;
    t.max = API_MAX;
    t.auth = pg_hosts_auth(h, a->host, e);
    *out = NULL;
    int rc = !t.auth ? e->code : set_strings(&t, a) ? pg_error_nomem(e) : pg_net_fetch(h->net, &t, e);
    if (status) *status = t.reply.status;
    if (!rc && !(*out = pg_json_load((char *)t.data.data, t.data.len, 0, &why)))
        rc = pg_error(e, PG_EFORMAT, "cannot fetch '%s': the server's reply is not JSON", a->source);
    long hidden = rc ? 0 : pg_reply_hidden_code(t.data.data, t.data.len);
    if (hidden) { /* Kaggle may say 200 and mean 403 */
        pg_buf body = t.reply.body;
        t.reply.body = t.data;
        t.data = body;
        t.reply.status = hidden;
        if (status) *status = hidden;
        rc = pg_explain(&t, e);
        pg_error_context(e, "cannot fetch '%s'", a->source);
    }
    if (!rc && next) *next = next_link(&t.reply);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    pg_transfer_free(&t);
    return rc;
}

static int web_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e)
{
    pg_items l = {0};
    pg_item *i = pg_items_add(h, &l, PG_HOST_WEB, s->text, s->file, e);
    if (!i) {
        pg_items_free(&l);
        return e->code ? e->code : pg_error(e, PG_EINVAL, "'%s' does not name a file", s->text);
    }
    *out = *i;
    free(l.at);
    out->t.url = pg_strdup(s->box);
    return out->t.url ? PG_OK : pg_error_nomem(e);
}

int pg_source_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e)
{
    *out = (pg_item){.t = PG_TRANSFER_INIT};
    if (!s->file || pg_ends_with(s->file, "/")) return pg_error(e, PG_EINVAL, "'%s' is not one file", s->text);
    switch (s->host) {
    case PG_HOST_KAGGLE: return pg_kaggle_item(h, s, out, e);
    case PG_HOST_STORAGE: return pg_storage_item(h, s, out, e);
    case PG_HOST_HUB: return pg_hub_item(h, s, out, e);
    case PG_HOST_WEB: break;
    }
    return web_item(h, s, out, e);
}

static int by_name(const void *a, const void *b) { return strcmp(((const pg_item *)a)->name, ((const pg_item *)b)->name); }

int pg_source_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e)
{
    int rc;
    *out = (pg_items){0};
    if (s->host == PG_HOST_STORAGE) rc = pg_storage_list(h, s, out, e);
    else if (!s->file && s->host == PG_HOST_KAGGLE) rc = pg_kaggle_list(h, s, out, e);
    else if (!s->file && s->host == PG_HOST_HUB) rc = pg_hub_list(h, s, out, e);
    else {
        if (!(out->at = pg_calloc(1, sizeof *out->at))) return pg_error_nomem(e);
        out->n = out->cap = 1;
        rc = pg_source_item(h, s, out->at, e);
    }
    if (rc) pg_items_free(out);
    else if (out->n > 1) qsort(out->at, out->n, sizeof *out->at, by_name);
    return rc;
}
