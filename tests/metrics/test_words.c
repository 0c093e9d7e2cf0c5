/* The caption tokenizer against what the reference tool printed: tests/golden/metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/words.h"
#include "text/text.h"

#define GOLDEN "tests/golden/metrics/"

static pg_words *tokenizer;
static size_t failures;

static const char *words_in(const char *s, size_t n, pg_context context, const char *next)
{
    static pg_buf out;
    pg_err e = {0};
    out.len = 0;
    assert_int_equal(pg_words_make(tokenizer, s, n, context, next, next ? strlen(next) : 0, &out, &e), 0);
    assert_int_equal(pg_buf_add(&out, "", 1, &e), 0);
    return (const char *)out.data;
}

static const char *words(const char *s) { return words_in(s, strlen(s), PG_ALONE, NULL); }

static void expect(const char *text, const char *have, const char *want)
{
    if (!strcmp(have, want))
        return;
    if (failures++ < 20)
        print_error("'%s'\n    want '%s'\n    have '%s'\n", text, want, have);
}

static int begin(void **state)
{
    (void)state;
    failures = 0;
    return (tokenizer = pg_words_new()) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    pg_words_free(tokenizer);
    return 0;
}

/* Calls each(line number from 1, object) for a JSON lines file. */
static void lines(const char *path, void (*each)(json_t *o))
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    assert_non_null(f);
    while (getline(&line, &room, f) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        assert_non_null(o);
        each(o);
        json_decref(o);
    }
    free(line);
    fclose(f);
}

static void one_case(json_t *o)
{
    const char *text = json_string_value(json_object_get(o, "text"));
    expect(text, words(text), json_string_value(json_object_get(o, "words")));
}

static void test_cases(void **state)
{
    (void)state;
    lines(GOLDEN "tokenizer-cases.jsonl", one_case);
    assert_int_equal(failures, 0);
}

/* The captions of a set and their words, line by line; context's are told by their neighbours and tested with the corpus. */
static void test_sets(void **state)
{
    static const char *const names[] = {"main", "long", "length-penalty", "short", "empty-candidates", "same-references", "one-image", "two-images"};
    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[2][256], *line[2] = {NULL, NULL};
        size_t room[2] = {0, 0};
        snprintf(path[0], sizeof path[0], GOLDEN "%s.jsonl", names[k]);
        snprintf(path[1], sizeof path[1], GOLDEN "%s.tokens.jsonl", names[k]);
        FILE *f[2] = {fopen(path[0], "r"), fopen(path[1], "r")};
        assert_non_null(f[0]);
        assert_non_null(f[1]);
        while (getline(&line[0], &room[0], f[0]) > 0) {
            assert_true(getline(&line[1], &room[1], f[1]) > 0);
            json_t *raw = json_loads(line[0], 0, NULL), *want = json_loads(line[1], 0, NULL);
            const json_t *a = json_object_get(raw, "references"), *b = json_object_get(want, "references");
            const char *text = json_string_value(json_object_get(raw, "caption"));
            expect(text, words(text), json_string_value(json_object_get(want, "caption")));
            assert_int_equal(json_array_size(a), json_array_size(b));
            for (size_t i = 0; i < json_array_size(a); i++) {
                text = json_string_value(json_array_get(a, i));
                expect(text, words(text), json_string_value(json_array_get(b, i)));
            }
            json_decref(raw);
            json_decref(want);
        }
        for (int i = 0; i < 2; i++) {
            free(line[i]);
            fclose(f[i]);
        }
    }
    assert_int_equal(failures, 0);
}

/* ---- every character beyond ASCII ---- */
static size_t utf8(unsigned c, char *s)
{
    size_t n = c < 0x800 ? 2 : 3;
    s[0] = (char)(n == 2 ? 0xC0 | c >> 6 : 0xE0 | c >> 12);
    if (n == 3)
        s[1] = (char)(0x80 | (c >> 6 & 63));
    s[n - 1] = (char)(0x80 | (c & 63));
    s[n] = 0;
    return n;
}

static const char *dropped = " '' ' `` ` -- - ... ";

static bool is_dropped(const char *s)
{
    char padded[80];
    snprintf(padded, sizeof padded, " %s ", s);
    return strstr(dropped, padded) != NULL;
}

