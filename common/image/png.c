/* PNG through libpng. Alpha is dropped or blended, 16 bit gives its high byte; gAMA, ICC and background change nothing.
 *
 * libpng reports errors by longjmp: everything that lives across it sits in struct job, never in a local variable. */
#include <png.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/internal.h"

typedef struct job {
    const unsigned char *bytes;
    size_t n, at;
    char *warning, message[200];
    png_structp png;
    png_infop info;
    png_uint_32 width, height;
    int channels, passes; /* 1 channel: palette indices */
    unsigned char palette[256][3];
    int colours;
    bool beyond; /* an index past the palette was met */
    bool complete; /* every pixel was read: what follows is only the end of the file */
    int rc;
} job;

static void on_error(png_structp png, png_const_charp message)
{
    job *j = png_get_error_ptr(png);
    /* libpng says what is wrong with a header as a warning first. */
    const bool header = !strcmp(message, "Invalid IHDR data") && j->warning[0];
    snprintf(j->message, sizeof j->message, "%s", header ? j->warning : message);
    if (j->message[0] >= 'A' && j->message[0] <= 'Z' && j->message[1] >= 'a' && j->message[1] <= 'z')
        j->message[0] = (char)(j->message[0] - 'A' + 'a');
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    job *j = png_get_error_ptr(png);
    if (!j->warning[0]) snprintf(j->warning, 256, "%s", message);
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
    job *j = png_get_io_ptr(png);
    if (n > j->n - j->at) png_error(png, "premature end of file");
    memcpy(out, j->bytes + j->at, n);
    j->at += n;
}

/* Chunks that cannot change the pixels are not even parsed: text, profiles, times. */
static void skip_ancillary(png_structp png)
{
    static const char names[] = "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep)names, (int)(sizeof names / 5));
}

/* Eight-bit blending, rounded to nearest: what a viewer shows, and the same on every machine. */
static void blend(unsigned char *out, const unsigned char *rgba, size_t n, const unsigned char bg[3])
{
    for (size_t i = 0; i < n; i++, rgba += 4, out += 3)
        for (int c = 0; c < 3; c++) out[c] = (unsigned char)((rgba[c] * rgba[3] + bg[c] * (255 - rgba[3]) + 127) / 255);
}

/* The palette as it will be shown, blended already. libpng's own lookup would not tell of indices past its end. */
static void read_palette(job *j, const pg_decode_opts *o)
{
    png_colorp colours = NULL;
    png_bytep alpha = NULL;
    int n_alpha = 0;
    png_get_PLTE(j->png, j->info, &colours, &j->colours);
    if (o->blend) png_get_tRNS(j->png, j->info, &alpha, &n_alpha, NULL);
    for (int i = 0; i < j->colours && i < 256; i++) {
        const unsigned char rgba[4] = {colours[i].red, colours[i].green, colours[i].blue, i < n_alpha ? alpha[i] : 255};
        blend(j->palette[i], rgba, 1, o->background);
    }
}

