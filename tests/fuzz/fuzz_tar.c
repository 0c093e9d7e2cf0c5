/* pg-fetch's WebDataset archives. The reader of the format is libarchive's. */
#include <archive.h>

#include "tool_fetch.h"

typedef struct job {
    fetch f;
    const char *path;
} job;

static void run(void *ctx)
{
    job *j = ctx;
    fuzz_fetch_start(&j->f);
    fetch_tar(&j->f, j->path, j->path);
    fuzz_fetch_end(&j->f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    job j = {.path = fuzz_file("in.tar", data, size)};
    fuzz_guard(run, &j);
    return 0;
}

#ifdef PG_LIBFUZZER
/* A member's header has a checksum, looked at before anything else. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    enum { BLOCK = 512, SUM = 148 };
    size = LLVMFuzzerMutate(data, size, max);
    for (size_t at = 0; seed % 8 && size - at >= BLOCK; at += BLOCK) {
        unsigned sum = 8 * ' ';
        if (data[at] && data[at + 257] != 'u') continue; /* no header of the newer forms */
        for (size_t i = 0; i < BLOCK; i++)
            if (i < SUM || i >= SUM + 8) sum += data[at + i];
        if (sum != 8 * ' ') snprintf((char *)data + at + SUM, 8, "%06o", sum);
    }
    return size;
}
#endif
