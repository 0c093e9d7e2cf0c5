/* pg-serve: what comes in a request, below HTTP itself, which is libmicrohttpd's: a form's fields piece by piece, Authorization, Accept,
 * the address; and the answers that are made of texts from anywhere. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "serve_request.h"

static server *make_server(void)
{
    static const char secrets[] = "# tokens\n0123456789abcdef\nname:$5$rounds=1000$saltsalt$notahash\n";
    static server s;
    pg_err e = {0};
    if (s.image) return &s;
    s.o = (options){.max_upload = 4096, .max_pixels = 1 << 16, .queue = 2, .prefix = "caption en"};
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.work, NULL);
    FUZZ_CHECK(!pg_image_new(&s.image, &e) && !auth_open(&s.auth, fuzz_file("secrets", secrets, sizeof secrets - 1), &e) && (s.rates = rates_new(60)));
    return &s;
}

static void upload(server *s, fuzz_bytes *in)
{
    static const char *const keys[] = {"image", "image", "prefix", "own", "other"};
    request r = {.s = s, .job = job_new()};
    char *query = fuzz_text(in);
    FUZZ_CHECK(r.job);
    form_prefix(&r, query);
    free(query);
    uint64_t off = 0;
    const char *key = NULL;
    while (!r.status && in->n) {
        unsigned what = fuzz_byte(in);
        char *name = what & 128 ? fuzz_text(in) : NULL;
        size_t n;
        const char *p = (const char *)fuzz_piece(in, &n), *now = keys[what % 5];
        if (key != now || what & 64) off = 0;
        key = now;
        if (!form_field(&r, key, name, p, off, n)) FUZZ_CHECK(r.status && r.code && r.text[0]);
        off += n;
        free(name);
    }
    if (!r.status) form_check(&r);
    if (!r.status) {
        FUZZ_CHECK(r.job->image.len && r.job->image.len <= s->o.max_upload && r.job->prefix && pg_utf8_valid(r.job->prefix, strlen(r.job->prefix)));
        FUZZ_CHECK(!strpbrk(r.job->prefix, "\r\n"));
    }
    pg_buf_free(&r.prefix);
    pg_buf_free(&r.own);
    job_unref(s, r.job);
    FUZZ_CHECK(!s->held);
}

static void headers(server *s, fuzz_bytes *in)
{
    char *authorization = fuzz_text(in), *accept = fuzz_text(in), *path = fuzz_text(in);
    /* Hashing takes milliseconds by intent: left to the tests. */
    if (strncasecmp(authorization, "Basic", 5) || !strstr(authorization, "bmFtZTo")) (void)auth_allows(s->auth, authorization);
    (void)auth_remembers(s->auth, authorization);
    FUZZ_CHECK(rates_take(s->rates, path, 1) >= 0);
    (void)find_want(accept);
    (void)find_route(path);
    free(authorization);
    free(accept);
    free(path);
}

static void answers(fuzz_bytes *in)
{
    job j = {.id = "1", .status = 200, .code = "code", .scored = true, .logprob = -1};
    pg_buf b = {0};
    pg_err e = {0};
    j.text = fuzz_text(in);
    j.partial = fuzz_text(in);
    if (pg_utf8_valid(j.text, strlen(j.text)) && pg_utf8_valid(j.partial, strlen(j.partial))) {
        FUZZ_CHECK(!answer_json(&j, &b, &e) && !answer_event("caption", &j, 0, false, &b, &e) && !answer_event("partial", &j, 0, false, &b, &e));
        FUZZ_CHECK(!answer_error("code", j.text, j.id, &b, &e) && !answer_event("error", &j, 0, false, &b, &e));
        b.len = 0;
        FUZZ_CHECK(!answer_html_error(400, j.text, &b, &e) && b.len);
    }
    pg_buf_free(&b);
    free(j.text);
    free(j.partial);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    server *s = make_server();
    fuzz_bytes in = {data, size};
    unsigned what = fuzz_byte(&in) % 3;
    if (what == 0) upload(s, &in);
    else if (what == 1) headers(s, &in);
    else answers(&in);
    return 0;
}
