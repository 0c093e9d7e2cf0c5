/* How fast the parts are, each beside a probe of the machine taken between its rounds: see tests/bench/run.sh, which makes the model.
 *   aux_bench MODEL TOKENIZER BUILD JSON [NAME...]      NAME: the results wanted, or beginnings of them; default all
 * Each part runs in a process of its own, so that its peak memory is its own. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jpeglib.h>

#include "image/image.h"
#include "kernels/probe.h"
#include "model/decode.h"
#include "model/loss.h"
#include "stream/stream.h"
#include "text/text.h"
#include "train/optim.h"

typedef enum { F32, BF16, INT8 } dtype;
enum { PREFIX = 8, STEPS = 8, CAPTION = 60, ASKED = 128, COLD_TOKENS = 8, MOST_ROUNDS = 25 };

typedef struct bench {
    const char *model, *tokenizer, *build;
    pg_kern *k;
    pg_model *m;
    pg_work *w;
    float *read;   /* memory for the read probe */
    double peak, rate; /* best of the probes so far: operations, bytes a second */
    double rounds; /* seconds to spend */
} bench;

/* On a machine that others use as well, PG_BENCH_CLOCK=cpu counts the time that the processor spent on this process, a thread's share
 * of it, instead of the time that passed; waiting for memory and for each other is in it. */
static double threads_counted; /* 0: time that passed */
static double clock_now(void)
{
    struct timespec t;
    struct rusage c;
    if (threads_counted <= 0) return pg_seconds();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    getrusage(RUSAGE_CHILDREN, &c); /* commands that have ended */
    double children = (double)(c.ru_utime.tv_sec + c.ru_stime.tv_sec) + 1e-6 * (double)(c.ru_utime.tv_usec + c.ru_stime.tv_usec);
    return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec + children) / threads_counted;
}

static void choose_clock(const pg_kern *k)
{
    const char *s = getenv("PG_BENCH_CLOCK");
    threads_counted = s && !strcmp(s, "cpu") ? (double)pg_kern_threads(k) : 0;
}

/* What a part measured. limit: what the machine could do at best, in the unit of work; 0: no limit is known. */
typedef struct result {
    double seconds, work, limit;
    char unit[32];
} result;

enum { READ_FLOATS = 64 << 20 };

static void check(int rc, const pg_err *e)
{
    if (!rc) return;
    fprintf(stderr, "aux_bench: %s\n", e->msg);
    _exit(1);
}

static void *need(void *p)
{
    if (p) return p;
    fprintf(stderr, "aux_bench: out of memory\n");
    _exit(1);
}

static void probe(bench *b, dtype d, bool memory)
{
    double x = pg_probe_peak(b->k, d == F32 ? PG_PEAK_F32 : d == BF16 ? PG_PEAK_BF16 : PG_PEAK_INT8, 0.03, clock_now);
    if (x > b->peak) b->peak = x;
    if (!memory) return;
    if (!b->read) memset(b->read = need(pg_floats(READ_FLOATS)), 1, READ_FLOATS * sizeof(float));
    x = pg_probe_read(b->k, b->read, READ_FLOATS, clock_now);
    if (x > b->rate) b->rate = x;
}

/* The best of several rounds, as other programs share the machine; a probe before each. */
static double best(bench *b, dtype d, bool memory, void (*fn)(bench *, void *), void *arg)
{
    double least = INFINITY, start = pg_seconds();
    for (int i = 0; i < (b->rounds > 1 ? 3 : 2) || (i < MOST_ROUNDS && pg_seconds() - start < b->rounds); i++) {
        probe(b, d, memory);
        double t = clock_now();
        fn(b, arg);
        t = clock_now() - t;
        if (t < least) least = t;
    }
    return least;
}

static void open_model(bench *b, dtype d, const char *trainable)
{
    pg_err e = {0};
    if (d != F32) check(pg_kern_use_bf16(b->k, &e), &e);
    check(pg_model_open(&b->m, b->model, trainable, b->k, &e), &e);
    check(pg_work_new(&b->w, &e), &e);
    if (d == INT8) check(pg_model_quantise(b->m, NULL, &e), &e);
}

/* ---- operations and bytes that are needed ---- */

