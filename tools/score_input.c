/* Captions and references from a stream, from JSON lines, from COCO's results. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "score.h"

enum { SAID = 5 }; /* messages of one kind */

static const char NO_CAPTION[] = "no caption", BAD_CAPTION[] = "'caption' is not a string", NO_REFERENCE[] = "no reference",
                  TWICE[] = "its id is in the input twice, the first is scored",
                  NOT_IN_FILE[] = "no such image in the references", HAS_ERROR[] = "carries an error",
                  BAD_REFERENCES[] = "'references' is not a list of strings";

/* Takes id. */
static item *add(pg_tool *t, set *s, char *id)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 256;
        item *p = pg_realloc(s->items, cap, sizeof *p);
        if (!p)
            tool_no_memory(t);
        s->items = p;
        s->cap = cap;
    }
    item *it = &s->items[s->n++];
    *it = (item){.id = id};
    return it;
}

static void set_caption(pg_tool *t, item *it, const char *s, size_t n)
{
    if (!(it->caption = pg_strndup(s, n)))
        tool_no_memory(t);
    it->length = n;
}

/* ---- a stream ---- */
static const pg_coco_image *image_of(const pg_coco *coco, const item *it, const pg_rec *rec)
{
    const pg_coco_image *im = pg_coco_find(coco, it->id);
    const char *source;
    size_t n;
    if (!im && rec && pg_rec_str(rec, "source", &source, &n, NULL) == 1) {
        char *path = pg_strndup(source, n);
        im = path ? pg_coco_find(coco, path) : NULL;
        if (!im && path && strrchr(path, '/'))
            im = pg_coco_find(coco, strrchr(path, '/') + 1);
        free(path);
    }
    return im;
}

static void stream_references(pg_tool *t, item *it, const pg_rec *rec)
{
    const char *suffix;
    size_t n;
    pg_err e = {0};
    int rc = pg_rec_strs(rec, "references", &it->references, &it->n_references, &e);
    if (rc == PG_ENOMEM)
        tool_no_memory(t);
    if (rc < 0) { /* the suffix in their place would be another score, and nobody would know */
        it->why_not = BAD_REFERENCES;
        return;
    }
    if (rc == 1 && it->n_references == 0) {
        pg_strs_free(it->references, 0);
        it->references = NULL;
    }
    if (it->n_references == 0 && pg_rec_str(rec, "suffix", &suffix, &n, NULL) == 1 && n) { /* of an empty one nothing is learnt, either */
        it->references = pg_calloc(1, sizeof *it->references);
        if (!it->references || !(it->references[0] = pg_strndup(suffix, n)))
            tool_no_memory(t);
        it->n_references = 1;
    }
}

static void read_stream(pg_tool *t, set *s, int fd, const pg_coco *coco)
{
    tool_pipe p = {0};
    tool_open_in(t, &p, fd, s->name, "examples");
    while (tool_next(t, &p)) {
        const char *caption;
        size_t n;
        if (pg_rec_has(p.rec, "partial"))
            continue;
        item *it = add(t, s, tool_whole_id(t, &p));
        if (pg_rec_has_error(p.rec)) {
            it->why_not = HAS_ERROR;
            s->errors++;
            continue;
        }
        int there = pg_rec_str(p.rec, "caption", &caption, &n, NULL);
        if (there == 1)
            set_caption(t, it, caption, n);
        else if (there < 0)
            it->why_not = BAD_CAPTION;
        if (coco->n)
            it->image = image_of(coco, it, p.rec);
        else
            stream_references(t, it, p.rec);
    }
    tool_finish(t, &p, NULL);
}

/* ---- JSON ---- */
/* The id, or the record's place where it has none. */
static char *id_text(pg_tool *t, const set *s, const json_t *v)
{
    char *id = json_is_integer(v)  ? pg_format("%lld", (long long)json_integer_value(v))
               : json_is_string(v) ? pg_strdup(json_string_value(v))
                                   : pg_format("record %zu", s->n + 1);
    if (!id)
        tool_no_memory(t);
    return id;
}

