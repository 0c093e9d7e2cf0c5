/* Creation, dispatch, and the element-wise functions. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quant.h"

enum { CHUNK = 16384, ENOUGH = 20000 }; /* elements of a piece; work that is worth waking a thread */

typedef struct isa {
    const pg_ops *ops;
    bool present;
} isa;

/* __builtin_cpu_supports also asks whether the operating system saves the registers (XCR0). */
static size_t list_isas(isa out[3])
{
    size_t n = 0;
#if defined(__x86_64__)
    out[n++] = (isa){&pg_ops_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")};
    out[n++] = (isa){&pg_ops_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")}; /* and f16c, which all of them have */
#elif defined(__aarch64__)
    out[n++] = (isa){&pg_ops_neon, true};
#endif
    out[n++] = (isa){&pg_ops_scalar, true};
    return n;
}

/* Whether the list in PG_CPU_DISABLE has a name. */
static bool disabled(const char *name)
{
    const char *s = getenv("PG_CPU_DISABLE");
    while (s && *s) {
        size_t len = strcspn(s, ",");
        if (len == strlen(name) && !strncmp(s, name, len)) return true;
        s += len + (s[len] == ',');
    }
    return false;
}

/* A list made for one machine is right on all, so every name is known on each. */
static int check_disabled(pg_err *e)
{
    static const char *const known[] = {"", "avx512", "avx2", "bf16", "vnni", "neon"};
    const char *s = getenv("PG_CPU_DISABLE");
    while (s && *s) {
        size_t len = strcspn(s, ","), i = 0, n = sizeof known / sizeof *known;
        while (i < n && !(strlen(known[i]) == len && !strncmp(s, known[i], len))) i++;
        if (i == n) return pg_error(e, PG_EINVAL, "PG_CPU_DISABLE: '%.*s' is not one of avx512, avx2, bf16, vnni, neon", (int)len, s);
        s += len + (s[len] == ',');
    }
    return PG_OK;
}

static int choose(const pg_ops **out, pg_err *e)
{
    isa list[3];
    size_t n = list_isas(list), i = 0;
    int r = check_disabled(e);
    if (r) return r;
    while (i + 1 < n && !(list[i].present && !disabled(list[i].ops->name))) i++; /* the last is the scalar one */
    *out = list[i].ops;
    return PG_OK;
}

int pg_kern_new(pg_kern **out, size_t threads, pg_err *e)
{
    *out = NULL;
    pg_kern *k = pg_calloc(1, sizeof *k);
    if (!k) return pg_error_nomem(e);
    int r = choose(&k->ops, e);
    if (r) goto fail;
    r = pg_pool_new(&k->pool, threads, e);
    if (r) goto fail;
    k->threads = pg_pool_threads(k->pool);
    const size_t tile = (size_t)PG_TILE_K * PG_TILE_N, scores = PG_ATTN_SCORES, each = tile + 2 * scores;
    size_t total;
    k->scratch = pg_calloc(k->threads, sizeof *k->scratch);
    if (!k->scratch || !pg_mul(k->threads, each, &total) || !pg_add(total, PG_PANEL_FLOATS, &total) || !(k->memory = pg_floats(total))) {
        r = pg_error_nomem(e);
        goto fail;
    }
    for (size_t t = 0; t < k->threads; t++) {
        float *m = k->memory + t * each;
        k->scratch[t] = (pg_scratch){.b = m, .s = m + tile, .ds = m + tile + scores};
    }
    k->panels = k->memory + k->threads * each;
    pg_blas_init(k->blas, sizeof k->blas);
#if defined(__x86_64__)
    k->has_bf16 = k->ops == &pg_ops_avx512 && __builtin_cpu_supports("avx512bf16") && !disabled("bf16");
    bool vnni = k->ops == &pg_ops_avx512 && __builtin_cpu_supports("avx512vnni") && !disabled("vnni");
    k->quant = vnni ? &pg_quant_vnni : k->ops != &pg_ops_scalar && !disabled("avx2") ? &pg_quant_avx2 : NULL;
#endif
    *out = k;
    return PG_OK;
fail:
    pg_kern_free(k);
    return r;
}

void pg_kern_free(pg_kern *k)
{
    if (!k) return;
    pg_pool_free(k->pool);
    free(k->scratch);
    free(k->memory);
    free(k->packed);
    free(k->wide);
    free(k);
}

size_t pg_kern_threads(const pg_kern *k)
{
    return k->threads;
}

pg_pool *pg_kern_pool(pg_kern *k)
{
    return k->pool;
}

const char *pg_kern_isa(const pg_kern *k)
{
    return k->ops->name;
}

const char *pg_kern_blas(const pg_kern *k)
{
    return k->blas;
}

void pg_kern_run(pg_kern *k, size_t n, size_t work, void (*fn)(void *ctx, size_t i, size_t thread), void *ctx)
{
    pg_pool_run(n > 1 && work >= ENOUGH ? k->pool : NULL, n, fn, ctx);
}

/* Element-wise functions share one driver: which, over pieces of CHUNK elements. */
typedef struct job {
    const pg_ops *ops;
    void (*fn)(const struct job *j, size_t at, size_t n);
    size_t n, width; /* width: bytes of an element of x */
    pg_mat_type type;
    float *y, *y2, *y3;
    const float *a, *b, *c;
    const void *x;
    float f;
    const pg_adamw_args *adamw;
} job;

static void piece(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    const job *j = ctx;
    size_t at = i * CHUNK;
    j->fn(j, at, pg_min_size(CHUNK, j->n - at));
}

static void each(pg_kern *k, job *j, size_t cost)
{
    j->ops = k->ops;
    pg_kern_run(k, pg_div_up(j->n, CHUNK), j->n * cost, piece, j);
}

static void do_gelu(const job *j, size_t at, size_t n)
{
    j->ops->gelu(j->y + at, j->a + at, j->b ? j->b + at : NULL, n);
}
void pg_gelu(pg_kern *k, float *y, const float *x, size_t n)
{
    each(k, &(job){.fn = do_gelu, .n = n, .y = y, .a = x}, 4);
}
void pg_geglu(pg_kern *k, float *y, const float *gate, const float *up, size_t n)
{
    each(k, &(job){.fn = do_gelu, .n = n, .y = y, .a = gate, .b = up}, 4);
}

static void do_gelu_back(const job *j, size_t at, size_t n)
{
    j->ops->gelu_back(j->y + at, j->y2 ? j->y2 + at : NULL, j->a + at, j->b + at, j->c ? j->c + at : NULL, n);
}
void pg_gelu_back(pg_kern *k, float *dx, const float *dy, const float *x, size_t n)
{
    each(k, &(job){.fn = do_gelu_back, .n = n, .y = dx, .a = dy, .b = x}, 6);
}
void pg_geglu_back(pg_kern *k, float *dgate, float *dup, const float *dy, const float *gate, const float *up, size_t n)
{
    each(k, &(job){.fn = do_gelu_back, .n = n, .y = dgate, .y2 = dup, .a = dy, .b = gate, .c = up}, 6);
}

static void do_axpy(const job *j, size_t at, size_t n)
{
    j->ops->axpy(j->y + at, j->f, j->a + at, n);
}
void pg_axpy(pg_kern *k, float *y, float a, const float *x, size_t n)
{
    each(k, &(job){.fn = do_axpy, .n = n, .y = y, .a = x, .f = a}, 1);
}

static void do_widen(const job *j, size_t at, size_t n)
{
    j->ops->widen(j->y + at, (const unsigned char *)j->x + at * pg_mat_bytes(j->type), j->type, n);
}
void pg_widen(pg_kern *k, float *y, const void *x, pg_mat_type type, size_t n)
{
    each(k, &(job){.fn = do_widen, .n = n, .y = y, .x = x, .type = type}, 1);
}

static void do_sgd(const job *j, size_t at, size_t n)
{
    j->ops->sgd(j->y + at, j->a + at, j->f, n);
}
void pg_sgd(pg_kern *k, float *w, const float *g, float lr, size_t n)
{
    each(k, &(job){.fn = do_sgd, .n = n, .y = w, .a = g, .f = lr}, 1);
}

static void do_adamw(const job *j, size_t at, size_t n)
{
    j->ops->adamw(j->y + at, j->y2 + at, j->y3 + at, j->a + at, j->adamw, n);
}
void pg_adamw(pg_kern *k, float *w, float *mu, float *nu, const float *g, const pg_adamw_args *a, size_t n)
{
    each(k, &(job){.fn = do_adamw, .n = n, .y = w, .y2 = mu, .y3 = nu, .a = g, .adamw = a}, 4);
}

/* Sums: at most PARTS runs, whose length depends on n alone, added in order. */
enum { PARTS = 256 };
typedef struct sums {
    const pg_ops *ops;
    const float *x;
    size_t n, run;
    double part[PARTS];
    bool finite[PARTS];
} sums;

static void sum_part(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    sums *s = ctx;
    size_t at = i * s->run;
    s->part[i] = s->ops->sum_squares(s->x + at, 0, pg_min_size(s->run, s->n - at));
}

static void finite_part(void *ctx, size_t i, size_t thread)
{
    (void)thread;
    sums *s = ctx;
    size_t at = i * s->run;
    s->finite[i] = s->ops->all_finite(s->x + at, pg_min_size(s->run, s->n - at));
}

static size_t cut(sums *s, pg_kern *k, const float *x, size_t n)
{
    s->ops = k->ops;
    s->x = x;
    s->n = n;
    s->run = pg_div_up(n, PARTS);
    if (s->run < CHUNK) s->run = CHUNK;
    return pg_div_up(n, s->run);
}

double pg_sum_squares(pg_kern *k, const float *x, size_t n)
{
    sums s;
    size_t parts = cut(&s, k, x, n);
    pg_kern_run(k, parts, n, sum_part, &s);
    double sum = 0;
    for (size_t i = 0; i < parts; i++) sum += s.part[i];
    return sum;
}

bool pg_all_finite(pg_kern *k, const float *x, size_t n)
{
    sums s;
    size_t parts = cut(&s, k, x, n);
    pg_kern_run(k, parts, n, finite_part, &s);
    for (size_t i = 0; i < parts; i++)
        if (!s.finite[i]) return false;
    return true;
}
