#include "tool_fetch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void fuzz_fetch_start(fetch *f)
{
    static int nowhere = -1;
    pg_err e = {0};
    *f = (fetch){.t = {.name = "pg-fetch", .quiet = true}, .limit = SIZE_MAX, .order = {.epochs = 1}, .images = fuzz_folder()};
    if (nowhere < 0) nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    FUZZ_CHECK((f->p.rec = pg_rec_new()) && !pg_writer_new(&f->p.out, nowhere, "nowhere", &e));
}

void fuzz_fetch_end(fetch *f)
{
    order_drain(f);
    pg_rec_free(f->p.rec);
    pg_writer_free(f->p.out);
    fetch_free(f);
}

/* ---- in the place of fetch_stream.c: nothing is asked of a network ---- */
ahead *ahead_start(fetch *f, const char *source)
{
    (void)f, (void)source;
    return NULL;
}

ahead *ahead_listed(fetch *f, pg_item *i)
{
    (void)f, (void)i;
    return NULL;
}

void ahead_work(fetch *f) { (void)f; }

int ahead_wait(fetch *f, ahead *a, pg_buf *out, pg_err *e)
{
    (void)f, (void)a, (void)out;
    return pg_error(e, PG_FAIL, "no network here");
}

void ahead_free(ahead *a) { (void)a; }
