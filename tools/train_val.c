/* Validation: the loss of all held-out examples and their captions, as events; the best checkpoint; when to stop. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "metrics/metrics.h"
#include "model/decode.h"
#include "train.h"

enum { LOSS_BATCH = 8, SEATS = 16, PICTURE_SIDE = 224 };

/* ---- the set ---- */
/* A small picture from the encoded image, else from the pixels; none where there is neither. */
static void add_picture(run *r, pg_image *image, const pg_rec *rec)
{
    const unsigned char *p;
    pg_buf jpeg = {0};
    pg_tensor x;
    size_t n, side = r->m->s.image_size;
    pg_err err = {0};
    bool ok = pg_rec_bin(rec, "image", &p, &n, NULL) == 1 && !pg_image_thumbnail(image, p, n, PICTURE_SIDE, &jpeg, &err);
    if (err.code == PG_ENOMEM) train_fail(r, &err);
    if (!ok && pg_rec_tensor(rec, "pixels", &x, NULL) == 1) { /* pg_sample_read has seen to its type and size */
        float *v = pg_floats(side * side * 3);
        if (!v) train_no_memory(r);
        memcpy(v, x.data, x.bytes);
        jpeg.len = 0;
        ok = !pg_image_encode(v, side, &jpeg, &err);
        if (err.code == PG_ENOMEM) train_fail(r, &err);
        free(v);
    }
    if (ok) TRY(pg_rec_set_bin(r->event, "image", jpeg.data, jpeg.len, e));
    pg_buf_free(&jpeg);
}

/* The picture and what is known of an example, once, so that a report can show it beside the captions that follow. */
static void tell_example(run *r, pg_image *image, const pg_rec *rec)
{
    static const char *const keys[] = {"id", "source", "prefix", "suffix", "references"};
    event_begin(r, "example", 0);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t i = 0; i < pg_rec_count(rec); i++) {
            size_t n;
            if (strcmp(pg_rec_key(rec, i), keys[k])) continue;
            const unsigned char *raw = pg_rec_raw(rec, i, &n);
            TRY(pg_rec_set_raw(r->event, keys[k], raw, n, e));
        }
    add_picture(r, image, rec);
    tool_put(&r->t, &r->p, r->event);
}

typedef struct loading {
    run *r;
    pg_image *image;
} loading;

static int keep_texts(void *ctx, size_t i, const pg_rec *rec, pg_err *err)
{
    const loading *l = ctx;
    run *r = l->r;
    val_text *v;
    const char *suffix;
    size_t n;
    if (i == r->val_texts_room) {
        size_t room = i ? 2 * i : 64;
        if (!(v = pg_realloc(r->val_texts, room, sizeof *v))) return pg_error_nomem(err);
        r->val_texts = v;
        r->val_texts_room = room;
    }
    v = &r->val_texts[i];
    *v = (val_text){0};
    int rc = pg_rec_strs(rec, "references", &v->references, &v->n_references, err);
    if (rc == PG_ENOMEM) return rc;
    if (rc < 0) tool_warn(&r->t, "validation example %zu: %s: it has no part in scores", i + 1, err->msg);
    if (rc != 1 || !v->n_references) {
        pg_strs_free(v->references, v->n_references);
        v->references = NULL;
        v->n_references = 0;
        if (rc >= 0 && pg_rec_str(rec, "suffix", &suffix, &n, NULL) == 1 && n) {
            if (!(v->references = pg_calloc(1, sizeof *v->references)) || !(v->references[0] = pg_strndup(suffix, n))) return pg_error_nomem(err);
            v->n_references = 1;
        }
    }
    if (i < r->val_captions) tell_example(r, l->image, rec);
    return PG_OK;
}

