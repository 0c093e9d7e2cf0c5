/* Each backward function against central differences of its forward one, both built in double from the files of common/kernels: what
 * is left of a difference is the formula's, not rounding's. Products are sums, which test_gemm.c looks at; here they are plain loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"

/* From here on a float is a double, also in the prototypes: nothing of libpg.a that takes one is called. */
#define float double
#define expf exp
#define tanhf tanh
#define sqrtf sqrt
#define fminf fmin
#define pg_ops_scalar ops_of_doubles
#define pg_kern_run run_tasks
#define pg_attn_rows attn_rows
#define pg_attn_keys attn_keys
#define pg_attn_forward attn_forward
#define pg_attn_backward attn_backward
#define pg_softmax_begin softmax_begin
#define pg_softmax_raise softmax_raise
#define pg_softmax_row softmax_row
#define pg_softmax_end softmax_end
#define pg_turn turn_of_doubles
#include "kernels/ops.h"

void run_tasks(pg_kern *k, size_t n, size_t work, void (*fn)(void *, size_t, size_t), void *ctx)
{
    (void)k, (void)work;
    for (size_t i = 0; i < n; i++) fn(ctx, i, 0);
}

#include "../../common/kernels/scalar.c"
#define job rows_job
#include "../../common/kernels/rows.c"
#undef job
#define job attention_job
#include "../../common/kernels/attention.c"
#undef job
#include "../../common/kernels/attention_blocks.c"

/* scalar.c's load float32 from memory. Element (k, j) of B at k*rs + j*cs. */
static void sums_of(size_t M, size_t n, size_t K, const double *A, size_t lda, const double *B, size_t rs, size_t cs, bool more, double *C,
                    size_t ldc)
{
    for (size_t m = 0; m < M; m++)
        for (size_t j = 0; j < n; j++) {
            double s = more ? C[m * ldc + j] : 0;
            for (size_t k = 0; k < K; k++) s += A[m * lda + k] * B[k * rs + j * cs];
            C[m * ldc + j] = s;
        }
}

static void nn(size_t M, size_t n, size_t K, const double *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool more, double *C,
               size_t ldc)
{
    (void)type;
    sums_of(M, n, K, A, lda, B, ldb, 1, more, C, ldc);
}

static void nt(size_t M, size_t n, size_t K, const double *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool more, double *C,
               size_t ldc)
{
    (void)type;
    sums_of(M, n, K, A, lda, B, 1, ldb, more, C, ldc);
}

static pg_kern *kern(void)
{
    static double b[PG_TILE_K * PG_TILE_N], s[PG_ATTN_SCORES], ds[PG_ATTN_SCORES];
    static pg_scratch scratch = {b, s, ds};
    static pg_ops ops;
    static pg_kern k = {.ops = &ops, .threads = 1, .scratch = &scratch};
    ops = ops_of_doubles;
    ops.gemm_nn = nn;
    ops.gemm_nt = nt;
    return &k;
}

enum { MOST = 800, INPUTS = 3, ROWS = 4, COLUMNS = 70 };

/* A function of some inputs; the loss is the sum of its output times weight. */
typedef struct op {
    size_t n_in, len[INPUTS], n_out;
    double in[INPUTS][MOST], grad[INPUTS][MOST], weight[MOST];
    void (*forward)(struct op *o, double *y);
    void (*backward)(struct op *o);
    /* attention */
    pg_attn a;
    pg_attn_dims d;
    uint32_t lim[8];
} op;

static double loss(op *o)
{
    static double y[MOST];
    double sum_of = 0;
    o->forward(o, y);
    for (size_t i = 0; i < o->n_out; i++) sum_of += o->weight[i] * y[i];
    return sum_of;
}

