/* What would go wrong without a word: settings that do nothing, examples that teach nothing or are validated on, weights that stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "train.h"

/* ---- settings ---- */
void train_check_settings(run *r)
{
    bool decays = r->n_wd_mults > 0;
    for (size_t i = 0; i < r->m->n_params; i++) decays = decays || pg_ends_with(r->m->params[i].name, "/kernel");
    if (r->opt.weight_decay > 0 && !decays)
        tool_warn(&r->t, "--weight-decay has no effect: it is of weights named .../kernel, of which none is trained; --wd-mult REGEX=1 chooses others");
    if (r->bf16 && !pg_kern_uses_bf16(r->kern)) tool_warn(&r->t, "--dtype bf16: this CPU has no instructions for it: float32 instead");
}

/* The model's goes into the folder: over that of an earlier run, not over one that was there without weights. */
static void check_tokenizer(run *r, const char *dir, const char *weights)
{
    pg_err e = {0};
    pg_buf b = {0};
    if (!dir || r->lora || pg_is_file(weights)) return;
    char *path = pg_path_join(dir, "tokenizer.model");
    if (!path) tool_no_memory(&r->t);
    int there = pg_file_there(path, &e);
    if (there < 0) train_fail(r, &e);
    if (there) {
        int same = pg_file_read(pg_tokenizer_path(r->tok), (size_t)1 << 28, &b, &e);
        if (!same) same = pg_file_is(path, b.data, b.len, &e);
        if (same < 0) train_fail(r, &e);
        if (!same) tool_die(&r->t, EXIT_FAIL, "cannot write '%s': one of another model is there; choose another folder, or move it away", path);
    }
    pg_buf_free(&b);
    free(path);
}

void train_open_tokenizer(run *r)
{
    pg_err e = {0};
    int rc = pg_tokenizer_open(&r->tok, r->model, &e);
    if (!rc) {
        check_tokenizer(r, r->out_dir, r->weights_out);
        check_tokenizer(r, r->best_dir, r->best_out);
        return;
    }
    if (rc == PG_ENOMEM || rc == PG_EIO) train_fail(r, &e);
    if (r->val && r->val_captions) tool_warn(&r->t, "validation captions stay tokens without text and scores: %s", e.msg);
    else if (r->out_dir && !r->lora) tool_info(&r->t, "no tokenizer goes along into '%s': %s", r->out_dir, e.msg);
}

/* ---- examples ---- */
static int by_id(const void *a, const void *b) { return strcmp((*(const pg_data_item *const *)a)->id, (*(const pg_data_item *const *)b)->id); }

static int by_picture(const void *a, const void *b)
{
    uint64_t x = (*(const pg_data_item *const *)a)->picture, y = (*(const pg_data_item *const *)b)->picture;
    return x < y ? -1 : x > y;
}

void train_index_val(run *r)
{
    held_out *h = &r->held_out;
    size_t n = r->val_data.n;
    h->by_id = pg_alloc(n, sizeof *h->by_id);
    h->by_picture = pg_alloc(n, sizeof *h->by_picture);
    h->same_id = pg_calloc(n, sizeof *h->same_id);
    h->same_picture = pg_calloc(n, sizeof *h->same_picture);
    if (!h->by_id || !h->by_picture || !h->same_id || !h->same_picture) tool_no_memory(&r->t);
    for (size_t i = 0; i < n; i++) h->by_id[i] = h->by_picture[i] = &r->val_data.items[i];
    if (n) qsort(h->by_id, n, sizeof *h->by_id, by_id);
    if (n) qsort(h->by_picture, n, sizeof *h->by_picture, by_picture);
}

/* Marks all of a sorted list that are equal to the key. */
static void mark(const run *r, const pg_data_item *const *list, int (*order)(const void *, const void *), const pg_data_item *key, bool *marks)
{
    size_t n = r->val_data.n;
    const pg_data_item *const *hit = n ? bsearch(&key, list, n, sizeof *list, order) : NULL;
    if (!hit) return;
    size_t lo = (size_t)(hit - list), hi = lo + 1;
    while (lo > 0 && !order(&list[lo - 1], &key)) lo--;
    while (hi < n && !order(&list[hi], &key)) hi++;
    for (; lo < hi; lo++) marks[list[lo] - r->val_data.items] = true;
}

int train_see(void *ctx, size_t i, const pg_rec *rec, pg_err *e)
{
    run *r = ctx;
    const pg_data_item *it = &r->data.items[i];
    int32_t newline = r->tok ? pg_tokenizer_newline(r->tok) : -1;
    (void)rec;
    (void)e;
    if (newline >= 0 && it->tokens[it->n_prefix - 1] != newline && !r->no_newline++) {
        if (*it->id) snprintf(r->first_no_newline, sizeof r->first_no_newline, "%s", it->id);
        else snprintf(r->first_no_newline, sizeof r->first_no_newline, "example %zu", i + 1);
    }
    if (!r->val) return PG_OK;
    if (*it->id) mark(r, r->held_out.by_id, by_id, it, r->held_out.same_id);
    mark(r, r->held_out.by_picture, by_picture, it, r->held_out.same_picture);
    return PG_OK;
}

