/* Any npz: the zip directory, deflated members, npy headers; then as a checkpoint and as pg-train's resume file. */
#include <string.h>

#include "fuzz.h"
#include "train/state.h"
#include "weights/weights.h"

static void say(void *ctx, const char *text)
{
    (void)ctx;
    FUZZ_CHECK(*text);
}

static void as_checkpoint(const char *path)
{
    pg_weights *w;
    pg_model_shape s;
    size_t faults;
    pg_err e = {0};
    if (pg_weights_open(&w, path, &e)) {
        FUZZ_CHECK(e.code && e.msg[0]);
        return;
    }
    (void)!pg_weights_shape(w, &s, &e);
    (void)!pg_weights_verify(w, say, NULL, &faults, &e);
    pg_weights_close(w);
}

static void as_state(const char *path)
{
    float values[6];
    pg_param param = {.name = "llm/final_norm/scale", .layers = 1, .per_layer = 6, .count = 6, .w = values};
    pg_model m = {.params = &param, .n_params = 1};
    pg_optim o = {.kind = PG_ADAMW};
    pg_progress p;
    pg_err e = {0};
    FUZZ_CHECK(!pg_optim_init(&o, &m, &e));
    if (pg_state_load(path, &m, &o, &p, "steps 4\nbatch 2\n", &e)) FUZZ_CHECK(e.code && e.msg[0]);
    pg_optim_free(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("in.npz", data, size);
    pg_npz *z;
    pg_err e = {0};
    if (!pg_npz_open(&z, path, &e)) {
        for (size_t i = 0; i < pg_npz_count(z); i++) {
            const pg_npy *a = pg_npz_at(z, i);
            fuzz_touch(a->data, a->count * a->itemsize);
            FUZZ_CHECK(pg_npz_find(z, a->key) == a);
        }
        pg_npz_close(z);
    }
    as_checkpoint(path);
    as_state(path);
    return 0;
}
