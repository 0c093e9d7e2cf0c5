/* aux_pixels SIZE TIMES [no-orient] < PICTURE > FLOATS: the pixels, decoded TIMES times, with seconds per picture on stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "image/image.h"

int main(int argc, char **argv)
{
    pg_image *im = NULL;
    pg_buf b = {0};
    pg_err e = {0};
    int rc = 1;
    if (argc < 3) return 2;
    const size_t size = strtoul(argv[1], NULL, 10), times = strtoul(argv[2], NULL, 10);
    const pg_image_opts o = {.size = size, .orient = argc == 3};
    float *out = pg_floats(size * size * 3);
    char warning[256];
    if (!out || pg_image_new(&im, &e) || pg_file_read("/dev/stdin", (size_t)1 << 30, &b, &e)) goto out;
    struct timespec a, z;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (size_t i = 0; i < times; i++)
        if (pg_image_pixels(im, b.data, b.len, &o, out, NULL, warning, &e)) goto out;
    clock_gettime(CLOCK_MONOTONIC, &z);
    fprintf(stderr, "%.4f s %s\n", ((double)(z.tv_sec - a.tv_sec) + 1e-9 * (double)(z.tv_nsec - a.tv_nsec)) / (double)times, warning);
    rc = pg_write_full(1, out, size * size * 3 * sizeof *out) != 0;
out:
    if (rc) fprintf(stderr, "%s\n", e.msg);
    free(out);
    pg_buf_free(&b);
    pg_image_free(im);
    return rc;
}
