/* What is told about the server: metrics for Prometheus, one line of JSON for each request. */
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/guard.h"
#include "serve.h"

const double serve_buckets[SERVE_BUCKETS] = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120};

void info_count(server *s, unsigned status)
{
    for (size_t i = 0; i < SERVE_CODES; i++)
        if (s->n.codes[i].status == status || !s->n.codes[i].status) {
            s->n.codes[i].status = status;
            s->n.codes[i].n++;
            return;
        }
}

typedef struct metric {
    const char *name, *type, *help;
    double value;
} metric;

static int add_metrics(const metric *m, size_t n, pg_buf *out, pg_err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = pg_buf_addf(out, e, "# HELP pg_serve_%s %s\n# TYPE pg_serve_%s %s\npg_serve_%s %.15g\n", m[i].name, m[i].help, m[i].name,
                         m[i].type, m[i].name, m[i].value);
    return rc;
}

static int add_latency(const counts *n, pg_buf *out, pg_err *e)
{
    uint64_t sum = 0;
    int rc = pg_buf_addf(out, e, "# HELP pg_serve_caption_seconds time from upload to caption\n# TYPE pg_serve_caption_seconds histogram\n");
    for (size_t i = 0; i <= SERVE_BUCKETS && !rc; i++) {
        sum += n->latency[i];
        if (i < SERVE_BUCKETS)
            rc = pg_buf_addf(out, e, "pg_serve_caption_seconds_bucket{le=\"%g\"} %llu\n", serve_buckets[i], (unsigned long long)sum);
    }
    if (!rc)
        rc = pg_buf_addf(out, e, "pg_serve_caption_seconds_bucket{le=\"+Inf\"} %llu\npg_serve_caption_seconds_sum %.6f\npg_serve_caption_seconds_count %llu\n",
                         (unsigned long long)sum, n->latency_sum, (unsigned long long)sum);
    return rc;
}

int info_metrics(server *s, pg_buf *out, pg_err *e)
{
    pthread_mutex_lock(&s->lock);
    counts n = s->n;
    size_t conns = 0;
    for (const conn *c = s->conns; c; c = c->next) conns++;
    double waiting = (double)s->n_jobs, held = (double)s->held, ready = child_ready(s), up = serve_now() - s->started;
    pthread_mutex_unlock(&s->lock);
    const metric m[] = {
        {"uploads_total", "counter", "pictures admitted", (double)n.uploads},
        {"upload_bytes_total", "counter", "their bytes", (double)n.upload_bytes},
        {"captions_total", "counter", "captions given", (double)n.captions},
        {"waiting", "gauge", "pictures admitted and not yet answered", waiting},
        {"queue_limit", "gauge", "most pictures that may wait", (double)s->o.queue},
        {"held_bytes", "gauge", "bytes of pictures in memory", held},
        {"connections", "gauge", "open connections", (double)conns},
        {"command_ready", "gauge", "1 where the command runs and has written its header", ready},
        {"command_starts_total", "counter", "times that the command was started", (double)n.starts},
        {"command_deaths_total", "counter", "times that it ended or was ended without being asked to finish", (double)n.deaths},
        {"command_hangs_total", "counter", "of those, times that it had stopped answering", (double)n.hangs},
        {"command_reloads_total", "counter", "times that a new command took over", (double)n.reloads},
        {"stray_answers_total", "counter", "records of the command that nobody waited for", (double)n.strays},
        {"slow_clients_total", "counter", "connections ended because the client took too long", (double)n.slow},
        {"rate_limited_total", "counter", "requests refused by the rate limit", (double)n.limited},
        {"log_lines_lost_total", "counter", "lines of the access log that standard output did not take", (double)n.unlogged},
        {"uptime_seconds", "gauge", "seconds since the start", round(up)},
    };
    int rc = add_metrics(m, sizeof m / sizeof *m, out, e);
    if (!rc) rc = add_latency(&n, out, e);
    if (!rc) rc = pg_buf_addf(out, e, "# HELP pg_serve_requests_total requests by status; 499: the client left\n# TYPE pg_serve_requests_total counter\n");
    for (size_t i = 0; i < SERVE_CODES && n.codes[i].status && !rc; i++)
        rc = pg_buf_addf(out, e, "pg_serve_requests_total{code=\"%u\"} %llu\n", n.codes[i].status, (unsigned long long)n.codes[i].n);
    return rc;
}

/* A line is lost rather than the server kept waiting by whoever reads the log; up to PIPE_BUF it is written whole or not at all. */
static bool write_line(const char *line, size_t n)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(STDOUT_FILENO, line, n) == (ssize_t)n;
}

static json_t *text_of(const char *s) { return pg_utf8_valid(s, strlen(s)) ? json_string(s) : json_string("?"); }

void info_log(server *s, const char *client, const char *method, const char *path, unsigned status, double ms, size_t in, const char *id)
{
    struct timespec t;
    struct tm day;
    char when[64], at[80];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &day);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &day);
    snprintf(at, sizeof at, "%s.%03ldZ", when, t.tv_nsec / 1000000);
    json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:i, s:f, s:I}", "time", at, "client", client, "method", text_of(method), "path",
                          text_of(path), "status", (int)status, "ms", round(ms * 1000) / 1000, "bytes", (json_int_t)in);
    if (o && id) json_object_set_new(o, "id", json_string(id));
    char *line = o ? pg_json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    size_t n = line ? strlen(line) : 0;
    if (line) line[n] = '\n'; /* in the place of the 0 */
    if (!line || !write_line(line, n + 1)) {
        pthread_mutex_lock(&s->lock);
        s->n.unlogged++;
        pthread_mutex_unlock(&s->lock);
    }
    free(line);
    json_decref(o);
}
