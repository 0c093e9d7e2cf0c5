#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/cache.h"
#include "model/layers.h"

enum { MLP_FLOATS = 8 << 20 }; /* gate, and up, of one piece of rows */

/* ---- one layer ---- */
pg_attn_dims pg_dec_attn_dims(const pg_model *m)
{
    size_t q = m->s.heads * m->s.head_dim, kv = m->s.kv_heads * m->s.head_dim;
    return (pg_attn_dims){.heads = m->s.heads, .kv_heads = m->s.kv_heads, .head_dim = m->s.head_dim,
                          .ldq = q, .ldk = kv, .ldo = q, .scale = 1.0f, .softcap = m->attn_softcap};
}

void pg_dec_seqs(const pg_model *m, const pg_rows *rows, const pg_dec_act *act, pg_attn *seqs)
{
    size_t q = m->s.heads * m->s.head_dim, kv = m->s.kv_heads * m->s.head_dim;
    for (size_t i = 0; i < rows->n_seqs; i++) {
        size_t at = rows->start[i], n = rows->start[i + 1] - at;
        seqs[i] = (pg_attn){.n = n, .q = act->q + at * q, .k = act->k + at * kv, .v = act->v + at * kv,
                            .lim = rows->lim + at, .n_keys = n, .out = act->a + at * q,
                            .lse = act->lse ? act->lse + at * m->s.heads : NULL};
    }
}

/* Each row's key and value into the cache, in the text's own slot. */
static void put_keys(const pg_model *m, size_t l, const pg_rows *rows, pg_cache *cache, const pg_place *at, const pg_dec_act *act)
{
    size_t kv = m->s.kv_heads * m->s.head_dim;
    for (size_t i = 0; i < rows->n_seqs; i++) {
        float *keys = pg_cache_at(cache, l, 0, at[i].slot), *values = pg_cache_at(cache, l, 1, at[i].slot);
        for (size_t r = rows->start[i]; r < rows->start[i + 1]; r++) {
            size_t row = (rows->pos[r] - at[i].shared) * kv;
            memcpy(keys + row, act->k + r * kv, kv * sizeof *keys);
            memcpy(values + row, act->v + r * kv, kv * sizeof *values);
        }
    }
}

static void cached_seqs(const pg_model *m, size_t l, const pg_rows *rows, pg_cache *cache, const pg_place *at, const pg_dec_act *act,
                        pg_attn *seqs)
{
    pg_dec_seqs(m, rows, act, seqs);
    for (size_t i = 0; i < rows->n_seqs; i++) {
        seqs[i].k = pg_cache_at(cache, l, 0, at[i].slot);
        seqs[i].v = pg_cache_at(cache, l, 1, at[i].slot);
        seqs[i].n_keys = 0;
        for (size_t r = rows->start[i]; r < rows->start[i + 1]; r++)
            if (seqs[i].n_keys < rows->lim[r])
                seqs[i].n_keys = rows->lim[r];
        if (at[i].shared) {
            seqs[i].k2 = seqs[i].k;
            seqs[i].v2 = seqs[i].v;
            seqs[i].k = pg_cache_at(cache, l, 0, at[i].base);
            seqs[i].v = pg_cache_at(cache, l, 1, at[i].base);
            seqs[i].split = at[i].shared;
        }
    }
}

static void attention_half(pg_model *m, size_t l, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at,
                           const pg_dec_act *act, const pg_dec_scratch *s)
{
    pg_kern *k = m->kern;
    const pg_dec_layer *w = &m->dec[l];
    size_t D = m->s.width, H = m->s.head_dim, R = rows->R;
    size_t q = m->s.heads * H, kv = m->s.kv_heads * H;
    pg_attn_dims d = pg_dec_attn_dims(m);

    pg_rms_norm(k, act->y0, act->rstd0, x, w->pre_attn.scale, R, D);
    pg_linear_forward(k, &w->q, act->q, act->y0, R);
    pg_linear_forward(k, &w->k, act->k, act->y0, R);
    pg_linear_forward(k, &w->v, act->v, act->y0, R);
    pg_rope(k, act->q, q, rows->pos, m->rope_cos, m->rope_sin, R, m->s.heads, H, m->q_scale, false);
    pg_rope(k, act->k, kv, rows->pos, m->rope_cos, m->rope_sin, R, m->s.kv_heads, H, 1.0f, false);
    if (cache) {
        put_keys(m, l, rows, cache, at, act);
        cached_seqs(m, l, rows, cache, at, act, s->seqs);
    } else {
        pg_dec_seqs(m, rows, act, s->seqs);
    }
    pg_attention(k, s->seqs, rows->n_seqs, &d);
    pg_dec_attention_out(m, l, x, R, act, s);
}

