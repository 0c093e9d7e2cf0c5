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

/* As much of the text as fits: a line that wraps could not be drawn over. */
static void put_line(const char *text)
{
    struct winsize w;
    size_t room = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || w.ws_col < 2 ? 79 : (size_t)w.ws_col - 1, n = strlen(text);
    if (n > room) n = room;
    while (n && n < strlen(text) && (text[n] & 0xC0) == 0x80) n--; /* not within a character */
    fprintf(stderr, "%.*s\033[K\n", (int)n, text);
}

static void file_line(const char *name, uint64_t done, uint64_t total)
{
    char a[24], b[24], text[160], bar[21] = "                    ";
    human_bytes(done, a);
    human_bytes(total, b);
    double part = total && total != PG_SIZE_UNKNOWN ? (double)done / (double)total : 0;
    memset(bar, '#', part < 1 ? (size_t)(part * 20) : 20);
    if (total == PG_SIZE_UNKNOWN) snprintf(text, sizeof text, "%-24.24s %9s", name, a);
    else snprintf(text, sizeof text, "%-24.24s [%s] %3.0f %%  %s of %s", name, bar, 100 * part, a, b);
    tool_hide(text); /* names may be a server's */
    put_line(text);
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
    char tail[80], a[24], b[24], r[24], text[200];
    human_bytes((uint64_t)rate, r);
    human_bytes(done, a);
    human_bytes(total, b);
    size_t at = (size_t)snprintf(tail, sizeof tail, ", %s/s", r);
    if (known && rate > 0 && total > done) {
        uint64_t left = (uint64_t)((double)(total - done) / rate);
        snprintf(tail + at, sizeof tail - at, ", %llu:%02llu left", (unsigned long long)left / 60, (unsigned long long)left % 60);
    }
    snprintf(text, sizeof text, "%zu of %zu file%s: %s%s%s%s", finished, p->n, p->n == 1 ? "" : "s", a, known ? " of " : "", known ? b : "", tail);
    if (!terminal) {
        fprintf(stderr, "%s: %s\n", f->t.name, text);
        return;
    }
    progress_clear(f);
    for (size_t i = 0; i < p->n && lines < LINES_MAX; i++) {
        const pg_transfer *t = p->all[i];
        if (t->outcome != PG_PENDING || !t->done) continue;
        const char *slash = t->path ? strrchr(t->path, '/') : NULL;
        file_line(slash ? slash + 1 : t->source, t->done, t->total);
        lines++;
    }
    put_line(text);
    p->drawn = lines + 1;
}
