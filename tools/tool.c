#define _GNU_SOURCE /* program_invocation_short_name */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

enum { OPT_VERSION = 0x7000, MIN_RECORD = 64 << 10, MOST_OPTIONS = 96 };

void tool_hide(char *text)
{
    for (size_t i = 0, n = strlen(text), len; i < n; i += len ? len : 1) {
        uint32_t hidden;
        len = pg_utf8_look(text + i, n - i, &hidden);
        if (hidden != UINT32_MAX) memset(text + i, '?', len);
    }
}

static void say(const pg_tool *t, const char *kind, const char *fmt, va_list ap)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    tool_hide(text);
    fprintf(stderr, "%s: %s%s\n", t->name, kind, text);
}

void tool_start(pg_tool *t, const char *name, const char *help, int argc, char **argv)
{
    sigset_t pipe;
    *t = (pg_tool){.name = name, .help = help, .argc = argc, .argv = argv};
    /* A parent may have left SIGPIPE ignored or blocked; then a closed pipe would look like a full disk. */
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigprocmask(SIG_UNBLOCK, &pipe, NULL);
    /* A closed 0, 1 or 2 would be taken by the next file opened. Reading or writing the stand-in fails, as it should. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) _exit(EXIT_FAIL);
}

int tool_close_stdout(const pg_tool *t)
{
    if (fflush(stdout) || ferror(stdout)) {
        int saved = errno;
        fprintf(stderr, "%s: cannot write 'stdout': %s\n", t->name, strerror(saved ? saved : EIO));
        return EXIT_FAIL;
    }
    if (close(STDOUT_FILENO) && errno != EBADF) {
        fprintf(stderr, "%s: cannot write 'stdout': %s\n", t->name, strerror(errno));
        return EXIT_FAIL;
    }
    return EXIT_OK;
}

/* What stands behind `--name ` where the help describes it, not where prose mentions it; its length, 0 where there is none. */
static size_t value_name(const char *help, const char *dashed, const char **value)
{
    for (const char *s = help; (s = strstr(s, dashed)); s++) {
        if (s - help < 2 || (strncmp(s - 2, "  ", 2) != 0 && strncmp(s - 2, ", ", 2) != 0 && s[-1] != '[')) continue;
        *value = s + strlen(dashed);
        return strcspn(*value, " ,;]\n");
    }
    return 0;
}

/* The table as lines `-m, --model MODEL`, from which the shell's completion is made; the values' names are the help's. */
static void list_options(const pg_tool *t, const struct option *o)
{
    for (; o->name; o++) {
        char dashed[64];
        const char *value = "";
        snprintf(dashed, sizeof dashed, "--%s ", o->name);
        size_t len = o->has_arg ? value_name(t->help, dashed, &value) : 0;
        if (o->val < 256) printf("-%c, ", o->val);
        printf("--%s%s%.*s\n", o->name, !o->has_arg ? "" : len ? " " : " VALUE", (int)len, value);
    }
    exit(tool_close_stdout(t));
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Letters that must be changed, added or removed (Levenshtein); of a long word as many as it has. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32], n = strlen(a), m = strlen(b);
    if (m >= sizeof row / sizeof *row || n > m + 2) return n + m;
    for (size_t k = 0; k <= m; k++) row[k] = k;
    for (size_t i = 1; i <= n; i++) {
        size_t corner = row[0]++;
        for (size_t k = 1; k <= m; k++) {
            size_t here = least(corner + (a[i - 1] != b[k - 1]), 1 + least(row[k], row[k - 1]));
            corner = row[k];
            row[k] = here;
        }
    }
    return row[m];
}

const char *tool_meant(const char *word, const char *const *known, size_t n)
{
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, known[i]);
        if (d >= best_distance || (d == 2 && strlen(known[i]) <= 4)) continue;
        best = known[i];
        best_distance = d;
    }
    return best;
}

static _Noreturn void unknown_option(const pg_tool *t, const char *word, const struct option *all)
{
    char name[64];
    const char *known[MOST_OPTIONS];
    size_t n = 0;
    int len = (int)strcspn(word, "=");
    for (; all[n].name; n++) known[n] = all[n].name;
    snprintf(name, sizeof name, "%.*s", len > 2 ? len - 2 : 0, len > 2 ? word + 2 : "");
    const char *meant = tool_meant(name, known, n);
    if (meant) tool_usage(t, "unknown option '%.*s': did you mean '--%s'?", len, word, meant);
    tool_usage(t, "unknown option '%.*s'", len, word);
}

