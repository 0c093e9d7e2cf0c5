/* Jobs: admitted, sent, answered. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve.h"

double serve_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

job *job_new(void)
{
    job *j = pg_calloc(1, sizeof *j);
    if (j) j->refs = 1;
    return j;
}

void job_unref(server *s, job *j)
{
    if (!j || --j->refs) return;
    s->held -= j->image.len;
    pg_buf_free(&j->image);
    free(j->prefix);
    free(j->source);
    free(j->partial);
    free(j->text);
    free(j);
}

const char *job_admit(server *s, job *j)
{
    const char *why = NULL;
    double now = serve_now();
    pthread_mutex_lock(&s->lock);
    if (s->draining) why = "draining";
    else if (child_due(s, now) > 1) why = "no_command"; /* a restart that is close is worth waiting for */
    else if (s->n_jobs >= s->o.queue) why = "queue_full";
    if (!why) {
        snprintf(j->id, sizeof j->id, "%08llx-%llu", (unsigned long long)(s->run & 0xffffffff), (unsigned long long)++s->next_id);
        j->admitted = j->told = now;
        j->prev = s->last;
        *(s->last ? &s->last->next : &s->first) = j;
        s->last = j;
        j->refs++;
        s->n_jobs++;
        s->n.uploads++;
        s->n.upload_bytes += j->image.len;
        pthread_cond_broadcast(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    return why;
}

/* j may be gone afterwards. */
static void leave(server *s, job *j)
{
    *(j->prev ? &j->prev->next : &s->first) = j->next;
    *(j->next ? &j->next->prev : &s->last) = j->prev;
    j->prev = j->next = NULL;
    s->n_jobs--;
    job_unref(s, j);
}

static void job_wake(job *j)
{
    if (j->suspended) MHD_resume_connection(j->suspended);
    j->suspended = NULL;
}

job *job_find(server *s, const child *c, const char *id, size_t id_len)
{
    for (job *j = s->first; j; j = j->next)
        if (j->state == JOB_SENT && j->child == c && strlen(j->id) == id_len && !memcmp(j->id, id, id_len)) return j;
    return NULL;
}

void job_partial(job *j, char *text)
{
    free(j->partial);
    j->partial = text;
    j->news++;
    job_wake(j);
}

static void count_latency(server *s, double seconds)
{
    size_t i = 0;
    while (i < SERVE_BUCKETS && seconds > serve_buckets[i]) i++;
    s->n.latency[i]++;
    s->n.latency_sum += seconds;
}

void job_done(server *s, job *j, int status, const char *code, const char *text, size_t n)
{
    double seconds = serve_now() - j->admitted;
    j->state = JOB_DONE;
    j->status = status;
    j->code = code;
    j->text = pg_strndup(text, n);
    if (!j->text) {
        j->status = 500;
        j->code = "no_memory";
    }
    j->ms = seconds * 1000;
    if (!j->code) {
        s->n.captions++;
        count_latency(s, seconds);
    }
    job_wake(j);
    leave(s, j);
}

void job_abandon(server *s, job *j)
{
    j->suspended = NULL;
    if (j->state != JOB_WAITING) return; /* what the command has stays in the list until it is answered */
    j->state = JOB_DONE;
    leave(s, j);
}

void jobs_fail(server *s, const child *c, int status, const char *code, const char *text)
{
    for (job *j = s->first, *next; j; j = next) {
        next = j->next;
        if (j->child == c) job_done(s, j, status, code, text, strlen(text));
    }
}

void jobs_wait_again(server *s, const child *c)
{
    for (job *j = s->first; j; j = j->next)
        if (j->child == c) {
            j->child = NULL;
            j->state = JOB_WAITING;
        }
}

void jobs_deadlines(server *s, double now)
{
    static const char late[] = "the command did not answer in time", never[] = "the command was busy for too long",
                      starts[] = "the command that captions is still starting; try again in a while";
    bool starting = child_starts(s);
    for (job *j = s->first, *next; j; j = next) {
        next = j->next;
        if (starting && now - j->admitted > s->o.timeout) job_done(s, j, 503, "starting", starts, sizeof starts - 1);
        else if (j->state == JOB_SENT && now - j->sent > s->o.timeout) job_done(s, j, 504, "timeout", late, sizeof late - 1);
        else if (j->state == JOB_WAITING && now - j->admitted > s->o.timeout) job_done(s, j, 503, "busy", never, sizeof never - 1);
        else if (j->suspended && now - j->told > 10) {
            j->alive = true;
            j->told = now;
            job_wake(j);
        }
    }
}
