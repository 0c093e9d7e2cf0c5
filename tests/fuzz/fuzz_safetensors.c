/* A folder of a safetensors file with config.json beside it, or an index of two. The first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "weights/adapter.h"

static void open_and_read(const char *path)
{
    pg_weights *w;
    pg_model_shape s;
    pg_err e = {0};
    uint32_t crc;
    if (pg_weights_open(&w, path, &e)) {
        FUZZ_CHECK(e.code && e.msg[0]);
        return;
    }
    for (size_t i = 0; i < pg_weights_count(w); i++) {
        const pg_weight *t = pg_weights_at(w, i);
        fuzz_touch(t->data, t->count * pg_dtype_size(t->dtype));
    }
    if (!pg_weights_shape(w, &s, &e)) (void)!pg_weights_fingerprint(w, &crc, &e);
    pg_weights_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_bytes in = {data, size};
    unsigned what = fuzz_byte(&in);
    size_t n;
    const uint8_t *json = fuzz_piece(&in, &n);
    pg_adapter *a;
    pg_err e = {0};
    fuzz_file("config.json", "{}", 2); /* not that of the input before */
    if (what % 3 == 0) {
        fuzz_file("config.json", json, n);
        open_and_read(fuzz_file("model.safetensors", in.p, in.n));
    } else if (what % 3 == 1) {
        fuzz_file("a.safetensors", in.p, in.n / 2);
        fuzz_file("b.safetensors", in.p + in.n / 2, in.n - in.n / 2);
        open_and_read(fuzz_file("model.safetensors.index.json", json, n));
    } else {
        fuzz_file("adapter_config.json", json, n);
        if (!pg_adapter_open(&a, fuzz_file("adapter_model.safetensors", in.p, in.n), &e)) {
            for (size_t i = 0; i < pg_adapter_count(a); i++) FUZZ_CHECK(pg_adapter_at(a, i)->rank && pg_adapter_at(a, i)->canonical);
            pg_adapter_close(a);
        } else
            FUZZ_CHECK(e.code && e.msg[0]);
    }
    return 0;
}
