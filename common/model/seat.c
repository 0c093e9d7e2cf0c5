/* How the texts of a seat go on: samples, of which greedy decoding is one, and beams. */
#include "model/seat.h"

#include <stdlib.h>

#include "text/text.h"

static int append(pg_seat *s, pg_path *p, int32_t token, double logp, pg_err *e)
{
    if (s->n_nodes == s->nodes_room) {
        size_t room = s->nodes_room ? 2 * s->nodes_room : 64;
        pg_node *l = pg_realloc(s->nodes, room, sizeof *l);
        if (!l)
            return pg_error_nomem(e);
        s->nodes = l;
        s->nodes_room = room;
    }
    s->nodes[s->n_nodes] = (pg_node){p->last, token};
    p->last = s->n_nodes++;
    p->score += logp;
    return PG_OK;
}

/* The text that ends with node `last` into the caption. */
static void spell(const pg_seat *s, size_t last)
{
    pg_caption *c = s->c;
    c->n = 0;
    for (size_t l = last; l != PG_NOWHERE; l = s->nodes[l].before)
        c->n++;
    for (size_t l = last, i = c->n; l != PG_NOWHERE; l = s->nodes[l].before)
        c->tokens[--i] = s->nodes[l].token;
}

void pg_seat_fail(pg_seat *s, int code, const char *why)
{
    (void)pg_error(&s->c->err, code, "%s", why);
    s->done = true;
}

/* ---- samples, of which greedy decoding is one ---- */
int pg_seat_samples(pg_decoder *d, pg_seat *s, const pg_option *o, size_t per_row, pg_err *e)
{
    bool first = !s->n, more = false;
    const pg_path *best = s->paths;
    int rc = PG_OK;
    for (size_t i = 0; i < s->live && !rc; i++) {
        pg_path *p = &s->paths[i];
        const pg_option *mine = first ? o + i : o;
        if (p->ended)
            continue;
        rc = append(s, p, mine->token, mine->logp, e);
        p->ended = mine->token == PG_EOS;
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
static void offer(const pg_decoder *d, pg_path *offers, int32_t *token, double *logp, size_t *n, const pg_path *parent, const pg_option *o)
{
    double score = parent->score + o->logp;
    size_t at;
    PG_KNOWN(d->width);
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
static int give_slots(pg_decoder *d, const pg_seat *s, pg_path *children, size_t n, pg_err *e)
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

static void finish_beams(pg_seat *s)
{
    s->done = true;
    spell(s, s->best);
    s->c->tokens[s->c->n++] = PG_EOS;
    s->c->logprob = s->best_score;
    s->c->ended = true;
}

/* A round of the reference: every live text could end here, the likeliest of those and of earlier ones is kept, the older one on a
 * tie; the likeliest continuations stay live; over when the best of them is less likely than the finished one. */
int pg_seat_beams(pg_decoder *d, pg_seat *s, const pg_option *o, size_t per_row, pg_err *e)
{
    int32_t token[PG_MAX_BEAMS] = {0};
    double logp[PG_MAX_BEAMS] = {0};
    size_t n = 0;
    pg_path *children = s->offers;
    int rc = PG_OK;
    for (size_t i = 0; i < s->live; i++, o += per_row) {
        const pg_path *p = &s->paths[i];
        double end = p->score + o[per_row - 1].logp;
        if (end > s->best_score) {
            s->best_score = end;
            s->best = p->last;
        }
        for (size_t k = 0; k + 1 < per_row; k++)
            if (o[k].token != PG_EOS)
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
