/* JSON lines. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/guard.h"
#include "fetch.h"
#include "net/url.h"

enum { MAX_LINE = 16 << 20 };

bool fetch_first_time(fetch *f, const char *what)
{
    for (size_t i = 0; i < f->n_unknown; i++)
        if (!strcmp(f->unknown[i], what)) return false;
    if (f->n_unknown == sizeof f->unknown / sizeof *f->unknown) return false;
    if (!(f->unknown[f->n_unknown] = pg_strdup(what))) tool_no_memory(&f->t);
    f->n_unknown++;
    return true;
}

static const char *const known[] = {"image", "suffix", "prefix", "references", "id"};
enum { KNOWN = sizeof known / sizeof *known };

/* A misspelt key must not be lost in silence: each is said once, with the place of its first use. */
static void check_key(fetch *f, const char *where, const char *key)
{
    for (size_t i = 0; i < KNOWN; i++)
        if (!strcmp(key, known[i])) return;
    if (!fetch_first_time(f, key)) return;
    const char *meant = tool_meant(key, known, KNOWN);
    if (meant) tool_warn(&f->t, "%s: unknown key '%s' is left out: did you mean '%s'?", where, key, meant);
    else tool_warn(&f->t, "%s: unknown key '%s' is left out (known: image, suffix, prefix, references, id)", where, key);
}

/* NULL, or what is wrong. */
static const char *text_key(fetch *f, const json_t *o, const char *key)
{
    pg_err e = {0};
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return NULL;
    if (!json_is_string(v)) return "is not a string";
    tool_must(&f->t, pg_rec_set_str(f->p.rec, key, json_string_value(v), json_string_length(v), &e), &e);
    return NULL;
}

static const char *references(fetch *f, const json_t *v)
{
    pg_err e = {0};
    if (!v || json_is_null(v)) return NULL;
    if (json_is_string(v)) {
        const char *one = json_string_value(v);
        tool_must(&f->t, pg_rec_set_strs(f->p.rec, "references", &one, 1, &e), &e);
        return NULL;
    }
    if (!json_is_array(v)) return "is neither a string nor a list of strings";
    size_t n = json_array_size(v);
    const char **s = pg_calloc(n, sizeof *s);
    if (!s) tool_no_memory(&f->t);
    for (size_t i = 0; i < n; i++)
        if (!(s[i] = json_string_value(json_array_get(v, i)))) {
            free(s);
            return "holds something that is not a string";
        }
    tool_must(&f->t, pg_rec_set_strs(f->p.rec, "references", s, n, &e), &e);
    free(s);
    return NULL;
}

void fetch_bad(fetch *f, const char *where, const char *why) { tool_record_alike(&f->t, f->p.rec, why, "%s: %s", where, why); }

bool fetch_keys(fetch *f, const json_t *o, const char *where)
{
    const char *key, *bad;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) check_key(f, where, key);
    if ((bad = text_key(f, o, key = "prefix")) || (bad = text_key(f, o, key = "suffix")) ||
        (bad = references(f, json_object_get(o, key = "references")))) {
        char why[80];
        snprintf(why, sizeof why, "'%s' %s", key, bad);
        fetch_bad(f, where, why);
    }
    return !bad;
}

char *fetch_given_id(const fetch *f, const json_t *o, bool *bad)
{
    const json_t *v = json_object_get(o, "id");
    char *id = NULL;
    *bad = v && !json_is_null(v) && !json_is_string(v) && !json_is_integer(v);
    if (!v || json_is_null(v) || *bad) return NULL;
    id = json_is_string(v) ? pg_strdup(json_string_value(v)) : pg_format("%lld", (long long)json_integer_value(v));
    if (!id) tool_no_memory(&f->t);
    return id;
}

/* A URL's query may be a signature and so be no id; without it, images that differ in nothing else would be one. */
static char *image_id(const char *image, const char *where)
{
    char *id = pg_url_redact(image);
    if (!id || !strcmp(id, image)) return id;
    free(id);
    return pg_strdup(where);
}

/* The picture's path or remote source. */
static char *picture_of(const json_t *o, const char *dir, const char *base)
{
    const char *image = json_string_value(json_object_get(o, "image"));
    if (!image) return NULL;
    if (base) return pg_source_beside(base, image);
    char *file = pg_url_file(image);
    if (file) return file;
    return pg_source_is_remote(image) ? pg_strdup(image) : pg_path_join(dir, image);
}

/* Schemes that are not known are no paths. */
size_t fetch_odd_scheme(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return n && !strncmp(s + n, "://", 3) && !pg_source_is_remote(s) && !pg_url_is_file(s) ? n : 0;
}

/* Why it names no picture; NULL: it may. */
static const char *image_fault(const json_t *o)
{
    const json_t *v = json_object_get(o, "image");
    const char *image = json_string_value(v);
    if (!image) return v ? "'image' is not a string" : "no 'image'";
    if (!*image) return "'image' is empty";
    if (!strncasecmp(image, "data:", 5)) return "'image' is the picture itself (data:), where a name is wanted: put it into a file";
    return fetch_odd_scheme(image) ? "'image' has a scheme that is not known (https, http, gs, kaggle, hf, file)" : NULL;
}

