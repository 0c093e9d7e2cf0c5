/* Random weights to train from: a big_vision npz of any size, float32.
 * Kernels are normal with standard deviation 1/sqrt(fan in), embeddings 1/sqrt(width), biases 0; norm scales 0 (RMSNorm multiplies by
 * 1 + scale) and 1 (LayerNorm); position embeddings are 2-D sine waves, which a small model needs to start with. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "weights/weights.h"

typedef struct option {
    const char *name;
    size_t value;
    const char *what;
} option;

static option o[] = {{"--image", 96, "pixels a side"}, {"--patch", 24, "pixels of a patch's side"}, {"--vit-width", 128, "image tower"},
                     {"--vit-depth", 3, ""}, {"--vit-mlp", 384, ""}, {"--vit-heads", 4, ""}, {"--width", 128, "language model"},
                     {"--depth", 3, ""}, {"--mlp", 256, ""}, {"--heads", 4, ""}, {"--kv-heads", 1, ""}, {"--head-dim", 32, ""},
                     {"--vocab", 2048, "tokens"}, {"--gemma2", 0, "1: with Gemma 2's norms"}, {"--seed", 0, ""}, {"--f16", 0, "1: float16"}, {"--bf16", 0, "1: bfloat16"},
                     {"--mixed", 0, "1: float16, attention of the language model float32, as tuned checkpoints are"},
                     {"--quick", 0, "1: numbers drawn once are used again and again, for speed tests"}};
enum { IMAGE, PATCH, VW, VD, VM, VH, W, D, M, H, K, HD, V, G2, SEED, F16, BF16, MIXED, QUICK, N_OPTIONS };
enum { CHUNK = 65536, DRAWN = 1 << 20 };
typedef enum { AS_F32, AS_F16, AS_BF16 } stored;

static pg_rng rng;
static pg_npz_writer *z;
static stored as; /* the tensor that is being written */

static void die(const pg_err *e)
{
    fprintf(stderr, "init: %s\n", e->msg);
    exit(1);
}

static void put(const float *v, size_t n)
{
    static uint16_t half[CHUNK];
    pg_err e = {0};
    for (size_t i = 0; as != AS_F32 && i < n; i++) half[i] = as == AS_F16 ? pg_f32_to_f16(v[i]) : pg_f32_to_bf16(v[i]);
    if (pg_npz_data(z, as != AS_F32 ? (const void *)half : v, n * (as != AS_F32 ? 2 : 4), &e)) die(&e);
}

static size_t begin(const char *name, size_t nd, const size_t *shape)
{
    pg_err e = {0};
    char key[256];
    size_t n = 1;
    snprintf(key, sizeof key, "params/%s", name);
    for (size_t i = 0; i < nd; i++) n *= shape[i];
    as = o[BF16].value ? AS_BF16 : o[F16].value || (o[MIXED].value && strncmp(name, "llm/layers/attn/", 16)) ? AS_F16 : AS_F32;
    static const char *const descr[] = {"<f4", "<f2", "|V2"};
    if (pg_npz_begin(z, key, descr[as], nd, shape, &e)) die(&e);
    return n;
}

#define SHAPE(...) sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), (size_t[]){__VA_ARGS__}

static void constant(const char *name, float v, size_t nd, const size_t *shape)
{
    static float chunk[CHUNK];
    size_t n = begin(name, nd, shape);
    for (size_t i = 0; i < CHUNK; i++) chunk[i] = v;
    for (size_t i = 0; i < n; i += CHUNK) put(chunk, n - i < CHUNK ? n - i : CHUNK);
}

static const float *drawn(void)
{
    static float *all;
    if (!all && (all = pg_floats(DRAWN)))
        for (size_t i = 0; i < DRAWN; i++) all[i] = (float)pg_rng_normal(&rng);
    if (!all) exit(1);
    return all + pg_rng_below(&rng, DRAWN - CHUNK);
}

static void normal(const char *name, size_t fan_in, size_t nd, const size_t *shape)
{
    static float chunk[CHUNK];
    size_t n = begin(name, nd, shape);
    double s = 1.0 / sqrt((double)fan_in);
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = n - i < CHUNK ? n - i : CHUNK;
        const float *again = o[QUICK].value ? drawn() : NULL;
        for (size_t j = 0; j < m; j++) chunk[j] = (float)(s * (again ? (double)again[j] : pg_rng_normal(&rng)));
        put(chunk, m);
    }
}

static void waves(size_t side, size_t width)
{
    size_t shape[] = {1, side * side, width}, quarter = width / 4;
    begin("img/pos_embedding", 3, shape);
    float *row = pg_floats(width);
    if (!row) exit(1);
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++) {
            for (size_t i = 0; i < width; i++) row[i] = 0;
            for (size_t i = 0; i < quarter; i++) { /* big_vision's posemb_sincos_2d, amplitude 0.5 sqrt 2 */
                double f = pow(10000.0, -(double)i / (double)(quarter > 1 ? quarter - 1 : 1)), a = 0.5 * sqrt(2.0);
                row[i] = (float)(a * sin((double)x * f));
                row[quarter + i] = (float)(a * cos((double)x * f));
                row[2 * quarter + i] = (float)(a * sin((double)y * f));
                row[3 * quarter + i] = (float)(a * cos((double)y * f));
            }
            put(row, width);
        }
    free(row);
}

