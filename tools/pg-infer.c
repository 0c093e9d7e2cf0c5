/* The loop over records: they come while there is room, replicas caption them, and they go in the order they came. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "infer.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(infer *f, int rc, const pg_err *e)
{
    if (rc)
        tool_die(&f->t, EXIT_FAIL, "%s", e->msg);
}

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
        must(f, pg_rec_set_raw(r, "id", id, len, &e), &e);
    f->text.len = 0;
    /* What cannot be decoded is told of with the finished caption. */
    int rc = f->tok ? pg_tokenizer_decode(f->tok, tokens, n, &f->text, &e) : PG_OK;
    if (rc && rc != PG_ENOMEM)
        return;
    must(f, rc, &e);
    must(f, pg_rec_set_str(r, "partial", (const char *)f->text.data, f->text.len, &e), &e);
    tool_put(&f->t, &f->p, r);
}

/* What replicas have told of since; true: something. */
static bool say_all(infer *f)
{
    bool any = false;
    for (size_t i = f->gone; f->partial && i < f->come; i++) {
        slot *s = &f->slots[i % f->n_slots];
        pthread_mutex_lock(&f->lock);
        pg_buf got = s->told;
        s->told = f->said;
        s->told.len = 0;
        f->said = got;
        pthread_mutex_unlock(&f->lock);
        for (size_t at = 0; at < got.len; any = true) {
            const int32_t *text = (const int32_t *)(const void *)(got.data + at);
            say(f, s, text + 1, (size_t)text[0]);
            at += (1 + (size_t)text[0]) * sizeof *text;
        }
    }
    return any;
}

static void set_caption(infer *f, slot *s)
{
    const pg_caption *c = &s->caption;
    pg_err e = {0};
    pg_rec *r = s->rec;
    f->text.len = 0;
    if (c->err.code || (f->tok && pg_tokenizer_decode(f->tok, c->tokens, c->n, &f->text, &e))) {
        tool_record_error(&f->t, r, "'%s': %s", s->id, c->err.code ? c->err.msg : e.msg);
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

/* Which random numbers: those of the record's id, so that they do not depend on its place; of its place where it has no id. */
static uint64_t stream_of(const infer *f, const pg_rec *r)
{
    size_t len;
    const unsigned char *id = raw_id(r, &len);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    if (!id)
        return f->come + 1;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ id[i]) * 0x100000001b3u;
    return hash;
}

/* ---- scores ---- */
/* A msgpack array of doubles. */
static void set_doubles(infer *f, pg_rec *r, const char *key, const double *v, size_t n)
{
    pg_err e = {0};
    size_t bytes = 5 + 9 * n, at = 5;
    unsigned char *b = pg_alloc(bytes, 1);
    if (!b)
        infer_no_memory(f);
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
    double sum = 0, *v;
    size_t n = 0;
    if (s->err.code) {
        tool_record_error(&f->t, s->rec, "'%s': %s", s->id, s->err.msg);
        return;
    }
    if (!(v = pg_alloc(s->sample.n_loss, sizeof *v)))
        infer_no_memory(f);
    for (size_t i = 1; i < s->sample.n; i++)
        if (s->sample.mask_loss[i])
            sum += v[n++] = (double)s->logp[i];
    must(f, pg_rec_set_double(s->rec, "logprob", sum, &e), &e);
    set_doubles(f, s->rec, "token_logprobs", v, n);
    f->tokens += n;
    f->done++;
    free(v);
}

/* ---- coming and going ---- */
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
    if (pg_rec_has_error(s->rec)) {
        s->sample.n = 0;
    } else if (pg_sample_read(&s->sample, &f->m->s, s->rec, &why)) {
        if (why.code == PG_ENOMEM)
            infer_no_memory(f);
        tool_record_error(&f->t, s->rec, "'%s': %s", s->id, why.msg);
    } else if (f->score && !s->sample.n_loss) {
        tool_record_error(&f->t, s->rec, "'%s': no suffix to score", s->id);
    } else {
        s->caption = (pg_caption){.pixels = s->sample.pixels, .prefix = s->sample.tokens, .n_prefix = s->sample.n_prefix,
                                  .stream = stream_of(f, s->rec), .tokens = s->tokens};
        s->finished = false;
    }
    f->come++;
    pthread_mutex_lock(&f->lock);
    f->ready = f->come;
    pthread_cond_signal(&f->arrived);
    pthread_mutex_unlock(&f->lock);
    return 1;
}

/* What was told, and those that are finished, up to the first that is not; true: something. */
static bool go(infer *f)
{
    size_t from = f->gone, to;
    pthread_mutex_lock(&f->lock);
    for (to = from; to < f->come && f->slots[to % f->n_slots].finished; to++)
        ;
    pg_err failed = f->failed;
    pthread_mutex_unlock(&f->lock);
    bool said = say_all(f); /* of theirs too, before they go */
    for (; f->gone < to; f->gone++) {
        slot *s = &f->slots[f->gone % f->n_slots];
        if (!pg_rec_has_error(s->rec))
            (f->score ? set_score : set_caption)(f, s);
        tool_put(&f->t, &f->p, s->rec);
    }
    must(f, failed.code, &failed);
    return said || to > from;
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
        must(f, pg_writer_flush(f->p.out, &ignored), &ignored);
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
    tool_open_in(&f.t, &f.p, 0, "stdin", "examples");
    infer_set_up(&f);
    tool_open_out(&f.t, &f.p, NULL, NULL);
    start = seconds();
    infer_start(&f);
    work(&f);
    infer_stop(&f);
    if (f.cut)
        tool_warn(&f.t, "%" PRIu64 " caption%s cut at %zu tokens", f.cut, f.cut == 1 ? " was" : "s were", f.how.max_len);
    tool_note(&f.t, "%" PRIu64 " records, %" PRIu64 " tokens in %.1f s", f.done, f.tokens, seconds() - start);
    infer_tear_down(&f);
    return tool_finish(&f.t, &f.p, NULL);
}
