/* pg-serve: what its parts share.
 *
 *   HTTP thread (libmicrohttpd)   takes uploads, admits jobs, keeps connections suspended, answers      serve_http.c
 *   feeder, one for each child    the oldest waiting job, as a record, to the command's stdin           serve_child.c
 *   collector, one for each child records from the command's stdout: partial texts and answers, by id   serve_child.c, serve_take.c
 *   main thread                   signals; starts, replaces and ends children; deadlines                pg-serve.c
 *
 * One mutex, server.lock, guards jobs, children, connections and counts. Nobody waits for a pipe or a socket while holding it. */
#ifndef PG_SERVE_H
#define PG_SERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "image/image.h"
#include "tool.h"

struct MHD_Connection;
struct MHD_Daemon;
struct sockaddr;

double serve_now(void); /* seconds, monotonic */

/* ---- jobs: one picture each ---- */
typedef enum { JOB_WAITING, JOB_SENT, JOB_DONE } job_state;
typedef struct child child;

/* Held by its request, by the server's list from admission until it is answered, and for a moment by a feeder. */
typedef struct job {
    struct job *prev, *next;
    size_t refs;
    char id[40];
    job_state state;
    child *child; /* that it was sent to */
    double admitted, sent;
    pg_buf image;
    const char *type; /* "image/png", from the bytes */
    char *prefix;     /* NULL: the command's own */
    char *source;     /* the name that the client gave, without folders */
    char *partial;    /* text so far; NULL before the first */
    size_t news;      /* counts changes of `partial` */
    /* the answer */
    int status; /* of HTTP */
    const char *code;
    char *text; /* caption, or what went wrong */
    bool scored, truncated;
    double logprob, ms;
    struct MHD_Connection *suspended; /* to be resumed when there is news */
    bool alive; /* the suspended one is to write a sign of life */
    double told; /* when it last wrote */
} job;

/* ---- connections: for telling slow clients ---- */
typedef enum { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_WORK, CONN_REPLY } conn_state;
typedef struct conn {
    struct conn *prev, *next;
    int fd;
    conn_state state;
    double since;
    size_t received; /* bytes of the body so far */
} conn;

enum { SERVE_CODES = 24, SERVE_BUCKETS = 10 };
extern const double serve_buckets[SERVE_BUCKETS];

typedef struct counts {
    struct {
        unsigned status;
        uint64_t n;
    } codes[SERVE_CODES];
    uint64_t uploads, upload_bytes, captions, latency[SERVE_BUCKETS + 1];
    double latency_sum;
    uint64_t starts, deaths, hangs, reloads, strays, slow, limited, unlogged;
} counts;

typedef struct auth auth;
typedef struct rates rates;

typedef struct options {
    const char *address, *port, *prefix, *auth_file;
    char *const *command;
    size_t max_upload, max_pixels, queue;
    double timeout, start_timeout, client_timeout, rate; /* seconds, but for the last: requests a minute */
    bool proxy, read_only;
} options;

typedef struct server {
    pg_tool t;
    options o;
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job waits, or a child's state has changed */
    job *first, *last;
    size_t n_jobs, held; /* bytes of pictures in memory */
    uint64_t next_id, run;
    child *children, *current, *next;
    size_t failures; /* children in a row that ended without an answer */
    bool came_up;    /* one of all of them was ready */
    double restart_at, started;
    bool draining;
    conn *conns;
    size_t active; /* requests between header and end of reply */
    counts n;
    pthread_mutex_t auth_lock; /* for the next two */
    auth *auth;
    rates *rates;
    pg_image *image; /* of the HTTP thread */
    struct MHD_Daemon *daemon;
    int listener; /* once nothing more is accepted */
    bool inherited; /* the socket is the service manager's */
    char *page; /* index.html filled in */
    size_t page_len;
} server;

