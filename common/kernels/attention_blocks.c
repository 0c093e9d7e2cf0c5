/* Blocks of attention, in float32 or bfloat16: keys and values are packed once for all rows of a block, then a few rows at a time go
 * through them, so that their scores stay in the first-level cache. In bfloat16 queries, keys, values, weights and gradients are
 * rounded as they are packed for a product; sums, the softmax and what is kept for the backward pass stay in float32. */
#include <string.h>

#include "kernels/attention.h"
#include "kernels/half.h"

enum {
    MR = PG_HALF_ROWS, /* of one call of a kernel, in float32 too */
    KEYS = PG_ATTN_KEYS,
    BACK_KEYS = 128    /* the same backward, where more is packed: it stays in the second-level cache */
};

/* The left side of products: rows of float32 as they lie, element (m, k) at m*rs + k*cs; or packed as half.h says. */
typedef struct left {
    const float *rows;
    size_t rs, cs;
    uint32_t *packed;
    size_t panel; /* pairs of MR rows */
} left;

/* The right side, packed in panels of columns, as ops.h or half.h says. */
typedef struct right {
    float *panels;
    size_t panel; /* elements, or pairs, of one that is not the last */
} right;

/* Where it all happens: a thread's scratch, handed out from the start. */
typedef struct place {
    const pg_ops *ops;
    const pg_half_ops *half; /* NULL: float32 */
    float *room;
    size_t used;
} place;

static size_t round_to(size_t n, size_t step)
{
    return pg_div_up(n, step) * step;
}

/* 16 elements are a line. */
static float *take(place *p, size_t n)
{
    float *at = p->room + p->used;
    p->used += round_to(n, 16);
    return at;
}

/* Room for `rows` rows at most, K deep at most. */
static left take_left(place *p, size_t rows, size_t K)
{
    return (left){.packed = p->half ? (uint32_t *)(void *)take(p, round_to(rows, MR) * round_to(K, 32) / 2) : NULL};
}

static right take_right(place *p, size_t cols, size_t K)
{
    return (right){.panels = take(p, round_to(cols, PG_HALF_COLS) * round_to(K, 2))};
}

static void pack_left(const place *p, left *to, const float *A, size_t rs, size_t cs, size_t rows, size_t K)
{
    to->rows = A;
    to->rs = rs;
    to->cs = cs;
    to->panel = MR * round_to(K, 32) / 2;
    if (p->half) p->half->pack_a(to->packed, A, rs, cs, rows, K);
}

static size_t panel_cols(const place *p)
{
    return p->half ? PG_HALF_COLS : p->ops->panel_cols;
}

/* B [K, cols]; trans: it lies as [cols, K]. */
static void pack_right(const place *p, right *to, const float *B, bool trans, size_t ldb, size_t cols, size_t K)
{
    size_t wide = panel_cols(p);
    to->panel = wide * (p->half ? pg_div_up(K, 2) : K);
    for (size_t c = 0; c < cols; c += wide) {
        size_t n = pg_min_size(wide, cols - c), w = round_to(n, p->ops->lanes);
        const float *from = B + c * (trans ? ldb : 1);
        float *out = to->panels + c / wide * to->panel;
        if (p->half) {
            p->half->pack_b((uint32_t *)(void *)out, from, PG_MAT_F32, trans, ldb, n, K);
            continue;
        }
        if (trans) p->ops->turn(out, w, from, ldb, n, K);
        for (size_t k = 0; k < K; k++) {
            if (!trans) memcpy(out + k * w, from + k * ldb, n * sizeof *out);
            for (size_t x = n; x < w; x++) out[k * w + x] = 0;
        }
    }
}

/* C[M,N] (+)= a · b, M <= MR rows from row m of the left side on, a multiple of MR. */
static void product(const place *p, size_t m, size_t M, size_t N, size_t K, const left *a, const right *b, bool add, float *C, size_t ldc)
{
    size_t wide = panel_cols(p);
    for (size_t c = 0; c < N; c += wide) {
        size_t n = pg_min_size(wide, N - c);
        const float *panel = b->panels + c / wide * b->panel;
        if (p->half)
            p->half->kernel(M, n, K, a->packed + m / MR * a->panel, (const uint32_t *)(const void *)panel, add, C + c, ldc, NULL, 0);
        else
            p->ops->panel(M, n, K, a->rows + m * a->rs, a->rs, a->cs, panel, add, C + c, ldc);
    }
}

