/* One HTTP request, and what its reply means. Redirects are not libcurl's: each hop is a request of its own, so that nothing of
 * one host's can reach another. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "net/internal.h"
#include "net/url.h"

enum { ASIDE_MAX = 1 << 16, HEADERS_MAX = 1 << 18, SLOW_BYTES = 512, CONNECT_S = 20 };

const char *pg_reply_header(const pg_reply *r, const char *name, size_t nth)
{
    const char *s = (const char *)r->headers.data, *end = s ? s + r->headers.len : NULL;
    while (s && s < end) {
        const char *value = s + strlen(s) + 1;
        if (!strcmp(s, name) && nth-- == 0) return value;
        s = value + strlen(value) + 1;
    }
    return NULL;
}

static int add_header(pg_reply *r, const char *line, size_t n, pg_err *e)
{
    const char *colon = memchr(line, ':', n);
    if (!colon || memchr(line, 0, n)) return PG_OK;
    size_t start = r->headers.len, name = (size_t)(colon - line), from = name + 1, to = n;
    while (from < to && strchr(" \t", line[from])) from++;
    while (to > from && strchr(" \t\r\n", line[to - 1])) to--;
    if (start + n > HEADERS_MAX) return pg_error(e, PG_ELIMIT, "more than 256 KiB of headers");
    int rc = pg_buf_add(&r->headers, line, name, e);
    for (size_t i = start; !rc && i < r->headers.len; i++)
        if (r->headers.data[i] >= 'A' && r->headers.data[i] <= 'Z') r->headers.data[i] = (unsigned char)(r->headers.data[i] + 32);
    if (!rc) rc = pg_buf_add(&r->headers, "", 1, e);
    if (!rc) rc = pg_buf_add(&r->headers, line + from, to - from, e);
    return rc ? rc : pg_buf_add(&r->headers, "", 1, e);
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
    struct pg_exchange *x = ctx;
    pg_reply *r = &x->t->reply;
    n *= size;
    if (n > 5 && !memcmp(line, "HTTP/", 5)) { /* also after a 100 or a proxy's reply: only the last counts */
        r->headers.len = r->body.len = 0;
        return n;
    }
    if (!add_header(r, line, n, &x->err)) return n;
    x->verdict = PG_V_FAIL;
    return 0;
}

static int take_memory(pg_transfer *t, const void *p, size_t n, pg_err *e)
{
    if (n > t->max - t->data.len) return pg_error(e, PG_ELIMIT, "larger than %zu bytes", t->max);
    return pg_buf_add(&t->data, p, n, e);
}

static bool too_long(const pg_transfer *t, uint64_t n, pg_err *e)
{
    uint64_t most = t->path ? t->most : t->max;
    if (!most || n == PG_SIZE_UNKNOWN || n <= most) return false;
    pg_error(e, PG_ELIMIT, "larger than %llu bytes", (unsigned long long)most);
    return true;
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct pg_exchange *x = ctx;
    pg_transfer *t = x->t;
    n *= size;
    if (x->verdict == PG_V_NONE) pg_exchange_judge(x);
    if (x->verdict == PG_V_ASIDE) {
        size_t room = ASIDE_MAX - t->reply.body.len, take = n < room ? n : room;
        if (!pg_buf_add(&t->reply.body, p, take, &x->err)) return n <= room ? n : 0;
        x->verdict = PG_V_FAIL;
    }
    if (x->verdict != PG_V_TAKE) return 0;
    uint64_t end = x->from + x->body + n;
    int rc = PG_OK;
    if (x->seen.size != PG_SIZE_UNKNOWN && end > x->seen.size) rc = pg_error(&x->err, PG_EFORMAT, "the server sends more bytes than it announced");
    else if (too_long(t, end, &x->err)) rc = PG_ELIMIT;
    else rc = t->path ? pg_part_write(&x->part, p, n, &x->err) : take_memory(t, p, n, &x->err);
    if (rc) {
        x->verdict = PG_V_FAIL;
        return 0;
    }
    x->body += n;
    t->done = end;
    t->arrived += n;
    return n;
}

/* x-goog-hash: several headers, or one joined by commas; base64 itself ends in '='. */
static int read_goog_hashes(const pg_reply *r, pg_sums *sums, pg_err *e)
{
    const char *s;
    for (size_t nth = 0; (s = pg_reply_header(r, "x-goog-hash", nth)); nth++)
        while (*s) {
            pg_sums one = {0};
            s += strspn(s, ", \t");
            size_t n = strcspn(s, ", \t");
            if (n > 4 && !strncasecmp(s, "md5=", 4)) (void)pg_sum_base64(&one, PG_SUM_MD5, s + 4, n - 4);
            if (n > 7 && !strncasecmp(s, "crc32c=", 7)) (void)pg_sum_base64(&one, PG_SUM_CRC32C, s + 7, n - 7);
            if (!pg_sums_merge(sums, &one)) return pg_error(e, PG_EFORMAT, "the server gives two checksums that contradict each other");
            s += n;
        }
    return PG_OK;
}

