/* The command: started, fed, listened to, replaced. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve.h"

extern char **environ;

/* What it is given between a signal to end and the one that cannot be refused. */
#define GRACE 3.0
#define MOST_BACKOFF 30.0
/* So many ends in a row, about two seconds apart in all, before one has ever come up: a mistake in the command, which waiting does not mend. */
#define MOST_TRIES 5
#define ANSWER_MAX ((size_t)64 << 20) /* bytes of a record beside the picture; pixels of 896x896 are 10 MB */

struct child {
    child *next_one;
    server *s;
    uint64_t number;
    pid_t pid;
    int in, out; /* its stdin and stdout; the feeder closes the one, the collector the other */
    pthread_t feeder, collector;
    bool ready;          /* its header has come */
    bool retired;        /* gets no more work; ends when it has answered */
    bool broken;         /* to be ended */
    bool hung, noticed;
    bool feeding, collecting; /* the threads were started */
    bool fed, collected;      /* and are over */
    bool reaped;
    int status;
    double started, last_word, retired_at, reaped_at, told_at;
    int told; /* signals sent */
    uint64_t answered;
    char why[600];
};

static void broke(child *c, const char *why)
{
    if (!c->broken && !c->retired) snprintf(c->why, sizeof c->why, "%s", why);
    c->broken = true;
    pthread_cond_broadcast(&c->s->work);
}

/* ---- the feeder ---- */
static int send_job(pg_writer *w, pg_rec *rec, const job *j, pg_err *e)
{
    const char *source = j->source ? j->source : "upload";
    int rc;
    pg_rec_clear(rec);
    if ((rc = pg_rec_set_str(rec, "id", j->id, strlen(j->id), e))) return rc;
    if ((rc = pg_rec_set_str(rec, "source", source, strlen(source), e))) return rc;
    if ((rc = pg_rec_set_bin(rec, "image", j->image.data, j->image.len, e))) return rc;
    if (j->prefix && (rc = pg_rec_set_str(rec, "prefix", j->prefix, strlen(j->prefix), e))) return rc;
    if ((rc = pg_writer_add(w, rec, e))) return rc;
    return pg_writer_flush(w, e);
}

static job *next_waiting(const server *s)
{
    job *j = s->first;
    while (j && j->state != JOB_WAITING) j = j->next;
    return j;
}

static bool has_work(const child *c)
{
    for (const job *j = c->s->first; j; j = j->next)
        if (j->state == JOB_SENT && j->child == c) return true;
    return false;
}

static void *feed(void *arg)
{
    child *c = arg;
    server *s = c->s;
    bool given = false;
    pg_writer *w = NULL;
    pg_rec *rec = pg_rec_new();
    pg_err e = {0};
    int rc = rec ? pg_writer_new(&w, c->in, "the command", &e) : pg_error_nomem(&e);
    if (!rc) rc = pg_writer_header(w, NULL, "examples", s->t.name, PG_VERSION, s->t.argc, s->t.argv, NULL, &e);
    if (!rc) rc = pg_writer_flush(w, &e);
    pthread_mutex_lock(&s->lock);
    while (!rc && !c->retired && !c->broken) {
        /* One that loads gets a single picture, for it may write its header with its first answer. The others wait here: those whose time
           is up are then not worked on for nobody. */
        job *j = s->current == c && (c->ready || !given) ? next_waiting(s) : NULL;
        if (!j) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        if (!has_work(c)) c->last_word = serve_now(); /* silence counts from here */
        given = true;
        j->state = JOB_SENT;
        j->child = c;
        j->sent = serve_now();
        j->refs++;
        pthread_mutex_unlock(&s->lock);
        rc = send_job(w, rec, j, &e);
        pthread_mutex_lock(&s->lock);
        job_unref(s, j);
    }
    bool end = !rc && !c->broken;
    pthread_mutex_unlock(&s->lock);
    if (end) rc = pg_writer_end(w, NULL, &e);
    close(c->in);
    pg_writer_free(w);
    pg_rec_free(rec);
    pthread_mutex_lock(&s->lock);
    if (rc) broke(c, e.msg);
    c->fed = true;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the collector ---- */
static void *collect(void *arg)
{
    child *c = arg;
    server *s = c->s;
    pg_reader *rd = NULL;
    pg_rec *rec = pg_rec_new();
    pg_err e = {0};
    int rc = rec ? pg_reader_new(&rd, c->out, "the command's output", &e) : pg_error_nomem(&e);
    if (!rc) pg_reader_limit(rd, s->o.max_upload + ANSWER_MAX);
    if (!rc) rc = pg_reader_header(rd, rec, &e);
    pthread_mutex_lock(&s->lock);
    c->ready = rc == 1;
    s->came_up |= c->ready;
    c->last_word = serve_now();
    pthread_cond_broadcast(&s->work); /* the feeder has waited for this */
    while (rc == 1) {
        pthread_mutex_unlock(&s->lock);
        rc = pg_reader_next(rd, rec, &e);
        pthread_mutex_lock(&s->lock);
        if (rc == 1) {
            c->last_word = serve_now();
            c->answered += take_record(s, c, rec);
        }
    }
    broke(c, rc ? e.msg : "it ended");
    /* Without a header it has looked at nothing: another one may. */
    if (!c->ready) jobs_wait_again(s, c);
    else if (!c->hung) jobs_fail(s, c, 502, "command_died", "the command that captions died while it had this picture; try again");
    c->collected = true;
    pthread_mutex_unlock(&s->lock);
    close(c->out);
    pg_reader_free(rd);
    pg_rec_free(rec);
    return NULL;
}

/* ---- the main thread ---- */
static int make_pipe(int p[2], pg_err *e)
{
    if (pipe(p)) return pg_error_errno(e, "cannot make a pipe");
    for (int i = 0; i < 2; i++) fcntl(p[i], F_SETFD, FD_CLOEXEC);
    return PG_OK;
}

static int spawn(const server *s, pid_t *pid, int in, int out, pg_err *e)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, all;
    int err;
    if (posix_spawn_file_actions_init(&files)) return pg_error_nomem(e);
    if (posix_spawnattr_init(&how)) {
        posix_spawn_file_actions_destroy(&files);
        return pg_error_nomem(e);
    }
    sigemptyset(&none);
    sigfillset(&all);
    /* A group of its own: the whole pipeline can be ended, and Ctrl-C in a terminal drains instead of cutting it off. */
    if ((err = posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)) ||
        (err = posix_spawnattr_setpgroup(&how, 0)) || (err = posix_spawnattr_setsigmask(&how, &none)) ||
        (err = posix_spawnattr_setsigdefault(&how, &all)) || (err = posix_spawn_file_actions_adddup2(&files, in, 0)) ||
        (err = posix_spawn_file_actions_adddup2(&files, out, 1)) ||
        (err = posix_spawnp(pid, s->o.command[0], &files, &how, s->o.command, environ)))
        errno = err;
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    return err ? pg_error_errno(e, "cannot run '%s'", s->o.command[0]) : PG_OK;
}

