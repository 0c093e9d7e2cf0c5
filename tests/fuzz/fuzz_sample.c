/* What pg-infer and pg-train take from a record, checked against a model's sizes. */
#include "fuzz.h"
#include "model/sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const pg_model_shape shape = {.family = 1, .image_size = 2, .patch = 1, .n_image = 4, .width = 8, .depth = 1, .vocab = 300};
    pg_rec *r = pg_rec_new();
    pg_sample s = {0};
    pg_err e = {0};
    FUZZ_CHECK(r);
    while (fuzz_next_record(r, &data, &size)) {
        if (pg_sample_read(&s, &shape, r, &e)) {
            FUZZ_CHECK(e.code && e.msg[0]);
            continue;
        }
        FUZZ_CHECK(s.n_prefix >= 1 && s.n_prefix <= s.n && s.n_loss <= s.n);
        for (size_t i = 0; i < s.n; i++) FUZZ_CHECK(s.tokens[i] >= 0 && (size_t)s.tokens[i] < shape.vocab);
    }
    pg_sample_free(&s);
    pg_rec_free(r);
    return 0;
}
