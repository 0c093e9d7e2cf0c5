#include "net/url.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"

static bool plain(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("-._~", c));
}

char *pg_url_encode(const char *s, bool keep_slash)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = strlen(s);
    char *out = pg_alloc(n + 1, 3), *o = out;
    if (!out) return NULL;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (plain(c) || (c == '/' && keep_slash)) *o++ = *s;
        else *o++ = '%', *o++ = hex[c >> 4], *o++ = hex[c & 15];
    }
    *o = 0;
    return out;
}

char *pg_url_decode(const char *s)
{
    char *out = pg_alloc(strlen(s) + 1, 1), *o = out;
    if (!out) return NULL;
    for (; *s; s++) {
        char two[3] = {0};
        if (*s == '%' && strspn(s + 1, "0123456789abcdefABCDEF") >= 2) {
            memcpy(two, s + 1, 2);
            *o = (char)strtol(two, NULL, 16);
            if (!*o++) {
                free(out);
                return NULL;
            }
            s += 2;
        } else *o++ = *s;
    }
    *o = 0;
    return out;
}

static const char file_scheme[] = "file://";

bool pg_url_is_file(const char *url) { return !strncasecmp(url, file_scheme, sizeof file_scheme - 1); }

char *pg_url_file(const char *url)
{
    const char *s = url + sizeof file_scheme - 1, host[] = "localhost/";
    if (!pg_url_is_file(url)) return NULL;
    if (!strncasecmp(s, host, sizeof host - 1)) s += sizeof host - 2;
    return *s == '/' ? pg_url_decode(s) : NULL;
}

char *pg_url_redact(const char *url)
{
    const char *rest = strstr(url, "://");
    if (!rest || (strncasecmp(url, "http://", 7) && strncasecmp(url, "https://", 8))) return pg_strdup(url);
    rest += 3;
    size_t authority = strcspn(rest, "/?#"), all = strcspn(rest, "?#"), front = (size_t)(rest - url);
    for (size_t i = authority; i-- > 0;)
        if (rest[i] == '@') {
            rest += i + 1;
            all -= i + 1;
            break;
        }
    return pg_format("%.*s%.*s%s", (int)front, url, (int)all, rest, rest[all] == '?' ? "?..." : "");
}

/* One part of a URL; curl_free it; NULL where there is none. */
static char *part(const char *url, CURLUPart which)
{
    CURLU *u = curl_url();
    char *s = NULL;
    if (u && !curl_url_set(u, CURLUPART_URL, url, 0) && curl_url_get(u, which, &s, CURLU_DEFAULT_PORT)) s = NULL;
    curl_url_cleanup(u);
    return s;
}

bool pg_url_has_user(const char *url)
{
    char *user = part(url, CURLUPART_USER), *password = part(url, CURLUPART_PASSWORD);
    bool has = user || password;
    curl_free(user);
    curl_free(password);
    return has;
}

bool pg_url_same_origin(const char *a, const char *b)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    bool same = true;
    for (size_t i = 0; i < 3 && same; i++) {
        char *x = part(a, parts[i]), *y = part(b, parts[i]);
        same = x && y && !strcasecmp(x, y);
        curl_free(x);
        curl_free(y);
    }
    return same;
}

bool pg_url_is_https(const char *url) { return !strncasecmp(url, "https://", 8); }

bool pg_url_is_private(const char *url)
{
    if (pg_url_is_https(url)) return true;
    char *host = part(url, CURLUPART_HOST);
    bool local = host && (!strcasecmp(host, "localhost") || (!strncmp(host, "127.", 4) && !host[strspn(host, "0123456789.")]) || !strcmp(host, "[::1]"));
    curl_free(host);
    return local;
}

char *pg_url_host(const char *url)
{
    char *host = part(url, CURLUPART_HOST), *copy = host ? pg_strdup(host) : NULL;
    curl_free(host);
    return copy;
}

char *pg_url_last(const char *url)
{
    char *path = part(url, CURLUPART_PATH), *slash = path ? strrchr(path, '/') : NULL, *name = slash ? pg_url_decode(slash + 1) : NULL;
    curl_free(path);
    if (name && (pg_name_reject(name) || strchr(name, '/'))) {
        free(name);
        name = NULL;
    }
    return name;
}

const char *pg_name_reject(const char *name)
{
    if (!*name) return "is empty";
    if (*name == '/') return "is absolute";
    for (const char *s = name; *s; s++) {
        if (*s == '\\') return "holds a backslash";
        if ((unsigned char)*s < 32 || *s == 127) return "holds a control character";
    }
    static const char *const ours[] = {".part", ".part.json", ".part.json.new", ".part.lock"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (pg_ends_with(name, ours[i])) return "ends as the name of an unfinished download";
    for (const char *s = name;; s++) {
        size_t n = strcspn(s, "/");
        if (n == 0) return s[0] ? "holds an empty part" : "ends with a slash";
        if ((n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.')) return "holds '.' or '..'";
        s += n;
        if (!*s) return NULL;
    }
}
