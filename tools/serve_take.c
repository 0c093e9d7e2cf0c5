/* What the command's records say about the jobs that it has: texts so far, answers, errors. The command may be anybody's. */
#include <stdlib.h>
#include <string.h>

#include "serve.h"

/* Bytes that may be no UTF-8, as JSON wants it. */
static char *clean(const char *s, size_t n)
{
    pg_buf b = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        size_t k = 1;
        while (k < 4 && i + k < n && ((unsigned char)s[i + k] & 0xc0) == 0x80) k++;
        if (!s[i] || !pg_utf8_valid(s + i, k)) ok = !pg_buf_add(&b, "\xef\xbf\xbd", 3, NULL);
        else ok = !pg_buf_add(&b, s + i, k, NULL);
        i += k;
    }
    ok = ok && !pg_buf_add(&b, "", 1, NULL);
    if (!ok) pg_buf_free(&b);
    return (char *)b.data;
}

/* What the command says about a picture names it by its id, which the client has never chosen: 'ID' becomes `this picture`. */
static char *without_id(char *text, const char *id)
{
    char *at = text ? strstr(text, id) : NULL;
    size_t n = strlen(id);
    if (!at || at == text || at[-1] != '\'' || at[n] != '\'') return text;
    char *out = pg_format("%.*sthis picture%s", (int)(at - 1 - text), text, at + n + 1);
    if (!out) return text;
    free(text);
    return out;
}

/* A complete record about j. */
static void take_answer(server *s, job *j, const pg_rec *rec)
{
    static const char unknown[] = "the command reported an error", none[] = "the command answered without a caption";
    bool failed = pg_rec_has_error(rec); /* then there is no caption, whatever else it says */
    char *error = failed ? pg_rec_error(rec) : NULL, *text = NULL;
    const char *caption;
    size_t n;
    pg_err e = {0};
    if (error) text = without_id(clean(error, strlen(error)), j->id);
    else if (!failed && pg_rec_str(rec, "caption", &caption, &n, &e) == 1) text = clean(caption, n);
    if (failed) {
        const char *say = text ? text : unknown;
        job_done(s, j, 422, "picture", say, strlen(say));
    } else if (text) {
        j->scored = pg_rec_double(rec, "logprob", &j->logprob, &e) == 1;
        j->truncated = pg_rec_has(rec, "truncated");
        job_done(s, j, 200, NULL, text, strlen(text));
    } else {
        job_done(s, j, 502, "no_caption", none, sizeof none - 1);
    }
    free(error);
    free(text);
}

bool take_record(server *s, const child *c, const pg_rec *rec)
{
    const char *id, *partial;
    size_t id_n, n;
    pg_err e = {0};
    char *text;
    job *j = pg_rec_str(rec, "id", &id, &id_n, &e) == 1 ? job_find(s, c, id, id_n) : NULL;
    if (!j) {
        s->n.strays++; /* its client has been answered: too late, or the command lost the id */
        return false;
    }
    if (!pg_rec_has_error(rec) && pg_rec_str(rec, "partial", &partial, &n, &e) == 1) {
        if ((text = clean(partial, n))) job_partial(j, text);
        return false;
    }
    take_answer(s, j, rec);
    return true;
}