static void one_character(unsigned c, const char *class)
{
    char s[8], text[64], want[64];
    pg_buf low = {0};
    pg_err e;
    utf8(c, s);
    assert_int_equal(pg_text_lower(s, strlen(s), &low, &e), 0);
    assert_int_equal(pg_buf_add(&low, "", 1, &e), 0);
    const char *alone = (const char *)low.data;
    snprintf(text, sizeof text, "x %s%s y", s, s);
    if (!strcmp(class, "deleted") || !strcmp(class, "inner") || !strcmp(class, "inner-digits"))
        expect(text, words(text), "x y");
    else if (!strcmp(class, "word") || !strcmp(class, "mark")) {
        snprintf(text, sizeof text, "x %s y", s);
        snprintf(want, sizeof want, "x %s y", alone);
        expect(text, words(text), want);
    } else if (!strcmp(class, "symbol-run")) {
        snprintf(want, sizeof want, "x %s%s y", alone, alone);
        expect(text, words(text), want);
    } else if (!strcmp(class, "symbol")) {
        snprintf(want, sizeof want, "x %s %s y", alone, alone);
        expect(text, words(text), want);
    } else {
        assert_int_equal(strncmp(class, "special: ", 9), 0);
        snprintf(text, sizeof text, "x %s y", s);
        if (is_dropped(class + 9))
            snprintf(want, sizeof want, "x y");
        else
            snprintf(want, sizeof want, "x %s y", class + 9);
        expect(text, words(text), want);
    }
    snprintf(text, sizeof text, "cat%sdog", s);
    if (!strcmp(class, "deleted"))
        expect(text, words(text), "cat dog");
    if (!strcmp(class, "mark") || !strcmp(class, "word") || !strcmp(class, "inner")) {
        snprintf(want, sizeof want, "cat%sdog", alone);
        expect(text, words(text), want);
    }
    if (!strcmp(class, "inner-digits")) {
        snprintf(text, sizeof text, "5%s6", s);
        expect(text, words(text), text);
    }
    pg_buf_free(&low);
}

static void test_unicode(void **state)
{
    FILE *f = fopen(GOLDEN "unicode.tsv", "r");
    char line[256], class[64];
    unsigned first, last, seen = 0;
    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%x\t%x\t%63[^\n]", &first, &last, class) == 3)
            for (unsigned c = first; c <= last; c++, seen++)
                one_character(c, class);
    fclose(f);
    assert_true(seen > 60000);
    assert_int_equal(failures, 0);
}

static void test_abbreviations(void **state)
{
    FILE *f = fopen(GOLDEN "abbreviations.tsv", "r");
    char line[256], word[32], kind[3][32];
    size_t n = 0;
    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (*line == '#' || sscanf(line, "%31s %31s %31s %31s", word, kind[0], kind[1], kind[2]) != 4)
            continue;
        for (size_t k = 0; k < 3; k++) {
            char form[32], text[128], want[128];
            for (size_t i = 0; i <= strlen(word); i++)
                form[i] = (k == 2 || (k == 1 && i == 0)) && word[i] >= 'a' ? (char)(word[i] - 32) : word[i];
            bool always = !strcmp(kind[k], "title") || !strcmp(kind[k], "word"), number = !strcmp(kind[k], "number");
            snprintf(text, sizeof text, "see %s. dogs", form);
            snprintf(want, sizeof want, "see %s%s dogs", word, always ? "." : "");
            expect(text, words(text), want);
            snprintf(text, sizeof text, "see %s. 5", form);
            snprintf(want, sizeof want, "see %s%s 5", word, always || number ? "." : "");
            expect(text, words(text), want);
            snprintf(text, sizeof text, "see %s.  5", form);
            snprintf(want, sizeof want, "see %s%s 5", word, always ? "." : "");
            expect(text, words(text), want);
        }
        n++;
    }
    fclose(f);
    assert_true(n > 150);
    assert_int_equal(failures, 0);
}

/* Found by putting some two million made-up captions through the reference tool. */
static void test_more_cases(void **state)
{
    static const char *const cases[][2] = {
        {"Inc.a Inc.ab inc.", "inc. a inc.ab inc."},
        {"x. Mr. b, x. Mrs. b", "x mr. b x. mrs. b"},
        {"x. <b> x. </b>", "x <b> x </b>"},
        {"pro- and anti-war, co- and re-", "pro- and anti-war co and re"},
        {"'n. 'n x 'em. 'emx", "n. 'n x 'em 'em x"},
        {"'90 and '91. and '45s", "'90 and 91 and 45s"},
        {"2nd.png and 2nd.foo", "2nd.png and 2nd foo"},
        {"a\\*b **", "a \\* b **"},
        {"AT&amp;T a&amp;b", "at&t a & b"},
        {"555 123 4567 10 100 1000", "555\u00a0123\u00a04567 10\u00a0100\u00a01000"},
        {"nn't bn't a5n't don'ts", "nn t b n't a5n t do n'ts"},
        {"’em l’été O’Neil’s", "’em l’été o’neil 's"},
        {"‘’ “’ ’’", "`' ``'"},
        {"non-U.S. U.S.-U.K. a,b-c 1,000-seat", "non-u.s. u.s.-u.k. a,b-c 1,000-seat"},
        {"(^_^) :)5 :) a", "-lrb-^_^-rrb- -rrb- 5 :-rrb- a"},
        {"www.a-5.com/xy? http://a.b/{c}", "www.a-5.com/xy http://a.b/ -lcb- c -rcb-"},
        {"&QUOT; &quot; &LT; &#39; caf&eacute;s", "&quot; < &#39; caf&eacute;s"},
        {"1\\/2 and a\\/b", "1\\/2 and a\\/b"},
        {"ΑΣ ΑΣ-β ΑΣ-1", "ας ασ-β ας-1"},
        {"⁵₁ ₊₈ x_- &HT;", "⁵ ₁ ₊₈ x_- &ht;"},
        {"5@\u01a1\u00ad a\u00adb", "5@\u01a1\u00ad ab"},
        {"\xff" "cat\xc3", "cat"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i][0], words(cases[i][0]), cases[i][1]);
    assert_int_equal(failures, 0);
}

