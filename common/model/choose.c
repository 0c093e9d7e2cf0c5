#include "model/choose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/layers.h"
#include "model/pick.h"
#include "text/text.h"

enum {
    LOGIT_ROWS = 8,           /* rows of a product: in f32 the vocabulary's matrix streams best through so few (tests/bench/LOG.md) */
    MOST_ROWS = 16,           /* the same in bf16 and int8, whose kernels do not mind */
    SMALL = 1 << 13,          /* logits in all that are not worth waking threads for */
    SMALL_VOCABULARY = 1 << 22 /* elements of its matrix: reading it is not what takes the time */
};

struct pg_chooser {
    double *room; /* of each thread: probabilities and what is sorted; NULL where nothing is drawn */
    size_t vocab;
};

int pg_chooser_new(pg_chooser **out, const pg_model *m, const pg_decoding *how, pg_err *e)
{
    pg_chooser *c = pg_calloc(1, sizeof *c);
    size_t n;
    *out = NULL;
    if (!c)
        return pg_error_nomem(e);
    c->vocab = m->s.vocab;
    if (how->temperature > 0 &&
        (!pg_mul(2 * pg_kern_threads(m->kern), c->vocab, &n) || !(c->room = pg_alloc(n, sizeof *c->room)))) {
        free(c);
        return pg_error_nomem(e);
    }
    *out = c;
    return PG_OK;
}

void pg_chooser_free(pg_chooser *c)
{
    if (!c)
        return;
    free(c->room);
    free(c);
}

static size_t likeliest(const pg_model *m, const pg_decoding *how)
{
    return how->beams < m->s.vocab ? how->beams + 1 : m->s.vocab;
}

size_t pg_options_of(const pg_model *m, const pg_decoding *how, size_t draws)
{
    return how->beams ? likeliest(m, how) + 1 : draws;
}

typedef struct job {
    const pg_model *m;
    const pg_decoding *how;
    double *room;
    float *logits;         /* [n,V] */
    const int32_t *best;   /* [n] the likeliest token of each row */
    const float *logp;     /* [n] and its log-probability, from which all others follow */
    const pg_row_ask *ask;
    pg_option *options;    /* [n][per_row] */
    size_t per_row;
} job;

static void set(const job *j, pg_option *o, size_t r, int32_t token)
{
    const float *x = j->logits + r * j->m->s.vocab;
    o->token = token;
    o->logp = (double)x[token] - (double)x[j->best[r]] + (double)j->logp[r];
}

static void beam_row(const job *j, size_t r, pg_option *o)
{
    int32_t token[PG_MAX_BEAMS + 1];
    size_t n = likeliest(j->m, j->how);
    pg_top(token, n, j->logits + r * j->m->s.vocab, j->m->s.vocab);
    for (size_t i = 0; i < n; i++)
        set(j, &o[i], r, token[i]);
    set(j, &o[n], r, PG_EOS);
}

static void drawn_row(const job *j, size_t r, pg_option *o, double *room)
{
    size_t V = j->m->s.vocab;
    pg_probabilities(room, room + V, j->logits + r * V, V, j->how->temperature, j->how->top_p);
    for (size_t i = 0; i < j->ask[r].draws; i++)
        set(j, &o[i], r, (int32_t)pg_draw(room, V, j->ask[r].u[i]));
}

static void choose_row(void *ctx, size_t r, size_t thread)
{
    const job *j = ctx;
    pg_option *o = j->options + r * j->per_row;
    if (!isfinite(j->logp[r]))
        o[0].token = -1;
    else if (j->how->beams)
        beam_row(j, r, o);
    else if (j->how->temperature > 0)
        drawn_row(j, r, o, j->room + thread * 2 * j->m->s.vocab);
    else
        set(j, o, r, j->best[r]);
}

static void cap_row(void *ctx, size_t r, size_t thread)
{
    const job *j = ctx;
    (void)thread;
    if (!j->ask[r].first)
        pg_softcap(j->logits + r * j->m->s.vocab, j->m->s.vocab, j->how->final_softcap);
}

/* Logits of n rows. A single row is summed in another order than several; where a second one costs little it is computed beside it, so
 * that a small model gives the same bits for any batch. */
static void logits_of(pg_model *m, float *logits, float *pair, const float *h, size_t n)
{
    size_t D = m->s.width;
    if (n > 1 || D * m->s.vocab > SMALL_VOCABULARY) {
        pg_logits(m, logits, h, n);
        return;
    }
    memcpy(pair, h, D * sizeof *pair);
    memcpy(pair + D, h, D * sizeof *pair);
    pg_logits(m, logits, pair, 2);
}

int pg_choose(pg_chooser *c, pg_model *m, pg_work *w, const pg_decoding *how, const float *h, size_t R, const pg_row_ask *ask,
              pg_option *options, size_t per_row, pg_err *e)
{
    pg_mark mark = pg_work_mark(w);
    size_t at_once = m->qembed || pg_kern_uses_bf16(m->kern) ? MOST_ROWS : LOGIT_ROWS;
    float *logits = pg_work_rows(w, at_once, m->s.vocab, e), *pair = logits ? pg_work_rows(w, 2, m->s.width, e) : NULL;
    float logp[MOST_ROWS];
    int32_t best[MOST_ROWS];
    size_t parts = (R + at_once - 1) / at_once;
    if (!pair)
        return PG_ENOMEM;
    for (size_t i = 0; i < parts; i++) { /* of equal size, so that no row is left alone */
        size_t r = R * i / parts, n = R * (i + 1) / parts - r;
        job j = {m, how, c->room, logits, best, logp, ask + r, options + r * per_row, per_row};
        pg_pool *pool = n * m->s.vocab > SMALL ? pg_kern_pool(m->kern) : NULL;
        logits_of(m, logits, pair, h + r * m->s.width, n);
        if (how->final_softcap > 0)
            pg_pool_run(pool, n, cap_row, &j);
        pg_argmax(m->kern, best, logp, logits, n, m->s.vocab);
        pg_pool_run(how->beams || how->temperature > 0 ? pool : NULL, n, choose_row, &j);
    }
    pg_work_release(w, mark);
    return PG_OK;
}
