/* The loop over records: they come while seats of the decoder are free, are worked on together, and go in the order they came. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "infer.h"

#define PATIENCE 0.05      /* of the time that was worked */
#define MOST_PATIENCE 0.05 /* seconds: what a single picture may be kept waiting */

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
static int tell(void *ctx, pg_caption *c)
{
    infer *f = ctx;
    pg_rec *r = f->partial_rec;
    size_t len, i = 0;
    const unsigned char *id;
    pg_err e = {0};
    if (c->n && c->tokens[c->n - 1] == PG_EOS)
        return 0;
    while (&f->slots[i].caption != c)
        i++;
    pg_rec_clear(r);
    if ((id = raw_id(f->slots[i].rec, &len)))
        must(f, pg_rec_set_raw(r, "id", id, len, &e), &e);
    f->text.len = 0;
    /* What cannot be decoded is told of with the finished caption. */
    int rc = f->tok ? pg_tokenizer_decode(f->tok, c->tokens, c->n, &f->text, &e) : PG_OK;
    if (rc && rc != PG_ENOMEM)
        return 0;
    must(f, rc, &e);
    must(f, pg_rec_set_str(r, "partial", (const char *)f->text.data, f->text.len, &e), &e);
    tool_put(&f->t, &f->p, r);
    must(f, pg_writer_flush(f->p.out, &e), &e);
    return 0;
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
        return f->come;
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

static void set_score(infer *f, slot *s, const float *logp)
{
    pg_err e = {0};
    double sum = 0, *v = pg_alloc(s->sample.n_loss, sizeof *v);
    size_t n = 0;
    if (!v)
        infer_no_memory(f);
    for (size_t i = 1; i < s->sample.n; i++)
        if (s->sample.mask_loss[i])
            sum += v[n++] = (double)logp[i];
    must(f, pg_rec_set_double(s->rec, "logprob", sum, &e), &e);
    set_doubles(f, s->rec, "token_logprobs", v, n);
    f->tokens += n;
    f->done++;
    free(v);
}

static void score(infer *f, slot *s)
{
    pg_err e = {0};
    float *logp = pg_floats(s->sample.n);
    pg_scoring g = {.pixels = s->sample.pixels, .tokens = s->sample.tokens, .mask_ar = s->sample.mask_ar,
                    .mask_loss = s->sample.mask_loss, .n = s->sample.n, .logp = logp};
    int rc = logp ? pg_score(f->m, f->w, &g, &e) : PG_ENOMEM;
    if (rc == PG_ENOMEM)
        infer_no_memory(f);
    if (rc)
        tool_record_error(&f->t, s->rec, "'%s': %s", s->id, e.msg);
    else
        set_score(f, s, logp);
    free(logp);
}

/* ---- coming and going ---- */
/* Whether another record is there. A pipe holds less than one picture, so a busy neighbour gets a little time to fill it again,
 * a small part of the time that was worked. */
static bool ready(infer *f)
{
    double start = seconds();
    bool is = pg_reader_ready(f->p.in);
    while (!is && seconds() - start < f->patience) {
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
        is = pg_reader_ready(f->p.in);
    }
    f->patience -= seconds() - start;
    return is;
}

/* Reads a record into the next slot and gives it a seat. false: the stream has ended. */
static bool come(infer *f)
{
    slot *s = &f->slots[(f->first + f->held) % f->n_slots];
    pg_err e = {0};
    if (!tool_next(&f->t, &f->p))
        return false;
    tool_id(&f->p, s->id, sizeof s->id);
    pg_rec *got = f->p.rec;
    f->p.rec = s->rec;
    s->rec = got;
    s->finished = true;
    f->held++;
    f->come++;
    if (pg_rec_has_error(s->rec))
        return true;
    if (pg_sample_read(&s->sample, &f->m->s, s->rec, &e)) {
        if (e.code == PG_ENOMEM)
            infer_no_memory(f);
        tool_record_error(&f->t, s->rec, "'%s': %s", s->id, e.msg);
    } else if (f->score && !s->sample.n_loss) {
        tool_record_error(&f->t, s->rec, "'%s': no suffix to score", s->id);
    } else if (f->score) {
        score(f, s);
    } else {
        s->caption = (pg_caption){.pixels = s->sample.pixels, .prefix = s->sample.tokens, .n_prefix = s->sample.n_prefix,
                                  .stream = stream_of(f, s->rec), .tokens = s->tokens};
        s->finished = !pg_decoder_add(f->decoder, &s->caption);
    }
    return true;
}

static void go(infer *f)
{
    for (; f->held && f->slots[f->first].finished; f->held--) {
        tool_put(&f->t, &f->p, f->slots[f->first].rec);
        f->first = (f->first + 1) % f->n_slots;
    }
}

static void step(infer *f)
{
    double start = seconds();
    pg_err e = {0};
    must(f, pg_decoder_step(f->decoder, &e), &e);
    for (const pg_caption *c; (c = pg_decoder_take(f->decoder)) != NULL;)
        for (size_t i = 0; i < f->n_slots; i++)
            if (&f->slots[i].caption == c) {
                set_caption(f, &f->slots[i]);
                f->slots[i].finished = true;
            }
    f->patience += PATIENCE * (seconds() - start);
    if (f->patience > MOST_PATIENCE)
        f->patience = MOST_PATIENCE;
}

static void work(infer *f)
{
    bool more = true;
    while (more || f->held) {
        size_t seated = f->decoder ? pg_decoder_seated(f->decoder) : 0;
        /* With nobody seated there is nothing else to do than to wait for a record. */
        if (more && f->held < f->n_slots && seated < f->batch && (!seated || ready(f)))
            more = come(f);
        else if (seated)
            step(f);
        go(f);
    }
}

int main(int argc, char **argv)
{
    infer f = {0};
    double start;
    infer_parse(&f, argc, argv);
    if (f.partial) {
        f.how.told = tell;
        f.how.ctx = &f;
    }
    tool_open_in(&f.t, &f.p, 0, "stdin", "examples");
    infer_set_up(&f);
    tool_open_out(&f.t, &f.p, NULL, NULL);
    start = seconds();
    work(&f);
    if (f.cut)
        tool_warn(&f.t, "%" PRIu64 " caption%s cut at %zu tokens", f.cut, f.cut == 1 ? " was" : "s were", f.how.max_len);
    tool_note(&f.t, "%" PRIu64 " records, %" PRIu64 " tokens in %.1f s", f.done, f.tokens, seconds() - start);
    infer_tear_down(&f);
    return tool_finish(&f.t, &f.p, NULL);
}