static int replace(char **at, const char *s, size_t n, pg_err *e)
{
    char *copy = pg_strndup(s, n);
    if (!copy) return pg_error_nomem(e);
    free(*at);
    *at = copy;
    return PG_OK;
}

/* The hub names content by checksum: 64 digits are a sha256, 40 a git blob's sha1. Its word counts more than the CDN's. */
static int read_hub(struct pg_exchange *x, const char *etag, size_t n, pg_err *e)
{
    const pg_reply *r = &x->t->reply;
    const char *size = pg_reply_header(r, "x-linked-size", 0);
    uint64_t v;
    char hex[65] = {0};
    if (size && pg_parse_u64(size, &v)) x->seen.size = v;
    if (n != 40 && n != 64) return PG_OK;
    memcpy(hex, etag, n);
    pg_sums one = {0};
    (void)pg_sum_hex(&one, n == 64 ? PG_SUM_SHA256 : PG_SUM_GIT, hex);
    return pg_sums_merge(&x->seen.sums, &one) ? PG_OK : pg_error(e, PG_EFORMAT, "the hub gives two checksums that contradict each other");
}

/* A file may change twice within a second or two: its date tells nothing until it is older (RFC 9110, 8.8.2.2). */
static bool is_recent(const pg_reply *r, const char *modified)
{
    const char *date = pg_reply_header(r, "date", 0);
    time_t now = date ? curl_getdate(date, NULL) : -1, then = curl_getdate(modified, NULL);
    return now < 0 || then < 0 || now - then < 60;
}

/* What this reply says about the file: validators and checksums. */
static int read_origin(struct pg_exchange *x, pg_err *e)
{
    const pg_transfer *t = x->t;
    const pg_reply *r = &t->reply;
    bool hub = t->host == PG_HOST_HUB && !x->away;
    const char *etag = hub ? pg_reply_header(r, "x-linked-etag", 0) : NULL, *generation = pg_reply_header(r, "x-goog-generation", 0);
    const char *modified = pg_reply_header(r, "last-modified", 0), *stored = pg_reply_header(r, "x-goog-stored-content-encoding", 0);
    int rc = PG_OK;
    if (!etag && !x->seen.etag && (r->status < 300 || r->status == 304 || r->status == 416)) etag = pg_reply_header(r, "etag", 0);
    if (etag) {
        x->weak = !strncmp(etag, "W/", 2);
        if (x->weak) etag += 2;
        size_t n = strlen(etag);
        if (n >= 2 && etag[0] == '"' && etag[n - 1] == '"') etag++, n -= 2;
        rc = replace(&x->seen.etag, etag, n, e);
        if (!rc && hub) rc = read_hub(x, etag, n, e);
    } else if (!x->seen.etag && modified && r->status < 300 && !is_recent(r, modified)) rc = replace(&x->seen.etag, modified, strlen(modified), e);
    if (!rc && generation) rc = replace(&x->seen.generation, generation, strlen(generation), e);
    if (rc) return rc;
    if (stored && !strcasecmp(stored, "gzip")) {
        pg_net_say(x->net, PG_SAY_INFO, "'%s' is stored compressed, so its checksum cannot be verified", t->source);
        return PG_OK;
    }
    return read_goog_hashes(r, &x->seen.sums, e);
}

/* "bytes 5-10/11" */
static bool read_range(const char *s, uint64_t *from, uint64_t *total)
{
    char a[24], b[24], c[24];
    uint64_t to;
    if (!s || strncasecmp(s, "bytes ", 6) || sscanf(s + 6, " %23[0-9]-%23[0-9]/%23[0-9]", a, b, c) != 3) return false;
    return pg_parse_u64(a, from) && pg_parse_u64(b, &to) && pg_parse_u64(c, total) && *from <= to && to < *total;
}

/* A page in place of a file: a captive portal, a login form. */
static bool is_wrong_page(const pg_transfer *t)
{
    const char *type = pg_reply_header(&t->reply, "content-type", 0), *name = t->path ? strrchr(t->path, '/') : NULL;
    name = name ? name + 1 : t->path;
    if (!t->path || !type || strncasecmp(type, "text/html", 9)) return false;
    const char *dot = strrchr(name, '.');
    return dot && strcasecmp(dot, ".html") && strcasecmp(dot, ".htm");
}