static void all_rows(const place *p, size_t M, size_t N, size_t K, const left *a, const right *b, float *C, size_t ldc)
{
    for (size_t m = 0; m < M; m += MR) product(p, m, pg_min_size(MR, M - m), N, K, a, b, true, C + m * ldc, ldc);
}

/* What the two passes take of it, in the larger of the two types for each. */
#define LEFT(rows, K) ((rows) * (K) / 2 + 16)
#define RIGHT(cols, K) ((cols) * (K) + 16)
enum {
    ROOM = PG_TILE_K * PG_TILE_N,
    D = PG_MOST_HEAD_DIM,
    FORWARD = LEFT(PG_ATTN_ROWS, D) + LEFT(MR, KEYS) + RIGHT(KEYS, D) + RIGHT(D, KEYS),
    BACKWARD = 2 * LEFT(PG_ATTN_BACK_ROWS, D) + LEFT(MR, BACK_KEYS) + LEFT(BACK_KEYS + MR, PG_ATTN_BACK_ROWS) + 2 * RIGHT(D, PG_ATTN_BACK_ROWS) +
               2 * RIGHT(BACK_KEYS, D) + RIGHT(D, BACK_KEYS)
};
_Static_assert(FORWARD <= ROOM && BACKWARD <= ROOM, "a thread's scratch is too small");

size_t pg_attn_rows(size_t run, size_t most)
{
    return run ? round_to(pg_div_up(run, pg_div_up(run, most)), MR) : MR;
}

/* As pg_softmax_row; the weights go to row i of a left side. */
static void half_row(const place *p, pg_softmax *x, const pg_attn_block *b, size_t r, size_t see, float *s, size_t n, left *weights, size_t i,
                     float *out)
{
    float cap = b->d->softcap, scale = cap > 0 ? 1 : b->d->scale;
    if (see)
        pg_softmax_raise(p->ops, x, r, cap > 0 ? p->ops->logit(s, b->d->scale, cap, see) : scale * p->ops->max(s, see), out, b->d->head_dim);
    x->sum[r] += (double)p->half->exp_row(weights->packed + i * 16, s, scale, x->max[r], see, n);
}

void pg_attn_forward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w)
{
    place p = {.ops = k->ops, .half = k->half, .room = w->b};
    size_t H = b->d->head_dim, ldk = b->d->ldk;
    const float *q = b->s->q + b->query * b->d->ldq + b->head * H;
    float *out = b->s->out + b->query * b->d->ldo + b->head * H;
    left queries = take_left(&p, b->rows, H), weights = take_left(&p, MR, KEYS);
    right keys = take_right(&p, KEYS, H), values = take_right(&p, H, KEYS);
    pg_softmax soft;
    pg_softmax_begin(&soft, b->rows);
    pack_left(&p, &queries, q, b->ldq, 1, b->rows, H);
    weights = (left){.rows = w->s, .rs = KEYS, .cs = 1, .packed = weights.packed};
    for (size_t key = 0, n; key < b->keys; key += n) {
        const float *kf, *vf;
        n = pg_min_size(KEYS, b->keys - key);
        pg_attn_keys(b, key, &n, &kf, &vf);
        pack_right(&p, &keys, kf, true, ldk, n, H);
        pack_right(&p, &values, vf, false, ldk, H, n);
        for (size_t m = 0; m < b->rows; m += MR) {
            size_t M = pg_min_size(MR, b->rows - m);
            product(&p, m, M, n, H, &queries, &keys, false, w->s, KEYS);
            for (size_t i = 0, r = m; i < M; i++, r++) {
                size_t see = pg_attn_visible(b, r, key, n);
                float *s = w->s + i * KEYS, *o = out + r * b->ldo;
                if (p.half) half_row(&p, &soft, b, r, see, s, n, &weights, i, o);
                else pg_softmax_row(k->ops, &soft, b, r, see, s, n, o);
            }
            product(&p, 0, M, H, n, &weights, &values, key > 0, out + m * b->ldo, b->ldo);
        }
    }
    pg_softmax_end(k->ops, &soft, b, out);
}

