/* Blocks of attention with products in bfloat16: queries, keys, values, weights and gradients are rounded to it as they are packed
 * for a product; sums, the softmax and what is kept for the backward pass stay in float32. A few rows at a time go through all of a
 * block of keys, so that their scores stay in the first-level cache. */
#include "kernels/attention.h"
#include "kernels/half.h"

enum {
    MR = PG_HALF_ROWS,
    NR = PG_HALF_COLS,
    LEAST_ROWS = 12,   /* fewer do not pay for packing the keys */
    BACK_KEYS = 128    /* of a block, backward: what is packed stays in the second-level cache */
};

/* A matrix packed as the left side of products (panels of MR rows), or as the right side (panels of NR columns). Room: uint32_t each
 * holds a pair along K. */
typedef struct side {
    uint32_t *at;
    size_t panel; /* pairs between panels; those of a narrower last one of a right side lie closer together */
} side;

static size_t round_to(size_t n, size_t step)
{
    return pg_div_up(n, step) * step;
}

static size_t left_pairs(size_t rows, size_t K)
{
    return pg_div_up(rows, MR) * MR * round_to(K, 32) / 2;
}

static size_t right_pairs(size_t cols, size_t K)
{
    return round_to(cols, NR) * pg_div_up(K, 2);
}

static side take(uint32_t **room, size_t pairs, size_t panel)
{
    side s = {.at = *room, .panel = panel};
    *room += round_to(pairs, 16);
    return s;
}

static side take_left(uint32_t **room, size_t rows, size_t K)
{
    return take(room, left_pairs(rows, K), MR * round_to(K, 32) / 2);
}

static side take_right(uint32_t **room, size_t cols, size_t K)
{
    return take(room, right_pairs(cols, K), NR * pg_div_up(K, 2));
}

static void pack_right(const pg_half_ops *o, side to, const float *B, bool trans, size_t ldb, size_t cols, size_t K)
{
    for (size_t c = 0; c < cols; c += NR)
        o->pack_b(to.at + c / NR * to.panel, B + c * (trans ? ldb : 1), PG_MAT_F32, trans, ldb, pg_min_size(NR, cols - c), K);
}

/* C[M,N] (+)= a · b, M rows from row m of the left side on (a multiple of MR). */
static void product(const pg_half_ops *o, size_t m, size_t M, size_t N, size_t K, side a, side b, bool add, float *C, size_t ldc)
{
    for (size_t c = 0; c < N; c += NR)
        o->kernel(M, pg_min_size(NR, N - c), K, a.at + m / MR * a.panel, b.at + c / NR * b.panel, add, C + c, ldc, NULL, 0);
}

static size_t forward_pairs(size_t H)
{
    return left_pairs(PG_ATTN_HALF_ROWS, H) + right_pairs(PG_ATTN_KEYS, H) + right_pairs(H, PG_ATTN_KEYS) + left_pairs(MR, PG_ATTN_KEYS) + 4 * 16;
}

static size_t backward_pairs(size_t H)
{
    return 2 * left_pairs(PG_ATTN_BACK_ROWS, H) + 2 * right_pairs(H, PG_ATTN_BACK_ROWS) + 2 * right_pairs(BACK_KEYS, H) +
           right_pairs(H, BACK_KEYS) + left_pairs(MR, BACK_KEYS) + left_pairs(BACK_KEYS, PG_ATTN_BACK_ROWS) + 9 * 16;
}

bool pg_attn_half_suits(const pg_kern *k, size_t rows, const pg_attn_dims *d)
{
    const size_t room = (size_t)PG_TILE_K * PG_TILE_N;
    return k->half && rows >= LEAST_ROWS && d->head_dim < 4096 && forward_pairs(d->head_dim) <= room && backward_pairs(d->head_dim) <= room;
}

size_t pg_attn_half_rows(size_t run, size_t pieces)
{
    return round_to(pg_div_up(run, pieces), MR);
}

/* s: q·k of row r with n keys, of which it sees `see`; their weights go to a row of a left side. */
static void soften(const pg_kern *k, pg_softmax *x, const pg_attn_block *b, size_t r, float *s, size_t see, size_t n, uint32_t *weights,
                   float *out)
{
    float cap = b->d->softcap, scale = cap > 0 ? 1 : b->d->scale;
    if (see) pg_softmax_raise(k->ops, x, r, cap > 0 ? k->ops->logit(s, b->d->scale, cap, see) : scale * k->ops->max(s, see), out, b->d->head_dim);
    x->sum[r] += (double)k->half->exp_row(weights, s, scale, x->max[r], see, n);
}

