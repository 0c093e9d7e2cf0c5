/* NAME.part.json, what an earlier try left beside a part of a download: read, continued or begun anew, and read again as it was written. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fuzz.h"
#include "net/part.h"

static pg_part opened(const char *path)
{
    pg_part p;
    pg_err e = {0};
    FUZZ_CHECK(pg_part_open(&p, path, &e) == 1);
    return p;
}

static char *copy(const char *s)
{
    char *out = s ? pg_strdup(s) : NULL;
    FUZZ_CHECK(!s || out);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char bytes[] = "bytes of an earlier try";
    static char *path;
    fuzz_bytes in = {data, size};
    pg_err e = {0};
    if (!path) FUZZ_CHECK((path = pg_path_join(fuzz_folder(), "a")));
    char *etag = fuzz_text(&in), *source = fuzz_text(&in);
    const char *part = fuzz_file("a.part", bytes, sizeof bytes);
    fuzz_file("a.part.json", in.p, in.n);
    pg_part p = opened(path);
    FUZZ_CHECK(p.have == (p.from.source ? sizeof bytes : 0)); /* bytes that nobody knows are not kept */
    pg_origin from = {.source = copy(p.from.source ? p.from.source : source), .etag = copy(p.from.etag ? p.from.etag : etag),
                      .generation = copy(p.from.generation), .size = p.from.size, .sums = p.from.sums};
    FUZZ_CHECK(from.source && from.etag);
    if (p.from.etag || p.from.generation || p.from.sums.have) FUZZ_CHECK(pg_origin_same(&p.from, &from));
    FUZZ_CHECK(!pg_part_begin(&p, &from, &e) && !pg_part_write(&p, "new", 3, &e));
    pg_part_close(&p, false);

    p = opened(path);
    FUZZ_CHECK(p.have == 3 && p.from.size == from.size && p.from.sums.have == from.sums.have && !pg_sums_differ(&p.from.sums, &from.sums));
    if (pg_utf8_valid(from.source, strlen(from.source))) FUZZ_CHECK(!strcmp(p.from.source, from.source));
    /* A validator is as it was or absent. */
    FUZZ_CHECK(p.from.etag ? !strcmp(p.from.etag, from.etag) : !pg_utf8_valid(from.etag, strlen(from.etag)));
    FUZZ_CHECK(!p.from.generation == !from.generation && (!from.generation || !strcmp(p.from.generation, from.generation)));
    pg_part_close(&p, true);
    FUZZ_CHECK(!pg_is_file(path) && !pg_is_file(part));
    pg_origin_free(&from);
    free(etag);
    free(source);
    return 0;
}
