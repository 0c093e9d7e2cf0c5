/* Scores as text and JSON. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "score.h"

static void warn(pg_tool *t, const set *s, const pg_caption_facts *f)
{
    const item *first = s->items;
    while (first->why_not)
        first++;
    if (s->scored == 1)
        tool_warn(t, "'%s': one caption: CIDEr weighs words by how few pictures they belong to, so with one picture it is 0 whatever the caption", s->name);
    else if (f->distinct == 1)
        tool_warn(t, "'%s': all %zu captions are the same, '%.100s'%s", s->name, s->scored, first->caption,
                  s->scored < TOOL_SAME_PICTURES ? "" : ": where the pictures differ, the model may not look at them; fewer steps or a lower learning rate may help");
    else if (f->distinct * 20 <= s->scored)
        tool_warn(t, "'%s': only %zu different captions for %zu pictures", s->name, f->distinct, s->scored);
    if (f->same_references)
        tool_warn(t, "'%s': all pictures have the same references, so no word weighs anything and CIDEr is 0", s->name);
    if (f->empty)
        tool_warn(t, "'%s': %zu of %zu captions hold no word", s->name, f->empty, s->scored);
}

pg_corpus *score_set(pg_tool *t, const set *s, const scoring *o)
{
    pg_corpus *c;
    pg_err e = {0};
    if (s->scored == 0)
        tool_die(t, EXIT_FAIL, "'%s': nothing to score: %zu records, %zu with errors, none with both a caption and a reference", s->name, s->n, s->errors);
    tool_must(t, pg_corpus_new(&c, o->context, &e), &e);
    for (size_t i = 0; i < s->n; i++) {
        const item *it = &s->items[i];
        if (!it->why_not)
            tool_must(t, pg_corpus_add(c, it->caption, it->length, (const char *const *)it->references, it->n_references, &e), &e);
    }
    tool_must(t, pg_corpus_score(c, &e), &e);
    pg_caption_facts f = pg_corpus_facts(c);
    warn(t, s, &f);
    return c;
}

static void text_scores(const set *s, const pg_scores *v, const pg_caption_facts *f, const pg_interval *in)
{
    printf("%-9s %zu\n", "N", s->scored);
    for (size_t m = 0; m < PG_METRICS; m++) {
        printf("%-9s %.4f", pg_metric_name(m), v->v[m]);
        if (in)
            printf("   %.4f to %.4f", in[m].low, in[m].high);
        putchar('\n');
    }
    printf("%-9s %zu captions\n", "distinct", f->distinct);
    printf("%-9s %.1f a caption (%zu to %zu), %.1f a reference\n", "words", f->mean, f->shortest, f->longest, f->reference_mean);
}

static json_t *pair(const pg_interval *in) { return json_pack("[f,f]", in->low, in->high); }

static void put_json(pg_tool *t, json_t *o)
{
    char *text = pg_json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(o);
    if (!text)
        tool_no_memory(t);
    puts(text);
    free(text);
}

static void json_put(pg_tool *t, json_t *o, const char *key, json_t *v)
{
    if (json_object_set_new(o, key, v))
        tool_no_memory(t);
}

static void json_scores(pg_tool *t, const set *s, const pg_scores *v, const pg_caption_facts *f, const pg_interval *in)
{
    json_t *o = json_pack("{s:I}", "N", (json_int_t)s->scored), *all;
    for (size_t m = 0; m < PG_METRICS; m++)
        json_put(t, o, pg_metric_name(m), json_real(v->v[m]));
    json_put(t, o, "distinct", json_integer((json_int_t)f->distinct));
    json_put(t, o, "words", json_pack("{s:f,s:I,s:I,s:f}", "mean", f->mean, "min", (json_int_t)f->shortest, "max", (json_int_t)f->longest,
                                              "references", f->reference_mean));
    if (in) {
        json_put(t, o, "intervals", all = json_object());
        for (size_t m = 0; m < PG_METRICS; m++)
            json_put(t, all, pg_metric_name(m), pair(&in[m]));
    }
    put_json(t, o);
}

void put_scores(pg_tool *t, const set *s, const pg_corpus *c, const scoring *o)
{
    pg_scores v = pg_corpus_total(c);
    pg_caption_facts f = pg_corpus_facts(c);
    pg_interval in[PG_METRICS];
    pg_err e = {0};
    if (o->bootstrap)
        tool_must(t, pg_bootstrap(c, o->bootstrap, o->seed, in, &e), &e);
    if (o->json)
        json_scores(t, s, &v, &f, o->bootstrap ? in : NULL);
    else
        text_scores(s, &v, &f, o->bootstrap ? in : NULL);
}

void put_comparison(pg_tool *t, const set *a, const set *b, const scoring *o)
{
    pg_corpus *x = score_set(t, a, o), *y = score_set(t, b, o);
    pg_scores u = pg_corpus_total(x), v = pg_corpus_total(y);
    pg_difference d[PG_METRICS];
    pg_err e = {0};
    json_t *all = json_pack("{s:s,s:s,s:I}", "A", a->name, "B", b->name, "N", (json_int_t)a->scored);
    tool_must(t, pg_compare(x, y, o->bootstrap, o->seed, d, &e), &e);
    if (!o->json)
        printf("A: %s\nB: %s\n%zu captions in both\n\n%-9s %8s %8s %8s   %-20s %s\n", a->name, b->name, a->scored, "", "A", "B", "B - A", "95 % interval", "p");
    for (size_t m = 0; m < PG_METRICS; m++) {
        if (o->json)
            json_put(t, all, pg_metric_name(m), json_pack("{s:f,s:f,s:f,s:o,s:f}", "A", u.v[m], "B", v.v[m], "difference", d[m].difference,
                                                                  "interval", pair(&d[m].interval), "p", d[m].p));
        else
            printf("%-9s %8.4f %8.4f %+8.4f   %+.4f to %+.4f   %.4f\n", pg_metric_name(m), u.v[m], v.v[m], d[m].difference, d[m].interval.low,
                   d[m].interval.high, d[m].p);
    }
    if (o->json)
        put_json(t, all);
    else
        json_decref(all);
    pg_corpus_free(x);
    pg_corpus_free(y);
}

/* An id that is a whole number is one in the file, as COCO's tools want. */
static json_t *result_id(const item *it)
{
    const char *id = it->image ? it->image->id : it->id;
    char *end;
    errno = 0;
    long long v = strtoll(id, &end, 10);
    char again[32];
    snprintf(again, sizeof again, "%lld", v);
    bool number = errno == 0 && *id && !*end && !strcmp(again, id) && (!it->image || it->image->whole_number);
    return number ? json_integer(v) : json_string(id);
}

size_t write_results(pg_tool *t, const set *s, const char *path)
{
    size_t dropped = 0;
    json_t *all = json_array();
    pg_err e = {0};
    for (size_t i = 0; i < s->n; i++) {
        const item *it = &s->items[i];
        if (it->why_not)
            continue;
        json_t *caption = json_stringn(it->caption, it->length), *id = result_id(it);
        json_t *row = caption && id ? json_pack("{s:O,s:O}", "image_id", id, "caption", caption) : NULL;
        if (!row) {
            tool_warn(t, "'%s': the %s of '%s' is not UTF-8 and not written", s->name, caption ? "id" : "caption", it->id);
            dropped++;
        } else if (json_array_append_new(all, row))
            tool_no_memory(t);
        json_decref(caption);
        json_decref(id);
    }
    char *text = pg_json_dumps(all, JSON_COMPACT);
    if (!text)
        tool_no_memory(t);
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the 0 */
    tool_must(t, pg_file_save(path, text, n + 1, &e), &e);
    free(text);
    json_decref(all);
    return dropped;
}
