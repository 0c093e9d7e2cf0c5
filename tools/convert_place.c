/* Where the result goes: whole or not at all. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "convert.h"

static bool is_empty(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = d;
    for (const struct dirent *f; d && empty && (f = readdir(d));) empty = !strcmp(f->d_name, ".") || !strcmp(f->d_name, "..");
    if (d) closedir(d);
    return empty;
}

void place_open(const pg_tool *t, place *p, const char *dst, bool npz, const pg_weights *source)
{
    *p = (place){.lock = -1};
    size_t left = pg_temp_sweep(dst);
    if (left) tool_info(t, "removed %zu temporary file%s that a killed run left of '%s'", left, left == 1 ? "" : "s", dst);
    if (pg_ends_with(dst, ".npz") || pg_ends_with(dst, ".safetensors")) {
        p->weights = pg_strdup(dst);
        if (!p->weights) tool_die(t, EXIT_FAIL, "out of memory");
        if (pg_weights_touches(source, dst)) tool_die(t, EXIT_FAIL, "writing '%s' would change the source: choose another folder", dst);
        return;
    }
    size_t n = strlen(dst);
    while (n > 1 && dst[n - 1] == '/') n--;
    p->final = pg_strndup(dst, n);
    p->work = p->final ? pg_format("%s.tmp.XXXXXX", p->final) : NULL;
    if (!p->work) tool_die(t, EXIT_FAIL, "out of memory");
    struct stat st;
    if (!stat(p->final, &st) && !(S_ISDIR(st.st_mode) && is_empty(p->final)))
        tool_die(t, EXIT_FAIL, "cannot write '%s': it exists%s; a new folder, *.npz or *.safetensors is wanted", p->final,
                 S_ISDIR(st.st_mode) ? " and is not empty" : "");
    size_t random = strlen(p->work) - 6;
    do {
        memset(p->work + random, 'X', 6);
        if (!mkdtemp(p->work)) tool_die(t, EXIT_FAIL, "cannot make a folder for '%s': %s", p->final, strerror(errno));
        if (p->lock >= 0) close(p->lock);
        p->lock = open(p->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (p->lock >= 0 && pg_temp_lock(p->lock));
    mode_t mask = umask(0);
    umask(mask);
    (void)chmod(p->work, 0777 & ~mask);
    if (!(p->weights = pg_path_join(p->work, npz ? "model.npz" : "model.safetensors"))) tool_die(t, EXIT_FAIL, "out of memory");
}

void place_commit(const pg_tool *t, place *p)
{
    if (p->work && rename(p->work, p->final)) {
        int saved = errno;
        place_abort(p);
        tool_die(t, EXIT_FAIL, "cannot rename to '%s': %s", p->final ? p->final : "", strerror(saved));
    }
    free(p->work);
    p->work = NULL;
    place_abort(p);
}

/* The temporary folder holds files of ours alone. */
void place_abort(place *p)
{
    DIR *d = p->work ? opendir(p->work) : NULL;
    for (const struct dirent *f; d && (f = readdir(d));) {
        char *path = pg_path_join(p->work, f->d_name);
        if (path && f->d_name[0] != '.') unlink(path);
        free(path);
    }
    if (d) closedir(d);
    if (p->work) rmdir(p->work);
    if (p->lock >= 0) close(p->lock);
    free(p->work);
    free(p->final);
    free(p->weights);
    *p = (place){.lock = -1};
}
