/* pg-fetch's JSON lines. The first byte says whether they are beside a remote file. */
#include <stdlib.h>

#include "tool_fetch.h"

typedef struct job {
    fetch f;
    FILE *in;
    const char *base;
} job;

static void run(void *ctx)
{
    job *j = ctx;
    fuzz_fetch_start(&j->f);
    fetch_jsonl(&j->f, j->in, "in.jsonl", fuzz_folder(), j->base);
    fuzz_fetch_end(&j->f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_bytes in = {data, size};
    job j = {.base = fuzz_byte(&in) & 1 ? "https://example.org/data/in.jsonl?signature=x" : NULL};
    const char *path = fuzz_file("in.jsonl", in.p, in.n);
    static char buffer[4096];
    FUZZ_CHECK((j.in = fopen(path, "rb")) && !setvbuf(j.in, buffer, _IOFBF, sizeof buffer)); /* one that the guard knows nothing of */
    fuzz_guard(run, &j);
    fclose(j.in);
    return 0;
}
