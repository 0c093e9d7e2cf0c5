/* Runs a target once for each file given, or for each file of each folder given. Needs no libFuzzer. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fuzz.h"

static size_t files;

static void file(const char *path)
{
    pg_buf b = {0};
    pg_err e = {0};
    if (pg_file_read(path, SIZE_MAX, &b, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    /* A block of just this size: reading behind it is seen. */
    uint8_t *p = pg_alloc(b.len, 1);
    if (!p) exit(1);
    if (b.len) memcpy(p, b.data, b.len);
    fprintf(stderr, "%s\n", path); /* the last line names the input, should it end the program */
    LLVMFuzzerTestOneInput(p, b.len);
    free(p);
    pg_buf_free(&b);
    files++;
}

static void folder(const char *path)
{
    DIR *d = opendir(path);
    for (const struct dirent *f; d && (f = readdir(d));) {
        char *full = pg_path_join(path, f->d_name);
        if (f->d_name[0] != '.' && full) file(full);
        free(full);
    }
    if (d) closedir(d);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (pg_is_dir(argv[i])) folder(argv[i]);
        else file(argv[i]);
    }
    printf("%zu inputs\n", files);
    return files ? 0 : 1;
}
