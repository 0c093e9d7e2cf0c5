/* The training loop. Examples come from stdin, events go to stdout, the checkpoint to OUT. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "kernels/probe.h"
#include "train.h"

_Noreturn void train_fail(run *r, const pg_err *e)
{
    tool_die(&r->t, EXIT_FAIL, "%s", e->msg);
}

static void read_some(run *r, size_t most)
{
    pg_err e = {0};
    int rc = pg_data_read(&r->data, r->p.in, r->m, most, r->memory, &e);
    if (rc < 0) tool_bad_stream(&r->t, &r->p, &e);
    if (most && r->data.n < most)
        tool_die(&r->t, EXIT_FAIL, "the stream ended after %llu records, %zu steps of %zu need more", (unsigned long long)pg_reader_count(r->p.in),
                 r->steps, r->batch);
}

static void step_once(run *r, size_t step, float *rows, pg_example *ex, size_t *idx)
{
    double start = pg_seconds(), loss = 0, norm = 0;
    bool changed = true;
    pg_err err = {0};
    size_t tokens = 0, longest = 0;
    double mult = pg_learning_rate(r->schedule, step, r->steps, 1.0, r->warmup);
    pg_grads_zero(r->m);
    pg_optim_begin(&r->opt, r->m, mult);
    for (size_t i = 0; i < r->accumulate; i++) {
        if (r->stream) {
            pg_data_clear(&r->data);
            read_some(r, r->batch);
        }
        for (size_t j = 0; j < r->batch; j++) {
            idx[j] = r->stream ? j : pg_order_at(&r->order, ((step - 1) * r->accumulate + i) * r->batch + j);
            tokens += r->data.items[idx[j]].n_loss;
            if (longest < r->data.items[idx[j]].n) longest = r->data.items[idx[j]].n;
        }
        train_fit_memory(r, r->m->s.n_image + longest);
        loss += train_batch(r, idx, rows, ex, i) / (double)r->accumulate;
    }
    if (!isfinite(loss) && step == 1)
        tool_die(&r->t, EXIT_FAIL, "the loss is not a number at step 1, before any weight has changed: weights of '%s' are not numbers, or too large; "
                 "'pg-info --verify' names them", r->model);
    if (!isfinite(loss))
        tool_die(&r->t, EXIT_FAIL, "the loss is not a number at step %zu: try a smaller --lr or --clip 1; %s", step,
                 r->save_every && pg_is_file(r->state_path)     ? "the last save is kept"
                 : r->keep_best && r->progress.best_step ? "the best checkpoint is kept"
                                                         : "nothing was written");
    train_tell_step(r, mult);
    if (pg_optim_end(&r->opt, &norm, &changed, &err))
        tool_die(&r->t, EXIT_FAIL, "%s at step %zu: try a smaller --lr or --clip 1", err.msg, step);
    train_check_step(r, step, tokens, changed, r->opt.lr * mult);
    train_see_loss(r, step, loss);
    double took = pg_seconds() - start;
    event_begin(r, "step", step);
    event_int(r, "steps", r->steps);
    event_num(r, "lr", r->opt.lr * mult);
    event_num(r, "loss", loss);
    event_num(r, "grad_norm", norm);
    event_num(r, "examples_per_s", (double)(r->batch * r->accumulate) / took);
    event_num(r, "tokens_per_s", (double)tokens / took);
    event_emit(r);
}

static void make_fingerprint(run *r)
{
    char *groups = train_group_text(r);
    uint32_t weights;
    PG_KNOWN(r->m); /* by train_open */
    TRY(pg_weights_fingerprint(r->m->weights, &weights, e));
    r->fingerprint = pg_format("model %08x\nparameters %zu\ntrain %s\noptimizer %s\nlr %.15g\nschedule %s\nwarmup %.15g\nsteps %zu\nbatch %zu\n"
                               "seed %llu\nshuffle %d\nstream %d\nweight-decay %.15g\nclip %.15g\nb1 %.15g\nb2 %.15g\neps %.15g\n"
                               "label-smoothing %.15g\nexamples %zu\ndata %016llx\n%s%smachine %s, %s%s%s\n",
                               weights, r->m->s.parameters, r->train, r->opt.kind == PG_ADAMW ? "adamw" : "sgd", r->opt.lr,
                               r->schedule == PG_COSINE ? "cosine" : "constant", r->warmup, r->steps, r->batch, (unsigned long long)r->seed, r->shuffle, r->stream, r->opt.weight_decay, r->opt.clip, r->opt.b1,
                               r->opt.b2, r->opt.eps, r->smoothing, r->stream ? 0 : r->data.n,
                               r->stream ? 0ULL : (unsigned long long)r->data.hash, r->bf16 ? "dtype bf16\n" : "", groups ? groups : "",
                               pg_kern_isa(r->kern), pg_kern_blas(r->kern), r->bf16 ? ", bfloat16 " : "", r->bf16 ? pg_kern_bf16(r->kern) : "");
    if (!groups) tool_no_memory(&r->t);
    free(groups);
    if (!r->fingerprint) tool_no_memory(&r->t);
}

