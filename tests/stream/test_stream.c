/* The scanner, records, reader and writer, on bytes written here. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "stream/record.h"
#include "stream/scan.h"
#include "stream/stream.h"

#define HEADER "\x81\xa9pg-stream\x92\x01\x00"
#define END(n) "\x81\xa6pg-end" n
#define BYTES(s) (const unsigned char *)(s), sizeof(s) - 1

static int scan(const unsigned char *p, size_t n, size_t max, size_t *len)
{
    pg_scan s = {0};
    pg_err e = {0};
    int rc = pg_scan_object(&s, p, n, max, &e);
    if (rc < 0) assert_true(e.msg[0] != 0);
    *len = s.pos;
    return rc;
}

static void scan_knows_every_length(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        size_t head_len, body;
    } all[] = {
        {"\x00", 1, 0}, {"\x7f", 1, 0}, {"\xff", 1, 0}, {"\xc0", 1, 0}, {"\xc2", 1, 0}, {"\xc3", 1, 0}, {"\xca", 1, 4}, {"\xcb", 1, 8},
        {"\xcc", 1, 1}, {"\xcd", 1, 2}, {"\xce", 1, 4}, {"\xcf", 1, 8}, {"\xd0", 1, 1}, {"\xd1", 1, 2}, {"\xd2", 1, 4}, {"\xd3", 1, 8},
        {"\xa0", 1, 0}, {"\xbf", 1, 31}, {"\xd9\x20", 2, 32}, {"\xda\x01\x00", 3, 256}, {"\xdb\x00\x00\x01\x00", 5, 256},
        {"\xc4\x05", 2, 5}, {"\xc5\x00\x05", 3, 5}, {"\xc6\x00\x00\x00\x05", 5, 5}, {"\xd4", 1, 2}, {"\xd5", 1, 3}, {"\xd6", 1, 5},
        {"\xd7", 1, 9}, {"\xd8", 1, 17}, {"\xc7\x03", 2, 4}, {"\xc8\x00\x03", 3, 4}, {"\xc9\x00\x00\x00\x03", 5, 4},
        {"\x90", 1, 0}, {"\x93", 1, 3}, {"\xdc\x00\x03", 3, 3}, {"\xdd\x00\x00\x00\x03", 5, 3},
        {"\x80", 1, 0}, {"\x82", 1, 4}, {"\xde\x00\x02", 3, 4}, {"\xdf\x00\x00\x00\x02", 5, 4},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        unsigned char b[300] = {0};
        size_t whole = all[i].head_len + all[i].body, len;
        memcpy(b, all[i].head, all[i].head_len);
        assert_int_equal(scan(b, whole + 7, sizeof b, &len), PG_SCAN_DONE);
        assert_int_equal(len, whole);
        for (size_t n = 0; n < whole; n++) assert_int_equal(scan(b, n, sizeof b, &len), PG_SCAN_MORE);
        assert_true(scan(b, whole, whole - 1, &len) < 0); /* larger than allowed */
        pg_scan s = {0};                                  /* byte by byte, going on where it was */
        for (size_t n = 1; n < whole; n++) assert_int_equal(pg_scan_object(&s, b, n, sizeof b, NULL), PG_SCAN_MORE);
        assert_int_equal(pg_scan_object(&s, b, whole, sizeof b, NULL), PG_SCAN_DONE);
    }
}

static void scan_refuses(void **state)
{
    (void)state;
    size_t len;
    unsigned char deep[64];
    memset(deep, 0x91, sizeof deep);
    deep[PG_SCAN_DEPTH] = 0;
    assert_int_equal(scan(deep, PG_SCAN_DEPTH + 1, 1000, &len), PG_SCAN_DONE);
    deep[PG_SCAN_DEPTH] = 0x91;
    deep[PG_SCAN_DEPTH + 1] = 0;
    assert_true(scan(deep, PG_SCAN_DEPTH + 2, 1000, &len) < 0);
    assert_true(scan(BYTES("\xc1"), 1000, &len) < 0);
    assert_true(scan(BYTES("\x92\x01\xc1"), 1000, &len) < 0);
    /* Claims are refused before their bytes come. */
    assert_true(scan(BYTES("\xc6\xff\xff\xff\xff"), PG_RECORD_MAX, &len) < 0);
    assert_true(scan(BYTES("\xdf\xff\xff\xff\xff"), PG_RECORD_MAX, &len) < 0);
    assert_true(scan(BYTES("\xdd\x50\x00\x00\x00"), PG_RECORD_MAX, &len) < 0);
}