int child_start(server *s, child **out, pg_err *e)
{
    int to[2] = {-1, -1}, from[2] = {-1, -1}, rc;
    child *c = pg_calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return pg_error_nomem(e);
    if ((rc = make_pipe(to, e)) || (rc = make_pipe(from, e)) || (rc = spawn(s, &c->pid, to[0], from[1], e))) goto fail;
    close(to[0]);
    close(from[1]);
    c->s = s;
    c->in = to[1];
    c->out = from[0];
    c->started = c->last_word = serve_now();
    pthread_mutex_lock(&s->lock);
    c->number = ++s->n.starts;
    c->next_one = s->children;
    s->children = c;
    c->feeding = !pthread_create(&c->feeder, NULL, feed, c);
    c->collecting = !pthread_create(&c->collector, NULL, collect, c);
    if (!c->feeding) close(c->in);
    if (!c->collecting) close(c->out);
    c->fed = !c->feeding;
    c->collected = !c->collecting;
    if (c->fed || c->collected) broke(c, "no more threads");
    pthread_mutex_unlock(&s->lock);
    *out = c;
    return PG_OK;
fail:
    for (int i = 0; i < 2; i++) {
        if (to[i] >= 0) close(to[i]);
        if (from[i] >= 0) close(from[i]);
    }
    free(c);
    return rc;
}

static void end_group(child *c, double now)
{
    if (c->told == 0) kill(-c->pid, SIGTERM);
    else if (c->told == 1 && now - c->told_at > GRACE) kill(-c->pid, SIGKILL);
    else return;
    c->told++;
    c->told_at = now;
}

static void retire(child *c)
{
    c->retired = true;
    c->retired_at = serve_now();
    pthread_cond_broadcast(&c->s->work);
}

static void look_hung(child *c, double now)
{
    server *s = c->s;
    static const char text[] = "the command that captions stopped answering and is being replaced; try again";
    double silent = now - c->last_word;
    if (c->broken) return;
    if (c->ready && has_work(c) && silent > s->o.timeout) {
        c->hung = true;
        s->n.hangs++;
        broke(c, "it had work and wrote nothing for the time of --timeout");
        jobs_fail(s, c, 504, "timeout", text);
    } else if (!c->ready && !c->retired && now - c->started > s->o.start_timeout) {
        broke(c, "it wrote no header for the time of --start-timeout");
    } else if (c->retired && !has_work(c) && now - c->retired_at > 3 * GRACE && silent > 3 * GRACE) {
        c->broken = true;
    }
}

static void backoff(server *s, bool answered, double now)
{
    double wait = 0.1;
    s->failures = answered ? 0 : s->failures + 1;
    for (size_t i = 1; i < s->failures && wait < MOST_BACKOFF; i++) wait *= 2;
    s->restart_at = now + (wait < MOST_BACKOFF ? wait : MOST_BACKOFF);
}

