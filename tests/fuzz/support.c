#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "stream/record.h"
#include "stream/scan.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HOOKS 1
#endif
#endif

_Noreturn void fuzz_broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

/* ---- files ---- */
static char folder[64];

static void remove_folder(void)
{
    DIR *d = opendir(folder);
    char path[PATH_MAX];
    for (const struct dirent *f; d && (f = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        if (f->d_name[0] != '.') unlink(path);
    }
    if (d) closedir(d);
    rmdir(folder);
}

const char *fuzz_folder(void)
{
    if (folder[0]) return folder;
    snprintf(folder, sizeof folder, "%s/pg-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) fuzz_broken("a temporary folder", __FILE__, __LINE__);
    atexit(remove_folder);
    return folder;
}

/* Few names are used, so paths are kept. */
static const char *path_of(const char *name)
{
    static char paths[8][128];
    size_t i = 0;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    for (; i < 8 && paths[i][0]; i++)
        if (!strcmp(paths[i], path)) return paths[i];
    FUZZ_CHECK(i < 8);
    memcpy(paths[i], path, sizeof path);
    return paths[i];
}

const char *fuzz_file(const char *name, const void *p, size_t n)
{
    const char *path = path_of(name);
    unlink(path);
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(p, 1, n, f) == n && !fclose(f));
    return path;
}

/* ---- streams ---- */
bool fuzz_next_record(pg_rec *r, const uint8_t **data, size_t *n)
{
    pg_scan s = {0};
    if (!*n || pg_scan_object(&s, *data, *n, *n, NULL) != PG_SCAN_DONE) return false;
    bool good = !pg_rec_parse(r, *data, s.pos, NULL);
    *data += s.pos;
    *n -= s.pos;
    if (!good) pg_rec_clear(r);
    for (size_t i = 0; i < pg_rec_count(r); i++)
        if (!strncmp(pg_rec_key(r, i), "pg-", 3)) pg_rec_clear(r);
    return true;
}

const char *fuzz_stream_file(const char *name, const char *kind, const uint8_t *data, size_t n)
{
    const char *path = fuzz_file(name, "", 0);
    FILE *f = fopen(path, "wb");
    pg_rec *r = pg_rec_new();
    pg_writer *w = NULL;
    FUZZ_CHECK(f && r && !pg_writer_new(&w, fileno(f), name, NULL));
    FUZZ_CHECK(!pg_writer_header(w, NULL, kind, "fuzz", "0", 0, NULL, NULL, NULL));
    while (fuzz_next_record(r, &data, &n)) FUZZ_CHECK(!pg_writer_add(w, r, NULL));
    FUZZ_CHECK(!pg_writer_end(w, NULL, NULL));
    pg_writer_free(w);
    pg_rec_free(r);
    fclose(f);
    return path;
}

/* ---- exits ---- */
static jmp_buf out;
static bool guarded;

#ifdef HOOKS
int __sanitizer_install_malloc_and_free_hooks(void (*m)(const volatile void *, size_t), void (*f)(const volatile void *));
/* Blocks that were allocated since the guard began, open addressing; 0 is free, 1 was taken out. */
enum { BLOCKS = 1 << 16 };
static const volatile void *blocks[BLOCKS];
static size_t held;

static size_t place(const volatile void *p) { return ((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u >> 48; }

static void on_malloc(const volatile void *p, size_t n)
{
    (void)n;
    if (!guarded || !p || held > BLOCKS / 2) return;
    size_t at = place(p);
    while ((uintptr_t)blocks[at] > 1) at = (at + 1) % BLOCKS;
    blocks[at] = p;
    held++;
}

static void on_free(const volatile void *p)
{
    if (!guarded || !p) return;
    for (size_t at = place(p); blocks[at]; at = (at + 1) % BLOCKS)
        if (blocks[at] == p) {
            blocks[at] = (const void *)1;
            return;
        }
}

static void begin_guard(void)
{
    static bool installed;
    if (!installed) __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    installed = true;
    memset(blocks, 0, sizeof blocks);
    held = 0;
}

static void free_all(void)
{
    for (size_t i = 0; i < BLOCKS; i++)
        if ((uintptr_t)blocks[i] > 1) free((void *)(uintptr_t)blocks[i]);
}
#else
static void begin_guard(void) {}
static void free_all(void) {}
#endif

bool fuzz_guard(void (*fn)(void *ctx), void *ctx)
{
    int lowest = dup(0);
    close(lowest);
    begin_guard();
    if (!setjmp(out)) {
        guarded = true;
        fn(ctx);
        guarded = false;
        return true;
    }
    guarded = false;
    free_all();
    for (int fd = lowest; fd < lowest + 8; fd++) close(fd);
    return false;
}

_Noreturn void fuzz_exit(int status)
{
    (void)status;
    if (!guarded) fuzz_broken("an exit outside of a guard", __FILE__, __LINE__);
    longjmp(out, 1);
}

/* ---- pieces ---- */
void fuzz_touch(const void *p, size_t n)
{
    static volatile unsigned char sum;
    unsigned char x = 0;
    for (size_t i = 0; i < n; i++) x ^= ((const unsigned char *)p)[i];
    sum = x;
    (void)sum;
}

unsigned fuzz_byte(fuzz_bytes *b)
{
    if (!b->n) return 0;
    b->n--;
    return *b->p++;
}

const uint8_t *fuzz_piece(fuzz_bytes *b, size_t *n)
{
    size_t want = fuzz_byte(b);
    want |= (size_t)fuzz_byte(b) << 8;
    *n = want < b->n ? want : b->n;
    const uint8_t *p = b->p;
    b->p += *n;
    b->n -= *n;
    return p;
}

char *fuzz_text(fuzz_bytes *b)
{
    size_t n;
    const uint8_t *p = fuzz_piece(b, &n);
    char *s = pg_strndup((const char *)p, n);
    FUZZ_CHECK(s);
    for (size_t i = 0; i < n; i++)
        if (!s[i]) s[i] = 1;
    return s;
}
