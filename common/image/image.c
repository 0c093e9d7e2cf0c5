/* From encoded bytes to pixels: which decoder, which way up, which resize. */
#include "image/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/internal.h"

struct pg_image {
    pg_resize resize;
    pg_buf scratch; /* the decoder's */
    pg_buf turned;  /* a turned picture; kept, as fresh pages for each photograph cost as much as the resize */
    float *small;   /* a thumbnail before rounding */
    size_t small_cap;
};

int pg_image_new(pg_image **im, pg_err *e)
{
    *im = pg_calloc(1, sizeof **im);
    return *im ? PG_OK : pg_error_nomem(e);
}

void pg_image_free(pg_image *im)
{
    if (!im) return;
    pg_resize_free(&im->resize);
    pg_buf_free(&im->scratch);
    pg_buf_free(&im->turned);
    free(im->small);
    free(im);
}

int pg_scratch(pg_buf *b, size_t n, pg_err *e)
{
    if (b->cap >= n && b->data) return PG_OK;
    pg_buf_free(b);
    return pg_buf_reserve(b, n ? n : 1, e);
}

int pg_check_pixels(size_t width, size_t height, size_t max_pixels, pg_err *e)
{
    const size_t max = max_pixels ? max_pixels : PG_MAX_PIXELS;
    if (!width || !height) return pg_error(e, PG_EFORMAT, "%zux%zu pixels", width, height);
    if (height > max / width) return pg_error(e, PG_ELIMIT, "%zux%zu pixels are more than the limit of %zu", width, height, max);
    return PG_OK;
}

/* ---- the taker of rows: straight into the resizer, or turned first ---- */
#define TURNED_KEPT ((size_t)256 << 20) /* bytes */
enum { LOOKED = 1 }; /* no failure, but decoding ends */
enum { BAND = 16 }; /* rows turned at a time: a column of them fills a cache line */

typedef struct turn {
    pg_image *im;
    pg_filter filter;
    bool orient, look; /* look: stop at the header */
    size_t max_side; /* thumbnails: size follows from the picture */
    size_t ow, oh;
    float *out;
    int orientation;
    pg_picture picture;
    unsigned char *whole, *band; /* whole: the turned picture, where it cannot go straight through */
    size_t y;                    /* rows taken */
} turn;

static int turn_begin(void *ctx, const pg_picture *p, pg_err *e)
{
    turn *t = ctx;
    t->picture = *p;
    if (t->look) return LOOKED;
    t->orientation = t->orient ? p->orientation : 1;
    const bool swap = t->orientation >= 5;
    const size_t w = swap ? p->height : p->width, h = swap ? p->width : p->height;
    if (t->max_side) {
        const size_t side = w > h ? w : h, most = side < t->max_side ? side : t->max_side;
        t->ow = (w * most + side / 2) / side;
        t->oh = (h * most + side / 2) / side;
        if (!t->ow) t->ow = 1;
        if (!t->oh) t->oh = 1;
        const size_t need = t->ow * t->oh * 3;
        if (t->im->small_cap < need) {
            free(t->im->small);
            t->im->small_cap = 0;
            if (!(t->im->small = pg_floats(need))) return pg_error_nomem(e);
            t->im->small_cap = need;
        }
        t->out = t->im->small;
    }
    if (t->orientation > 1) {
        const int rc = pg_scratch(&t->im->turned, w * 3 * h, e); /* max_pixels has been checked */
        if (rc) return rc;
        t->whole = t->im->turned.data;
        t->band = pg_alloc(p->width, BAND * 3);
        if (!t->band) return pg_error_nomem(e);
    }
    return pg_resize_begin(&t->im->resize, t->filter, w, h, t->ow, t->oh, t->out, e);
}

static unsigned char *turn_where(void *ctx)
{
    turn *t = ctx;
    return t->band ? t->band + t->y % BAND * t->picture.width * 3 : pg_resize_where(&t->im->resize);
}

/* Rows y .. y+n-1 of the stored picture to their place in the shown one. Orientations: 2 mirrored, 3 half turn, 4 upside
 * down, 5 transposed, 6 to be turned clockwise, 7 transversed, 8 to be turned counter-clockwise. */
