/* A rank other than 0: computes what rank 0 sends, holds no data, writes nothing. */
#include "train_ranks.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct worker {
    run *r;
    size_t image, row; /* floats of a picture; of its features */
    int32_t *words;
    size_t words_room, rows_room, n_room;
    float *rows;
    pg_example *ex;
    double *loss_of;
    const float **pictures;
} worker;

static void take(run *r, void *p, size_t n)
{
    TRY(pg_link_recv(r->link, p, n, 0, e));
}

static void answer(run *r, const void *p, size_t n)
{
    TRY(pg_link_send(r->link, p, n, 0, e));
}

/* ---- setting up ---- */
static void open_model(run *r)
{
    r->t.silent = true; /* rank 0 finds the same to warn of */
    train_open(r);
    r->t.silent = false;
    TRY(pg_optim_init(&r->opt, r->m, e));
    train_set_mults(r);
    TRY(pg_reduce_new(&r->reduce, r->link, r->m, e));
}

static void tell_twin(run *r)
{
    char *text = train_twin_text(r);
    if (!text) tool_no_memory(&r->t);
    uint64_t n = strlen(text);
    answer(r, r->link->host, sizeof r->link->host);
    answer(r, &n, sizeof n);
    answer(r, text, (size_t)n);
    free(text);
}

/* ---- work ---- */
static void room(worker *w, size_t n, size_t words, size_t row)
{
    size_t floats;
    if (n > w->n_room) {
        free(w->ex);
        free(w->loss_of);
        free(w->pictures);
        w->ex = pg_calloc(n, sizeof *w->ex);
        w->loss_of = pg_calloc(n, sizeof *w->loss_of);
        w->pictures = pg_calloc(n, sizeof *w->pictures);
        w->n_room = n;
    }
    if (words > w->words_room) {
        free(w->words);
        w->words = pg_alloc(words, sizeof *w->words);
        w->words_room = words;
    }
    if (!pg_mul(n, row, &floats)) tool_no_memory(&w->r->t);
    if (floats > w->rows_room) {
        free(w->rows);
        w->rows = pg_floats(floats);
        w->rows_room = floats;
    }
    if ((n && (!w->ex || !w->loss_of || !w->pictures || !w->rows)) || (words && !w->words)) tool_no_memory(&w->r->t);
}

static void take_examples(worker *w, const msg *m)
{
    size_t n = (size_t)m->n, words = (size_t)m->words, row = m->pixels ? w->image : w->row;
    room(w, n, words, row);
    PG_KNOWN(!n || w->words); /* of each example the length is sent at least */
    take(w->r, w->words, words * sizeof *w->words);
    for (size_t i = 0, at = 0; i < n; i++) {
        size_t len = (size_t)w->words[at++];
        const int32_t *p = w->words + at;
        w->ex[i] = (pg_example){.tokens = p, .mask_ar = p + len, .mask_loss = p + 2 * len, .mask_input = p + 3 * len, .n = len};
        at += 4 * len;
        float *x = w->rows + i * row;
        take(w->r, x, row * sizeof *x);
        if (m->pixels) w->ex[i].pixels = x;
        else w->ex[i].features = x;
    }
}

static void batch(worker *w, const msg *m)
{
    run *r = w->r;
    double loss;
    take_examples(w, m);
    train_fit_memory(r, r->m->s.n_image + (size_t)m->longest);
    if (m->first) pg_grads_zero(r->m);
    if (m->last) TRY(pg_reduce_begin(r->reduce, e));
    TRY(pg_loss_share(r->m, r->work, w->ex, (size_t)m->n, (size_t)m->of, true, 0, &loss, w->loss_of, NULL, r->smoothing, e));
    if (m->last) TRY(pg_reduce_end(r->reduce, e));
    answer(r, w->loss_of, (size_t)m->n * sizeof *w->loss_of);
}

static void mean_loss(worker *w, const msg *m)
{
    run *r = w->r;
    double loss;
    take_examples(w, m);
    TRY(pg_loss(r->m, r->work, w->ex, (size_t)m->n, false, 0, &loss, NULL, NULL, 0, e));
    answer(r, &loss, sizeof loss);
}

static void features(worker *w, const msg *m)
{
    run *r = w->r;
    size_t n = (size_t)m->n;
    room(w, n, 0, w->image + w->row);
    float *out = w->rows + n * w->image;
    for (size_t i = 0; i < n; i++) {
        w->pictures[i] = w->rows + i * w->image;
        take(r, w->rows + i * w->image, w->image * sizeof(float));
    }
    TRY(pg_vit_forward(r->m, w->pictures, n, out, e));
    answer(r, out, n * w->row * sizeof *out);
}

static void state(run *r, const msg *m)
{
    r->opt.count = (size_t)m->count;
    for (size_t i = 0; i < r->m->n_params; i++) {
        size_t bytes = r->m->params[i].count * sizeof(float);
        TRY(pg_link_cast(r->link, r->m->params[i].w, bytes, e));
        if (r->opt.mu) TRY(pg_link_cast(r->link, r->opt.mu[i], bytes, e));
        if (r->opt.nu) TRY(pg_link_cast(r->link, r->opt.nu[i], bytes, e));
    }
}

/* What goes wrong here goes wrong on rank 0 in the same way, and there it is said. */
static void step(run *r, const msg *m)
{
    double norm;
    bool changed;
    pg_err ignored;
    (void)!pg_optim_step(&r->opt, r->m, m->mult, &norm, &changed, &ignored);
}

int train_worker(run *r, int argc, char **argv)
{
    char name[128];
    worker w = {.r = r};
    msg m;
    snprintf(name, sizeof name, "pg-train: rank %zu on '%s'", r->link->rank, r->link->host);
    r->t.name = name;
    take(r, &m, sizeof m);
    if (m.kind == MSG_GO) {
        train_parse(r, argc, argv);
        r->t.name = name;
        r->t.quiet = true; /* rank 0 says what there is to say */
        r->t.verbose = false;
        signal(SIGPIPE, SIG_IGN);
        train_threads(r);
        open_model(r);
        w.image = r->m->s.image_size * r->m->s.image_size * 3;
        w.row = r->m->s.n_image * r->m->s.width;
        tell_twin(r);
        take(r, &m, sizeof m);
    }
    for (; m.kind != MSG_END; take(r, &m, sizeof m))
        switch ((msg_kind)m.kind) {
        case MSG_FEATURES: features(&w, &m); break;
        case MSG_BATCH: batch(&w, &m); break;
        case MSG_LOSS: mean_loss(&w, &m); break;
        case MSG_STATE: state(r, &m); break;
        case MSG_STEP: step(r, &m); break;
        case MSG_GO:
        case MSG_END: break;
        }
    free(w.words);
    free(w.rows);
    free(w.ex);
    free(w.loss_of);
    free(w.pictures);
    train_part(r);
    pg_optim_free(&r->opt);
    pg_work_free(r->work);
    pg_model_close(r->m);
    pg_kern_free(r->kern);
    return EXIT_OK;
}
