/* What all tools share: exit statuses, messages, the common options, opening streams. Tools only; the library never prints. */
#ifndef PG_TOOL_H
#define PG_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stream/stream.h"

#define PG_VERSION "0.1.0"

enum { EXIT_OK = 0, EXIT_FAIL = 1, EXIT_USAGE = 2, EXIT_STREAM = 3, EXIT_RECORDS = 4 };

typedef struct pg_tool {
    const char *name; /* "pg-resize" */
    const char *help; /* the whole --help text: usage line, what it does, options, an example */
    bool quiet, verbose;
    bool silent;    /* tool_warn says nothing: another process does */
    bool forwarded; /* stdout goes through mpirun, which may have made a terminal for it */
    size_t threads; /* 0: pg_cpus() */
    size_t max_record; /* --max-record; 0: PG_RECORD_MAX */
    int argc;
    char **argv;
    uint64_t warnings;
    char reason[256]; /* of the last records with an error (tool_record_reason), and how many of them there were */
    uint64_t reasons;
} pg_tool;

/* First thing in main: SIGPIPE to default and unblocked, stdin/stdout/stderr open (a closed one becomes /dev/null). */
void tool_start(pg_tool *t, const char *name, const char *help, int argc, char **argv);
/* A row for tools that read a stream or make one: --max-record SIZE, handled by tool_getopt, too. */
enum { TOOL_OPT_RECORD = 0x7001 };
#define TOOL_MAX_RECORD {"max-record", required_argument, NULL, TOOL_OPT_RECORD}
size_t tool_max_record(const pg_tool *t);
/* getopt_long with the tool's own options plus -h -q -v --version (and -j/--threads where `threads`). Returns the option,
 * -1 at the end; handles the common ones itself (help and version exit 0 after checking that stdout took them);
 * an unknown option exits 2. `--list-options` alone prints the table for completion; what the help says behind an option
 * names its value: FILE, FILE.json, DIR, MODEL, STREAM.pgs, or all there are as in f32|bf16. `opts` ends with a zero row; `shorts` as getopt (no leading ':'). */
int tool_getopt(pg_tool *t, const char *shorts, const struct option *opts, bool threads);

_Noreturn void tool_usage(const pg_tool *t, const char *fmt, ...) PG_PRINTF(2, 3); /* one line + "try --help"; exits 2 */
_Noreturn void tool_die(const pg_tool *t, int status, const char *fmt, ...) PG_PRINTF(3, 4);
_Noreturn void tool_no_memory(const pg_tool *t); /* exits 1 */
void tool_must(const pg_tool *t, int rc, const pg_err *e); /* exits 1 with the reason in e, unless rc is 0 */
/* Something failed, and the program goes on to what does not depend on it. Text on standard output goes out first. */
void tool_error(const pg_tool *t, const char *fmt, ...) PG_PRINTF(2, 3);
void tool_warn(pg_tool *t, const char *fmt, ...) PG_PRINTF(2, 3); /* "name: warning: ..."; counted; quiet does not hide it */
void tool_info(const pg_tool *t, const char *fmt, ...) PG_PRINTF(2, 3); /* unless --quiet */
void tool_note(const pg_tool *t, const char *fmt, ...) PG_PRINTF(2, 3); /* only with --verbose */

/* A name of a file or a caption must not move the cursor, clear the screen or turn the line around: a ? for each byte of what would. Messages
 * go through it by themselves. */
void tool_hide(char *text);

/* Which of n known words was meant by one that is none of them: the nearest by at most two letters that are wrong, missing or too many, one of
 * a word of up to four letters. NULL: none. */
const char *tool_meant(const char *word, const char *const *known, size_t n);

/* Option values: exit 2 naming the option when bad. */
size_t tool_size(const pg_tool *t, const char *option, const char *value, size_t min, size_t max);
double tool_double(const pg_tool *t, const char *option, const char *value, double min, double max);

/* Where a checkpoint is to go. A folder with the ending of another kind of file is hardly meant, unless it is there or a slash follows: exit 2. */
void tool_checkpoint_name(const pg_tool *t, const char *name);

