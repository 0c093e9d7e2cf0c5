/* Streams for tests of pg-infer, made of the golden inputs, and checks of what it writes.
 *   aux_stream make FAMILY decode|backwards|many|caption|broken [TOKENIZER PIECES] > examples
 *   aux_stream check FAMILY ANSWER|caption < captions                status 1 where one is off; ANSWER: greedy, beam2, cap30_beam4 ...
 *   aux_stream show < captions                                       one line for each record */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/stream.h"
#include "weights/weights.h"

enum { DECODES = 5, DECODE_PREFIX = 8, CAPTIONS = 4, CAPTION_PREFIX = 5, CAPTION = 10, MAX_LEN = 12, ROOM = 32, MANY = 60 };

static pg_err err;

static void must(int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "aux_stream: %s\n", err.msg);
    exit(2);
}

static void *need(const void *p)
{
    if (!p) {
        fprintf(stderr, "aux_stream: out of memory or no such array\n");
        exit(2);
    }
    return (void *)(uintptr_t)p;
}

static pg_npz *golden(const char *family, const char *what)
{
    char path[128];
    pg_npz *z;
    snprintf(path, sizeof path, "tests/golden/model/%s_%s.npz", family, what);
    must(pg_npz_open(&z, path, &err));
    return z;
}

static int32_t int_at(const pg_npz *z, const char *key, size_t i)
{
    int32_t v;
    const pg_npy *a = need(pg_npz_find(z, key));
    memcpy(&v, a->data + i * sizeof v, sizeof v);
    return v;
}

static double double_at(const pg_npz *z, const char *key, size_t i)
{
    double v;
    const pg_npy *a = need(pg_npz_find(z, key));
    memcpy(&v, a->data + i * sizeof v, sizeof v);
    return v;
}

/* ---- make ---- */
static void set_pixels(pg_rec *r, const pg_npy *images, size_t i, size_t side)
{
    pg_tensor t = {.type = "<f4", .ndim = 3, .shape = {side, side, 3}, .bytes = side * side * 3 * sizeof(float)};
    t.data = images->data + i * images->shape[1] * images->shape[2] * 3 * sizeof(float);
    must(pg_rec_set_tensor(r, "pixels", &t, &err));
}

static void set_text(pg_rec *r, const int32_t *tokens, size_t n_prefix, size_t n)
{
    int32_t suffix[ROOM] = {0}, input[ROOM];
    for (size_t i = 0; i < n; i++) {
        suffix[i] = i >= n_prefix;
        input[i] = 1;
    }
    must(pg_rec_set_ints(r, "tokens", tokens, n, &err));
    must(pg_rec_set_ints(r, "mask_ar", suffix, n, &err));
    must(pg_rec_set_ints(r, "mask_loss", suffix, n, &err));
    must(pg_rec_set_ints(r, "mask_input", input, n, &err));
}

static void set_decode(pg_rec *r, const pg_npz *in, size_t i)
{
    int32_t tokens[ROOM];
    size_t n = (size_t)int_at(in, "decode_prefix_len", i);
    const pg_npy *images = need(pg_npz_find(in, "decode_image"));
    for (size_t t = 0; t < n; t++)
        tokens[t] = int_at(in, "decode_prefix", i * DECODE_PREFIX + t);
    set_pixels(r, images, i, images->shape[1]);
    set_text(r, tokens, n, n);
}

static void set_caption(pg_rec *r, const pg_npz *in, size_t i)
{
    int32_t tokens[ROOM];
    size_t n = CAPTION_PREFIX;
    const pg_npy *images = need(pg_npz_find(in, "caption_image"));
    for (size_t t = 0; t < n; t++)
        tokens[t] = int_at(in, "caption_prefix", i * CAPTION_PREFIX + t);
    for (size_t t = 0; t < (size_t)int_at(in, "caption_len", i); t++)
        tokens[n++] = int_at(in, "caption", i * CAPTION + t);
    set_pixels(r, images, i, images->shape[1]);
    set_text(r, tokens, CAPTION_PREFIX, n);
}

