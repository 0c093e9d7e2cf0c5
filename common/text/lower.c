#include <errno.h>
#include <stdlib.h>
#include <unicase.h>
#include <unistr.h>

#include "text/text.h"

int pg_text_lower(const char *s, size_t len, pg_buf *out, pg_err *e)
{
    const uint8_t *u = (const uint8_t *)s;
    uint8_t *low;
    size_t n = 0;
    int r;

    if (len == 0)
        return PG_OK;
    if (u8_check(u, len))
        return pg_error(e, PG_EFORMAT, "not valid UTF-8");
    /* No language: the result must not depend on where it is computed (a Turkish locale lower-cases I to a dotless i). */
    low = u8_tolower(u, len, NULL, NULL, NULL, &n);
    if (!low)
        return errno == ENOMEM ? pg_error_nomem(e) : pg_error_errno(e, "cannot lower-case text");
    r = pg_buf_add(out, low, n, e);
    free(low);
    return r;
}
