/* Greedy decoding of a batch: all prefixes at once, packed without padding, then one row per live sequence and step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/layers.h"

enum { PREFILL_BYTES = 160 << 20, EOS = 1 };

typedef struct batch {
    pg_model *m;
    pg_work *w;
    pg_caption *c;
    size_t n, max_len;
    pg_cache *cache;
    int32_t *next; /* [n] token chosen last */
    float *logp;   /* [n] and its log-probability */
    int (*on_token)(void *ctx, size_t i, int32_t token);
    void *ctx;
    pg_err *e;
} batch;

/* The tokens after rows h [n,D] into next[], logp[]. */
static int choose(batch *b, const float *h, size_t n, int32_t *next, float *logp)
{
    pg_mark mark = pg_work_mark(b->w);
    float *logits = pg_work_rows(b->w, n, b->m->s.vocab, b->e);
    int rc = PG_OK;
    if (!logits)
        return PG_ENOMEM;
    pg_logits(b->m, logits, h, n);
    pg_argmax(b->m->kern, next, logp, logits, n, b->m->s.vocab);
    for (size_t i = 0; i < n && !rc; i++)
        if (!isfinite(logp[i]))
            rc = pg_error(b->e, PG_FAIL, "non-finite logits: the weights or the picture hold values that are not numbers");
    pg_work_release(b->w, mark);
    return rc;
}

static int take(batch *b, size_t i, int32_t token, float logp)
{
    pg_caption *c = &b->c[i];
    c->tokens[c->n++] = token;
    c->logprob += (double)logp;
    c->ended = token == EOS;
    b->next[i] = token;
    if (b->on_token && b->on_token(b->ctx, i, token))
        return pg_error(b->e, PG_FAIL, "stopped by the caller");
    return PG_OK;
}

/* Image tokens of captions c[0..n) into dst[i] [n_image,width]. */
static int features(batch *b, const pg_caption *c, size_t n, float *const *dst)
{
    size_t one = b->m->s.n_image * b->m->s.width, todo = 0;
    const float **pixels = pg_work_bytes(b->w, n, sizeof *pixels, b->e);
    size_t *whose = pixels ? pg_work_bytes(b->w, n, sizeof *whose, b->e) : NULL;
    float *out;
    if (!whose)
        return PG_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (c[i].features) {
            memcpy(dst[i], c[i].features, one * sizeof *out);
            continue;
        }
        if (!c[i].pixels)
            return pg_error(b->e, PG_EINVAL, "a caption without pixels");
        pixels[todo] = c[i].pixels;
        whose[todo++] = i;
    }
    if (!todo)
        return PG_OK;
    if (!(out = pg_work_rows(b->w, todo, one, b->e)))
        return PG_ENOMEM;
    int rc = pg_vit_forward(b->m, pixels, todo, out, b->e);
    for (size_t i = 0; i < todo && !rc; i++)
        memcpy(dst[whose[i]], out + i * one, one * sizeof *out);
    return rc;
}

/* Captions first .. first+n-1, cache slots alike; chooses the first token of each. */
static int prefill(batch *b, size_t first, size_t n)
{
    size_t N = b->m->s.n_image, D = b->m->s.width, R = 0;
    const pg_caption *c = b->c + first;
    pg_mark mark = pg_work_mark(b->w);
    int rc = PG_ENOMEM;
    for (size_t i = 0; i < n; i++)
        R += N + c[i].n_prefix;
    size_t *start = pg_work_bytes(b->w, n + 1, sizeof *start, b->e);
    size_t *slots = start ? pg_work_bytes(b->w, n, sizeof *slots, b->e) : NULL;
    uint32_t *pos = slots ? pg_work_bytes(b->w, R, sizeof *pos, b->e) : NULL;
    uint32_t *lim = pos ? pg_work_bytes(b->w, R, sizeof *lim, b->e) : NULL;
    float **images = lim ? pg_work_bytes(b->w, n, sizeof *images, b->e) : NULL;
    float *x = images ? pg_work_rows(b->w, R, D, b->e) : NULL;
    if (!x)
        goto out;
    start[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t rows = N + c[i].n_prefix, at = start[i];
        start[i + 1] = at + rows;
        slots[i] = first + i;
        images[i] = x + at * D;
        for (size_t r = 0; r < rows; r++) {
            pos[at + r] = (uint32_t)r;
            lim[at + r] = (uint32_t)rows;
        }
        if ((rc = pg_embed(b->m, x + (at + N) * D, c[i].prefix, c[i].n_prefix, b->e)))
            goto out;
    }
    pg_mark inner = pg_work_mark(b->w);
    if ((rc = features(b, c, n, images)))
        goto out;
    pg_work_release(b->w, inner);
    pg_rows rows = {n, R, start, pos, lim};
    if ((rc = pg_decoder_forward(b->m, b->w, x, &rows, b->cache, slots, b->e)))
        goto out;
    for (size_t i = 0; i < n; i++)
        memmove(x + i * D, x + (start[i + 1] - 1) * D, D * sizeof *x);
    if ((rc = choose(b, x, n, b->next + first, b->logp + first)))
        goto out;
    for (size_t i = first; i < first + n && !rc; i++)
        rc = take(b, i, b->next[i], b->logp[i]);
out:
    pg_work_release(b->w, mark);
    return rc;
}