/* Kaggle compresses some files by itself; only the name of what it points to tells. */
static bool is_packed(const struct pg_exchange *x)
{
    const pg_transfer *t = x->t;
    char *last = t->host == PG_HOST_KAGGLE && x->away && t->path ? pg_url_last(x->at) : NULL;
    const char *name = t->path ? strrchr(t->path, '/') : NULL;
    size_t n = name ? strlen(name + 1) : 0;
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): how `last` begins is what is asked */
    bool packed = last && name && !strncmp(last, name + 1, n) && !strcmp(last + n, ".zip");
    free(last);
    return packed;
}

static void fail(struct pg_exchange *x) { x->verdict = PG_V_FAIL; }

static void judge_file(struct pg_exchange *x, uint64_t length)
{
    pg_transfer *t = x->t;
    pg_part *p = &x->part;
    uint64_t from, total;
    if (t->reply.status == 206) {
        bool fits = x->from && read_range(pg_reply_header(&t->reply, "content-range", 0), &from, &total) && from == x->from && total == p->from.size;
        if (fits && x->seen.size == PG_SIZE_UNKNOWN) x->seen.size = total;
        if (!fits || !pg_origin_same(&p->from, &x->seen)) {
            x->verdict = PG_V_RESTART;
            return;
        }
        (void)pg_sums_merge(&x->seen.sums, &p->from.sums);
    } else {
        if (length != PG_SIZE_UNKNOWN) x->seen.size = length;
        x->from = 0;
        pg_origin what = x->seen;
        what.source = t->source;
        if (x->weak) what.etag = NULL; /* nothing is joined over it; a checksum still allows that */
        if (pg_part_begin(p, &what, &x->err)) return fail(x);
    }
    t->done = x->from;
    if (pg_part_hash(p, x->seen.sums.have | t->also, &x->err)) return fail(x);
    t->total = x->seen.size;
}

static void judge_ok(struct pg_exchange *x)
{
    pg_transfer *t = x->t;
    const pg_reply *r = &t->reply;
    const char *coding = pg_reply_header(r, "content-encoding", 0), *transfer = pg_reply_header(r, "transfer-encoding", 0);
    curl_off_t announced = -1;
    x->verdict = PG_V_TAKE;
    curl_easy_getinfo(x->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
    uint64_t length = announced < 0 ? PG_SIZE_UNKNOWN : (uint64_t)announced;
    if (coding && *coding && strcasecmp(coding, "identity")) {
        pg_error(&x->err, PG_EFORMAT, "the server sends it compressed (%s), though it was asked not to", coding);
        return fail(x);
    }
    if (is_wrong_page(t)) {
        pg_error(&x->err, PG_EFORMAT, "the server sends a web page instead of the file");
        return fail(x);
    }
    if (is_packed(x)) {
        pg_error(&x->err, PG_EFORMAT, "Kaggle sends it inside a zip archive, which pg-fetch does not unpack");
        return fail(x);
    }
    uint64_t whole = r->status == 200 ? length : PG_SIZE_UNKNOWN, known = t->size != PG_SIZE_UNKNOWN ? t->size : x->seen.size;
    if (known != PG_SIZE_UNKNOWN && whole != PG_SIZE_UNKNOWN && whole != known) {
        const char *type = pg_reply_header(r, "content-type", 0);
        if (t->host == PG_HOST_KAGGLE && !x->away && type && strstr(type, "json")) { /* perhaps an error's text */
            x->verdict = PG_V_ASIDE;
            return;
        }
        pg_error(&x->err, PG_EFORMAT, "it should have %llu bytes, but the server sends %llu", (unsigned long long)known, (unsigned long long)whole);
        return fail(x);
    }
    if (!pg_sums_merge(&x->seen.sums, &t->want) || !pg_sums_merge(&x->seen.sums, &t->must)) {
        pg_error(&x->err, PG_EFORMAT, "the server's checksum is not the expected one: it was replaced meanwhile, or is another file");
        return fail(x);
    }
    if (x->seen.size == PG_SIZE_UNKNOWN) x->seen.size = known;
    if (t->probe) {
        if (whole != PG_SIZE_UNKNOWN) x->seen.size = whole;
        t->total = x->seen.size;
        x->verdict = PG_V_PROBED;
        return;
    }
    bool framed = length != PG_SIZE_UNKNOWN || transfer || x->seen.size != PG_SIZE_UNKNOWN || x->seen.sums.have;
    long version = 0;
    curl_easy_getinfo(x->easy, CURLINFO_HTTP_VERSION, &version);
    if (t->path && !framed && version < CURL_HTTP_VERSION_2_0) {
        pg_error(&x->err, PG_EFORMAT, "the server gives neither a length nor a checksum, so nobody could tell whether it arrived whole");
        return fail(x);
    }
    if (too_long(t, x->seen.size, &x->err) || too_long(t, length, &x->err)) return fail(x);
    if (t->path) judge_file(x, length);
    else {
        t->data.len = 0;
        if (x->seen.size == PG_SIZE_UNKNOWN) x->seen.size = whole;
        t->done = x->from = 0;
        t->total = x->seen.size;
    }
}

void pg_exchange_judge(struct pg_exchange *x)
{
    pg_transfer *t = x->t;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &t->reply.status);
    t->reply.away = x->away;
    x->verdict = PG_V_ASIDE;
    if (read_origin(x, &x->err)) return fail(x);
    if (t->reply.status == 304 && t->known_etag) x->verdict = PG_V_UNCHANGED;
    else if (t->host == PG_HOST_HUB && t->known_etag && x->seen.etag && !strcmp(t->known_etag, x->seen.etag)) x->verdict = PG_V_UNCHANGED;
    else if (t->reply.status == 200 || t->reply.status == 206) judge_ok(x);
}

