/* Streams for tests of pg-train, made of the golden training batch, and checks of what it writes.
 *   aux_trainset make FAMILY [error|empty|misfit|same]  the batch of 4; with a bad fifth record; without any record; the first 4 times
 *   aux_trainset make FAMILY texts SUFFIX...          the batch of 4 with suffixes, references for the second, and bytes for an image
 *   aux_trainset check FAMILY OUT.npz < events        the 5 steps of SGD: losses, rates, weights; status 1 where one is off
 *   aux_trainset example_loss FAMILY                  each example's loss before training, one a line
 *   aux_trainset show < events                        event, step, loss and what else there is, one line for each */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/stream.h"
#include "weights/weights.h"

enum { N = 4, T = 20 };
static pg_err err;

static void must(int rc)
{
    if (rc >= 0) return;
    fprintf(stderr, "aux_trainset: %s\n", err.msg);
    exit(2);
}

static void *need(const void *p)
{
    if (p) return (void *)(uintptr_t)p;
    fprintf(stderr, "aux_trainset: out of memory or no such array\n");
    exit(2);
}

static pg_npz *golden(const char *family, const char *what)
{
    char path[128];
    pg_npz *z;
    snprintf(path, sizeof path, "tests/golden/model/%s_%s.npz", family, what);
    must(pg_npz_open(&z, path, &err));
    return z;
}

static double double_at(const pg_npy *a, size_t i)
{
    double v;
    memcpy(&v, a->data + i * sizeof v, sizeof v);
    return v;
}

static void set_example(pg_rec *r, const pg_npz *in, size_t i)
{
    static const char *const from[] = {"text", "mask_ar", "mask_loss", "mask_input"}, *const to[] = {"tokens", "mask_ar", "mask_loss", "mask_input"};
    const pg_npy *images = need(pg_npz_find(in, "image"));
    size_t side = images->shape[1], bytes = side * side * 3 * sizeof(float);
    pg_tensor t = {.type = "<f4", .ndim = 3, .shape = {side, side, 3}, .bytes = bytes, .data = images->data + i * bytes};
    must(pg_rec_set_tensor(r, "pixels", &t, &err));
    for (size_t k = 0; k < 4; k++) {
        int32_t row[T];
        const pg_npy *a = need(pg_npz_find(in, from[k]));
        memcpy(row, a->data + i * sizeof row, sizeof row);
        must(pg_rec_set_ints(r, to[k], row, T, &err));
    }
}

static int make(int argc, char **argv)
{
    const char *kind = argc > 3 ? argv[3] : "";
    pg_npz *in = golden(argv[2], "in");
    pg_rec *r = need(pg_rec_new());
    pg_writer *w;
    bool texts = !strcmp(kind, "texts") && argc == 4 + N;
    bool same = !strcmp(kind, "same");
    size_t n = !strcmp(kind, "empty") ? 0 : *kind && !texts && !same ? N + 1 : N;
    must(pg_writer_new(&w, 1, "stdout", &err));
    must(pg_writer_header(w, NULL, "examples", "aux_trainset", "0", argc, argv, NULL, &err));
    for (size_t i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%zu", i);
        pg_rec_clear(r);
        must(pg_rec_set_str(r, "id", id, strlen(id), &err));
        set_example(r, in, same ? 0 : i % N);
        if (texts) {
            const char *refs[] = {"another", argv[4 + i]};
            must(pg_rec_set_bin(r, "image", "picture", 7, &err));
            must(pg_rec_set_str(r, "suffix", i == 1 ? "other" : argv[4 + i], strlen(i == 1 ? "other" : argv[4 + i]), &err));
            if (i == 1) must(pg_rec_set_strs(r, "references", refs, 2, &err));
        }
        if (i == N && !strcmp(kind, "error")) must(pg_rec_set_error(r, "pg-resize", "no such picture", &err));
        if (i == N && !strcmp(kind, "misfit")) pg_rec_del(r, "pixels");
        must(pg_writer_add(w, r, &err));
    }
    must(pg_writer_end(w, NULL, &err));
    pg_writer_free(w);
    pg_rec_free(r);
    pg_npz_close(in);
    return 0;
}

static pg_reader *open_events(pg_rec *r)
{
    pg_reader *rd;
    const char *kind;
    size_t n;
    must(pg_reader_new(&rd, 0, "stdin", &err));
    must(pg_reader_header(rd, r, &err));
    if (pg_rec_str(r, "kind", &kind, &n, &err) != 1 || n != 6 || memcmp(kind, "events", 6)) {
        fprintf(stderr, "aux_trainset: not a stream of events\n");
        exit(2);
    }
    return rd;
}

