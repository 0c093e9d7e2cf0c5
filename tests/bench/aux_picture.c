/* A JPEG of so many pixels on standard output, waves and some noise, as a photograph has: aux_picture WIDTH HEIGHT SEED */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "base/mem.h"
#include "base/num.h"

int main(int argc, char **argv)
{
    size_t width, height, seed;
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr err;
    if (argc != 4 || !pg_parse_size(argv[1], &width) || !pg_parse_size(argv[2], &height) || !pg_parse_size(argv[3], &seed) || !width ||
        width > JPEG_MAX_DIMENSION || !height || height > JPEG_MAX_DIMENSION) {
        fprintf(stderr, "usage: aux_picture WIDTH HEIGHT SEED > picture.jpg\n");
        return 2;
    }
    unsigned char *row = pg_alloc(width, 3);
    unsigned noise = (unsigned)seed;
    if (!row) return 1;
    c.err = jpeg_std_error(&err);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, stdout);
    c.image_width = (JDIMENSION)width, c.image_height = (JDIMENSION)height, c.input_components = 3, c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    jpeg_start_compress(&c, TRUE);
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < 3 * width; x++) {
            noise = noise * 1664525u + 1013904223u;
            row[x] = (unsigned char)(128 + 80 * sin((double)(x + seed) * 0.004 + (double)y * 0.002) + 20 * sin((double)x * 0.05) + (noise >> 28));
        }
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
    return fflush(stdout) ? 1 : 0;
}
