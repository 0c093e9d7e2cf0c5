#include "model/loss.h"

#include <math.h>
#include <string.h>

#include "model/backward.h"

enum { XENT_FLOATS = 16 << 20 }; /* logits of one chunk of rows */
static const size_t default_budget = (size_t)5 << 28; /* 1.25 GiB: an example of the 3B model at a time, many of a small one */

/* What one example contributes: its text rows (as many as the loss needs) and its loss tokens. */
typedef struct plan {
    const pg_example *ex;
    size_t index, rows, n_loss; /* rows: text rows */
    uint32_t *lim, lim_image;
    float *logp;
} plan;

typedef struct group {
    pg_model *m;
    pg_work *w;
    pg_err *e;
    plan *p;
    size_t n;
    pg_rows rows;
    float *x;             /* [R,D] */
    pg_dec_act *act;      /* per layer */
    pg_vit_act *vact;     /* per layer, where the tower is trained */
    float *patches, *vx, *vy, *vmean, *vrstd;
    pg_back_scratch s;
    bool last; /* of its batch */
} group;

bool pg_trains_image(const pg_model *m)
{
    for (size_t i = 0; i < m->n_params; i++)
        if (!strncmp(m->params[i].name, "img/", 4)) return true;
    return false;
}

static bool trains_tower(const pg_model *m)
{
    for (size_t i = 0; i < m->n_params; i++)
        if (!strncmp(m->params[i].name, "img/", 4) && strncmp(m->params[i].name, "img/head/", 9)) return true;
    return false;
}

static bool trains_decoder(const pg_model *m)
{
    for (size_t i = 0; i < m->n_params; i++)
        if (!strncmp(m->params[i].name, "llm/layers/", 11)) return true;
    return m->gembed || pg_trains_image(m);
}

static int nomem(pg_err *e) { return e && e->code ? e->code : pg_error_nomem(e); }

/* Rows after the one that predicts the last loss token are not needed, unless a kept row sees them. The last token's own row
 * never is: the reference runs on text[:, :-1]. */
static int make_plan(const pg_model *m, pg_work *w, const pg_example *ex, size_t index, plan *p, pg_err *e)
{
    size_t n = ex->n, N = m->s.n_image, used = 0;
    *p = (plan){.ex = ex, .index = index};
    if (!n) return PG_OK;
    if (!(p->lim = pg_work_bytes(w, n, sizeof *p->lim, e))) return nomem(e);
    int rc = pg_mask_limits(ex->mask_ar, ex->mask_input, n, N, p->lim, &p->lim_image, &used, e);
    if (rc) return rc;
    for (size_t t = 1; t < used; t++)
        if (ex->mask_loss[t]) {
            p->n_loss++;
            p->rows = t;
        }
    if (!p->n_loss) return PG_OK;
    size_t most = used - 1, see = p->lim_image;
    for (size_t r = 0; r < p->rows; r++) {
        if (p->lim[r] > see) see = p->lim[r];
        if (see > N + p->rows) p->rows = see - N < most ? see - N : most;
    }
    for (size_t r = 0; r < p->rows; r++)
        if (p->lim[r] > N + p->rows) p->lim[r] = (uint32_t)(N + p->rows);
    if (p->lim_image > N + p->rows) p->lim_image = (uint32_t)(N + p->rows);
    return PG_OK;
}

/* ---- forward, keeping what backward needs ---- */

#define ROWS(a, b) pg_work_rows(g->w, (a), (b), g->e)