/* What getopt_long did not take, in words. Where it stopped at a long option, that is the word before optind. */
_Noreturn static void bad_option(const pg_tool *t, const char *letters, const struct option *all)
{
    const char *word = t->argv[optind - 1];
    size_t begun = 0, len = strcspn(word, "=");
    if (optopt && optopt < 256 && !strchr(letters, optopt)) tool_usage(t, "unknown option '-%c'", optopt);
    if (optopt) tool_usage(t, "option '%.*s' takes no value", (int)len, word);
    for (const struct option *o = all; o->name; o++) begun += len > 2 && !strncmp(o->name, word + 2, len - 2);
    if (begun > 1) tool_usage(t, "option '%.*s' may be several", (int)len, word);
    unknown_option(t, word, all);
}

int tool_getopt(pg_tool *t, const char *shorts, const struct option *opts, bool threads)
{
    static const struct option common[] = {{"help", no_argument, NULL, 'h'},
                                           {"quiet", no_argument, NULL, 'q'},
                                           {"verbose", no_argument, NULL, 'v'},
                                           {"version", no_argument, NULL, OPT_VERSION},
                                           {"threads", required_argument, NULL, 'j'}};
    struct option all[MOST_OPTIONS];
    char letters[128];
    size_t n = 0;
    for (; opts && opts[n].name; n++) {
        if (n == 80) abort(); /* a program's own table */
        all[n] = opts[n];
    }
    for (size_t i = 0; i < 4 + (size_t)threads; i++) all[n++] = common[i];
    all[n] = (struct option){0};
    if (t->argc == 2 && !strcmp(t->argv[1], "--list-options")) list_options(t, all);
    snprintf(letters, sizeof letters, ":hqv%s%s", threads ? "j:" : "", shorts);
    opterr = 0;
    for (;;) {
        int c = getopt_long(t->argc, t->argv, letters, all, NULL);
        switch (c) {
        case 'h':
            fputs(t->help, stdout);
            exit(tool_close_stdout(t));
        case OPT_VERSION:
            printf("%s %s\n", t->name, PG_VERSION);
            exit(tool_close_stdout(t));
        case 'q': t->quiet = true; continue;
        case 'v': t->verbose = true; continue;
        case TOOL_OPT_RECORD:
            if (!pg_parse_bytes(optarg, &t->max_record) || t->max_record < MIN_RECORD || t->max_record > UINT32_MAX)
                tool_usage(t, "--max-record '%s': want a size from 64K to less than 4G", optarg);
            continue;
        case 'j':
            if (threads) {
                t->threads = tool_size(t, "--threads", optarg, 1, 1024);
                continue;
            }
            return c;
        case ':': tool_usage(t, "option '%s' needs a value", t->argv[optind - 1]);
        case '?': bad_option(t, letters, all);
        default: return c;
        }
    }
}

size_t tool_max_record(const pg_tool *t) { return t->max_record ? t->max_record : PG_RECORD_MAX; }

/* Where BLIS finds no memory it prints a message and calls bli_abort, which ends the process with a core dump. The Makefile has the linker
 * put this function in its place, so that the tool ends as it does for other failures. */
_Noreturn void __wrap_bli_abort(void);
void __wrap_bli_abort(void)
{
    fprintf(stderr, "%s: out of memory in a matrix product\n", program_invocation_short_name);
    _exit(EXIT_FAIL);
}

void tool_usage(const pg_tool *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(t, "", fmt, ap);
    va_end(ap);
    fprintf(stderr, "Try '%s --help'.\n", t->name);
    exit(EXIT_USAGE);
}

void tool_die(const pg_tool *t, int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(t, "", fmt, ap);
    va_end(ap);
    exit(status);
}

void tool_no_memory(const pg_tool *t) { tool_die(t, EXIT_FAIL, "out of memory"); }

void tool_must(const pg_tool *t, int rc, const pg_err *e)
{
    if (rc) tool_die(t, EXIT_FAIL, "%s", e->msg);
}

void tool_error(const pg_tool *t, const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    va_start(ap, fmt);
    say(t, "", fmt, ap);
    va_end(ap);
}

void tool_warn(pg_tool *t, const char *fmt, ...)
{
    va_list ap;
    t->warnings++;
    if (t->silent) return;
    va_start(ap, fmt);
    say(t, "warning: ", fmt, ap);
    va_end(ap);
}

void tool_info(const pg_tool *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!t->quiet) say(t, "", fmt, ap);
    va_end(ap);
}

void tool_note(const pg_tool *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (t->verbose) say(t, "", fmt, ap);
    va_end(ap);
}