static void json_references(pg_tool *t, item *it, const json_t *o)
{
    const json_t *list = json_object_get(o, "references"), *suffix = json_object_get(o, "suffix");
    size_t n = json_is_string(list) ? 1 : json_array_size(list);
    if (list && !json_is_null(list) && !json_is_string(list) && !json_is_array(list))
        it->why_not = BAD_REFERENCES;
    if (n == 0 && json_string_length(suffix)) {
        list = suffix;
        n = 1;
    }
    it->references = pg_calloc(n, sizeof *it->references);
    if (!it->references)
        tool_no_memory(t);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_string(list) ? list : json_array_get(list, i));
        if (!text)
            it->why_not = BAD_REFERENCES;
        else if (!(it->references[it->n_references++] = pg_strdup(text)))
            tool_no_memory(t);
    }
}

/* The first key that is unknown, and each that seems misspelt, said at its first place; keys that other tools write are not. */
static void unknown_key(pg_tool *t, const set *s, size_t line, const json_t *o, tool_seen *said)
{
    enum { LOOKED_AT = 4 };
    static const char *const known[] = {"id", "caption", "references", "suffix", "prefix", "source", "image", "image_id", "logprob", "caption_tokens",
                                        "width", "height", "pixels", "tokens", "mask_ar", "mask_loss", "mask_input", "truncated", "boxes", "scores",
                                        "token_logprobs", "error"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], key))
            i++;
        if (i < sizeof known / sizeof *known)
            continue;
        const char *meant = tool_meant(key, known, LOOKED_AT);
        if ((!meant && said->n) || !tool_seen_add(t, said, key))
            continue;
        if (meant)
            tool_warn(t, "'%s', line %zu: unknown key '%s': did you mean '%s'?", s->name, line, key, meant);
        else
            tool_warn(t, "'%s', line %zu: unknown key '%s' (looked at: id, caption, references, suffix)", s->name, line, key);
    }
}

static void json_item(pg_tool *t, set *s, const json_t *o, const char *id_key, const pg_coco *coco)
{
    const json_t *caption = json_object_get(o, "caption");
    item *it = add(t, s, id_text(t, s, json_object_get(o, id_key)));
    if (json_is_string(caption))
        set_caption(t, it, json_string_value(caption), json_string_length(caption));
    else if (caption && !json_is_null(caption))
        it->why_not = BAD_CAPTION;
    if (coco->n)
        it->image = image_of(coco, it, NULL);
    else
        json_references(t, it, o);
}

static void read_lines(pg_tool *t, set *s, const pg_buf *b, const pg_coco *coco)
{
    const char *p = (const char *)b->data, *end = p + b->len;
    tool_seen said = {0};
    for (size_t number = 1; p < end; number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        json_error_t why;
        if (n && strspn(p, " \t\r") < n) {
            json_t *o = pg_json_load(p, n, JSON_ALLOW_NUL, &why);
            if (!o && pg_json_no_memory(&why))
                tool_no_memory(t);
            if (!json_is_object(o))
                tool_die(t, EXIT_STREAM, "'%s', line %zu: %s", s->name, number, o ? "not a JSON object" : why.text);
            if (number == 1 && json_is_array(json_object_get(o, "annotations")))
                tool_die(t, EXIT_STREAM, "'%s' is a COCO captions file: give it with --references, and the captions to score as the operand", s->name);
            unknown_key(t, s, number, o, &said);
            json_item(t, s, o, "id", coco);
            json_decref(o);
        }
        p += n + 1;
    }
    tool_seen_free(&said);
}

static void read_results(pg_tool *t, set *s, const pg_buf *b, const pg_coco *coco)
{
    json_error_t why;
    json_t *all = pg_json_load((const char *)b->data, b->len, JSON_ALLOW_NUL, &why), *o;
    size_t i;
    if (!all && pg_json_no_memory(&why))
        tool_no_memory(t);
    if (!all)
        tool_die(t, EXIT_STREAM, "'%s', line %d: %s", s->name, why.line, why.text);
    json_array_foreach(all, i, o) json_item(t, s, o, "image_id", coco);
    json_decref(all);
    if (!coco->n && s->n && s->items[0].n_references == 0)
        tool_die(t, EXIT_USAGE, "'%s' holds COCO results, which have no references: give those with --references", s->name);
}

/* ---- what can be scored ---- */
static int by_id(const void *a, const void *b)
{
    const item *x = *(const item *const *)a, *y = *(const item *const *)b;
    int order = strcmp(x->id, y->id);
    return order ? order : x < y ? -1 : x > y;
}