/* The third derivative's share is h^2 = 1e-10 of the function's size, rounding's 2e-16 / h of a sum of some 100 terms. */
static void check(const char *name, op *o)
{
    const double h = 1e-5;
    pg_rng rng;
    pg_rng_seed(&rng, 7, o->n_out);
    for (size_t k = 0; k < o->n_in; k++)
        for (size_t i = 0; i < o->len[k]; i++) o->in[k][i] = pg_rng_normal(&rng);
    for (size_t i = 0; i < o->n_out; i++) o->weight[i] = pg_rng_normal(&rng);
    o->backward(o);
    for (size_t k = 0; k < o->n_in; k++)
        for (size_t i = 0; i < o->len[k]; i++) {
            double keep = o->in[k][i], up;
            o->in[k][i] = keep + h;
            up = loss(o);
            o->in[k][i] = keep - h;
            double slope = (up - loss(o)) / (2 * h);
            o->in[k][i] = keep;
            if (!(fabs(slope - o->grad[k][i]) <= 1e-7 * (1 + fabs(slope))))
                fail_msg("%s: input %zu, element %zu: slope %.12g, gradient %.12g", name, k, i, slope, o->grad[k][i]);
        }
}

static double mean[ROWS], rstd[ROWS];

static void layer_norm(op *o, double *y) { pg_layer_norm(kern(), y, mean, rstd, o->in[0], o->in[1], o->in[2], ROWS, COLUMNS); }

static void layer_norm_back(op *o)
{
    double y[ROWS * COLUMNS];
    layer_norm(o, y);
    pg_layer_norm_back(kern(), o->grad[0], o->grad[1], o->grad[2], o->weight, o->in[0], mean, rstd, o->in[1], ROWS, COLUMNS);
}

static void rms_norm(op *o, double *y) { pg_rms_norm(kern(), y, rstd, o->in[0], o->in[1], ROWS, COLUMNS); }

static void rms_norm_back(op *o)
{
    double y[ROWS * COLUMNS];
    rms_norm(o, y);
    pg_rms_norm_back(kern(), o->grad[0], o->grad[1], o->weight, o->in[0], rstd, o->in[1], ROWS, COLUMNS);
}

static void test_norms(void **state)
{
    (void)state;
    op o = {.n_in = 3, .len = {ROWS * COLUMNS, COLUMNS, COLUMNS}, .n_out = ROWS * COLUMNS, .forward = layer_norm, .backward = layer_norm_back};
    check("layer norm", &o);
    op r = {.n_in = 2, .len = {ROWS * COLUMNS, COLUMNS}, .n_out = ROWS * COLUMNS, .forward = rms_norm, .backward = rms_norm_back};
    check("rms norm", &r);
}

/* The activations' drivers cut a row into runs and nothing else. */
static void gelu_of(op *o, double *y) { kern()->ops->gelu(y, o->in[0], NULL, o->n_out); }
static void gelu_of_back(op *o) { kern()->ops->gelu_back(o->grad[0], NULL, o->weight, o->in[0], NULL, o->n_out); }
static void geglu(op *o, double *y) { kern()->ops->gelu(y, o->in[0], o->in[1], o->n_out); }
static void geglu_back(op *o) { kern()->ops->gelu_back(o->grad[0], o->grad[1], o->weight, o->in[0], o->in[1], o->n_out); }

static void bias(op *o, double *y)
{
    memcpy(y, o->in[0], o->n_out * sizeof *y);
    pg_add_bias(kern(), y, o->in[1], ROWS, COLUMNS);
}

static void bias_back(op *o)
{
    memcpy(o->grad[0], o->weight, o->n_out * sizeof *o->weight);
    pg_add_bias_back(kern(), o->grad[1], o->weight, ROWS, COLUMNS);
}

static void test_elements(void **state)
{
    (void)state;
    op g = {.n_in = 1, .len = {500}, .n_out = 500, .forward = gelu_of, .backward = gelu_of_back};
    check("gelu", &g);
    op u = {.n_in = 2, .len = {500, 500}, .n_out = 500, .forward = geglu, .backward = geglu_back};
    check("gelu times up", &u);
    op b = {.n_in = 2, .len = {ROWS * COLUMNS, COLUMNS}, .n_out = ROWS * COLUMNS, .forward = bias, .backward = bias_back};
    check("bias", &b);
}

enum { HEADS = 2, DIM = 8, PLACES = 50 };
static const uint32_t places[ROWS] = {0, 1, 49, 17};