static int prefill_all(batch *b)
{
    const pg_model_shape *s = &b->m->s;
    size_t row = (4 * s->width + 2 * s->heads * s->head_dim + 2 * s->kv_heads * s->head_dim) * sizeof(float);
    size_t most = PREFILL_BYTES / row;
    for (size_t i = 0, n; i < b->n; i += n) {
        size_t R = s->n_image + b->c[i].n_prefix;
        for (n = 1; i + n < b->n; n++) {
            R += s->n_image + b->c[i + n].n_prefix;
            if (R > most)
                break;
        }
        int rc = prefill(b, i, n);
        if (rc)
            return rc;
    }
    return PG_OK;
}

/* One more token for each sequence that has not ended; *live: how many there were. */
static int step(batch *b, size_t *live)
{
    size_t D = b->m->s.width, n = 0;
    pg_mark mark = pg_work_mark(b->w);
    int rc = PG_ENOMEM;
    size_t *slots = pg_work_bytes(b->w, b->n, sizeof *slots, b->e);
    size_t *start = slots ? pg_work_bytes(b->w, b->n + 1, sizeof *start, b->e) : NULL;
    uint32_t *pos = start ? pg_work_bytes(b->w, b->n, sizeof *pos, b->e) : NULL;
    uint32_t *lim = pos ? pg_work_bytes(b->w, b->n, sizeof *lim, b->e) : NULL;
    int32_t *token = lim ? pg_work_bytes(b->w, b->n, sizeof *token, b->e) : NULL;
    float *x = token ? pg_work_rows(b->w, b->n, D, b->e) : NULL;
    if (!x)
        goto out;
    for (size_t i = 0; i < b->n; i++) {
        const pg_caption *c = &b->c[i];
        if (c->ended || c->n >= b->max_len)
            continue;
        slots[n] = i;
        start[n] = n;
        pos[n] = (uint32_t)(b->m->s.n_image + c->n_prefix + c->n - 1);
        lim[n] = pos[n] + 1;
        token[n++] = b->next[i];
    }
    start[n] = n;
    *live = n;
    rc = PG_OK;
    if (!n)
        goto out;
    pg_rows rows = {n, n, start, pos, lim};
    if ((rc = pg_embed(b->m, x, token, n, b->e)) ||
        (rc = pg_decoder_forward(b->m, b->w, x, &rows, b->cache, slots, b->e)) || (rc = choose(b, x, n, token, b->logp)))
        goto out;
    for (size_t i = 0; i < n && !rc; i++)
        rc = take(b, slots[i], token[i], b->logp[i]);
out:
    pg_work_release(b->w, mark);
    return rc;
}

int pg_greedy(pg_model *m, pg_work *w, pg_caption *c, size_t n, size_t max_len,
              int (*on_token)(void *ctx, size_t i, int32_t token), void *ctx, pg_err *e)
{
    batch b = {.m = m, .w = w, .c = c, .n = n, .max_len = max_len, .on_token = on_token, .ctx = ctx, .e = e};
    size_t longest = 0, positions, live = n;
    pg_mark mark = pg_work_mark(w);
    int rc = PG_OK;
    for (size_t i = 0; i < n; i++) {
        c[i].n = 0;
        c[i].logprob = 0;
        c[i].ended = false;
        if (longest < c[i].n_prefix)
            longest = c[i].n_prefix;
    }
    if (!n || !max_len)
        return PG_OK;
    if (!pg_add(m->s.n_image, longest, &positions) || !pg_add(positions, max_len, &positions) || positions > UINT32_MAX / 2)
        return pg_error(e, PG_ELIMIT, "a prefix of %zu tokens and a caption of %zu are too long", longest, max_len);
    b.next = pg_work_bytes(w, n, sizeof *b.next, e);
    b.logp = b.next ? pg_work_bytes(w, n, sizeof *b.logp, e) : NULL;
    if (!b.logp)
        rc = PG_ENOMEM;
    else if (!(rc = pg_cache_new(&b.cache, m, n, positions, e)))
        rc = prefill_all(&b);
    while (!rc && live)
        rc = step(&b, &live);
    pg_cache_free(b.cache);
    pg_work_release(w, mark);
    return rc;
}