/* The child's own state; with the lock. */
static void look(child *c, double now)
{
    server *s = c->s;
    if (!c->reaped && waitpid(c->pid, &c->status, WNOHANG) == c->pid) {
        c->reaped = true;
        c->reaped_at = now;
    }
    look_hung(c, now);
    if (c->broken && !c->noticed) {
        c->noticed = true;
        if (!c->retired) s->n.deaths++;
        if (c == s->current) {
            s->current = NULL;
            backoff(s, c->answered > 0, now);
            if (s->restart_at - now > 1) jobs_fail(s, NULL, 503, "no_command", "the command that captions does not start");
        }
    }
    bool patient = c->retired && !c->told && now - c->retired_at < GRACE;
    if (c->broken && !c->reaped && !patient) end_group(c, now);
    /* A process that outlives the first one of its group can keep the pipes open. */
    if (c->reaped && !(c->fed && c->collected) && now - c->reaped_at > GRACE) end_group(c, now);
}

static void say_end(server *s, const child *c)
{
    char how[64] = "";
    if (WIFSIGNALED(c->status)) snprintf(how, sizeof how, " (signal %d)", WTERMSIG(c->status));
    else if (WEXITSTATUS(c->status)) snprintf(how, sizeof how, " (exit status %d)", WEXITSTATUS(c->status));
    if (!c->retired) tool_warn(&s->t, "the command '%s' is gone%s: %s", s->o.command[0], how, c->why);
    else tool_note(&s->t, "command %llu has finished%s", (unsigned long long)c->number, how);
}

static void bury(server *s)
{
    for (child **at = &s->children; *at;) {
        child *c = *at;
        pthread_mutex_lock(&s->lock);
        bool over = c->fed && c->collected && c->reaped && c->noticed;
        if (over) *at = c->next_one;
        pthread_mutex_unlock(&s->lock);
        if (!over) {
            at = &c->next_one;
            continue;
        }
        if (c->feeding) pthread_join(c->feeder, NULL);
        if (c->collecting) pthread_join(c->collector, NULL);
        say_end(s, c);
        free(c);
    }
}

static bool hopeless(const server *s) { return !s->came_up && s->failures >= MOST_TRIES; }

static void start_missing(server *s, double now)
{
    child *c;
    pg_err e = {0};
    pthread_mutex_lock(&s->lock);
    bool wanted = !s->current && now >= s->restart_at && (!s->draining || s->first) && !hopeless(s);
    pthread_mutex_unlock(&s->lock);
    if (!wanted) return;
    int rc = child_start(s, &c, &e);
    pthread_mutex_lock(&s->lock);
    if (rc) backoff(s, false, now);
    s->current = c;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (rc) tool_warn(&s->t, "%s", e.msg);
}

void children_look(server *s)
{
    double now = serve_now();
    const char *said = NULL;
    pthread_mutex_lock(&s->lock);
    for (child *c = s->children; c; c = c->next_one) look(c, now);
    if (s->next && s->next->broken) {
        said = "the new command failed before it was ready; the old one goes on";
        s->next = NULL;
    } else if (s->next && (s->next->ready || !s->current)) {
        if (s->current) retire(s->current);
        s->current = s->next;
        s->next = NULL;
        s->n.reloads++;
        pthread_cond_broadcast(&s->work);
        said = "a new command has taken over";
    }
    pthread_mutex_unlock(&s->lock);
    if (said) tool_info(&s->t, "%s", said);
    bury(s);
    start_missing(s, now);
}

void children_reload(server *s)
{
    child *c = NULL;
    pg_err e = {0};
    int rc = child_start(s, &c, &e);
    pthread_mutex_lock(&s->lock);
    if (!rc && s->next) retire(s->next);
    if (!rc) s->next = c;
    pthread_mutex_unlock(&s->lock);
    if (rc) tool_warn(&s->t, "%s; the old command goes on", e.msg);
}

void children_retire(server *s)
{
    pthread_mutex_lock(&s->lock);
    for (child *c = s->children; c; c = c->next_one)
        if (!c->retired) retire(c);
    s->current = s->next = NULL;
    pthread_mutex_unlock(&s->lock);
}

bool children_over(server *s) { return !s->children; }

bool children_hopeless(server *s)
{
    pthread_mutex_lock(&s->lock);
    bool yes = hopeless(s) && !s->children; /* how the last one ended is said by then */
    pthread_mutex_unlock(&s->lock);
    return yes;
}

void children_kill(server *s)
{
    for (child *c = s->children; c; c = c->next_one) kill(-c->pid, SIGKILL);
}

bool child_ready(const server *s) { return s->current && s->current->ready; }

bool child_starts(const server *s) { return s->current && !s->current->ready; }

double child_due(const server *s, double now) { return s->current || s->restart_at < now ? 0 : s->restart_at - now; }
