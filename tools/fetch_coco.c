/* COCO's captions file, its pictures in a folder. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fetch.h"
#include "text/coco.h"

static void put_image(fetch *f, const pg_coco_image *im, const char *file, const char *dir)
{
    pg_err e = {0};
    if (!fetch_wanted(f)) return;
    char *path = im->file_name ? pg_path_join(dir, im->file_name) : pg_strdup(file);
    if (!path) tool_die(&f->t, EXIT_FAIL, "out of memory");
    fetch_begin(f, im->id, path);
    if (im->n && (pg_rec_set_str(f->p.rec, "suffix", im->captions[0], strlen(im->captions[0]), &e) ||
                  pg_rec_set_strs(f->p.rec, "references", (const char *const *)im->captions, im->n, &e)))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    item i = {.path = path};
    if (!im->file_name) {
        tool_record_alike(&f->t, f->p.rec, "no file_name", "'%s': the image '%s' has no file_name", file, im->id);
        free(path);
        i.path = NULL;
    }
    fetch_put_later(f, im->id, &i);
}

void fetch_coco(fetch *f, const char *file)
{
    pg_err e = {0};
    pg_coco c;
    char *dir = f->images ? pg_strdup(f->images) : pg_path_dir(file);
    if (!dir) tool_die(&f->t, EXIT_FAIL, "out of memory");
    if (pg_coco_open(&c, file, tool_max_record(&f->t), &e)) {
        fetch_no_source(f, file, EXIT_FAIL, "%s", e.msg);
        free(dir);
        return;
    }
    if (!c.n) tool_warn(&f->t, "no images in '%s'", file);
    for (size_t i = 0; i < c.n && fetch_more(f); i++) put_image(f, &c.images[i], file, dir);
    pg_coco_close(&c);
    free(dir);
}
