/* Bodies of answers: JSON, events, pages. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "serve.h"

static int add_json(json_t *o, pg_buf *out, pg_err *e)
{
    char *text = o ? pg_json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    int rc = text ? pg_buf_add(out, text, strlen(text), e) : pg_error_nomem(e);
    free(text);
    json_decref(o);
    return rc;
}

static json_t *caption_object(const job *j)
{
    json_t *o = json_pack("{s:s, s:s}", "id", j->id, "caption", j->text);
    if (!o) return NULL;
    if (json_object_set_new(o, "logprob", j->scored && isfinite(j->logprob) ? json_real(j->logprob) : json_null()) ||
        json_object_set_new(o, "ms", json_real(round(j->ms * 1000) / 1000)) || (j->truncated && json_object_set_new(o, "truncated", json_true()))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *error_object(const char *code, const char *text, const char *id)
{
    json_t *o = json_pack("{s:s, s:s}", "error", text, "code", code);
    if (o && id) json_object_set_new(o, "id", json_string(id));
    return o;
}

static int add_line(json_t *o, pg_buf *out, pg_err *e)
{
    int rc = add_json(o, out, e);
    return rc ? rc : pg_buf_add(out, "\n", 1, e);
}

int answer_json(const job *j, pg_buf *out, pg_err *e) { return add_line(caption_object(j), out, e); }

int answer_error(const char *code, const char *text, const char *id, pg_buf *out, pg_err *e)
{
    return add_line(error_object(code, text, id), out, e);
}

int answer_event(const char *event, const job *j, size_t ahead, bool starting, pg_buf *out, pg_err *e)
{
    json_t *o;
    int rc;
    if (!strcmp(event, "caption")) o = caption_object(j);
    else if (!strcmp(event, "error")) o = error_object(j->code, j->text ? j->text : "out of memory", j->id);
    else if (!strcmp(event, "partial")) o = json_pack("{s:s, s:s}", "id", j->id, "partial", j->partial);
    else o = json_pack("{s:s, s:I}", "id", j->id, "ahead", (json_int_t)ahead);
    if (o && !strcmp(event, "queued") && starting) json_object_set_new(o, "starting", json_true());
    if (o && !strcmp(event, "error")) json_object_set_new(o, "status", json_integer(j->status));
    if ((rc = pg_buf_addf(out, e, "event: %s\ndata: ", event))) {
        json_decref(o);
        return rc;
    }
    if ((rc = add_json(o, out, e))) return rc;
    return pg_buf_add(out, "\n\n", 2, e);
}

/* ---- pages ---- */
static int add_escaped(const char *s, pg_buf *out, pg_err *e)
{
    int rc = 0;
    for (; *s && !rc; s++) {
        const char *as = *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : *s == '"' ? "&quot;" : NULL;
        rc = as ? pg_buf_add(out, as, strlen(as), e) : pg_buf_add(out, s, 1, e);
    }
    return rc;
}

static int add_value(const char *name, size_t n, const char *const *pairs, pg_buf *out, pg_err *e)
{
    bool raw = n && name[0] == '&';
    for (; *pairs; pairs += 2)
        if (strlen(*pairs) == n - raw && !memcmp(*pairs, name + raw, n - raw))
            return raw ? pg_buf_add(out, pairs[1], strlen(pairs[1]), e) : add_escaped(pairs[1], out, e);
    return PG_OK;
}

static const char *find_two(const char *s, const char *end, char c)
{
    for (; end - s >= 2; s++)
        if (s[0] == c && s[1] == c) return s;
    return NULL;
}

int answer_fill(const char *t, size_t n, const char *const *pairs, pg_buf *out, pg_err *e)
{
    const char *end = t + n, *from;
    int rc;
    for (; (from = find_two(t, end, '{')); t = from) {
        const char *to = find_two(from, end, '}');
        if (!to) break;
        if ((rc = pg_buf_add(out, t, (size_t)(from - t), e))) return rc;
        if ((rc = add_value(from + 2, (size_t)(to - from) - 2, pairs, out, e))) return rc;
        from = to + 2;
    }
    return pg_buf_add(out, t, (size_t)(end - t), e);
}

/* The picture inside the page: nothing is kept on the server for a second request. */
static int data_uri(const job *j, pg_buf *out, pg_err *e)
{
    int rc = pg_buf_addf(out, e, "data:%s;base64,", j->type);
    if (!rc) rc = pg_buf_add_base64(out, j->image.data, j->image.len, e);
    return rc ? rc : pg_buf_add(out, "", 1, e);
}

static int fill_answer(const char *const *pairs, pg_buf *out, pg_err *e)
{
    return answer_fill(serve_answer_html, (size_t)(serve_answer_html_end - serve_answer_html), pairs, out, e);
}

int answer_html(const job *j, pg_buf *out, pg_err *e)
{
    pg_buf picture = {0}, facts = {0};
    int rc = data_uri(j, &picture, e);
    if (!rc) rc = pg_buf_addf(&facts, e, "%s%s%.2f s", j->source ? j->source : "", j->source ? " · " : "", j->ms / 1000);
    if (!rc && j->scored) rc = pg_buf_addf(&facts, e, " · log-probability %.2f", j->logprob);
    if (!rc) {
        const char *pairs[] = {"title", "Caption",  "kind",  "good", "text", j->text, "picture", (const char *)picture.data,
                               "facts", (const char *)facts.data, NULL};
        rc = fill_answer(pairs, out, e);
    }
    pg_buf_free(&picture);
    pg_buf_free(&facts);
    return rc;
}

int answer_html_error(int status, const char *text, pg_buf *out, pg_err *e)
{
    const char *pairs[] = {"title", status >= 500 ? "Something went wrong here" : "That did not work", "kind", "error", "text", text,
                           "picture", "/icon.svg", "facts", "", NULL};
    return fill_answer(pairs, out, e);
}
