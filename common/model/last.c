/* The decoder's last layer where only some rows of its output are wanted: those that predict a token with a loss, or the last one of
 * each prefix. The others serve as keys and values alone, so queries, output projection and MLP run on the wanted rows:
 *
 *   x [R,D] -> norm -> k, v [R]          out [M,D] = picked x + o(attention(q, k, v)), then + mlp
 *                   -> picked -> q [M]
 */
#include <string.h>

#include "model/backward.h"

static void gather(float *to, const float *from, const pg_pick *p, size_t D)
{
    for (size_t i = 0; i < p->rows.R; i++) memcpy(to + i * D, from + p->row[i] * D, D * sizeof *to);
}

static void scatter_add(pg_kern *k, float *to, const float *from, const pg_pick *p, size_t D)
{
    for (size_t i = 0; i < p->rows.R; i++) pg_axpy(k, to + p->row[i] * D, 1.0f, from + i * D, D);
}

/* Queries are the picked rows, keys and values all rows of their sequence. */
static void sequences(const pg_model *m, const pg_rows *rows, const pg_pick *p, const pg_dec_act *act, pg_attn *seqs)
{
    size_t q = m->s.heads * m->s.head_dim, kv = m->s.kv_heads * m->s.head_dim;
    for (size_t i = 0; i < rows->n_seqs; i++) {
        size_t at = p->rows.start[i], key = rows->start[i];
        seqs[i] = (pg_attn){.n = p->rows.start[i + 1] - at, .q = act->q + at * q, .k = act->k + key * kv, .v = act->v + key * kv,
                            .lim = p->rows.lim + at, .n_keys = rows->start[i + 1] - key, .out = act->a + at * q,
                            .lse = act->lse ? act->lse + at * m->s.heads : NULL};
    }
}

void pg_dec_last_forward(pg_model *m, float *out, const float *x, const pg_rows *rows, const pg_pick *p, const pg_dec_act *act,
                         const pg_dec_scratch *s)
{
    pg_kern *k = m->kern;
    size_t l = m->s.depth - 1, D = m->s.width, H = m->s.head_dim, R = rows->R, M = p->rows.R;
    const pg_dec_layer *w = &m->dec[l];
    pg_attn_dims d = pg_dec_attn_dims(m);
    if (act->x) memcpy(act->x, x, R * D * sizeof *x);
    pg_rms_norm(k, act->y0, act->rstd0, x, w->pre_attn.scale, R, D);
    pg_linear_forward(k, &w->k, act->k, act->y0, R);
    pg_linear_forward(k, &w->v, act->v, act->y0, R);
    gather(s->tmp, act->y0, p, D);
    pg_linear_forward(k, &w->q, act->q, s->tmp, M);
    pg_rope(k, act->q, m->s.heads * H, p->rows.pos, m->rope_cos, m->rope_sin, M, m->s.heads, H, m->q_scale, false);
    pg_rope(k, act->k, m->s.kv_heads * H, rows->pos, m->rope_cos, m->rope_sin, R, m->s.kv_heads, H, 1.0f, false);
    sequences(m, rows, p, act, s->seqs);
    pg_attention(k, s->seqs, rows->n_seqs, &d);
    gather(out, x, p, D);
    pg_dec_attention_out(m, l, out, M, act, s);
    if (act->x_mid) memcpy(act->x_mid, out, M * D * sizeof *out);
    pg_dec_mlp(m, l, out, M, act, s);
}

void pg_dec_last_back(pg_model *m, float *dx, float *dout, bool below, const pg_rows *rows, const pg_pick *p, const pg_dec_act *act,
                      const pg_back_scratch *s)
{
    pg_kern *k = m->kern;
    const pg_dec_layer *w = &m->dec[m->s.depth - 1];
    size_t D = m->s.width, H = m->s.head_dim, R = rows->R, M = p->rows.R, q = m->s.heads * H, kv = m->s.kv_heads * H;
    bool wanted = below || w->pre_attn.gscale;
    pg_attn_dims d = pg_dec_attn_dims(m);
    pg_dec_mlp_back(m, w, dout, M, act, s);
    pg_dec_attention_out_back(m, w, dout, M, act, s);
    memset(s->dk, 0, R * kv * sizeof *s->dk);
    memset(s->dv, 0, R * kv * sizeof *s->dv);
    sequences(m, rows, p, act, s->seqs);
    for (size_t i = 0; i < rows->n_seqs; i++) pg_attach_grads(s->seqs, i, p->rows.start[i] * q, rows->start[i] * kv, s);
    pg_attention_back(k, s->seqs, rows->n_seqs, &d);
    pg_rope(k, s->dq, q, p->rows.pos, m->rope_cos, m->rope_sin, M, m->s.heads, H, m->q_scale, true);
    pg_rope(k, s->dk, kv, rows->pos, m->rope_cos, m->rope_sin, R, m->s.kv_heads, H, 1.0f, true);
    gather(s->d0, act->y0, p, D);
    pg_linear_back(k, &w->q, wanted ? dx : NULL, false, s->dq, s->d0, M); /* dx holds the queries' part for now */
    pg_linear_back(k, &w->k, wanted ? s->d1 : NULL, false, s->dk, act->y0, R);
    pg_linear_back(k, &w->v, wanted ? s->d1 : NULL, true, s->dv, act->y0, R);
    if (!wanted) return;
    scatter_add(k, s->d1, dx, p, D);
    memset(dx, 0, R * D * sizeof *dx);
    pg_rms_norm_back(k, dx, w->pre_attn.gscale, s->d1, act->x, act->rstd0, w->pre_attn.scale, R, D);
    scatter_add(k, dx, dout, p, D);
}
