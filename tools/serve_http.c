/* Requests: which may come in, how uploads are read, who waits for what. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve_request.h"

enum { CONNECTIONS = 512, HEADERS = 32 << 10, FORM_EXTRA = 64 << 10 };
#define THROWN_AWAY ((size_t)64 << 20) /* of a body that is refused: most clients listen only after they have sent it */

void refuse(request *r, unsigned status, const char *code, const char *fmt, ...)
{
    va_list ap;
    if (r->status) return; /* the first reason is the one to tell */
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    r->status = status;
    r->code = code;
}

static void conn_is(request *r, conn_state state)
{
    if (!r->conn) return;
    pthread_mutex_lock(&r->s->lock);
    r->conn->state = state;
    r->conn->since = serve_now();
    pthread_mutex_unlock(&r->s->lock);
}

/* ---- the start of a request ---- */
static const char *header(struct MHD_Connection *c, const char *name)
{
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* Some proxies add a line of their own instead of adding to the client's: the last line counts. */
static enum MHD_Result keep_last(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    if (!strcasecmp(key, "X-Forwarded-For")) *(const char **)ctx = value;
    return MHD_YES;
}

/* Behind a proxy the last address of X-Forwarded-For is the one that the proxy has seen; earlier ones are hearsay. */
static void find_client(request *r, struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const char *forwarded = NULL, *comma;
    unsigned char probe[16];
    char last[64];
    if (r->s->o.proxy) MHD_get_connection_values(c, MHD_HEADER_KIND, keep_last, &forwarded);
    strcpy(r->client, "?");
    if (info && info->client_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)info->client_addr)->sin_addr, r->client, sizeof r->client);
    else if (info && info->client_addr->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)info->client_addr)->sin6_addr, r->client, sizeof r->client);
    if (!forwarded) return;
    if ((comma = strrchr(forwarded, ','))) forwarded = comma + 1;
    while (*forwarded == ' ') forwarded++;
    snprintf(last, sizeof last, "%.*s", (int)strcspn(forwarded, " \t"), forwarded);
    if (inet_pton(AF_INET, last, probe) == 1 || inet_pton(AF_INET6, last, probe) == 1) snprintf(r->client, sizeof r->client, "%s", last);
}

static const char *const allowed[] = {[TAKES_GET] = "GET, HEAD", [TAKES_POST] = "POST"};

static void may_it(request *r, struct MHD_Connection *c, const char *method)
{
    server *s = r->s;
    const char *site = header(c, "Sec-Fetch-Site");
    bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD"), post = !strcmp(method, "POST");
    if (r->route && r->route->open && get) return;
    const char *who = header(c, "Authorization");
    pthread_mutex_lock(&s->auth_lock); /* not the server's: a hash may take its time */
    bool known = !s->auth || auth_remembers(s->auth, who);
    double wait = post || !known ? rates_take(s->rates, r->client, serve_now()) : 0;
    if (!known && wait <= 0) known = auth_allows(s->auth, who);
    pthread_mutex_unlock(&s->auth_lock);
    if (wait > 0) {
        pthread_mutex_lock(&s->lock);
        s->n.limited++;
        pthread_mutex_unlock(&s->lock);
        refuse(r, 429, "too_many", "too many requests from your address; wait a little");
        r->retry = wait;
    } else if (!known) {
        refuse(r, 401, "unauthorized", "a name and password, or a token, is needed here");
    } else if (!r->route) {
        refuse(r, 404, "not_found", "there is nothing under this address");
    } else if (!(r->route->takes == TAKES_POST ? post : get)) {
        refuse(r, 405, "method", "this address takes %s", allowed[r->route->takes]);
        r->allow = allowed[r->route->takes];
    } else if (post && site && !strcmp(site, "cross-site")) {
        refuse(r, 403, "cross_site", "forms of other sites may not use this one");
    }
}

/* The length that the header promises; SIZE_MAX where it is not known. */
static size_t promised(struct MHD_Connection *c)
{
    const char *length = header(c, "Content-Length");
    size_t n = SIZE_MAX;
    char *end;
    if (!length) return header(c, "Transfer-Encoding") ? SIZE_MAX : 0;
    errno = 0;
    unsigned long long v = strtoull(length, &end, 10);
    if (!errno && !*end && v < SIZE_MAX) n = (size_t)v;
    return n;
}