size_t tool_size(const pg_tool *t, const char *option, const char *value, size_t min, size_t max)
{
    size_t v;
    bool digits = *value && !value[strspn(value, "0123456789")];
    if (!pg_parse_size(value, &v)) tool_usage(t, "%s '%s': %s", option, value, digits ? "too large a number" : "not a whole number");
    if (v < min || v > max) tool_usage(t, "%s %s: not between %zu and %zu", option, value, min, max);
    return v;
}

double tool_double(const pg_tool *t, const char *option, const char *value, double min, double max)
{
    double v;
    if (!pg_parse_double(value, &v)) tool_usage(t, "%s '%s': not a number", option, value);
    if (v < min || v > max) tool_usage(t, "%s %s: not between %g and %g", option, value, min, max);
    return v;
}

static bool ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n > m && !strcasecmp(name + n - m, ending);
}

void tool_checkpoint_name(const pg_tool *t, const char *name)
{
    static const char *const mistaken[] = {".npy", ".npz", ".safetensor", ".safetensors", ".safetensors.index.json", ".tensors", ".bin", ".pt", ".pth",
                                           ".ckpt", ".h5", ".hdf5", ".keras", ".gguf", ".onnx", ".pkl", ".pickle", ".msgpack", ".tflite",
                                           ".json", ".zip", ".tar", ".gz", ".pgs", ".state"};
    if (pg_ends_with(name, ".npz") || pg_ends_with(name, ".safetensors")) return;
    for (size_t i = 0; i < sizeof mistaken / sizeof *mistaken; i++)
        if (ends_in(name, mistaken[i]) && !pg_is_dir(name))
            tool_usage(t, "'%s': files are written as *.npz and *.safetensors; for a folder of this name write '%s/'", name, name);
}

int tool_stream_status(const pg_err *e) { return e->code == PG_EFORMAT || e->code == PG_ELIMIT ? EXIT_STREAM : EXIT_FAIL; }

int tool_open_file(const pg_tool *t, const char **path)
{
    bool input = !strcmp(*path, "-");
    int fd = input ? STDIN_FILENO : open(*path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) tool_die(t, EXIT_FAIL, "cannot open '%s': %s", *path, strerror(errno));
    if (input) *path = "standard input";
    return fd;
}