/* One line's object as a record. */
static void record(fetch *f, const json_t *o, const char *where, const char *dir, const char *base)
{
    const char *image = json_string_value(json_object_get(o, "image")), *fault = image_fault(o);
    bool bad_id = false;
    char *id = fetch_given_id(f, o, &bad_id);
    item i = {.path = fault ? NULL : picture_of(o, dir, base)};
    char *source = i.path ? pg_url_redact(i.path) : NULL;
    if (!id) id = bad_id || fault ? pg_strdup(where) : image_id(image, where);
    if (!id || (!fault && !source)) tool_no_memory(&f->t);
    fetch_begin(f, id, source ? source : where);
    bool good = fetch_keys(f, o, where);
    if (good && bad_id) fetch_bad(f, where, "'id' is neither a string nor a whole number");
    else if (good && fault) fetch_bad(f, where, fault);
    if (!good || bad_id || fault) {
        free(i.path);
        i.path = NULL;
    }
    if (i.path && !(i.where = pg_strdup(where))) tool_no_memory(&f->t);
    fetch_put_later(f, id, &i);
    free(id);
    free(source);
}

/* shared: what such lines have in common */
static void bad_line(fetch *f, const char *where, const char *why, const char *shared)
{
    fetch_begin(f, where, where);
    tool_record_alike(&f->t, f->p.rec, shared, "%s: %s", where, why);
    fetch_put(f, where);
}

/* Of the first line: whether the whole file is one value, on one line or many. */
static const char *one_value(const char *s, size_t n)
{
    if (*s == '[') return "a list, not an object on each line: jq -c '.[]' makes lines of it";
    return n == 1 && *s == '{' ? "an object of several lines: jq -c . makes one line of each" : NULL;
}

/* Why a line is none, and what such lines have in common. */
static const char *not_json(const json_error_t *why, const char **shared)
{
    enum json_error_code code = json_error_code(why);
    bool nul = code == json_error_null_character || code == json_error_null_byte_in_key;
    *shared = nul ? "a text with \\u0000 in it" : "not JSON";
    return nul ? *shared : why->text;
}

/* The next line with its end, in b; of one that is too long only the beginning is kept. False at the end of the file or where it cannot
 * be read (ferror, errno). getline would lose what it has where a signal comes, and keep what is too long. */
static bool next_line(fetch *f, FILE *in, pg_buf *b, bool *long_one)
{
    pg_err e = {0};
    int c = 0;
    *long_one = false;
    b->len = 0;
    flockfile(in);
    while (c != '\n') {
        errno = 0;
        if ((c = getc_unlocked(in)) == EOF) {
            if (!ferror(in) || errno != EINTR) break;
            clearerr(in);
        } else if (b->len >= MAX_LINE) {
            *long_one |= c != '\n';
        } else {
            if (pg_buf_reserve(b, 1, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
            b->data[b->len++] = (unsigned char)c;
        }
    }
    funlockfile(in);
    return b->len > 0 && !ferror(in);
}

void fetch_jsonl(fetch *f, FILE *in, const char *name, const char *dir, const char *base)
{
    pg_buf line = {0};
    size_t number = 0;
    bool long_one;
    while (fetch_more(f) && next_line(f, in, &line, &long_one)) {
        const char *s = line.len ? (const char *)line.data : "";
        size_t n = line.len;
        json_error_t why;
        json_t *o = NULL;
        number++;
        if (number == 1 && n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) s += 3, n -= 3;
        while (n && fetch_blank(s[n - 1])) n--;
        if (!n || !fetch_wanted(f)) continue;
        char *where = pg_format("%s:%zu", name, number);
        if (!where) tool_no_memory(&f->t);
        const char *bad = long_one ? "longer than 16 MiB" : memchr(s, 0, n) ? "a zero byte: not UTF-8 (UTF-16?)" : number == 1 ? one_value(s, n) : NULL, *shared = bad;
        if (!bad && !(o = pg_json_load(s, n, JSON_REJECT_DUPLICATES, &why))) {
            if (pg_json_no_memory(&why)) tool_no_memory(&f->t);
            bad = not_json(&why, &shared);
        }
        if (o && !json_is_object(o)) shared = bad = "not a JSON object";
        if (bad) bad_line(f, where, bad, shared);
        else record(f, o, where, dir, base);
        json_decref(o);
        free(where);
        if (in != stdin) continue;
        order_drain(f); /* who asks through a pipe waits for the answer */
        pg_err e = {0};
        if (pg_writer_flush(f->p.out, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    }
    int errno_was = errno;
    order_drain(f);
    if (!f->order.number && fetch_more(f)) tool_warn(&f->t, "no lines in '%s'", name);
    if (ferror(in)) tool_die(&f->t, EXIT_FAIL, "cannot read '%s': %s", name, strerror(errno_was));
    pg_buf_free(&line);
}