/* Of those that can be scored the first of each id is. */
static void mark_repeated(pg_tool *t, set *s)
{
    item **order = pg_alloc(s->n, sizeof *order);
    const item *first = NULL;
    if (!order)
        tool_no_memory(t);
    for (size_t i = 0; i < s->n; i++)
        order[i] = &s->items[i];
    qsort(order, s->n, sizeof *order, by_id);
    for (size_t i = 0; i < s->n; i++) {
        if (order[i]->why_not)
            continue;
        if (first && !strcmp(order[i]->id, first->id))
            order[i]->why_not = TWICE;
        else
            first = order[i];
    }
    free(order);
}

static void say(pg_tool *t, const set *s, const char *why)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].why_not == why && n++ < SAID)
            tool_warn(t, "'%s': '%s' is not scored: %s", s->name, s->items[i].id, why);
    if (n > SAID)
        tool_warn(t, "'%s': %zu more are not scored: %s", s->name, n - SAID, why);
}

static void sort_out(pg_tool *t, set *s, const pg_coco *coco)
{
    size_t found = 0;
    for (size_t i = 0; i < s->n; i++) {
        item *it = &s->items[i];
        if (it->image) {
            it->references = it->image->captions;
            it->n_references = it->image->n;
        }
        if (!it->why_not)
            it->why_not = !it->caption ? NO_CAPTION : coco->n && !it->image ? NOT_IN_FILE : it->n_references == 0 ? NO_REFERENCE : NULL;
    }
    mark_repeated(t, s);
    for (size_t i = 0; i < s->n; i++) {
        item *it = &s->items[i];
        if (!it->why_not)
            it->scored = s->scored++;
        found += it->image && it->why_not != TWICE && it->why_not != HAS_ERROR;
    }
    say(t, s, HAS_ERROR);
    say(t, s, NO_CAPTION);
    say(t, s, BAD_CAPTION);
    say(t, s, NO_REFERENCE);
    say(t, s, BAD_REFERENCES);
    say(t, s, NOT_IN_FILE);
    say(t, s, TWICE);
    if (coco->n > found)
        tool_info(t, "%zu of the %zu images of the references have no caption in '%s'; they do not count", coco->n - found, coco->n, s->name);
}

static void read_all(pg_tool *t, const set *s, int fd, pg_buf *b)
{
    pg_err e = {0};
    ssize_t n;
    do {
        if (b->len > tool_max_record(t))
            tool_die(t, EXIT_STREAM, "'%s' is larger than %zu bytes (--max-record)", s->name, tool_max_record(t));
        if (pg_buf_reserve(b, 1 << 20, &e))
            tool_die(t, EXIT_FAIL, "%s", e.msg);
        if ((n = pg_read_full(fd, b->data + b->len, 1 << 20)) < 0)
            tool_die(t, EXIT_FAIL, "cannot read '%s': %s", s->name, strerror(errno));
        b->len += (size_t)n;
    } while (n > 0);
}

void set_read(pg_tool *t, set *s, int fd, const char *path, const pg_coco *coco)
{
    unsigned char first[64] = {0};
    pg_buf b = {0};
    ssize_t n = path ? pg_pread_full(fd, first, sizeof first - 1, 0) : 0;
    size_t blank = n > 0 ? strspn((const char *)first, " \t\r\n\xef\xbb\xbf") : 0;
    s->name = path && strcmp(path, "-") != 0 ? path : "standard input";
    s->references = coco->n > 0;
    if (n > 0 && (first[blank] == '{' || first[blank] == '[')) {
        read_all(t, s, fd, &b);
        if (b.len >= 3 && !memcmp(b.data, "\xef\xbb\xbf", 3))
            memset(b.data, ' ', 3);
        if (first[blank] == '{')
            read_lines(t, s, &b, coco);
        else
            read_results(t, s, &b, coco);
        pg_buf_free(&b);
    } else
        read_stream(t, s, fd, coco);
    sort_out(t, s, coco);
}

void set_free(set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->items[i].id);
        free(s->items[i].caption);
        if (!s->items[i].image && s->items[i].references)
            pg_strs_free(s->items[i].references, s->items[i].n_references);
    }
    free(s->items);
    *s = (set){0};
}
