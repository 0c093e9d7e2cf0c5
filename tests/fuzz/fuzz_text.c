/* Text in: pg-tokenize's prompt with the small model's tokenizer, lower-casing, boxes in captions, pg-score's words. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "metrics/words.h"
#include "text/locations.h"
#include "text/text.h"

static const pg_tokenizer *tokenizer(void)
{
    static pg_tokenizer *t;
    pg_err e = {0};
    if (!t) FUZZ_CHECK(!pg_tokenizer_open(&t, "data/nano", &e));
    return t;
}

static void prompt(const char *prefix, size_t n, const char *suffix, size_t m, size_t length)
{
    const pg_tokenizer *t = tokenizer();
    pg_prompt p = {0};
    pg_buf b = {0};
    pg_err e = {0};
    if (!pg_prompt_make(t, prefix, n, suffix, m, length, &p, &e)) {
        FUZZ_CHECK(!length || p.n == length);
        for (size_t i = 0; i < p.n; i++) FUZZ_CHECK(p.tokens[i] >= 0 && (size_t)p.tokens[i] < pg_tokenizer_size(t));
        FUZZ_CHECK(!pg_tokenizer_decode(t, p.tokens, p.n, &b, &e));
    }
    pg_prompt_free(&p);
    pg_buf_free(&b);
}

static void words(const char *s, size_t n, const char *next, size_t m)
{
    pg_words *w = pg_words_new();
    pg_err e = {0};
    FUZZ_CHECK(w);
    for (int context = PG_ALONE; context <= PG_LAST; context++) {
        pg_buf b = {0};
        if (!pg_words_make(w, s, n, (pg_context)context, next, context == PG_FOLLOWED ? m : 0, &b, &e)) FUZZ_CHECK(pg_utf8_valid((char *)b.data, b.len));
        pg_buf_free(&b);
    }
    pg_words_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_bytes in = {data, size};
    size_t length = fuzz_byte(&in) % 40, n;
    const char *prefix = (const char *)fuzz_piece(&in, &n), *suffix = (const char *)in.p;
    pg_buf low = {0};
    pg_box box;
    pg_err e = {0};
    prompt(prefix, n, suffix, in.n, length);
    words(suffix, in.n, prefix, n);
    if (!pg_text_lower(suffix, in.n, &low, &e)) FUZZ_CHECK(pg_utf8_valid((char *)low.data, low.len));
    pg_buf_free(&low);
    for (size_t at = 0; pg_next_box(suffix, in.n, &at, &box);) {
        FUZZ_CHECK(at <= in.n && box.x0 >= 0 && box.x0 < 1 && box.y1 >= 0 && box.y1 < 1);
        FUZZ_CHECK(box.label >= suffix && box.label + box.n_label <= suffix + in.n);
    }
    return 0;
}