static int vit_acts(group *g, size_t R)
{
    const pg_model_shape *s = &g->m->s;
    size_t E = s->vit_width, A = s->vit_heads * s->vit_head_dim;
    g->vact = pg_work_bytes(g->w, s->vit_depth, sizeof *g->vact, g->e);
    if (!g->vact) return nomem(g->e);
    for (size_t l = 0; l < s->vit_depth; l++) {
        pg_vit_act *a = &g->vact[l];
        *a = (pg_vit_act){.x = ROWS(R, E), .mean0 = ROWS(R, 1), .rstd0 = ROWS(R, 1), .y0 = ROWS(R, E), .q = ROWS(R, A),
                          .k = ROWS(R, A), .v = ROWS(R, A), .a = ROWS(R, A), .lse = ROWS(R, s->vit_heads), .x_mid = ROWS(R, E),
                          .mean1 = ROWS(R, 1), .rstd1 = ROWS(R, 1), .y1 = ROWS(R, E), .h = ROWS(R, s->vit_mlp)};
        if (!a->x || !a->mean0 || !a->rstd0 || !a->y0 || !a->q || !a->k || !a->v || !a->a || !a->lse || !a->x_mid || !a->mean1 ||
            !a->rstd1 || !a->y1 || !a->h)
            return nomem(g->e);
    }
    g->patches = ROWS(R, s->patch * s->patch * 3);
    g->vx = ROWS(R, E);
    g->vy = ROWS(R, E);
    g->vmean = ROWS(R, 1);
    g->vrstd = ROWS(R, 1);
    return g->patches && g->vx && g->vy && g->vmean && g->vrstd ? PG_OK : nomem(g->e);
}

/* Layers whose activations are computed again in backward keep their input alone, and share one set of the others. */
static size_t again(const pg_model *m)
{
    return m->recompute < m->s.depth - 1 ? m->recompute : m->s.depth - 1;
}

static int dec_acts(group *g)
{
    const pg_model_shape *s = &g->m->s;
    size_t R = g->rows.R, D = s->width, F = s->mlp, q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    bool two = s->family == 2;
    g->act = pg_work_bytes(g->w, s->depth, sizeof *g->act, g->e);
    if (!g->act) return nomem(g->e);
    for (size_t l = 0; l < s->depth; l++) {
        pg_dec_act *a = &g->act[l];
        if (l && l < again(g->m)) {
            *a = g->act[0];
            if (!(a->x = ROWS(R, D))) return nomem(g->e);
            continue;
        }
        *a = (pg_dec_act){.x = ROWS(R, D), .rstd0 = ROWS(R, 1), .y0 = ROWS(R, D), .q = ROWS(R, q), .k = ROWS(R, kv),
                          .v = ROWS(R, kv), .a = ROWS(R, q), .lse = ROWS(R, s->heads), .x_mid = ROWS(R, D), .rstd1 = ROWS(R, 1),
                          .y1 = ROWS(R, D), .gate = ROWS(R, F), .up = ROWS(R, F)};
        if (!a->x || !a->rstd0 || !a->y0 || !a->q || !a->k || !a->v || !a->a || !a->lse || !a->x_mid || !a->rstd1 || !a->y1 ||
            !a->gate || !a->up)
            return nomem(g->e);
        if (!two) continue;
        a->o = ROWS(R, D);
        a->rstd_o = ROWS(R, 1);
        a->f = ROWS(R, D);
        a->rstd_f = ROWS(R, 1);
        if (!a->o || !a->rstd_o || !a->f || !a->rstd_f) return nomem(g->e);
    }
    return PG_OK;
}

static int scratch(group *g, bool tower)
{
    const pg_model_shape *s = &g->m->s;
    size_t R = g->rows.R, V = tower ? g->n * s->n_image : 0;
    size_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim, A = s->vit_heads * s->vit_head_dim;
#define MOST(a, b) ((a) > (b) ? (a) : (b))
    size_t wide = MOST(R * s->mlp, V * s->vit_mlp), d = MOST(R * s->width, V * s->vit_width);
    size_t nq = MOST(R * q, V * A), nkv = MOST(R * kv, V * A);
#undef MOST
    g->s = (pg_back_scratch){.wide0 = ROWS(wide, 1), .wide1 = ROWS(wide, 1), .wide2 = ROWS(wide, 1), .d0 = ROWS(d, 1),
                             .d1 = ROWS(d, 1), .dq = ROWS(nq, 1), .da = ROWS(nq, 1), .dk = ROWS(nkv, 1), .dv = ROWS(nkv, 1),
                             .seqs = pg_work_bytes(g->w, g->n, sizeof(pg_attn), g->e)};
    return g->s.wide0 && g->s.wide1 && g->s.wide2 && g->s.d0 && g->s.d1 && g->s.dq && g->s.da && g->s.dk && g->s.dv && g->s.seqs
               ? PG_OK : nomem(g->e);
}

