/* Options and the training loop. Examples come from stdin, events go to stdout, the checkpoint to OUT. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "text/text.h"
#include "tool.h"
#include "train/data.h"
#include "train/schedule.h"
#include "train/state.h"

static const char help[] =
    "usage: pg-train -m MODEL -o OUT [options] < examples.pgs > events.pgs\n"
    "Fine-tunes MODEL on a stream of examples and writes OUT: a checkpoint (*.npz, *.safetensors) or a folder.\n"
    "\n"
    "  -m, --model MODEL       folder or file of the weights to start from\n"
    "  -o, --output OUT        where the tuned checkpoint goes\n"
    "      --steps N           optimizer steps\n"
    "      --epochs E          passes over the examples instead (default 1)\n"
    "      --batch N           examples a step (default 8)\n"
    "      --lr X              learning rate (default 0.03)\n"
    "      --schedule S        cosine or constant (default cosine)\n"
    "      --warmup X          fraction of the steps (default 0.1)\n"
    "      --optimizer O       sgd or adamw (default sgd)\n"
    "      --b1 X, --b2 X, --eps X   of adamw (default 0.9, 0.999, 1e-8)\n"
    "      --weight-decay X    decoupled, on weights named .../kernel (default 0)\n"
    "      --clip NORM         longest gradient (default 0: none)\n"
    "      --label-smoothing X (default 0)\n"
    "      --train WHAT        attention, llm, all, or a regular expression on weight names (default attention)\n"
    "      --no-shuffle        examples in the order of the stream\n"
    "      --stream            take examples as they come, each once, keep none; needs --steps\n"
    "      --seed N            of the permutations (default 0)\n"
    "      --val FILE          stream of held-out examples\n"
    "      --val-every N       loss and some captions on them every N steps (default: at the end)\n"
    "      --save-every N      write OUT.state every N steps\n"
    "      --resume            continue from OUT.state, to the same bits\n"
    "      --memory MIB        kept features before a temporary file is used (default 2048)\n"
    "      --dtype f32         arithmetic\n"
    "  -j, --threads N         default: the cores this process may use\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "example:\n"
    "  pg-fetch train.jsonl | pg-resize | pg-tokenize -m MODEL | pg-train -m MODEL -o TUNED | pg-render\n";

enum { VAL_CAPTIONS = 4, VAL_LENGTH = 64, VAL_BATCH = 8 };

typedef struct run {
    pg_tool t;
    tool_pipe p;
    const char *model, *out, *train, *val, *schedule_name;
    size_t steps, batch, val_every, save_every, memory;
    double epochs, lr, warmup, smoothing;
    uint64_t seed;
    pg_schedule schedule;
    bool shuffle, stream, resume;
    pg_optim opt;
    char *state_path, *fingerprint, *weights_out;
    pg_kern *kern;
    pg_model *m;
    pg_work *work;
    pg_data data, val_data;
    pg_order order;
    pg_tokenizer *tok;
    pg_rec *event;
} run;

static void fail(run *r, const pg_err *e) { tool_die(&r->t, EXIT_FAIL, "%s", e->msg); }
#define TRY(call)                        \
    do {                                 \
        pg_err e_ = {0};                 \
        pg_err *e = &e_;                 \
        if ((call) < 0) fail(r, e);      \
    } while (0)

/* ---- options ---- */
enum { O_STEPS = 256, O_EPOCHS, O_BATCH, O_LR, O_SCHEDULE, O_WARMUP, O_OPTIMIZER, O_B1, O_B2, O_EPS, O_WD, O_CLIP, O_SMOOTH, O_TRAIN,
       O_NO_SHUFFLE, O_STREAM, O_SEED, O_VAL, O_VAL_EVERY, O_SAVE_EVERY, O_RESUME, O_MEMORY, O_DTYPE, O_RANK };