/* p = softmax; dv += p' dout; ds = p (dout v' - dout·out) slope; dq = ds k; dk += ds' q. */
void pg_attn_backward(const pg_kern *k, const pg_attn_block *b, const pg_attn_part *part, const pg_scratch *w)
{
    place p = {.ops = k->ops, .half = k->half, .room = w->b};
    const pg_attn_dims *d = b->d;
    size_t H = d->head_dim, R = b->rows, first = b->query * d->ldq + b->head * H, ofirst = b->query * d->ldo + b->head * H;
    const float *q = b->s->q + first, *out = b->s->out + ofirst, *dout = b->s->dout + ofirst;
    float *dq = b->s->dq + first, delta[PG_ATTN_BACK_ROWS];
    left q_rows = take_left(&p, R, H), dout_rows = take_left(&p, R, H), ds_rows = take_left(&p, MR, BACK_KEYS);
    left turned = take_left(&p, BACK_KEYS, R); /* of p, then of ds */
    right q_right = take_right(&p, H, R), dout_right = take_right(&p, H, R), keys = take_right(&p, BACK_KEYS, H);
    right values = take_right(&p, BACK_KEYS, H), key_rows = take_right(&p, H, BACK_KEYS);
    size_t end = pg_min_size(part->end, b->keys);
    if (part->first >= end) return;
    pack_left(&p, &q_rows, q, b->ldq, 1, R, H);
    pack_left(&p, &dout_rows, dout, b->ldo, 1, R, H);
    if (part->dkv) {
        pack_right(&p, &q_right, q, false, b->ldq, H, R);
        pack_right(&p, &dout_right, dout, false, b->ldo, H, R);
    }
    for (size_t r = 0; r < R; r++) delta[r] = k->ops->dot(dout + r * b->ldo, out + r * b->ldo, H);
    for (size_t key = part->first; key < end; key += BACK_KEYS) {
        size_t n = pg_min_size(BACK_KEYS, end - key), at = key * d->ldk + b->kv * H;
        pack_right(&p, &keys, b->s->k + at, true, d->ldk, n, H);
        pack_right(&p, &values, b->s->v + at, true, d->ldk, n, H);
        if (part->dq) pack_right(&p, &key_rows, b->s->k + at, false, d->ldk, H, n);
        for (size_t m = 0; m < R; m += MR) {
            size_t M = pg_min_size(MR, R - m);
            float *s = w->s + m * BACK_KEYS, *ds = w->ds + m * BACK_KEYS;
            product(&p, m, M, n, H, &q_rows, &keys, false, s, BACK_KEYS);
            product(&p, m, M, n, H, &dout_rows, &values, false, ds, BACK_KEYS);
            for (size_t i = 0; i < M; i++) {
                size_t see = pg_attn_visible(b, m + i, key, n);
                float *si = s + i * BACK_KEYS, *di = ds + i * BACK_KEYS;
                k->ops->attn_back(si, di, d->scale, d->softcap, b->s->lse[b->lse[m + i]], delta[m + i], see);
                memset(si + see, 0, (n - see) * sizeof *si);
                memset(di + see, 0, (n - see) * sizeof *di);
            }
            if (!part->dq) continue;
            pack_left(&p, &ds_rows, ds, BACK_KEYS, 1, M, n);
            product(&p, 0, M, H, n, &ds_rows, &key_rows, key > 0, dq + m * b->ldq, b->ldq);
        }
        if (!part->dkv) continue;
        pack_left(&p, &turned, w->s, 1, BACK_KEYS, n, R);
        all_rows(&p, n, H, R, &turned, &dout_right, b->s->dv + at, d->ldk);
        pack_left(&p, &turned, w->ds, 1, BACK_KEYS, n, R);
        all_rows(&p, n, H, R, &turned, &q_right, b->s->dk + at, d->ldk);
    }
}