/* Last-Modified stands in for an etag that is not there: "Tue, 01 Sep 2026 10:00:00 GMT". */
static bool is_date(const char *etag) { return strlen(etag) == 29 && !strncmp(etag + 3, ", ", 2) && pg_ends_with(etag, " GMT"); }

static int set_headers(struct pg_exchange *x, pg_err *e)
{
    const pg_transfer *t = x->t;
    struct curl_slist *more = curl_slist_append(NULL, "Accept-Encoding: identity"); /* a compressed body has no ranges and no checksum */
    x->headers = more;
    if (more && t->body && !x->away && !x->hops) more = curl_slist_append(x->headers, "Content-Type: application/json");
    char *etag = t->known_etag ? pg_format(is_date(t->known_etag) ? "If-Modified-Since: %s" : "If-None-Match: \"%s\"", t->known_etag) : NULL;
    if (more && etag) more = curl_slist_append(x->headers, etag);
    bool bad = !more || (t->known_etag && !etag);
    free(etag);
    return bad ? pg_error_nomem(e) : PG_OK;
}

static void set_protocols(CURL *c, bool https_only)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, https_only ? "https" : "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(https_only ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static void set_auth(struct pg_exchange *x)
{
    const pg_auth *a = x->t->auth;
    if (!a || !a->kind || x->away || !pg_url_same_origin(x->at, x->t->url)) return;
    if (!pg_url_is_private(x->at)) {
        pg_net_say(x->net, PG_SAY_WARNING, "'%s' is asked without credentials: they are not sent over plain http", x->t->source);
        return;
    }
    if (a->kind == PG_AUTH_BASIC) {
        curl_easy_setopt(x->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(x->easy, CURLOPT_USERPWD, a->secret);
    } else {
        curl_easy_setopt(x->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(x->easy, CURLOPT_XOAUTH2_BEARER, a->secret);
    }
}

int pg_exchange_start(struct pg_exchange *x, pg_err *e)
{
    pg_transfer *t = x->t;
    const char *ca = getenv("SSL_CERT_FILE"), *ca_dir = getenv("SSL_CERT_DIR");
    char range[32];
    pg_exchange_stop(x);
    x->verdict = PG_V_NONE;
    x->err = (pg_err){0};
    x->body = 0;
    x->error[0] = 0;
    t->reply.headers.len = t->reply.body.len = 0;
    t->reply.status = 0;
    CURL *c = x->easy = curl_easy_init();
    if (!c || set_headers(x, e)) return pg_error_nomem(e);
    curl_easy_setopt(c, CURLOPT_URL, x->at);
    set_protocols(c, pg_url_is_https(t->url));
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "pg-fetch/0.1");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->error);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)x->net->o.stall_s);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_PRIVATE, x);
    if (ca && *ca) curl_easy_setopt(c, CURLOPT_CAINFO, ca);
    if (ca_dir && *ca_dir) curl_easy_setopt(c, CURLOPT_CAPATH, ca_dir);
    if (t->body && !x->away && !x->hops) curl_easy_setopt(c, CURLOPT_POSTFIELDS, t->body);
    if (x->from) {
        snprintf(range, sizeof range, "%llu-", (unsigned long long)x->from);
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    }
    set_auth(x);
    CURLMcode m = curl_multi_add_handle(x->net->multi, c);
    return m ? pg_error(e, PG_FAIL, "libcurl: %s", curl_multi_strerror(m)) : PG_OK;
}

void pg_exchange_stop(struct pg_exchange *x)
{
    if (x->easy) {
        curl_multi_remove_handle(x->net->multi, x->easy);
        curl_easy_cleanup(x->easy);
    }
    curl_slist_free_all(x->headers);
    x->easy = NULL;
    x->headers = NULL;
}