static enum MHD_Result take_field(void *cls, enum MHD_ValueKind kind, const char *key, const char *name, const char *type,
                                  const char *encoding, const char *data, uint64_t off, size_t n);

static void begin_upload(request *r, struct MHD_Connection *c)
{
    const char *type = header(c, "Content-Type"), *prefix;
    size_t length = promised(c);
    if (!(r->job = job_new())) {
        refuse(r, 500, "no_memory", "out of memory");
        return;
    }
    if (length != SIZE_MAX && length > r->s->o.max_upload + FORM_EXTRA) refuse_size(r);
    if (type && !strncasecmp(type, "multipart/form-data", 19)) {
        /* The buffer holds a part's header; a longer one is an error. */
        r->form = MHD_create_post_processor(c, 8192, take_field, r);
        if (!r->form) refuse(r, 400, "malformed", "this form has no boundary");
    }
    prefix = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "prefix");
    if (prefix) form_prefix(r, prefix);
}

static request *begin(server *s, struct MHD_Connection *c, const char *url, const char *method)
{
    request *r = pg_calloc(1, sizeof *r);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (!r) return NULL;
    r->s = s;
    r->conn = info ? info->socket_context : NULL;
    r->start = serve_now();
    snprintf(r->method, sizeof r->method, "%s", method);
    snprintf(r->path, sizeof r->path, "%s", url);
    r->route = find_route(url);
    r->want = find_want(header(c, "Accept"));
    find_client(r, c);
    pthread_mutex_lock(&s->lock);
    s->active++;
    pthread_mutex_unlock(&s->lock);
    conn_is(r, CONN_BODY);
    may_it(r, c, method);
    if (!r->status && r->route->takes == TAKES_POST) begin_upload(r, c);
    return r;
}

/* ---- the body ---- */
static enum MHD_Result take_field(void *cls, enum MHD_ValueKind kind, const char *key, const char *name, const char *type,
                                  const char *encoding, const char *data, uint64_t off, size_t n)
{
    (void)kind, (void)type, (void)encoding;
    return !key || form_field(cls, key, name, data, off, n) ? MHD_YES : MHD_NO;
}

/* MHD_NO ends the connection. */
static enum MHD_Result take_body(request *r, const char *data, size_t *n)
{
    size_t got = *n;
    *n = 0;
    r->received += got;
    if (r->conn) {
        pthread_mutex_lock(&r->s->lock);
        r->conn->received = r->received;
        pthread_mutex_unlock(&r->s->lock);
    }
    if (!r->status && r->route->takes == TAKES_POST) {
        if (r->received > r->s->o.max_upload + FORM_EXTRA) refuse_size(r);
        else if (!r->form) form_image(r, data, got);
        else if (MHD_post_process(r->form, data, got) != MHD_YES) refuse(r, 400, "malformed", "this form cannot be read");
    }
    return r->status && r->received > r->s->o.max_upload + FORM_EXTRA + THROWN_AWAY ? MHD_NO : MHD_YES;
}

/* ---- the end of an upload ---- */
static void end_upload(request *r)
{
    if (r->form && MHD_destroy_post_processor(r->form) != MHD_YES) refuse(r, 400, "malformed", "this form is cut off");
    r->form = NULL;
    if (!r->status) form_check(r);
    const char *busy = r->status ? NULL : job_admit(r->s, r->job);
    if (busy) refuse_busy(r, busy);
    r->admitted = !r->status;
}

/* ---- libmicrohttpd's calls ---- */
static enum MHD_Result wait_for_answer(request *r, struct MHD_Connection *c)
{
    job *j = r->job;
    PG_KNOWN(j); /* only what has a job is admitted */
    pthread_mutex_lock(&r->s->lock);
    bool done = j->state == JOB_DONE;
    if (!done) {
        j->suspended = c;
        MHD_suspend_connection(c);
    }
    pthread_mutex_unlock(&r->s->lock);
    return done ? reply_job(r, c) : MHD_YES;
}

