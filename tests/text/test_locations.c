/* Boxes in captions: what is one, what is not, and that any bytes are survived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "text/locations.h"

#define SEG4 "<seg000><seg001><seg126><seg127>"
#define BOX "<loc0256><loc0000><loc0512><loc1023>"

static void test_boxes(void **state)
{
    (void)state;
    static const struct {
        const char *caption, *labels; /* labels: each in brackets, with + where there are codes */
    } cases[] = {
        {BOX " cat", "[cat]"},
        {BOX " cat ; " BOX " black dog", "[cat][black dog]"},
        {BOX " cat;" BOX "dog ;", "[cat][dog]"},
        {BOX BOX, ""},
        {BOX SEG4 SEG4 SEG4 SEG4 " cat ; " BOX " dog", "[+cat][dog]"},
        {BOX SEG4 " cat", "[cat]"},
        {"two cats " BOX " cat", "[cat]"},
        {BOX, "[]"},
        {BOX " cat <loc0001> dog", "[cat]"},
        {"<loc0001><loc0002><loc0003> cat", ""},
        {"<loc0001><loc0002><loc0003><loc0004><loc0005> cat ; " BOX " dog", "[dog]"},
        {"<loc1024><loc0002><loc0003><loc0004> cat", ""},
        {"<loc0001><loc002><loc0003><loc0004> cat", ""},
        {"<loc0001> <loc0002><loc0003><loc0004> cat", ""},
        {"a cat", ""},
        {"", ""},
        {"<loc", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[200] = "";
        size_t at = 0, n = strlen(cases[i].caption), k = 0;
        pg_box b;
        while (pg_next_box(cases[i].caption, n, &at, &b))
            k += (size_t)snprintf(got + k, sizeof got - k, "[%s%.*s]", b.n_codes ? "+" : "", (int)b.n_label, b.label);
        if (strcmp(got, cases[i].labels) != 0) fail_msg("'%s': %s, not %s", cases[i].caption, got, cases[i].labels);
        assert_false(pg_next_box(cases[i].caption, n, &at, &b));
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const char caption[] = BOX SEG4 SEG4 SEG4 SEG4 " cat";
    size_t at = 0;
    pg_box b;
    assert_true(pg_next_box(caption, strlen(caption), &at, &b));
    assert_true(b.y0 == 0.25 && b.x0 == 0 && b.y1 == 0.5 && b.x1 == 1023.0 / 1024);
    assert_int_equal(b.n_codes, 16);
    assert_int_equal(b.codes[0], 0);
    assert_int_equal(b.codes[15], 127);
    assert_int_equal(b.codes[6], 126);
}

/* Cut at every byte, in memory of just that size: a sanitizer sees a read too far. */
static void test_cut(void **state)
{
    (void)state;
    static const char caption[] = BOX SEG4 SEG4 SEG4 SEG4 " cat ; " BOX " dog";
    pg_rng r;
    pg_rng_seed(&r, 1, 0);
    for (size_t n = 0; n < sizeof caption; n++) {
        char *s = malloc(n + 1);
        assert_non_null(s);
        for (size_t round = 0; round < 20; round++) {
            size_t at = 0, steps = 0;
            pg_box b;
            memcpy(s, caption, n);
            if (n && round) s[pg_rng_below(&r, n)] = (char)pg_rng_u64(&r);
            char *tight = malloc(n ? n : 1);
            assert_non_null(tight);
            memcpy(tight, s, n);
            while (pg_next_box(tight, n, &at, &b)) {
                assert_true(at <= n && b.label >= tight && b.label + b.n_label <= tight + n);
                assert_true(++steps <= n);
            }
            free(tight);
        }
        free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_boxes), cmocka_unit_test(test_numbers), cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