static const struct option options[] = {
    {"model", 1, NULL, 'm'}, {"output", 1, NULL, 'o'}, {"steps", 1, NULL, O_STEPS}, {"epochs", 1, NULL, O_EPOCHS},
    {"batch", 1, NULL, O_BATCH}, {"lr", 1, NULL, O_LR}, {"schedule", 1, NULL, O_SCHEDULE}, {"warmup", 1, NULL, O_WARMUP},
    {"optimizer", 1, NULL, O_OPTIMIZER}, {"b1", 1, NULL, O_B1}, {"b2", 1, NULL, O_B2}, {"eps", 1, NULL, O_EPS},
    {"weight-decay", 1, NULL, O_WD}, {"clip", 1, NULL, O_CLIP}, {"label-smoothing", 1, NULL, O_SMOOTH}, {"train", 1, NULL, O_TRAIN},
    {"no-shuffle", 0, NULL, O_NO_SHUFFLE}, {"stream", 0, NULL, O_STREAM}, {"seed", 1, NULL, O_SEED}, {"val", 1, NULL, O_VAL},
    {"val-every", 1, NULL, O_VAL_EVERY}, {"save-every", 1, NULL, O_SAVE_EVERY}, {"resume", 0, NULL, O_RESUME},
    {"memory", 1, NULL, O_MEMORY}, {"dtype", 1, NULL, O_DTYPE}, {"rank", 1, NULL, O_RANK}, {NULL, 0, NULL, 0}};

static void parse(run *r, int argc, char **argv)
{
    pg_tool *t = &r->t;
    tool_start(t, "pg-train", help, argc, argv);
    const double big = 1e30;
    for (int c; (c = tool_getopt(t, "m:o:", options, true)) != -1;)
        switch (c) {
        case 'm': r->model = optarg; break;
        case 'o': r->out = optarg; break;
        case O_STEPS: r->steps = tool_size(t, "--steps", optarg, 1, (size_t)1 << 40); break;
        case O_EPOCHS: r->epochs = tool_double(t, "--epochs", optarg, 1e-9, 1e9); break;
        case O_BATCH: r->batch = tool_size(t, "--batch", optarg, 1, 65536); break;
        case O_LR: r->lr = tool_double(t, "--lr", optarg, 0, big); break;
        case O_SCHEDULE:
            r->schedule_name = optarg;
            if (!strcmp(optarg, "constant")) r->schedule = PG_CONSTANT;
            else if (!strcmp(optarg, "cosine")) r->schedule = PG_COSINE;
            else tool_usage(t, "--schedule '%s': neither cosine nor constant", optarg);
            break;
        case O_WARMUP: r->warmup = tool_double(t, "--warmup", optarg, 0, 1); break;
        case O_OPTIMIZER:
            if (!strcmp(optarg, "adamw")) r->opt.kind = PG_ADAMW;
            else if (!strcmp(optarg, "sgd")) r->opt.kind = PG_SGD;
            else tool_usage(t, "--optimizer '%s': neither sgd nor adamw", optarg);
            break;
        case O_B1: r->opt.b1 = tool_double(t, "--b1", optarg, 0, 0.9999999); break;
        case O_B2: r->opt.b2 = tool_double(t, "--b2", optarg, 0, 0.9999999); break;
        case O_EPS: r->opt.eps = tool_double(t, "--eps", optarg, 0, 1); break;
        case O_WD: r->opt.weight_decay = tool_double(t, "--weight-decay", optarg, 0, big); break;
        case O_CLIP: r->opt.clip = tool_double(t, "--clip", optarg, 0, big); break;
        case O_SMOOTH: r->smoothing = tool_double(t, "--label-smoothing", optarg, 0, 0.999); break;
        case O_TRAIN: r->train = optarg; break;
        case O_NO_SHUFFLE: r->shuffle = false; break;
        case O_STREAM: r->stream = true; break;
        case O_SEED: if (!pg_parse_u64(optarg, &r->seed)) tool_usage(t, "--seed '%s': not a whole number", optarg); break;
        case O_VAL: r->val = optarg; break;
        case O_VAL_EVERY: r->val_every = tool_size(t, "--val-every", optarg, 1, (size_t)1 << 40); break;
        case O_SAVE_EVERY: r->save_every = tool_size(t, "--save-every", optarg, 1, (size_t)1 << 40); break;
        case O_RESUME: r->resume = true; break;
        case O_MEMORY: r->memory = tool_size(t, "--memory", optarg, 0, (size_t)1 << 24) << 20; break;
        case O_DTYPE: if (strcmp(optarg, "f32")) tool_usage(t, "--dtype %s: this build computes in f32 only", optarg); break;
        case O_RANK: tool_usage(t, "--rank: adapters are not in this build");
        default: break;
        }
    if (optind < argc) tool_usage(t, "unexpected operand '%s'", argv[optind]);
    if (!r->model) tool_usage(t, "no model: use -m MODEL");
    if (!r->out) tool_usage(t, "no output: use -o OUT");
    if (!*r->train) tool_usage(t, "--train '': nothing to train");
    if (!strcmp(r->train, "lora")) tool_usage(t, "--train lora: adapters are not in this build");
    if (r->steps && r->epochs > 0) tool_usage(t, "--steps and --epochs exclude each other");
    if (r->stream && !r->steps) tool_usage(t, "--stream needs --steps: how many examples will come is not known");
    if (r->val_every && !r->val) tool_usage(t, "--val-every without --val");
}

