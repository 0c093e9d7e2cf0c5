/* What is under way, on a terminal: a line for each file and one for all. */
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "fetch.h"

enum { LINES_MAX = 16, PLAIN_EVERY_MS = 10000 };

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void human_bytes(uint64_t n, char out[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 999.5 && u < 4) v /= 1000, u++;
    snprintf(out, 24, u && v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

void progress_start(fetch *f, pg_transfer **all, size_t n)
{
    f->bar = (progress){.on = true, .all = all, .n = n, .start = now_ms(), .last = now_ms()};
}

void progress_clear(fetch *f)
{
    if (f->bar.drawn) fprintf(stderr, "\r\033[%zuA\033[J", f->bar.drawn);
    f->bar.drawn = 0;
}

void progress_end(fetch *f)
{
    progress_clear(f);
    f->bar.on = false;
}

static void line(const char *name, uint64_t done, uint64_t total, const char *tail)
{
    char a[24], b[24], bar[21] = "                    ";
    human_bytes(done, a);
    human_bytes(total, b);
    if (total == PG_SIZE_UNKNOWN || !total) {
        fprintf(stderr, "%-28.28s %9s%s\033[K\n", name, a, tail);
        return;
    }
    size_t full = (size_t)((double)done / (double)total * 20);
    memset(bar, '#', full < 20 ? full : 20);
    fprintf(stderr, "%-28.28s [%s] %3.0f %%  %9s of %-9s%s\033[K\n", name, bar, 100 * (double)done / (double)total, a, b, tail);
}

void progress_tick(void *ctx)
{
    fetch *f = ctx;
    progress *p = &f->bar;
    uint64_t done = 0, total = 0, arrived = 0;
    size_t finished = 0, lines = 0;
    bool terminal = isatty(STDERR_FILENO) && !f->t.quiet, known = true;
    if (!p->on || (!terminal && (!f->t.verbose || now_ms() - p->last < PLAIN_EVERY_MS))) return;
    p->last = now_ms();
    for (size_t i = 0; i < p->n; i++) {
        const pg_transfer *t = p->all[i];
        uint64_t size = t->total != PG_SIZE_UNKNOWN ? t->total : t->size;
        done += t->done;
        arrived += t->arrived;
        finished += t->outcome != PG_PENDING;
        if (size == PG_SIZE_UNKNOWN) known = false;
        else total += size;
    }
    double seconds = (double)(p->last - p->start) / 1000, rate = seconds > 0.2 ? (double)arrived / seconds : 0;
    char tail[80], r[24], name[32];
    human_bytes((uint64_t)rate, r);
    size_t at = (size_t)snprintf(tail, sizeof tail, "  %s/s", r);
    if (known && rate > 0 && total > done) {
        uint64_t left = (uint64_t)((double)(total - done) / rate);
        snprintf(tail + at, sizeof tail - at, "  %llu:%02llu left", (unsigned long long)left / 60, (unsigned long long)left % 60);
    }
    snprintf(name, sizeof name, "%zu of %zu files", finished, p->n);
    if (!terminal) {
        char a[24], b[24];
        human_bytes(done, a);
        human_bytes(total, b);
        fprintf(stderr, "%s: %s, %s%s%s%s\n", f->t.name, name, a, known ? " of " : "", known ? b : "", tail);
        return;
    }
    progress_clear(f);
    for (size_t i = 0; i < p->n && lines < LINES_MAX; i++) {
        const pg_transfer *t = p->all[i];
        if (t->outcome != PG_PENDING || !t->done) continue;
        const char *slash = t->path ? strrchr(t->path, '/') : NULL;
        line(slash ? slash + 1 : t->source, t->done, t->total, "");
        lines++;
    }
    line(name, done, known ? total : PG_SIZE_UNKNOWN, tail);
    p->drawn = lines + 1;
}
