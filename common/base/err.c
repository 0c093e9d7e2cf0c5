#include "base/err.h"
#undef pg_error
#undef pg_error_context
#undef pg_error_nomem
#undef pg_error_errno

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void clean(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 32 || *s == 127) *s = '?';
}

static int set(pg_err *e, int code, const char *fmt, va_list ap)
{
    if (e) {
        char text[sizeof e->msg]; /* the arguments may point into e->msg */
        e->code = code;
        vsnprintf(text, sizeof text, fmt, ap);
        clean(text);
        memcpy(e->msg, text, sizeof text);
    }
    return code;
}

int pg_error(pg_err *e, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(e, code, fmt, ap);
    va_end(ap);
    return code;
}

int pg_error_context(pg_err *e, const char *fmt, ...)
{
    if (!e) return PG_FAIL;
    char front[sizeof e->msg], all[2 * sizeof e->msg + 4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(front, sizeof front, fmt, ap);
    va_end(ap);
    snprintf(all, sizeof all, "%s: %s", front, e->msg);
    all[sizeof e->msg - 1] = 0;
    clean(all);
    memcpy(e->msg, all, strlen(all) + 1);
    return e->code ? e->code : PG_FAIL;
}

int pg_error_nomem(pg_err *e) { return pg_error(e, PG_ENOMEM, "out of memory"); }

int pg_error_errno(pg_err *e, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    set(e, PG_EIO, fmt, ap);
    va_end(ap);
    if (e) {
        size_t n = strlen(e->msg);
        snprintf(e->msg + n, sizeof e->msg - n, ": %s", strerror(saved));
    }
    return PG_EIO;
}
