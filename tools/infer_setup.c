#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "base/num.h"
#include "infer.h"
#include "model/lora.h"

static const char help[] =
    "usage: pg-infer -m MODEL [options] < examples > captions\n"
    "\n"
    "Captions each record of a stream that pg-resize and pg-tokenize have prepared:\n"
    "adds caption, caption_tokens and logprob. Each token is the likeliest one, unless\n"
    "beams or samples are asked for.\n"
    "\n"
    "  -m, --model MODEL      folder of weights, or a .npz or .safetensors file\n"
    "  -n, --max-length N     most tokens of a caption (default 128)\n"
    "      --beam K           beam search with K beams\n"
    "  -t, --temperature T    draw tokens, with logits divided by T\n"
    "      --top-p P          from the likeliest tokens that have P together\n"
    "      --best-of N        draw N captions, keep the likeliest (temperature 1 without -t)\n"
    "      --seed S           of the draws (default 0)\n"
    "      --final-softcap C  cap logits as PaliGemma 2's reference decoder does with C 30\n"
    "  -b, --batch N          most records worked on together (default 8)\n"
    "      --adapter DIR      folder of a low-rank adapter (PEFT, or pg-train --train lora)\n"
    "      --partial          also emit {id, partial} records as tokens appear\n"
    "      --score-only       log-probability of the record's own suffix; no caption\n"
    "      --features         image features instead of pixels, for training and captioning; no caption\n"
    "      --tokenizer FILE.model  (default: beside the weights, else the one\n"
    "                         that pg-tokenize named in the stream)\n"
    "      --dtype f32|bf16|int8|f16   arithmetic of products (default f32); f16: with --features\n"
    "                         alone, computed as f32, stored as float16\n"
    "      --max-record SIZE  refuse larger records (default 1G)\n"
    "  -j, --threads N        threads (default: the cores the process may use)\n"
    "  -q, --quiet            no messages but warnings and errors\n"
    "  -v, --verbose          say what is used and how long it took\n"
    "  -h, --help             this text\n"
    "      --version          the version\n"
    "\n"
    "example: pg-fetch photos | pg-resize -m MODEL | pg-tokenize -m MODEL | pg-infer -m MODEL | pg-render\n";

enum { OPT_PARTIAL = 256, OPT_FEATURES, OPT_SCORE, OPT_TOKENIZER, OPT_DTYPE, OPT_ADAPTER, OPT_BEAM, OPT_TOP_P, OPT_SEED, OPT_BEST_OF, OPT_SOFTCAP };
enum { MAX_BATCH = 4096, MAX_LENGTH = 1 << 20 };
enum { LEAST_SEATS = 4 }; /* of a replica */

/* What excludes what. */
static void check_options(const infer *f, bool seed, bool length)
{
    const pg_tool *t = &f->t;
    const pg_decoding *h = &f->how;
    bool draws = h->temperature > 0 || h->samples, decodes = length || h->beams || draws || h->final_softcap > 0;
    if (!f->model)
        tool_usage(t, "no model: give one with -m");
    if (h->beams && draws)
        tool_usage(t, "--beam and %s exclude each other", h->samples ? "--best-of" : "--temperature");
    if (!draws && (h->top_p > 0 || seed))
        tool_usage(t, "%s without --temperature or --best-of: nothing is drawn", h->top_p > 0 ? "--top-p" : "--seed");
    if (f->partial && h->samples)
        tool_usage(t, "--partial and --best-of exclude each other: which sample will be kept is known at the end");
    if (f->score && (f->partial || decodes))
        tool_usage(t, "--score-only does not decode: it excludes %s", f->partial ? "--partial" : "options of decoding");
    if (f->features && (f->score || f->partial || decodes))
        tool_usage(t, "--features does not decode: it excludes %s", f->score ? "--score-only" : f->partial ? "--partial" : "options of decoding");
    if (f->half && !f->features)
        tool_usage(t, "--dtype f16 is a type to store features in: it goes with --features");
}