static void scatter(turn *t, size_t y, size_t n)
{
    const size_t w = t->picture.width, h = t->picture.height;
    const bool swap = t->orientation >= 5;
    const bool flip_x = t->orientation == 2 || t->orientation == 3 || t->orientation == 7 || t->orientation == 8;
    const bool flip_y = t->orientation == 3 || t->orientation == 4 || t->orientation == 6 || t->orientation == 7;
    const ptrdiff_t next = (flip_y ? -3 : 3) * (ptrdiff_t)(swap ? 1 : w), right = flip_x ? -3 : 3;
    const size_t to_y = flip_y ? h - 1 - y : y;
    if (!swap) {
        for (size_t i = 0; i < n; i++) {
            unsigned char *p = t->whole + (to_y * w + (flip_x ? w - 1 : 0)) * 3 + (ptrdiff_t)i * next;
            const unsigned char *q = t->band + i * w * 3;
            for (size_t x = 0; x < w; x++, p += right, q += 3) memcpy(p, q, 3);
        }
        return;
    }
    for (size_t x = 0; x < w; x++) { /* sideways, a column of the band goes to consecutive pixels */
        unsigned char *p = t->whole + ((flip_x ? w - 1 - x : x) * h + to_y) * 3;
        const unsigned char *q = t->band + x * 3;
        for (size_t i = 0; i < n; i++, p += next, q += w * 3) memcpy(p, q, 3);
    }
}

static int turn_put(void *ctx, pg_err *e)
{
    turn *t = ctx;
    (void)e;
    if (!t->whole) {
        pg_resize_put(&t->im->resize);
        return PG_OK;
    }
    t->y++;
    const size_t last = t->y % BAND;
    if (!last) scatter(t, t->y - BAND, BAND);
    if (t->y < t->picture.height) return PG_OK;
    if (last) scatter(t, t->y - last, last);
    const size_t w = t->im->resize.width, h = t->im->resize.height;
    for (size_t y = 0; y < h; y++) {
        memcpy(pg_resize_where(&t->im->resize), t->whole + y * w * 3, w * 3);
        pg_resize_put(&t->im->resize);
    }
    return PG_OK;
}

static bool starts(const unsigned char *p, size_t n, const char *magic, size_t len) { return n >= len && !memcmp(p, magic, len); }

/* What the bytes are, where it is neither PNG nor JPEG; NULL: no idea. */
static const char *other_format(const unsigned char *p, size_t n)
{
    if (starts(p, n, "GIF8", 4)) return "GIF";
    if (starts(p, n, "RIFF", 4) && n >= 12 && !memcmp(p + 8, "WEBP", 4)) return "WebP";
    if (starts(p, n, "BM", 2) && n >= 26 && !p[6] && !p[7] && !p[8] && !p[9]) return "BMP";
    if (starts(p, n, "II*\0", 4) || starts(p, n, "MM\0*", 4)) return "TIFF";
    if (n >= 12 && !memcmp(p + 4, "ftyp", 4)) {
        if (!memcmp(p + 8, "avif", 4) || !memcmp(p + 8, "avis", 4)) return "AVIF";
        if (!memcmp(p + 8, "hei", 3) || !memcmp(p + 8, "hev", 3) || !memcmp(p + 8, "mif1", 4)) return "HEIC";
        return "MP4";
    }
    if (starts(p, n, "\xff\x0a", 2) || starts(p, n, "\0\0\0\x0cJXL ", 8)) return "JPEG XL";
    if (starts(p, n, "\0\0\0\x0cjP  ", 8)) return "JPEG 2000";
    if (starts(p, n, "%PDF", 4)) return "PDF";
    return NULL;
}

static bool is_text(const unsigned char *p, size_t n, const char *word)
{
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\r' || p[i] == '\t')) i++;
    return n - i >= strlen(word) && !strncasecmp((const char *)p + i, word, strlen(word));
}

static int decode(turn *t, const unsigned char *bytes, size_t n, const pg_decode_opts *o, char warning[256], pg_err *e)
{
    pg_rows rows = {t, turn_begin, turn_where, turn_put};
    const char *other;
    int rc;
    warning[0] = 0;
    if (n && starts(bytes, n, "\x89PNG\r\n\x1a\n", n < 8 ? n : 8)) {
        rc = pg_png_decode(bytes, n, o, &rows, &t->im->scratch, warning, e);
    } else if (starts(bytes, n, "\xff\xd8", 2)) {
        rc = pg_jpeg_decode(bytes, n, o, &rows, &t->im->scratch, warning, e);
    } else if (!n) {
        rc = pg_error(e, PG_EFORMAT, "empty: no bytes");
    } else if ((other = other_format(bytes, n))) {
        rc = pg_error(e, PG_EFORMAT, "%s is not supported; convert it to PNG or JPEG", other);
    } else if (is_text(bytes, n, "<svg") || is_text(bytes, n, "<?xml")) {
        rc = pg_error(e, PG_EFORMAT, "SVG or XML is not supported; convert it to PNG or JPEG");
    } else if (is_text(bytes, n, "<!doctype html") || is_text(bytes, n, "<html")) {
        rc = pg_error(e, PG_EFORMAT, "a web page, not a picture");
    } else {
        rc = pg_error(e, PG_EFORMAT, "neither PNG nor JPEG");
    }
    free(t->band);
    t->whole = t->band = NULL;
    if (t->im->turned.cap > TURNED_KEPT) pg_buf_free(&t->im->turned);
    if (!rc && t->im->resize.done != t->im->resize.oh) rc = pg_error(e, PG_EFORMAT, "fewer rows than promised");
    return rc;
}

