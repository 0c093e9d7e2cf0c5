/* A tokenizer.model that is not what it should be. The reader of the format is libsentencepiece's. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "a cat on <loc0001>\nthe mat \xc3\xa9\xf0\x9f\x90\x84";
    pg_tokenizer *t;
    pg_buf b = {0};
    pg_err e = {0};
    int32_t *ids;
    size_t n;
    if (pg_tokenizer_open(&t, fuzz_file("tokenizer.model", data, size), &e)) {
        FUZZ_CHECK(e.code && e.msg[0]);
        return 0;
    }
    for (size_t i = 0; pg_tokenizer_warning(t, i); i++) FUZZ_CHECK(*pg_tokenizer_warning(t, i));
    if (!pg_tokenizer_encode(t, text, sizeof text - 1, &ids, &n, &e)) {
        (void)!pg_tokenizer_decode(t, ids, n, &b, &e);
        free(ids);
    }
    pg_buf_free(&b);
    pg_tokenizer_free(t);
    return 0;
}
