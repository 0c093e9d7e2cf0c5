/* Answers: which, with which headers; events as they come. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve_request.h"

#define FILE_OF(name) serve_##name, serve_##name##_end
static const char html[] = "text/html; charset=utf-8", json[] = "application/json";

const route *find_route(const char *path)
{
    static const route routes[] = {
        {"/", TAKES_GET, false, html, NULL, NULL},
        {"/caption", TAKES_POST, false, NULL, NULL, NULL},
        {"/health", TAKES_GET, true, json, NULL, NULL},
        {"/metrics", TAKES_GET, false, "text/plain; version=0.0.4; charset=utf-8", NULL, NULL},
        {"/openapi.json", TAKES_GET, false, json, FILE_OF(openapi_json)},
        {"/page.css", TAKES_GET, false, "text/css; charset=utf-8", FILE_OF(page_css)},
        {"/page.js", TAKES_GET, false, "text/javascript; charset=utf-8", FILE_OF(page_js)},
        {"/icon.svg", TAKES_GET, false, "image/svg+xml", FILE_OF(icon_svg)},
    };
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (!strcmp(path, routes[i].path)) return &routes[i];
    return NULL;
}

want find_want(const char *accept)
{
    if (!accept) return WANT_JSON;
    if (strstr(accept, "text/event-stream")) return WANT_EVENTS;
    return strstr(accept, "text/html") ? WANT_HTML : WANT_JSON;
}

void size_text(size_t n, char text[static 32])
{
    if (n < 1 << 20) snprintf(text, 32, "%zu KB", n >> 10);
    else snprintf(text, 32, "%.3g MB", (double)n / (1 << 20));
}

int make_page(server *s, pg_err *e)
{
    char bytes[32], text[32];
    pg_buf b = {0};
    snprintf(bytes, sizeof bytes, "%zu", s->o.max_upload);
    size_text(s->o.max_upload, text);
    const char *pairs[] = {"max-bytes", bytes, "max-text", text, "version", PG_VERSION, NULL};
    int rc = answer_fill(serve_index_html, (size_t)(serve_index_html_end - serve_index_html), pairs, &b, e);
    s->page = (char *)b.data;
    s->page_len = b.len;
    return rc;
}

void refuse_busy(request *r, const char *code)
{
    server *s = r->s;
    pthread_mutex_lock(&s->lock);
    double due = child_due(s, serve_now()), each = s->n.captions ? s->n.latency_sum / (double)s->n.captions : 1;
    pthread_mutex_unlock(&s->lock);
    r->retry = due + (each < 60 ? each : 60);
    if (!strcmp(code, "queue_full")) refuse(r, 503, code, "many pictures are waiting already; try again in a moment");
    else if (!strcmp(code, "draining")) refuse(r, 503, code, "the server is about to stop");
    else refuse(r, 503, code, "the command that captions is not running; it will be started again");
}

/* ---- headers ---- */
static void secure(struct MHD_Response *p)
{
    static const char *const headers[][2] = {
        {"Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
                                    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cache-Control", "no-store"},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) MHD_add_response_header(p, headers[i][0], headers[i][1]);
}

static enum MHD_Result queue(request *r, struct MHD_Connection *c, unsigned status, const char *type, struct MHD_Response *p)
{
    char seconds[32];
    if (!p) return MHD_NO;
    secure(p);
    MHD_add_response_header(p, "Content-Type", type);
    if (r->allow) MHD_add_response_header(p, "Allow", r->allow);
    if (status == 401) {
        MHD_add_response_header(p, "WWW-Authenticate", "Basic realm=\"pg\", charset=\"UTF-8\"");
        MHD_add_response_header(p, "WWW-Authenticate", "Bearer");
    }
    if (status == 429 || status == 503) {
        snprintf(seconds, sizeof seconds, "%d", 1 + (int)r->retry);
        MHD_add_response_header(p, "Retry-After", seconds);
    }
    r->answered = status;
    enum MHD_Result rc = MHD_queue_response(c, status, p);
    MHD_destroy_response(p);
    return rc;
}

static enum MHD_Result reply(request *r, struct MHD_Connection *c, unsigned status, const char *type, pg_buf *body, int rc)
{
    if (rc) {
        static const char sorry[] = "{\"error\":\"out of memory\",\"code\":\"no_memory\"}\n";
        pg_buf_free(body);
        return queue(r, c, 500, json, MHD_create_response_from_buffer(sizeof sorry - 1, (void *)(uintptr_t)sorry, MHD_RESPMEM_PERSISTENT));
    }
    struct MHD_Response *p = MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_FREE);
    if (!p) pg_buf_free(body);
    return queue(r, c, status, type, p);
}

static enum MHD_Result reply_error(request *r, struct MHD_Connection *c, unsigned status, const char *code, const char *text)
{
    pg_buf b = {0};
    bool page = r->want == WANT_HTML;
    int rc = page ? answer_html_error((int)status, text, &b, NULL) : answer_error(code, text, r->admitted ? r->job->id : NULL, &b, NULL);
    return reply(r, c, status, page ? html : json, &b, rc);
}

enum MHD_Result reply_refusal(request *r, struct MHD_Connection *c) { return reply_error(r, c, r->status, r->code, r->text); }

static int health(server *s, pg_buf *b, unsigned *status)
{
    pthread_mutex_lock(&s->lock);
    bool ready = child_ready(s), stops = s->draining;
    size_t waiting = s->n_jobs;
    pthread_mutex_unlock(&s->lock);
    *status = ready && !stops ? 200 : 503;
    return pg_buf_addf(b, NULL, "{\"status\":\"%s\",\"waiting\":%zu}\n", stops ? "stopping" : ready ? "ok" : "starting", waiting);
}

enum MHD_Result reply_plain(request *r, struct MHD_Connection *c)
{
    const route *t = r->route;
    pg_buf b = {0};
    unsigned status = 200;
    int rc;
    if (t->body) {
        size_t n = (size_t)(t->body_end - t->body);
        return queue(r, c, 200, t->type, MHD_create_response_from_buffer(n, (void *)(uintptr_t)t->body, MHD_RESPMEM_PERSISTENT));
    }
    if (!strcmp(t->path, "/health")) rc = health(r->s, &b, &status);
    else if (!strcmp(t->path, "/metrics")) rc = info_metrics(r->s, &b, NULL);
    else rc = pg_buf_add(&b, r->s->page, r->s->page_len, NULL);
    return reply(r, c, status, t->type, &b, rc);
}

enum MHD_Result reply_job(request *r, struct MHD_Connection *c)
{
    const job *j = r->job; /* done: nobody changes it any more */
    pg_buf b = {0};
    pthread_mutex_lock(&r->s->lock);
    r->retry = child_starts(r->s) ? 9 : child_due(r->s, serve_now());
    if (r->conn) {
        r->conn->state = CONN_REPLY;
        r->conn->since = serve_now();
    }
    pthread_mutex_unlock(&r->s->lock);
    if (j->code) return reply_error(r, c, (unsigned)j->status, j->code, j->text ? j->text : "out of memory");
    bool page = r->want == WANT_HTML;
    int rc = page ? answer_html(j, &b, NULL) : answer_json(j, &b, NULL);
    return reply(r, c, 200, page ? html : json, &b, rc);
}

/* ---- server-sent events ---- */
typedef struct events {
    server *s;
    job *j;
    conn *conn;
    struct MHD_Connection *c;
    bool greeted, over;
    size_t seen, at;
    pg_buf out; /* from `at` on, what is to be written */
} events;

typedef enum { EVENT_NONE, EVENT_SOME, EVENT_FAILED } event;

/* The next event into v->out; where there is none yet, the connection is suspended until there is. */
static event next_event(events *v)
{
    job *j = v->j;
    size_t ahead = 0;
    int rc;
    v->out.len = v->at = 0;
    if (!v->greeted) {
        v->greeted = true;
        for (const job *k = j->prev; k; k = k->prev) ahead++;
        rc = answer_event("queued", j, ahead, child_starts(v->s), &v->out, NULL);
    } else if (j->state == JOB_DONE) {
        v->over = true;
        if (v->conn) {
            v->conn->state = CONN_REPLY;
            v->conn->since = serve_now();
        }
        rc = answer_event(j->code ? "error" : "caption", j, 0, false, &v->out, NULL);
    } else if (j->news > v->seen) {
        v->seen = j->news;
        rc = answer_event("partial", j, 0, false, &v->out, NULL);
    } else if (j->alive) {
        rc = pg_buf_addf(&v->out, NULL, ": still here\n\n");
    } else {
        j->suspended = v->c;
        MHD_suspend_connection(v->c);
        return EVENT_NONE;
    }
    j->alive = false;
    j->told = serve_now();
    return rc ? EVENT_FAILED : EVENT_SOME;
}

static ssize_t read_events(void *cls, uint64_t pos, char *buf, size_t max)
{
    events *v = cls;
    (void)pos;
    if (v->at == v->out.len) {
        if (v->over) return MHD_CONTENT_READER_END_OF_STREAM;
        pthread_mutex_lock(&v->s->lock);
        event what = next_event(v);
        pthread_mutex_unlock(&v->s->lock);
        if (what != EVENT_SOME) return what == EVENT_NONE ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t n = v->out.len - v->at < max ? v->out.len - v->at : max;
    memcpy(buf, v->out.data + v->at, n);
    v->at += n;
    return (ssize_t)n;
}

static void free_events(void *cls)
{
    events *v = cls;
    pthread_mutex_lock(&v->s->lock);
    job_unref(v->s, v->j);
    pthread_mutex_unlock(&v->s->lock);
    pg_buf_free(&v->out);
    free(v);
}

enum MHD_Result reply_events(request *r, struct MHD_Connection *c)
{
    events *v = pg_calloc(1, sizeof *v);
    if (!v) return MHD_NO;
    *v = (events){.s = r->s, .j = r->job, .conn = r->conn, .c = c};
    pthread_mutex_lock(&r->s->lock);
    r->job->refs++;
    pthread_mutex_unlock(&r->s->lock);
    struct MHD_Response *p = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, read_events, v, free_events);
    if (!p) {
        free_events(v);
        return MHD_NO;
    }
    MHD_add_response_header(p, "X-Accel-Buffering", "no"); /* nginx passes events on at once */
    return queue(r, c, 200, "text/event-stream", p);
}
