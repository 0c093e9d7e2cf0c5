/* Lists in names, beside what bash makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/braces.h"
#include "base/mem.h"

static void check(const char *text, const char *want)
{
    char **names = NULL;
    size_t n = 0;
    pg_err e = {0};
    pg_buf got = {0};
    if (pg_braces(text, &names, &n, &e)) fail_msg("'%s': %s", text, e.msg);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(pg_buf_addf(&got, &e, "%s%s", i ? " " : "", names[i]), 0);
        free(names[i]);
    }
    free(names);
    assert_int_equal(pg_buf_add(&got, "", 1, &e), 0);
    assert_string_equal(got.data, want);
    pg_buf_free(&got);
}

static void as_in_the_shell(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"a.tar", "a.tar"},
        {"s-{0..3}.tar", "s-0.tar s-1.tar s-2.tar s-3.tar"},
        {"s-{008..011}.tar", "s-008.tar s-009.tar s-010.tar s-011.tar"},
        {"{9..11}", "9 10 11"},
        {"{09..100..1}", "{09..100..1}"}, /* bash's steps are not known */
        {"{0..0}", "0"},
        {"{8..012}", "008 009 010 011 012"},
        {"{3..1}", "3 2 1"},
        {"{train,val}.jsonl", "train.jsonl val.jsonl"},
        {"{a,b}{1,2}", "a1 a2 b1 b2"},
        {"x{a,b{1,2},}y", "xay xb1y xb2y xy"},
        {"gs://b/{a,b}/s-{00..01}.tar", "gs://b/a/s-00.tar gs://b/a/s-01.tar gs://b/b/s-00.tar gs://b/b/s-01.tar"},
        {"", ""}, {"{}", "{}"}, {"{a}", "{a}"}, {"{a,b", "{a,b"}, {"a,b}", "a,b}"}, {"{{a,b}", "{a {b"}, {"{a,b}}", "a} b}"},
        {"{1..}", "{1..}"}, {"{..2}", "{..2}"}, {"{1..x}", "{1..x}"}, {"{-1..1}", "{-1..1}"}, {"{1..2,x}", "1..2 x"},
        {"{x}{a,b}", "{x}a {x}b"}, {"{1..9999999999}", "{1..9999999999}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check(rows[i][0], rows[i][1]);
}

static void too_many(void **state)
{
    (void)state;
    char **names = NULL, deep[65 * 6 + 1] = "";
    size_t n = 0;
    pg_err e = {0};
    assert_int_equal(pg_braces("{1..1000001}", &names, &n, &e), PG_ELIMIT);
    assert_non_null(strstr(e.msg, "1000000"));
    assert_int_equal(pg_braces("{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}", &names, &n, &e), PG_ELIMIT);
    for (size_t i = 0; i < 65; i++) memcpy(deep + 6 * i, "{1..1}", 6);
    assert_int_equal(pg_braces(deep, &names, &n, &e), PG_ELIMIT);
    assert_null(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_in_the_shell), cmocka_unit_test(too_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