/* Not with --stream, where items go as they come. */
static void report_repeated(run *r)
{
    size_t n = r->data.n, repeated = 0;
    const pg_data_item **list = pg_alloc(n, sizeof *list);
    if (!list) tool_no_memory(&r->t);
    for (size_t i = 0; i < n; i++) list[i] = &r->data.items[i];
    if (n) qsort(list, n, sizeof *list, by_id);
    for (size_t i = 1; i < n; i++) repeated += *list[i]->id && !by_id(&list[i - 1], &list[i]);
    free(list);
    if (repeated) tool_warn(&r->t, "%zu examples have an id that another one has, too: is something in the stream twice?", repeated);
}

void train_report_examples(run *r)
{
    size_t ids = 0, pictures = 0;
    if (!r->stream) report_repeated(r);
    if (r->no_newline)
        tool_warn(&r->t, "%zu prefix%s without the new line that parts it from the suffix (pg-tokenize adds it); the first is '%s'", r->no_newline,
                  r->no_newline == 1 ? " ends" : "es end", r->first_no_newline);
    for (size_t i = 0; r->val && i < r->val_data.n; i++) {
        ids += r->held_out.same_id[i];
        pictures += r->held_out.same_picture[i] && !r->held_out.same_id[i];
    }
    if (ids) tool_warn(&r->t, "%zu of %zu validation examples have the id of a training example", ids, r->val_data.n);
    if (pictures)
        tool_warn(&r->t, "%zu of %zu validation examples have the picture of a training example, under another id", pictures, r->val_data.n);
}

void train_check_free(run *r)
{
    free(r->held_out.by_id);
    free(r->held_out.by_picture);
    free(r->held_out.same_id);
    free(r->held_out.same_picture);
}

/* ---- steps ---- */
enum { LAST_STEPS = 10, FEW_STEPS = 3 };

void train_see_loss(run *r, size_t step, double loss)
{
    pg_progress *p = &r->progress;
    if (step == 1) p->first_loss = p->last_loss = loss;
    else p->last_loss += (loss - p->last_loss) / (double)(step < LAST_STEPS ? step : LAST_STEPS);
    p->high = loss > p->first_loss + 1 ? p->high + 1 : 0;
}

/* Worse than it began. A step's loss goes up and down by itself: on the demo's captions with a standard deviation of 0.2 for 8 examples and
 * of 0.6 for one, more where some captions are known already. One nat more, a token's probability divided by e, in each of the last ten
 * steps, or in all but the first where they are fewer, is hardly that. */
static void check_rise(run *r)
{
    const pg_progress *p = &r->progress;
    if (p->high >= FEW_STEPS && (p->high >= LAST_STEPS || p->high + 1 == p->step))
        tool_warn(&r->t, "the loss rose from %.4g in the first step to %.4g at the end: what the model knew may be lost; try a smaller --lr or --clip 1",
                  p->first_loss, p->last_loss);
}

void train_check_step(run *r, size_t step, size_t tokens, bool changed, double rate)
{
    if (!tokens && !r->steps_empty++) tool_warn(&r->t, "step %zu: no example of it has a suffix, so nothing is learnt", step);
    bool ends = rate < r->opt.lr / 100; /* of the schedule, where next to nothing is to change */
    if (tokens && !changed && rate > 0 && !ends && !r->steps_idle++) tool_warn(&r->t, "step %zu changed no weight: the learning rate is too small", step);
}

/* ---- the end ---- */
typedef struct changes {
    size_t all, bf16; /* values that differ from the file's; that still do, both rounded to bfloat16 */
} changes;

static void compare(changes *c, const float *was, const float *is, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        c->all += was[i] < is[i] || was[i] > is[i];
        c->bf16 += pg_f32_to_bf16(was[i]) != pg_f32_to_bf16(is[i]);
    }
}

static void count_changes(run *r, const pg_param *p, changes *c)
{
    const pg_canonical *k = NULL;
    float *was = pg_floats(p->per_layer);
    if (!was) tool_no_memory(&r->t);
    for (size_t i = 0; !k && i < pg_canonical_count(r->m->weights); i++)
        if (!strcmp(pg_canonical_at(r->m->weights, i)->name, p->name)) k = pg_canonical_at(r->m->weights, i);
    for (size_t l = 0; k && l < p->layers; l++) {
        size_t parts = k->parts ? k->parts : 1, at = 0;
        for (size_t i = 0; i < parts; i++) {
            pg_view v;
            TRY(pg_weights_view(r->m->weights, p->name, l, k->parts ? i : PG_WHOLE, &v, e));
            pg_view_widen(&v, was + at);
            at += v.count;
        }
        compare(c, was, p->w + l * p->per_layer, p->per_layer);
    }
    free(was);
}

void train_check_end(run *r)
{
    changes c = {0};
    if (r->steps_empty > 1) tool_warn(&r->t, "%zu steps had no example with a suffix", r->steps_empty);
    if (r->steps_idle > 1) tool_warn(&r->t, "%zu steps changed no weight", r->steps_idle);
    check_rise(r);
    if (r->lora) return; /* an adapter is new in all of its values */
    for (size_t i = 0; i < r->m->n_params; i++) count_changes(r, &r->m->params[i], &c);
    if (!c.all && r->opt.lr > 0) tool_warn(&r->t, "no weight differs from '%s': nothing was learnt", r->model);
    else if (c.bf16 < (c.all + 99) / 100)
        tool_warn(&r->t, "of %zu weights that changed, %zu still differ in bfloat16: with --dtype bf16, here or in pg-infer or pg-convert, most is lost", c.all, c.bf16);
    else tool_note(&r->t, "%zu weights changed, %zu of them in bfloat16, too", c.all, c.bf16);
}