void pg_attn_half_forward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w)
{
    const pg_half_ops *o = k->half;
    size_t H = b->d->head_dim, ldk = b->d->ldk;
    const float *q = b->s->q + b->query * b->d->ldq + b->head * H;
    float *out = b->s->out + b->query * b->d->ldo + b->head * H;
    uint32_t *room = (uint32_t *)(void *)w->b;
    side queries = take_left(&room, PG_ATTN_HALF_ROWS, H), weights = take_left(&room, MR, PG_ATTN_KEYS);
    side keys = take_right(&room, PG_ATTN_KEYS, H), values = take_right(&room, H, PG_ATTN_KEYS);
    pg_softmax soft;
    pg_softmax_begin(&soft, b->rows);
    o->pack_a(queries.at, q, b->ldq, 1, b->rows, H);
    for (size_t key = 0, n; key < b->keys; key += n) {
        const float *kf, *vf;
        n = pg_min_size(PG_ATTN_KEYS, b->keys - key);
        pg_attn_keys(b, key, &n, &kf, &vf);
        pack_right(o, keys, kf, true, ldk, n, H);
        values.panel = NR * pg_div_up(n, 2);
        pack_right(o, values, vf, false, ldk, H, n);
        for (size_t m = 0; m < b->rows; m += MR) {
            size_t M = pg_min_size(MR, b->rows - m);
            product(o, m, M, n, H, queries, keys, false, w->s, PG_ATTN_KEYS);
            for (size_t r = 0; r < M; r++)
                soften(k, &soft, b, m + r, w->s + r * PG_ATTN_KEYS, pg_attn_visible(b, m + r, key, n), n, weights.at + r * 16,
                       out + (m + r) * b->ldo);
            product(o, 0, M, H, n, weights, values, key > 0, out + m * b->ldo, b->ldo);
        }
    }
    pg_softmax_end(k->ops, &soft, b, out);
}

/* As backward() in attention.c, which see. */
void pg_attn_half_backward(const pg_kern *k, const pg_attn_block *b, const pg_scratch *w)
{
    const pg_half_ops *o = k->half;
    const pg_attn_dims *d = b->d;
    size_t H = d->head_dim, R = b->rows, first = b->query * d->ldq + b->head * H, ofirst = b->query * d->ldo + b->head * H;
    const float *q = b->s->q + first, *out = b->s->out + ofirst, *dout = b->s->dout + ofirst;
    float *dq = b->s->dq + first, delta[PG_ATTN_BACK_ROWS];
    uint32_t *room = (uint32_t *)(void *)w->b;
    side q_left = take_left(&room, R, H), dout_left = take_left(&room, R, H), q_right = take_right(&room, H, R);
    side dout_right = take_right(&room, H, R), keys = take_right(&room, BACK_KEYS, H), values = take_right(&room, BACK_KEYS, H);
    side key_rows = take_right(&room, H, BACK_KEYS), ds_left = take_left(&room, MR, BACK_KEYS);
    side turned = take_left(&room, BACK_KEYS, R);
    o->pack_a(q_left.at, q, b->ldq, 1, R, H);
    o->pack_a(dout_left.at, dout, b->ldo, 1, R, H);
    pack_right(o, q_right, q, false, b->ldq, H, R);
    pack_right(o, dout_right, dout, false, b->ldo, H, R);
    for (size_t r = 0; r < R; r++) delta[r] = k->ops->dot(dout + r * b->ldo, out + r * b->ldo, H);
    for (size_t key = 0; key < b->keys; key += BACK_KEYS) {
        size_t n = pg_min_size(BACK_KEYS, b->keys - key), at = key * d->ldk + b->kv * H;
        pack_right(o, keys, b->s->k + at, true, d->ldk, n, H);
        pack_right(o, values, b->s->v + at, true, d->ldk, n, H);
        key_rows.panel = NR * pg_div_up(n, 2);
        pack_right(o, key_rows, b->s->k + at, false, d->ldk, H, n);
        for (size_t m = 0; m < R; m += MR) {
            size_t M = pg_min_size(MR, R - m);
            float *s = w->s + m * BACK_KEYS, *ds = w->ds + m * BACK_KEYS;
            product(o, m, M, n, H, q_left, keys, false, s, BACK_KEYS);
            product(o, m, M, n, H, dout_left, values, false, ds, BACK_KEYS);
            for (size_t r = 0; r < M; r++) pg_attn_row_back(k->ops, b, m + r, s + r * BACK_KEYS, ds + r * BACK_KEYS, delta[m + r], key, n);
            o->pack_a(ds_left.at, ds, BACK_KEYS, 1, M, n);
            product(o, 0, M, H, n, ds_left, key_rows, key > 0, dq + m * b->ldq, b->ldq);
        }
        o->pack_a(turned.at, w->ds, 1, BACK_KEYS, n, R);
        for (size_t m = 0; m < n; m += MR)
            product(o, m, pg_min_size(MR, n - m), H, R, turned, q_right, true, b->s->dk + at + m * d->ldk, d->ldk);
        o->pack_a(turned.at, w->s, 1, BACK_KEYS, n, R);
        for (size_t m = 0; m < n; m += MR)
            product(o, m, pg_min_size(MR, n - m), H, R, turned, dout_right, true, b->s->dv + at + m * d->ldk, d->ldk);
    }
}
