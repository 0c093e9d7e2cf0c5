#include "model/decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/layers.h"
#include "model/seat.h"

enum {
    GROUP_ROWS = 256, /* pictures are read together up to so many rows: more do not make the products faster */
    MOST_POSITIONS = 1 << 24
};

/* ---- setting up ---- */
static int check(const pg_decoding *how, size_t seats, pg_err *e)
{
    if (!how->max_len || !seats)
        return pg_error(e, PG_EINVAL, "nothing to decode with %zu seats and captions of %zu tokens", seats, how->max_len);
    if (how->beams > PG_MAX_BEAMS || how->samples > PG_MAX_SAMPLES)
        return pg_error(e, PG_EINVAL, "%zu beams or %zu samples: the most are %d and %d", how->beams, how->samples, PG_MAX_BEAMS, PG_MAX_SAMPLES);
    if (how->beams && (how->temperature > 0 || how->samples > 1))
        return pg_error(e, PG_EINVAL, "beams are not sampled");
    if (!(how->temperature > 0) && (how->samples > 1 || how->top_p > 0))
        return pg_error(e, PG_EINVAL, "samples need a temperature");
    if (how->told && how->samples > 1)
        return pg_error(e, PG_EINVAL, "several samples cannot be told of as they grow");
    return PG_OK;
}

int pg_decoder_new(pg_decoder **out, pg_model *m, pg_work *w, const pg_decoding *how, size_t seats, pg_err *e)
{
    int rc = check(how, seats, e);
    size_t n, slots;
    pg_decoder *d;
    *out = NULL;
    if (rc)
        return rc;
    if (!(d = pg_calloc(1, sizeof *d)))
        return pg_error_nomem(e);
    *d = (pg_decoder){.m = m, .w = w, .how = *how, .n_seats = seats};
    d->width = how->beams ? how->beams : how->samples > 1 ? how->samples : 1;
    if (!pg_mul(seats, 2 * d->width, &n) || !pg_mul(seats, 1 + d->width, &slots) || !(d->seats = pg_calloc(seats, sizeof *d->seats)) ||
        !(d->paths = pg_calloc(n, sizeof *d->paths)))
        rc = pg_error_nomem(e);
    else if (!(rc = pg_cache_new(&d->cache, m, slots, e)))
        rc = pg_chooser_new(&d->chooser, m, how, e);
    if (rc) {
        pg_decoder_free(d);
        return rc;
    }
    for (size_t i = 0; i < seats; i++) {
        d->seats[i].base = i * (1 + d->width);
        d->seats[i].paths = d->paths + i * 2 * d->width;
        d->seats[i].offers = d->seats[i].paths + d->width;
    }
    *out = d;
    return PG_OK;
}

void pg_decoder_free(pg_decoder *d)
{
    if (!d)
        return;
    for (size_t i = 0; d->seats && i < d->n_seats; i++)
        free(d->seats[i].nodes);
    free(d->seats);
    free(d->paths);
    pg_cache_free(d->cache);
    pg_chooser_free(d->chooser);
    free(d);
}

bool pg_decoder_add(pg_decoder *d, pg_caption *c)
{
    for (size_t i = 0; i < d->n_seats; i++) {
        pg_seat *s = &d->seats[i];
        if (s->c)
            continue;
        c->n = 0;
        c->logprob = 0;
        c->ended = false;
        c->err = (pg_err){0};
        s->c = c;
        s->read = s->done = false;
        s->n = s->n_nodes = 0;
        s->live = d->how.beams ? 1 : d->width;
        s->best = PG_NOWHERE;
        s->best_score = -INFINITY;
        for (size_t p = 0; p < d->width; p++)
            s->paths[p] = (pg_path){.slot = s->base + 1 + p, .last = PG_NOWHERE};
        return true;
    }
    return false;
}

size_t pg_decoder_seated(const pg_decoder *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_seats; i++)
        n += d->seats[i].c != NULL;
    return n;
}

pg_caption *pg_decoder_take(pg_decoder *d)
{
    for (size_t i = 0; i < d->n_seats; i++) {
        pg_caption *c = d->seats[i].c;
        if (!c || !d->seats[i].done)
            continue;
        d->seats[i].c = NULL;
        return c;
    }
    return NULL;
}

