#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "image/image.h"
#include "image/internal.h"
#include "sha256.h"

#define GOLDEN "tests/golden/image/"

static pg_image *im;

static int setup(void **state)
{
    (void)state;
    return pg_image_new(&im, NULL);
}

static int teardown(void **state)
{
    (void)state;
    pg_image_free(im);
    return 0;
}

static pg_buf load(const char *file)
{
    char path[512];
    pg_buf b = {0};
    pg_err e = {0};
    snprintf(path, sizeof path, GOLDEN "%s", file);
    if (pg_file_read(path, (size_t)1 << 24, &b, &e)) fail_msg("%s", e.msg);
    return b;
}

static float *pixels(const pg_buf *b, const pg_image_opts *o, pg_image_info *info, char warning[256])
{
    pg_err e = {0};
    float *out = pg_floats(o->size * o->size * 3);
    assert_non_null(out);
    if (pg_image_pixels(im, b->data, b->len, o, out, info, warning, &e)) fail_msg("%s", e.msg);
    return out;
}

/* Every good picture, both orientations, four sizes: equal bits. */
static void answers(void **state)
{
    (void)state;
    FILE *f = fopen(GOLDEN "answers.txt", "r");
    char name[128], want[65], got[65], loaded[128] = "";
    int orient, n = 0, wrong = 0;
    size_t size;
    pg_buf b = {0};
    assert_non_null(f);
    while (fscanf(f, "%127s %d %zu %64s", name, &orient, &size, want) == 4) {
        if (strcmp(name, loaded)) {
            pg_buf_free(&b);
            b = load(name);
            strcpy(loaded, name);
        }
        pg_image_info info;
        char warning[256];
        const pg_image_opts o = {.size = size, .orient = orient};
        float *out = pixels(&b, &o, &info, warning);
        sha256_hex(out, size * size * 3 * sizeof *out, got);
        if (strcmp(got, want) || warning[0]) {
            print_error("%s orient %d size %zu: other bits (%s)\n", name, orient, size, warning);
            wrong++;
        }
        assert_string_equal(info.format, strstr(name, ".png") ? "png" : "jpeg");
        free(out);
        n++;
    }
    fclose(f);
    pg_buf_free(&b);
    assert_int_equal(wrong, 0);
    assert_int_equal(n, 360);
}

static void bad_files(void **state)
{
    (void)state;
    FILE *f = fopen(GOLDEN "bad/want.txt", "r");
    char name[128], path[256], want[16], warning[256];
    int n = 0, wrong = 0;
    float *out = pg_floats(64 * 64 * 3);
    assert_non_null(f);
    assert_non_null(out);
    while (fscanf(f, "%127s %15s", name, want) == 2) {
        snprintf(path, sizeof path, "bad/%s", name);
        pg_buf b = load(path);
        pg_err e = {0};
        const pg_image_opts o = {.size = 64, .orient = true};
        const int rc = pg_image_pixels(im, b.data, b.len, &o, out, NULL, warning, &e);
        const char *said = rc ? e.msg : warning;
        bool ok = strcmp(want, "error") == 0 ? rc != 0 : strcmp(want, "ok") == 0 ? rc == 0 : rc || warning[0];
        if (rc && (!e.msg[0] || rc != e.code)) ok = false;
        if (!ok) wrong++;
        if (!ok || getenv("PG_SHOW")) print_error("%-32s want %-6s got %d: %s\n", name, want, rc, said);
        pg_buf_free(&b);
        n++;
    }
    fclose(f);
    free(out);
    assert_int_equal(wrong, 0);
    assert_int_equal(n, 31);
}

static void reason(const void *bytes, size_t n, const char *want)
{
    float out[4 * 4 * 3];
    pg_err e = {0};
    const pg_image_opts o = {.size = 4};
    assert_int_not_equal(pg_image_pixels(im, bytes, n, &o, out, NULL, NULL, &e), 0);
    if (!strstr(e.msg, want)) fail_msg("'%s' does not say '%s'", e.msg, want);
}

static void reason_file(const char *file, const char *want)
{
    pg_buf b = load(file);
    reason(b.data, b.len, want);
    pg_buf_free(&b);
}

static void reasons(void **state)
{
    (void)state;
    reason_file("opt-gif.gif", "GIF is not supported; convert it to PNG or JPEG");
    reason_file("opt-lossy.webp", "WebP is not supported");
    reason_file("opt-lossless.webp", "WebP is not supported");
    reason_file("opt-bmp.bmp", "BMP is not supported");
    reason_file("bad/bad-html.png", "a web page");
    reason_file("bad/bad-text.jpg", "neither PNG nor JPEG");
    reason_file("bad/bad-truncated-half.png", "premature end of file");
    reason_file("bad/bad-truncated-half.jpg", "premature end of file");
    reason_file("bad/bad-bomb-100000x100000.png", "100000x100000 pixels are more than the limit of 178956970");
    reason_file("bad/bad-huge-65500x65500.jpg", "more than the limit");
    reason("", 0, "empty");
    reason("\xff", 1, "neither");
    reason("\x89PNG", 4, "premature end of file");
}

