/* pg-render: the report of one stream, of two, of events; the curve. The first byte says which. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"
#include "render.h"

typedef struct job {
    char *files[2];
    size_t n;
    FILE *out;
    const uint8_t *data;
    size_t size;
} job;

static void report_of(void *ctx)
{
    job *j = ctx;
    pg_tool t = {.name = "pg-render", .quiet = true};
    report_options o = {0};
    uint64_t errors = 0;
    render_html(&t, j->out, j->files, j->n, &o, &errors);
}

static void curve_of(void *ctx)
{
    job *j = ctx;
    curve *c = pg_calloc(1, sizeof *c);
    pg_rec *r = pg_rec_new();
    FUZZ_CHECK(c && r);
    while (fuzz_next_record(r, &j->data, &j->size)) curve_add(c, r);
    render_svg(j->out, (const curve *const[]){c}, (const char *const[]){"fuzz"}, 1, false);
    free(c);
    pg_rec_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    fuzz_bytes in = {data, size};
    unsigned how = fuzz_byte(&in) % 4;
    if (!nowhere) FUZZ_CHECK((nowhere = fopen("/dev/null", "w")));
    job j = {.out = nowhere, .data = in.p, .size = in.n, .n = how == 1 ? 2 : 1};
    if (how == 3) {
        fuzz_guard(curve_of, &j);
        return 0;
    }
    j.files[0] = j.files[1] = (char *)(uintptr_t)fuzz_stream_file("in.pgs", how == 2 ? "events" : "examples", in.p, in.n);
    FUZZ_CHECK(fuzz_guard(report_of, &j)); /* no record ends the report */
    return 0;
}
