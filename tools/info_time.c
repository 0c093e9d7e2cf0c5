/* Time to expect of a model on this machine: what has to be computed and read, by what the machine can do at best. The products reach
 * about three quarters of their peak and decoding most of the read rate (tests/bench/LOG.md); the estimate takes SHARE of both. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/thread.h"
#include "info.h"
#include "kernels/kernels.h"
#include "kernels/probe.h"

enum { READ_FLOATS = 32 << 20, PREFIX = 8, CAPTION = 60, BATCH = 8 };
static const double SHARE = 0.7;

/* Multiply-adds count as two. */
typedef struct work {
    double image, prefix, token_bytes, step;
} work;

static work count(const pg_model_shape *s, double bytes)
{
    double N = (double)s->n_image, E = (double)s->vit_width, A = (double)(s->vit_heads * s->vit_head_dim), D = (double)s->width;
    double q = (double)(s->heads * s->head_dim), kv = (double)(s->kv_heads * s->head_dim), F = (double)s->mlp, L = (double)s->depth;
    double V = (double)s->vocab, attn = 2 * D * q + 2 * D * kv, layer = attn + 3 * D * F, rows = N + PREFIX, text = N + PREFIX + CAPTION;
    double tower = (double)(s->patch * s->patch * 3) * E + (double)s->vit_depth * (4 * E * A + 2 * E * (double)s->vit_mlp) + E * D;
    work w;
    w.image = 2 * N * tower + 4 * (double)s->vit_depth * N * N * A;
    /* The last layer's queries and MLP run on one row. */
    w.prefix = 2 * rows * ((L - 1) * layer + 2 * D * kv) + 4 * (L - 1) * rows * rows * q;
    w.token_bytes = bytes * (L * layer + V * D) / (double)s->parameters;
    /* Attention weights alone, as the notebook: forward, gradients of what flows through, of attention's weights; the image is read once
     * and kept. Logits where there is a loss. */
    w.step = BATCH * (2 * text * ((L - 1) * (2 * layer + attn) + 6 * D * kv) + 6 * CAPTION * V * D + 14 * (L - 1) * text * text * q);
    return w;
}

static void put_seconds(double s)
{
    if (s < 0.1) printf("%.3g ms", s * 1e3);
    else printf("%.2g s", s);
}

/* Of all threads together: other programs, which take processors away for a while, hardly change it. */
static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void info_time(pg_tool *t, const pg_model_shape *s, double bytes)
{
    static const struct {
        const char *name;
        pg_peak peak;
        double bytes; /* of a weight; 0: as stored */
        bool trains;
    } kinds[] = {{"f32", PG_PEAK_F32, 0, true}, {"bf16", PG_PEAK_BF16, 2, true}, {"int8", PG_PEAK_INT8, 1, false}};
    pg_err e = {0};
    pg_kern *k = NULL;
    float *x = pg_calloc(READ_FLOATS, sizeof *x);
    work w = count(s, bytes);
    if (!x || pg_kern_new(&k, t->threads, &e)) tool_die(t, EXIT_FAIL, "%s", x ? e.msg : "out of memory");
    for (size_t i = 0; i < READ_FLOATS; i += 1024) x[i] = 1; /* pages of its own */
    /* What one thread does in a second of its own, times as many as can run at once. */
    double threads = (double)(pg_kern_threads(k) < pg_cpus() ? pg_kern_threads(k) : pg_cpus());
    double read = pg_probe_read(k, x, READ_FLOATS, processor_seconds), again = pg_probe_read(k, x, READ_FLOATS, processor_seconds);
    read = threads * (again > read ? again : read);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        double peak = pg_probe_peak(k, kinds[i].peak, 0.05 * threads, processor_seconds) * threads * SHARE, stored = bytes / (double)s->parameters;
        if (peak <= 0) continue;
        double token = w.token_bytes * (kinds[i].bytes > 0 && kinds[i].bytes < stored ? kinds[i].bytes / stored : 1) / (read * SHARE);
        printf("time, %-10sfirst token ", kinds[i].name);
        put_seconds((w.image + w.prefix) / peak);
        printf(", then %.*f tokens/s", token < 0.1 ? 0 : 1, 1 / token);
        if (kinds[i].trains) {
            printf("; training step (attention, %d captions of %d tokens) ", BATCH, CAPTION);
            put_seconds(w.step / peak);
        }
        puts("; an estimate");
    }
    free(x);
    pg_kern_free(k);
}