/* Cut anywhere but in the last bytes, a picture is refused; no cut may crash. */
static void every_cut(void **state)
{
    (void)state;
    static const char *const files[] = {"png-rgb8-adam7.png", "png-pal8-trns.png", "jpg-420-7x3.jpg", "jpg-exif6.jpg",
                                        "jpg-420-progressive.jpg"};
    float out[8 * 8 * 3];
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        pg_buf b = load(files[f]);
        for (size_t n = 0; n < b.len; n++) {
            unsigned char *p = malloc(n ? n : 1); /* exactly n, so that a sanitizer sees one byte too far */
            assert_non_null(p);
            memcpy(p, b.data, n);
            const pg_image_opts o = {.size = 8, .orient = true};
            char warning[256];
            const int rc = pg_image_pixels(im, p, n, &o, out, NULL, warning, NULL);
            free(p);
            if (!rc && (n + 24 < b.len || !warning[0])) fail_msg("%s cut at %zu of %zu passed: '%s'", files[f], n, b.len, warning);
        }
        pg_buf_free(&b);
    }
}

/* Any byte changed: an error or a picture, never a crash. */
static void every_byte_changed(void **state)
{
    (void)state;
    static const char *const files[] = {"png-pal4-adam7.png", "jpg-420-7x3.jpg", "jpg-exif8.jpg"};
    float out[8 * 8 * 3];
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        pg_buf b = load(files[f]);
        for (size_t i = 0; i < b.len; i++) {
            const unsigned char was = b.data[i];
            const pg_image_opts o = {.size = 8, .orient = true, .max_pixels = 1 << 20};
            b.data[i] ^= (unsigned char)(1u << i % 8);
            (void)!pg_image_pixels(im, b.data, b.len, &o, out, NULL, NULL, NULL);
            b.data[i] = (unsigned char)~was;
            (void)!pg_image_pixels(im, b.data, b.len, &o, out, NULL, NULL, NULL);
            b.data[i] = was;
        }
        pg_buf_free(&b);
    }
}

static void bicubic(void **state)
{
    (void)state;
    static const struct {
        const char *file, *answer;
        size_t size;
    } t[] = {{"png-rgb8.png", "bicubic-png-rgb8-64.u8", 64},
             {"png-rgb8.png", "bicubic-png-rgb8-224.u8", 224},
             {"png-rgb8-211x97.png", "bicubic-png-rgb8-211x97-64.u8", 64},
             {"jpg-420-517x389.jpg", "bicubic-jpg-420-517x389-64.u8", 64}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        pg_buf b = load(t[i].file), a = load(t[i].answer);
        const pg_image_opts o = {.size = t[i].size, .filter = PG_BICUBIC};
        float *out = pixels(&b, &o, NULL, NULL);
        assert_int_equal(a.len, t[i].size * t[i].size * 3);
        for (size_t k = 0; k < a.len; k++)
            if (out[k] != (float)a.data[k] / 127.5f - 1.0f) fail_msg("%s: value %zu is %g, not %d", t[i].file, k, (double)out[k], a.data[k]);
        free(out);
        pg_buf_free(&a);
        pg_buf_free(&b);
    }
}