/* A filter's two ends. Opens stdin (usage error if it is a terminal) and stdout (exit 2 with advice if it is a terminal),
 * reads and writes the header, ties them. Exits 3 on a bad header, without a word where the pipe's other end has told why (PG_QUIET_CUT). want_kind: "examples", "events" or NULL for any;
 * another kind is an error that names both. */
typedef struct tool_pipe {
    pg_reader *in;
    pg_writer *out;
    pg_rec *header, *rec;
    bool told; /* where `in` is cut, the program that writes it has said why: so says PG_QUIET_CUT of pipes */
} tool_pipe;
/* Opens *path, or is standard input where that is "-" and becomes its name for messages. Ends the program where it cannot be opened. */
int tool_open_file(const pg_tool *t, const char **path);
void tool_open_in(pg_tool *t, tool_pipe *p, int fd, const char *name, const char *want_kind);
void tool_open_out(pg_tool *t, tool_pipe *p, const char *kind, const pg_rec *extra);
bool tool_next(pg_tool *t, tool_pipe *p); /* true: p->rec filled; false: clean end; exits 3 on a bad stream */
/* For tools that have work in hand when the stream turns out bad: as pg_reader_next, into p->rec; then what tool_next ends with. */
int tool_read(tool_pipe *p, pg_err *e) PG_MUST_CHECK;
_Noreturn void tool_bad_stream(pg_tool *t, tool_pipe *p, const pg_err *e);
int tool_stream_status(const pg_err *e); /* 3 where the stream itself is bad, 1 where the system is */
void tool_put(pg_tool *t, tool_pipe *p, const pg_rec *rec); /* exits 1 when stdout fails */
/* Marks p->rec with an error, says it on stderr ("pg-resize: cannot ... 'id': why"). The caller still tool_puts it. */
void tool_record_error(pg_tool *t, pg_rec *rec, const char *fmt, ...) PG_PRINTF(3, 4);
/* The same for a reason that many records may share, such as pixels of the wrong size: of one reason after another a few are said, the
 * rest is counted and said at the end; all are said with --verbose. The message is 'id': why. */
void tool_record_reason(pg_tool *t, pg_rec *rec, const char *id, const char *why);
/* The same with a message of the caller's; why: what such messages have in common. */
void tool_record_alike(pg_tool *t, pg_rec *rec, const char *why, const char *fmt, ...) PG_PRINTF(4, 5);
/* End record, flush, close stdout with checks, free; returns the exit status (0, or 4 when records carry errors). */
int tool_finish(pg_tool *t, tool_pipe *p, const pg_rec *extra);
/* The record's id for messages: its `id`, else `source`, else "record N"; in buf, cut to its length, control characters replaced. */
const char *tool_id(const tool_pipe *p, char *buf, size_t n);
/* The same whole and with the bytes that it has, to know the record again by; for free(). Ends the program on no memory. */
char *tool_whole_id(const pg_tool *t, const tool_pipe *p);

/* Whether all captions are one although the pictures are not: what a model says that has lost sight of them. Start with {0}. */
enum { TOOL_SAME_PICTURES = 4 }; /* different ones, before anything is said */
typedef struct tool_same {
    char *caption;
    size_t len, pictures; /* up to TOOL_SAME_PICTURES */
    uint64_t n, picture[TOOL_SAME_PICTURES]; /* hashes */
    bool differ;
} tool_same;
void tool_same_add(const pg_tool *t, tool_same *s, const char *caption, size_t len, uint64_t picture);
bool tool_same_wants(const tool_same *s); /* a picture's hash is still of use */
bool tool_same_is(const tool_same *s);
void tool_same_warn(pg_tool *t, const tool_same *s, const char *what); /* what: "captions" */
void tool_same_free(tool_same *s);

/* Which texts there were: hashes, open addressing, 0 is free; 16 to 32 bytes for each text. One that is new is taken for another with odds of
 * n^2 / 2^65. Start with {0}. */
typedef struct tool_seen {
    uint64_t *at;
    size_t n, cap;
} tool_seen;
bool tool_seen_has(const tool_seen *s, const char *text);
bool tool_seen_add(const pg_tool *t, tool_seen *s, const char *text); /* false: it was there before; ends the program on no memory */
void tool_seen_free(tool_seen *s);

int tool_close_stdout(const pg_tool *t); /* 0 or EXIT_FAIL with message; for tools that print text */

#endif