#define BLOCK "img/Transformer/encoderblock/"
#define MHA BLOCK "MultiHeadDotProductAttention_0/"

static void tower(void)
{
    size_t P = o[PATCH].value, E = o[VW].value, L = o[VD].value, F = o[VM].value, h = o[VH].value, d = E / h;
    static const char *const qkv[] = {"query", "key", "value"};
    char name[128];
    normal("img/embedding/kernel", P * P * 3, SHAPE(P, P, 3, E));
    constant("img/embedding/bias", 0, SHAPE(E));
    waves(o[IMAGE].value / P, E);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, BLOCK "LayerNorm_%d/scale", i);
        constant(name, 1, SHAPE(L, E));
        snprintf(name, sizeof name, BLOCK "LayerNorm_%d/bias", i);
        constant(name, 0, SHAPE(L, E));
    }
    normal(BLOCK "MlpBlock_0/Dense_0/kernel", E, SHAPE(L, E, F));
    constant(BLOCK "MlpBlock_0/Dense_0/bias", 0, SHAPE(L, F));
    normal(BLOCK "MlpBlock_0/Dense_1/kernel", F, SHAPE(L, F, E));
    constant(BLOCK "MlpBlock_0/Dense_1/bias", 0, SHAPE(L, E));
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, MHA "%s/kernel", qkv[i]);
        normal(name, E, SHAPE(L, E, h, d));
        snprintf(name, sizeof name, MHA "%s/bias", qkv[i]);
        constant(name, 0, SHAPE(L, h, d));
    }
    normal(MHA "out/kernel", E, SHAPE(L, h, d, E));
    constant(MHA "out/bias", 0, SHAPE(L, E));
    constant("img/Transformer/encoder_norm/scale", 1, SHAPE(E));
    constant("img/Transformer/encoder_norm/bias", 0, SHAPE(E));
    normal("img/head/kernel", E, SHAPE(E, o[W].value));
    constant("img/head/bias", 0, SHAPE(o[W].value));
}

static void language(void)
{
    size_t w = o[W].value, L = o[D].value, F = o[M].value, h = o[H].value, k = o[K].value, d = o[HD].value;
    normal("llm/embedder/input_embedding", w, SHAPE(o[V].value, w));
    normal("llm/layers/attn/q_einsum/w", w, SHAPE(L, h, w, d));
    normal("llm/layers/attn/kv_einsum/w", w, SHAPE(L, 2, k, w, d));
    normal("llm/layers/attn/attn_vec_einsum/w", h * d, SHAPE(L, h, d, w));
    normal("llm/layers/mlp/gating_einsum", w, SHAPE(L, 2, w, F));
    normal("llm/layers/mlp/linear", F, SHAPE(L, F, w));
    constant("llm/layers/pre_attention_norm/scale", 0, SHAPE(L, w));
    constant("llm/layers/pre_ffw_norm/scale", 0, SHAPE(L, w));
    if (o[G2].value) {
        constant("llm/layers/post_attention_norm/scale", 0, SHAPE(L, w));
        constant("llm/layers/post_ffw_norm/scale", 0, SHAPE(L, w));
    }
    constant("llm/final_norm/scale", 0, SHAPE(w));
}

static int usage(void)
{
    fprintf(stderr, "usage: init [--preset pg1-224|pg2-224] [OPTION N]... OUT.npz\n");
    for (size_t i = 0; i < N_OPTIONS; i++) fprintf(stderr, "  %-12s %6zu  %s\n", o[i].name, o[i].value, o[i].what);
    return 2;
}

static bool preset(const char *name)
{
    static const size_t pg1[] = {224, 14, 1152, 27, 4304, 16, 2048, 18, 16384, 8, 1, 256, 257152, 0};
    static const size_t pg2[] = {224, 14, 1152, 27, 4304, 16, 2304, 26, 9216, 8, 4, 256, 257152, 1};
    const size_t *p = !strcmp(name, "pg1-224") ? pg1 : !strcmp(name, "pg2-224") ? pg2 : NULL;
    for (size_t i = 0; p && i < SEED; i++) o[i].value = p[i];
    return p != NULL;
}

int main(int argc, char **argv)
{
    pg_err e = {0};
    const char *out = NULL;
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (argv[i][0] != '-') {
            out = argv[i];
            continue;
        }
        if (i + 1 == argc) return usage();
        if (!strcmp(argv[i], "--preset")) {
            if (!preset(argv[++i])) return usage();
            continue;
        }
        while (k < N_OPTIONS && strcmp(argv[i], o[k].name)) k++;
        if (k == N_OPTIONS || !pg_parse_size(argv[++i], &o[k].value) || o[k].value > 1u << 24) return usage();
    }
    if (!out || !o[PATCH].value || !o[VH].value || o[IMAGE].value % o[PATCH].value || o[VW].value % o[VH].value) return usage();
    pg_rng_seed(&rng, o[SEED].value, 1);
    if (pg_npz_create(&z, out, &e)) die(&e);
    tower();
    language();
    if (pg_npz_commit(z, &e)) die(&e);
    return 0;
}