static double attention_weights(const pg_model_shape *s) /* of one layer: q and o; k and v */
{
    return 2.0 * (double)(s->width * s->heads * s->head_dim);
}
static double kv_weights(const pg_model_shape *s) { return 2.0 * (double)(s->width * s->kv_heads * s->head_dim); }
static double mlp_weights(const pg_model_shape *s) { return 3.0 * (double)(s->width * s->mlp); }
static double scores(const pg_model_shape *s, double rows, double keys) { return 4.0 * rows * keys * (double)(s->heads * s->head_dim); }

static double image_flop(const pg_model_shape *s)
{
    double R = (double)s->n_image, E = (double)s->vit_width;
    return (double)s->vit_depth * (2 * R * (4 * E * E + 2 * E * (double)s->vit_mlp) + 4 * R * R * E) +
           2 * R * E * (double)(s->width + s->patch * s->patch * 3);
}

/* All rows through all layers but the last, where only the last row is wanted; its logits. */
static double prefill_flop(const pg_model_shape *s, double R)
{
    double layer = 2 * R * (attention_weights(s) + kv_weights(s) + mlp_weights(s)) + scores(s, R, R);
    double last = 2 * R * kv_weights(s) + 2 * (attention_weights(s) + mlp_weights(s)) + scores(s, 1, R);
    return (double)(s->depth - 1) * layer + last + 2 * (double)(s->width * s->vocab);
}

static double decode_weights(const pg_model_shape *s)
{
    return (double)s->depth * (attention_weights(s) + kv_weights(s) + mlp_weights(s)) + (double)(s->width * s->vocab);
}

/* Training of the attention weights. R rows, the squares of their sequences' lengths summed in R2, L of them with a loss. */
static double train_flop(const pg_model_shape *s, double R, double R2, double L, double LR)
{
    double a = attention_weights(s), kv = kv_weights(s), m = mlp_weights(s), per = scores(s, 1, 1);
    double forward = 2 * R * (a + kv + m) + per * R2, through = 2 * R * (a + kv + m) + 2.5 * per * R2, own = 2 * R * (a + kv);
    double last = 2 * (2 * R * kv + 2 * L * (a + m) + per * LR) + 0.5 * per * LR + 2 * R * kv + 2 * L * a;
    double first = 2 * R * (a / 2 + kv); /* no gradient below the first layer: that of its queries, keys and values goes no further */
    return (double)(s->depth - 1) * (forward + through + own) - first + last + 4 * L * (double)(s->width * s->vocab);
}

/* ---- the model ---- */

static float *pixels_of(const pg_model_shape *s)
{
    size_t n = s->image_size * s->image_size * 3;
    float *p = need(pg_floats(n));
    for (size_t i = 0; i < n; i++) p[i] = (float)(i * 7 % 255) / 127.5f - 1;
    return p;
}

static float *features_of(const pg_model_shape *s)
{
    size_t n = s->n_image * s->width;
    float *p = need(pg_floats(n));
    for (size_t i = 0; i < n; i++) p[i] = (float)(i * 11 % 251) / 125.5f - 1;
    return p;
}

static void encode(bench *b, void *arg)
{
    static float *pixels, *out;
    (void)arg;
    pg_err e = {0};
    if (!pixels) pixels = pixels_of(&b->m->s), out = need(pg_floats(b->m->s.n_image * b->m->s.width));
    const float *p = pixels;
    check(pg_vit_forward(b->m, &p, 1, out, &e), &e);
}

static result image_encode(bench *b, dtype d, size_t n)
{
    (void)n;
    open_model(b, d, NULL);
    double t = best(b, d, false, encode, NULL), f = image_flop(&b->m->s);
    return (result){t, f / t, b->peak, "operations/s"};
}

typedef struct decoding {
    size_t batch, tokens;
    float *features;
    pg_caption *c; /* [batch] */
    pg_decoder *d;
} decoding;

static void start(bench *b, decoding *d)
{
    pg_err e = {0};
    static const int32_t prefix[PREFIX] = {2, 300, 301, 302, 303, 304, 305, 108};
    d->c = need(pg_calloc(d->batch, sizeof *d->c));
    check(pg_decoder_new(&d->d, b->m, b->w, &(pg_decoding){.max_len = d->tokens}, d->batch, &e), &e);
    for (size_t i = 0; i < d->batch; i++) {
        d->c[i] = (pg_caption){.features = d->features, .prefix = prefix, .n_prefix = PREFIX, .tokens = need(pg_alloc(d->tokens, 4))};
        check(pg_decoder_add(d->d, &d->c[i]) ? PG_OK : pg_error(&e, PG_FAIL, "no seat is free"), &e);
    }
}