static void turn(double *x, bool back)
{
    double c[PLACES * DIM / 2], s[PLACES * DIM / 2];
    pg_rope_table(c, s, PLACES, DIM);
    pg_rope(kern(), x, HEADS * DIM, places, c, s, ROWS, HEADS, DIM, 0.25, back);
}

static void rope_of(op *o, double *y)
{
    memcpy(y, o->in[0], o->n_out * sizeof *y);
    turn(y, false);
}

static void rope_of_back(op *o)
{
    memcpy(o->grad[0], o->weight, o->n_out * sizeof *o->weight);
    turn(o->grad[0], true);
}

static void test_rope(void **state)
{
    (void)state;
    op o = {.n_in = 1, .len = {ROWS * HEADS * DIM}, .n_out = ROWS * HEADS * DIM, .forward = rope_of, .backward = rope_of_back};
    check("rope", &o);
}

static const int32_t targets[ROWS] = {3, -1, 0, COLUMNS - 1};

/* The loss of a row is weight times -logp. */
static void xent(op *o, double *y)
{
    double logits[ROWS * COLUMNS];
    memcpy(logits, o->in[0], sizeof logits);
    pg_xent(kern(), logits, targets, NULL, y, ROWS, COLUMNS, false);
    for (size_t r = 0; r < ROWS; r++) y[r] = -y[r];
}

static void xent_back(op *o)
{
    double logp[ROWS];
    memcpy(o->grad[0], o->in[0], o->len[0] * sizeof *o->grad[0]);
    pg_xent(kern(), o->grad[0], targets, o->weight, logp, ROWS, COLUMNS, true);
}

static void test_losses(void **state)
{
    (void)state;
    op o = {.n_in = 1, .len = {ROWS * COLUMNS}, .n_out = ROWS, .forward = xent, .backward = xent_back};
    check("cross entropy", &o);
}

static double lse[64];

static void attend(op *o, double *y)
{
    pg_attn a = o->a;
    a.q = o->in[0];
    a.k = o->in[1];
    a.v = o->in[2];
    a.lim = o->lim;
    a.out = y;
    a.lse = lse;
    pg_attention(kern(), &a, 1, &o->d);
}

static void attend_back(op *o)
{
    double y[MOST];
    attend(o, y);
    pg_attn a = o->a;
    a.q = o->in[0];
    a.k = o->in[1];
    a.v = o->in[2];
    a.lim = o->lim;
    a.out = y;
    a.lse = lse;
    a.dout = o->weight;
    a.dq = o->grad[0];
    a.dk = o->grad[1];
    a.dv = o->grad[2];
    pg_attention_back(kern(), &a, 1, &o->d);
}

static void check_attention(const char *name, size_t n, size_t keys, size_t heads, size_t kv, size_t H, double cap)
{
    op o = {.n_in = 3, .len = {n * heads * H, keys * kv * H, keys * kv * H}, .n_out = n * heads * H, .forward = attend, .backward = attend_back};
    o.a = (pg_attn){.n = n, .n_keys = keys};
    o.d = (pg_attn_dims){.heads = heads, .kv_heads = kv, .head_dim = H, .ldq = heads * H, .ldk = kv * H, .ldo = heads * H, .scale = 0.7, .softcap = cap};
    for (size_t i = 0; i < n; i++) o.lim[i] = (uint32_t)(i + 1 == n ? keys : keys - n + i); /* the last rows see one key more each */
    check(name, &o);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention("attention, a key head for each", 5, 9, 3, 3, 8, 0);
    check_attention("attention, one key head", 5, 9, 4, 1, 8, 0);
    check_attention("attention, groups", 5, 9, 6, 2, 4, 0);
    check_attention("attention, more heads than queries", 2, 9, 6, 2, 4, 0);
    check_attention("attention, capped", 5, 9, 4, 1, 8, 2);
    check_attention("attention, keys in two blocks", 3, 300, 2, 1, 2, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_norms), cmocka_unit_test(test_elements), cmocka_unit_test(test_rope),
                                       cmocka_unit_test(test_losses), cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests_name("float64", tests, NULL, NULL);
}