static int pack_rows(group *g)
{
    size_t N = g->m->s.n_image, R = 0, longest = 0;
    size_t *start = pg_work_bytes(g->w, g->n + 1, sizeof *start, g->e);
    if (!start) return nomem(g->e);
    for (size_t i = 0; i < g->n; i++) {
        start[i] = R;
        R += N + g->p[i].rows;
        if (N + g->p[i].rows > longest) longest = N + g->p[i].rows;
    }
    start[g->n] = R;
    uint32_t *pos = pg_work_bytes(g->w, R, sizeof *pos, g->e), *lim = pg_work_bytes(g->w, R, sizeof *lim, g->e);
    g->x = ROWS(R, g->m->s.width);
    if (!pos || !lim || !g->x) return nomem(g->e);
    for (size_t i = 0; i < g->n; i++)
        for (size_t r = 0; r < N + g->p[i].rows; r++) {
            pos[start[i] + r] = (uint32_t)r;
            lim[start[i] + r] = r < N ? g->p[i].lim_image : g->p[i].lim[r - N];
        }
    g->rows = (pg_rows){g->n, R, start, pos, lim};
    return pg_model_positions(g->m, longest, g->e);
}

/* Image tokens and embedded text into x. */
static int embed(group *g, bool keep_tower)
{
    pg_model *m = g->m;
    size_t N = m->s.n_image, D = m->s.width, without = 0;
    const float **pixels = pg_work_bytes(g->w, g->n, sizeof *pixels, g->e);
    float *z = ROWS(g->n * N, D);
    int rc = PG_OK;
    if (!pixels || !z) return nomem(g->e);
    for (size_t i = 0; i < g->n; i++)
        if (keep_tower || !g->p[i].ex->features) pixels[without++] = g->p[i].ex->pixels;
    if (keep_tower) {
        if ((rc = vit_acts(g, g->n * N))) return rc;
        pg_patches(m, g->patches, pixels, g->n);
        pg_vit_embed(m, g->vx, g->patches, g->n);
        for (size_t l = 0; l < m->s.vit_depth; l++)
            pg_vit_layer_forward(m, l, g->vx, g->n, &g->vact[l], g->s.wide0, g->s.seqs);
        pg_vit_head(m, z, g->vy, g->vmean, g->vrstd, g->vx, g->n);
    } else if (without && (rc = pg_vit_forward(m, pixels, without, z, g->e))) {
        return rc;
    }
    without = 0;
    for (size_t i = 0; i < g->n; i++) {
        const pg_example *ex = g->p[i].ex;
        float *x = g->x + g->rows.start[i] * D;
        const float *from = !keep_tower && ex->features ? ex->features : z + without++ * N * D;
        memcpy(x, from, N * D * sizeof *x);
        if ((rc = pg_embed(m, x + N * D, ex->tokens, g->p[i].rows, g->e))) return rc;
    }
    return PG_OK;
}

/* ---- loss over the rows that predict a loss token ---- */

typedef struct losses {
    size_t M;            /* loss rows of the group */
    size_t *row, *owner; /* [M] row in x; plan */
    pg_pick pick;        /* the same rows, for the last layer */
    size_t *at;          /* [M] token index */
    int32_t *target;
    float *weight, *logp;
    float *x, *h, *rstd, *dh; /* [M,D], [M]; x: the last layer's output */
} losses;

