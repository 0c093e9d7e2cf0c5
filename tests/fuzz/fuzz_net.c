/* What servers say: listings of Kaggle, the hub and Google storage, an index of shards, their headers and errors; sources and URLs.
 * The link puts __wrap_pg_net_fetch in the place of pg_net_fetch: replies come from the input, nothing is asked of a network. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fuzz.h"
#include "net/internal.h"
#include "net/source.h"
#include "net/url.h"

static fuzz_bytes input;

int __wrap_pg_net_fetch(pg_net *n, pg_transfer *t, pg_err *e);
int __wrap_pg_net_fetch(pg_net *n, pg_transfer *t, pg_err *e)
{
    size_t len;
    (void)n;
    if (!input.n) return pg_error(e, PG_FAIL, "the input has ended");
    unsigned how = fuzz_byte(&input);
    const uint8_t *p = fuzz_piece(&input, &len);
    if (how & 1) { /* headers: name 0 value 0 ... */
        size_t odd = 0; /* names and values come in pairs */
        for (size_t i = 0; i < len; i++) odd ^= !p[i];
        FUZZ_CHECK(!pg_buf_add(&t->reply.headers, p, len, e) && !pg_buf_add(&t->reply.headers, "\0\0", 1 + !odd, e));
        p = fuzz_piece(&input, &len);
    }
    t->reply.status = how & 2 ? 200 : how & 4 ? 403 : 404;
    if (pg_buf_add(how & 2 ? &t->data : &t->reply.body, p, len, e)) return e->code;
    if (t->reply.status == 200) return PG_OK;
    (void)!pg_explain(t, e);
    FUZZ_CHECK(e->code && e->msg[0]);
    return e->code;
}

static void list(pg_net *n)
{
    static const char *const sources[] = {"kaggle://google/paligemma/jax/paligemma-3b-pt-224", "hf://google/paligemma-3b-pt-224", "gs://bucket/folder/",
                                          "kaggle://google/paligemma/jax/paligemma-3b-pt-224/a.npz", "hf://google/paligemma-3b-pt-224/a.json", "gs://bucket/a"};
    const char *text = sources[fuzz_byte(&input) % 6];
    pg_hosts h = {.net = n};
    pg_source s;
    pg_items l = {0};
    pg_item one;
    pg_err e = {0};
    FUZZ_CHECK(!pg_source_parse(&s, text, &e));
    if (s.file && !pg_ends_with(s.file, "/")) {
        if (!pg_source_item(&h, &s, &one, &e)) FUZZ_CHECK(one.name && !pg_name_reject(one.name));
        pg_item_free(&one);
    } else if (!pg_source_list(&h, &s, &l, &e)) {
        for (size_t i = 0; i < l.n; i++) FUZZ_CHECK(!pg_name_reject(l.at[i].name));
        if (!pg_select_model(&l, text, &e)) (void)!pg_select_shards(&h, &l, text, &e);
        pg_items_free(&l);
    }
    pg_source_free(&s);
    pg_hosts_free(&h);
}

static void texts(void)
{
    char *a = fuzz_text(&input), *b = fuzz_text(&input), *s = NULL;
    pg_source source;
    pg_err e = {0};
    (void)(pg_url_has_user(a) + pg_url_same_origin(a, b) + pg_url_is_private(a) + pg_url_is_https(a));
    typedef char *(*part)(const char *);
    const part all[] = {pg_url_decode, pg_url_redact, pg_url_last, pg_url_host};
    for (size_t i = 0; i < 4; i++) {
        s = all[i](a); /* cppcheck-suppress uninitvar ; it is, a line above */
        if (s && all[i] == pg_url_last) FUZZ_CHECK(*s && !strchr(s, '/'));
        free(s);
    }
    if ((s = pg_url_encode(a, false))) {
        char *back = pg_url_decode(s);
        FUZZ_CHECK(back && !strcmp(back, a));
        free(back);
    }
    free(s);
    free(pg_source_beside(a, b));
    if (!pg_source_parse(&source, a, &e)) pg_source_free(&source);
    (void)pg_reply_hidden_code(a, strlen(a));
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pg_net *n;
    pg_err e = {0};
    if (!n) {
        static const char *const secrets[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "GOOGLE_OAUTH_ACCESS_TOKEN"};
        for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) unsetenv(secrets[i]);
        setenv("HOME", fuzz_folder(), 1);
        FUZZ_CHECK(!pg_net_new(&n, &(pg_net_options){0}, &e));
    }
    input = (fuzz_bytes){data, size};
    if (fuzz_byte(&input) & 1) list(n);
    else texts();
    return 0;
}