void infer_parse(infer *f, int argc, char **argv)
{
    static const struct option opts[] = {
        {"model", required_argument, NULL, 'm'},
        TOOL_MAX_RECORD,
        {"max-length", required_argument, NULL, 'n'},
        {"batch", required_argument, NULL, 'b'},
        {"temperature", required_argument, NULL, 't'},
        {"partial", no_argument, NULL, OPT_PARTIAL},
        {"score-only", no_argument, NULL, OPT_SCORE},
        {"features", no_argument, NULL, OPT_FEATURES},
        {"tokenizer", required_argument, NULL, OPT_TOKENIZER},
        {"dtype", required_argument, NULL, OPT_DTYPE},
        {"adapter", required_argument, NULL, OPT_ADAPTER},
        {"beam", required_argument, NULL, OPT_BEAM},
        {"top-p", required_argument, NULL, OPT_TOP_P},
        {"seed", required_argument, NULL, OPT_SEED},
        {"best-of", required_argument, NULL, OPT_BEST_OF},
        {"final-softcap", required_argument, NULL, OPT_SOFTCAP},
        {0}};
    pg_tool *t = &f->t;
    bool seed = false, length = false;
    f->how.max_len = 128;
    f->batch = 8;
    tool_start(t, "pg-infer", help, argc, argv);
    for (int c; (c = tool_getopt(t, "m:n:b:t:", opts, true)) != -1;)
        switch (c) {
        case 'm': f->model = optarg; break;
        case 'n': length = true; f->how.max_len = tool_size(t, "--max-length", optarg, 1, MAX_LENGTH); break;
        case 'b': f->batch = tool_size(t, "--batch", optarg, 1, MAX_BATCH); break;
        case 't': f->how.temperature = tool_double(t, "--temperature", optarg, 1e-6, 1e6); break;
        case OPT_BEAM: f->how.beams = tool_size(t, "--beam", optarg, 1, PG_MAX_BEAMS); break;
        case OPT_TOP_P: f->how.top_p = tool_double(t, "--top-p", optarg, 1e-9, 1); break;
        case OPT_BEST_OF: f->how.samples = tool_size(t, "--best-of", optarg, 1, PG_MAX_SAMPLES); break;
        case OPT_SOFTCAP: f->how.final_softcap = (float)tool_double(t, "--final-softcap", optarg, 1e-3, 1e6); break;
        case OPT_SEED:
            seed = true;
            if (!pg_parse_u64(optarg, &f->how.seed))
                tool_usage(t, "--seed '%s': not a whole number", optarg);
            break;
        case OPT_PARTIAL: f->partial = true; break;
        case OPT_SCORE: f->score = true; break;
        case OPT_FEATURES: f->features = true; break;
        case OPT_TOKENIZER: f->tokenizer_path = optarg; break;
        case OPT_DTYPE:
            f->int8 = !strcmp(optarg, "int8");
            f->bf16 = f->int8 || !strcmp(optarg, "bf16"); /* int8: what stays, such as the patches */
            f->half = !strcmp(optarg, "f16");
            if (strcmp(optarg, "f32") && !f->bf16 && !f->half)
                tool_usage(t, "--dtype '%s': not f32, bf16 or int8, nor f16 with --features", optarg);
            break;
        case OPT_ADAPTER: f->adapter = optarg; break;
        default: break;
        }
    if (optind < argc)
        tool_usage(t, "'%s': unexpected operand", argv[optind]);
    check_options(f, seed, length);
    if (f->how.samples && !(f->how.temperature > 0))
        f->how.temperature = 1;
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
            o = pg_json_load((const char *)json.data, json.len, JSON_DECODE_ANY, NULL);
    const char *s = json_string_value(json_object_get(o, "path"));
    json_int_t n = json_integer_value(json_object_get(o, "pieces"));
    if (s)
        *path = pg_strdup(s);
    if (n > 0)
        *pieces = (uint64_t)n;
    json_decref(o);
    pg_buf_free(&json);
}