/* Which rows predict a loss token; after pack_rows. */
static int find_losses(group *g, losses *o, double weight, bool grad)
{
    size_t N = g->m->s.n_image, D = g->m->s.width;
    for (size_t i = 0; i < g->n; i++) o->M += g->p[i].n_loss;
    o->row = pg_work_bytes(g->w, o->M, sizeof *o->row, g->e);
    o->owner = pg_work_bytes(g->w, o->M, sizeof *o->owner, g->e);
    o->at = pg_work_bytes(g->w, o->M, sizeof *o->at, g->e);
    o->target = pg_work_bytes(g->w, o->M, sizeof *o->target, g->e);
    o->weight = ROWS(o->M, 1);
    o->logp = ROWS(o->M, 1);
    o->x = ROWS(o->M, D);
    o->h = ROWS(o->M, D);
    o->rstd = ROWS(o->M, 1);
    o->dh = grad ? ROWS(o->M, D) : o->h;
    size_t *start = pg_work_bytes(g->w, g->n + 1, sizeof *start, g->e);
    uint32_t *pos = pg_work_bytes(g->w, o->M, sizeof *pos, g->e), *lim = pg_work_bytes(g->w, o->M, sizeof *lim, g->e);
    if (!start || !pos || !lim || !o->row || !o->owner || !o->at || !o->target || !o->weight || !o->logp || !o->x || !o->h || !o->rstd || !o->dh) return nomem(g->e);
    size_t k = 0;
    for (size_t i = 0; i < g->n; i++) {
        start[i] = k;
        for (size_t t = 1; t <= g->p[i].rows && t < g->p[i].ex->n; t++) {
            if (!g->p[i].ex->mask_loss[t]) continue;
            int32_t token = g->p[i].ex->tokens[t];
            if (token < 0 || (size_t)token >= g->m->s.vocab)
                return pg_error(g->e, PG_EFORMAT, "token %d is outside the model's vocabulary of %zu", (int)token, g->m->s.vocab);
            o->row[k] = g->rows.start[i] + N + t - 1;
            o->owner[k] = i;
            o->at[k] = t;
            o->target[k] = token;
            o->weight[k] = (float)(weight / (double)g->p[i].n_loss);
            pos[k] = g->rows.pos[o->row[k]];
            lim[k] = g->rows.lim[o->row[k]];
            k++;
        }
    }
    start[g->n] = o->M = k;
    o->pick = (pg_pick){o->row, {g->n, k, start, pos, lim}};
    return PG_OK;
}

/* Turns the plain loss of one chunk into the smoothed one: the target weighs 1 - s, every other token s / (V - 1). */
static void smooth(float *logits, const double *sums, const losses *o, size_t from, size_t n, size_t V, double s, bool grad, double *extra)
{
    double off = s / (double)(V - 1);
    for (size_t r = 0; r < n; r++) {
        double sum_logp = sums[2 * r] - (double)V * (sums[2 * r + 1] - (double)o->logp[from + r]);
        extra[r] = (1.0 - s - off) * (double)o->logp[from + r] + off * sum_logp;
        if (!grad) continue;
        float w = o->weight[from + r], each = (float)((double)w * off);
        for (size_t v = 0; v < V; v++) logits[r * V + v] -= each;
        logits[r * V + (size_t)o->target[from + r]] += (float)((double)w * (s + off));
    }
}

static int cross_entropy(group *g, losses *o, bool grad, double smoothing, double *loss_of)
{
    pg_model *m = g->m;
    size_t V = m->s.vocab, D = m->s.width, chunk = XENT_FLOATS / V ? XENT_FLOATS / V : 1;
    if (chunk > o->M) chunk = o->M;
    float *logits = ROWS(chunk, V);
    double *sums = pg_work_bytes(g->w, 3 * chunk, sizeof *sums, g->e);
    if (!logits || !sums) return nomem(g->e);
    pg_rms_norm(m->kern, o->h, o->rstd, o->x, m->final_norm.scale, o->M, D);
    pg_mat rows_of_e = m->embed; /* [V,D], as the gradient of h wants it */
    rows_of_e.trans = false;
    rows_of_e.rows = V;
    rows_of_e.cols = D;
    for (size_t from = 0; from < o->M; from += chunk) {
        size_t n = o->M - from < chunk ? o->M - from : chunk;
        pg_logits(m, logits, o->h + from * D, n);
        for (size_t r = 0; smoothing > 0 && r < n; r++) {
            sums[2 * r] = 0;
            for (size_t v = 0; v < V; v++) sums[2 * r] += (double)logits[r * V + v];
            sums[2 * r + 1] = (double)logits[r * V + (size_t)o->target[from + r]];
        }
        pg_xent(m->kern, logits, o->target + from, o->weight + from, o->logp + from, n, V, grad);
        if (smoothing > 0) smooth(logits, sums, o, from, n, V, smoothing, grad, sums + 2 * chunk);
        for (size_t r = 0; r < n; r++) {
            const plan *p = &g->p[o->owner[from + r]];
            double lp = smoothing > 0 ? sums[2 * chunk + r] : (double)o->logp[from + r];
            loss_of[p->index] -= lp / (double)p->n_loss;
            if (p->logp) p->logp[o->at[from + r]] = o->logp[from + r];
        }
        if (!grad) continue;
        if (m->packed_embed_back) pg_packed_gemm(m->kern, n, logits, V, m->packed_embed_back, 0, o->dh + from * D, D);
        else pg_gemm(m->kern, n, D, V, logits, V, false, &rows_of_e, 0, o->dh + from * D, D);
        if (m->gembed) {
            pg_mat h = {.data = o->h + from * D, .type = PG_MAT_F32, .rows = n, .cols = D, .ld = D};
            pg_gemm(m->kern, V, D, n, logits, V, true, &h, 1.0f, m->gembed, D);
        }
    }
    return PG_OK;
}