/* ---- output ---- */
static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void choose_output(run *r)
{
    bool file = pg_ends_with(r->out, ".npz") || pg_ends_with(r->out, ".safetensors");
    const char *name = pg_weights_format(r->m->weights) == PG_NPZ ? "model.npz" : "model.safetensors";
    r->weights_out = file ? pg_strdup(r->out) : pg_path_join(r->out, name);
    r->state_path = pg_format("%s.state", r->out);
    if (!r->weights_out || !r->state_path) tool_die(&r->t, EXIT_FAIL, "out of memory");
    if (same_file(r->weights_out, pg_weights_path(r->m->weights)))
        tool_die(&r->t, EXIT_FAIL, "'%s' is the model that is being trained: choose another output", r->weights_out);
    if (!file && mkdir(r->out, 0777) && !pg_is_dir(r->out)) tool_die(&r->t, EXIT_FAIL, "cannot make the folder '%s'", r->out);
    pg_outfile probe; /* better to know now than after a night of training */
    TRY(pg_outfile_open(&probe, r->weights_out, e));
    pg_outfile_abort(&probe);
}

static void copy_beside(run *r, const char *from, const char *name)
{
    pg_buf b = {0};
    pg_outfile f;
    char *to = pg_path_join(r->out, name);
    if (!to) tool_die(&r->t, EXIT_FAIL, "out of memory");
    TRY(pg_file_read(from, (size_t)1 << 28, &b, e));
    TRY(pg_outfile_open(&f, to, e));
    if (pg_write_full(f.fd, b.data, b.len)) {
        pg_outfile_abort(&f);
        tool_die(&r->t, EXIT_FAIL, "cannot write '%s'", to);
    }
    TRY(pg_outfile_commit(&f, e));
    pg_buf_free(&b);
    free(to);
}

static const float *replacement(void *ctx, const char *name, size_t layer, size_t part)
{
    const run *r = ctx;
    for (size_t i = 0; i < r->m->n_params; i++) {
        const pg_param *p = &r->m->params[i];
        if (strcmp(p->name, name)) continue;
        const float *w = p->w + layer * p->per_layer;
        return part == PG_WHOLE ? w : w + part * (p->per_layer / 2); /* kv_einsum and gating_einsum: two parts */
    }
    return NULL;
}

/* ---- events ---- */
static void set_str(run *r, const char *key, const char *s) { TRY(pg_rec_set_str(r->event, key, s, strlen(s), e)); }
static void set_int(run *r, const char *key, size_t v) { TRY(pg_rec_set_int(r->event, key, (int64_t)v, e)); }
static void set_num(run *r, const char *key, double v) { TRY(pg_rec_set_double(r->event, key, v, e)); }

static void begin(run *r, const char *event, size_t step)
{
    pg_rec_clear(r->event);
    set_str(r, "event", event);
    set_int(r, "step", step);
}

static void emit(run *r)
{
    tool_put(&r->t, &r->p, r->event);
    TRY(pg_writer_flush(r->p.out, e));
}

static void save_state(run *r, size_t step)
{
    TRY(pg_state_save(r->state_path, r->m, &r->opt, step, r->fingerprint, e));
    begin(r, "save", step);
    set_str(r, "path", r->state_path);
    emit(r);
}

