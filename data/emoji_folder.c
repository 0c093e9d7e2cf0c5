/* Pictures from a folder of PNG files named by code points in hexadecimal ("1F408-200D-2B1B.png"), as packages of emoji have them.
 * Some of them leave U+200D (the joiner) out of the names, so it does not count. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "emoji.h"

enum { MAX_FILE = 1 << 24 };

static char *key_of(const unsigned *code, size_t n)
{
    char key[MAX_SEQUENCE * 9 + 1] = "";
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        if (code[i] != 0x200d && code[i] != 0xfe0f) len += (size_t)snprintf(key + len, sizeof key - len, "-%x", code[i]);
    return pg_strdup(key);
}

static size_t codes_of(const char *name, unsigned out[MAX_SEQUENCE])
{
    size_t n = 0;
    for (char *end; n < MAX_SEQUENCE; name = end + 1) {
        unsigned long v = strtoul(name, &end, 16);
        if (end == name || v > 0x10ffff) return 0;
        out[n++] = (unsigned)v;
        if (!strcmp(end, ".png")) return n;
        if (*end != '-') return 0;
    }
    return 0;
}

json_t *folder_open(const char *dir)
{
    DIR *d = opendir(dir);
    json_t *files = json_object();
    if (!d || !files) die(dir, strerror(errno));
    for (struct dirent *f; (f = readdir(d));) {
        unsigned code[MAX_SEQUENCE];
        size_t n = codes_of(f->d_name, code);
        if (!n) continue;
        char *key = key_of(code, n), *path = pg_path_join(dir, f->d_name);
        if (!key || !path || json_object_set_new(files, key, json_string(path))) die(dir, "out of memory");
        free(key);
        free(path);
    }
    closedir(d);
    if (!json_object_size(files)) die(dir, "no PNG file is named by code points");
    return files;
}

bool folder_picture(const json_t *files, const unsigned *code, size_t n, pg_buf *png)
{
    pg_err e = {0};
    char *key = key_of(code, n);
    if (!key) die("memory", "none left");
    const char *path = json_string_value(json_object_get(files, key));
    free(key);
    png->len = 0;
    if (!path) return false;
    if (pg_file_read(path, MAX_FILE, png, &e)) die(path, e.msg);
    return true;
}
