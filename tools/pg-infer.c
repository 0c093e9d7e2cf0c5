#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "model/model.h"
#include "model/sample.h"
#include "text/text.h"
#include "tool.h"

static const char help[] =
    "usage: pg-infer -m MODEL [options] < examples > captions\n"
    "\n"
    "Captions each record of a stream that pg-resize and pg-tokenize have prepared:\n"
    "adds caption, caption_tokens and logprob. Decoding is greedy.\n"
    "\n"
    "  -m, --model MODEL      folder of weights, or a .npz or .safetensors file\n"
    "  -n, --max-length N     most tokens of a caption (default 128)\n"
    "  -b, --batch N          most records worked on together (default 8)\n"
    "      --partial          also emit {id, partial} records as tokens appear\n"
    "      --score-only       log-probability of the record's own suffix; no caption\n"
    "      --tokenizer FILE   tokenizer (default: beside the weights, else the one\n"
    "                         that pg-tokenize named in the stream)\n"
    "      --dtype TYPE       arithmetic of products: f32 (default), bf16 or int8\n"
    "  -j, --threads N        threads (default: the cores the process may use)\n"
    "  -q, --quiet            no messages but warnings and errors\n"
    "  -v, --verbose          say what is used and how long it took\n"
    "  -h, --help             this text\n"
    "      --version          the version\n"
    "\n"
    "example: pg-fetch photos | pg-resize | pg-tokenize -m MODEL | pg-infer -m MODEL | pg-render\n";

enum { OPT_PARTIAL = 256, OPT_SCORE, OPT_TOKENIZER, OPT_DTYPE, OPT_ADAPTER, OPT_BEAM, OPT_TOP_P, OPT_SEED, OPT_BEST_OF };
#define PATIENCE 0.05      /* of the time of the last batch */
#define MOST_PATIENCE 0.5  /* seconds */
#define FIRST_BATCH 1.0    /* seconds, a guess */
enum { MAX_BATCH = 4096, MAX_LENGTH = 1 << 20 };

typedef struct slot {
    pg_rec *rec;
    pg_sample sample;
    bool live; /* to be worked on; else passed along as it is */
    int32_t *tokens;
    float *logp; /* of each token, for scores */
    size_t room; /* of logp */
} slot;

typedef struct infer {
    pg_tool t;
    tool_pipe p;
    const char *model, *tokenizer_path;
    size_t max_len, batch;
    bool partial, score, bf16, int8;
    pg_kern *kern;
    pg_model *m;
    pg_work *w;
    pg_tokenizer *tok;
    slot *slots;
    pg_caption *captions;
    pg_rec *partial_rec;
    pg_buf text;
    uint64_t done, tokens, cut;
    double took; /* seconds, the last batch */
} infer;