/* The first line of a request: an idle connection has work again, and its header the whole time of --client-timeout. */
static void *on_address(void *cls, const char *address, struct MHD_Connection *c)
{
    server *s = cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    conn *k = info ? info->socket_context : NULL;
    (void)address;
    pthread_mutex_lock(&s->lock);
    if (k && k->state == CONN_IDLE) {
        k->state = CONN_HEAD;
        k->since = serve_now();
    }
    pthread_mutex_unlock(&s->lock);
    return NULL; /* becomes the `mine` of on_request's first call */
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                  const char *data, size_t *n, void **mine)
{
    server *s = cls;
    request *r = *mine;
    (void)version;
    if (!r) {
        if (!(r = *mine = begin(s, c, url, method))) return MHD_NO;
        size_t length = promised(c);
        bool at_once = header(c, "Expect") || (length != SIZE_MAX && length > s->o.max_upload + THROWN_AWAY);
        return r->status && at_once ? reply_refusal(r, c) : MHD_YES;
    }
    if (*n) return take_body(r, data, n);
    if (!r->ended) {
        r->ended = true;
        if (r->job) end_upload(r);
        conn_is(r, r->admitted ? CONN_WORK : CONN_REPLY);
        if (r->status) return reply_refusal(r, c);
        if (!r->admitted) return reply_plain(r, c);
        if (r->want == WANT_EVENTS) return reply_events(r, c);
    }
    return wait_for_answer(r, c);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **mine, enum MHD_RequestTerminationCode why)
{
    server *s = cls;
    request *r = *mine;
    (void)c;
    if (!r) return;
    if (r->form) MHD_destroy_post_processor(r->form);
    /* The client left, or was sent away for taking too long: nginx's number for it. */
    if (!r->answered || why != MHD_REQUEST_TERMINATED_COMPLETED_OK) r->answered = 499;
    info_log(s, r->client, r->method, r->path, r->answered, (serve_now() - r->start) * 1000, r->received,
             r->admitted ? r->job->id : NULL);
    pthread_mutex_lock(&s->lock);
    if (r->admitted && r->job->state != JOB_DONE) job_abandon(s, r->job);
    job_unref(s, r->job);
    if (r->conn) {
        r->conn->state = CONN_IDLE;
        r->conn->since = serve_now();
        r->conn->received = 0;
    }
    s->active--;
    info_count(s, r->answered);
    pthread_mutex_unlock(&s->lock);
    pg_buf_free(&r->prefix);
    pg_buf_free(&r->own);
    free(r);
    *mine = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **mine, enum MHD_ConnectionNotificationCode what)
{
    server *s = cls;
    conn *c = *mine;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (!info || !(*mine = c = pg_calloc(1, sizeof *c))) return;
        c->fd = info->connect_fd;
        c->since = serve_now();
        pthread_mutex_lock(&s->lock);
        c->next = s->conns;
        if (c->next) c->next->prev = c;
        s->conns = c;
        pthread_mutex_unlock(&s->lock);
    } else if (c) {
        pthread_mutex_lock(&s->lock);
        *(c->prev ? &c->prev->next : &s->conns) = c->next;
        if (c->next) c->next->prev = c->prev;
        pthread_mutex_unlock(&s->lock);
        free(c);
        *mine = NULL;
    }
}

void http_slow(server *s, double now)
{
    pthread_mutex_lock(&s->lock);
    for (conn *c = s->conns; c; c = c->next) {
        double patience = s->o.client_timeout, took = now - c->since;
        if (c->state == CONN_BODY) patience += (double)c->received / 8192; /* any client can send 8 KiB a second */
        if (c->state == CONN_REPLY) patience *= 4;
        if (c->state == CONN_WORK || took <= patience) continue;
        shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees its end and closes it */
        c->since = now;
        s->n.slow += c->state != CONN_IDLE;
    }
    pthread_mutex_unlock(&s->lock);
}

int http_start(server *s, int fd, pg_err *e)
{
    int rc;
    if ((rc = make_page(s, e))) return rc;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET,
        fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADERS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(s->o.client_timeout + 1), MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_URI_LOG_CALLBACK, on_address, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    return s->daemon ? PG_OK : pg_error_errno(e, "cannot start the HTTP server");
}

void http_quiesce(server *s)
{
    s->listener = MHD_quiesce_daemon(s->daemon); /* its thread may still look at it: closed when that is over */
    if (!s->inherited && s->listener >= 0) shutdown(s->listener, SHUT_RDWR); /* a service manager goes on listening */
}

void http_stop(server *s)
{
    if (s->daemon) MHD_stop_daemon(s->daemon);
    if (s->listener >= 0) close(s->listener);
    s->daemon = NULL;
    free(s->page);
}
