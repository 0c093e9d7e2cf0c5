#include "model/backward.h"

#include <string.h>

static void zero(float *p, size_t n) { memset(p, 0, n * sizeof *p); }

void pg_attach_grads(pg_attn *seqs, size_t i, size_t q_at, size_t kv_at, const pg_back_scratch *s)
{
    seqs[i].dout = s->da + q_at;
    seqs[i].dq = s->dq + q_at;
    seqs[i].dk = s->dk + kv_at;
    seqs[i].dv = s->dv + kv_at;
}

/* ---- decoder ---- */

/* y = x + norm(o): the gradient of o; in family 1 there is no norm and it is dx itself. */
static const float *through_post_norm(pg_kern *k, const pg_norm *norm, const float *dx, const float *o, const float *rstd, float *out,
                                      size_t R, size_t D)
{
    if (!norm->scale) return dx;
    zero(out, R * D);
    pg_rms_norm_back(k, out, norm->gscale, dx, o, rstd, norm->scale, R, D);
    return out;
}

void pg_dec_mlp_back(pg_model *m, const pg_dec_layer *w, float *dx, size_t R, const pg_dec_act *act, const pg_back_scratch *s)
{
    pg_kern *k = m->kern;
    size_t D = m->s.width, F = m->s.mlp;
    const float *df = through_post_norm(k, &w->post_ffw, dx, act->f, act->rstd_f, s->d0, R, D);
    pg_geglu(k, s->wide0, act->gate, act->up, R * F);
    pg_linear_back(k, &w->down, s->wide1, false, df, s->wide0, R);
    pg_geglu_back(k, s->wide0, s->wide2, s->wide1, act->gate, act->up, R * F);
    pg_linear_back(k, &w->gate, s->d1, false, s->wide0, act->y1, R);
    pg_linear_back(k, &w->up, s->d1, true, s->wide2, act->y1, R);
    pg_rms_norm_back(k, dx, w->pre_ffw.gscale, s->d1, act->x_mid, act->rstd1, w->pre_ffw.scale, R, D);
}

void pg_dec_attention_out_back(pg_model *m, const pg_dec_layer *w, const float *dx, size_t R, const pg_dec_act *act,
                               const pg_back_scratch *s)
{
    const float *out = through_post_norm(m->kern, &w->post_attn, dx, act->o, act->rstd_o, s->d0, R, m->s.width);
    pg_linear_back(m->kern, &w->o, s->da, false, out, act->a, R);
}

static void attention_back(pg_model *m, const pg_dec_layer *w, float *dx, bool below, const pg_rows *rows, const pg_dec_act *act,
                           const pg_back_scratch *s)
{
    pg_kern *k = m->kern;
    size_t D = m->s.width, H = m->s.head_dim, R = rows->R, q = m->s.heads * H, kv = m->s.kv_heads * H;
    pg_attn_dims d = pg_dec_attn_dims(m);
    pg_dec_attention_out_back(m, w, dx, R, act, s);
    zero(s->dk, R * kv);
    zero(s->dv, R * kv);
    pg_dec_seqs(m, rows, act, s->seqs);
    for (size_t i = 0; i < rows->n_seqs; i++) pg_attach_grads(s->seqs, i, rows->start[i] * q, rows->start[i] * kv, s);
    pg_attention_back(k, s->seqs, rows->n_seqs, &d);
    pg_rope(k, s->dq, q, rows->pos, m->rope_cos, m->rope_sin, R, m->s.heads, H, m->q_scale, true);
    pg_rope(k, s->dk, kv, rows->pos, m->rope_cos, m->rope_sin, R, m->s.kv_heads, H, 1.0f, true);
    bool wanted = below || w->pre_attn.gscale;
    float *dy = wanted ? s->d1 : NULL;
    pg_linear_back(k, &w->q, dy, false, s->dq, act->y0, R);
    pg_linear_back(k, &w->k, dy, true, s->dk, act->y0, R);
    pg_linear_back(k, &w->v, dy, true, s->dv, act->y0, R);
    if (wanted) pg_rms_norm_back(k, dx, w->pre_attn.gscale, s->d1, act->x, act->rstd0, w->pre_attn.scale, R, D);
}

void pg_dec_layer_back(pg_model *m, size_t l, float *dx, bool below, const pg_rows *rows, const pg_dec_act *act,
                       const pg_back_scratch *s)
{
    pg_dec_mlp_back(m, &m->dec[l], dx, rows->R, act, s);
    attention_back(m, &m->dec[l], dx, below, rows, act, s);
}

/* ---- image tower ---- */

void pg_vit_layer_back(pg_model *m, size_t l, float *dx, size_t pictures, const pg_vit_act *act, const pg_back_scratch *s)
{
    pg_kern *k = m->kern;
    const pg_vit_layer *w = &m->vit[l];
    size_t N = m->s.n_image, R = pictures * N, E = m->s.vit_width, F = m->s.vit_mlp, A = m->s.vit_heads * m->s.vit_head_dim;
    pg_attn_dims d = pg_vit_attn_dims(m);

    pg_gelu(k, s->wide0, act->h, R * F);
    pg_linear_back(k, &w->fc2, s->wide1, false, dx, s->wide0, R);
    pg_gelu_back(k, s->wide1, s->wide1, act->h, R * F);
    pg_linear_back(k, &w->fc1, s->d1, false, s->wide1, act->y1, R);
    pg_layer_norm_back(k, dx, w->norm1.gscale, w->norm1.gbias, s->d1, act->x_mid, act->mean1, act->rstd1, w->norm1.scale, R, E);

    pg_linear_back(k, &w->o, s->da, false, dx, act->a, R);
    zero(s->dk, R * A);
    zero(s->dv, R * A);
    pg_vit_seqs(m, pictures, act, s->seqs);
    for (size_t i = 0; i < pictures; i++) pg_attach_grads(s->seqs, i, i * N * A, i * N * A, s);
    pg_attention_back(k, s->seqs, pictures, &d);
    pg_linear_back(k, &w->q, s->d1, false, s->dq, act->y0, R);
    pg_linear_back(k, &w->k, s->d1, true, s->dk, act->y0, R);
    pg_linear_back(k, &w->v, s->d1, true, s->dv, act->y0, R);
    pg_layer_norm_back(k, dx, w->norm0.gscale, w->norm0.gbias, s->d1, act->x, act->mean0, act->rstd0, w->norm0.scale, R, E);
}