/* Distance from the golden weights over the change that training made. */
static int check_weights(const pg_npz *out, const char *family, const char *path)
{
    static const char *const names[] = {"q_einsum", "kv_einsum", "attn_vec_einsum"};
    char base[128], key[128];
    pg_npz *tuned, *start;
    int bad = 0;
    snprintf(base, sizeof base, "tests/golden/model/%s.npz", family);
    must(pg_npz_open(&tuned, path, &err));
    must(pg_npz_open(&start, base, &err));
    for (size_t k = 0; k < pg_npz_count(start); k++) {
        const pg_npy *a = pg_npz_at(start, k), *b = need(pg_npz_find(tuned, a->key));
        if (!strstr(a->key, "llm/layers/attn/") && (a->count != b->count || memcmp(a->data, b->data, a->count * a->itemsize))) {
            printf("%s: not trained, but changed\n", a->key);
            bad = 1;
        }
    }
    for (size_t k = 0; k < 3; k++) {
        double diff = 0, change = 0;
        snprintf(key, sizeof key, "sgd5/llm/layers/attn/%s/w", names[k]);
        const pg_npy *want = need(pg_npz_find(out, key));
        snprintf(key, sizeof key, "params/llm/layers/attn/%s/w", names[k]);
        const pg_npy *a = need(pg_npz_find(start, key)), *b = need(pg_npz_find(tuned, key));
        for (size_t i = 0; i < want->count; i++) {
            float was, is;
            memcpy(&was, a->data + i * sizeof was, sizeof was);
            memcpy(&is, b->data + i * sizeof is, sizeof is);
            double w = double_at(want, i);
            diff += ((double)is - w) * ((double)is - w);
            change += (w - (double)was) * (w - (double)was);
        }
        if (!(sqrt(diff / change) <= 1e-4)) {
            printf("%s: off by %.3g of the change\n", key, sqrt(diff / change));
            bad = 1;
        }
    }
    pg_npz_close(tuned);
    pg_npz_close(start);
    return bad;
}

static int check(char **argv)
{
    pg_npz *out = golden(argv[2], "out");
    const pg_npy *losses = need(pg_npz_find(out, "sgd_loss")), *rates = need(pg_npz_find(out, "sgd_lr"));
    pg_rec *r = need(pg_rec_new());
    pg_reader *rd = open_events(r);
    size_t i = 0;
    int rc, bad = 0;
    while ((rc = pg_reader_next(rd, r, &err)) > 0) {
        double loss = NAN, lr = NAN;
        if (!pg_rec_has(r, "lr")) continue;
        must(pg_rec_double(r, "loss", &loss, &err));
        must(pg_rec_double(r, "lr", &lr, &err));
        if (i >= 5 || !(fabs(loss - double_at(losses, i)) <= 5e-6) || !(fabs(lr - double_at(rates, i)) <= 1e-8)) {
            printf("step %zu: loss %.9g, lr %.9g\n", i + 1, loss, lr);
            bad = 1;
        }
        i++;
    }
    must(rc);
    bad |= i != 5;
    bad |= check_weights(out, argv[2], argv[3]);
    pg_reader_free(rd);
    pg_rec_free(r);
    pg_npz_close(out);
    return bad;
}

static int example_loss(const char *family)
{
    pg_npz *out = golden(family, "out");
    const pg_npy *a = need(pg_npz_find(out, "example_loss"));
    for (size_t i = 0; i < a->count; i++) printf("%.4f\n", fabs(double_at(a, i)));
    pg_npz_close(out);
    return fflush(stdout) ? 2 : 0;
}

static int show(void)
{
    static const char *const numbers[] = {"steps", "lr", "loss", "grad_norm", "examples", "CIDEr", "exact", "best_step", "best_loss", "examples_per_s", "tokens_per_s"},
                      *const words[] = {"id", "path", "suffix", "caption"};
    pg_rec *r = need(pg_rec_new());
    pg_reader *rd = open_events(r);
    int rc;
    while ((rc = pg_reader_next(rd, r, &err)) > 0) {
        const char *s = "?";
        size_t n = 1;
        int64_t step = -1;
        double v;
        must(pg_rec_str(r, "event", &s, &n, &err));
        must(pg_rec_int(r, "step", &step, &err));
        printf("%.*s %lld", (int)n, s, (long long)step);
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (pg_rec_double(r, numbers[k], &v, NULL) == 1) printf(" %s=%.4f", numbers[k], v);
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            if (pg_rec_str(r, words[k], &s, &n, NULL) == 1) printf(" %s=%.*s", words[k], (int)n, s);
        printf("%s%s%s\n", pg_rec_has(r, "caption_tokens") ? " tokens" : "", pg_rec_has(r, "references") ? " references" : "",
               pg_rec_has(r, "image") ? " image" : "");
    }
    must(rc);
    pg_reader_free(rd);
    pg_rec_free(r);
    return fflush(stdout) ? 2 : 0;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && !strcmp(argv[1], "make")) return make(argc, argv);
    if (argc == 4 && !strcmp(argv[1], "check")) return check(argv);
    if (argc == 3 && !strcmp(argv[1], "example_loss")) return example_loss(argv[2]);
    if (argc == 2 && !strcmp(argv[1], "show")) return show();
    fprintf(stderr, "usage: aux_trainset make|check|example_loss|show ...\n");
    return 2;
}
