#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool pg_mul(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool pg_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

void *pg_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (!pg_mul(n, size, &bytes)) return NULL;
    return malloc(bytes ? bytes : 1);
}

void *pg_calloc(size_t n, size_t size) { return calloc(n ? n : 1, size ? size : 1); }

void *pg_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (!pg_mul(n, size, &bytes)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

float *pg_floats(size_t n)
{
    const size_t huge = (size_t)2 << 20;
    size_t bytes;
    void *p = NULL;
    if (!pg_mul(n ? n : 1, sizeof(float), &bytes) || bytes > SIZE_MAX - huge) return NULL;
    if (posix_memalign(&p, bytes >= 2 * huge ? huge : 64, bytes)) return NULL;
#ifdef MADV_HUGEPAGE
    /* Never-touched memory on 4 KiB pages fills an order of magnitude slower; refusal is harmless. */
    if (bytes >= 2 * huge) (void)madvise(p, bytes & ~(huge - 1), MADV_HUGEPAGE);
#endif
    return p;
}

char *pg_strndup(const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? malloc(n + 1) : NULL;
    if (p) {
        if (n) memcpy(p, s, n);
        p[n] = 0;
    }
    return p;
}

char *pg_strdup(const char *s) { return pg_strndup(s, strlen(s)); }

char *pg_format(const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : malloc((size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
    return p;
}

int pg_buf_reserve(pg_buf *b, size_t more, pg_err *e)
{
    size_t need;
    if (!pg_add(b->len, more, &need)) return pg_error_nomem(e);
    if (need <= b->cap) return PG_OK;
    size_t cap = b->cap < 256 ? 256 : b->cap;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    void *p = realloc(b->data, cap);
    if (!p) return pg_error_nomem(e);
    b->data = p;
    b->cap = cap;
    return PG_OK;
}

int pg_buf_add(pg_buf *b, const void *p, size_t n, pg_err *e)
{
    int rc = pg_buf_reserve(b, n, e);
    if (rc) return rc;
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    return PG_OK;
}

int pg_buf_addf(pg_buf *b, pg_err *e, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap), rc = PG_OK;
    va_end(ap);
    if (n < 0) rc = pg_error(e, PG_EINVAL, "bad format");
    if (!rc) rc = pg_buf_reserve(b, (size_t)n + 1, e);
    if (!rc) {
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap2);
        b->len += (size_t)n;
    }
    va_end(ap2);
    return rc;
}

int pg_buf_add_base64(pg_buf *b, const void *p, size_t n, pg_err *e)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = p;
    size_t groups = n / 3 + (n % 3 != 0), bytes;
    int rc = pg_mul(groups, 4, &bytes) ? pg_buf_reserve(b, bytes, e) : pg_error_nomem(e);
    if (rc) return rc;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)s[i] << 16 | (i + 1 < n ? (unsigned)s[i + 1] << 8 : 0) | (i + 2 < n ? s[i + 2] : 0);
        unsigned char *out = b->data + b->len;
        out[0] = (unsigned char)digits[v >> 18];
        out[1] = (unsigned char)digits[v >> 12 & 63];
        out[2] = (unsigned char)(i + 1 < n ? digits[v >> 6 & 63] : '=');
        out[3] = (unsigned char)(i + 2 < n ? digits[v & 63] : '=');
        b->len += 4;
    }
    return PG_OK;
}

void pg_buf_free(pg_buf *b)
{
    if (!b) return;
    free(b->data);
    *b = (pg_buf){0};
}
