/* Pictures with alpha onto a coloured square: bilinear samples of premultiplied colour, four channels at a time. A training run draws
 * a million of them, so this must stay well below the cost of a training step (about 1.5 ms an example on two cores). */
#include <math.h>
#include <png.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "augment.h"

typedef float v4 __attribute__((vector_size(16)));
typedef uint8_t u4 __attribute__((vector_size(4)));

static const float colours[N_COLOURS][3] = {{205, 40, 40}, {245, 140, 30}, {250, 225, 70}, {60, 160, 70}, {50, 95, 205}, {130, 60, 165},
                                            {250, 160, 195}, {125, 80, 45}, {130, 130, 130}, {20, 20, 20}, {255, 255, 255}};

void picture_load(thing *t, size_t size)
{
    const char *path = t->path;
    png_image p = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_file(&p, path)) die(path, p.message);
    p.format = PNG_FORMAT_RGBA;
    unsigned char *in = malloc(PNG_IMAGE_SIZE(p));
    if (!in || !png_image_finish_read(&p, NULL, in, 0, NULL)) die(path, p.message);
    size_t longest = p.width > p.height ? p.width : p.height, f = longest / size > 1 ? longest / size : 1;
    t->w = (p.width + f - 1) / f;
    t->h = (p.height + f - 1) / f;
    t->rgba = pg_calloc((t->w + 2) * (t->h + 2), 4);
    if (!t->rgba) die(path, "out of memory");
    for (size_t y = 0; y < t->h; y++)
        for (size_t x = 0; x < t->w; x++) {
            unsigned long sum[4] = {0, 0, 0, 0};
            for (size_t j = y * f; j < (y + 1) * f && j < p.height; j++)
                for (size_t i = x * f; i < (x + 1) * f && i < p.width; i++) {
                    const unsigned char *c = in + (j * p.width + i) * 4;
                    for (int k = 0; k < 3; k++) sum[k] += (unsigned long)c[k] * c[3];
                    sum[3] += 255ul * c[3];
                }
            unsigned char *o = t->rgba + ((y + 1) * (t->w + 2) + x + 1) * 4;
            for (int k = 0; k < 4; k++) o[k] = (unsigned char)((sum[k] + 127 * f * f) / (255 * f * f));
        }
    free(in);
}

/* Where the samples of one axis lie: the index of the first of two taps in the bordered picture, and the weight of the second. */
typedef struct tap {
    size_t at;
    float w;
} tap;

static void make_taps(tap *t, size_t size, size_t n, double offset, double scale)
{
    for (size_t i = 0; i < size; i++) {
        double x = ((double)i + 0.5 - offset) / scale + 0.5; /* the border moves the picture by one, centres lie at a half */
        if (x < 0) x = 0;
        if (x > (double)n + 1) x = (double)n + 1;
        t[i].at = x >= (double)n + 1 ? n : (size_t)x;
        t[i].w = (float)(x - (double)t[i].at);
    }
}

static v4 load(const unsigned char *p)
{
    u4 b;
    memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, v4);
}

void picture_draw(const thing *t, pg_rng *r, size_t size, size_t colour, double amount, unsigned char *rgb)
{
    tap xs[MAX_SIZE], ys[MAX_SIZE];
    v4 bg = {0, 0, 0, 0};
    for (int k = 0; k < 3; k++) {
        float v = colours[colour][k] + (colour == WHITE ? 0 : (float)(24 * (pg_rng_double(r) - 0.5)));
        bg[k] = floorf(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    double longest = (double)(t->w > t->h ? t->w : t->h), scale = (double)size / longest * (1 - 0.2 * amount * pg_rng_double(r));
    double ox = ((double)size - scale * (double)t->w) * (0.5 + amount * (pg_rng_double(r) - 0.5));
    double oy = ((double)size - scale * (double)t->h) * (0.5 + amount * (pg_rng_double(r) - 0.5));
    make_taps(xs, size, t->w, ox, scale);
    make_taps(ys, size, t->h, oy, scale);
    size_t row = (t->w + 2) * 4;
    for (size_t y = 0; y < size; y++) {
        const unsigned char *r0 = t->rgba + ys[y].at * row, *r1 = r0 + row;
        float b = ys[y].w, a = 1 - b;
        for (size_t x = 0; x < size; x++) {
            const unsigned char *p = r0 + xs[x].at * 4, *q = r1 + xs[x].at * 4;
            float d = xs[x].w, c = 1 - d;
            v4 v = (load(p) * c + load(p + 4) * d) * a + (load(q) * c + load(q + 4) * d) * b;
            v += bg * (1 - v[3] / 255) + 0.5f;
            for (int k = 0; k < 3; k++) *rgb++ = (unsigned char)(v[k] < 255 ? v[k] : 255);
        }
    }
}
