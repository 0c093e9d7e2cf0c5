#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "train.h"

static const char help[] =
    "usage: pg-train -m MODEL -o OUT [options] < examples.pgs > events.pgs\n"
    "Fine-tunes MODEL on a stream of examples and writes OUT: a checkpoint (*.npz, *.safetensors) or a folder.\n"
    "\n"
    "  -m, --model MODEL       folder or file of the weights to start from\n"
    "  -o, --output OUT        where the tuned checkpoint goes\n"
    "      --steps N           optimizer steps\n"
    "      --epochs E          passes over the examples instead (default 1)\n"
    "      --batch N           examples worked on together (default 8)\n"
    "      --accumulate N      batches a step (default 1)\n"
    "      --lr X              learning rate (default 0.03)\n"
    "      --schedule cosine|constant   (default cosine)\n"
    "      --warmup X          fraction of the steps (default 0.1)\n"
    "      --optimizer sgd|adamw   (default sgd)\n"
    "      --momentum X        of sgd (default 0)\n"
    "      --b1 X, --b2 X, --eps X   of adamw (default 0.9, 0.999, 1e-8)\n"
    "      --weight-decay X    decoupled, on weights named .../kernel (default 0)\n"
    "      --wd-mult REGEX=X   decay of the weights whose names match, times X; the first match decides, others do not decay\n"
    "      --lr-mult REGEX=X   the same of the learning rate; others keep it\n"
    "      --clip NORM         longest gradient (default 0: none)\n"
    "      --label-smoothing X (default 0)\n"
    "      --train attention|llm|all|lora|REGEX   REGEX is matched with weight names (default attention)\n"
    "      --rank R            of lora: of the adapters (default 8)\n"
    "      --alpha A           of lora: they are scaled by A/R (default R)\n"
    "      --targets REGEX     of lora: layers that get one (default: the language model's attention)\n"
    "      --no-shuffle        examples in the order of the stream\n"
    "      --stream            take examples as they come, each once, keep none; needs --steps\n"
    "      --seed N            of the permutations (default 0)\n"
    "      --val STREAM.pgs    stream of held-out examples\n"
    "      --val-every N       loss and captions of them every N steps (default: at the end)\n"
    "      --val-captions N    captions of the first N of them (default: all)\n"
    "      --val-length N      most tokens of a caption (default 64)\n"
    "      --keep-best         write the checkpoint of the smallest loss beside OUT\n"
    "      --patience N        stop after N validations without a smaller loss\n"
    "      --save-every N      write OUT.state every N steps\n"
    "      --resume            continue from OUT.state, to the same bits\n"
    "      --memory MIB        kept features before a temporary file is used (default 2048)\n"
    "      --max-memory MIB    of the process, weights included (default: what is free less 512);\n"
    "                          activations that do not fit are computed again\n"
    "      --dtype f32|bf16    arithmetic of products (default f32)\n"
    "      --max-record SIZE   refuse larger records (default 1G)\n"
    "  -j, --threads N         default: the cores this process may use\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "example:\n"
    "  pg-fetch train.jsonl | pg-resize -m MODEL | pg-tokenize -m MODEL | pg-train -m MODEL -o TUNED | pg-render\n"
    "on four processes (Open MPI), batches shared out:\n"
    "  mpirun -n 4 pg-train -m MODEL -o TUNED < train.pgs > events.pgs\n";

enum { O_STEPS = 256, O_EPOCHS, O_BATCH, O_LR, O_SCHEDULE, O_WARMUP, O_OPTIMIZER, O_B1, O_B2, O_EPS, O_WD, O_CLIP, O_SMOOTH, O_TRAIN,
       O_NO_SHUFFLE, O_STREAM, O_SEED, O_VAL, O_VAL_EVERY, O_VAL_CAPTIONS, O_VAL_LENGTH, O_KEEP_BEST, O_PATIENCE, O_SAVE_EVERY, O_RESUME, O_MEMORY,
       O_MAX_MEMORY, O_DTYPE, O_RANK, O_ALPHA, O_TARGETS, O_ACCUMULATE, O_MOMENTUM, O_LR_MULT, O_WD_MULT };

