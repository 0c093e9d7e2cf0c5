/* JSON lines. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fetch.h"

enum { MAX_LINE = 16 << 20 };

static void must(fetch *f, int rc, const pg_err *e)
{
    if (rc) tool_die(&f->t, EXIT_FAIL, "%s", e->msg);
}

/* A misspelt key must not be lost in silence: each is said once, with the place of its first use. */
static void unknown_key(fetch *f, const char *where, const char *key)
{
    for (size_t i = 0; i < f->n_unknown; i++)
        if (!strcmp(f->unknown[i], key)) return;
    if (f->n_unknown < sizeof f->unknown / sizeof *f->unknown) {
        if (!(f->unknown[f->n_unknown] = pg_strdup(key))) tool_die(&f->t, EXIT_FAIL, "out of memory");
        f->n_unknown++;
        tool_warn(&f->t, "%s: unknown key '%s' is left out (known: image, suffix, prefix, references, id)", where, key);
    }
}

/* NULL, or what is wrong. */
static const char *text_key(fetch *f, const json_t *o, const char *key)
{
    pg_err e = {0};
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return NULL;
    if (!json_is_string(v)) return "is not a string";
    must(f, pg_rec_set_str(f->p.rec, key, json_string_value(v), json_string_length(v), &e), &e);
    return NULL;
}

static const char *references(fetch *f, const json_t *v)
{
    pg_err e = {0};
    if (!v || json_is_null(v)) return NULL;
    if (json_is_string(v)) {
        const char *one = json_string_value(v);
        must(f, pg_rec_set_strs(f->p.rec, "references", &one, 1, &e), &e);
        return NULL;
    }
    if (!json_is_array(v)) return "is neither a string nor a list of strings";
    size_t n = json_array_size(v);
    const char **s = pg_calloc(n, sizeof *s);
    if (!s) tool_die(&f->t, EXIT_FAIL, "out of memory");
    for (size_t i = 0; i < n; i++)
        if (!(s[i] = json_string_value(json_array_get(v, i)))) {
            free(s);
            return "holds something that is not a string";
        }
    must(f, pg_rec_set_strs(f->p.rec, "references", s, n, &e), &e);
    free(s);
    return NULL;
}

static void record(fetch *f, const json_t *o, const char *where, const char *dir)
{
    const char *image = json_string_value(json_object_get(o, "image")), *bad, *key;
    const json_t *given = json_object_get(o, "id");
    json_t *v;
    char *id = NULL, *path = image ? pg_path_join(dir, image) : NULL;
    if (json_is_string(given)) id = pg_strdup(json_string_value(given));
    else if (json_is_integer(given)) id = pg_format("%lld", (long long)json_integer_value(given));
    else id = pg_strdup(given && !json_is_null(given) ? where : image ? image : where);
    if (!id || (image && !path)) tool_die(&f->t, EXIT_FAIL, "out of memory");
    fetch_begin(f, id, path ? path : where);
    json_object_foreach((json_t *)o, key, v)
        if (strcmp(key, "image") && strcmp(key, "suffix") && strcmp(key, "prefix") && strcmp(key, "references") && strcmp(key, "id"))
            unknown_key(f, where, key);
    if (given && !json_is_null(given) && !json_is_string(given) && !json_is_integer(given))
        tool_record_error(&f->t, f->p.rec, "%s: 'id' is neither a string nor a whole number", where);
    else if ((bad = text_key(f, o, "prefix"))) tool_record_error(&f->t, f->p.rec, "%s: 'prefix' %s", where, bad);
    else if ((bad = text_key(f, o, "suffix"))) tool_record_error(&f->t, f->p.rec, "%s: 'suffix' %s", where, bad);
    else if ((bad = references(f, json_object_get(o, "references")))) tool_record_error(&f->t, f->p.rec, "%s: 'references' %s", where, bad);
    else if (!image) tool_record_error(&f->t, f->p.rec, "%s: no 'image'", where);
    else fetch_bytes(f, path, where);
    fetch_put(f, id);
    free(id);
    free(path);
}

static void bad_line(fetch *f, const char *where, const char *why)
{
    fetch_begin(f, where, where);
    tool_record_error(&f->t, f->p.rec, "%s: %s", where, why);
    fetch_put(f, where);
}

void fetch_jsonl(fetch *f, FILE *in, const char *name, const char *dir)
{
    char *line = NULL;
    size_t room = 0, number = 0;
    ssize_t n;
    while (f->done < f->limit && (n = getline(&line, &room, in)) >= 0) {
        char *s = line, *where = pg_format("%s:%zu", name, ++number);
        json_error_t why;
        if (!where) tool_die(&f->t, EXIT_FAIL, "out of memory");
        if (number == 1 && n >= 3 && !memcmp(s, "\xef\xbb\xbf", 3)) s += 3, n -= 3;
        while (n && strchr(" \t\r\n", s[n - 1])) n--;
        if (n > MAX_LINE) bad_line(f, where, "longer than 16 MiB");
        else if (n) {
            json_t *o = json_loadb(s, (size_t)n, JSON_REJECT_DUPLICATES, &why);
            if (!o) bad_line(f, where, why.text);
            else if (!json_is_object(o)) bad_line(f, where, "not a JSON object");
            else record(f, o, where, dir);
            json_decref(o);
        }
        free(where);
        pg_err e = {0};
        if (in == stdin && pg_writer_flush(f->p.out, &e)) tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    }
    if (ferror(in)) tool_die(&f->t, EXIT_FAIL, "cannot read '%s': %s", name, strerror(errno));
    free(line);
}
