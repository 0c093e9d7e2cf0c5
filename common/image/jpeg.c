/* JPEG through libjpeg-turbo, with the accurate DCT and smooth upsampling: the bytes that PIL gives.
 *
 * libjpeg goes on after damage and only warns. Damage to the picture is an error here; what cannot have changed a pixel
 * (bytes between markers, a missing end marker) is a warning. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jpeglib.h needs stdio.h and size_t before it. */
#include <jpeglib.h>

#include <jerror.h>

#include "image/internal.h"

enum { MAX_SCANS = 500 }; /* a progressive file of a few kilobytes can hold thousands, each over the whole picture */

typedef struct job {
    struct jpeg_error_mgr manager; /* first: libjpeg knows only this part */
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char *warning;
    char message[JMSG_LENGTH_MAX];
    bool in_scan, cut, damaged;
    struct jpeg_decompress_struct d;
    pg_buf *scratch;
    int rc;
} job;

static void text(j_common_ptr c, char out[JMSG_LENGTH_MAX])
{
    (*c->err->format_message)(c, out);
    if (out[0] >= 'A' && out[0] <= 'Z' && out[1] >= 'a' && out[1] <= 'z') out[0] = (char)(out[0] - 'A' + 'a');
}

static void on_error(j_common_ptr c)
{
    job *j = (job *)c->err;
    text(c, j->message);
    longjmp(j->jump, 1);
}

static void on_message(j_common_ptr c, int level)
{
    job *j = (job *)c->err;
    if (level >= 0) return;
    j->manager.num_warnings++;
    const int code = j->manager.msg_code;
    const bool harmless = code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR || (code == JWRN_EXTRANEOUS_DATA && !j->in_scan);
    if (code == JWRN_JPEG_EOF) {
        j->cut = true;
    } else if (!harmless && !j->damaged) {
        j->damaged = true;
        text(c, j->message);
    } else if (harmless && !j->warning[0]) {
        char m[JMSG_LENGTH_MAX];
        text(c, m);
        snprintf(j->warning, 256, "%s", m);
    }
}

static void on_output(j_common_ptr c) { (void)c; }

static void on_progress(j_common_ptr c)
{
    job *j = (job *)c->err;
    if (j->d.input_scan_number <= MAX_SCANS) return;
    snprintf(j->message, sizeof j->message, "more than %d scans", MAX_SCANS);
    longjmp(j->jump, 1);
}