void val_load(run *r)
{
    pg_err err = {0};
    pg_reader *rd = NULL;
    pg_rec *header = pg_rec_new();
    loading l = {.r = r};
    int fd = open(r->val, O_RDONLY | O_CLOEXEC);
    if (fd < 0) tool_die(&r->t, EXIT_FAIL, "cannot open '%s': %s", r->val, strerror(errno));
    if (!header) train_no_memory(r);
    TRY(pg_reader_new(&rd, fd, r->val, e));
    TRY(pg_image_new(&l.image, e));
    pg_reader_limit(rd, tool_max_record(&r->t));
    r->val_data.seen = keep_texts;
    r->val_data.ctx = &l;
    if (pg_reader_header(rd, header, &err) < 0 || pg_data_read(&r->val_data, rd, r->m, 0, r->memory, &err) < 0)
        tool_die(&r->t, err.code == PG_EFORMAT || err.code == PG_ELIMIT ? EXIT_STREAM : EXIT_FAIL, "%s", err.msg);
    r->val_data.seen = NULL;
    pg_image_free(l.image);
    pg_reader_free(rd);
    pg_rec_free(header);
    close(fd);
    if (!r->val_data.n) tool_die(&r->t, EXIT_FAIL, "'%s' holds no example that can be used", r->val);
    if (r->val_data.errors || r->val_data.unusable)
        tool_warn(&r->t, "%zu record%s of '%s' cannot be used%s%s", r->val_data.errors + r->val_data.unusable,
                  r->val_data.errors + r->val_data.unusable == 1 ? "" : "s", r->val,
                  r->val_data.unusable ? ", the first " : "", r->val_data.first_unusable);
    if (r->val_data.no_suffix == r->val_data.n && (r->keep_best || r->patience))
        tool_die(&r->t, EXIT_FAIL, "no example of '%s' has a suffix: there is no loss to judge by", r->val);
    if (r->val_data.no_suffix)
        tool_warn(&r->t, "%zu of %zu examples of '%s' %s no suffix: each counts as a loss of 0", r->val_data.no_suffix, r->val_data.n, r->val,
                  r->val_data.no_suffix == 1 ? "has" : "have");
    if (r->val_data.no_eos)
        tool_warn(&r->t, "%zu example%s of '%s' %s eos", r->val_data.no_eos, r->val_data.no_eos == 1 ? "" : "s", r->val,
                  r->val_data.no_eos == 1 ? "has lost its" : "have lost their");
    if (r->val_data.beyond)
        tool_warn(&r->t, "%zu picture%s of '%s' %s pixels outside of [-1, 1]: not what pg-resize makes", r->val_data.beyond,
                  r->val_data.beyond == 1 ? "" : "s", r->val, r->val_data.beyond == 1 ? "has" : "have");
    r->progress.val = r->val_data.hash;
    train_index_val(r);
}

void val_free(run *r)
{
    for (size_t i = 0; i < r->val_data.n; i++) pg_strs_free(r->val_texts[i].references, r->val_texts[i].n_references);
    free(r->val_texts);
    pg_data_free(&r->val_data);
}

/* ---- loss ---- */
static size_t batch_of(const pg_data *d, size_t i, size_t k)
{
    size_t from = i + k * LOSS_BATCH, left = from < d->n ? d->n - from : 0;
    return left < LOSS_BATCH ? left : LOSS_BATCH;
}

static double val_loss(run *r)
{
    const pg_data *d = &r->val_data;
    size_t ranks = train_ranks(r);
    float *rows = pg_floats(LOSS_BATCH * pg_data_row(d, r->m));
    double sum = 0;
    if (!rows) train_no_memory(r);
    for (size_t i = 0; i < d->n; i += LOSS_BATCH * ranks) {
        pg_example ex[LOSS_BATCH];
        size_t idx[LOSS_BATCH], n = 0;
        double loss = 0;
        for (size_t k = ranks; k-- > 0;) { /* batch k to rank k, rank 0's own last */
            if (!(n = batch_of(d, i, k))) continue;
            for (size_t j = 0; j < n; j++) idx[j] = i + k * LOSS_BATCH + j;
            TRY(pg_data_batch(d, r->m, idx, n, rows, ex, e));
            if (k) train_ask_loss(r, k, ex, n);
        }
        TRY(pg_loss(r->m, r->work, ex, n, false, 0, &loss, NULL, NULL, 0, e));
        sum += loss * (double)n;
        for (size_t k = 1; k < ranks && (n = batch_of(d, i, k)); k++) sum += train_take_loss(r, k) * (double)n;
    }
    r->working = false;
    free(rows);
    return sum / (double)d->n;
}

/* ---- captions ---- */
typedef struct captions {
    size_t n;
    pg_caption *c;   /* [n] */
    int32_t *tokens; /* [n][val_length] */
    char **text;     /* [n] NULL: no tokenizer, or no text */
} captions;

/* Captions c[0..n) on a few seats, each with a row for its picture where that comes from a file. */
static void decode(run *r, captions *v)
{
    const pg_data *d = &r->val_data;
    size_t row = pg_data_row(d, r->m), seats = v->n < SEATS ? v->n : SEATS, next = 0;
    const pg_caption *sits[SEATS] = {0};
    float *rows = pg_floats(seats * row);
    pg_decoder *decoder;
    if (!rows) train_no_memory(r);
    TRY(pg_decoder_new(&decoder, r->m, r->work, &(pg_decoding){.max_len = r->val_length}, seats, e));
    while (next < v->n || pg_decoder_seated(decoder)) {
        for (size_t k = 0; k < seats && next < v->n; k++) {
            pg_caption *c = &v->c[next];
            const float *picture;
            if (sits[k]) continue;
            TRY(pg_store_get(d->store, next, rows + k * row, &picture, e));
            *c = (pg_caption){.prefix = d->items[next].tokens, .n_prefix = d->items[next].n_prefix, .tokens = v->tokens + next * r->val_length};
            if (d->pixels) c->pixels = picture;
            else c->features = picture;
            sits[k] = pg_decoder_add(decoder, c) ? c : NULL;
            next++;
        }
        TRY(pg_decoder_step(decoder, e));
        for (const pg_caption *c; (c = pg_decoder_take(decoder)) != NULL;)
            for (size_t k = 0; k < seats; k++)
                if (sits[k] == c) sits[k] = NULL;
    }
    pg_decoder_free(decoder);
    free(rows);
}