/* ---- a token for each row ---- */
/* Where a row of the batch belongs. Rows of a seat are together, in the order of its paths. */
typedef struct batch {
    size_t n, rows, draws; /* draws: most of a row; only the first tokens of several samples come from one row */
    pg_seat **who;       /* [n] seats in the batch */
    size_t *row;      /* [n+1] first row of each */
    pg_row_ask *ask;  /* [rows] */
    double *u;        /* [rows][draws] */
    size_t *start;    /* [rows+1] */
    uint32_t *pos, *lim;
    pg_place *at;
    int32_t *token;
    float *x;         /* [rows,D] */
} batch;

/* A stream of its own for each record and sample, a number of its own for each token: nothing depends on who else is there. */
static double uniform(const pg_decoding *how, const pg_caption *c, size_t sample, size_t at)
{
    pg_rng r;
    if (how->uniform)
        return how->uniform(how->ctx, c, sample, at);
    pg_rng_seed(&r, how->seed, c->stream);
    pg_rng_seed(&r, pg_rng_u64(&r), sample);
    pg_rng_seed(&r, pg_rng_u64(&r), at);
    return pg_rng_double(&r);
}

static void ask_for_draws(const pg_decoder *d, const batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        const pg_seat *s = b->who[i];
        size_t r = b->row[i];
        for (size_t p = 0; p < s->live; p++) {
            double *u = b->u + r * b->draws + (s->n ? 0 : p);
            if (s->paths[p].ended)
                continue;
            b->ask[r].first = !s->n;
            b->ask[r].u = b->u + r * b->draws;
            b->ask[r].draws = s->n ? 1 : s->live;
            if (d->how.temperature > 0)
                *u = uniform(&d->how, s->c, p, s->n);
            r += s->n != 0;
        }
    }
}

/* x [rows,D], the final norm's output: chooses what comes next for every seat of the batch. */
static int advance(pg_decoder *d, const batch *b, pg_err *e)
{
    size_t per_row = pg_options_of(d->m, &d->how, b->draws);
    pg_option *options = pg_work_bytes(d->w, b->rows, per_row * sizeof *options, e);
    int rc = options ? PG_OK : PG_ENOMEM;
    ask_for_draws(d, b);
    if (!rc)
        rc = pg_choose(d->chooser, d->m, d->w, &d->how, b->x, b->rows, b->ask, options, per_row, e);
    for (size_t i = 0; i < b->n && !rc; i++) {
        pg_seat *s = b->who[i];
        const pg_option *o = options + b->row[i] * per_row;
        bool finite = true;
        for (size_t r = 0; r < b->row[i + 1] - b->row[i]; r++)
            finite &= o[r * per_row].token >= 0;
        if (!finite) {
            pg_seat_fail(s, PG_FAIL, "non-finite logits: the weights or the picture hold values that are not numbers");
            continue;
        }
        rc = d->how.beams ? pg_seat_beams(d, s, o, per_row, e) : pg_seat_samples(d, s, o, per_row, e);
        if (!rc && d->how.told && d->how.told(d->how.ctx, s->c))
            rc = pg_error(e, PG_FAIL, "stopped by the caller");
    }
    return rc;
}

static int batch_new(pg_decoder *d, batch *b, size_t n, size_t rows, size_t draws, pg_err *e)
{
    size_t D = d->m->s.width;
    *b = (batch){.draws = draws};
    if (!(b->who = pg_work_bytes(d->w, n, sizeof *b->who, e)) || !(b->row = pg_work_bytes(d->w, n + 1, sizeof *b->row, e)) ||
        !(b->ask = pg_work_bytes(d->w, rows, sizeof *b->ask, e)) || !(b->u = pg_work_bytes(d->w, rows, draws * sizeof *b->u, e)) ||
        !(b->start = pg_work_bytes(d->w, rows + 1, sizeof *b->start, e)) || !(b->pos = pg_work_bytes(d->w, rows, sizeof *b->pos, e)) ||
        !(b->lim = pg_work_bytes(d->w, rows, sizeof *b->lim, e)) || !(b->at = pg_work_bytes(d->w, rows, sizeof *b->at, e)) ||
        !(b->token = pg_work_bytes(d->w, rows, sizeof *b->token, e)) || !(b->x = pg_work_rows(d->w, rows, D, e)))
        return PG_ENOMEM;
    b->row[0] = b->start[0] = 0;
    return PG_OK;
}

