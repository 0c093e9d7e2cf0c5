/* pg-resize: encoded images to pixels. One record at a time: what has come in goes out before more is waited for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/image.h"
#include "tool.h"

static const char help[] =
    "usage: pg-resize [-s SIZE] [--filter bilinear|bicubic] [--no-orient] [--background COLOUR] [--drop-image]\n"
    "Reads examples with encoded images (PNG, JPEG) and adds their pixels: SIZE x SIZE x 3 floats in [-1,1].\n"
    "\n"
    "  -s, --size SIZE          pixels a side, 1 to 8192 (default 224)\n"
    "      --filter FILTER      bilinear: tf.image.resize with antialias, unrounded (default);\n"
    "                           bicubic: as the Hugging Face processor does\n"
    "      --no-orient          ignore the EXIF orientation\n"
    "      --background COLOUR  blend transparent pixels over white, black, grey, red, green, blue or #rrggbb;\n"
    "                           without it alpha is dropped\n"
    "      --drop-image         leave the encoded image out of what goes on\n"
    "      --max-pixels N       refuse larger images (default 178956970)\n"
    "  -j, --threads N          accepted as in the other tools; one image is decoded at a time\n"
    "  -q, --quiet   -v, --verbose   -h, --help   --version\n"
    "\n"
    "example: pg-fetch photos/ | pg-resize -s 448 --drop-image > photos.pgs\n";

typedef struct options {
    pg_image_opts image;
    bool drop_image;
} options;

static bool colour(const char *s, unsigned char rgb[3])
{
    static const struct {
        const char *name;
        unsigned char rgb[3];
    } named[] = {{"white", {255, 255, 255}}, {"black", {0, 0, 0}},   {"grey", {128, 128, 128}}, {"gray", {128, 128, 128}},
                 {"red", {255, 0, 0}},       {"green", {0, 128, 0}}, {"blue", {0, 0, 255}}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcasecmp(s, named[i].name)) continue;
        memcpy(rgb, named[i].rgb, 3);
        return true;
    }
    if (s[0] != '#' || strlen(s) != 7 || strspn(s + 1, "0123456789abcdefABCDEF") != 6) return false;
    const unsigned long v = strtoul(s + 1, NULL, 16);
    for (int i = 0; i < 3; i++) rgb[i] = (unsigned char)(v >> (16 - 8 * i));
    return true;
}

static void parse(pg_tool *t, options *o)
{
    enum { FILTER = 1000, NO_ORIENT, BACKGROUND, DROP_IMAGE, MAX_PIXELS };
    static const struct option longs[] = {{"size", required_argument, NULL, 's'},
                                          {"filter", required_argument, NULL, FILTER},
                                          {"no-orient", no_argument, NULL, NO_ORIENT},
                                          {"background", required_argument, NULL, BACKGROUND},
                                          {"drop-image", no_argument, NULL, DROP_IMAGE},
                                          {"max-pixels", required_argument, NULL, MAX_PIXELS},
                                          {NULL, 0, NULL, 0}};
    int c;
    *o = (options){.image = {.size = 224, .orient = true}};
    while ((c = tool_getopt(t, "s:", longs, true)) != -1) {
        switch (c) {
        case 's': o->image.size = tool_size(t, "--size", optarg, 1, 8192); break;
        case FILTER:
            if (!strcmp(optarg, "bilinear")) o->image.filter = PG_BILINEAR;
            else if (!strcmp(optarg, "bicubic")) o->image.filter = PG_BICUBIC;
            else tool_usage(t, "--filter '%s': neither bilinear nor bicubic", optarg);
            break;
        case NO_ORIENT: o->image.orient = false; break;
        case BACKGROUND:
            if (!colour(optarg, o->image.background)) tool_usage(t, "--background '%s': not a colour; say white or #rrggbb", optarg);
            o->image.blend = true;
            break;
        case DROP_IMAGE: o->drop_image = true; break;
        case MAX_PIXELS: o->image.max_pixels = tool_size(t, "--max-pixels", optarg, 1, (size_t)1 << 40); break;
        default: tool_usage(t, "unexpected option");
        }
    }
    if (optind < t->argc) tool_usage(t, "unexpected operand '%s'; the stream comes from standard input", t->argv[optind]);
}

/* Adds pixels, width and height to the record, or the error it met. */
static void resize(pg_tool *t, tool_pipe *p, pg_image *im, const options *o, float *pixels)
{
    const unsigned char *bytes;
    size_t n;
    char id[256], warning[256];
    pg_image_info info;
    pg_err e = {0};
    tool_id(p, id, sizeof id);
    int rc = pg_rec_bin(p->rec, "image", &bytes, &n, &e);
    if (rc == 0) {
        tool_record_error(t, p->rec, "cannot decode '%s': the record has no image", id);
        return;
    }
    if (rc > 0) rc = pg_image_pixels(im, bytes, n, &o->image, pixels, &info, warning, &e);
    if (rc < 0) {
        tool_record_error(t, p->rec, "cannot decode '%s': %s", id, e.msg);
        return;
    }
    if (warning[0]) tool_warn(t, "'%s': %s", id, warning);
    tool_note(t, "'%s': %s, %zux%zu", id, info.format, info.width, info.height);
    const size_t side = o->image.size;
    const pg_tensor tensor = {.type = "<f4",
                              .ndim = 3,
                              .shape = {side, side, 3},
                              .data = (const unsigned char *)pixels,
                              .bytes = side * side * 3 * sizeof *pixels};
    if (pg_rec_set_tensor(p->rec, "pixels", &tensor, &e) || pg_rec_set_int(p->rec, "width", (int64_t)info.width, &e) ||
        pg_rec_set_int(p->rec, "height", (int64_t)info.height, &e))
        tool_die(t, EXIT_FAIL, "cannot add pixels to '%s': %s", id, e.msg);
    if (o->drop_image) pg_rec_del(p->rec, "image");
}

int main(int argc, char **argv)
{
    pg_tool t;
    tool_pipe p = {0};
    options o;
    pg_image *im = NULL;
    pg_err e = {0};
    tool_start(&t, "pg-resize", help, argc, argv);
    parse(&t, &o);
    tool_open_in(&t, &p, 0, "standard input", "examples");
    tool_open_out(&t, &p, NULL, NULL);
    float *pixels = pg_floats(o.image.size * o.image.size * 3);
    if (!pixels || pg_image_new(&im, &e)) tool_die(&t, EXIT_FAIL, "no memory for %zux%zu pixels", o.image.size, o.image.size);
    while (tool_next(&t, &p)) {
        if (!pg_rec_has_error(p.rec)) resize(&t, &p, im, &o, pixels);
        tool_put(&t, &p, p.rec);
    }
    free(pixels);
    pg_image_free(im);
    return tool_finish(&t, &p, NULL);
}