static int orientation(const struct jpeg_decompress_struct *d)
{
    for (jpeg_saved_marker_ptr m = d->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length >= 6 && !memcmp(m->data, "Exif\0", 6))
            return pg_exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

static bool no_tables(const struct jpeg_decompress_struct *d)
{
    for (int i = 0; i < NUM_HUFF_TBLS; i++)
        if (d->dc_huff_tbl_ptrs[i] || d->ac_huff_tbl_ptrs[i]) return false;
    return !d->arith_code && !d->progressive_mode;
}

static int begin(job *j, size_t n, const pg_decode_opts *o, pg_rows *rows, pg_err *e)
{
    struct jpeg_decompress_struct *d = &j->d;
    jpeg_read_header(d, TRUE);
    const size_t w = d->image_width, h = d->image_height;
    int rc = pg_check_pixels(w, h, o->max_pixels, e);
    if (rc) return rc;
    /* Huffman coding spends at least one bit on each block of 64 samples; only arithmetic coding can do with less. */
    if (!d->arith_code && w * h / 64 > n * 8)
        return pg_error(e, PG_EFORMAT, "premature end of file: %zu bytes cannot hold %zux%zu pixels", n, w, h);
    if (no_tables(d) && !j->warning[0]) snprintf(j->warning, 256, "no huffman tables; the standard ones were used");
    switch (d->jpeg_color_space) {
    case JCS_CMYK:
    case JCS_YCCK: d->out_color_space = JCS_CMYK; break;
    case JCS_GRAYSCALE:
    case JCS_RGB:
    case JCS_YCbCr: d->out_color_space = JCS_RGB; break;
    default: return pg_error(e, PG_EFORMAT, "unknown colour space of %d components", d->num_components);
    }
    d->dct_method = JDCT_ISLOW;
    d->do_fancy_upsampling = TRUE;
    d->scale_denom = 8;
    d->scale_num = 8;
    const size_t side = w > h ? w : h;
    while (o->min_side && d->scale_num > 1 && side * (d->scale_num - 1) / 8 >= o->min_side) d->scale_num--;
    j->in_scan = true;
    jpeg_start_decompress(d);
    pg_picture p = {d->output_width, d->output_height, w, h, orientation(d), "jpeg"};
    return rows->begin(rows->ctx, &p, e);
}

/* The formula of PIL: c * k / 255 rounded, without a division. */
static void cmyk_to_rgb(unsigned char *out, const unsigned char *cmyk, size_t n, bool inverted)
{
    const unsigned flip = inverted ? 255 : 0;
    for (size_t i = 0; i < n; i++, cmyk += 4, out += 3) {
        const int k = 255 - (int)(cmyk[3] ^ flip);
        for (int c = 0; c < 3; c++) {
            const int t = (int)(cmyk[c] ^ flip) * k + 128;
            const int v = k - (((t >> 8) + t) >> 8);
            out[c] = (unsigned char)(v < 0 ? 0 : v);
        }
    }
}

static int read_rows(job *j, pg_rows *rows, pg_err *e)
{
    struct jpeg_decompress_struct *d = &j->d;
    const bool cmyk = d->out_color_space == JCS_CMYK;
    int rc;
    if (cmyk && (rc = pg_scratch(j->scratch, (size_t)d->output_width * 4, e))) return rc;
    while (d->output_scanline < d->output_height) {
        unsigned char *out = rows->where(rows->ctx);
        JSAMPROW row = cmyk ? j->scratch->data : out;
        jpeg_read_scanlines(d, &row, 1);
        if (j->damaged) break;
        if (cmyk) cmyk_to_rgb(out, row, d->output_width, d->saw_Adobe_marker);
        if ((rc = rows->put(rows->ctx, e))) return rc;
    }
    if (!j->damaged) {
        /* With several scans or arithmetic coding nothing tells a cut file from one that is complete but for its end. */
        const bool sure = !jpeg_has_multiple_scans(d) && !d->arith_code;
        jpeg_finish_decompress(d);
        if (j->cut && !sure) j->damaged = true;
    }
    if (j->damaged) return pg_error(e, PG_EFORMAT, "%s", j->cut ? "premature end of file" : j->message);
    if (j->cut && !j->warning[0]) snprintf(j->warning, 256, "no end marker");
    return PG_OK;
}

int pg_jpeg_decode(const unsigned char *bytes, size_t n, const pg_decode_opts *o, pg_rows *rows, pg_buf *scratch, char warning[256],
                   pg_err *e)
{
    job *j = pg_calloc(1, sizeof *j);
    if (!j) return pg_error_nomem(e);
    j->warning = warning;
    j->scratch = scratch;
    j->d.err = jpeg_std_error(&j->manager);
    j->manager.error_exit = on_error;
    j->manager.emit_message = on_message;
    j->manager.output_message = on_output;
    if (setjmp(j->jump)) {
        const int code = j->d.err->msg_code == JERR_OUT_OF_MEMORY ? PG_ENOMEM : PG_EFORMAT;
        j->rc = pg_error(e, code, "%s", j->cut ? "premature end of file" : j->message);
    } else {
        jpeg_create_decompress(&j->d);
        j->progress.progress_monitor = on_progress;
        j->d.progress = &j->progress;
        jpeg_mem_src(&j->d, bytes, n);
        jpeg_save_markers(&j->d, JPEG_APP0 + 1, 0xFFFF);
        j->rc = begin(j, n, o, rows, e);
        if (!j->rc) j->rc = read_rows(j, rows, e);
    }
    jpeg_destroy_decompress(&j->d);
    const int rc = j->rc;
    free(j);
    return rc;
}

typedef struct encoder {
    struct jpeg_error_mgr manager; /* first */
    jmp_buf jump;
    struct jpeg_compress_struct c;
    unsigned char *data;
    unsigned long len;
    char message[JMSG_LENGTH_MAX];
    int rc;
} encoder;

static void on_encode_error(j_common_ptr c)
{
    encoder *x = (encoder *)c->err;
    text(c, x->message);
    longjmp(x->jump, 1);
}

int pg_jpeg_encode(const unsigned char *rgb, size_t width, size_t height, int quality, pg_buf *out, pg_err *e)
{
    if (!width || !height || width > JPEG_MAX_DIMENSION || height > JPEG_MAX_DIMENSION)
        return pg_error(e, PG_EINVAL, "a JPEG cannot hold %zux%zu pixels", width, height);
    encoder *x = pg_calloc(1, sizeof *x);
    if (!x) return pg_error_nomem(e);
    x->c.err = jpeg_std_error(&x->manager);
    x->manager.error_exit = on_encode_error;
    x->manager.output_message = on_output;
    if (setjmp(x->jump)) {
        x->rc = pg_error(e, x->c.err->msg_code == JERR_OUT_OF_MEMORY ? PG_ENOMEM : PG_FAIL, "%s", x->message);
    } else {
        jpeg_create_compress(&x->c);
        jpeg_mem_dest(&x->c, &x->data, &x->len);
        x->c.image_width = (JDIMENSION)width;
        x->c.image_height = (JDIMENSION)height;
        x->c.input_components = 3;
        x->c.in_color_space = JCS_RGB;
        jpeg_set_defaults(&x->c);
        jpeg_set_quality(&x->c, quality, TRUE);
        jpeg_start_compress(&x->c, TRUE);
        while (x->c.next_scanline < x->c.image_height) {
            /* libjpeg only reads here; its interface predates const. */
            JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + (size_t)x->c.next_scanline * width * 3);
            jpeg_write_scanlines(&x->c, &row, 1);
        }
        jpeg_finish_compress(&x->c);
        x->rc = pg_buf_add(out, x->data, x->len, e);
    }
    jpeg_destroy_compress(&x->c);
    free(x->data);
    const int rc = x->rc;
    free(x);
    return rc;
}
