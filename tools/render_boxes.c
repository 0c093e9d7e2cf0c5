/* Boxes that a caption names: as JSON, and as frames over a picture. */
#include <jansson.h>
#include <stdlib.h>

#include "base/guard.h"
#include "render.h"
#include "text/locations.h"

static double size_of(const pg_rec *rec, const char *key)
{
    double v;
    return pg_rec_double(rec, key, &v, NULL) == 1 && v > 0 ? v : 0;
}

/* The sides in order: a model may say them the other way round. */
static void in_order(pg_box *b)
{
    double y = b->y0, x = b->x0;
    if (b->y1 < y) b->y0 = b->y1, b->y1 = y;
    if (b->x1 < x) b->x0 = b->x1, b->x1 = x;
}

char *boxes_json(const pg_rec *rec)
{
    text_view v = view(rec, "caption");
    double width = size_of(rec, "width"), height = size_of(rec, "height");
    json_t *all = NULL;
    pg_box b;
    for (size_t at = 0; pg_next_box(v.s, v.n, &at, &b);) {
        in_order(&b);
        json_t *one = json_pack("{s:s%,s:f,s:f,s:f,s:f}", "label", b.label, b.n_label, "y0", b.y0, "x0", b.x0, "y1", b.y1, "x1", b.x1), *codes;
        if (!one) continue; /* a label that is no text */
        if (width > 0 && height > 0)
            json_object_set_new(one, "pixels", json_pack("[f,f,f,f]", b.x0 * width, b.y0 * height, b.x1 * width, b.y1 * height));
        if (b.n_codes && (codes = json_array())) {
            for (size_t i = 0; i < b.n_codes; i++) json_array_append_new(codes, json_integer(b.codes[i]));
            json_object_set_new(one, "mask_codes", codes);
        }
        if (!all) all = json_array();
        json_array_append_new(all, one);
    }
    char *text = all ? pg_json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(8)) : NULL;
    json_decref(all);
    return text;
}

bool has_boxes(text_view caption)
{
    size_t at = 0;
    pg_box b;
    return pg_next_box(caption.s, caption.n, &at, &b);
}

void boxes_html(FILE *f, text_view caption)
{
    pg_box b;
    for (size_t at = 0; pg_next_box(caption.s, caption.n, &at, &b);) {
        in_order(&b);
        fprintf(f, "<span class=\"box\" style=\"left:%.2f%%;top:%.2f%%;width:%.2f%%;height:%.2f%%\">", 100 * b.x0, 100 * b.y0, 100 * (b.x1 - b.x0),
                100 * (b.y1 - b.y0));
        if (b.n_label) {
            fputs("<b>", f);
            put_html(f, b.label, b.n_label);
            fputs("</b>", f);
        }
        fputs("</span>", f);
    }
}
