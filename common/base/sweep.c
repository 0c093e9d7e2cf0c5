/* Temporary files of processes that were killed. One that is in use is locked by its process; the system lets go of a dead one's locks. */
#include <dirent.h>
#include <fcntl.h>
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
    return !flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &st) && st.st_nlink == 0 ? -1 : 0;
}

static bool is_temp_of(const char *name, const char *base)
{
    size_t n = strlen(base), mark = sizeof MARK - 1;
    return !strncmp(name, base, n) && !strncmp(name + n, MARK, mark) && strlen(name + n + mark) == RANDOM && !strchr(name + n + mark, '.');
}

static bool remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (const struct dirent *f; d && (f = readdir(d));) {
        char *name = f->d_name[0] != '.' ? pg_path_join(path, f->d_name) : NULL;
        if (name) unlink(name);
        free(name);
    }
    if (d) closedir(d);
    return !rmdir(path);
}

static bool remove_if_dead(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool gone = false;
    if (fd < 0) return false;
    if (!flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &st))
        gone = S_ISDIR(st.st_mode) ? remove_folder(path) : S_ISREG(st.st_mode) && !unlink(path);
    close(fd);
    return gone;
}

size_t pg_temp_sweep(const char *path)
{
    size_t n = strlen(path), removed = 0;
    while (n > 1 && path[n - 1] == '/') n--;
    char *whole = pg_strndup(path, n), *dir = whole ? pg_path_dir(whole) : NULL;
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
    return removed;
}
