/* Checksums of downloads: md5, sha256 and sha1 from OpenSSL's libcrypto (Apache-2.0), crc32c of our own. */
#ifndef PG_NET_HASH_H
#define PG_NET_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { PG_SUM_MD5 = 1, PG_SUM_CRC32C = 2, PG_SUM_SHA256 = 4, PG_SUM_GIT = 8, PG_SUM_KINDS = 4 };

/* Some sums of one file. crc32c is big-endian, as in x-goog-hash; git is the sha1 of git's blob object. */
typedef struct pg_sums {
    unsigned have; /* PG_SUM_ bits */
    unsigned char md5[16], crc32c[4], sha256[32], git[20];
} pg_sums;

/* Kind i of PG_SUM_KINDS: its bit, name, bytes within *s. */
typedef struct pg_sum_view {
    unsigned bit;
    const char *name;
    unsigned char *bytes;
    size_t n;
} pg_sum_view;
pg_sum_view pg_sum_at(pg_sums *s, size_t i);

/* One sum from text; false where it is malformed. */
bool pg_sum_hex(pg_sums *s, unsigned bit, const char *hex);
bool pg_sum_base64(pg_sums *s, unsigned bit, const char *base64, size_t n);
/* Adds what b has and a lacks; false where both have a kind and differ. */
bool pg_sums_merge(pg_sums *a, const pg_sums *b);
/* 0, or the bit of the first kind that both have and that differs. */
unsigned pg_sums_differ(const pg_sums *a, const pg_sums *b);
unsigned pg_sum_best(unsigned have); /* the bit of the one that says most; 0 of 0 */
void pg_sum_text(const pg_sums *s, unsigned bit, char out[72]); /* hex */

/* The CRC-32C of more bytes: start with 0. _table is the portable one; pg_crc32c takes the CPU's instruction where there is one. */
uint32_t pg_crc32c(uint32_t crc, const void *p, size_t n);
uint32_t pg_crc32c_table(uint32_t crc, const void *p, size_t n);

/* Several kinds at once. git needs the size beforehand. */
typedef struct pg_hash pg_hash;
int pg_hash_new(pg_hash **h, unsigned which, uint64_t size, pg_err *e) PG_MUST_CHECK;
int pg_hash_add(pg_hash *h, const void *p, size_t n, pg_err *e) PG_MUST_CHECK;
int pg_hash_end(pg_hash *h, pg_sums *out, pg_err *e) PG_MUST_CHECK;
void pg_hash_free(pg_hash *h);

/* Sums of a whole file. */
int pg_hash_file(const char *path, unsigned which, pg_sums *out, pg_err *e) PG_MUST_CHECK;
int pg_hash_bytes(const void *p, size_t n, unsigned which, pg_sums *out, pg_err *e) PG_MUST_CHECK;

#endif
