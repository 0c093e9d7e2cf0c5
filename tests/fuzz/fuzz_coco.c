/* COCO's captions file: as pg-fetch's source, and as pg-score's references. */
#include "text/coco.h"

#include "tool_fetch.h"

typedef struct job {
    fetch f;
    const char *path;
} job;

static void run(void *ctx)
{
    job *j = ctx;
    fuzz_fetch_start(&j->f);
    fetch_coco(&j->f, j->path);
    fuzz_fetch_end(&j->f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    job j = {.path = fuzz_file("in.json", data, size)};
    pg_coco c;
    pg_err e = {0};
    fuzz_guard(run, &j);
    if (pg_coco_open(&c, j.path, SIZE_MAX, &e)) return 0;
    for (size_t i = 0; i < c.n; i++) FUZZ_CHECK(pg_coco_find(&c, c.images[i].id));
    pg_coco_close(&c);
    return 0;
}