/* ---- validation ---- */
static void load_val(run *r)
{
    pg_err err = {0};
    pg_reader *rd = NULL;
    pg_rec *header = pg_rec_new();
    FILE *f = fopen(r->val, "rb");
    if (!f) tool_die(&r->t, EXIT_FAIL, "cannot open '%s'", r->val);
    if (!header || pg_reader_new(&rd, fileno(f), r->val, &err)) tool_die(&r->t, EXIT_FAIL, "out of memory");
    if (pg_reader_header(rd, header, &err) < 0 || pg_data_read(&r->val_data, rd, r->m, 0, r->memory, &err) < 0)
        tool_die(&r->t, err.code == PG_EFORMAT || err.code == PG_ELIMIT ? EXIT_STREAM : EXIT_FAIL, "%s", err.msg);
    pg_reader_free(rd);
    pg_rec_free(header);
    fclose(f);
    if (!r->val_data.n) tool_die(&r->t, EXIT_FAIL, "'%s' holds no example that can be used", r->val);
    if (r->val_data.errors || r->val_data.unusable)
        tool_warn(&r->t, "%zu records of '%s' cannot be used", r->val_data.errors + r->val_data.unusable, r->val);
    size_t shared = 0;
    for (size_t i = 0; i < r->val_data.n; i++)
        for (size_t j = 0; j < r->data.n; j++)
            if (r->val_data.items[i].id[0] && !strcmp(r->val_data.items[i].id, r->data.items[j].id)) {
                shared++;
                break;
            }
    if (shared) tool_warn(&r->t, "%zu validation examples have the id of a training example", shared);
}

static void val_captions(run *r, size_t step)
{
    const pg_data *d = &r->val_data;
    size_t n = d->n < VAL_CAPTIONS ? d->n : VAL_CAPTIONS, row = pg_data_row(d, r->m);
    float *rows = pg_floats(row);
    int32_t tokens[VAL_LENGTH];
    if (!rows) tool_die(&r->t, EXIT_FAIL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        pg_caption c = {.prefix = d->items[i].tokens, .n_prefix = d->items[i].n_prefix, .tokens = tokens};
        pg_buf text = {0};
        const float *picture;
        TRY(pg_store_get(d->store, i, rows, &picture, e));
        if (d->pixels) c.pixels = picture;
        else c.features = picture;
        TRY(pg_greedy(r->m, r->work, &c, 1, VAL_LENGTH, NULL, NULL, e));
        begin(r, "caption", step);
        set_str(r, "id", d->items[i].id);
        if (r->tok) {
            pg_err why = {0}; /* a tokenizer of another model is no reason to lose the run */
            if (pg_tokenizer_decode(r->tok, tokens, c.n, &text, &why)) tool_warn(&r->t, "no text for a caption: %s", why.msg);
            else TRY(pg_rec_set_str(r->event, "caption", text.len ? (const char *)text.data : "", text.len, e));
            pg_buf_free(&text);
        }
        TRY(pg_rec_set_ints(r->event, "caption_tokens", tokens, c.n, e));
        emit(r);
    }
    free(rows);
}

static void validate(run *r, size_t step)
{
    const pg_data *d = &r->val_data;
    float *rows = pg_floats(VAL_BATCH * pg_data_row(d, r->m));
    double sum = 0;
    if (!rows) tool_die(&r->t, EXIT_FAIL, "out of memory");
    for (size_t i = 0; i < d->n; i += VAL_BATCH) {
        pg_example ex[VAL_BATCH];
        size_t idx[VAL_BATCH], n = d->n - i < VAL_BATCH ? d->n - i : VAL_BATCH;
        double loss = 0;
        for (size_t j = 0; j < n; j++) idx[j] = i + j;
        TRY(pg_data_batch(d, r->m, idx, n, rows, ex, e));
        TRY(pg_loss(r->m, r->work, ex, n, false, 0, &loss, NULL, NULL, 0, e));
        sum += loss * (double)n;
    }
    free(rows);
    begin(r, "val", step);
    set_num(r, "loss", sum / (double)d->n);
    set_int(r, "examples", d->n);
    emit(r);
    val_captions(r, step);
}

/* ---- the loop ---- */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_some(run *r, size_t most)
{
    pg_err e = {0};
    int rc = pg_data_read(&r->data, r->p.in, r->m, most, r->memory, &e);
    if (rc < 0) tool_die(&r->t, e.code == PG_EFORMAT || e.code == PG_ELIMIT ? EXIT_STREAM : EXIT_FAIL, "%s", e.msg);
    if (most && r->data.n < most)
        tool_die(&r->t, EXIT_FAIL, "the stream ended after %llu records, %zu steps of %zu need more", (unsigned long long)pg_reader_count(r->p.in),
                 r->steps, r->batch);
}