/* ---- backward of a group ---- */

static void tell(const group *g, size_t stage)
{
    pg_model *m = g->m;
    if (!g->last || !m->ready) return;
    m->ready(m->ready_ctx, stage);
    pg_grads_pass_on(m, stage);
}

static void image_back(group *g, const float *dx, bool tower)
{
    pg_model *m = g->m;
    size_t N = m->s.n_image, D = m->s.width, E = m->s.vit_width, R = g->n * N;
    float *dz = g->x; /* the rows of x are no longer wanted */
    for (size_t i = 0; i < g->n; i++) memmove(dz + i * N * D, dx + g->rows.start[i] * D, N * D * sizeof *dz);
    pg_linear_back(m->kern, &m->head, tower ? g->s.d1 : NULL, false, dz, g->vy, R);
    if (!tower) return;
    float *dv = g->vy; /* likewise */
    memset(dv, 0, R * E * sizeof *dv);
    pg_layer_norm_back(m->kern, dv, m->vit_norm.gscale, m->vit_norm.gbias, g->s.d1, g->vx, g->vmean, g->vrstd, m->vit_norm.scale, R, E);
    for (size_t l = m->s.vit_depth; l-- > 0;) {
        pg_vit_layer_back(m, l, dv, g->n, &g->vact[l], &g->s);
        tell(g, m->s.depth + m->s.vit_depth - l);
    }
    if (m->gpos)
        for (size_t i = 0; i < g->n; i++) pg_axpy(m->kern, m->gpos, 1.0f, dv + i * N * E, N * E);
    pg_linear_back(m->kern, &m->patch, NULL, false, dv, g->patches, R);
}

static int backward(group *g, losses *o)
{
    pg_model *m = g->m;
    size_t N = m->s.n_image, D = m->s.width, R = g->rows.R;
    float *dx = ROWS(R, D), *dl = ROWS(o->M, D);
    bool image = pg_trains_image(m), below = image || m->gembed;
    if (!dx || !dl) return nomem(g->e);
    memset(dl, 0, o->M * D * sizeof *dl);
    pg_rms_norm_back(m->kern, dl, m->final_norm.gscale, o->dh, o->x, o->rstd, m->final_norm.scale, o->M, D);
    if (!trains_decoder(m)) return PG_OK;
    size_t last = m->s.depth - 1;
    pg_dec_last_back(m, dx, dl, last > 0 || below, &g->rows, &o->pick, &g->act[last], &g->s);
    tell(g, 0);
    for (size_t l = last; l-- > 0;) {
        if (l < again(m)) {
            pg_dec_act a = g->act[l];
            pg_dec_scratch s = {.tmp = g->s.d0, .act = g->s.wide0, .mlp_rows = R, .seqs = g->s.seqs};
            memcpy(g->x, a.x, R * D * sizeof *dx); /* the rows of x are no longer wanted */
            a.x = NULL;
            pg_dec_layer_forward(m, l, g->x, &g->rows, NULL, NULL, &a, &s);
        }
        pg_dec_layer_back(m, l, dx, l > 0 || below, &g->rows, &g->act[l], &g->s);
        tell(g, last - l);
    }
    if (m->gembed) {
        float scale = (float)sqrt((double)D);
        for (size_t i = 0; i < g->n; i++)
            for (size_t t = 0; t < g->p[i].rows; t++)
                pg_axpy(m->kern, m->gembed + (size_t)g->p[i].ex->tokens[t] * D, scale, dx + (g->rows.start[i] + N + t) * D, D);
    }
    tell(g, m->s.depth);
    if (image) image_back(g, dx, trains_tower(m));
    return PG_OK;
}