void pg_dec_attention_out(pg_model *m, size_t l, float *x, size_t R, const pg_dec_act *act, const pg_dec_scratch *s)
{
    pg_kern *k = m->kern;
    const pg_dec_layer *w = &m->dec[l];
    size_t D = m->s.width;
    if (!w->post_attn.scale) {
        pg_linear_add(k, &w->o, x, act->a, R);
        return;
    }
    pg_linear_forward(k, &w->o, act->o, act->a, R);
    pg_rms_norm(k, s->tmp, act->rstd_o, act->o, w->post_attn.scale, R, D);
    pg_axpy(k, x, 1.0f, s->tmp, R * D);
}

void pg_dec_mlp(pg_model *m, size_t l, float *x, size_t R, const pg_dec_act *act, const pg_dec_scratch *s)
{
    pg_kern *k = m->kern;
    const pg_dec_layer *w = &m->dec[l];
    size_t D = m->s.width, F = m->s.mlp;
    pg_rms_norm(k, act->y1, act->rstd1, x, w->pre_ffw.scale, R, D);
    for (size_t r = 0; r < R; r += s->mlp_rows) {
        size_t n = R - r < s->mlp_rows ? R - r : s->mlp_rows;
        pg_linear_forward(k, &w->gate, act->gate, act->y1 + r * D, n);
        pg_linear_forward(k, &w->up, act->up, act->y1 + r * D, n);
        pg_geglu(k, s->act, act->gate, act->up, n * F);
        if (w->post_ffw.scale)
            pg_linear_forward(k, &w->down, act->f + r * D, s->act, n);
        else
            pg_linear_add(k, &w->down, x + r * D, s->act, n);
    }
    if (!w->post_ffw.scale)
        return;
    pg_rms_norm(k, s->tmp, act->rstd_f, act->f, w->post_ffw.scale, R, D);
    pg_axpy(k, x, 1.0f, s->tmp, R * D);
}

void pg_dec_layer_forward(pg_model *m, size_t l, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at,
                          const pg_dec_act *act, const pg_dec_scratch *s)
{
    size_t bytes = rows->R * m->s.width * sizeof *x;
    if (act->x)
        memcpy(act->x, x, bytes);
    attention_half(m, l, x, rows, cache, at, act, s);
    if (act->x_mid)
        memcpy(act->x_mid, x, bytes);
    pg_dec_mlp(m, l, x, rows->R, act, s);
}

/* ---- all layers ---- */
static int check_rows(const pg_model *m, const pg_rows *rows, const pg_cache *cache, const pg_place *at, size_t *positions, pg_err *e)
{
    *positions = 0;
    for (size_t i = 0; i < rows->n_seqs; i++) {
        size_t keys = rows->start[i + 1] - rows->start[i], shared = cache ? at[i].shared : 0;
        if (cache)
            keys = shared + pg_cache_positions(cache, at[i].slot);
        if (shared && pg_cache_positions(cache, at[i].base) < shared)
            return pg_error(e, PG_EINVAL, "a text shares %zu positions of a slot of %zu", shared, pg_cache_positions(cache, at[i].base));
        for (size_t r = rows->start[i]; r < rows->start[i + 1]; r++) {
            if (rows->lim[r] < 1 || rows->lim[r] > keys || (cache && (rows->pos[r] >= keys || rows->pos[r] < shared)))
                return pg_error(e, PG_EINVAL, "row %zu at position %u sees %u of %zu keys", r, (unsigned)rows->pos[r],
                                (unsigned)rows->lim[r], keys);
            if (*positions <= rows->pos[r])
                *positions = (size_t)rows->pos[r] + 1;
        }
    }
    return m->dec ? PG_OK : pg_error(e, PG_EINVAL, "the model has no decoder");
}

/* One set of activations for all layers. */
static int one_act(const pg_model *m, pg_work *w, const pg_rows *rows, pg_dec_act *act, pg_dec_scratch *s, pg_err *e)
{
    size_t R = rows->R, D = m->s.width, F = m->s.mlp, q = m->s.heads * m->s.head_dim, kv = m->s.kv_heads * m->s.head_dim;
    *act = (pg_dec_act){0};
    *s = (pg_dec_scratch){.mlp_rows = MLP_FLOATS / F < 64 ? 64 : MLP_FLOATS / F};
    if (s->mlp_rows > R)
        s->mlp_rows = R ? R : 1;
    if (!(act->y0 = pg_work_rows(w, R, D, e)) || !(act->q = pg_work_rows(w, R, q, e)) || !(act->k = pg_work_rows(w, R, kv, e)) ||
        !(act->v = pg_work_rows(w, R, kv, e)) || !(act->a = pg_work_rows(w, R, q, e)) ||
        !(act->gate = pg_work_rows(w, s->mlp_rows, F, e)) || !(act->up = pg_work_rows(w, s->mlp_rows, F, e)) ||
        !(s->tmp = pg_work_rows(w, R, D, e)) || !(s->seqs = pg_work_bytes(w, rows->n_seqs, sizeof *s->seqs, e)))
        return PG_ENOMEM;
    act->y1 = act->o = act->f = act->y0;
    s->act = act->gate;
    return PG_OK;
}

