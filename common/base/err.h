/* Errors of the library: returned, never printed. Tools decide what to say and how to exit. */
#ifndef PG_BASE_ERR_H
#define PG_BASE_ERR_H

enum {
    PG_OK = 0,
    PG_FAIL = -1,    /* anything that has no better name */
    PG_ENOMEM = -2,  /* an allocation failed, or a size overflowed */
    PG_EIO = -3,     /* the operating system refused */
    PG_EFORMAT = -4, /* input is malformed, cut or of another kind */
    PG_ELIMIT = -5,  /* input is well formed but larger than a limit */
    PG_EINVAL = -6   /* the caller asked for something impossible */
};

/* Filled on failure: what failed, the subject in single quotes, why. No newline, no capital, no full stop. */
typedef struct pg_err {
    int code;
    char msg[512];
} pg_err;

#if defined(__GNUC__)
#define PG_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define PG_MUST_CHECK __attribute__((warn_unused_result))
#else
#define PG_PRINTF(f, a)
#define PG_MUST_CHECK
#endif

/* Sets *e (may be NULL) and returns code, so that a function can end with `return pg_error(e, PG_EIO, ...)`.
 * Control characters that came in through the arguments become '?'. */
int pg_error(pg_err *e, int code, const char *fmt, ...) PG_PRINTF(3, 4);
/* Puts "text: " in front of the message already there; returns e->code (PG_FAIL where e is NULL). */
int pg_error_context(pg_err *e, const char *fmt, ...) PG_PRINTF(2, 3);
/* The common ones. pg_error_errno appends strerror of the errno at entry. */
int pg_error_nomem(pg_err *e);
int pg_error_errno(pg_err *e, const char *fmt, ...) PG_PRINTF(2, 3);

#if defined(__clang_analyzer__) || defined(PG_ANALYZER) /* they see one file at a time: here they learn that these never return PG_OK */
#define pg_error(...) ((void)pg_error(__VA_ARGS__), PG_FAIL)
#define pg_error_context(...) ((void)pg_error_context(__VA_ARGS__), PG_FAIL)
#define pg_error_nomem(e) ((void)pg_error_nomem(e), PG_FAIL)
#define pg_error_errno(...) ((void)pg_error_errno(__VA_ARGS__), PG_FAIL)
#define PG_KNOWN(what) ((what) ? (void)0 : __builtin_unreachable())
#else
/* What always holds here, for a reason beside it that an analyzer cannot see; no code. */
#define PG_KNOWN(what) ((void)0)
#endif

#endif