static int begin(job *j, const pg_decode_opts *o, pg_rows *rows, pg_err *e)
{
    png_read_info(j->png, j->info);
    int depth, type, interlace;
    png_get_IHDR(j->png, j->info, &j->width, &j->height, &depth, &type, &interlace, NULL, NULL);
    int rc = pg_check_pixels(j->width, j->height, o->max_pixels, e);
    if (rc) return rc;
    /* Deflate expands at most 1032 times: a header that claims more is not believed, whatever follows. */
    if (png_get_rowbytes(j->png, j->info) >= 1032 * (j->n + 1) / j->height + 1)
        return pg_error(e, PG_EFORMAT, "premature end of file: %zu bytes cannot hold %lux%lu pixels", j->n, (unsigned long)j->width,
                        (unsigned long)j->height);
    const bool transparent = (type & PNG_COLOR_MASK_ALPHA) || png_get_valid(j->png, j->info, PNG_INFO_tRNS);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        read_palette(j, o);
        j->channels = 1;
        if (depth < 8) png_set_packing(j->png);
    } else {
        j->channels = o->blend && transparent ? 4 : 3;
        if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(j->png);
        if (o->blend && png_get_valid(j->png, j->info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(j->png);
        if (depth == 16) png_set_strip_16(j->png);
        if (!(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(j->png);
        if (!o->blend) png_set_strip_alpha(j->png);
    }
    j->passes = png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    if (png_get_rowbytes(j->png, j->info) != (size_t)j->width * (size_t)j->channels)
        return pg_error(e, PG_EFORMAT, "unexpected row size");
    pg_picture p = {j->width, j->height, j->width, j->height, 1, "png"};
    png_bytep exif = NULL;
    png_uint_32 exif_n = 0;
    if (png_get_eXIf_1(j->png, j->info, &exif_n, &exif) && exif) p.orientation = pg_exif_orientation(exif, exif_n);
    return rows->begin(rows->ctx, &p, e);
}

static void deliver(job *j, const pg_decode_opts *o, unsigned char *out, const unsigned char *row)
{
    if (j->channels == 4) {
        blend(out, row, j->width, o->background);
    } else if (j->channels == 3) {
        memcpy(out, row, (size_t)j->width * 3);
    } else {
        unsigned char most = 0;
        for (size_t i = 0; i < j->width; i++) {
            memcpy(out + i * 3, j->palette[row[i]], 3);
            if (row[i] > most) most = row[i];
        }
        if (most >= j->colours) j->beyond = true;
    }
}

static int read_rows(job *j, const pg_decode_opts *o, pg_rows *rows, pg_buf *scratch, pg_err *e)
{
    const size_t stride = (size_t)j->width * (size_t)j->channels;
    const bool whole = j->passes > 1;
    size_t bytes;
    if (!pg_mul(stride, whole ? j->height : 1, &bytes)) return pg_error_nomem(e);
    int rc = pg_scratch(scratch, bytes, e);
    if (rc) return rc;
    if (whole) { /* a later pass only writes its own pixels: start from something defined */
        memset(scratch->data, 0, bytes);
        for (int pass = 0; pass < j->passes; pass++)
            for (size_t y = 0; y < j->height; y++) png_read_row(j->png, scratch->data + y * stride, NULL);
    }
    for (size_t y = 0; y < j->height; y++) {
        unsigned char *out = rows->where(rows->ctx);
        if (whole) {
            deliver(j, o, out, scratch->data + y * stride);
        } else if (j->channels == 3) {
            png_read_row(j->png, out, NULL);
        } else {
            png_read_row(j->png, scratch->data, NULL);
            deliver(j, o, out, scratch->data);
        }
        if ((rc = rows->put(rows->ctx, e))) return rc;
    }
    j->complete = true;
    if (j->beyond) on_warning(j->png, "a colour past the end of the palette, shown black");
    /* libpng skips these silently: it stands at the chunk after the one that held the last row. */
    static const unsigned char more[4] = {'I', 'D', 'A', 'T'}, none[4] = {0};
    const unsigned char *next = j->bytes + j->at;
    if (j->n - j->at >= 8 && memcmp(next, none, 4) && !memcmp(next + 4, more, 4)) on_warning(j->png, "more data than rows");
    png_read_end(j->png, NULL);
    return PG_OK;
}

int pg_png_decode(const unsigned char *bytes, size_t n, const pg_decode_opts *o, pg_rows *rows, pg_buf *scratch, char warning[256],
                  pg_err *e)
{
    job *j = pg_calloc(1, sizeof *j);
    if (!j) return pg_error_nomem(e);
    j->bytes = bytes;
    j->n = n;
    j->warning = warning;
    errno = 0; /* libpng's messages do not tell where memory ran out */
    j->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    j->info = j->png ? png_create_info_struct(j->png) : NULL;
    if (!j->info) {
        j->rc = pg_error_nomem(e);
    } else if (setjmp(png_jmpbuf(j->png))) {
        j->rc = PG_OK;
        if (!j->complete) j->rc = pg_error(e, errno == ENOMEM ? PG_ENOMEM : PG_EFORMAT, "%s", j->message);
        else if (!warning[0]) snprintf(warning, 256, "%s after the last pixel", j->message);
    } else {
        png_set_read_fn(j->png, j, on_read);
        png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
        skip_ancillary(j->png);
        j->rc = begin(j, o, rows, e);
        if (!j->rc) j->rc = read_rows(j, o, rows, scratch, e);
    }
    png_destroy_read_struct(&j->png, &j->info, NULL);
    const int rc = j->rc;
    free(j);
    return rc;
}
