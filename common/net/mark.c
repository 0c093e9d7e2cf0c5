/* Where a file came from, as an extended attribute (user.xdg.origin.url, the name that freedesktop.org's Common Extended Attributes
 * give it). Without it nobody could tell an earlier version of a download from somebody's own file of the same name. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/part.h"

#if defined(__has_include) && defined(__linux__)
#if __has_include(<sys/xattr.h>)
#include <sys/xattr.h>
#define HAVE_XATTR 1
#endif
#endif

static const char name[] = "user.xdg.origin.url";
enum { SOURCE_MAX = 4096 };

/* The length of a source without what may differ between two runs: the commit of hf://owner/repo/file@commit, a URL's query, which may
 * be a signature. */
static size_t lasting(const char *s)
{
    const char *at = strncmp(s, "hf://", 5) ? NULL : strrchr(s, '@');
    if (!strncmp(s, "http", 4)) return strcspn(s, "?");
    return at && !strchr(at, '/') ? (size_t)(at - s) : strlen(s);
}

void pg_mark_set(int fd, const char *source)
{
#ifdef HAVE_XATTR
    if (source) (void)fsetxattr(fd, name, source, strlen(source), 0); /* a file system that has none does without */
#else
    (void)fd, (void)source;
#endif
}

bool pg_mark_is(const char *path, const char *source)
{
    bool same = false;
#ifdef HAVE_XATTR
    char *had = pg_calloc(SOURCE_MAX + 1, 1);
    if (had && getxattr(path, name, had, SOURCE_MAX) > 0) {
        size_t n = lasting(source);
        same = n == lasting(had) && !memcmp(had, source, n);
    }
    free(had);
#else
    (void)path, (void)source;
#endif
    return same;
}