static int parse(const unsigned char *p, size_t n)
{
    pg_rec *r = pg_rec_new();
    pg_err e = {0};
    assert_non_null(r);
    int rc = pg_rec_parse(r, p, n, &e);
    pg_rec_free(r);
    return rc;
}

static void records_are_maps_of_distinct_strings(void **state)
{
    (void)state;
    assert_int_equal(parse(BYTES("\x80")), PG_OK);
    assert_int_equal(parse(BYTES("\x82\xa1" "a\x01\xa1" "b\x02")), PG_OK);
    assert_int_equal(parse(BYTES("\x82\xa1" "a\x01\xa1" "a\x02")), PG_EFORMAT);
    assert_int_equal(parse(BYTES("\x82\xa1" "a\x01\xd9\x01" "a\x02")), PG_EFORMAT); /* twice, in another width */
    assert_int_equal(parse(BYTES("\x81\x01\x01")), PG_EFORMAT);
    assert_int_equal(parse(BYTES("\x81\xc4\x01" "a\x01")), PG_EFORMAT);
    assert_int_equal(parse(BYTES("\x81\xa2" "a\0\x01")), PG_EFORMAT);
    assert_int_equal(parse(BYTES("\x81\xa2" "\xff\xfe\x01")), PG_EFORMAT); /* no UTF-8 */
    assert_int_equal(parse(BYTES("\x81\xa2" "\xc3\xa9\x01")), PG_OK);
    assert_int_equal(parse(BYTES("\x91\x01")), PG_EFORMAT);
}

