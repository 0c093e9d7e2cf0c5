#include "net/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

pg_sum_view pg_sum_at(pg_sums *s, size_t i)
{
    switch (i) {
    case 0: return (pg_sum_view){PG_SUM_MD5, "md5", s->md5, sizeof s->md5};
    case 1: return (pg_sum_view){PG_SUM_CRC32C, "crc32c", s->crc32c, sizeof s->crc32c};
    case 2: return (pg_sum_view){PG_SUM_SHA256, "sha256", s->sha256, sizeof s->sha256};
    default: return (pg_sum_view){PG_SUM_GIT, "git sha1", s->git, sizeof s->git};
    }
}

static pg_sum_view view_of(pg_sums *s, unsigned bit)
{
    size_t i = 0;
    while (i + 1 < PG_SUM_KINDS && pg_sum_at(s, i).bit != bit) i++;
    return pg_sum_at(s, i);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool pg_sum_hex(pg_sums *s, unsigned bit, const char *hex)
{
    pg_sum_view v = view_of(s, bit);
    unsigned char b[32];
    if (strlen(hex) != 2 * v.n) return false;
    for (size_t i = 0; i < v.n; i++) {
        int hi = hex_digit(hex[2 * i]), lo = hex_digit(hex[2 * i + 1]);
        if (hi < 0 || lo < 0) return false;
        b[i] = (unsigned char)(hi << 4 | lo);
    }
    memcpy(v.bytes, b, v.n);
    s->have |= bit;
    return true;
}

bool pg_sum_base64(pg_sums *s, unsigned bit, const char *base64, size_t n)
{
    pg_sum_view v = view_of(s, bit);
    unsigned char in[48], b[48];
    size_t pad = 0;
    /* EVP_DecodeBlock counts padding as bytes of 0. */
    while (pad < n && pad < 2 && base64[n - 1 - pad] == '=') pad++;
    if (n != 4 * ((v.n + 2) / 3) || n > sizeof in) return false;
    memcpy(in, base64, n);
    int got = EVP_DecodeBlock(b, in, (int)n);
    if (got < 0 || (size_t)got - pad != v.n) return false;
    memcpy(v.bytes, b, v.n);
    s->have |= bit;
    return true;
}

bool pg_sums_merge(pg_sums *a, const pg_sums *b)
{
    pg_sums other = *b;
    if (pg_sums_differ(a, b)) return false;
    for (size_t i = 0; i < PG_SUM_KINDS; i++) {
        pg_sum_view from = pg_sum_at(&other, i), to = pg_sum_at(a, i);
        if (other.have & from.bit) memcpy(to.bytes, from.bytes, to.n);
    }
    a->have |= b->have;
    return true;
}

unsigned pg_sums_differ(const pg_sums *a, const pg_sums *b)
{
    pg_sums x = *a, y = *b;
    for (size_t i = 0; i < PG_SUM_KINDS; i++) {
        pg_sum_view v = pg_sum_at(&x, i), w = pg_sum_at(&y, i);
        if (x.have & y.have & v.bit && memcmp(v.bytes, w.bytes, v.n)) return v.bit;
    }
    return 0;
}

unsigned pg_sum_best(unsigned have)
{
    static const unsigned order[] = {PG_SUM_SHA256, PG_SUM_GIT, PG_SUM_MD5, PG_SUM_CRC32C};
    for (size_t i = 0; i < PG_SUM_KINDS; i++)
        if (have & order[i]) return order[i];
    return 0;
}

void pg_sum_text(const pg_sums *s, unsigned bit, char out[72])
{
    pg_sums copy = *s;
    pg_sum_view v = view_of(&copy, bit);
    for (size_t i = 0; i < v.n; i++) snprintf(out + 2 * i, 3, "%02x", v.bytes[i]);
}

struct pg_hash {
    EVP_MD_CTX *ctx[PG_SUM_KINDS]; /* by pg_sum_at's index; none for crc32c */
    unsigned which;
    uint32_t crc;
};

int pg_hash_new(pg_hash **h, unsigned which, uint64_t size, pg_err *e)
{
    const EVP_MD *const md[PG_SUM_KINDS] = {EVP_md5(), NULL, EVP_sha256(), EVP_sha1()};
    pg_hash *n = pg_calloc(1, sizeof *n);
    if (!n) return pg_error_nomem(e);
    n->which = which;
    for (size_t i = 0; i < PG_SUM_KINDS; i++) {
        if (!md[i] || !(which & pg_sum_at(&(pg_sums){0}, i).bit)) continue;
        if (!(n->ctx[i] = EVP_MD_CTX_new()) || EVP_DigestInit_ex(n->ctx[i], md[i], NULL) != 1) {
            pg_hash_free(n);
            return pg_error(e, PG_FAIL, "libcrypto refuses the checksum '%s'", pg_sum_at(&(pg_sums){0}, i).name);
        }
    }
    if (which & PG_SUM_GIT) {
        char front[40];
        int len = snprintf(front, sizeof front, "blob %llu", (unsigned long long)size);
        if (EVP_DigestUpdate(n->ctx[3], front, (size_t)len + 1) != 1) {
            pg_hash_free(n);
            return pg_error(e, PG_FAIL, "libcrypto fails");
        }
    }
    *h = n;
    return PG_OK;
}

int pg_hash_add(pg_hash *h, const void *p, size_t n, pg_err *e)
{
    for (size_t i = 0; i < PG_SUM_KINDS; i++)
        if (h->ctx[i] && EVP_DigestUpdate(h->ctx[i], p, n) != 1) return pg_error(e, PG_FAIL, "libcrypto fails");
    if (h->which & PG_SUM_CRC32C) h->crc = pg_crc32c(h->crc, p, n);
    return PG_OK;
}

int pg_hash_end(pg_hash *h, pg_sums *out, pg_err *e)
{
    *out = (pg_sums){.have = h->which};
    for (size_t i = 0; i < PG_SUM_KINDS; i++)
        if (h->ctx[i] && EVP_DigestFinal_ex(h->ctx[i], pg_sum_at(out, i).bytes, NULL) != 1) return pg_error(e, PG_FAIL, "libcrypto fails");
    for (size_t i = 0; i < 4; i++) out->crc32c[i] = (unsigned char)(h->crc >> (24 - 8 * i));
    return PG_OK;
}

void pg_hash_free(pg_hash *h)
{
    for (size_t i = 0; h && i < PG_SUM_KINDS; i++) EVP_MD_CTX_free(h->ctx[i]);
    free(h);
}

int pg_hash_bytes(const void *p, size_t n, unsigned which, pg_sums *out, pg_err *e)
{
    pg_hash *h = NULL;
    int rc = pg_hash_new(&h, which, n, e);
    if (!rc) rc = pg_hash_add(h, p, n, e);
    if (!rc) rc = pg_hash_end(h, out, e);
    pg_hash_free(h);
    return rc;
}

int pg_hash_file(const char *path, unsigned which, pg_sums *out, pg_err *e)
{
    enum { CHUNK = 1 << 18 };
    pg_hash *h = NULL;
    int rc = PG_OK, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return pg_error_errno(e, "cannot open '%s'", path);
    off_t size = lseek(fd, 0, SEEK_END);
    unsigned char *buf = pg_alloc(CHUNK, 1);
    if (!buf) rc = pg_error_nomem(e);
    else if (size < 0 || lseek(fd, 0, SEEK_SET) < 0) rc = pg_error_errno(e, "cannot read '%s'", path);
    else rc = pg_hash_new(&h, which, (uint64_t)size, e);
    while (!rc) {
        ssize_t n = pg_read_full(fd, buf, CHUNK);
        if (n < 0) rc = pg_error_errno(e, "cannot read '%s'", path);
        else if (n == 0) break;
        else rc = pg_hash_add(h, buf, (size_t)n, e);
    }
    if (!rc) rc = pg_hash_end(h, out, e);
    pg_hash_free(h);
    free(buf);
    close(fd);
    return rc;
}
