/* The loop over records: they come while there is room, replicas caption them, and they go in the order they came. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "infer.h"
#include "kernels/probe.h"

/* The bytes of a record's id, as they are in the stream; NULL where it has none. */
static const unsigned char *raw_id(const pg_rec *r, size_t *len)
{
    for (size_t i = 0; i < pg_rec_count(r); i++)
        if (!strcmp(pg_rec_key(r, i), "id"))
            return pg_rec_raw(r, i, len);
    return NULL;
}

/* ---- captions ---- */
/* A text so far, as {id, partial}. */
static void say(infer *f, const slot *s, const int32_t *tokens, size_t n)
{
    pg_rec *r = f->partial_rec;
    size_t len;
    const unsigned char *id;
    pg_err e = {0};
    pg_rec_clear(r);
    if ((id = raw_id(s->rec, &len)))
        tool_must(&f->t, pg_rec_set_raw(r, "id", id, len, &e), &e);
    f->text.len = 0;
    /* What cannot be decoded is told of with the finished caption. */
    int rc = f->tok ? pg_tokenizer_decode(f->tok, tokens, n, &f->text, &e) : PG_OK;
    if (rc && rc != PG_ENOMEM)
        return;
    tool_must(&f->t, rc, &e);
    tool_must(&f->t, pg_rec_set_str(r, "partial", (const char *)f->text.data, f->text.len, &e), &e);
    tool_put(&f->t, &f->p, r);
}

/* What was told of a record; true: something. */
static bool say_told(infer *f, slot *s)
{
    bool any = s->said.len > 0;
    for (size_t at = 0; at < s->said.len;) {
        const int32_t *text = (const int32_t *)(const void *)(s->said.data + at);
        say(f, s, text + 1, (size_t)text[0]);
        at += (1 + (size_t)text[0]) * sizeof *text;
    }
    s->said.len = 0;
    return any;
}

static void set_caption(infer *f, slot *s)
{
    const pg_caption *c = &s->caption;
    pg_err e = {0};
    pg_rec *r = s->rec;
    f->text.len = 0;
    if (c->err.code || (f->tok && pg_tokenizer_decode(f->tok, c->tokens, c->n, &f->text, &e))) {
        tool_record_reason(&f->t, r, s->id, c->err.code ? c->err.msg : e.msg);
        return;
    }
    if (f->tok) {
        tool_must(&f->t, pg_rec_set_str(r, "caption", (const char *)f->text.data, f->text.len, &e), &e);
        tool_same_add(&f->t, &f->same, f->text.len ? (const char *)f->text.data : "", f->text.len, s->picture);
    } else {
        pg_rec_del(r, "caption");
    }
    tool_must(&f->t, pg_rec_set_ints(r, "caption_tokens", c->tokens, c->n, &e), &e);
    tool_must(&f->t, pg_rec_set_double(r, "logprob", c->logprob, &e), &e);
    if (c->ended)
        pg_rec_del(r, "truncated");
    else
        tool_must(&f->t, pg_rec_set_bool(r, "truncated", true, &e), &e);
    f->cut += !c->ended;
    f->tokens += c->n;
    f->done++;
}

/* Which random numbers: those of the record's id, so that they do not depend on its place; of its place where it has no id. */
static uint64_t stream_of(const infer *f, const pg_rec *r)
{
    size_t len;
    const char *text;
    int rc = pg_rec_str(r, "id", &text, &len, NULL);
    if (rc > 0) /* its bytes, in whichever of msgpack's widths it is written */
        return pg_mix(PG_MIX, text, len);
    const unsigned char *id = rc < 0 ? raw_id(r, &len) : NULL;
    return id ? pg_mix(PG_MIX, id, len) : f->come + 1;
}

/* ---- scores ---- */
static void set_score(infer *f, slot *s)
{
    pg_err e = {0};
    double sum = 0, *v;
    size_t n = 0;
    if (s->err.code) {
        tool_record_reason(&f->t, s->rec, s->id, s->err.msg);
        return;
    }
    if (!(v = pg_alloc(s->sample.n_loss, sizeof *v)))
        tool_no_memory(&f->t);
    for (size_t i = 1; i < s->sample.n; i++)
        if (s->sample.mask_loss[i])
            sum += v[n++] = (double)s->made[i];
    tool_must(&f->t, pg_rec_set_double(s->rec, "logprob", sum, &e), &e);
    tool_must(&f->t, pg_rec_set_doubles(s->rec, "token_logprobs", v, n, &e), &e);
    f->tokens += n;
    f->done++;
    free(v);
}

/* ---- features ---- */
static void set_features(infer *f, slot *s)
{
    if (!s->err.code && !pg_sample_set_features(s->rec, f->m, s->made, f->half, &s->err)) {
        f->done++;
        return;
    }
    if (s->err.code == PG_ENOMEM)
        tool_no_memory(&f->t);
    tool_record_reason(&f->t, s->rec, s->id, s->err.msg);
}

/* ---- coming and going ---- */
/* What decoding and scoring cannot see: a prompt without the new line that training puts behind it, a text without its end. */
static void look_at(infer *f, slot *s)
{
    const pg_sample *x = &s->sample;
    int32_t newline = f->tok ? pg_tokenizer_newline(f->tok) : -1;
    if (f->tok && !f->score && tool_same_wants(&f->same))
        s->picture = pg_sample_picture(x, &f->m->s);
    if (newline >= 0 && x->tokens[x->n_prefix - 1] != newline && !f->no_newline++)
        memcpy(f->first_no_newline, s->id, sizeof f->first_no_newline);
    f->no_eos += x->n_loss && x->tokens[x->n - 1] != PG_EOS;
}