/* Grey levels to [-1,1], two roundings each; four at a time, as compilers leave it one by one. */
static void to_unit(float *v, size_t n)
{
    typedef float four __attribute__((vector_size(16)));
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        four x;
        memcpy(&x, v + i, sizeof x);
        x = x / 127.5f - 1.0f;
        memcpy(v + i, &x, sizeof x);
    }
    for (; i < n; i++) v[i] = v[i] / 127.5f - 1.0f;
}

int pg_image_pixels(pg_image *im, const void *bytes, size_t n, const pg_image_opts *o, float *out, pg_image_info *info,
                    char warning[256], pg_err *e)
{
    char unheard[256];
    turn t = {.im = im, .filter = o->filter, .orient = o->orient, .ow = o->size, .oh = o->size, .out = out};
    const pg_decode_opts d = {o->blend, {o->background[0], o->background[1], o->background[2]}, o->max_pixels, 0};
    const int rc = decode(&t, bytes, n, &d, warning ? warning : unheard, e);
    if (rc) return rc;
    to_unit(out, o->size * o->size * 3);
    if (info) {
        const bool swap = t.orientation >= 5;
        info->format = t.picture.format;
        info->orientation = t.picture.orientation > 1 ? t.picture.orientation : 1;
        info->width = swap ? t.picture.full_height : t.picture.full_width;
        info->height = swap ? t.picture.full_width : t.picture.full_height;
    }
    return PG_OK;
}

int pg_image_look(pg_image *im, const void *bytes, size_t n, size_t max_pixels, pg_image_info *info, pg_err *e)
{
    char unheard[256];
    turn t = {.im = im, .look = true};
    const pg_decode_opts d = {.max_pixels = max_pixels};
    const int rc = decode(&t, bytes, n, &d, unheard, e);
    if (rc != LOOKED) return rc;
    *info = (pg_image_info){t.picture.format, t.picture.full_width, t.picture.full_height, t.picture.orientation > 1 ? t.picture.orientation : 1};
    return PG_OK;
}

static int encode_grey_levels(const float *v, size_t w, size_t h, float scale, float shift, pg_buf *jpeg, pg_err *e)
{
    unsigned char *rgb = pg_alloc(w * 3, h);
    if (!rgb) return pg_error_nomem(e);
    for (size_t i = 0; i < w * h * 3; i++) {
        const float x = v[i] * scale + shift;
        rgb[i] = (unsigned char)(x >= 255 ? 255 : x > 0 ? x + 0.5f : 0);
    }
    const int rc = pg_jpeg_encode(rgb, w, h, 85, jpeg, e);
    free(rgb);
    return rc;
}

int pg_image_thumbnail(pg_image *im, const void *bytes, size_t n, size_t max_side, pg_buf *jpeg, pg_err *e)
{
    char unheard[256];
    if (!max_side || max_side > 8192) return pg_error(e, PG_EINVAL, "a thumbnail of %zu pixels a side", max_side);
    turn t = {.im = im, .filter = PG_BILINEAR, .orient = true, .max_side = max_side};
    const pg_decode_opts d = {true, {255, 255, 255}, 0, max_side};
    const int rc = decode(&t, bytes, n, &d, unheard, e);
    return rc ? rc : encode_grey_levels(im->small, t.ow, t.oh, 1, 0, jpeg, e);
}

int pg_image_encode(const float *pixels, size_t size, pg_buf *jpeg, pg_err *e)
{
    if (!size || size > 8192) return pg_error(e, PG_EINVAL, "a picture of %zu pixels a side", size);
    return encode_grey_levels(pixels, size, size, 127.5f, 127.5f, jpeg, e);
}
