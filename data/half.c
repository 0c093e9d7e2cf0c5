/* A checkpoint's tensors as float16: half IN.npz OUT.npz. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "weights/weights.h"

int main(int argc, char **argv)
{
    pg_err e = {0};
    pg_npz *in = NULL;
    pg_npz_writer *out = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: half IN.npz OUT.npz\n");
        return 2;
    }
    if (pg_npz_open(&in, argv[1], &e) || pg_npz_create(&out, argv[2], &e)) goto fail;
    for (size_t i = 0; i < pg_npz_count(in); i++) {
        const pg_npy *a = pg_npz_at(in, i);
        uint16_t *h = pg_alloc(a->count, sizeof *h);
        if (!h || strcmp(a->descr, "<f4")) {
            pg_error(&e, PG_EFORMAT, "'%s' is not float32", a->key);
            free(h);
            goto fail;
        }
        for (size_t k = 0; k < a->count; k++) {
            float v;
            memcpy(&v, a->data + 4 * k, 4);
            h[k] = pg_f32_to_f16(v);
        }
        int rc = pg_npz_begin(out, a->key, "<f2", a->ndim, a->shape, &e);
        if (!rc) rc = pg_npz_data(out, h, a->count * sizeof *h, &e);
        free(h);
        if (rc) goto fail;
    }
    if (pg_npz_commit(out, &e)) {
        out = NULL;
        goto fail;
    }
    pg_npz_close(in);
    return 0;
fail:
    fprintf(stderr, "half: %s\n", e.msg);
    pg_npz_abort(out);
    pg_npz_close(in);
    return 1;
}