/* A loss that is no number has no gradient: no stage is completed, so nothing is changed before the caller has seen it. */
static bool losses_finite(const group *g, const double *loss_of)
{
    for (size_t i = 0; i < g->n; i++)
        if (!isfinite(loss_of[g->p[i].index])) return false;
    return true;
}

static int run_group(pg_model *m, pg_work *w, plan *p, size_t n, bool last_group, bool grad, double weight, double smoothing, double *loss_of, pg_err *e)
{
    group g = {.m = m, .w = w, .e = e, .p = p, .n = n, .last = last_group};
    losses o = {0};
    bool keep_tower = grad && pg_trains_image(m);
    size_t D = m->s.width;
    int rc;
    if ((rc = pack_rows(&g)) || (rc = find_losses(&g, &o, weight, grad))) return rc;
    if (grad) {
        if ((rc = scratch(&g, keep_tower)) || (rc = embed(&g, keep_tower)) || (rc = dec_acts(&g))) return rc;
        pg_dec_scratch s = {.tmp = g.s.d0, .act = g.s.wide0, .mlp_rows = g.rows.R, .seqs = g.s.seqs};
        size_t last = m->s.depth - 1;
        for (size_t l = 0; l < last; l++) pg_dec_layer_forward(m, l, g.x, &g.rows, NULL, NULL, &g.act[l], &s);
        s.mlp_rows = o.M;
        pg_dec_last_forward(m, o.x, g.x, &g.rows, &o.pick, &g.act[last], &s);
    } else {
        size_t q = m->s.heads * m->s.head_dim, kv = m->s.kv_heads * m->s.head_dim, R = g.rows.R;
        if ((rc = embed(&g, false))) return rc;
        pg_dec_act a = {.y0 = pg_work_rows(w, R, D, e), .q = pg_work_rows(w, R, q, e), .k = pg_work_rows(w, R, kv, e),
                        .v = pg_work_rows(w, R, kv, e), .a = pg_work_rows(w, R, q, e)};
        pg_dec_scratch s = {.tmp = pg_work_rows(w, R, D, e), .mlp_rows = R < 512 ? R : 512,
                            .seqs = pg_work_bytes(w, n, sizeof(pg_attn), e)};
        a.gate = pg_work_rows(w, s.mlp_rows, m->s.mlp, e);
        a.up = pg_work_rows(w, s.mlp_rows, m->s.mlp, e);
        if (!a.y0 || !a.q || !a.k || !a.v || !a.a || !a.gate || !a.up || !s.tmp || !s.seqs) return nomem(e);
        a.y1 = a.o = a.f = a.y0;
        s.act = a.gate;
        for (size_t l = 0; l + 1 < m->s.depth; l++) pg_dec_layer_forward(m, l, g.x, &g.rows, NULL, NULL, &a, &s);
        pg_dec_last_forward(m, o.x, g.x, &g.rows, &o.pick, &a, &s);
    }
    if ((rc = cross_entropy(&g, &o, grad, smoothing, loss_of))) return rc;
    return grad && losses_finite(&g, loss_of) ? backward(&g, &o) : PG_OK;
}

/* Floats that one text or image row keeps in one layer. */
static size_t floats_per_layer(const pg_model_shape *s)
{
    return 6 * s->width + 2 * s->heads * s->head_dim + 2 * s->kv_heads * s->head_dim + s->heads + 8 + 2 * s->mlp;
}

/* In all layers together. */
static size_t floats_per_row(const pg_model_shape *s, bool grad, bool image)
{
    size_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    size_t layer = floats_per_layer(s), once = 8 * s->width + 3 * s->mlp + 2 * q;
    if (!grad) return 6 * s->width + 2 * q + 2 * kv;
    if (image) once += s->vit_depth * (8 * s->vit_width + s->vit_mlp) + 3 * s->vit_mlp;
    return layer * s->depth + once;
}

