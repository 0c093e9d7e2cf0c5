/* The threads that caption. The main thread reads records into slots and writes them; a replica takes those that have come, works on
 * them together, and wakes the main thread with what it has. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "infer.h"

static void wake(const infer *f)
{
    while (write(f->wake[1], "", 1) < 0 && errno == EINTR) /* a full pipe wakes as well */
        ;
}

static slot *slot_of(const infer *f, const pg_caption *c)
{
    size_t i = 0;
    while (&f->slots[i].caption != c)
        i++;
    return &f->slots[i];
}

int infer_told(void *ctx, pg_caption *c)
{
    infer *f = ((replica *)ctx)->f;
    slot *s = slot_of(f, c);
    int32_t n = (int32_t)c->n; /* of MAX_LENGTH at most */
    pg_err e;
    if (c->n && c->tokens[c->n - 1] == PG_EOS)
        return 0;
    pthread_mutex_lock(&f->lock);
    int rc = pg_buf_add(&s->told, &n, sizeof n, &e);
    if (!rc)
        rc = pg_buf_add(&s->told, c->tokens, c->n * sizeof *c->tokens, &e);
    pthread_mutex_unlock(&f->lock);
    wake(f);
    return rc;
}

static void finish(infer *f, slot *s)
{
    pthread_mutex_lock(&f->lock);
    s->finished = true;
    pthread_mutex_unlock(&f->lock);
}

/* The record's score or features. */
static int make(replica *r, slot *s, pg_err *e)
{
    const pg_sample *x = &s->sample;
    const float *pixels = x->pixels;
    free(s->made);
    if (!(s->made = pg_floats(r->f->features ? r->m->s.n_image * r->m->s.width : x->n)))
        return pg_error_nomem(e);
    pg_scoring g = {.pixels = pixels, .features = x->has_features ? x->features : NULL, .tokens = x->tokens, .mask_ar = x->mask_ar,
                    .mask_loss = x->mask_loss, .n = x->n, .logp = s->made};
    int rc = r->f->features ? pg_vit_forward(r->m, &pixels, 1, s->made, &s->err) : pg_score(r->m, r->w, &g, &s->err);
    if (rc == PG_ENOMEM) {
        *e = s->err;
        return rc;
    }
    finish(r->f, s);
    return PG_OK;
}

/* The next record that is to be worked on; NULL: there is none now. Under the lock. */
static slot *take(infer *f)
{
    while (f->taken < f->ready) {
        slot *s = &f->slots[f->taken++ % f->n_slots];
        if (!s->finished)
            return s;
    }
    return NULL;
}

/* As many records as there are seats for, waiting where nothing else is to be done. false: all is over. */
static bool seat(replica *r, pg_err *e)
{
    infer *f = r->f;
    size_t seated = r->decoder ? pg_decoder_seated(r->decoder) : 0;
    slot *s = NULL;
    bool more = true;
    while (more && seated < f->seats) {
        pthread_mutex_lock(&f->lock);
        while (!(s = take(f)) && !seated && !f->over && !f->failed.code)
            pthread_cond_wait(&f->arrived, &f->lock);
        more = s && !f->failed.code;
        pthread_mutex_unlock(&f->lock);
        if (more && !r->decoder)
            return make(r, s, e) == PG_OK;
        if (more && pg_decoder_add(r->decoder, &s->caption))
            seated++;
    }
    return seated > 0;
}

static int step(replica *r, pg_err *e)
{
    int rc = pg_decoder_step(r->decoder, e);
    for (pg_caption *c; !rc && (c = pg_decoder_take(r->decoder)) != NULL;)
        finish(r->f, slot_of(r->f, c));
    return rc;
}

static void *run(void *arg)
{
    replica *r = arg;
    infer *f = r->f;
    pg_err e = {0};
    while (seat(r, &e) && (!r->decoder || !step(r, &e)))
        wake(f);
    if (e.code) {
        pthread_mutex_lock(&f->lock);
        f->failed = e;
        pthread_cond_broadcast(&f->arrived);
        pthread_mutex_unlock(&f->lock);
        wake(f);
    }
    return NULL;
}

void infer_start(infer *f)
{
    if (pipe(f->wake) || fcntl(f->wake[0], F_SETFL, O_NONBLOCK) || fcntl(f->wake[1], F_SETFL, O_NONBLOCK))
        tool_die(&f->t, EXIT_FAIL, "cannot make a pipe: %s", strerror(errno));
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->arrived, NULL);
    for (size_t i = 0; i < f->n_replicas; i++) {
        int rc = pthread_create(&f->replicas[i].thread, NULL, run, &f->replicas[i]);
        if (rc)
            tool_die(&f->t, EXIT_FAIL, "cannot start a thread: %s", strerror(rc));
    }
}

void infer_stop(infer *f)
{
    pthread_mutex_lock(&f->lock);
    f->over = true;
    pthread_cond_broadcast(&f->arrived);
    pthread_mutex_unlock(&f->lock);
    for (size_t i = 0; i < f->n_replicas; i++)
        pthread_join(f->replicas[i].thread, NULL);
    pthread_cond_destroy(&f->arrived);
    pthread_mutex_destroy(&f->lock);
    close(f->wake[0]);
    close(f->wake[1]);
}

void infer_wait(infer *f, bool stream)
{
    struct pollfd p[3] = {{.fd = f->wake[0], .events = POLLIN},
                          {.fd = STDOUT_FILENO},
                          {.fd = stream ? STDIN_FILENO : -1, .events = POLLIN}};
    char drained[256];
    if (poll(p, 3, -1) < 0)
        return; /* a signal: the caller looks again */
    if (p[1].revents & POLLERR)
        raise(SIGPIPE); /* as a write would have ended it */
    while (p[0].revents && read(f->wake[0], drained, sizeof drained) == (ssize_t)sizeof drained)
        ;
}
