/* What the fuzz targets share. Each fuzz_NAME.c holds one target: a function that feeds arbitrary bytes to one parser. It is linked with
 * libFuzzer (`make fuzz`) to search, and with replay.c to run the kept inputs in `make check`. */
#ifndef PG_FUZZ_H
#define PG_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stream/stream.h"

/* libFuzzer's name. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program: what must hold did not. */
#define FUZZ_CHECK(x) \
    do { \
        if (!(x)) fuzz_broken(#x, __FILE__, __LINE__); \
    } while (0)
_Noreturn void fuzz_broken(const char *what, const char *file, int line);

/* The bytes as a file called name, in a folder of this process that is removed at its end; the path lives as long as the process.
 * A file of the same name is replaced: by a new one, since the old one may be mapped. */
const char *fuzz_file(const char *name, const void *p, size_t n);
const char *fuzz_folder(void);

/* The records in data (msgpack maps one after another, up to the first byte that is none) as a whole stream in a file: header, records,
 * end record. Tools end at a bad stream, which fuzz_stream.c looks at; here every input reaches what they do with a record. */
const char *fuzz_stream_file(const char *name, const char *kind, const uint8_t *data, size_t n);
/* One record after the other; false at the end. */
bool fuzz_next_record(pg_rec *r, const uint8_t **data, size_t *n);

/* Runs code of a tool: false where it called exit, which objects of tools in this folder's programs see as fuzz_exit. What it had
 * allocated by then is freed (under AddressSanitizer). */
bool fuzz_guard(void (*fn)(void *ctx), void *ctx);
_Noreturn void fuzz_exit(int status);

/* Reads every byte, so that one outside of its block is seen. */
void fuzz_touch(const void *p, size_t n);

/* Bytes of an input one after another; zeros where it has ended. */
typedef struct fuzz_bytes {
    const uint8_t *p;
    size_t n;
} fuzz_bytes;
unsigned fuzz_byte(fuzz_bytes *b);
/* The next piece: a length of two bytes, then that many, or what is left. */
const uint8_t *fuzz_piece(fuzz_bytes *b, size_t *n);
/* The same as a new 0-terminated string for free(), zero bytes made 1. */
char *fuzz_text(fuzz_bytes *b);

#endif