static void finish(decoding *d)
{
    for (size_t i = 0; i < d->batch; i++) {
        check(d->c[i].err.code, &d->c[i].err);
        free(d->c[i].tokens);
    }
    pg_decoder_free(d->d);
    free(d->c);
}

static void step(bench *b, void *arg)
{
    decoding *d = arg;
    pg_err e = {0};
    (void)b;
    for (size_t i = 0; i < STEPS; i++) check(pg_decoder_step(d->d, &e), &e);
}

/* One caption. */
static void caption(bench *b, void *arg)
{
    decoding *d = arg;
    pg_err e = {0};
    start(b, d);
    while (!pg_decoder_take(d->d)) check(pg_decoder_step(d->d, &e), &e);
    finish(d);
}

static result prefill(bench *b, dtype d, size_t n)
{
    open_model(b, d, NULL);
    decoding g = {.batch = 1, .tokens = 1, .features = features_of(&b->m->s)};
    double t = best(b, d, false, caption, &g), f = prefill_flop(&b->m->s, (double)(b->m->s.n_image + PREFIX));
    (void)n;
    return (result){t, f / t, b->peak, "operations/s"};
}

/* Tokens after the first two: pictures and prefixes are read once. */
static result decode(bench *b, dtype d, size_t n)
{
    pg_err e = {0};
    open_model(b, d, NULL);
    decoding g = {.batch = n, .tokens = 2 + STEPS * MOST_ROUNDS, .features = features_of(&b->m->s)};
    start(b, &g);
    check(pg_decoder_step(g.d, &e), &e);
    double t = best(b, d, true, step, &g) / STEPS;
    if (pg_decoder_take(g.d)) {
        fprintf(stderr, "aux_bench: a caption ended while it was timed\n");
        _exit(1);
    }
    finish(&g);
    double bytes = decode_weights(&b->m->s) * (d == F32 ? 0 : d == BF16 ? 2 : 1 + 8.0 / 256);
    result r = {t, (double)n / t, 0, "tokens/s"};
    if (bytes > 0) r.limit = (double)n * b->rate / bytes; /* tokens a second, each batch reading all weights once */
    return r;
}

/* ---- training ---- */

typedef struct training {
    pg_example *ex;
    size_t n;
    pg_optim opt;
} training;

static void train(bench *b, void *arg)
{
    training *t = arg;
    pg_err e = {0};
    double loss, norm;
    bool changed;
    pg_grads_zero(b->m);
    pg_optim_begin(&t->opt, b->m, 1);
    check(pg_loss(b->m, b->w, t->ex, t->n, true, 0, &loss, NULL, NULL, 0, &e), &e);
    check(pg_optim_end(&t->opt, &norm, &changed, &e), &e);
}

static result train_step(bench *b, dtype d, size_t n)
{
    pg_err e = {0};
    static int32_t tokens[ASKED], ar[ASKED], in[ASKED];
    open_model(b, d, "attention");
    const pg_model_shape *s = &b->m->s;
    training t = {need(pg_calloc(n, sizeof *t.ex)), n, {.kind = PG_SGD, .lr = 1e-6}};
    size_t text = 4 + CAPTION;
    for (size_t i = 0; i < text; i++) {
        tokens[i] = (int32_t)(i * 37 % (s->vocab - 10) + 5);
        ar[i] = i >= 4;
        in[i] = 1;
    }
    float *features = features_of(s);
    for (size_t i = 0; i < n; i++)
        t.ex[i] = (pg_example){.features = features, .tokens = tokens, .mask_ar = ar, .mask_loss = ar, .mask_input = in, .n = ASKED};
    if (pg_loss_in_one(b->m, s->n_image + text, n)) check(pg_grads_share(b->m, &e), &e); /* as pg-train */
    check(pg_optim_init(&t.opt, b->m, &e), &e);
    double one = (double)(s->n_image + text - 1), R = (double)n * one, L = (double)(n * CAPTION);
    b->rounds = 1; /* two rounds: a step is long, and the first has fresh memory */
    double took = best(b, d, false, train, &t), f = train_flop(s, R, R * one, L, L * one);
    return (result){took, f / took, b->peak, "operations/s"};
}