static void step_once(run *r, size_t step, float *rows, pg_example *ex, size_t *idx)
{
    double start = now(), loss = 0, norm = 0;
    bool changed = true;
    pg_err err = {0};
    size_t tokens = 0;
    if (r->stream) {
        pg_data_clear(&r->data);
        read_some(r, r->batch);
    }
    for (size_t j = 0; j < r->batch; j++) {
        idx[j] = r->stream ? j : pg_order_at(&r->order, (step - 1) * r->batch + j);
        tokens += r->data.items[idx[j]].n_loss;
    }
    TRY(pg_data_batch(&r->data, r->m, idx, r->batch, rows, ex, e));
    pg_grads_zero(r->m);
    TRY(pg_loss(r->m, r->work, ex, r->batch, true, 0, &loss, NULL, NULL, r->smoothing, e));
    double mult = pg_learning_rate(r->schedule, step, r->steps, 1.0, r->warmup);
    if (!isfinite(loss))
        tool_die(&r->t, EXIT_FAIL, "the loss is not a number at step %zu: try a smaller --lr or --clip 1; %s", step,
                 r->save_every && pg_is_file(r->state_path) ? "the last save is kept" : "nothing was written");
    if (pg_optim_step(&r->opt, r->m, mult, &norm, &changed, &err))
        tool_die(&r->t, EXIT_FAIL, "%s at step %zu: try a smaller --lr or --clip 1", err.msg, step);
    if (!changed && mult > 0 && r->opt.lr > 0)
        tool_warn(&r->t, "step %zu changed no weight: the learning rate is too small or no example has a suffix", step);
    double took = now() - start;
    begin(r, "step", step);
    set_int(r, "steps", r->steps);
    set_num(r, "lr", r->opt.lr * mult);
    set_num(r, "loss", loss);
    set_num(r, "grad_norm", norm);
    set_num(r, "examples_per_s", (double)r->batch / took);
    set_num(r, "tokens_per_s", (double)tokens / took);
    emit(r);
}

static void make_fingerprint(run *r)
{
    r->fingerprint = pg_format("model %s\nparameters %zu\ntrain %s\noptimizer %d\nlr %.17g\nschedule %d\nwarmup %.17g\nsteps %zu\nbatch %zu\n"
                               "seed %llu\nshuffle %d\nstream %d\nweight-decay %.17g\nclip %.17g\nb1 %.17g\nb2 %.17g\neps %.17g\n"
                               "label-smoothing %.17g\nexamples %zu\ndata %016llx\n",
                               r->model, r->m->s.parameters, r->train, (int)r->opt.kind, r->opt.lr, (int)r->schedule, r->warmup, r->steps,
                               r->batch, (unsigned long long)r->seed, r->shuffle, r->stream, r->opt.weight_decay, r->opt.clip, r->opt.b1,
                               r->opt.b2, r->opt.eps, r->smoothing, r->stream ? 0 : r->data.n,
                               r->stream ? 0ULL : (unsigned long long)r->data.hash);
    if (!r->fingerprint) tool_die(&r->t, EXIT_FAIL, "out of memory");
}

static void check_data(run *r)
{
    pg_data *d = &r->data;
    if (!d->n)
        tool_die(&r->t, EXIT_FAIL, "no example can be used: %zu with errors, %zu that do not fit%s%s", d->errors, d->unusable,
                 d->unusable ? ", the first " : "", d->first_unusable);
    if (r->batch > d->n) tool_warn(&r->t, "a batch of %zu holds some of the %zu examples more than once", r->batch, d->n);
}

/* Counts of what was odd, said once at the end of reading. Returns whether some records were left out. */
static bool report_data(run *r)
{
    const pg_data *d = &r->data;
    if (d->errors) tool_warn(&r->t, "%zu records with errors were left out", d->errors);
    if (d->unusable) tool_warn(&r->t, "%zu records do not fit and were left out, the first %s", d->unusable, d->first_unusable);
    if (d->no_suffix) tool_warn(&r->t, "%zu examples have no suffix: their loss is 0", d->no_suffix);
    if (d->no_eos) tool_warn(&r->t, "%zu examples have lost their eos: the model is not taught to stop there", d->no_eos);
    return d->errors || d->unusable;
}

