/* Numbers as people type them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/num.h"

static void sizes_in_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } good[] = {{"0", 0}, {"1", 1}, {"500", 500}, {"1K", 1024}, {"20M", 20971520}, {"3G", (size_t)3 << 30}, {"4294967295G", (size_t)4294967295 << 30}};
    static const char *const bad[] = {"", "K", "M20", "20m", "20MB", "20 M", "-1", "1.5M", "0x10", " 1", "1e3", "17179869184G",
                                      "99999999999999999999999999"};
    size_t v;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(pg_parse_bytes(good[i].text, &v));
        assert_int_equal(v, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (pg_parse_bytes(bad[i], &v)) fail_msg("'%s' taken for %zu", bad[i], v);
    assert_false(pg_parse_bytes(NULL, &v));
}

/* The examples of RFC 4648. */
static void base64(void **state)
{
    static const char *const want[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    static const unsigned char high[] = {0xfb, 0xff, 0xbf};
    pg_err e;
    (void)state;
    for (size_t n = 0; n < sizeof want / sizeof *want; n++) {
        pg_buf b = {0};
        assert_int_equal(pg_buf_add(&b, "=", 1, &e), PG_OK); /* it is appended */
        assert_int_equal(pg_buf_add_base64(&b, "foobar", n, &e), PG_OK);
        assert_int_equal(b.len, 1 + strlen(want[n]));
        if (n) assert_memory_equal(b.data + 1, want[n], b.len - 1);
        pg_buf_free(&b);
    }
    pg_buf b = {0};
    assert_int_equal(pg_buf_add_base64(&b, high, sizeof high, &e), PG_OK);
    assert_memory_equal(b.data, "+/+/", 4);
    pg_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_in_bytes), cmocka_unit_test(base64)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
