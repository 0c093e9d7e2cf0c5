/* Every way to read a value of a record, its JSON, and setting values of it. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static void read_all_ways(pg_rec *r, const char *key)
{
    pg_err e = {0};
    const char *s;
    const unsigned char *p;
    size_t n;
    int64_t i;
    double d;
    int32_t *v;
    char **list;
    pg_tensor t;
    if (pg_rec_str(r, key, &s, &n, &e) == 1) fuzz_touch(s, n);
    if (pg_rec_bin(r, key, &p, &n, &e) == 1) fuzz_touch(p, n);
    (void)!pg_rec_int(r, key, &i, &e);
    (void)!pg_rec_double(r, key, &d, &e);
    if (pg_rec_ints(r, key, &v, &n, &e) == 1) fuzz_touch(v, n * sizeof *v);
    free(v);
    if (pg_rec_strs(r, key, &list, &n, &e) == 1)
        for (size_t k = 0; k < n; k++) fuzz_touch(list[k], strlen(list[k]) + 1);
    pg_strs_free(list, n);
    if (pg_rec_tensor(r, key, &t, &e) == 1) fuzz_touch(t.data, t.bytes);
}

static void change(pg_rec *r)
{
    pg_err e = {0};
    const char *text;
    size_t n;
    char *why = pg_rec_error(r);
    free(why);
    FUZZ_CHECK(!pg_rec_set_str(r, "id", "x", 1, &e) && pg_rec_str(r, "id", &text, &n, &e) == 1 && n == 1);
    FUZZ_CHECK(!pg_rec_set_error(r, "fuzz", "\xff odd", &e) && pg_rec_has_error(r));
    FUZZ_CHECK((why = pg_rec_error(r)) && !strncmp(why, "fuzz: ", 6));
    free(why);
    pg_rec_del(r, "id");
    FUZZ_CHECK(!pg_rec_has(r, "id"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pg_rec *r = pg_rec_new();
    pg_buf b = {0};
    pg_err e = {0};
    FUZZ_CHECK(r);
    while (fuzz_next_record(r, &data, &size)) {
        for (size_t i = 0; i < pg_rec_count(r); i++) {
            read_all_ways(r, pg_rec_key(r, i));
            for (int with_tensors = 0; with_tensors < 2; with_tensors++) {
                b.len = 0;
                if (!pg_rec_json(r, i, with_tensors, &b, &e)) FUZZ_CHECK(b.len && pg_utf8_valid((char *)b.data, b.len));
            }
        }
        change(r);
    }
    pg_buf_free(&b);
    pg_rec_free(r);
    return 0;
}