static void check_data(run *r)
{
    pg_data *d = &r->data;
    if (!d->n && !d->errors && !d->unusable) tool_die(&r->t, EXIT_FAIL, "there are no examples to train on: the stream holds none");
    if (!d->n)
        tool_die(&r->t, EXIT_FAIL, "no example can be used: %zu with errors, %zu that do not fit%s%s", d->errors, d->unusable,
                 d->unusable ? ", the first " : "", d->first_unusable);
    if (d->no_suffix == d->n) tool_die(&r->t, EXIT_FAIL, "none of the %zu example%s has a suffix (a text beside each picture, or the key 'suffix'): there is nothing to learn from", d->n, d->n == 1 ? "" : "s");
    size_t step = r->batch * r->accumulate;
    if (d->n == 1 && step > 1) tool_warn(&r->t, "a step of %zu holds the one example more than once", step);
    else if (step > d->n) tool_warn(&r->t, "a step of %zu holds some of the %zu examples more than once", step, d->n);
}

/* Counts of what was odd, said once at the end of reading. Returns whether some records were left out. */
static bool report_data(run *r)
{
    const pg_data *d = &r->data;
    if (d->errors) tool_warn(&r->t, "%zu record%s left out", d->errors, d->errors == 1 ? " with an error was" : "s with errors were");
    if (d->unusable) tool_warn(&r->t, "%zu record%s left out, the first %s", d->unusable, d->unusable == 1 ? " does not fit and was" : "s do not fit and were", d->first_unusable);
    if (d->no_suffix) tool_warn(&r->t, "%zu example%s", d->no_suffix, d->no_suffix == 1 ? " has no suffix: its loss is 0" : "s have no suffix: their loss is 0");
    if (d->no_eos) tool_warn(&r->t, "%zu example%s eos: the model is not taught to stop there", d->no_eos, d->no_eos == 1 ? " has lost its" : "s have lost their");
    if (d->beyond) tool_warn(&r->t, "%zu picture%s pixels outside of [-1, 1]: not what pg-resize makes", d->beyond, d->beyond == 1 ? " has" : "s have");
    return d->errors || d->unusable;
}

static bool stopped(const run *r)
{
    return r->patience && r->progress.worse >= r->patience;
}

/* Where an earlier run was stopped. */
static void resume(run *r)
{
    pg_err err = {0};
    int there = pg_file_there(r->state_path, &err);
    if (there < 0) train_fail(r, &err);
    if (!there && r->save_every && pg_is_dir(r->state_path)) tool_die(&r->t, EXIT_FAIL, "'%s', where the state is to be saved, is a folder", r->state_path);
    if (r->resume && there) {
        TRY(pg_state_load(r->state_path, r->m, &r->opt, &r->progress, r->fingerprint, e));
        tool_info(&r->t, "resuming after step %zu of %zu", r->progress.step, r->steps);
        if (r->progress.moved)
            tool_warn(&r->t, "'%s' is of a machine with other instructions: the result will not be the bits of an uninterrupted run", r->state_path);
        if (r->progress.other_val) tool_warn(&r->t, "'%s' was validated on other examples: its smallest loss is forgotten", r->state_path);
        r->data.skip = true;
        for (size_t s = 0; r->stream && s < r->progress.step * r->accumulate; s++) {
            pg_data_clear(&r->data);
            read_some(r, r->batch);
        }
        r->data.skip = false;
    } else if (r->resume) {
        tool_info(&r->t, "no '%s': starting from the beginning", r->state_path);
    } else if (there) {
        tool_warn(&r->t, "'%s' of an earlier run is not used; --resume would", r->state_path);
    }
}

static void train(run *r)
{
    size_t longest = 0;
    for (size_t i = 0; i < r->data.n; i++)
        if (longest < r->data.items[i].n) longest = r->data.items[i].n;
    train_share_gradients(r, r->stream ? SIZE_MAX : r->m->s.n_image + longest);
    if (longest) train_fit_memory(r, r->m->s.n_image + longest);
    float *rows = pg_floats(r->batch * pg_data_row(&r->data, r->m));
    pg_example *ex = pg_calloc(r->batch, sizeof *ex);
    size_t *idx = pg_calloc(r->batch, sizeof *idx);
    pg_progress *p = &r->progress;
    if (!rows || !ex || !idx) tool_no_memory(&r->t);
    while (p->step < r->steps && !stopped(r)) {
        size_t step = p->step + 1;
        step_once(r, step, rows, ex, idx);
        if (r->val && (step == r->steps || (r->val_every && step % r->val_every == 0))) val_run(r, step);
        p->step = step;
        if (r->save_every && step % r->save_every == 0) train_save_state(r);
    }
    free(rows);
    free(ex);
    free(idx);
}

