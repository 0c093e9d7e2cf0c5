/* Speed of the products and of attention on the shapes of the small and of the large model: build/tests/kernels/aux_bench [THREADS [attention]]
 * What few rows cost, by their number, comes first; attention last, in float32 and where the CPU can in bfloat16. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/num.h"
#include "kernels/kernels.h"

/* Processor time of all threads together: other programs hardly change it. With one thread it is the time that passes on an idle machine. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const char *const types[] = {"f32", "f16", "bf16"};

/* The best of several rounds: other programs share the machine. */
static int product(pg_kern *k, size_t M, size_t K, size_t N, pg_mat_type type, bool trans, bool transA)
{
    float *a = pg_floats(M * K), *c = pg_floats(M * N), *b = pg_floats(K * N);
    if (!a || !b || !c) return 1;
    for (size_t i = 0; i < M * K; i++) a[i] = (float)(i % 7) - 3;
    for (size_t i = 0; i < K * N; i++) b[i] = 0;
    pg_mat B = {.data = b, .type = type, .trans = trans, .rows = K, .cols = N, .ld = trans ? K : N};
    double best = 1e9, start = now();
    for (int round = 0; round < 3 || now() - start < 0.3; round++) {
        int times = 2e8 / (double)(M * N) / (double)K > 1 ? (int)(2e8 / (double)(M * N) / (double)K) : 1;
        double t = now();
        for (int i = 0; i < times; i++) pg_gemm(k, M, N, K, a, transA ? M : K, transA, &B, 0, c, N);
        t = (now() - t) / times;
        if (t < best) best = t;
    }
    printf("%5zu x %5zu x %5zu %-4s%s%s %10.1f us %7.1f GFLOP/s %6.1f GB/s of B\n", M, K, N, types[type], transA ? " A'" : "", trans ? " B'" : "",
           best * 1e6, 2e-9 * (double)(M * N) * (double)K / best, 1e-9 * (double)(K * N) * (type == PG_MAT_F32 ? 4 : 2) / best);
    free(a), free(b), free(c);
    return 0;
}

static int attention(pg_kern *k, size_t seqs, size_t n, size_t keys, size_t heads, size_t kv, size_t H)
{
    size_t wq = heads * H, wk = kv * H;
    float *q = pg_floats(4 * seqs * n * wq), *kk = pg_floats(4 * seqs * keys * wk), *lse = pg_floats(seqs * heads * n);
    pg_attn *s = pg_calloc(seqs, sizeof *s);
    if (!q || !kk || !lse || !s) return 1;
    for (size_t i = 0; i < 4 * seqs * n * wq; i++) q[i] = (float)(i % 11) * 0.1f - 0.5f;
    for (size_t i = 0; i < 4 * seqs * keys * wk; i++) kk[i] = (float)(i % 13) * 0.1f - 0.6f;
    size_t nq = seqs * n * wq, nk = seqs * keys * wk;
    for (size_t i = 0; i < seqs; i++) {
        size_t a = i * n * wq, b = i * keys * wk;
        s[i] = (pg_attn){.n = n, .q = q + a, .k = kk + b, .v = kk + nk + b, .n_keys = keys, .out = q + nq + a, .lse = lse + i * heads * n,
                         .dout = q + 2 * nq + a, .dq = q + 3 * nq + a, .dk = kk + 2 * nk + b, .dv = kk + 3 * nk + b};
    }
    pg_attn_dims d = {heads, kv, H, wq, wk, wq, 0.1f, 0};
    double best[2] = {1e9, 1e9};
    double start = now();
    for (int round = 0; round < 20 && (round < 2 || now() - start < 4); round++)
        for (int back = 0; back < 2; back++) {
            double t = now();
            if (back)
                pg_attention_back(k, s, seqs, &d);
            else
                pg_attention(k, s, seqs, &d);
            t = now() - t;
            if (t < best[back]) best[back] = t;
        }
    double flop = 4e-9 * (double)(seqs * heads * n) * (double)(keys * H);
    printf("attention %zu x %zu queries, %zu keys, %zu/%zu heads of %zu: %9.1f us %6.1f GFLOP/s, back %9.1f us %6.1f\n", seqs, n, keys, heads, kv,
           H, best[0] * 1e6, flop / best[0], best[1] * 1e6, 2.5 * flop / best[1]);
    free(q), free(kk), free(lse), free(s);
    return 0;
}