static const struct option options[] = {
    {"model", 1, NULL, 'm'}, {"output", 1, NULL, 'o'}, {"steps", 1, NULL, O_STEPS}, {"epochs", 1, NULL, O_EPOCHS},
    {"batch", 1, NULL, O_BATCH}, {"lr", 1, NULL, O_LR}, {"schedule", 1, NULL, O_SCHEDULE}, {"warmup", 1, NULL, O_WARMUP},
    {"optimizer", 1, NULL, O_OPTIMIZER}, {"b1", 1, NULL, O_B1}, {"b2", 1, NULL, O_B2}, {"eps", 1, NULL, O_EPS},
    {"weight-decay", 1, NULL, O_WD}, {"clip", 1, NULL, O_CLIP}, {"label-smoothing", 1, NULL, O_SMOOTH}, {"train", 1, NULL, O_TRAIN},
    {"no-shuffle", 0, NULL, O_NO_SHUFFLE}, {"stream", 0, NULL, O_STREAM}, {"seed", 1, NULL, O_SEED}, {"val", 1, NULL, O_VAL},
    {"val-every", 1, NULL, O_VAL_EVERY}, {"val-captions", 1, NULL, O_VAL_CAPTIONS}, {"val-length", 1, NULL, O_VAL_LENGTH},
    {"keep-best", 0, NULL, O_KEEP_BEST}, {"patience", 1, NULL, O_PATIENCE}, {"save-every", 1, NULL, O_SAVE_EVERY}, {"resume", 0, NULL, O_RESUME},
    {"memory", 1, NULL, O_MEMORY}, {"max-memory", 1, NULL, O_MAX_MEMORY}, {"dtype", 1, NULL, O_DTYPE}, {"rank", 1, NULL, O_RANK}, {"alpha", 1, NULL, O_ALPHA},
    {"targets", 1, NULL, O_TARGETS}, {"accumulate", 1, NULL, O_ACCUMULATE}, {"momentum", 1, NULL, O_MOMENTUM}, {"lr-mult", 1, NULL, O_LR_MULT},
    {"wd-mult", 1, NULL, O_WD_MULT}, TOOL_MAX_RECORD, {NULL, 0, NULL, 0}};

static void add_mult(const pg_tool *t, const char *option, const char **list, size_t *n)
{
    if (*n == MAX_MULTS) tool_usage(t, "%s: more than %d of them", option, MAX_MULTS);
    list[(*n)++] = optarg;
}

static void check_lora(run *r)
{
    static const char *const endings[] = {".npz", ".safetensors"};
    const pg_tool *t = &r->t;
    r->lora = !strcmp(r->train, "lora");
    const char *only = r->rank ? "--rank" : r->alpha > 0 ? "--alpha" : r->targets ? "--targets" : NULL;
    if (!r->lora && only) tool_usage(t, "%s without --train lora", only);
    for (size_t i = 0; r->lora && i < 2; i++)
        if (pg_ends_with(r->out, endings[i])) tool_usage(t, "--train lora writes a folder of adapter files: '%s' is a file's name", r->out);
    if (!r->rank) r->rank = 8;
    if (!(r->alpha > 0)) r->alpha = (double)r->rank;
    if (!r->targets) r->targets = "language_model.*self_attn";
}

