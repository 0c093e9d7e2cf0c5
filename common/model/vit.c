#include <math.h>
#include <string.h>

#include "model/layers.h"
#include "model/open.h"

enum { GROUP_BYTES = 192 << 20 };

void pg_patches(const pg_model *m, float *rows, const float *const *pixels, size_t n)
{
    size_t P = m->s.patch, side = m->s.image_size, grid = side / P;
    for (size_t i = 0; i < n; i++)
        for (size_t gy = 0; gy < grid; gy++)
            for (size_t gx = 0; gx < grid; gx++)
                for (size_t y = 0; y < P; y++) {
                    const float *from = pixels[i] + ((gy * P + y) * side + gx * P) * 3;
                    float *row = rows + ((i * grid + gy) * grid + gx) * P * P * 3;
                    if (!m->patch_chw) {
                        memcpy(row + y * P * 3, from, P * 3 * sizeof *row);
                        continue;
                    }
                    for (size_t x = 0; x < P; x++)
                        for (size_t c = 0; c < 3; c++)
                            row[(c * P + y) * P + x] = from[x * 3 + c];
                }
}

void pg_vit_embed(pg_model *m, float *x, const float *patches, size_t pictures)
{
    size_t one = m->s.n_image * m->s.vit_width;
    pg_linear_forward(m->kern, &m->patch, x, patches, pictures * m->s.n_image);
    for (size_t i = 0; i < pictures; i++)
        pg_axpy(m->kern, x + i * one, 1.0f, m->pos, one);
}

pg_attn_dims pg_vit_attn_dims(const pg_model *m)
{
    size_t w = m->s.vit_heads * m->s.vit_head_dim;
    return (pg_attn_dims){.heads = m->s.vit_heads, .kv_heads = m->s.vit_heads, .head_dim = m->s.vit_head_dim,
                          .ldq = w, .ldk = w, .ldo = w, .scale = (float)(1.0 / sqrt((double)m->s.vit_head_dim))};
}

void pg_vit_seqs(const pg_model *m, size_t pictures, const pg_vit_act *act, pg_attn *seqs)
{
    size_t n = m->s.n_image, heads = m->s.vit_heads, one = n * heads * m->s.vit_head_dim;
    for (size_t i = 0; i < pictures; i++)
        seqs[i] = (pg_attn){.n = n, .q = act->q + i * one, .k = act->k + i * one, .v = act->v + i * one, .n_keys = n,
                            .out = act->a + i * one, .lse = act->lse ? act->lse + i * heads * n : NULL};
}

void pg_vit_layer_forward(pg_model *m, size_t l, float *x, size_t pictures, const pg_vit_act *act, float *tmp, pg_attn *seqs)
{
    pg_kern *k = m->kern;
    const pg_vit_layer *w = &m->vit[l];
    size_t E = m->s.vit_width, R = pictures * m->s.n_image;
    pg_attn_dims d = pg_vit_attn_dims(m);

    if (act->x)
        memcpy(act->x, x, R * E * sizeof *x);
    pg_layer_norm(k, act->y0, act->mean0, act->rstd0, x, w->norm0.scale, w->norm0.bias, R, E);
    pg_linear_forward(k, &w->q, act->q, act->y0, R);
    pg_linear_forward(k, &w->k, act->k, act->y0, R);
    pg_linear_forward(k, &w->v, act->v, act->y0, R);
    pg_vit_seqs(m, pictures, act, seqs);
    pg_attention(k, seqs, pictures, &d);
    pg_linear_add(k, &w->o, x, act->a, R);

    if (act->x_mid)
        memcpy(act->x_mid, x, R * E * sizeof *x);
    pg_layer_norm(k, act->y1, act->mean1, act->rstd1, x, w->norm1.scale, w->norm1.bias, R, E);
    pg_linear_forward(k, &w->fc1, act->h, act->y1, R);
    pg_gelu(k, tmp, act->h, R * m->s.vit_mlp);
    pg_linear_add(k, &w->fc2, x, tmp, R);
}

void pg_vit_head(pg_model *m, float *out, float *y, float *mean, float *rstd, const float *x, size_t pictures)
{
    size_t R = pictures * m->s.n_image;
    pg_layer_norm(m->kern, y, mean, rstd, x, m->vit_norm.scale, m->vit_norm.bias, R, m->s.vit_width);
    pg_linear_forward(m->kern, &m->head, out, y, R);
}

static int group_forward(pg_model *m, pg_work *w, const float *const *pixels, size_t n, float *out, pg_err *e)
{
    size_t E = m->s.vit_width, A = m->s.vit_heads * m->s.vit_head_dim, R = n * m->s.n_image;
    size_t patch = m->s.patch * m->s.patch * 3, F = m->s.vit_mlp, wide = F > E ? F : E;
    if (wide < patch)
        wide = patch;
    pg_vit_act act = {0};
    float *x = pg_work_rows(w, R, E, e);
    float *tmp = x ? pg_work_rows(w, R, wide, e) : NULL;
    pg_attn *seqs = tmp ? pg_work_bytes(w, n, sizeof *seqs, e) : NULL;
    if (!seqs || !(act.y0 = pg_work_rows(w, R, E, e)) || !(act.q = pg_work_rows(w, R, A, e)) ||
        !(act.k = pg_work_rows(w, R, A, e)) || !(act.v = pg_work_rows(w, R, A, e)) || !(act.a = pg_work_rows(w, R, A, e)))
        return e ? e->code : PG_ENOMEM;
    act.y1 = act.y0;
    act.h = tmp;
    pg_patches(m, tmp, pixels, n);
    pg_vit_embed(m, x, tmp, n);
    for (size_t l = 0; l < m->s.vit_depth; l++)
        pg_vit_layer_forward(m, l, x, n, &act, tmp, seqs);
    pg_vit_head(m, out, act.y0, NULL, NULL, x, n);
    return PG_OK;
}

int pg_vit_forward(pg_model *m, const float *const *pixels, size_t n, float *out, pg_err *e)
{
    pg_work *w = pg_model_scratch(m);
    size_t E = m->s.vit_width, per = m->s.n_image * (8 * E + m->s.vit_mlp) * sizeof(float);
    size_t group = GROUP_BYTES / per ? GROUP_BYTES / per : 1;
    for (size_t i = 0; i < n; i += group) {
        size_t take = n - i < group ? n - i : group;
        pg_mark mark = pg_work_mark(w);
        int rc = group_forward(m, w, pixels + i, take, out + i * m->s.n_image * m->s.width, e);
        pg_work_release(w, mark);
        if (rc)
            return rc;
    }
    return PG_OK;
}