/* serve_jobs.c; all but job_new and job_admit with the lock held */
job *job_new(void);
void job_unref(server *s, job *j);
/* Puts j at the end of the list. NULL, or why not: a code for refuse_busy. */
const char *job_admit(server *s, job *j);
void job_partial(job *j, char *text); /* takes text over */
/* text: caption, or what went wrong where code is not NULL; copied. */
void job_done(server *s, job *j, int status, const char *code, const char *text, size_t n);
job *job_find(server *s, const child *c, const char *id, size_t id_len);
void job_abandon(server *s, job *j); /* nobody waits for its answer any more */
void jobs_fail(server *s, const child *c, int status, const char *code, const char *text); /* those sent to c; NULL: those that wait */
void jobs_wait_again(server *s, const child *c); /* what c has not even begun */
void jobs_deadlines(server *s, double now);

/* serve_child.c; called by the main thread alone, without the lock */
int child_start(server *s, child **c, pg_err *e) PG_MUST_CHECK;
void children_look(server *s);   /* hung, dead, replaced ones; starts what is missing */
void children_reload(server *s); /* SIGHUP */
void children_retire(server *s); /* let all finish */
bool children_over(server *s);
bool children_hopeless(server *s); /* none has come up, several have ended, and no more are started */
void children_kill(server *s);
/* with the lock held */
bool child_ready(const server *s); /* the header of its stream has come: what it needed is loaded */
bool child_starts(const server *s); /* it runs, and is not ready yet */
double child_due(const server *s, double now); /* seconds until there is a child; 0: there is one */

/* serve_take.c; with the lock held. c's record; true where it answers a picture. */
bool take_record(server *s, const child *c, const pg_rec *rec);

/* serve_http.c */
int http_start(server *s, int fd, pg_err *e) PG_MUST_CHECK;
void http_quiesce(server *s);
void http_stop(server *s);
void http_slow(server *s, double now); /* ends connections of clients that take too long */

/* serve_guard.c: who may, and how often */
int auth_open(auth **a, const char *path, pg_err *e) PG_MUST_CHECK;
void auth_free(auth *a);
/* The header may be NULL. A hash is made to be slow; a header that was accepted is remembered, and known again at once. */
bool auth_remembers(const auth *a, const char *authorization);
bool auth_allows(auth *a, const char *authorization);
rates *rates_new(double per_minute);
void rates_free(rates *r);
/* Seconds to wait, 0 where the request may go on. address: text, IPv6 is taken by /64. */
double rates_take(rates *r, const char *address, double now);

/* serve_info.c */
int info_metrics(server *s, pg_buf *out, pg_err *e) PG_MUST_CHECK;
void info_count(server *s, unsigned status); /* with the lock */
void info_log(server *s, const char *client, const char *method, const char *path, unsigned status, double ms, size_t in, const char *id);

/* serve_answer.c: bodies of answers */
int answer_json(const job *j, pg_buf *out, pg_err *e) PG_MUST_CHECK;
int answer_error(const char *code, const char *text, const char *id, pg_buf *out, pg_err *e) PG_MUST_CHECK;
int answer_event(const char *event, const job *j, size_t ahead, bool starting, pg_buf *out, pg_err *e) PG_MUST_CHECK;
int answer_html(const job *j, pg_buf *out, pg_err *e) PG_MUST_CHECK;
int answer_html_error(int status, const char *text, pg_buf *out, pg_err *e) PG_MUST_CHECK;
/* Each {{name}} of the template becomes the value in pairs (name, value, ..., NULL), escaped for HTML; {{&name}} as it is. */
int answer_fill(const char *template, size_t n, const char *const *pairs, pg_buf *out, pg_err *e) PG_MUST_CHECK;

/* serve_system.c */
int system_listen(server *s, char where[static 80], pg_err *e) PG_MUST_CHECK; /* the socket, or < 0 */
int system_harden(const server *s, pg_err *e) PG_MUST_CHECK;
void system_notify(const char *state); /* to the service manager, where there is one */

/* serve_assets.S: the files of tools/serve/ */
#define SERVE_ASSET(name) extern const char serve_##name[], serve_##name##_end[]
SERVE_ASSET(index_html);
SERVE_ASSET(answer_html);
SERVE_ASSET(page_css);
SERVE_ASSET(page_js);
SERVE_ASSET(icon_svg);
SERVE_ASSET(openapi_json);

#endif
