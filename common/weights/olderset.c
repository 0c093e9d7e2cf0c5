/* The files of an older checkpoint in whose place a new one comes. A new one of another form, or in another number of files, does not write
 * over all of them, and an index that stayed, or a single file beside a new index, would be read in the place of what is new. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/internal.h"

static const char END[] = ".safetensors";

static int remove_old(const char *path, pg_err *e)
{
    return unlink(path) && errno != ENOENT ? pg_error_errno(e, "cannot remove the old '%s'", path) : PG_OK;
}

/* Whether a name is STEM-00001-of-00003.safetensors; stem: n characters. */
static bool is_shard(const char *name, const char *stem, size_t n, size_t *count)
{
    size_t k;
    int end = 0;
    return !strncmp(name, stem, n) && sscanf(name + n, "-%5zu-of-%5zu.safetensors%n", &k, count, &end) == 2 && end == 27 && !name[n + 27];
}

static int remove_shards(const char *path, size_t count, pg_err *e)
{
    char *dir = pg_path_dir(path);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    DIR *d = dir ? opendir(dir) : NULL;
    int rc = dir ? PG_OK : pg_error_nomem(e);
    size_t stem = strlen(name) - strlen(END), of;
    for (const struct dirent *f; !rc && d && (f = readdir(d));) {
        if (!is_shard(f->d_name, name, stem, &of) || of == count)
            continue;
        char *old = pg_path_join(dir, f->d_name);
        rc = old ? remove_old(old, e) : pg_error_nomem(e);
        free(old);
    }
    if (d)
        closedir(d);
    free(dir);
    return rc;
}

/* An adapter's file is none of a checkpoint's: it is not read with a config.json. */
static bool is_safetensors(const char *name)
{
    return (pg_ends_with(name, END) || pg_ends_with(name, ".safetensors.index.json")) && strncmp(name, "adapter_model.", 14) != 0;
}

int pg_older_set_alone(const char *path, bool *alone, pg_err *e)
{
    char *dir = pg_path_dir(path);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t stem = strlen(name) - strlen(END), of;
    bool ours = false, others = false;
    DIR *d = dir ? opendir(dir) : NULL;
    for (const struct dirent *f; d && (f = readdir(d));) {
        bool index = !strncmp(f->d_name, name, strlen(name)) && !strcmp(f->d_name + strlen(name), ".index.json");
        if (!strcmp(f->d_name, name) || index || is_shard(f->d_name, name, stem, &of))
            ours = true;
        else
            others |= f->d_name[0] != '.' && is_safetensors(f->d_name);
    }
    if (d)
        closedir(d);
    *alone = ours && !others;
    int rc = dir ? PG_OK : pg_error_nomem(e);
    free(dir);
    return rc;
}

int pg_remove_older_set(const char *path, size_t shards, pg_err *e)
{
    char *index = pg_format("%s.index.json", path);
    int rc = index ? remove_old(index, e) : pg_error_nomem(e);
    free(index);
    if (!rc && shards)
        rc = remove_old(path, e);
    return rc ? rc : remove_shards(path, shards, e);
}