void train_parse(run *r, int argc, char **argv)
{
    pg_tool *t = &r->t;
    tool_start(t, "pg-train", help, argc, argv);
    const double big = 1e30;
    bool captions = false, seed = false;
    const char *adam = NULL; /* an option of adamw alone that was given */
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
        case O_B1: adam = "--b1"; r->opt.b1 = tool_double(t, "--b1", optarg, 0, 0.9999999); break;
        case O_B2: adam = "--b2"; r->opt.b2 = tool_double(t, "--b2", optarg, 0, 0.9999999); break;
        case O_EPS: adam = "--eps"; r->opt.eps = tool_double(t, "--eps", optarg, 0, 1); break;
        case O_WD: r->opt.weight_decay = tool_double(t, "--weight-decay", optarg, 0, big); break;
        case O_CLIP: r->opt.clip = tool_double(t, "--clip", optarg, 0, big); break;
        case O_SMOOTH: r->smoothing = tool_double(t, "--label-smoothing", optarg, 0, 0.999); break;
        case O_TRAIN: r->train = optarg; break;
        case O_NO_SHUFFLE: r->shuffle = false; break;
        case O_STREAM: r->stream = true; break;
        case O_SEED: seed = true; if (!pg_parse_u64(optarg, &r->seed)) tool_usage(t, "--seed '%s': not a whole number", optarg); break;
        case O_VAL: r->val = optarg; break;
        case O_VAL_EVERY: r->val_every = tool_size(t, "--val-every", optarg, 1, (size_t)1 << 40); break;
        case O_VAL_CAPTIONS: r->val_captions = tool_size(t, "--val-captions", optarg, 0, SIZE_MAX / 2); captions = true; break;
        case O_VAL_LENGTH: r->val_length = tool_size(t, "--val-length", optarg, 1, 4096); captions = true; break;
        case O_KEEP_BEST: r->keep_best = true; break;
        case O_PATIENCE: r->patience = tool_size(t, "--patience", optarg, 1, (size_t)1 << 40); break;
        case O_SAVE_EVERY: r->save_every = tool_size(t, "--save-every", optarg, 1, (size_t)1 << 40); break;
        case O_RESUME: r->resume = true; break;
        case O_MAX_MEMORY: r->max_memory = tool_size(t, "--max-memory", optarg, 1, (size_t)1 << 24) << 20; break;
        case O_MEMORY: r->memory = tool_size(t, "--memory", optarg, 0, (size_t)1 << 24) << 20; break;
        case O_DTYPE:
            if (strcmp(optarg, "f32") && strcmp(optarg, "bf16")) tool_usage(t, "--dtype '%s': neither f32 nor bf16", optarg);
            r->bf16 = !strcmp(optarg, "bf16");
            break;
        case O_RANK: r->rank = tool_size(t, "--rank", optarg, 1, 4096); break;
        case O_ALPHA: r->alpha = tool_double(t, "--alpha", optarg, 1e-9, 1e9); break;
        case O_TARGETS: r->targets = optarg; break;
        case O_ACCUMULATE: r->accumulate = tool_size(t, "--accumulate", optarg, 1, 65536); break;
        case O_MOMENTUM: r->opt.momentum = tool_double(t, "--momentum", optarg, 0, 0.9999999); break;
        case O_LR_MULT: add_mult(t, "--lr-mult", r->lr_mults, &r->n_lr_mults); break;
        case O_WD_MULT: add_mult(t, "--wd-mult", r->wd_mults, &r->n_wd_mults); break;
        default: break;
        }
    if (optind < argc) tool_usage(t, "unexpected operand '%s'", argv[optind]);
    if (!r->model) tool_usage(t, "no model: use -m MODEL");
    if (!r->out) tool_usage(t, "no output: use -o OUT");
    tool_checkpoint_name(t, r->out);
    if (!*r->train) tool_usage(t, "--train '': nothing to train");
    check_lora(r);
    if (r->opt.momentum > 0 && r->opt.kind != PG_SGD) tool_usage(t, "--momentum is for sgd; adamw has --b1");
    if (adam && r->opt.kind != PG_ADAMW) tool_usage(t, "%s is for adamw: add --optimizer adamw", adam);
    if (r->n_wd_mults && !(r->opt.weight_decay > 0)) tool_usage(t, "--wd-mult without --weight-decay: it multiplies that");
    if (seed && !r->lora && (!r->shuffle || r->stream)) tool_usage(t, "--seed with %s: nothing is drawn", r->stream ? "--stream" : "--no-shuffle");
    if (r->steps && r->epochs > 0) tool_usage(t, "--steps and --epochs exclude each other");
    if (r->stream && !r->steps) tool_usage(t, "--stream needs --steps: how many examples will come is not known");
    if ((r->val_every || captions) && !r->val) tool_usage(t, "%s without --val", captions ? "--val-captions or --val-length" : "--val-every");
    if ((r->keep_best || r->patience) && !r->val_every)
        tool_usage(t, "%s needs --val and --val-every: the best of several", r->keep_best ? "--keep-best" : "--patience");
}
