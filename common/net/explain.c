/* What a refusal means, which page to open and which variable to set. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/guard.h"
#include "net/internal.h"

static void copy(char *out, size_t n, const char *s, size_t len)
{
    if (len >= n) len = n - 1;
    memcpy(out, s, len);
    out[len] = 0;
}

/* The text between <tag> and </tag>; storage's errors are too small for a parser. */
static bool xml_text(const char *body, const char *tag, char *out, size_t n)
{
    char open[32];
    snprintf(open, sizeof open, "<%s>", tag);
    const char *s = strstr(body, open);
    if (!s) return false;
    s += strlen(open);
    copy(out, n, s, strcspn(s, "<"));
    return true;
}

void pg_reply_message(const pg_reply *r, char *out, size_t n)
{
    const char *head = pg_reply_header(r, "x-error-message", 0), *type = pg_reply_header(r, "content-type", 0), *s = NULL;
    *out = 0;
    if (head) return copy(out, n, head, strlen(head));
    if (type && strstr(type, "json") && r->body.len) {
        json_t *o = pg_json_load((char *)r->body.data, r->body.len, 0, NULL), *error = json_object_get(o, "error");
        if (!(s = json_string_value(json_object_get(o, "message"))) && !(s = json_string_value(error)))
            s = json_string_value(json_object_get(error, "message"));
        if (s) copy(out, n, s, strlen(s));
        json_decref(o);
    } else if (type && strstr(type, "xml") && r->body.len) {
        char text[4096];
        copy(text, sizeof text, (char *)r->body.data, r->body.len);
        if (!xml_text(text, "Details", out, n)) (void)xml_text(text, "Message", out, n);
    }
}

long pg_reply_hidden_code(const void *body, size_t n)
{
    json_t *o = n ? pg_json_load(body, n, 0, NULL) : NULL;
    json_int_t code = json_integer_value(json_object_get(o, "code"));
    bool is = code >= 400 && code < 600 && json_is_string(json_object_get(o, "message"));
    json_decref(o);
    return is ? (long)code : 0;
}

static int kaggle(const pg_transfer *t, const char *said, pg_err *e)
{
    const char *page = t->page ? t->page : "https://www.kaggle.com";
    bool known = t->auth && t->auth->kind;
    switch (t->reply.status) {
    case 401:
        if (known) return pg_error(e, PG_FAIL, "Kaggle refuses the credentials from %s (401%s)", t->auth->where, said);
        return pg_error(e, PG_FAIL,
                        "Kaggle wants to know who asks (401%s): make a token at https://www.kaggle.com/settings, set KAGGLE_API_TOKEN (or KAGGLE_USERNAME and "
                        "KAGGLE_KEY, or keep ~/.kaggle/kaggle.json), and accept the licence at %s", said, page);
    case 403:
        if (strstr(said, "consent") || strstr(said, "licen"))
            return pg_error(e, PG_FAIL, "the licence is not accepted yet (403%s): accept it at %s%s", said, page,
                            known ? ", logged in as the owner of the credentials" : ", then set KAGGLE_API_TOKEN or KAGGLE_USERNAME and KAGGLE_KEY");
        return pg_error(e, PG_FAIL, "it is private, or does not exist, or its licence is not accepted yet (403%s): see %s%s", said, page,
                        known ? "" : "; no credentials are set (KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY)");
    default: return pg_error(e, PG_FAIL, "Kaggle knows no such model, version or file (404%s): see %s", said, page);
    }
}

static int hub(const pg_transfer *t, const char *said, pg_err *e)
{
    const char *code = pg_reply_header(&t->reply, "x-error-code", 0), *page = t->page ? t->page : "https://huggingface.co";
    bool known = t->auth && t->auth->kind, gated = code && !strcmp(code, "GatedRepo");
    long status = t->reply.status;
    if (code && !strcmp(code, "EntryNotFound")) return pg_error(e, PG_FAIL, "no such file (404%s): see %s", said, page);
    if (code && !strcmp(code, "RevisionNotFound")) return pg_error(e, PG_FAIL, "no such revision (404%s): see %s", said, page);
    if (status == 401 && !known)
        return pg_error(e, PG_FAIL, "%s (401%s): make a token at https://huggingface.co/settings/tokens, set HF_TOKEN, and accept the licence at %s",
                        gated ? "the hub wants to know who asks" : "it does not exist, or is not public", said, page);
    if (status == 401) return pg_error(e, PG_FAIL, "it does not exist, or the hub refuses the token from %s (401%s): see %s", t->auth->where, said, page);
    if (status == 403 && gated) return pg_error(e, PG_FAIL, "the licence is not accepted yet (403%s): accept it at %s", said, page);
    if (status == 403) return pg_error(e, PG_FAIL, "the token may not read it (403%s): see https://huggingface.co/settings/tokens and %s", said, page);
    return pg_error(e, PG_FAIL, "no such repository (404%s): see %s", said, page);
}

static int storage(const pg_transfer *t, const char *said, pg_err *e)
{
    if (t->reply.status == 404) return pg_error(e, PG_FAIL, "no such bucket or object (404%s)", said);
    if (t->auth && t->auth->kind) return pg_error(e, PG_FAIL, "the token from %s may not read it (%ld%s)", t->auth->where, t->reply.status, said);
    return pg_error(e, PG_FAIL, "it is not public, or does not exist (%ld%s); a bearer token can be set in GOOGLE_OAUTH_ACCESS_TOKEN", t->reply.status, said);
}

int pg_explain(const pg_transfer *t, pg_err *e)
{
    char message[200], said[210] = "";
    long status = t->reply.status;
    pg_reply_message(&t->reply, message, sizeof message);
    if (*message) snprintf(said, sizeof said, ": %s", message);
    bool specific = !t->reply.away && (status == 401 || status == 403 || status == 404);
    if (status == 429) return pg_error(e, PG_FAIL, "too many requests (429%s)", said);
    if (status >= 500) return pg_error(e, PG_FAIL, "the server is in trouble (%ld%s)", status, said);
    if (specific && t->host == PG_HOST_KAGGLE) return kaggle(t, said, e);
    if (specific && t->host == PG_HOST_HUB) return hub(t, said, e);
    if (specific && t->host == PG_HOST_STORAGE) return storage(t, said, e);
    if (t->reply.away) return pg_error(e, PG_FAIL, "the storage that the server points to answers %ld%s", status, said);
    return pg_error(e, PG_FAIL, "the server answers %ld%s", status, said);
}