static void test_line_separators_are_blanks(void **state)
{
    static const char *const ends[] = {"\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029", "\t", " "};
    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char text[32];
        snprintf(text, sizeof text, "a cat%sa dog", ends[i]);
        expect(text, words(text), "a cat a dog");
    }
    expect("NUL", words_in("a\0b", 3, PG_ALONE, NULL), "a b");
    assert_int_equal(failures, 0);
}

static void test_the_next_caption(void **state)
{
    (void)state;
    expect("B. + A man", words_in("plan B.", 7, PG_FOLLOWED, "A man"), "plan b");
    expect("B. + Two men", words_in("plan B.", 7, PG_FOLLOWED, "Two men"), "plan b.");
    expect("B. alone", words("plan B."), "plan b.");
    expect("no. + 2", words_in("no.", 3, PG_FOLLOWED, "2 men"), "no.");
    expect("no. + two", words_in("no.", 3, PG_FOLLOWED, "two"), "no");
    expect(":) last", words_in(":)", 2, PG_LAST, NULL), "-rrb-");
    assert_int_equal(failures, 0);
}

/* Golden `context`: the captions are lines of one file, the references lines of another. */
typedef struct file {
    pg_buf lines, words; /* a line each */
} file;

static file captions, references;

static void add_line(pg_buf *b, const json_t *text)
{
    const char *s = json_string_value(text);
    assert_non_null(s);
    assert_int_equal(pg_buf_addf(b, NULL, "%s\n", s), 0);
}

static void add_raw(json_t *o)
{
    size_t i;
    json_t *r;
    add_line(&captions.lines, json_object_get(o, "caption"));
    json_array_foreach(json_object_get(o, "references"), i, r) add_line(&references.lines, r);
}

static void add_words(json_t *o)
{
    size_t i;
    json_t *r;
    add_line(&captions.words, json_object_get(o, "caption"));
    json_array_foreach(json_object_get(o, "references"), i, r) add_line(&references.words, r);
}

static void check_file(file *f)
{
    char *raw = (char *)f->lines.data, *want = (char *)f->words.data;
    while (*raw) {
        char *stop = strchr(raw, '\n'), *end_want = strchr(want, '\n');
        *end_want = 0;
        expect(raw, words_in(raw, (size_t)(stop - raw), stop[1] ? PG_FOLLOWED : PG_LAST, stop[1] ? stop + 1 : NULL), want);
        raw = stop + 1;
        want = end_want + 1;
    }
    pg_buf_free(&f->lines);
    pg_buf_free(&f->words);
}

static void test_context(void **state)
{
    (void)state;
    lines(GOLDEN "context.jsonl", add_raw);
    lines(GOLDEN "context.tokens.jsonl", add_words);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pg_buf_add(i ? &captions.lines : &references.lines, "", 1, NULL), 0);
    check_file(&captions);
    check_file(&references);
    assert_int_equal(failures, 0);
}

/* An address is looked for in as many characters as one may have, so that text without blanks is not read over and over. */
static void test_long_address(void **state)
{
    (void)state;
    char text[400];
    for (int local = 300; local <= 330; local += 30) {
        snprintf(text, sizeof text, "%0*d@b.org", local, 0);
        assert_int_equal(strcmp(words(text), text) == 0, local == 300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cases, begin, end),
        cmocka_unit_test_setup_teardown(test_sets, begin, end),
        cmocka_unit_test_setup_teardown(test_unicode, begin, end),
        cmocka_unit_test_setup_teardown(test_abbreviations, begin, end),
        cmocka_unit_test_setup_teardown(test_more_cases, begin, end),
        cmocka_unit_test_setup_teardown(test_line_separators_are_blanks, begin, end),
        cmocka_unit_test_setup_teardown(test_the_next_caption, begin, end),
        cmocka_unit_test_setup_teardown(test_context, begin, end),
        cmocka_unit_test_setup_teardown(test_long_address, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
