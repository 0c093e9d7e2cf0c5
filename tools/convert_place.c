/* Where the result goes: whole or not at all. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    pg_err e = {0};
    *p = (place){.work.lock = -1};
    size_t left = pg_temp_sweep(dst);
    if (left) tool_info(t, "removed %zu temporary file%s that a killed run left of '%s'", left, left == 1 ? "" : "s", dst);
    if (pg_ends_with(dst, ".npz") || pg_ends_with(dst, ".safetensors")) {
        p->weights = pg_strdup(dst);
        if (!p->weights) tool_no_memory(t);
        if (pg_weights_touches(source, dst)) tool_die(t, EXIT_FAIL, "writing '%s' would change the source: choose another folder", dst);
        return;
    }
    size_t n = strlen(dst);
    while (n > 1 && dst[n - 1] == '/') n--;
    p->final = pg_strndup(dst, n);
    if (!p->final) tool_no_memory(t);
    struct stat st;
    if (!stat(p->final, &st) && !(S_ISDIR(st.st_mode) && is_empty(p->final)))
        tool_die(t, EXIT_FAIL, "cannot write '%s': it exists%s; a new folder, *.npz or *.safetensors is wanted", p->final,
                 S_ISDIR(st.st_mode) ? " and is not empty" : "");
    tool_must(t, pg_temp_folder_make(&p->work, p->final, &e), &e);
    if (!(p->weights = pg_path_join(p->work.path, npz ? "model.npz" : "model.safetensors"))) tool_no_memory(t);
}

void place_commit(const pg_tool *t, place *p)
{
    pg_err e = {0};
    if (p->work.path) tool_must(t, pg_temp_folder_rename(&p->work, p->final, &e), &e);
    place_abort(p);
}

void place_abort(place *p)
{
    pg_temp_folder_remove(&p->work);
    free(p->final);
    free(p->weights);
    *p = (place){.work.lock = -1};
}