static void set_broken(pg_rec *r, const pg_npz *in, size_t i)
{
    const int32_t outside[] = {2, 9999, 9}, hole[] = {1, 0, 1};
    set_decode(r, in, i % DECODES);
    switch (i) {
    case 1: must(pg_rec_set_error(r, "pg-resize", "no such picture", &err)); break;
    case 2: set_pixels(r, need(pg_npz_find(in, "decode_image")), 0, 28); break;
    case 3: set_text(r, outside, 3, 3); break;
    case 4: pg_rec_del(r, "tokens"); break;
    case 5:
        set_text(r, (const int32_t[]){2, 15, 9}, 3, 3);
        must(pg_rec_set_ints(r, "mask_input", hole, 3, &err));
        break;
    case 6: pg_rec_del(r, "pixels"); break;
    case 7: must(pg_rec_set_ints(r, "mask_ar", hole, 2, &err)); break;
    default: break;
    }
}

static void set_tokenizer(pg_rec *header, const char *path, unsigned pieces)
{
    unsigned char b[300] = {0x82, 0xa4, 'p', 'a', 't', 'h', 0xd9};
    size_t n = strlen(path), at = 8;
    b[7] = (unsigned char)n;
    memcpy(b + at, path, n);
    at += n;
    memcpy(b + at, "\246pieces\315", 8);
    at += 8;
    b[at++] = (unsigned char)(pieces >> 8);
    b[at++] = (unsigned char)pieces;
    must(pg_rec_set_raw(header, "tokenizer", b, at, &err));
}

static int make(int argc, char **argv)
{
    const char *kind = argv[3];
    pg_npz *in = golden(argv[2], "in");
    pg_rec *r = need(pg_rec_new()), *extra = need(pg_rec_new());
    pg_writer *w;
    bool backwards = !strcmp(kind, "backwards");
    size_t n = !strcmp(kind, "caption") ? CAPTIONS : !strcmp(kind, "broken") ? 9 : !strcmp(kind, "many") ? MANY : DECODES;
    if (argc > 5 && strlen(argv[4]) < 250)
        set_tokenizer(extra, argv[4], (unsigned)atoi(argv[5]));
    must(pg_writer_new(&w, 1, "stdout", &err));
    must(pg_writer_header(w, NULL, "examples", "aux_stream", "0", argc, argv, extra, &err));
    for (size_t k = 0; k < n; k++) {
        char id[32];
        size_t i = backwards ? n - 1 - k : k;
        snprintf(id, sizeof id, "r%zu", i);
        pg_rec_clear(r);
        must(pg_rec_set_str(r, "id", id, strlen(id), &err));
        if (n == CAPTIONS)
            set_caption(r, in, i);
        else if (n == DECODES || n == MANY)
            set_decode(r, in, i % DECODES);
        else
            set_broken(r, in, i);
        must(pg_writer_add(w, r, &err));
    }
    must(pg_writer_end(w, NULL, &err));
    pg_writer_free(w);
    pg_rec_free(r);
    pg_rec_free(extra);
    pg_npz_close(in);
    return 0;
}

/* ---- check ---- */
static bool check_greedy(const pg_rec *r, const pg_npz *out, const char *key, size_t i)
{
    char logp_key[64];
    int32_t *tokens = NULL;
    size_t n = 0, want = 0;
    double logp = NAN;
    bool ok = true;
    must(pg_rec_ints(r, "caption_tokens", &tokens, &n, &err));
    must(pg_rec_double(r, "logprob", &logp, &err));
    while (want < MAX_LEN && int_at(out, key, i * MAX_LEN + want))
        want++;
    for (size_t t = 0; t < want && t < n; t++)
        ok = ok && tokens[t] == int_at(out, key, i * MAX_LEN + t);
    snprintf(logp_key, sizeof logp_key, "%s_logp", key);
    free(tokens);
    return ok && n == want && fabs(logp - double_at(out, logp_key, i)) <= 2e-5;
}