static int attentions(pg_kern *k)
{
    printf("%s\n", pg_kern_uses_bf16(k) ? "bfloat16" : "float32");
    return attention(k, 32, 30, 30, 4, 1, 32) || attention(k, 32, 1, 30, 4, 1, 32) || attention(k, 32, 16, 16, 4, 4, 32) ||
           attention(k, 1, 264, 264, 8, 1, 256) || attention(k, 4, 320, 320, 8, 1, 256) || attention(k, 1, 1, 320, 8, 1, 256) ||
           attention(k, 1, 256, 256, 16, 16, 72) || attention(k, 1, 1024, 1024, 16, 16, 72) || attention(k, 1, 4096, 4096, 16, 16, 72);
}

static int elements(pg_kern *k, size_t n)
{
    float *x = pg_floats(n), *y = pg_floats(n), *z = pg_floats(n), *s = pg_floats(128);
    if (!x || !y || !z || !s) return 1;
    for (size_t i = 0; i < n; i++) x[i] = y[i] = (float)(i % 97) * 0.1f - 5;
    for (size_t i = 0; i < 128; i++) s[i] = 1;
    static const char *const names[] = {"gelu", "geglu", "gelu back", "rms norm", "layer norm", "layer norm back", "adamw", "xent 2048"};
    pg_adamw_args o = {.lr = 0, .schedule = 1, .b1 = 0.9f, .b2 = 0.9f, .eps = 1, .c1 = 1, .c2 = 1, .gscale = 1};
    int32_t target[64] = {0};
    float logp[64];
    for (int f = 0; f < 8; f++) {
        double best = 1e9;
        for (int round = 0; round < 50; round++) {
            double t = now();
            if (f == 0) pg_gelu(k, z, x, n);
            if (f == 1) pg_geglu(k, z, x, y, n);
            if (f == 2) pg_gelu_back(k, z, y, x, n);
            if (f == 3) pg_rms_norm(k, z, NULL, x, s, n / 128, 128);
            if (f == 4) pg_layer_norm(k, z, NULL, NULL, x, s, s, n / 128, 128);
            if (f == 5) pg_layer_norm_back(k, z, s, s, y, x, x, x, s, n / 128, 128);
            if (f == 6) pg_adamw(k, z, y, y, x, &o, n);
            if (f == 7) pg_xent(k, x, target, NULL, logp, n / 2048, 2048, true);
            t = now() - t;
            if (t < best) best = t;
        }
        printf("%-16s %8.1f us, %.2f ns an element\n", names[f], best * 1e6, best * 1e9 / (double)n);
    }
    free(x), free(y), free(z), free(s);
    return 0;
}

int main(int argc, char **argv)
{
    size_t threads = 0;
    pg_err e;
    pg_kern *k;
    if (argc > 1 && !pg_parse_size(argv[1], &threads)) return 2;
    if (pg_kern_new(&k, threads, &e)) {
        fprintf(stderr, "aux_bench: %s\n", e.msg);
        return 1;
    }
    printf("%s, %s, %zu threads\n", pg_kern_isa(k), pg_kern_blas(k), pg_kern_threads(k));
    static const size_t small[][3] = {{900, 128, 128}, {900, 128, 384}, {900, 384, 128}, {900, 128, 32}, {500, 128, 2048}, {32, 128, 128}, {32, 128, 2048}, {32, 256, 128}, {32, 128, 512}, {1, 128, 256}, {512, 1728, 128}};
    bool all = argc < 3 || strcmp(argv[2], "attention");
    int bad = 0;
    for (size_t M = all ? 1 : 9; M <= 8 && !bad; M++)
        for (int v = 0; v < 3 && !bad; v++)
            bad = product(k, M, 128, 128, (pg_mat_type)v, false, false) || product(k, M, 128, 100, (pg_mat_type)v, false, false) ||
                  product(k, M, 256, 2048, (pg_mat_type)v, false, false) || product(k, M, 128, 130, (pg_mat_type)v, true, false);
    for (size_t i = 0; all && i < sizeof small / sizeof *small && !bad; i++)
        for (int v = 0; v < 4 && !bad; v++)
            bad = product(k, small[i][v == 3 ? 1 : 0], small[i][v == 3 ? 0 : 1], small[i][2], v == 1 ? PG_MAT_F16 : PG_MAT_F32, v == 2, v == 3);
    static const size_t large[][3] = {{264, 2048, 32768}, {264, 16384, 2048}, {1, 2048, 32768}, {1, 16384, 2048}, {4, 2048, 32768}, {8, 2048, 16384}};
    for (size_t i = 0; all && i < sizeof large / sizeof *large && !bad; i++)
        for (int v = 0; v < 4 && !bad; v++) bad = product(k, large[i][0], large[i][1], large[i][2], (pg_mat_type)(v % 3), v == 3, false);
    bad = bad || (all && elements(k, 900 * 128)) || attentions(k) || pg_kern_use_bf16(k, &e) || (pg_kern_uses_bf16(k) && attentions(k));
    pg_kern_free(k);
    return bad;
}