static void finish_output(run *r)
{
    TRY(pg_weights_save(r->m->weights, r->weights_out, replacement, r, e));
    if (strcmp(r->weights_out, r->out) && r->tok) copy_beside(r, pg_tokenizer_path(r->tok), "tokenizer.model");
    begin(r, "done", r->steps);
    set_str(r, "path", r->weights_out);
    emit(r);
}

int main(int argc, char **argv)
{
    run self = {.train = "attention", .batch = 8, .lr = 0.03, .warmup = 0.1, .shuffle = true, .memory = (size_t)2 << 30,
                .opt = {.kind = PG_SGD, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8}};
    run *r = &self;
    size_t done = 0;
    parse(r, argc, argv);
    r->opt.lr = r->lr;
    TRY(pg_kern_new(&r->kern, r->t.threads, e));
    TRY(pg_model_open(&r->m, r->model, r->train, r->kern, e));
    TRY(pg_work_new(&r->work, e));
    (void)!pg_tokenizer_open(&r->tok, r->model, NULL); /* only for captions while validating, and to lie beside OUT */
    tool_open_in(&r->t, &r->p, STDIN_FILENO, "stdin", "examples");
    tool_open_out(&r->t, &r->p, "events", NULL);
    choose_output(r);
    if (!(r->event = pg_rec_new())) tool_die(&r->t, EXIT_FAIL, "out of memory");
    r->data.no_hash = r->stream; /* the state file cannot know what will come */
    if (!r->stream) {
        read_some(r, 0);
        report_data(r);
        check_data(r);
        if (!r->steps) {
            double n = ceil((r->epochs > 0 ? r->epochs : 1) * (double)r->data.n / (double)r->batch);
            r->steps = n < 1 ? 1 : (size_t)n;
        }
        TRY(pg_order_new(&r->order, r->data.n, r->seed, r->shuffle, e));
    }
    if (r->val) load_val(r);
    TRY(pg_optim_init(&r->opt, r->m, e));
    make_fingerprint(r);
    if (r->resume && pg_is_file(r->state_path)) {
        TRY(pg_state_load(r->state_path, r->m, &r->opt, &done, r->fingerprint, e));
        tool_info(&r->t, "resuming after step %zu of %zu", done, r->steps);
        for (size_t s = 0; r->stream && s < done; s++) {
            pg_data_clear(&r->data);
            read_some(r, r->batch);
        }
    } else if (r->resume) {
        tool_info(&r->t, "no '%s': starting from the beginning", r->state_path);
    } else if (pg_is_file(r->state_path)) {
        tool_warn(&r->t, "'%s' of an earlier run is not used; --resume would", r->state_path);
    }
    r->data.pixels = pg_trains_image(r->m);
    float *rows = pg_floats(r->batch * pg_data_row(&r->data, r->m));
    pg_example *ex = pg_calloc(r->batch, sizeof *ex);
    size_t *idx = pg_calloc(r->batch, sizeof *idx);
    if (!rows || !ex || !idx) tool_die(&r->t, EXIT_FAIL, "out of memory");
    for (size_t step = done + 1; step <= r->steps; step++) {
        step_once(r, step, rows, ex, idx);
        if (r->val && (step == r->steps || (r->val_every && step % r->val_every == 0))) validate(r, step);
        if (r->save_every && step % r->save_every == 0) save_state(r, step);
    }
    finish_output(r);
    bool left_out = r->stream ? report_data(r) : r->data.errors || r->data.unusable;
    int status = tool_finish(&r->t, &r->p, NULL);
    free(rows);
    free(ex);
    free(idx);
    free(r->state_path);
    free(r->weights_out);
    free(r->fingerprint);
    pg_order_free(&r->order);
    pg_data_free(&r->data);
    pg_data_free(&r->val_data);
    pg_optim_free(&r->opt);
    pg_rec_free(r->event);
    pg_tokenizer_free(r->tok);
    pg_work_free(r->work);
    pg_model_close(r->m);
    pg_kern_free(r->kern);
    return status ? status : left_out ? EXIT_RECORDS : EXIT_OK;
}