static size_t rows_of_budget(const pg_model_shape *s, bool image)
{
    return default_budget / (floats_per_row(s, true, image) * sizeof(float));
}

bool pg_loss_in_one(const pg_model *m, size_t rows, size_t batch)
{
    return batch == 1 || rows <= rows_of_budget(&m->s, pg_trains_image(m)) / batch;
}

/* saved: floats of a row that are computed again instead of being kept. */
static size_t loss_bytes(const pg_model_shape *s, bool image, size_t saved, size_t rows, size_t batch)
{
    size_t per_row = floats_per_row(s, true, image), rows_of_group = rows_of_budget(s, image);
    if (rows_of_group < rows) rows_of_group = rows;
    else if (rows_of_group / rows >= batch) rows_of_group = rows * batch;
    size_t logits = rows_of_group > XENT_FLOATS / s->vocab ? XENT_FLOATS : rows_of_group * s->vocab;
    return rows_of_group * (per_row - saved) * sizeof(float) + 2 * logits * sizeof(float);
}

size_t pg_loss_bytes(const pg_model *m, size_t rows, size_t batch)
{
    size_t saved = again(m) ? (again(m) - 1) * (floats_per_layer(&m->s) - m->s.width) : 0;
    return loss_bytes(&m->s, pg_trains_image(m), saved, rows, batch);
}

size_t pg_shape_loss_bytes(const pg_model_shape *s, bool image, size_t rows, size_t batch) { return loss_bytes(s, image, 0, rows, batch); }

int pg_loss(pg_model *m, pg_work *w, const pg_example *ex, size_t n, bool grad, size_t budget, double *loss, double *loss_of,
            float *const *token_logp, double label_smoothing, pg_err *e)
{
    return pg_loss_share(m, w, ex, n, n, grad, budget, loss, loss_of, token_logp, label_smoothing, e);
}

int pg_loss_share(pg_model *m, pg_work *w, const pg_example *ex, size_t n, size_t of, bool grad, size_t budget, double *loss,
                  double *loss_of, float *const *token_logp, double label_smoothing, pg_err *e)
{
    pg_err local = {0};
    if (!e) e = &local;
    e->code = 0;
    pg_mark mark = pg_work_mark(w);
    plan *p = pg_work_bytes(w, n, sizeof *p, e);
    double *own = pg_work_bytes(w, n, sizeof *own, e);
    size_t kept = 0, per_row = floats_per_row(&m->s, grad, pg_trains_image(m)) * sizeof(float);
    int rc = p && own ? PG_OK : nomem(e);
    if (!budget) budget = default_budget;
    for (size_t i = 0; !rc && i < n; i++) {
        own[i] = 0;
        if (token_logp && token_logp[i]) memset(token_logp[i], 0, ex[i].n * sizeof(float));
        if ((rc = make_plan(m, w, &ex[i], i, &p[kept], e))) break;
        if (token_logp) p[kept].logp = token_logp[i];
        if (p[kept].n_loss) kept++;
    }
    for (size_t i = 0; !rc && i < kept;) {
        size_t take = 0, rows = 0;
        while (i + take < kept) {
            size_t more = m->s.n_image + p[i + take].rows;
            if (take && (rows + more) > budget / per_row) break;
            rows += more;
            take++;
        }
        if (grad && m->grads_shared && (take < kept || !m->ready)) {
            rc = pg_error(e, PG_EINVAL, "gradients of one layer at a time need a batch in one group, and somebody to take them");
            break;
        }
        pg_mark inner = pg_work_mark(w);
        rc = run_group(m, w, p + i, take, i + take == kept, grad, 1.0 / (double)of, label_smoothing, own, e);
        pg_work_release(w, inner);
        i += take;
    }
    if (!rc) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += own[i];
            if (loss_of) loss_of[i] = own[i];
        }
        *loss = n ? sum / (double)of : 0;
    }
    pg_work_release(w, mark);
    return rc;
}