/* ---- a whole command ---- */

static void write_request(const bench *b, const char *path)
{
    pg_err e = {0};
    pg_weights *w;
    pg_model_shape s;
    pg_writer *out;
    pg_rec *r = need(pg_rec_new()), *extra = need(pg_rec_new());
    static const int32_t tokens[PREFIX] = {2, 300, 301, 302, 303, 304, 305, 108}, no[PREFIX] = {0}, yes[PREFIX] = {1, 1, 1, 1, 1, 1, 1, 1};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) need(NULL);
    check(pg_weights_open(&w, b->model, &e), &e);
    check(pg_weights_shape(w, &s, &e), &e);
    pg_tensor px = {.type = "<f4", .ndim = 3, .shape = {s.image_size, s.image_size, 3}, .bytes = s.image_size * s.image_size * 3 * 4};
    px.data = (const unsigned char *)pixels_of(&s);
    check(pg_writer_new(&out, fd, path, &e), &e);
    check(pg_writer_header(out, NULL, "examples", "aux_bench", "0", 0, NULL, extra, &e), &e);
    if (pg_rec_set_str(r, "id", "one", 3, &e) || pg_rec_set_tensor(r, "pixels", &px, &e) || pg_rec_set_ints(r, "tokens", tokens, PREFIX, &e) ||
        pg_rec_set_ints(r, "mask_ar", no, PREFIX, &e) || pg_rec_set_ints(r, "mask_loss", no, PREFIX, &e) ||
        pg_rec_set_ints(r, "mask_input", yes, PREFIX, &e) || pg_writer_add(out, r, &e) || pg_writer_end(out, NULL, &e))
        check(1, &e);
    pg_writer_free(out);
    close(fd);
    pg_weights_close(w);
}

static void command(bench *b, void *arg)
{
    pid_t pid = fork();
    if (!pid) {
        char tool[512], tokens[16];
        snprintf(tool, sizeof tool, "%s/pg-infer", b->build);
        snprintf(tokens, sizeof tokens, "%d", COLD_TOKENS);
        int in = open(arg, O_RDONLY), out = open("/dev/null", O_WRONLY);
        dup2(in, 0), dup2(out, 1), dup2(out, 2);
        execl(tool, "pg-infer", "-q", "-m", b->model, "--dtype", "bf16", "-b", "1", "-n", tokens, (char *)NULL);
        _exit(127);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
        fprintf(stderr, "aux_bench: pg-infer failed\n");
        _exit(1);
    }
}

/* The limit: the same picture and tokens in a process that has everything open already. */
static result cold_caption(bench *b, dtype d, size_t n)
{
    char path[512];
    (void)n;
    snprintf(path, sizeof path, "%s/bench-request.pgs", b->build);
    write_request(b, path);
    double cold = best(b, d, false, command, path);
    open_model(b, d, NULL);
    decoding g = {.batch = 1, .tokens = COLD_TOKENS, .features = features_of(&b->m->s)};
    double warm = best(b, d, false, encode, NULL) + best(b, d, false, caption, &g);
    unlink(path);
    return (result){cold, 1 / cold, 1 / warm, "captions/s"};
}

/* ---- pictures and text ---- */

typedef struct jpeg {
    unsigned char *data;
    unsigned long len;
    pg_image *im;
    float *out;
} jpeg;

static void make_jpeg(jpeg *j, unsigned width, unsigned height)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr err;
    unsigned char *row = need(pg_alloc(width, 3));
    c.err = jpeg_std_error(&err);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &j->data, &j->len);
    c.image_width = width, c.image_height = height, c.input_components = 3, c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    jpeg_start_compress(&c, TRUE);
    unsigned noise = 1;
    for (unsigned y = 0; y < height; y++) { /* waves and some noise, as a photograph has */
        for (unsigned x = 0; x < 3 * width; x++) {
            noise = noise * 1664525u + 1013904223u;
            row[x] = (unsigned char)(128 + 80 * sin(x * 0.004 + y * 0.002) + 20 * sin(x * 0.05) + (noise >> 28));
        }
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
}