/* The vector version against the definition, on sizes that are no multiple of anything. */
static void resize_against_definition(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 5}, {1, 37, 8}, {37, 1, 8}, {23, 19, 19}, {130, 71, 16}, {22, 300, 9}, {5, 4, 33}, {97, 500, 3}};
    uint32_t seed = 7;
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        const size_t w = sizes[c][0], h = sizes[c][1], s = sizes[c][2];
        unsigned char *rgb = malloc(w * h * 3);
        float *tall = calloc(s * w * 3, sizeof *tall), *want = calloc(s * s * 3, sizeof *want), *out = malloc(s * s * 3 * sizeof *out);
        pg_taps down = {0}, across = {0};
        pg_resize r = {0};
        assert_true(rgb && tall && want && out);
        for (size_t i = 0; i < w * h * 3; i++) rgb[i] = (unsigned char)((seed = seed * 1664525 + 1013904223) >> 24);
        assert_int_equal(pg_taps_bilinear(&down, h, s, NULL), 0);
        assert_int_equal(pg_taps_bilinear(&across, w, s, NULL), 0);
        for (size_t y = 0; y < s; y++)
            for (size_t k = 0; k < down.count[y]; k++)
                for (size_t i = 0; i < w * 3; i++)
                    tall[y * w * 3 + i] += down.weights[y * down.stride + k] * (float)rgb[(down.first[y] + k) * w * 3 + i];
        for (size_t y = 0; y < s; y++)
            for (size_t x = 0; x < s; x++)
                for (size_t k = 0; k < across.count[x]; k++)
                    for (size_t i = 0; i < 3; i++)
                        want[(y * s + x) * 3 + i] +=
                            across.weights[x * across.stride + k] * tall[(y * w + across.first[x] + k) * 3 + i];
        for (int plain = 0; plain < 2; plain++) {
            r.plain = plain;
            assert_int_equal(pg_resize_begin(&r, PG_BILINEAR, w, h, s, s, out, NULL), 0);
            for (size_t y = 0; y < h; y++) {
                memcpy(pg_resize_where(&r), rgb + y * w * 3, w * 3);
                pg_resize_put(&r);
            }
            assert_int_equal(r.done, s);
            assert_memory_equal(out, want, s * s * 3 * sizeof *out);
        }
        pg_resize_free(&r);
        pg_taps_free(&down);
        pg_taps_free(&across);
        free(rgb);
        free(tall);
        free(want);
        free(out);
    }
}

static void exif(void **state)
{
    (void)state;
    unsigned char le[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0};
    unsigned char be[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0};
    assert_int_equal(pg_exif_orientation(le, sizeof le), 6);
    assert_int_equal(pg_exif_orientation(be, sizeof be), 8);
    for (size_t n = 0; n < sizeof le; n++) assert_int_equal(pg_exif_orientation(le, n), 1);
    le[18] = 9;
    assert_int_equal(pg_exif_orientation(le, sizeof le), 1);
    le[18] = 0;
    assert_int_equal(pg_exif_orientation(le, sizeof le), 1);
    le[4] = le[5] = le[6] = le[7] = 255;
    assert_int_equal(pg_exif_orientation(le, sizeof le), 1);
}

/* A file of another orientation is the same picture turned: all eight against turning by hand. */
static void orientations(void **state)
{
    (void)state;
    pg_buf b = load("jpg-exif6.jpg");
    enum { S = 12 };
    pg_image_opts o = {.size = S, .orient = true};
    size_t at = 0;
    for (size_t i = 0; i + 10 < b.len && !at; i++)
        if (!memcmp(b.data + i, "\x12\x01\x03\0\1\0\0\0\6", 9)) at = i + 8;
        else if (!memcmp(b.data + i, "\x01\x12\0\3\0\0\0\1\0\6", 10)) at = i + 9;
    assert_true(at > 0);
    b.data[at] = 1;
    float *plain = pixels(&b, &o, NULL, NULL);
    for (unsigned char k = 1; k <= 8; k++) {
        pg_image_info info;
        b.data[at] = k;
        float *got = pixels(&b, &o, &info, NULL);
        assert_int_equal(info.width, k >= 5 ? 31 : 53);
        assert_int_equal(info.height, k >= 5 ? 53 : 31);
        for (size_t y = 0; y < S; y++)
            for (size_t x = 0; x < S; x++) {
                static const char flips[9][2] = {{0, 0}, {0, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 0}, {0, 1}, {1, 1}, {1, 0}};
                size_t sx = k >= 5 ? y : x, sy = k >= 5 ? x : y;
                if (flips[k][0]) sx = S - 1 - sx;
                if (flips[k][1]) sy = S - 1 - sy;
                for (size_t c = 0; c < 3; c++)
                    if (fabsf(got[(y * S + x) * 3 + c] - plain[(sy * S + sx) * 3 + c]) > 2e-6f)
                        fail_msg("orientation %d, at %zu,%zu", k, x, y);
            }
        free(got);
    }
    free(plain);
    pg_buf_free(&b);
}

static void background(void **state)
{
    (void)state;
    static const char *const files[] = {"png-rgba8.png", "png-rgba16.png", "png-ga8.png", "png-pal8-trns.png", "png-gray8-trns.png",
                                        "png-rgb8-trns.png", "png-rgb8.png", "png-rgb8-adam7.png"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        pg_buf b = load(files[f]);
        pg_image_opts o = {.size = 16, .blend = false};
        float *dropped = pixels(&b, &o, NULL, NULL);
        o.blend = true;
        float *black = pixels(&b, &o, NULL, NULL);
        memset(o.background, 255, 3);
        float *white = pixels(&b, &o, NULL, NULL);
        bool differ = false;
        for (size_t i = 0; i < 16 * 16 * 3; i++) {
            /* Eight-bit rounding on either side. */
            assert_true(black[i] <= dropped[i] + 0.005f && dropped[i] <= white[i] + 0.005f);
            if (white[i] - black[i] > 0.02f) differ = true;
        }
        assert_int_equal(differ, f < 6);
        free(dropped);
        free(black);
        free(white);
        pg_buf_free(&b);
    }
}