int pg_decoder_forward(pg_model *m, pg_work *w, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at, pg_err *e)
{
    size_t R = rows->R, D = m->s.width, positions;
    pg_mark mark = pg_work_mark(w);
    pg_dec_act act;
    pg_dec_scratch s;
    int rc = check_rows(m, rows, cache, at, &positions, e);
    if (rc || (rc = pg_model_positions(m, positions, e)))
        return rc;
    if (!(rc = one_act(m, w, rows, &act, &s, e))) {
        for (size_t l = 0; l < m->s.depth; l++)
            pg_dec_layer_forward(m, l, x, rows, cache, at, &act, &s);
        memcpy(s.tmp, x, R * D * sizeof *x);
        pg_rms_norm(m->kern, x, NULL, s.tmp, m->final_norm.scale, R, D);
    }
    pg_work_release(w, mark);
    return rc;
}

/* The last row of each sequence, as the last layer wants it. */
static int last_rows(pg_work *w, const pg_rows *rows, pg_pick *p, pg_err *e)
{
    size_t n = rows->n_seqs, *row = pg_work_bytes(w, n, sizeof *row, e), *start = row ? pg_work_bytes(w, n + 1, sizeof *start, e) : NULL;
    uint32_t *pos = start ? pg_work_bytes(w, n, sizeof *pos, e) : NULL, *lim = pos ? pg_work_bytes(w, n, sizeof *lim, e) : NULL;
    if (!lim)
        return PG_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        start[i] = i;
        row[i] = rows->start[i + 1] - 1;
        pos[i] = rows->pos[row[i]];
        lim[i] = rows->lim[row[i]];
    }
    start[n] = n;
    *p = (pg_pick){row, {n, n, start, pos, lim}};
    return PG_OK;
}

int pg_decoder_read(pg_model *m, pg_work *w, float *x, const pg_rows *rows, pg_cache *cache, const pg_place *at, float *out, pg_err *e)
{
    size_t n = rows->n_seqs, D = m->s.width, last = m->s.depth - 1, positions;
    pg_mark mark = pg_work_mark(w);
    pg_dec_act act;
    pg_dec_scratch s;
    pg_pick p;
    int rc = check_rows(m, rows, cache, at, &positions, e);
    if (rc || (rc = pg_model_positions(m, positions, e)))
        return rc;
    if (!(rc = one_act(m, w, rows, &act, &s, e)) && !(rc = last_rows(w, rows, &p, e))) {
        for (size_t l = 0; l < last; l++)
            pg_dec_layer_forward(m, l, x, rows, cache, at, &act, &s);
        pg_dec_last_forward(m, out, x, rows, &p, &act, &s);
        put_keys(m, last, rows, cache, at, &act);
        memcpy(s.tmp, out, n * D * sizeof *out);
        pg_rms_norm(m->kern, out, NULL, s.tmp, m->final_norm.scale, n, D);
    }
    pg_work_release(w, mark);
    return rc;
}

int pg_embed(pg_model *m, float *x, const int32_t *tokens, size_t n, pg_err *e)
{
    size_t D = m->s.width, size = m->embed.type == PG_MAT_F32 ? 4 : 2;
    float scale = (float)sqrt((double)D);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= m->s.vocab)
            return pg_error(e, PG_EFORMAT, "token %d is outside the model's vocabulary of %zu", (int)tokens[i], m->s.vocab);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *row = (const unsigned char *)m->embed.data + (size_t)tokens[i] * m->embed.ld * size;
        if (m->embed.type == PG_MAT_I8)
            pg_widen_int8(&m->embed, (size_t)tokens[i], 0, D, x + i * D);
        else
            pg_widen(m->kern, x + i * D, row, m->embed.type, D);
        for (size_t j = 0; j < D; j++)
            x[i * D + j] *= scale;
    }
    return PG_OK;
}

void pg_logits(pg_model *m, float *logits, const float *h, size_t R)
{
    if (m->qembed) {
        pg_quant_gemm(m->kern, R, h, m->s.width, m->qembed, 0, logits, m->s.vocab);
        return;
    }
    if (m->packed_embed) {
        pg_packed_gemm(m->kern, R, h, m->s.width, m->packed_embed, 0, logits, m->s.vocab);
        return;
    }
    pg_gemm(m->kern, R, m->s.vocab, m->s.width, h, m->s.width, false, &m->embed, 0, logits, m->s.vocab);
}