static void decode_only(bench *b, void *arg)
{
    const jpeg *j = arg;
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr err;
    (void)b;
    c.err = jpeg_std_error(&err);
    jpeg_create_decompress(&c);
    jpeg_mem_src(&c, j->data, j->len);
    jpeg_read_header(&c, TRUE);
    jpeg_start_decompress(&c);
    unsigned char *row = need(pg_alloc(c.output_width, 3));
    while (c.output_scanline < c.output_height) jpeg_read_scanlines(&c, &row, 1);
    jpeg_finish_decompress(&c);
    jpeg_destroy_decompress(&c);
    free(row);
}

static void resize_one(bench *b, void *arg)
{
    const jpeg *j = arg;
    pg_err e = {0};
    pg_image_info info;
    char warning[256];
    (void)b;
    check(pg_image_pixels(j->im, j->data, j->len, &(pg_image_opts){.size = 224, .orient = true}, j->out, &info, warning, &e), &e);
}

/* For parts that run in this thread alone. */
static void count_one_thread(void)
{
    if (threads_counted > 0) threads_counted = 1;
}

/* In one thread, as pg-resize gives each picture one. The limit is decoding alone. */
static result resize(bench *b, dtype d, size_t n)
{
    jpeg j = {0};
    pg_err e = {0};
    count_one_thread();
    make_jpeg(&j, n == 12 ? 4000 : 640, n == 12 ? 3000 : 480);
    check(pg_image_new(&j.im, &e), &e);
    j.out = need(pg_floats(224 * 224 * 3));
    double limit = best(b, d, false, decode_only, &j), t = best(b, d, false, resize_one, &j);
    return (result){t, 1 / t, 1 / limit, "pictures/s"};
}

enum { TEXTS = 1000 };

static void tokenize_some(bench *b, void *arg)
{
    static const char text[] = "a small boat on a lake with mountains in the background";
    pg_err e = {0};
    (void)b;
    for (int i = 0; i < TEXTS; i++) {
        int32_t *ids;
        size_t n;
        check(pg_tokenizer_encode(arg, text, sizeof text - 1, &ids, &n, &e), &e);
        free(ids);
    }
}

static result tokenize(bench *b, dtype d, size_t n)
{
    pg_tokenizer *t;
    pg_err e = {0};
    (void)n;
    count_one_thread();
    check(pg_tokenizer_open(&t, b->tokenizer, &e), &e);
    double s = best(b, d, false, tokenize_some, t) / TEXTS;
    return (result){s, 1 / s, 0, "texts/s"};
}

/* ---- all of them ---- */

static const struct part {
    const char *name;
    result (*run)(bench *, dtype, size_t);
    dtype type;
    size_t n;
} parts[] = {
    {"image_encode_f32", image_encode, F32, 0},   {"image_encode_bf16", image_encode, BF16, 0}, {"image_encode_int8", image_encode, INT8, 0},
    {"prefill_f32", prefill, F32, 0},             {"prefill_bf16", prefill, BF16, 0},           {"prefill_int8", prefill, INT8, 0},
    {"decode1_bf16", decode, BF16, 1},            {"decode1_int8", decode, INT8, 1},            {"decode4_bf16", decode, BF16, 4},
    {"decode4_int8", decode, INT8, 4},            {"decode16_bf16", decode, BF16, 16},          {"decode16_int8", decode, INT8, 16},
    {"cold_caption", cold_caption, BF16, 0},      {"train_step_f32", train_step, F32, 8},       {"train_step_bf16", train_step, BF16, 8},
    {"train_step1_bf16", train_step, BF16, 1},     {"train_step1_f32", train_step, F32, 1},    {"resize_12mp", resize, F32, 12},             {"resize_vga", resize, F32, 0},
    {"tokenize", tokenize, F32, 0},
};
enum { PARTS = sizeof parts / sizeof *parts };

static bool wanted(const char *name, int n, char **names)
{
    bool yes = n == 0;
    for (int i = 0; i < n && !yes; i++) yes = !strncmp(name, names[i], strlen(names[i]));
    return yes;
}