static bool check_score(const pg_rec *r, const pg_npz *in, const pg_npz *out, size_t i)
{
    size_t n = (size_t)int_at(in, "caption_len", i), len = 0;
    double sum = 0, got = NAN;
    const unsigned char *raw = NULL;
    must(pg_rec_double(r, "logprob", &got, &err));
    for (size_t k = 0; k < pg_rec_count(r); k++)
        if (!strcmp(pg_rec_key(r, k), "token_logprobs"))
            raw = pg_rec_raw(r, k, &len);
    if (!raw || len != 1 + 9 * n || raw[0] != (0x90 | n)) /* fewer than 16 */
        return false;
    for (size_t t = 0; t < n; t++) {
        uint64_t u = 0;
        double v, want = double_at(out, "caption_logp", i * CAPTION + t);
        for (size_t j = 0; j < 8; j++)
            u = u << 8 | raw[1 + 9 * t + 1 + j];
        memcpy(&v, &u, sizeof v);
        if (!(fabs(v - want) <= 1e-5))
            return false;
        sum += want;
    }
    return fabs(got - sum) <= 5e-5;
}

static int check(char **argv)
{
    pg_npz *in = golden(argv[2], "in"), *out = golden(argv[2], "out");
    pg_rec *r = need(pg_rec_new());
    pg_reader *rd;
    size_t i = 0;
    int rc, bad = 0;
    must(pg_reader_new(&rd, 0, "stdin", &err));
    must(pg_reader_header(rd, r, &err));
    while ((rc = pg_reader_next(rd, r, &err)) > 0) {
        if (pg_rec_has(r, "partial"))
            continue;
        if (!(!strcmp(argv[3], "caption") ? check_score(r, in, out, i) : check_greedy(r, out, argv[3], i))) {
            printf("record %zu is off\n", i);
            bad = 1;
        }
        i++;
    }
    must(rc);
    if (i != (!strcmp(argv[3], "caption") ? CAPTIONS : DECODES)) {
        printf("%zu records\n", i);
        bad = 1;
    }
    pg_reader_free(rd);
    pg_rec_free(r);
    pg_npz_close(in);
    pg_npz_close(out);
    return bad;
}

/* ---- show ---- */
static int show(void)
{
    static const char *const keys[] = {"id", "partial", "caption", "caption_tokens", "logprob", "truncated"};
    pg_rec *r = need(pg_rec_new());
    pg_reader *rd;
    pg_buf b = {0};
    int rc;
    must(pg_reader_new(&rd, 0, "stdin", &err));
    must(pg_reader_header(rd, r, &err));
    while ((rc = pg_reader_next(rd, r, &err)) > 0) {
        char *error = pg_rec_error(r);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            for (size_t i = 0; i < pg_rec_count(r); i++) {
                if (strcmp(pg_rec_key(r, i), keys[k]))
                    continue;
                b.len = 0;
                must(pg_rec_json(r, i, false, &b, &err));
                printf("%s%s=%.*s", k ? " " : "", keys[k], (int)b.len, (const char *)b.data);
            }
        printf("%s%s\n", error ? " error=" : "", error ? error : "");
        free(error);
    }
    must(rc);
    pg_buf_free(&b);
    pg_reader_free(rd);
    pg_rec_free(r);
    return fflush(stdout) ? 2 : 0;
}

int main(int argc, char **argv)
{
    if (argc >= 4 && !strcmp(argv[1], "make"))
        return make(argc, argv);
    if (argc == 4 && !strcmp(argv[1], "check"))
        return check(argv);
    if (argc == 2 && !strcmp(argv[1], "show"))
        return show();
    fprintf(stderr, "usage: aux_stream make|check|show ...\n");
    return 2;
}
