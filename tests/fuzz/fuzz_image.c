/* A picture: its header, its pixels with each option, its thumbnail; with a limit on pixels that is within reach. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "fuzz.h"
#include "image/image.h"

enum { SIDE = 8, MOST = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float out[SIDE * SIDE * 3];
    fuzz_bytes in = {data, size};
    unsigned how = fuzz_byte(&in);
    pg_image_opts o = {.size = SIDE, .filter = how & 1 ? PG_BICUBIC : PG_BILINEAR, .orient = how & 2, .blend = how & 4, .max_pixels = MOST};
    pg_image *im;
    pg_image_info looked, info;
    pg_buf jpeg = {0};
    char warning[256];
    pg_err e = {0};
    FUZZ_CHECK(!pg_image_new(&im, &e));
    bool small = !pg_image_look(im, in.p, in.n, MOST, &looked, &e);
    if (small) FUZZ_CHECK(looked.width * looked.height <= MOST);
    if (!pg_image_pixels(im, in.p, in.n, &o, out, &info, warning, &e)) {
        FUZZ_CHECK(small && info.width && info.height && info.width * info.height <= MOST);
        for (size_t i = 0; i < SIDE * SIDE * 3; i++) FUZZ_CHECK(out[i] >= -1.01f && out[i] <= 1.01f);
    } else
        FUZZ_CHECK(e.code && e.msg[0]);
    if (small && !pg_image_thumbnail(im, in.p, in.n, 16, &jpeg, &e)) FUZZ_CHECK(jpeg.len);
    pg_buf_free(&jpeg);
    pg_image_free(im);
    return 0;
}

#ifdef PG_LIBFUZZER
/* libpng looks at checksums before anything else: they are made right after each mutation. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max);
    if (seed % 8 == 0 || size < 9 || memcmp(data + 1, "\x89PNG", 4)) return size;
    for (size_t at = 9; size - at >= 12;) {
        size_t n = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 | data[at + 3];
        if (n > size - at - 12) break;
        unsigned long crc = crc32(0, data + at + 4, (unsigned)n + 4);
        for (int i = 0; i < 4; i++) data[at + 8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
    return size;
}
#endif