/* ---- reading pictures and prefixes ---- */
/* Image tokens of each caption into x + at[i] * width. */
static int features(pg_decoder *d, pg_seat *const *who, const size_t *at, size_t n, float *x, pg_err *e)
{
    size_t D = d->m->s.width, one = d->m->s.n_image * D, todo = 0;
    pg_mark mark = pg_work_mark(d->w);
    const float **pixels = pg_work_bytes(d->w, n, sizeof *pixels, e);
    size_t *to = pixels ? pg_work_bytes(d->w, n, sizeof *to, e) : NULL;
    float *out = to ? pg_work_rows(d->w, n, one, e) : NULL;
    int rc = out ? PG_OK : PG_ENOMEM;
    for (size_t i = 0; i < n && !rc; i++) {
        const pg_caption *c = who[i]->c;
        if (c->features) {
            memcpy(x + at[i] * D, c->features, one * sizeof *x);
        } else if (c->pixels) {
            pixels[todo] = c->pixels;
            to[todo++] = at[i];
        } else {
            rc = pg_error(e, PG_EINVAL, "a caption without pixels");
        }
    }
    if (!rc && todo)
        rc = pg_vit_forward(d->m, pixels, todo, out, e);
    for (size_t i = 0; i < todo && !rc; i++)
        memcpy(x + to[i] * D, out + i * one, one * sizeof *x);
    pg_work_release(d->w, mark);
    return rc;
}

static size_t rows_of(const pg_decoder *d, const pg_seat *s)
{
    return d->m->s.n_image + s->c->n_prefix;
}

/* Pictures and prefixes of some seats into the cache; the output of each one's last row into h [n,D]. */
static int read_group(pg_decoder *d, pg_seat *const *who, size_t n, float *h, pg_err *e)
{
    size_t N = d->m->s.n_image, D = d->m->s.width, R = 0;
    pg_mark mark = pg_work_mark(d->w);
    int rc = PG_ENOMEM;
    size_t *start = pg_work_bytes(d->w, n + 1, sizeof *start, e);
    pg_place *at = start ? pg_work_bytes(d->w, n, sizeof *at, e) : NULL;
    uint32_t *pos, *lim;
    float *x;
    for (size_t i = 0; i < n; i++)
        R += rows_of(d, who[i]);
    if (!at || !(pos = pg_work_bytes(d->w, R, sizeof *pos, e)) || !(lim = pg_work_bytes(d->w, R, sizeof *lim, e)) ||
        !(x = pg_work_rows(d->w, R, D, e)))
        goto out;
    start[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t rows = who[i]->shared = rows_of(d, who[i]);
        start[i + 1] = start[i] + rows;
        at[i] = (pg_place){.slot = who[i]->base};
        for (size_t r = 0; r < rows; r++) {
            pos[start[i] + r] = (uint32_t)r;
            lim[start[i] + r] = (uint32_t)rows;
        }
        if ((rc = pg_cache_reserve(d->cache, who[i]->base, rows, 0, e)) ||
            (rc = pg_embed(d->m, x + (start[i] + N) * D, who[i]->c->prefix, who[i]->c->n_prefix, e)))
            goto out;
    }
    pg_rows rows = {n, R, start, pos, lim};
    if (!(rc = features(d, who, start, n, x, e)))
        rc = pg_decoder_read(d->m, d->w, x, &rows, d->cache, at, h, e);
out:
    pg_work_release(d->w, mark);
    return rc;
}

/* The group joins the batch. Where it fails, each of it is tried alone: the others are not harmed, and need less memory. */
static void join(pg_decoder *d, batch *b, pg_seat *const *who, size_t n)
{
    pg_err why = {0};
    int rc = read_group(d, who, n, b->x + b->rows * d->m->s.width, &why);
    if (rc && n == 1)
        pg_seat_fail(who[0], rc, why.msg);
    for (size_t i = 0; rc && n > 1 && i < n; i++)
        join(d, b, who + i, 1);
    for (size_t i = 0; !rc && i < n; i++) {
        b->who[b->n++] = who[i];
        b->row[b->n] = ++b->rows;
    }
}