/* In a process of its own. false: it failed, and has said why. */
static bool run_part(const bench *shared, const struct part *p, result *r, size_t *peak_bytes)
{
    int fd[2], status;
    struct rusage use;
    if (pipe(fd)) return false;
    pid_t pid = fork();
    if (!pid) {
        bench b = *shared;
        pg_err e = {0};
        check(pg_kern_new(&b.k, 0, &e), &e);
        choose_clock(b.k);
        result out = p->run(&b, p->type, p->n);
        _exit(write(fd[1], &out, sizeof out) == (ssize_t)sizeof out ? 0 : 1);
    }
    close(fd[1]);
    bool ok = read(fd[0], r, sizeof *r) == (ssize_t)sizeof *r;
    close(fd[0]);
    ok = pid > 0 && wait4(pid, &status, 0, &use) == pid && !status && ok;
    *peak_bytes = (size_t)use.ru_maxrss << 10;
    return ok;
}

static void machine(const bench *b, FILE *json)
{
    pg_err e = {0};
    pg_kern *k;
    double peak[PG_PEAKS], rate = 0;
    float *x = need(pg_floats(READ_FLOATS));
    (void)b;
    memset(x, 1, READ_FLOATS * sizeof *x);
    check(pg_kern_new(&k, 0, &e), &e);
    choose_clock(k);
    for (int i = 0; i < PG_PEAKS; i++)
        for (int round = 0; round < 5; round++) {
            double v = pg_probe_peak(k, (pg_peak)i, 0.05, clock_now), m = pg_probe_read(k, x, READ_FLOATS, clock_now);
            if (!round || v > peak[i]) peak[i] = v;
            if (m > rate) rate = m;
        }
    printf("%zu threads, %s; %s; bf16: %s; int8: %s\npeak f32 %.0f, bf16 %.0f, int8 %.0f GOP/s; memory read %.1f GB/s\n\n", pg_kern_threads(k),
           pg_kern_isa(k), pg_kern_blas(k), pg_kern_bf16(k), pg_kern_int8(k), peak[0] / 1e9, peak[1] / 1e9, peak[2] / 1e9, rate / 1e9);
    if (threads_counted > 0) puts("clock: processor time");
    fprintf(json, "{\"machine\":{\"clock\":\"%s\",\"threads\":%zu,\"isa\":\"%s\",\"f32\":\"%s\",\"bf16\":\"%s\",\"int8\":\"%s\",\"f32_peak\":%.4g,"
            "\"bf16_peak\":%.4g,\"int8_peak\":%.4g,\"read_bytes_per_s\":%.4g},\n\"results\":[",
            threads_counted > 0 ? "cpu" : "wall", pg_kern_threads(k), pg_kern_isa(k),
            pg_kern_blas(k), pg_kern_bf16(k), pg_kern_int8(k), peak[0], peak[1], peak[2], rate);
    pg_kern_free(k);
    free(x);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: aux_bench MODEL TOKENIZER BUILD JSON [NAME]...\n");
        return 2;
    }
    bench b = {.model = argv[1], .tokenizer = argv[2], .build = argv[3], .rounds = 6};
    FILE *json = fopen(argv[4], "w");
    int failed = 0, done = 0;
    if (!json) need(NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    machine(&b, json);
    printf("%-18s %12s %14s %-13s %9s %10s\n", "", "seconds", "rate", "", "of limit", "peak");
    fflush(json);
    for (size_t i = 0; i < PARTS; i++) {
        result r = {0};
        size_t peak;
        if (!wanted(parts[i].name, argc - 5, argv + 5)) continue;
        if (!run_part(&b, &parts[i], &r, &peak)) {
            printf("%-18s failed\n", parts[i].name);
            failed = 1;
            continue;
        }
        double f = r.limit > 0 ? r.work / r.limit : 0;
        printf("%-18s %12.6f %14.5g %-13s ", parts[i].name, r.seconds, r.work, r.unit);
        printf(r.limit > 0 ? "%8.1f%%" : "        -", 100 * f);
        printf(" %6zu MiB\n", peak >> 20);
        fprintf(json, "%s\n{\"name\":\"%s\",\"seconds\":%.6g,\"rate\":%.6g,\"unit\":\"%s\",\"fraction\":", done++ ? "," : "", parts[i].name,
                r.seconds, r.work, r.unit);
        fprintf(json, r.limit > 0 ? "%.4f" : "null", f);
        fprintf(json, ",\"peak_bytes\":%zu}", peak);
        fflush(json);
    }
    fprintf(json, "\n]}\n");
    return fclose(json) || failed;
}
