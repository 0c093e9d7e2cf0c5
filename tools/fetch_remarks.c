/* What a user would not expect: pictures that were left out, captions that are a model's. Counted, and said at the end. */
#include <string.h>
#include <strings.h>

#include "fetch.h"

static bool ends_in(const char *path, const char *const *endings, size_t n)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < n; i++)
        if (!strcasecmp(dot + 1, endings[i])) return true;
    return false;
}

bool fetch_is_image(const char *path)
{
    static const char *const ours[] = {"png", "jpg", "jpeg", "jpe", "jfif"};
    return ends_in(path, ours, sizeof ours / sizeof *ours);
}

void fetch_leave(fetch *f, const char *name)
{
    static const char *const others[] = {"gif", "bmp", "dib", "webp", "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2", "j2k", "svg", "ico", "tga", "psd",
                                         "ppm", "pgm", "pnm", "apng", "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf"};
    if (!ends_in(name, others, sizeof others / sizeof *others)) return;
    /* The first by its name: folders are read in no order. */
    if (!f->left++ || strcmp(name, f->first_left) < 0) snprintf(f->first_left, sizeof f->first_left, "%s", name);
}

void fetch_remember_caption(fetch *f, const char *path, const char *caption, size_t n)
{
    pg_err e = {0};
    int has = pg_written_has(&f->written, path, caption, n, &e);
    if (has < 0) tool_warn(&f->t, "%s", e.msg);
    f->rendered += has > 0;
}

void fetch_remarks(fetch *f)
{
    if (f->left)
        tool_warn(&f->t, "%zu picture%s left out, the first '%s': PNG and JPEG (.png, .jpg, .jpeg, .jpe, .jfif) are read", f->left,
                  f->left == 1 ? " was" : "s were", f->first_left);
    if (f->several_lines)
        tool_warn(&f->t, "%zu caption%s of several lines %s one suffix, new lines and all, the first '%s'; several captions of a picture are lines of JSON",
                  f->several_lines, f->several_lines == 1 ? "" : "s", f->several_lines == 1 ? "is" : "are each", f->first_several);
    if (f->rendered)
        tool_warn(&f->t, "%zu caption%s beside the pictures, now their suffix, %s by pg-render: a model's, not a reference", f->rendered,
                  f->rendered == 1 ? "" : "s", f->rendered == 1 ? "was written" : "were written");
    if (f->renamed)
        tool_warn(&f->t, "%zu name%s not UTF-8: as id, bytes that are not are written as \\xHH, the first is '%s'", f->renamed, f->renamed == 1 ? " is" : "s are",
                  f->first_renamed);
    pg_written_free(&f->written);
}