static void parse(infer *f, int argc, char **argv)
{
    static const struct option opts[] = {
        {"model", required_argument, NULL, 'm'},
        {"max-length", required_argument, NULL, 'n'},
        {"batch", required_argument, NULL, 'b'},
        {"temperature", required_argument, NULL, 't'},
        {"partial", no_argument, NULL, OPT_PARTIAL},
        {"score-only", no_argument, NULL, OPT_SCORE},
        {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
        {"dtype", required_argument, NULL, OPT_DTYPE},
        {"adapter", required_argument, NULL, OPT_ADAPTER},
        {"beam", required_argument, NULL, OPT_BEAM},
        {"top-p", required_argument, NULL, OPT_TOP_P},
        {"seed", required_argument, NULL, OPT_SEED},
        {"best-of", required_argument, NULL, OPT_BEST_OF},
        {0}};
    pg_tool *t = &f->t;
    f->max_len = 128;
    f->batch = 8;
    tool_start(t, "pg-infer", help, argc, argv);
    for (int c; (c = tool_getopt(t, "m:n:b:t:", opts, true)) != -1;)
        switch (c) {
        case 'm': f->model = optarg; break;
        case 'n': f->max_len = tool_size(t, "--max-length", optarg, 1, MAX_LENGTH); break;
        case 'b': f->batch = tool_size(t, "--batch", optarg, 1, MAX_BATCH); break;
        case OPT_PARTIAL: f->partial = true; break;
        case OPT_SCORE: f->score = true; break;
        case OPT_TOKENIZER: f->tokenizer_path = optarg; break;
        case OPT_DTYPE:
            f->int8 = !strcmp(optarg, "int8");
            f->bf16 = f->int8 || !strcmp(optarg, "bf16"); /* int8: what stays, such as the patches */
            if (strcmp(optarg, "f32") && !f->bf16)
                tool_usage(t, "--dtype '%s': not f32, bf16 or int8", optarg);
            break;
        case OPT_ADAPTER: tool_usage(t, "--adapter: not yet in this build");
        default: tool_usage(t, "beams and sampling are not yet in this build, which decodes greedily");
        }
    if (optind < argc)
        tool_usage(t, "'%s': unexpected operand", argv[optind]);
    if (!f->model)
        tool_usage(t, "no model: give one with -m");
    if (f->partial && f->score)
        tool_usage(t, "--partial and --score-only exclude each other");
}

_Noreturn static void no_memory(const infer *f)
{
    tool_die(&f->t, EXIT_FAIL, "out of memory");
}

/* ---- tokenizer ---- */
/* What pg-tokenize wrote into the header; *path for free(), NULL where there is none. */
static void header_tokenizer(const infer *f, char **path, uint64_t *pieces)
{
    const pg_rec *h = f->p.header;
    pg_buf json = {0};
    json_t *o = NULL;
    *path = NULL;
    *pieces = 0;
    for (size_t i = 0; i < pg_rec_count(h); i++)
        if (!strcmp(pg_rec_key(h, i), "tokenizer") && !pg_rec_json(h, i, false, &json, NULL))
            o = json_loadb((const char *)json.data, json.len, JSON_DECODE_ANY, NULL);
    const char *s = json_string_value(json_object_get(o, "path"));
    json_int_t n = json_integer_value(json_object_get(o, "pieces"));
    if (s)
        *path = pg_strdup(s);
    if (n > 0)
        *pieces = (uint64_t)n;
    json_decref(o);
    pg_buf_free(&json);
}

static char *beside(const char *model)
{
    static const char *const names[] = {"tokenizer.model", "paligemma_tokenizer.model"};
    char *dir = pg_is_dir(model) ? pg_strdup(model) : pg_path_dir(model), *found = NULL;
    for (size_t i = 0; dir && !found && i < sizeof names / sizeof *names; i++) {
        char *path = pg_path_join(dir, names[i]);
        if (path && pg_is_file(path))
            found = path;
        else
            free(path);
    }
    free(dir);
    return found;
}

static void open_tokenizer(infer *f)
{
    char *named, *path;
    uint64_t pieces;
    pg_err e = {0};
    header_tokenizer(f, &named, &pieces);
    if (pieces > f->m->s.vocab)
        tool_die(&f->t, EXIT_FAIL, "the stream's tokenizer has %" PRIu64 " pieces, '%s' a vocabulary of %zu: tokens of another model",
                 pieces, f->model, f->m->s.vocab);
    path = f->tokenizer_path ? pg_strdup(f->tokenizer_path) : beside(f->model);
    if (!path && named && pg_is_file(named)) {
        path = named;
        named = NULL;
    }
    if (path && pg_tokenizer_open(&f->tok, path, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (!path && !f->score)
        tool_warn(&f->t, "no tokenizer beside '%s' or named in the stream: records get caption_tokens, no caption; give one with --tokenizer",
                  f->model);
    if (f->tok && pg_tokenizer_size(f->tok) > f->m->s.vocab)
        tool_die(&f->t, EXIT_FAIL, "'%s' has %zu pieces, '%s' a vocabulary of %zu: not the tokenizer of this model",
                 pg_tokenizer_path(f->tok), pg_tokenizer_size(f->tok), f->model, f->m->s.vocab);
    for (size_t i = 0; f->tok && pg_tokenizer_warning(f->tok, i); i++)
        tool_note(&f->t, "'%s': %s", pg_tokenizer_path(f->tok), pg_tokenizer_warning(f->tok, i));
    free(path);
    free(named);
}

static void quantise(infer *f)
{
    pg_err e = {0};
    size_t bytes;
    if (pg_model_quantise(f->m, &bytes, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    tool_note(&f->t, "8-bit products: %s; weights of %zu MiB made", pg_kern_int8(f->kern), bytes >> 20);
}

static void set_up(infer *f)
{
    pg_err e = {0};
    if (pg_kern_new(&f->kern, f->t.threads, &e) || (f->bf16 && pg_kern_use_bf16(f->kern, &e)) || pg_model_open(&f->m, f->model, NULL, f->kern, &e) || pg_work_new(&f->w, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (f->bf16)
        tool_note(&f->t, "bfloat16 products: %s", pg_kern_bf16(f->kern));
    if (f->int8)
        quantise(f);
    tool_note(&f->t, "'%s': PaliGemma %d, %zux%zu pixels, %zu million parameters; %s, %zu threads", f->model, f->m->s.family,
              f->m->s.image_size, f->m->s.image_size, f->m->s.parameters / 1000000, pg_kern_isa(f->kern), pg_kern_threads(f->kern));
    open_tokenizer(f);
    f->slots = pg_calloc(f->batch, sizeof *f->slots);
    f->captions = pg_calloc(f->batch, sizeof *f->captions);
    f->partial_rec = pg_rec_new();
    if (!f->slots || !f->captions || !f->partial_rec)
        no_memory(f);
    for (size_t i = 0; i < f->batch; i++) {
        f->slots[i].rec = pg_rec_new();
        f->slots[i].tokens = pg_alloc(f->max_len, sizeof *f->slots[i].tokens);
        if (!f->slots[i].rec || !f->slots[i].tokens)
            no_memory(f);
    }
}

static void tear_down(infer *f)
{
    for (size_t i = 0; i < f->batch; i++) {
        pg_rec_free(f->slots[i].rec);
        pg_sample_free(&f->slots[i].sample);
        free(f->slots[i].tokens);
        free(f->slots[i].logp);
    }
    free(f->slots);
    free(f->captions);
    pg_rec_free(f->partial_rec);
    pg_buf_free(&f->text);
    pg_tokenizer_free(f->tok);
    pg_work_free(f->w);
    pg_model_close(f->m);
    pg_kern_free(f->kern);
}

/* ---- records ---- */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Whether another record is there. A pipe holds less than one picture, so a busy neighbour gets a little time to fill it again:
 * what is left of `patience`, a small part of what the last batch took. */
static bool ready(infer *f, double *patience)
{
    double start = seconds();
    bool is = pg_reader_ready(f->p.in);
    while (!is && seconds() - start < *patience) {
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
        is = pg_reader_ready(f->p.in);
    }
    *patience -= seconds() - start;
    return is;
}

/* Fills the slots with what is there: waits for the first record only. false: the stream has ended. */
static bool fill(infer *f, size_t *n)
{
    double patience = f->took * PATIENCE < MOST_PATIENCE ? f->took * PATIENCE : MOST_PATIENCE;
    for (*n = 0; *n < f->batch; ++*n) {
        slot *s = &f->slots[*n];
        pg_err e = {0};
        if (*n && !ready(f, &patience))
            return true;
        if (!tool_next(&f->t, &f->p))
            return false;
        pg_rec *got = f->p.rec;
        f->p.rec = s->rec;
        s->rec = got;
        s->live = !pg_rec_has_error(s->rec);
        if (!s->live)
            continue;
        if (pg_sample_read(&s->sample, &f->m->s, s->rec, &e)) {
            if (e.code == PG_ENOMEM)
                tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
            tool_record_error(&f->t, s->rec, "%s", e.msg);
            s->live = false;
        } else if (f->score && !s->sample.n_loss) {
            tool_record_error(&f->t, s->rec, "no suffix to score");
            s->live = false;
        }
    }
    return true;
}

static void must(infer *f, int rc, const pg_err *e)
{
    if (rc)
        tool_die(&f->t, EXIT_FAIL, "%s", e->msg);
}

typedef struct telling {
    infer *f;
    slot **who;
} telling;

static int tell(void *ctx, size_t i, int32_t token)
{
    telling *t = ctx;
    infer *f = t->f;
    const pg_caption *c = &f->captions[i];
    pg_rec *r = f->partial_rec;
    pg_err e = {0};
    if (token == PG_EOS)
        return 0;
    pg_rec_clear(r);
    for (size_t k = 0; k < pg_rec_count(t->who[i]->rec); k++)
        if (!strcmp(pg_rec_key(t->who[i]->rec, k), "id")) {
            size_t len;
            const unsigned char *raw = pg_rec_raw(t->who[i]->rec, k, &len);
            must(f, pg_rec_set_raw(r, "id", raw, len, &e), &e);
        }
    f->text.len = 0;
    /* What cannot be decoded is told of with the finished caption. */
    if (f->tok && pg_tokenizer_decode(f->tok, c->tokens, c->n, &f->text, &e))
        return 0;
    must(f, pg_rec_set_str(r, "partial", (const char *)f->text.data, f->text.len, &e), &e);
    tool_put(&f->t, &f->p, r);
    must(f, pg_writer_flush(f->p.out, &e), &e);
    return 0;
}

static void set_caption(infer *f, slot *s, const pg_caption *c)
{
    pg_err e = {0};
    pg_rec *r = s->rec;
    f->text.len = 0;
    if (f->tok && pg_tokenizer_decode(f->tok, c->tokens, c->n, &f->text, &e)) {
        tool_record_error(&f->t, r, "%s", e.msg);
        return;
    }
    if (f->tok) {
        must(f, pg_rec_set_str(r, "caption", (const char *)f->text.data, f->text.len, &e), &e);
    } else {
        pg_rec_del(r, "caption");
    }
    must(f, pg_rec_set_ints(r, "caption_tokens", c->tokens, c->n, &e), &e);
    must(f, pg_rec_set_double(r, "logprob", c->logprob, &e), &e);
    if (c->ended)
        pg_rec_del(r, "truncated");
    else
        must(f, pg_rec_set_bool(r, "truncated", true, &e), &e);
    f->cut += !c->ended;
    f->tokens += c->n;
    f->done++;
}

static void caption_some(infer *f, slot **who, size_t n)
{
    pg_err e = {0};
    telling t = {f, who};
    for (size_t i = 0; i < n; i++)
        f->captions[i] = (pg_caption){.pixels = who[i]->sample.pixels, .prefix = who[i]->sample.tokens,
                                      .n_prefix = who[i]->sample.n_prefix, .tokens = who[i]->tokens};
    int rc = pg_greedy(f->m, f->w, f->captions, n, f->max_len, f->partial ? tell : NULL, &t, &e);
    if (rc == PG_ENOMEM && n == 1)
        no_memory(f);
    if (rc && n == 1)
        tool_record_error(&f->t, who[0]->rec, "%s", e.msg);
    /* Alone, the others are not harmed by the one that failed, and a smaller batch needs less memory. */
    for (size_t i = 0; rc && n > 1 && i < n; i++)
        caption_some(f, who + i, 1);
    for (size_t i = 0; !rc && i < n; i++)
        set_caption(f, who[i], &f->captions[i]);
}

/* A msgpack array of doubles. */
static void set_doubles(infer *f, pg_rec *r, const char *key, const double *v, size_t n)
{
    pg_err e = {0};
    size_t bytes = 5 + 9 * n, at = 5;
    unsigned char *b = pg_alloc(bytes, 1);
    if (!b)
        no_memory(f);
    b[0] = 0xdd;
    for (size_t i = 0; i < 4; i++)
        b[1 + i] = (unsigned char)(n >> (24 - 8 * i));
    for (size_t i = 0; i < n; i++) {
        uint64_t u;
        memcpy(&u, &v[i], sizeof u);
        b[at++] = 0xcb;
        for (size_t j = 0; j < 8; j++)
            b[at++] = (unsigned char)(u >> (56 - 8 * j));
    }
    must(f, pg_rec_set_raw(r, key, b, bytes, &e), &e);
    free(b);
}

static void set_score(infer *f, slot *s)
{
    pg_err e = {0};
    double sum = 0, *v = pg_alloc(s->sample.n_loss, sizeof *v);
    size_t n = 0;
    if (!v)
        no_memory(f);
    for (size_t i = 1; i < s->sample.n; i++)
        if (s->sample.mask_loss[i])
            sum += v[n++] = (double)s->logp[i];
    must(f, pg_rec_set_double(s->rec, "logprob", sum, &e), &e);
    set_doubles(f, s->rec, "token_logprobs", v, n);
    f->tokens += n;
    f->done++;
    free(v);
}

static void score(infer *f, slot *s)
{
    pg_err e = {0};
    if (s->room < s->sample.n) {
        free(s->logp);
        s->room = s->sample.n;
        if (!(s->logp = pg_floats(s->room)))
            no_memory(f);
    }
    pg_scoring g = {.pixels = s->sample.pixels, .tokens = s->sample.tokens, .mask_ar = s->sample.mask_ar,
                    .mask_loss = s->sample.mask_loss, .n = s->sample.n, .logp = s->logp};
    int rc = pg_score(f->m, f->w, &g, &e);
    if (rc == PG_ENOMEM)
        no_memory(f);
    if (rc)
        tool_record_error(&f->t, s->rec, "%s", e.msg);
    else
        set_score(f, s);
}

static void work(infer *f)
{
    slot **who = pg_calloc(f->batch, sizeof *who);
    bool more = true;
    if (!who)
        no_memory(f);
    while (more) {
        size_t n, live = 0;
        more = fill(f, &n);
        double start = seconds();
        for (size_t i = 0; i < n; i++)
            if (f->slots[i].live)
                who[live++] = &f->slots[i];
        for (size_t i = 0; i < live && f->score; i++)
            score(f, who[i]);
        if (live && !f->score)
            caption_some(f, who, live);
        f->took = seconds() - start;
        for (size_t i = 0; i < n; i++)
            tool_put(&f->t, &f->p, f->slots[i].rec);
    }
    free(who);
}

int main(int argc, char **argv)
{
    infer f = {0};
    double start;
    f.took = FIRST_BATCH;
    parse(&f, argc, argv);
    tool_open_in(&f.t, &f.p, 0, "stdin", "examples");
    set_up(&f);
    tool_open_out(&f.t, &f.p, NULL, NULL);
    start = seconds();
    work(&f);
    if (f.cut)
        tool_warn(&f.t, "%" PRIu64 " caption%s cut at %zu tokens", f.cut, f.cut == 1 ? " was" : "s were", f.max_len);
    tool_note(&f.t, "%" PRIu64 " records, %" PRIu64 " tokens in %.1f s", f.done, f.tokens, seconds() - start);
    tear_down(&f);
    return tool_finish(&f.t, &f.p, NULL);
}