/* A caption that cannot be made, or a tokenizer of another model, is no reason to lose the run. */
static void to_text(run *r, captions *v)
{
    for (size_t i = 0; i < v->n; i++) {
        pg_buf b = {0};
        pg_err why = v->c[i].err;
        if (!why.code && !r->tok) continue;
        if (!why.code) (void)!pg_tokenizer_decode(r->tok, v->c[i].tokens, v->c[i].n, &b, &why);
        if (why.code == PG_ENOMEM) train_fail(r, &why);
        if (why.code) tool_warn(&r->t, "no caption of '%s': %s", r->val_data.items[i].id, why.msg);
        else if (!(v->text[i] = pg_strndup(b.len ? (const char *)b.data : "", b.len))) train_no_memory(r);
        pg_buf_free(&b);
    }
}

static captions captions_of(run *r)
{
    captions v = {.n = r->val_captions < r->val_data.n ? r->val_captions : r->val_data.n};
    size_t n;
    if (!pg_mul(v.n, r->val_length, &n) || !(v.c = pg_calloc(v.n, sizeof *v.c)) || !(v.tokens = pg_alloc(n, sizeof *v.tokens)) ||
        !(v.text = pg_calloc(v.n, sizeof *v.text)))
        train_no_memory(r);
    if (v.n) decode(r, &v);
    to_text(r, &v);
    return v;
}

static void captions_free(captions *v)
{
    for (size_t i = 0; i < v->n; i++) free(v->text[i]);
    free(v->text);
    free(v->tokens);
    free(v->c);
}

static void tell_captions(run *r, const captions *v, size_t step)
{
    for (size_t i = 0; i < v->n; i++) {
        event_begin(r, "caption", step);
        event_str(r, "id", r->val_data.items[i].id);
        if (v->text[i]) event_str(r, "caption", v->text[i]);
        TRY(pg_rec_set_ints(r->event, "caption_tokens", v->c[i].tokens, v->c[i].n, e));
        event_num(r, "logprob", v->c[i].logprob);
        event_emit(r);
    }
}

/* ---- scores ---- */
static void warn_of_same(run *r, char *const *caption, size_t n)
{
    tool_same same = {0};
    for (size_t i = 0; i < n; i++) tool_same_add(&r->t, &same, caption[i], strlen(caption[i]), r->val_data.items[i].picture);
    tool_same_warn(&r->t, &same, "validation captions");
    tool_same_free(&same);
}

/* What comparing captions [n] with their references says, as keys of this validation's event; nothing where a caption has no text. */
static void add_scores(run *r, char *const *caption, const val_text *of, size_t n)
{
    static const size_t which[] = {PG_CIDER, PG_EXACT};
    pg_corpus *c;
    for (size_t i = 0; i < n; i++)
        if (!caption[i]) return;
    warn_of_same(r, caption, n);
    TRY(pg_corpus_new(&c, false, e));
    for (size_t i = 0; i < n; i++)
        if (of[i].n_references)
            TRY(pg_corpus_add(c, caption[i], strlen(caption[i]), (const char *const *)of[i].references, of[i].n_references, e));
    if (pg_corpus_images(c)) {
        TRY(pg_corpus_score(c, e));
        pg_scores total = pg_corpus_total(c);
        for (size_t k = 0; k < sizeof which / sizeof *which; k++) event_num(r, pg_metric_name(which[k]), total.v[which[k]]);
    }
    pg_corpus_free(c);
}

/* ---- the best, and the end ---- */
static void judge(run *r, size_t step, double loss)
{
    pg_progress *p = &r->progress;
    if (isfinite(loss) && (!p->best_step || loss < p->best_loss)) {
        p->best_step = step;
        p->best_loss = loss;
        p->worse = 0;
        if (!r->keep_best) return;
        train_save_weights(r, r->best_out, r->best_dir);
        event_begin(r, "best", step);
        event_num(r, "loss", loss);
        event_str(r, "path", r->best_out);
        event_emit(r);
        return;
    }
    p->worse++;
}

void val_run(run *r, size_t step)
{
    double loss = val_loss(r);
    if (!isfinite(loss)) tool_warn(&r->t, "the validation loss after step %zu is not a number", step);
    captions v = captions_of(r);
    event_begin(r, "val", step);
    event_num(r, "loss", loss);
    event_int(r, "examples", r->val_data.n);
    add_scores(r, v.text, r->val_texts, v.n);
    event_emit(r);
    tell_captions(r, &v, step);
    captions_free(&v);
    judge(r, step, loss);
}
