#include "model/decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/cache.h"
#include "model/choose.h"
#include "model/layers.h"

enum { EOS = 1 };
#define NOWHERE SIZE_MAX

/* One chosen token; a text is read from its last one back to the first. */
typedef struct node {
    size_t before; /* NOWHERE: it is the first */
    int32_t token;
} node;

typedef struct path { /* a beam or a sample */
    size_t slot;      /* of the cache: what comes after picture and prefix */
    size_t last;      /* node */
    double score;
    bool ended;
} path;

typedef struct seat {
    pg_caption *c; /* NULL: free */
    bool read, done; /* picture and prefix are in the cache; finished */
    size_t base;     /* slot of picture and prefix */
    size_t shared;   /* their positions */
    size_t n;        /* tokens chosen of each path */
    path *paths, *offers; /* [width] */
    size_t live;     /* paths; before the first token there is one beam, and samples go together */
    node *links;
    size_t n_links, links_room;
    size_t best;     /* beams: the last node of the likeliest finished text, eos not in it */
    double best_score;
} seat;

struct pg_decoder {
    pg_model *m;
    pg_work *w;
    pg_decoding how;
    size_t n_seats, width; /* most paths of a seat */
    seat *seats;
    path *paths; /* of all seats, twice */
    pg_cache *cache;
    pg_chooser *chooser;
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
        free(d->seats[i].links);
    free(d->seats);
    free(d->paths);
    pg_cache_free(d->cache);
    pg_chooser_free(d->chooser);
    free(d);
}