/* What other programs write as id: an integer counts as its digits, a value of another kind as none. */
static void ids(void **state)
{
    (void)state;
    static const struct {
        const unsigned char *bytes;
        size_t n;
        const char *id;
    } of[] = {{BYTES("\x81\xa2" "id\xa2" "ab"), "ab"},
              {BYTES("\x81\xa2" "id\xc4\x01" "\xff"), "\xff"},
              {BYTES("\x81\xa2" "id\x07"), "7"},
              {BYTES("\x81\xa2" "id\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808"},
              {BYTES("\x81\xa2" "id\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), NULL},
              {BYTES("\x81\xa2" "id\xca\x3f\x80\x00\x00"), NULL},
              {BYTES("\x81\xa2" "id\xc0"), NULL},
              {BYTES("\x81\xa2" "id\x90"), NULL},
              {BYTES("\x80"), NULL}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        pg_err e = {0};
        pg_rec *r = pg_rec_new();
        char digits[PG_ID_DIGITS];
        const char *s = NULL;
        size_t n = 0;
        assert_int_equal(pg_rec_parse(r, of[i].bytes, of[i].n, &e), PG_OK);
        assert_int_equal(pg_rec_id(r, digits, &s, &n), of[i].id != NULL);
        if (of[i].id) {
            assert_int_equal(n, strlen(of[i].id));
            assert_memory_equal(s, of[i].id, n);
        }
        pg_rec_free(r);
    }
}

static void values_keep_their_place(void **state)
{
    (void)state;
    pg_err e = {0};
    pg_rec *r = pg_rec_new();
    int64_t v;
    double d;
    const char *s;
    int32_t *ints;
    size_t n, len;
    assert_int_equal(pg_rec_parse(r, BYTES("\x84\xa1" "a\xcd\x00\x05\xa1" "b\xa2hi\xa1" "c\xc0\xa1" "d\x92\x01\xff"), &e), PG_OK);
    assert_int_equal(pg_rec_int(r, "a", &v, &e), 1);
    assert_int_equal(v, 5);
    assert_int_equal(pg_rec_double(r, "a", &d, &e), 1);
    assert_true(d == 5);
    assert_int_equal(pg_rec_int(r, "c", &v, &e), 0);
    assert_int_equal(pg_rec_int(r, "none", &v, &e), 0);
    assert_int_equal(pg_rec_int(r, "b", &v, &e), PG_EFORMAT);
    assert_non_null(strstr(e.msg, "'b'"));
    assert_non_null(strstr(e.msg, "a string"));
    assert_int_equal(pg_rec_ints(r, "d", &ints, &n, &e), 1);
    assert_int_equal(n, 2);
    assert_int_equal(ints[1], -1);
    free(ints);
    assert_int_equal(pg_rec_set_str(r, "a", "longer than it was", 18, &e), PG_OK);
    assert_int_equal(pg_rec_set_int(r, "b", 1, &e), PG_OK);
    assert_string_equal(pg_rec_key(r, 0), "a");
    assert_string_equal(pg_rec_key(r, 1), "b");
    assert_int_equal(pg_rec_str(r, "a", &s, &n, &e), 1);
    assert_memory_equal(s, "longer than it was", 18);
    assert_memory_equal(pg_rec_raw(r, 3, &len), "\x92\x01\xff", 3);
    pg_rec_del(r, "b");
    assert_int_equal(pg_rec_count(r), 3);
    assert_string_equal(pg_rec_key(r, 1), "c");
    pg_rec_free(r);
}

static void ints_outside_32_bits_are_refused(void **state)
{
    (void)state;
    pg_err e = {0};
    pg_rec *r = pg_rec_new();
    int32_t *v;
    size_t n;
    assert_int_equal(pg_rec_parse(r, BYTES("\x82\xa1" "a\x91\xce\x80\x00\x00\x00\xa1" "b\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), &e), PG_OK);
    assert_int_equal(pg_rec_ints(r, "a", &v, &n, &e), PG_EFORMAT);
    assert_null(v);
    assert_int_equal(pg_rec_ints(r, "b", &v, &n, &e), PG_EFORMAT);
    pg_rec_free(r);
}

static void tensors(void **state)
{
    (void)state;
    static const unsigned char data[24] = {1, 2, 3};
    pg_err e = {0};
    pg_rec *r = pg_rec_new();
    pg_tensor t = {.type = "<f4", .ndim = 2, .shape = {2, 3}, .data = data, .bytes = 24}, got;
    assert_int_equal(pg_rec_set_tensor(r, "t", &t, &e), PG_OK);
    assert_int_equal(pg_rec_tensor(r, "t", &got, &e), 1);
    assert_string_equal(got.type, "<f4");
    assert_int_equal(got.ndim, 2);
    assert_int_equal(got.shape[1], 3);
    assert_memory_equal(got.data, data, 24);
    t.shape[0] = 3; /* bytes and shape disagree */
    assert_int_equal(pg_rec_set_tensor(r, "t", &t, &e), PG_OK);
    assert_int_equal(pg_rec_tensor(r, "t", &got, &e), PG_EFORMAT);
    t.shape[0] = 2;
    strcpy(t.type, ">f4");
    assert_int_equal(pg_rec_set_tensor(r, "t", &t, &e), PG_OK);
    assert_int_equal(pg_rec_tensor(r, "t", &got, &e), PG_EFORMAT);
    strcpy(t.type, "<\"4"); /* no JSON may come of it */
    assert_int_equal(pg_rec_set_tensor(r, "t", &t, &e), PG_OK);
    assert_int_equal(pg_rec_tensor(r, "t", &got, &e), PG_EFORMAT);
    pg_rec_free(r);
}

static void messages_become_utf8(void **state)
{
    (void)state;
    pg_err e = {0};
    pg_rec *r = pg_rec_new();
    assert_int_equal(pg_rec_set_error(r, "pg-x", "caf\xe9 \xc3\xa9 \xc3", &e), PG_OK);
    char *s = pg_rec_error(r);
    assert_string_equal(s, "pg-x: caf\xef\xbf\xbd \xc3\xa9 \xef\xbf\xbd");
    free(s);
    assert_true(pg_rec_has_error(r));
    assert_true(pg_utf8_valid("a\xf0\x9f\x98\x80", 5));
    assert_false(pg_utf8_valid("\xed\xa0\x80", 3)); /* a surrogate */
    assert_false(pg_utf8_valid("\xc0\x80", 2));     /* too long for what it says */
    pg_rec_free(r);
}

/* Reads the bytes as a stream: records counted, or < 0. */
static int read_all(const void *p, size_t n, size_t max, pg_err *e)
{
    int fd[2], rc, count = 0;
    pg_reader *rd;
    pg_rec *r = pg_rec_new();
    assert_int_equal(pipe(fd), 0);
    assert_true(write(fd[1], p, n) == (ssize_t)n);
    close(fd[1]);
    assert_int_equal(pg_reader_new(&rd, fd[0], "test", e), PG_OK);
    if (max) pg_reader_limit(rd, max);
    rc = pg_reader_header(rd, r, e);
    while (rc >= 0 && (rc = pg_reader_next(rd, r, e)) == 1) count++;
    if (rc == 0) assert_int_equal(pg_reader_offset(rd), n);
    pg_reader_free(rd);
    pg_rec_free(r);
    close(fd[0]);
    return rc < 0 ? rc : count;
}

static void reader_knows_the_end(void **state)
{
    (void)state;
    static const char good[] = HEADER "\x80\x81\xa1" "a\x01" END("\x02");
    pg_err e = {0};
    assert_int_equal(read_all(good, sizeof good - 1, 0, &e), 2);
    for (size_t n = 0; n < sizeof good - 1; n++) assert_true(read_all(good, n, 0, &e) < 0);
    assert_int_equal(read_all(good, sizeof good - 1, 14, &e), 2);
    assert_true(read_all(good, sizeof good - 1, 8, &e) < 0);
}

static void reader_refuses(void **state)
{
    (void)state;
    pg_err e = {0};
#define REFUSED(bytes, word)                                                \
    do {                                                                    \
        assert_true(read_all(bytes, sizeof(bytes) - 1, 0, &e) < 0);         \
        if (!strstr(e.msg, word)) fail_msg("no '%s' in: %s", word, e.msg); \
    } while (0)
    REFUSED(HEADER "\x80" END("\x02"), "counts 2");
    REFUSED(HEADER "\x80" END("\x00"), "counts 0");
    REFUSED(HEADER END("\xff"), "counts -1");
    REFUSED(HEADER END("\xa1x"), "pg-end");
    REFUSED(HEADER END("\x00") "\x80", "after the end");
    REFUSED(HEADER "\x82\xa1" "a\x01\xa4pg-x\x01" END("\x01"), "reserved");
    REFUSED(HEADER "\x82\xa1" "a\x01\xa6pg-end\x00", "reserved");
    REFUSED(HEADER HEADER END("\x01"), "reserved");
    REFUSED(HEADER "\x82\xa1" "a\x01\xa1" "a\x01" END("\x01"), "twice");
    REFUSED(HEADER "\x01" END("\x01"), "not a map");
    REFUSED("\x81\xa9pg-stream\x92\x02\x05" END("\x00"), "2.5");
    REFUSED("\x81\xa9pg-stream\x01" END("\x00"), "bad stream 'test', header: 'pg-stream' is ");
    REFUSED("\x83\xa9pg-stream\x92\x01\x00\xa1" "a\x01\xa1" "a\x01" END("\x00"), "bad stream 'test', header: the key 'a' twice");
    REFUSED("\x81\xa1" "a\x01", "header");
    REFUSED("", "empty");
}

static void too_many_keys(void **state)
{
    (void)state;
    enum { N = 65537 };
    unsigned char *b = malloc(5 + N * 7), *p = b;
    assert_non_null(b);
    memcpy(p, "\xdf\x00\x01\x00\x01", 5), p += 5;
    for (unsigned i = 0; i < N; i++) {
        *p++ = 0xa5;
        for (int k = 4; k >= 0; k--) *p++ = (unsigned char)('a' + (i >> (4 * k) & 15));
        *p++ = 0;
    }
    assert_int_equal(parse(b, (size_t)(p - b)), PG_ELIMIT);
    b[4] = 0; /* one fewer: the most that there may be */
    assert_int_equal(parse(b, (size_t)(p - b) - 7), PG_OK);
    memcpy(b + 5 + (size_t)7 * 65535, b + 5, 6); /* the last key is the first one */
    assert_int_equal(parse(b, (size_t)(p - b) - 7), PG_EFORMAT);
    free(b);
}

/* A reader that would wait gives up where nobody reads what is written; with input there, or a reader, it goes on. */
static void nobody_reads_the_output(void **state)
{
    (void)state;
    int in[2], out[2];
    pg_reader *rd = NULL;
    pg_writer *w = NULL;
    pg_rec *r = pg_rec_new();
    pg_err e = {0};
    assert_false(pipe(in) || pipe(out));
    assert_false(pg_reader_new(&rd, in[0], "in", &e) || pg_writer_new(&w, out[1], "out", &e));
    pg_reader_tie(rd, w);
    assert_int_equal(write(in[1], HEADER "\x80", sizeof HEADER), (ssize_t)sizeof HEADER);
    close(out[0]);
    assert_int_equal(pg_reader_header(rd, r, &e), 1);
    assert_int_equal(pg_reader_next(rd, r, &e), 1);
    errno = 0;
    assert_int_equal(pg_reader_next(rd, r, &e), PG_EIO);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(write(in[1], "\x80", 1), 1); /* input first: it may be the last record */
    assert_int_equal(pg_reader_next(rd, r, &e), 1);
    pg_reader_free(rd);
    pg_writer_free(w);
    pg_rec_free(r);
    close(in[0]);
    close(in[1]);
    close(out[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_knows_every_length), cmocka_unit_test(scan_refuses),
        cmocka_unit_test(records_are_maps_of_distinct_strings), cmocka_unit_test(ids),
        cmocka_unit_test(values_keep_their_place),
        cmocka_unit_test(ints_outside_32_bits_are_refused), cmocka_unit_test(tensors), cmocka_unit_test(messages_become_utf8),
        cmocka_unit_test(reader_knows_the_end), cmocka_unit_test(reader_refuses), cmocka_unit_test(too_many_keys),
        cmocka_unit_test(nobody_reads_the_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