/* All that were added since the last step, and their first tokens. */
static int read_new(pg_decoder *d, pg_err *e)
{
    size_t n = 0;
    pg_seat **who = pg_work_bytes(d->w, d->n_seats, sizeof *who, e);
    batch b;
    int rc;
    if (!who)
        return PG_ENOMEM;
    for (size_t i = 0; i < d->n_seats; i++) {
        pg_seat *s = &d->seats[i];
        if (!s->c || s->read)
            continue;
        s->read = true;
        if (s->c->n_prefix > MOST_POSITIONS || d->how.max_len > MOST_POSITIONS)
            pg_seat_fail(s, PG_ELIMIT, "prefix and caption are too long");
        else
            who[n++] = s;
    }
    if (!n)
        return PG_OK;
    if ((rc = batch_new(d, &b, n, n, d->width, e)))
        return rc;
    for (size_t i = 0, k; i < n; i += k) {
        size_t R = rows_of(d, who[i]);
        for (k = 1; i + k < n && R + rows_of(d, who[i + k]) <= GROUP_ROWS; k++)
            R += rows_of(d, who[i + k]);
        join(d, &b, who + i, k);
    }
    return advance(d, &b, e);
}

/* ---- one more token ---- */
static int add_seat(pg_decoder *d, batch *b, pg_seat *s, pg_err *e)
{
    for (size_t p = 0; p < s->live; p++) {
        size_t r = b->rows;
        int rc;
        if (s->paths[p].ended)
            continue;
        if ((rc = pg_cache_reserve(d->cache, s->paths[p].slot, s->n, s->n - 1, e)))
            return rc;
        b->at[r] = (pg_place){s->paths[p].slot, s->base, s->shared};
        b->pos[r] = (uint32_t)(s->shared + s->n - 1);
        b->lim[r] = b->pos[r] + 1;
        b->token[r] = s->nodes[s->paths[p].last].token;
        b->start[++b->rows] = r + 1;
    }
    b->who[b->n++] = s;
    b->row[b->n] = b->rows;
    return PG_OK;
}

static int extend(pg_decoder *d, pg_err *e)
{
    size_t rows = 0, n = 0;
    batch b;
    int rc;
    for (size_t i = 0; i < d->n_seats; i++)
        if (d->seats[i].c && !d->seats[i].done) {
            n++;
            rows += d->seats[i].live;
        }
    if (!n)
        return PG_OK;
    if ((rc = batch_new(d, &b, n, rows, 1, e)))
        return rc;
    for (size_t i = 0; i < d->n_seats && !rc; i++)
        if (d->seats[i].c && !d->seats[i].done)
            rc = add_seat(d, &b, &d->seats[i], e);
    pg_rows all = {b.rows, b.rows, b.start, b.pos, b.lim};
    if (!rc && !(rc = pg_embed(d->m, b.x, b.token, b.rows, e)) &&
        !(rc = pg_decoder_forward(d->m, d->w, b.x, &all, d->cache, b.at, e)))
        rc = advance(d, &b, e);
    return rc;
}

int pg_decoder_step(pg_decoder *d, pg_err *e)
{
    pg_mark mark = pg_work_mark(d->w);
    int rc = read_new(d, e);
    pg_work_release(d->w, mark);
    if (!rc)
        rc = extend(d, e);
    pg_work_release(d->w, mark);
    return rc;
}

int pg_decode(pg_model *m, pg_work *w, const pg_decoding *how, pg_caption *c, size_t n, size_t seats, pg_err *e)
{
    pg_decoder *d;
    size_t added = 0;
    int rc = pg_decoder_new(&d, m, w, how, seats < n || !n ? seats : n, e);
    while (!rc && (added < n || pg_decoder_seated(d))) {
        while (added < n && pg_decoder_add(d, &c[added]))
            added++;
        rc = pg_decoder_step(d, e);
        while (!rc && pg_decoder_take(d))
            ;
    }
    pg_decoder_free(d);
    return rc;
}