static void thumbnails(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        size_t side, w, h;
    } t[] = {{"jpg-420-517x389.jpg", 64, 64, 48}, {"jpg-exif6.jpg", 100, 31, 53}, {"png-rgb8-1x500.png", 100, 1, 100},
             {"png-rgba8.png", 32, 32, 25},       {"jpg-cmyk-adobe.jpg", 40, 40, 30}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        pg_buf b = load(t[i].file), j = {0};
        pg_err e = {0};
        if (pg_image_thumbnail(im, b.data, b.len, t[i].side, &j, &e)) fail_msg("%s: %s", t[i].file, e.msg);
        const pg_image_opts o = {.size = 8, .orient = true};
        pg_image_info info;
        float *small = pixels(&j, &o, &info, NULL), *full = pixels(&b, &o, NULL, NULL);
        assert_int_equal(info.width, t[i].w);
        assert_int_equal(info.height, t[i].h);
        double sum = 0;
        for (size_t k = 0; k < 8 * 8 * 3; k++) sum += fabs((double)(small[k] - full[k]));
        if (i != 3) assert_true(sum / (8 * 8 * 3) < 0.15); /* looks alike; blended alpha does not */
        free(full);
        pg_buf k = {0};
        assert_int_equal(pg_image_encode(small, 8, &k, &e), 0);
        assert_memory_equal(k.data, "\xff\xd8\xff", 3);
        free(small);
        pg_buf_free(&k);
        pg_buf_free(&j);
        pg_buf_free(&b);
    }
}

static void limit(void **state)
{
    (void)state;
    pg_buf b = load("jpg-420.jpg");
    float out[4 * 4 * 3];
    pg_image_opts o = {.size = 4, .max_pixels = 120 * 90 - 1};
    pg_err e = {0};
    assert_int_equal(pg_image_pixels(im, b.data, b.len, &o, out, NULL, NULL, &e), PG_ELIMIT);
    assert_string_equal(e.msg, "120x90 pixels are more than the limit of 10799");
    o.max_pixels++;
    assert_int_equal(pg_image_pixels(im, b.data, b.len, &o, out, NULL, NULL, &e), PG_OK);
    pg_buf_free(&b);
}

/* The header alone gives the size that decoding gives, of every good picture; a bomb is refused by its header. */
static void look(void **state)
{
    (void)state;
    static const char *const good[] = {"png-rgb8.png", "png-rgb8-211x97.png", "png-pal4-adam7.png", "png-gray1.png", "png-rgb8-1x500.png",
                                       "jpg-420.jpg", "jpg-420-517x389.jpg", "jpg-420-progressive.jpg", "jpg-cmyk-adobe.jpg"};
    const pg_image_opts o = {.size = 8};
    pg_image_info seen, decoded;
    pg_err e = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        pg_buf b = load(good[i]);
        float *out = pixels(&b, &o, &decoded, NULL);
        if (pg_image_look(im, b.data, b.len, 0, &seen, &e)) fail_msg("%s: %s", good[i], e.msg);
        assert_string_equal(seen.format, decoded.format);
        assert_int_equal(seen.width, decoded.width);
        assert_int_equal(seen.height, decoded.height);
        assert_int_equal(pg_image_look(im, b.data, b.len, seen.width * seen.height, &seen, &e), PG_OK);
        assert_int_equal(pg_image_look(im, b.data, b.len, seen.width * seen.height - 1, &seen, &e), PG_ELIMIT);
        assert_int_equal(pg_image_look(im, b.data, 8, 0, &seen, &e), PG_EFORMAT);
        free(out);
        pg_buf_free(&b);
    }
    pg_buf b = load("bad/bad-bomb-100000x100000.png");
    assert_int_equal(pg_image_look(im, b.data, b.len, 0, &seen, &e), PG_ELIMIT);
    pg_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),      cmocka_unit_test(bad_files), cmocka_unit_test(reasons),
        cmocka_unit_test(every_cut),    cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(bicubic),      cmocka_unit_test(resize_against_definition),
        cmocka_unit_test(exif),         cmocka_unit_test(orientations), cmocka_unit_test(background),
        cmocka_unit_test(thumbnails),   cmocka_unit_test(limit), cmocka_unit_test(look),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