static void open_tokenizer(infer *f)
{
    char *named, *path = NULL;
    uint64_t pieces;
    pg_err e = {0};
    header_tokenizer(f, &named, &pieces);
    if (pieces > f->m->s.vocab)
        tool_die(&f->t, EXIT_FAIL, "the stream's tokenizer has %" PRIu64 " pieces, '%s' a vocabulary of %zu: tokens of another model",
                 pieces, f->model, f->m->s.vocab);
    if (!f->tokenizer_path) tool_must(&f->t, pg_tokenizer_find(f->model, &path, &e), &e);
    else if (!(path = pg_strdup(f->tokenizer_path))) tool_no_memory(&f->t);
    if (!path && named && pg_is_file(named)) {
        path = named;
        named = NULL;
    }
    if (path && pg_tokenizer_open(&f->tok, path, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (!path && !f->score)
        tool_warn(&f->t, "no tokenizer beside '%s' or named in the stream: records get caption_tokens, no caption; give one with --tokenizer",
                  f->model);
    free(path);
    free(named);
    if (f->tok && pg_tokenizer_size(f->tok) > f->m->s.vocab)
        tool_die(&f->t, EXIT_FAIL, "'%s' has %zu pieces, '%s' a vocabulary of %zu: not the tokenizer of this model",
                 pg_tokenizer_path(f->tok), pg_tokenizer_size(f->tok), f->model, f->m->s.vocab);
    for (size_t i = 0; f->tok && pg_tokenizer_warning(f->tok, i); i++)
        tool_note(&f->t, "'%s': %s", pg_tokenizer_path(f->tok), pg_tokenizer_warning(f->tok, i));
}

/* Records that may be held: a caption that takes long keeps those after it waiting while others take the seats that are free. */
static size_t ring(const infer *f)
{
    return 2 * f->batch + 16;
}

/* That a CPU cannot do what was asked for must not be found out by a stopwatch. */
static void say_dtype(infer *f, const char *dtype, const char *kernels)
{
    if (!strncmp(kernels, "none", 4))
        tool_warn(&f->t, "--dtype %s: this CPU has no instructions for it: %s", dtype, kernels + 6);
    else
        tool_note(&f->t, "%s products: %s", dtype, kernels);
}

static void quantise(infer *f, replica *r)
{
    pg_err e = {0};
    size_t bytes;
    if (pg_model_quantise(r->m, &bytes, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (r == f->replicas) {
        say_dtype(f, "int8", pg_kern_int8(r->kern));
        tool_note(&f->t, "8-bit weights of %zu MiB made", bytes >> 20);
    }
}

static void load_adapter(infer *f, replica *r)
{
    pg_err e = {0};
    pg_lora_counts n;
    bool foreign;
    if (pg_lora_load(r->m, f->adapter, &n, &foreign, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (r != f->replicas)
        return;
    if (foreign)
        tool_warn(&f->t, "the adapter '%s' was trained on other weights than '%s'", f->adapter, f->model);
    tool_note(&f->t, "'%s': rank %zu on %zu layers of the language model, %zu of the image tower%s", f->adapter, n.rank, n.language, n.tower,
              n.head ? ", and its head" : "");
}

static void open_model(infer *f, replica *r, size_t threads)
{
    pg_err e = {0};
    *r = (replica){.f = f};
    if (pg_kern_new(&r->kern, threads, &e) || (f->bf16 && pg_kern_use_bf16(r->kern, &e)) ||
        pg_model_open(&r->m, f->model, NULL, r->kern, &e) || pg_work_new(&r->w, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
}

static void close_model(replica *r)
{
    pg_decoder_free(r->decoder);
    pg_work_free(r->w);
    pg_model_close(r->m);
    pg_kern_free(r->kern);
}

/* One with all threads; or, of a small model, as many as there are threads and records to go on with. */
static void open_replicas(infer *f)
{
    size_t threads = f->t.threads ? f->t.threads : pg_cpus(), most = f->batch / LEAST_SEATS;
    f->n_replicas = 1;
    if (!(f->replicas = pg_calloc(threads, sizeof *f->replicas)))
        tool_no_memory(&f->t);
    open_model(f, f->replicas, threads);
    if (f->replicas->m->s.parameters <= PG_SMALL_MODEL && threads > 1 && most > 1) {
        close_model(f->replicas);
        f->n_replicas = threads < most ? threads : most;
        for (size_t i = 0; i < f->n_replicas; i++)
            open_model(f, &f->replicas[i], threads / f->n_replicas + (i < threads % f->n_replicas));
    }
    f->m = f->replicas->m;
    f->seats = (f->batch + f->n_replicas - 1) / f->n_replicas;
}

static void ready_replica(infer *f, replica *r)
{
    pg_err e = {0};
    pg_decoding how = f->how;
    if (f->int8)
        quantise(f, r);
    if (f->adapter)
        load_adapter(f, r);
    if (pg_model_pack(r->m, false, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    how.told = f->partial ? infer_told : NULL;
    how.ctx = r;
    if (!f->score && !f->features && pg_decoder_new(&r->decoder, r->m, r->w, &how, f->seats, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
}

void infer_set_up(infer *f)
{
    open_replicas(f);
    pg_kern *kern = f->replicas->kern;
    if (f->bf16 && !f->int8)
        say_dtype(f, "bf16", pg_kern_bf16(kern));
    tool_note(&f->t, "'%s': PaliGemma %d, %zux%zu pixels, %zu million parameters; %s, %zu threads%s", f->model, f->m->s.family,
              f->m->s.image_size, f->m->s.image_size, f->m->s.parameters / 1000000, pg_kern_isa(kern),
              f->t.threads ? f->t.threads : pg_cpus(), f->n_replicas > 1 ? ", a replica of the model for each few" : "");
    for (size_t i = 0; i < f->n_replicas; i++)
        ready_replica(f, &f->replicas[i]);
    const char *tower;
    pg_err e = {0};
    if (f->features && pg_model_tower(f->m, &tower, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    if (!f->features)
        open_tokenizer(f);
    f->n_slots = ring(f);
    f->slots = pg_calloc(f->n_slots, sizeof *f->slots);
    f->partial_rec = pg_rec_new();
    if (!f->slots || !f->partial_rec)
        tool_no_memory(&f->t);
    for (size_t i = 0; i < f->n_slots; i++) {
        f->slots[i].rec = pg_rec_new();
        f->slots[i].sample.features_of = f->m;
        f->slots[i].tokens = pg_alloc(f->how.max_len, sizeof *f->slots[i].tokens);
        if (!f->slots[i].rec || !f->slots[i].tokens)
            tool_no_memory(&f->t);
    }
}

void infer_tear_down(infer *f)
{
    for (size_t i = 0; i < f->n_slots; i++) {
        pg_rec_free(f->slots[i].rec);
        pg_sample_free(&f->slots[i].sample);
        pg_buf_free(&f->slots[i].told);
        pg_buf_free(&f->slots[i].said);
        free(f->slots[i].tokens);
        free(f->slots[i].made);
    }
    free(f->slots);
    pg_rec_free(f->partial_rec);
    pg_buf_free(&f->text);
    tool_same_free(&f->same);
    pg_tokenizer_free(f->tok);
    for (size_t i = 0; i < f->n_replicas; i++)
        close_model(&f->replicas[i]);
    free(f->replicas);
}
