/* pg-score's input: a stream (first byte even), JSON lines or COCO's results, with references or without; then the scores. */
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"
#include "score.h"

typedef struct job {
    const char *path;
    const pg_coco *coco;
} job;

static void run(void *ctx)
{
    const job *j = ctx;
    pg_tool t = {.name = "pg-score", .quiet = true};
    scoring how = {.json = true};
    set s = {0};
    int fd = open(j->path, O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    set_read(&t, &s, fd, j->path, j->coco);
    if (s.scored) {
        pg_corpus *c = score_set(&t, &s, &how);
        for (size_t i = 0; i < s.scored; i++) FUZZ_CHECK(pg_corpus_image(c, i).v[PG_CIDER] >= 0);
        pg_corpus_free(c);
    }
    set_free(&s);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char references[] = "{\"images\":[{\"id\":1,\"file_name\":\"a/b.jpg\"}],\"annotations\":[{\"image_id\":1,\"caption\":\"a cat\"}]}";
    fuzz_bytes in = {data, size};
    unsigned how = fuzz_byte(&in);
    pg_coco c = {0};
    pg_err e = {0};
    if (how & 2) FUZZ_CHECK(!pg_coco_open(&c, fuzz_file("references.json", references, sizeof references - 1), SIZE_MAX, &e));
    job j = {.coco = &c, .path = how & 1 ? fuzz_file("in.json", in.p, in.n) : fuzz_stream_file("in.pgs", "examples", in.p, in.n)};
    fuzz_guard(run, &j);
    pg_coco_close(&c);
    return 0;
}