/* Warnings of what was counted. */
static void remarks(infer *f)
{
    if (f->cut)
        tool_warn(&f->t, "%" PRIu64 " caption%s cut at %zu tokens", f->cut, f->cut == 1 ? " was" : "s were", f->how.max_len);
    if (f->no_newline)
        tool_warn(&f->t, "%" PRIu64 " prefix%s without the new line that parts it from the suffix (pg-tokenize adds it); the first is '%s'", f->no_newline,
                  f->no_newline == 1 ? " ends" : "es end", f->first_no_newline);
    if (f->score && f->no_eos)
        tool_warn(&f->t, "%" PRIu64 " suffix%s lost the eos: the score is of a text that goes on", f->no_eos, f->no_eos == 1 ? " has" : "es have");
    if (f->beyond)
        tool_warn(&f->t, "%" PRIu64 " picture%s pixels outside of [-1, 1]: not what pg-resize makes", f->beyond, f->beyond == 1 ? " has" : "s have");
    tool_same_warn(&f->t, &f->same, "captions");
}

/* A record into the next slot. 1: there; 0: the stream has ended; < 0: it is bad. */
static int come(infer *f, pg_err *e)
{
    slot *s = &f->slots[f->come % f->n_slots];
    pg_err why = {0};
    int rc = tool_read(&f->p, e);
    if (rc <= 0)
        return rc;
    tool_id(&f->p, s->id, sizeof s->id);
    pg_rec *got = f->p.rec;
    f->p.rec = s->rec;
    s->rec = got;
    s->finished = true;
    s->err = (pg_err){0};
    if (pg_rec_passes(s->rec)) {
        s->sample.n = 0;
    } else if ((f->features ? pg_sample_pixels : pg_sample_read)(&s->sample, &f->m->s, s->rec, &why)) {
        if (why.code == PG_ENOMEM)
            tool_no_memory(&f->t);
        tool_record_reason(&f->t, s->rec, s->id, why.msg);
    } else if (f->score && !s->sample.n_loss) {
        tool_record_reason(&f->t, s->rec, s->id, "no suffix to score");
    } else {
        f->beyond += s->sample.beyond;
        if (!f->features)
            look_at(f, s);
        s->caption = (pg_caption){.pixels = s->sample.pixels, .features = s->sample.has_features ? s->sample.features : NULL,
                                  .prefix = s->sample.tokens, .n_prefix = s->sample.n_prefix, .stream = stream_of(f, s->rec),
                                  .tokens = s->tokens};
        s->finished = false;
    }
    f->come++;
    pthread_mutex_lock(&f->lock);
    f->ready = f->come;
    pthread_cond_signal(&f->arrived);
    pthread_mutex_unlock(&f->lock);
    return 1;
}

/* What was told, and those that are finished, up to the first that is not; true: something. All is looked at in one moment: what was
 * told of a later record must not overtake one that was finished before. */
static bool go(infer *f)
{
    size_t to;
    bool any = false;
    pthread_mutex_lock(&f->lock);
    for (to = f->gone; to < f->come && f->slots[to % f->n_slots].finished; to++)
        ;
    for (size_t i = f->gone; f->partial && i < f->come; i++) {
        slot *s = &f->slots[i % f->n_slots];
        pg_buf told = s->told;
        s->told = s->said;
        s->said = told;
    }
    pg_err failed = f->failed;
    pthread_mutex_unlock(&f->lock);
    for (; f->gone < to; f->gone++) {
        slot *s = &f->slots[f->gone % f->n_slots];
        any = true;
        (void)say_told(f, s);
        if (!pg_rec_passes(s->rec))
            (f->features ? set_features : f->score ? set_score : set_caption)(f, s);
        tool_put(&f->t, &f->p, s->rec);
    }
    tool_must(&f->t, failed.code, &failed);
    for (size_t i = to; i < f->come; i++)
        any = say_told(f, &f->slots[i % f->n_slots]) || any;
    return any;
}

static void work(infer *f)
{
    pg_err e = {0}, ignored;
    int more = 1;
    while (more > 0 || f->gone < f->come) {
        bool room = more > 0 && f->come - f->gone < f->n_slots, read = room && pg_reader_ready(f->p.in);
        if (read)
            more = come(f, &e);
        if (go(f) || read)
            continue;
        tool_must(&f->t, pg_writer_flush(f->p.out, &ignored), &ignored);
        infer_wait(f, room);
    }
    if (more < 0)
        tool_bad_stream(&f->t, &f->p, &e);
}

int main(int argc, char **argv)
{
    infer f = {0};
    double start;
    infer_parse(&f, argc, argv);
    tool_open_in(&f.t, &f.p, 0, "standard input", "examples");
    infer_set_up(&f);
    tool_open_out(&f.t, &f.p, NULL, NULL);
    start = pg_seconds();
    infer_start(&f);
    work(&f);
    infer_stop(&f);
    remarks(&f);
    tool_note(&f.t, "%" PRIu64 " records, %" PRIu64 " tokens in %.1f s", f.done, f.tokens, pg_seconds() - start);
    infer_tear_down(&f);
    return tool_finish(&f.t, &f.p, NULL);
}
