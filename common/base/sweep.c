/* Temporary files of processes that were killed. One that is in use is locked by its process; the system lets go of a dead one's locks. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static const char MARK[] = ".tmp.";
enum { RANDOM = 6 }; /* characters that mkstemp and mkdtemp choose */

int pg_temp_lock(int fd)
{
    struct stat st;
    /* Nobody but a sweep locks what another process has just made: it is about to remove it, or has. A file system may have no locks. */
    if (flock(fd, LOCK_EX | LOCK_NB)) return errno == EWOULDBLOCK ? -1 : 0;
    return !fstat(fd, &st) && st.st_nlink == 0 ? -1 : 0;
}

static bool is_temp_of(const char *name, const char *base)
{
    size_t n = strlen(base), mark = sizeof MARK - 1;
    return !strncmp(name, base, n) && !strncmp(name + n, MARK, mark) && strlen(name + n + mark) == RANDOM && !strchr(name + n + mark, '.');
}

/* Removes what lies in the folder that fd is of. By fd, not by its name: in a folder that others may write to, such as /tmp, the name may lead
 * elsewhere by now. */
static void empty_folder(int fd)
{
    int again = dup(fd); /* closedir closes it, and the lock is fd's */
    DIR *d = again < 0 ? NULL : fdopendir(again);
    for (const struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.') unlinkat(fd, f->d_name, 0);
    if (d) closedir(d);
    else if (again >= 0) close(again);
}

static bool remove_if_dead(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool gone = false;
    if (fd < 0) return false;
    if (!fstat(fd, &st) && st.st_uid == geteuid() && !flock(fd, LOCK_EX | LOCK_NB)) {
        if (S_ISDIR(st.st_mode)) empty_folder(fd);
        gone = S_ISDIR(st.st_mode) ? !rmdir(path) : S_ISREG(st.st_mode) && !unlink(path);
    }
    close(fd);
    return gone;
}

size_t pg_temp_sweep(const char *path)
{
    size_t n = strlen(path), removed = 0;
    while (n > 1 && path[n - 1] == '/') n--;
    char *given = pg_strndup(path, n), *whole = given ? pg_path_behind_links(given) : NULL, *dir = whole ? pg_path_dir(whole) : NULL;
    const char *slash = whole ? strrchr(whole, '/') : NULL, *base = slash ? slash + 1 : whole;
    DIR *d = dir ? opendir(dir) : NULL;
    for (const struct dirent *f; d && (f = readdir(d));) {
        char *full = is_temp_of(f->d_name, base) ? pg_path_join(dir, f->d_name) : NULL;
        removed += full && remove_if_dead(full);
        free(full);
    }
    if (d) closedir(d);
    free(dir);
    free(whole);
    free(given);
    return removed;
}

int pg_temp_folder_make(pg_temp_folder *d, const char *path, pg_err *e)
{
    *d = (pg_temp_folder){.path = pg_format("%s%sXXXXXX", path, MARK), .lock = -1};
    if (!d->path) return pg_error_nomem(e);
    do {
        if (d->lock >= 0) close(d->lock);
        d->lock = -1;
        memset(d->path + strlen(d->path) - RANDOM, 'X', RANDOM);
        bool made = mkdtemp(d->path);
        if (!made || (d->lock = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
            int rc = pg_error_errno(e, "cannot make a folder '%s' for '%s'", d->path, path);
            if (made) rmdir(d->path);
            free(d->path);
            d->path = NULL;
            return rc;
        }
    } while (pg_temp_lock(d->lock));
    return PG_OK;
}

int pg_temp_folder_rename(pg_temp_folder *d, const char *path, pg_err *e)
{
    mode_t mask = umask(0);
    umask(mask);
    (void)chmod(d->path, 0777 & ~mask);
    if (rename(d->path, path)) {
        int rc = pg_error_errno(e, "cannot rename '%s' to '%s'", d->path, path);
        pg_temp_folder_remove(d);
        return rc;
    }
    close(d->lock);
    free(d->path);
    *d = (pg_temp_folder){.lock = -1};
    return PG_OK;
}

void pg_temp_folder_remove(pg_temp_folder *d)
{
    if (!d->path) return;
    empty_folder(d->lock);
    close(d->lock);
    rmdir(d->path);
    free(d->path);
    *d = (pg_temp_folder){.lock = -1};
}
