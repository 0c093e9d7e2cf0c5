/* Parts of pg-train: options (train_options.c), checks (train_check.c), what goes out (train_output.c), validation (train_val.c), memory
 * (train_memory.c), several processes (train_ranks.c, train_worker.c), the loop (pg-train.c). */
#ifndef PG_TRAIN_H
#define PG_TRAIN_H

#include "text/text.h"
#include "tool.h"
#include "train/data.h"
#include "train/reduce.h"
#include "train/schedule.h"
#include "train/state.h"

/* A held-out example's texts. */
typedef struct val_text {
    char **references; /* what its caption is compared with */
    size_t n_references;
} val_text;

/* Held-out examples in order, to find those that are trained on. */
typedef struct held_out {
    const pg_data_item **by_id, **by_picture;
    bool *same_id, *same_picture; /* of val_data's items: some training example has it */
} held_out;

enum { MAX_MULTS = 32 };

typedef struct run {
    pg_tool t;
    tool_pipe p;
    const char *model, *out, *train, *val, *schedule_name;
    size_t steps, batch, val_every, val_captions, val_length, patience, save_every, memory, max_memory, longest;
    bool memory_warned; /* of too little of it */
    double epochs, lr, warmup, smoothing;
    uint64_t seed;
    pg_schedule schedule;
    bool lora; /* train an adapter */
    const char *targets;
    size_t rank, accumulate;
    double alpha;
    const char *lr_mults[MAX_MULTS], *wd_mults[MAX_MULTS]; /* "REGEX=X", in the order given */
    size_t n_lr_mults, n_wd_mults;
    bool shuffle, stream, resume, keep_best, bf16;
    pg_optim opt;
    pg_progress progress;
    char *out_dir, *state_path, *fingerprint, *weights_out; /* out_dir: NULL where OUT is a file */
    char *best_dir, *best_out;                              /* the same for the best checkpoint */
    int lock;                                               /* of OUT, until the process ends */
    pg_kern *kern;
    pg_model *m;
    pg_work *work;
    pg_data data, val_data;
    val_text *val_texts; /* of val_data's items */
    size_t val_texts_room;
    held_out held_out;
    size_t no_newline, steps_empty, steps_idle; /* examples; steps without a suffix; steps that changed nothing */
    char first_no_newline[128];
    pg_order order;
    pg_tokenizer *tok;
    pg_rec *event;
    pg_link *link;     /* to the other ranks; NULL: none */
    pg_reduce *reduce;
    pg_buf mail;       /* what is sent to them */
    double *loss_of;   /* [batch] */
    bool working;      /* they are, and could not be sent home */
} run;

_Noreturn void train_fail(run *r, const pg_err *e);
#define TRY(call)                              \
    do {                                       \
        pg_err e_ = {0};                       \
        pg_err *e = &e_;                       \
        if ((call) < 0) train_fail(r, e);      \
    } while (0)

/* The model, ready to be trained. */
void train_open(run *r);

/* ---- options ---- */
void train_parse(run *r, int argc, char **argv);

/* ---- adapters and groups of weights (train_groups.c) ---- */
void train_make_adapter(run *r);
void train_set_mults(run *r);
char *train_group_text(const run *r); /* for the fingerprint; NULL: no memory */

/* ---- what would go wrong without a word (train_check.c) ---- */
void train_check_settings(run *r);
void train_open_tokenizer(run *r); /* only for captions while validating, and to lie beside OUT; behind train_choose_output */
void train_index_val(run *r);
int train_see(void *run, size_t i, const pg_rec *rec, pg_err *e); /* pg_data's seen, of training examples */
void train_report_examples(run *r); /* once all were seen */
void train_check_step(run *r, size_t step, size_t tokens, bool changed, double rate); /* tokens that count in its loss */
void train_see_loss(run *r, size_t step, double loss);
void train_check_end(run *r);
void train_check_free(run *r);

/* ---- memory ---- */
/* Weights change layer by layer during the backward pass where they can, which saves the others' gradients; says so. rows: of the longest
 * sequence there will be. */
void train_share_gradients(run *r, size_t rows);
/* Sets which layers keep their activations, for sequences of up to so many rows; says so where it is news. */
void train_fit_memory(run *r, size_t rows);

/* ---- output ---- */
void train_choose_output(run *r); /* names of files; sees that they can be written */
void train_save_weights(run *r, const char *path, const char *dir); /* dir NULL, or gets the tokenizer */
void train_save_state(run *r);
/* An event: begin, set keys, emit. */
void event_begin(run *r, const char *event, size_t step);
void event_str(run *r, const char *key, const char *s);
void event_int(run *r, const char *key, size_t v);
void event_num(run *r, const char *key, double v);
void event_emit(run *r);

/* ---- ranks: 0 reads, decides and writes; the others compute what it sends them ---- */
/* First of all: links the processes where mpirun has started several. */
void train_join(run *r);
size_t train_ranks(const run *r); /* 1 without a link */
size_t train_share(const run *r); /* most examples of a batch that a rank works on */
void train_threads(run *r);       /* -j where it was not given */
char *train_twin_text(run *r);    /* what must be the same on all ranks, as lines; NULL: no memory */
int train_worker(run *r, int argc, char **argv); /* all that ranks other than 0 do; returns the exit status */
/* Rank 0, each a word to the others where there are any: options are good, go on to open the model; */
void train_greet(run *r);
void train_compare(run *r);       /* the models are open: are all the same? Ends the run where not. */
void train_share_state(run *r);   /* a state was loaded: it is theirs too */
/* Loss and gradients of batch `part` of a step, examples idx, shared out; after the step's last one the gradients are the sum over all. */
double train_batch(run *r, const size_t *idx, float *rows, pg_example *ex, size_t part);
void train_tell_step(run *r, double mult); /* do the optimizer's step */
void train_part(run *r);          /* the end */
/* Examples to rank k for their losses alone, and their mean as it comes back; the caller clears r->working when all are back. */
void train_ask_loss(run *r, size_t k, const pg_example *ex, size_t n);
double train_take_loss(run *r, size_t k);

/* ---- validation ---- */
void val_load(run *r);
void val_free(run *r);
/* Loss and captions as events; the best checkpoint; what progress says of them. */
void val_run(run *r, size_t step);

#endif
