#include "stream/name.h"
#include "stream/record.h"

/* Bytes of the valid character at s (n > 0 of them are there), 0 where there is none. */
static size_t character(const unsigned char *s, size_t n)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
    if (!len || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return len;
}

bool pg_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0, len; i < n; i += len)
        if (!(len = character((const unsigned char *)s + i, n - i))) return false;
    return true;
}

int pg_utf8_add(pg_buf *out, const char *s, size_t n, pg_err *e)
{
    int rc = PG_OK;
    for (size_t i = 0, len; !rc && i < n; i += len) {
        len = character((const unsigned char *)s + i, n - i);
        rc = len ? pg_buf_add(out, s + i, len, e) : pg_buf_add(out, "\xef\xbf\xbd", 3, e);
        if (!len) len = 1;
    }
    return rc;
}

int pg_utf8_name(pg_buf *out, const char *s, size_t n, pg_err *e)
{
    if (pg_utf8_valid(s, n)) return pg_buf_add(out, s, n, e);
    int rc = PG_OK;
    for (size_t i = 0, len; !rc && i < n; i += len ? len : 1) {
        len = character((const unsigned char *)s + i, n - i);
        if (!len) rc = pg_buf_addf(out, e, "\\x%02x", (unsigned char)s[i]);
        else if (s[i] == '\\') rc = pg_buf_add(out, "\\\\", 2, e);
        else rc = pg_buf_add(out, s + i, len, e);
    }
    return rc;
}

size_t pg_utf8_look(const char *text, size_t n, uint32_t *hidden)
{
    static const struct {
        uint32_t from, to;
    } ranges[] = {{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x200b, 0x200b}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}};
    const unsigned char *s = (const unsigned char *)text;
    size_t len = character(s, n);
    uint32_t code = len == 1 ? s[0] : s[0] & (0x7fu >> len);
    *hidden = UINT32_MAX;
    for (size_t i = 1; i < len; i++) code = code << 6 | (s[i] & 0x3f);
    for (size_t i = 0; len && i < sizeof ranges / sizeof *ranges; i++)
        if (code >= ranges[i].from && code <= ranges[i].to) *hidden = code;
    return len;
}