bool pg_decoder_add(pg_decoder *d, pg_caption *c)
{
    for (size_t i = 0; i < d->n_seats; i++) {
        seat *s = &d->seats[i];
        if (s->c)
            continue;
        c->n = 0;
        c->logprob = 0;
        c->ended = false;
        c->err = (pg_err){0};
        s->c = c;
        s->read = s->done = false;
        s->n = s->n_links = 0;
        s->live = d->how.beams ? 1 : d->width;
        s->best = NOWHERE;
        s->best_score = -INFINITY;
        for (size_t p = 0; p < d->width; p++)
            s->paths[p] = (path){.slot = s->base + 1 + p, .last = NOWHERE};
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

/* ---- texts ---- */
static int append(seat *s, path *p, int32_t token, double logp, pg_err *e)
{
    if (s->n_links == s->links_room) {
        size_t room = s->links_room ? 2 * s->links_room : 64;
        node *l = pg_realloc(s->links, room, sizeof *l);
        if (!l)
            return pg_error_nomem(e);
        s->links = l;
        s->links_room = room;
    }
    s->links[s->n_links] = (node){p->last, token};
    p->last = s->n_links++;
    p->score += logp;
    return PG_OK;
}

/* The text that ends with node `last` into the caption. */
static void spell(const seat *s, size_t last)
{
    pg_caption *c = s->c;
    c->n = 0;
    for (size_t l = last; l != NOWHERE; l = s->links[l].before)
        c->n++;
    for (size_t l = last, i = c->n; l != NOWHERE; l = s->links[l].before)
        c->tokens[--i] = s->links[l].token;
}

static void fail_seat(seat *s, int code, const char *why)
{
    (void)pg_error(&s->c->err, code, "%s", why);
    s->done = true;
}

/* ---- samples, of which greedy decoding is one ---- */
static int advance_samples(pg_decoder *d, seat *s, const pg_option *o, size_t per_row, pg_err *e)
{
    bool first = !s->n, more = false;
    const path *best = s->paths;
    int rc = PG_OK;
    for (size_t i = 0; i < s->live && !rc; i++) {
        path *p = &s->paths[i];
        const pg_option *mine = first ? o + i : o;
        if (p->ended)
            continue;
        rc = append(s, p, mine->token, mine->logp, e);
        p->ended = mine->token == EOS;
        more |= !p->ended;
        o += first ? 0 : per_row;
    }
    s->n++;
    s->done = !more || s->n == d->how.max_len;
    if (!rc && !s->done && d->how.told)
        spell(s, best->last);
    if (rc || !s->done)
        return rc;
    for (size_t i = 1; i < s->live; i++)
        if (s->paths[i].score > best->score)
            best = &s->paths[i];
    spell(s, best->last);
    s->c->logprob = best->score;
    s->c->ended = best->ended;
    return PG_OK;
}

/* ---- beams ---- */
/* Keeps the `width` best offers in falling order; of equals the earlier one comes first. slot: the parent's; last: the
 * parent's until it is appended to. */
static void offer(const pg_decoder *d, path *offers, int32_t *token, double *logp, size_t *n, const path *parent, const pg_option *o)
{
    double score = parent->score + o->logp;
    size_t at;
    if (*n == d->width && !(score > offers[*n - 1].score + logp[*n - 1]))
        return;
    at = *n < d->width ? (*n)++ : *n - 1;
    for (; at && score > offers[at - 1].score + logp[at - 1]; at--) {
        offers[at] = offers[at - 1];
        token[at] = token[at - 1];
        logp[at] = logp[at - 1];
    }
    offers[at] = *parent;
    token[at] = o->token;
    logp[at] = o->logp;
}

/* The first child of a text goes on in its slot; others get a slot whose text has no child, and a copy. */
static int give_slots(pg_decoder *d, const seat *s, path *children, size_t n, pg_err *e)
{
    bool taken[PG_MAX_BEAMS] = {0}, placed[PG_MAX_BEAMS] = {0};
    size_t first = s->base + 1, held = s->n, vacant = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = children[i].slot - first;
        placed[i] = !taken[at];
        taken[at] = true;
    }
    for (size_t i = 0; i < n; i++) {
        if (placed[i])
            continue;
        while (taken[vacant])
            vacant++;
        taken[vacant] = true;
        int rc = pg_cache_reserve(d->cache, first + vacant, held, 0, e);
        if (rc)
            return rc;
        pg_cache_copy(d->cache, first + vacant, children[i].slot, held);
        children[i].slot = first + vacant;
    }
    return PG_OK;
}

static void finish_beams(seat *s)
{
    s->done = true;
    spell(s, s->best);
    s->c->tokens[s->c->n++] = EOS;
    s->c->logprob = s->best_score;
    s->c->ended = true;
}

/* A round of the reference: every live text could end here, the likeliest of those and of earlier ones is kept, the older one on a
 * tie; the likeliest continuations stay live; over when the best of them is less likely than the finished one. */
static int advance_beams(pg_decoder *d, seat *s, const pg_option *o, size_t per_row, pg_err *e)
{
    int32_t token[PG_MAX_BEAMS];
    double logp[PG_MAX_BEAMS];
    size_t n = 0;
    path *children = s->offers;
    int rc = PG_OK;
    for (size_t i = 0; i < s->live; i++, o += per_row) {
        const path *p = &s->paths[i];
        double end = p->score + o[per_row - 1].logp;
        if (end > s->best_score) {
            s->best_score = end;
            s->best = p->last;
        }
        for (size_t k = 0; k + 1 < per_row; k++)
            if (o[k].token != EOS)
                offer(d, children, token, logp, &n, p, &o[k]);
    }
    if ((rc = give_slots(d, s, children, n, e)))
        return rc;
    for (size_t i = 0; i < n && !rc; i++)
        rc = append(s, &children[i], token[i], logp[i], e);
    s->offers = s->paths;
    s->paths = children;
    s->live = n;
    s->n++;
    if (rc)
        return rc;
    if (!n || children[0].score < s->best_score || s->n == d->how.max_len)
        finish_beams(s);
    else if (d->how.told)
        spell(s, children[0].last);
    return PG_OK;
}

/* ---- a token for each row ---- */
/* Where a row of the batch belongs. Rows of a seat are together, in the order of its paths. */
typedef struct batch {
    size_t n, rows, width;
    seat **who;       /* [n] seats in the batch */
    size_t *row;      /* [n+1] first row of each */
    pg_row_ask *ask;  /* [rows] */
    double *u;        /* [rows][width] */
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
        const seat *s = b->who[i];
        size_t r = b->row[i];
        for (size_t p = 0; p < s->live; p++) {
            double *u = b->u + r * b->width + (s->n ? 0 : p);
            if (s->paths[p].ended)
                continue;
            b->ask[r].first = !s->n;
            b->ask[r].u = b->u + r * b->width;
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
    size_t per_row = pg_options_of(d->m, &d->how);
    pg_option *options = pg_work_bytes(d->w, b->rows, per_row * sizeof *options, e);
    int rc = options ? PG_OK : PG_ENOMEM;
    ask_for_draws(d, b);
    if (!rc)
        rc = pg_choose(d->chooser, d->m, d->w, &d->how, b->x, b->rows, b->ask, options, e);
    for (size_t i = 0; i < b->n && !rc; i++) {
        seat *s = b->who[i];
        const pg_option *o = options + b->row[i] * per_row;
        bool finite = true;
        for (size_t r = 0; r < b->row[i + 1] - b->row[i]; r++)
            finite &= o[r * per_row].token >= 0;
        if (!finite) {
            fail_seat(s, PG_FAIL, "non-finite logits: the weights or the picture hold values that are not numbers");
            continue;
        }
        rc = d->how.beams ? advance_beams(d, s, o, per_row, e) : advance_samples(d, s, o, per_row, e);
        if (!rc && d->how.told && d->how.told(d->how.ctx, s->c))
            rc = pg_error(e, PG_FAIL, "stopped by the caller");
    }
    return rc;
}

static int batch_new(pg_decoder *d, batch *b, size_t n, size_t rows, pg_err *e)
{
    size_t D = d->m->s.width;
    *b = (batch){.width = d->width};
    if (!(b->who = pg_work_bytes(d->w, n, sizeof *b->who, e)) || !(b->row = pg_work_bytes(d->w, n + 1, sizeof *b->row, e)) ||
        !(b->ask = pg_work_bytes(d->w, rows, sizeof *b->ask, e)) || !(b->u = pg_work_bytes(d->w, rows, d->width * sizeof *b->u, e)) ||
        !(b->start = pg_work_bytes(d->w, rows + 1, sizeof *b->start, e)) || !(b->pos = pg_work_bytes(d->w, rows, sizeof *b->pos, e)) ||
        !(b->lim = pg_work_bytes(d->w, rows, sizeof *b->lim, e)) || !(b->at = pg_work_bytes(d->w, rows, sizeof *b->at, e)) ||
        !(b->token = pg_work_bytes(d->w, rows, sizeof *b->token, e)) || !(b->x = pg_work_rows(d->w, rows, D, e)))
        return PG_ENOMEM;
    b->row[0] = b->start[0] = 0;
    return PG_OK;
}

/* ---- reading pictures and prefixes ---- */
static int features(pg_decoder *d, const pg_caption *c, float *x, pg_err *e)
{
    if (c->features) {
        memcpy(x, c->features, d->m->s.n_image * d->m->s.width * sizeof *x);
        return PG_OK;
    }
    if (!c->pixels)
        return pg_error(e, PG_EINVAL, "a caption without pixels");
    return pg_vit_forward(d->m, &c->pixels, 1, x, e);
}

/* Picture and prefix of one seat into the cache; the last row's output into h [D]. */
static int read_seat(pg_decoder *d, seat *s, float *h, pg_err *e)
{
    size_t N = d->m->s.n_image, D = d->m->s.width, R;
    const pg_caption *c = s->c;
    pg_mark mark = pg_work_mark(d->w);
    uint32_t *pos = NULL, *lim = NULL;
    float *x = NULL;
    int rc = PG_ENOMEM;
    if (!pg_add(N, c->n_prefix, &R) || R > UINT32_MAX / 2 || d->how.max_len > UINT32_MAX / 2)
        return pg_error(e, PG_ELIMIT, "a prefix of %zu tokens and a caption of %zu are too long", c->n_prefix, d->how.max_len);
    if (!(pos = pg_work_bytes(d->w, R, sizeof *pos, e)) || !(lim = pg_work_bytes(d->w, R, sizeof *lim, e)) ||
        !(x = pg_work_rows(d->w, R, D, e)))
        goto out;
    for (size_t r = 0; r < R; r++) {
        pos[r] = (uint32_t)r;
        lim[r] = (uint32_t)R;
    }
    s->shared = R;
    pg_rows rows = {1, R, (const size_t[]){0, R}, pos, lim};
    pg_place at = {.slot = s->base};
    if (!(rc = pg_cache_reserve(d->cache, s->base, R, 0, e)) && !(rc = pg_embed(d->m, x + N * D, c->prefix, c->n_prefix, e)) &&
        !(rc = features(d, c, x, e)) && !(rc = pg_decoder_forward(d->m, d->w, x, &rows, d->cache, &at, e)))
        memcpy(h, x + (R - 1) * D, D * sizeof *h);
out:
    pg_work_release(d->w, mark);
    return rc;
}

/* All that were added since the last step, and their first tokens. One by one: a picture's rows are many enough for the products,
 * and what is rounded how does not depend on who else was added. */
static int read_new(pg_decoder *d, pg_err *e)
{
    size_t n = 0;
    batch b;
    int rc;
    for (size_t i = 0; i < d->n_seats; i++)
        n += d->seats[i].c && !d->seats[i].read;
    if (!n)
        return PG_OK;
    if ((rc = batch_new(d, &b, n, n, e)))
        return rc;
    for (size_t i = 0; i < d->n_seats; i++) {
        seat *s = &d->seats[i];
        pg_err why = {0};
        if (!s->c || s->read)
            continue;
        s->read = true;
        if ((rc = read_seat(d, s, b.x + b.rows * d->m->s.width, &why))) {
            fail_seat(s, rc, why.msg);
            continue;
        }
        b.who[b.n++] = s;
        b.row[b.n] = ++b.rows;
    }
    return advance(d, &b, e);
}

/* ---- one more token ---- */
static int add_seat(pg_decoder *d, batch *b, seat *s, pg_err *e)
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
        b->token[r] = s->links[s->paths[p].last].token;
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
    if ((rc = batch_new(d, &b, n, rows, e)))
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