static void finish(run *r)
{
    pg_progress *p = &r->progress;
    if (stopped(r)) {
        tool_info(&r->t, "stopped after step %zu of %zu: the smallest validation loss was %.4f at step %zu", p->step, r->steps, p->best_loss,
                  p->best_step);
        event_begin(r, "stop", p->step);
        event_int(r, "best_step", p->best_step);
        event_num(r, "best_loss", p->best_loss);
        event_emit(r);
    }
    if (r->stream) train_report_examples(r);
    train_check_end(r);
    train_save_weights(r, r->weights_out, r->out_dir);
    event_begin(r, "done", p->step);
    event_str(r, "path", r->weights_out);
    event_emit(r);
}

void train_open(run *r)
{
    r->opt.lr = r->lr;
    r->opt.grad_scale = 1.0 / (double)r->accumulate;
    TRY(pg_kern_new(&r->kern, r->t.threads, e));
    if (r->bf16) TRY(pg_kern_use_bf16(r->kern, e));
    TRY(pg_model_open(&r->m, r->model, r->lora ? NULL : r->train, r->kern, e));
    if (r->lora) train_make_adapter(r);
    TRY(pg_model_pack(r->m, true, e)); /* what is not trained */
    TRY(pg_work_new(&r->work, e));
}

/* Of --epochs, rounded up; 1.1 epochs of 90 examples are 99.00000000000001 in double, and 99 steps of 1. */
static size_t steps_of(const run *r)
{
    double n = (r->epochs > 0 ? r->epochs : 1) * (double)r->data.n / (double)(r->batch * r->accumulate), whole = nearbyint(n);
    n = fabs(n - whole) < 1e-9 * whole ? whole : ceil(n);
    return n < 1 ? 1 : (size_t)n;
}

static void set_up(run *r)
{
    train_greet(r);
    train_open(r);
    train_compare(r);
    tool_open_in(&r->t, &r->p, STDIN_FILENO, "standard input", "examples");
    tool_open_out(&r->t, &r->p, "events", NULL);
    train_choose_output(r);
    train_open_tokenizer(r);
    train_check_settings(r);
    if (!(r->event = pg_rec_new())) tool_no_memory(&r->t);
    if (r->val) val_load(r);
    r->data.seen = train_see;
    r->data.ctx = r;
    if (!r->stream) {
        read_some(r, 0);
        report_data(r);
        train_report_examples(r);
        check_data(r);
        if (!r->steps) r->steps = steps_of(r);
        TRY(pg_order_new(&r->order, r->data.n, r->seed, r->shuffle, e));
    }
    TRY(pg_optim_init(&r->opt, r->m, e));
    train_set_mults(r);
    make_fingerprint(r);
    resume(r);
    train_share_state(r);
    r->data.pixels = pg_trains_image(r->m);
}

static void tear_down(run *r)
{
    train_part(r);
    free(r->out_dir);
    free(r->best_dir);
    free(r->best_out);
    free(r->state_path);
    free(r->weights_out);
    free(r->fingerprint);
    pg_order_free(&r->order);
    pg_data_free(&r->data);
    val_free(r);
    train_check_free(r);
    pg_optim_free(&r->opt);
    pg_rec_free(r->event);
    pg_tokenizer_free(r->tok);
    pg_work_free(r->work);
    pg_model_close(r->m);
    pg_kern_free(r->kern);
}

int main(int argc, char **argv)
{
    static run r = {.train = "attention", .batch = 8, .accumulate = 1, .lr = 0.03, .warmup = 0.1, .shuffle = true, .memory = (size_t)2 << 30,
             .val_captions = SIZE_MAX, .val_length = 64, .opt = {.kind = PG_SGD, .b1 = 0.9, .b2 = 0.999, .eps = 1e-8}};
    train_join(&r);
    if (r.link && r.link->rank) return train_worker(&r, argc, argv);
    train_parse(&r, argc, argv);
    set_up(&r);
    train(&r);
    finish(&r);
    bool left_out = r.stream ? report_data(&r) : r.data.errors || r.data.unusable;
    int status = tool_finish(&r.t, &r.p, NULL);
    tear_down(&r);
    return status ? status : left_out ? EXIT_RECORDS : EXIT_OK;
}