void tool_open_in(pg_tool *t, tool_pipe *p, int fd, const char *name, const char *want_kind)
{
    pg_err e = {0};
    const char *kind;
    struct stat st;
    size_t n;
    if (isatty(fd)) tool_usage(t, "no input: a stream is expected on standard input, which is a terminal");
    p->header = pg_rec_new();
    p->rec = pg_rec_new();
    if (!p->header || !p->rec) tool_no_memory(t);
    if (pg_reader_new(&p->in, fd, name, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    pg_reader_limit(p->in, tool_max_record(t));
    /* Not of fd: it may be a file that keeps what came. */
    p->told = getenv("PG_QUIET_CUT") && !strcmp(name, "standard input") && !fstat(STDIN_FILENO, &st) && S_ISFIFO(st.st_mode);
    if (pg_reader_header(p->in, p->header, &e) != 1) tool_bad_stream(t, p, &e);
    int rc = pg_rec_str(p->header, "kind", &kind, &n, &e);
    if (rc < 0) tool_die(t, EXIT_STREAM, "bad stream '%s': %s", name, e.msg);
    if (want_kind && (rc == 0 || n != strlen(want_kind) || memcmp(kind, want_kind, n)))
        tool_die(t, EXIT_STREAM, "'%s' is a stream of %.*s, %s are wanted", name, rc ? (int)n : 12, rc ? kind : "unknown kind", want_kind);
}

void tool_open_out(pg_tool *t, tool_pipe *p, const char *kind, const pg_rec *extra)
{
    pg_err e = {0};
    if (isatty(STDOUT_FILENO) && !t->forwarded)
        tool_usage(t, "a binary stream is not written to a terminal: redirect it (> file.pgs) or pipe it into another tool");
    if (pg_writer_new(&p->out, STDOUT_FILENO, "stdout", &e) ||
        pg_writer_header(p->out, p->header, kind, t->name, PG_VERSION, t->argc, t->argv, extra, &e))
        tool_die(t, EXIT_FAIL, "%s", e.msg);
    if (p->in) pg_reader_tie(p->in, p->out);
}

int tool_read(tool_pipe *p, pg_err *e)
{
    errno = 0;
    int rc = pg_reader_next(p->in, p->rec, e);
    if (rc < 0 && e->code == PG_EIO && errno == EPIPE) raise(SIGPIPE); /* as a write would have ended it */
    return rc;
}

bool tool_next(pg_tool *t, tool_pipe *p)
{
    pg_err e = {0};
    int rc = tool_read(p, &e);
    if (rc < 0) tool_bad_stream(t, p, &e);
    return rc == 1;
}

void tool_bad_stream(pg_tool *t, tool_pipe *p, const pg_err *e)
{
    /* What was done before the fault goes on; without an end record the next reader says that it is cut, too. */
    if (p->out) {
        pg_err ignored;
        (void)!pg_writer_flush(p->out, &ignored);
    }
    int status = tool_stream_status(e);
    if (status == EXIT_STREAM && p->told && pg_reader_cut(p->in)) exit(status);
    tool_die(t, status, "%s", e->msg);
}

void tool_put(pg_tool *t, tool_pipe *p, const pg_rec *rec)
{
    pg_err e = {0};
    if (pg_writer_add(p->out, rec, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
}

static void record_error(pg_tool *t, pg_rec *rec, bool said, const char *fmt, va_list ap)
{
    pg_err e = {0};
    char text[1024];
    va_list again;
    va_copy(again, ap);
    vsnprintf(text, sizeof text, fmt, ap);
    if (said) say(t, "", fmt, again);
    va_end(again);
    if (pg_rec_set_error(rec, t->name, text, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
}

void tool_record_error(pg_tool *t, pg_rec *rec, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record_error(t, rec, true, fmt, ap);
    va_end(ap);
}

enum { REASONS_SAID = 3 };

/* What was not said of the last reason. */
static void end_reason(pg_tool *t)
{
    if (t->reasons > REASONS_SAID && !t->verbose)
        tool_info(t, "the same of %llu more record%s: %s", (unsigned long long)(t->reasons - REASONS_SAID), t->reasons == REASONS_SAID + 1 ? "" : "s", t->reason);
    t->reasons = 0;
}

void tool_record_alike(pg_tool *t, pg_rec *rec, const char *why, const char *fmt, ...)
{
    va_list ap;
    if (!t->reasons || strncmp(why, t->reason, sizeof t->reason - 1)) {
        end_reason(t);
        snprintf(t->reason, sizeof t->reason, "%s", why);
    }
    bool said = t->reasons++ < REASONS_SAID || t->verbose;
    va_start(ap, fmt);
    record_error(t, rec, said, fmt, ap);
    va_end(ap);
}

void tool_record_reason(pg_tool *t, pg_rec *rec, const char *id, const char *why) { tool_record_alike(t, rec, why, "'%s': %s", id, why); }

int tool_finish(pg_tool *t, tool_pipe *p, const pg_rec *extra)
{
    pg_err e = {0};
    int status = EXIT_OK;
    end_reason(t);
    if (p->out) {
        if (pg_writer_end(p->out, extra, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
        if (pg_writer_errors(p->out)) {
            status = EXIT_RECORDS;
            tool_info(t, "%llu record%s with errors", (unsigned long long)pg_writer_errors(p->out), pg_writer_errors(p->out) == 1 ? "" : "s");
        }
        if (close(STDOUT_FILENO)) tool_die(t, EXIT_FAIL, "cannot write 'stdout': %s", strerror(errno));
    }
    pg_reader_free(p->in);
    pg_writer_free(p->out);
    pg_rec_free(p->header);
    pg_rec_free(p->rec);
    *p = (tool_pipe){0};
    return status;
}

/* False where it has none. */
static bool id_bytes(const tool_pipe *p, char digits[PG_ID_DIGITS], const char **s, size_t *len)
{
    return pg_rec_id(p->rec, digits, s, len) || pg_rec_str(p->rec, "source", s, len, NULL) == 1;
}

const char *tool_id(const tool_pipe *p, char *buf, size_t n)
{
    char digits[PG_ID_DIGITS];
    const char *s;
    size_t len;
    if (id_bytes(p, digits, &s, &len)) snprintf(buf, n, "%.*s", (int)(len < n ? len : n - 1), s);
    else snprintf(buf, n, "record %llu", (unsigned long long)pg_reader_count(p->in));
    tool_hide(buf);
    return buf;
}

char *tool_whole_id(const pg_tool *t, const tool_pipe *p)
{
    char digits[PG_ID_DIGITS];
    const char *s;
    size_t len;
    char *id = id_bytes(p, digits, &s, &len) ? pg_strndup(s, len) : pg_format("record %llu", (unsigned long long)pg_reader_count(p->in));
    if (!id) tool_no_memory(t);
    return id;
}
