/* Every case of tests/golden/text, exactly; and what a tokenizer must refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "text/text.h"
#include "text/written.h"

#define GOLDEN "tests/golden/text/"

static void check_ints(const char *id, const char *key, const json_t *expect, const int32_t *got, size_t n)
{
    json_t *list = json_object_get(expect, key);

    if (json_array_size(list) != n)
        fail_msg("%s: %zu %s, expected %zu", id, n, key, json_array_size(list));
    for (size_t i = 0; i < n; i++)
        if (json_integer_value(json_array_get(list, i)) != got[i])
            fail_msg("%s: %s[%zu] is %ld, expected %ld", id, key, i, (long)got[i],
                     (long)json_integer_value(json_array_get(list, i)));
}

static void check_prompt(const pg_tokenizer *t, const json_t *c, pg_prompt *p)
{
    const char *id = json_string_value(json_object_get(c, "id"));
    json_t *prefix = json_object_get(c, "prefix"), *suffix = json_object_get(c, "suffix");
    json_t *used = json_object_get(c, "suffix_used"), *expect = json_object_get(c, "expect");
    size_t length = (size_t)json_integer_value(json_object_get(c, "seqlen"));
    const char *s = json_string_value(suffix);
    size_t n = json_string_length(suffix);
    pg_buf low = {0};
    pg_err e;

    if (s && json_is_true(json_object_get(c, "lower"))) {
        assert_int_equal(pg_text_lower(s, n, &low, &e), PG_OK);
        s = low.data ? (const char *)low.data : "";
        n = low.len;
    }
    if (s && (n != json_string_length(used) || memcmp(s, json_string_value(used), n)))
        fail_msg("%s: lower-cased '%.*s', expected '%s'", id, (int)n, s, json_string_value(used));
    if (pg_prompt_make(t, json_string_value(prefix), json_string_length(prefix), s, n, length, p, &e) < 0)
        fail_msg("%s: %s", id, e.msg);
    check_ints(id, "tokens", expect, p->tokens, p->n);
    check_ints(id, "mask_ar", expect, p->mask_ar, p->n);
    check_ints(id, "mask_loss", expect, p->mask_loss, p->n);
    check_ints(id, "mask_input", expect, p->mask_input, p->n);
    if ((json_int_t)p->full_length != json_integer_value(json_object_get(expect, "full_length")))
        fail_msg("%s: full length %zu", id, p->full_length);
    if (p->truncated != json_is_true(json_object_get(expect, "truncated")))
        fail_msg("%s: truncated %d", id, p->truncated);
    if (p->eos_lost != json_is_true(json_object_get(expect, "eos_lost")))
        fail_msg("%s: eos lost %d", id, p->eos_lost);
    pg_buf_free(&low);
}

static void check_decode(const pg_tokenizer *t, const json_t *c)
{
    const char *id = json_string_value(json_object_get(c, "id"));
    json_t *tokens = json_object_get(c, "tokens"), *text = json_object_get(c, "text");
    size_t n = json_array_size(tokens);
    int32_t *ids = pg_alloc(n, sizeof *ids);
    pg_buf out = {0};
    pg_err e;

    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    if (pg_tokenizer_decode(t, ids, n, &out, &e) < 0)
        fail_msg("%s: %s", id, e.msg);
    if (out.len != json_string_length(text) || (out.len && memcmp(out.data, json_string_value(text), out.len)))
        fail_msg("%s: '%.*s', expected '%s'", id, (int)out.len, (const char *)out.data, json_string_value(text));
    pg_buf_free(&out);
    free(ids);
}

static void golden(const char *model, const char *cases, bool decode)
{
    FILE *f = fopen(cases, "r");
    pg_tokenizer *t;
    pg_prompt p = {0};
    pg_err e = {0};
    char *line = NULL;
    size_t cap = 0, n = 0;

    assert_non_null(f);
    if (pg_tokenizer_open(&t, model, &e) < 0)
        fail_msg("%s", e.msg);
    assert_null(pg_tokenizer_warning(t, 0));
    assert_string_equal(pg_tokenizer_path(t), model);
    while (getline(&line, &cap, f) > 0) {
        json_t *c = json_loads(line, JSON_ALLOW_NUL, NULL);

        assert_non_null(c);
        if (decode)
            check_decode(t, c);
        else
            check_prompt(t, c, &p);
        json_decref(c);
        n++;
    }
    assert_true(n > 20);
    free(line);
    fclose(f);
    pg_prompt_free(&p);
    pg_tokenizer_free(t);
}

static void prompts(void **state)
{
    (void)state;
    golden(GOLDEN "small-a.model", GOLDEN "small-a.jsonl", false);
    golden(GOLDEN "small-b.model", GOLDEN "small-b.jsonl", false);
}

static void decoding(void **state)
{
    (void)state;
    golden(GOLDEN "small-a.model", GOLDEN "small-a-decode.jsonl", true);
    golden(GOLDEN "small-b.model", GOLDEN "small-b-decode.jsonl", true);
}

/* Pairs of what Python's str.lower() gives. */
static void lower(void **state)
{
    static const char *const pairs[][2] = {
        {"", ""}, {"A Dog", "a dog"}, {"ΟΔΟΣ", "οδος"}, {"ΟΔΟΣ ΣΟΦΟΣ.", "οδος σοφος."}, {"Σ", "σ"},
        {"ΑΣ.Β", "ασ.β"}, {"ΑΣ\xCC\x81", "ας\xCC\x81"}, {"ΑΣ\xCC\x81Β", "ασ\xCC\x81β"}, {"İ", "i\xCC\x87"},
        {"ẞ", "ß"}, {"Ǆ", "ǆ"}, {"I", "i"}, {"ÀÉ", "àé"}, {"A\xCC\x80", "a\xCC\x80"}, {"𐐀", "𐐨"}, {"Ⅷ", "ⅷ"},
    };
    pg_buf b = {0};
    pg_err e;

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const char *want = pairs[i][1];

        b.len = 0;
        assert_int_equal(pg_text_lower(pairs[i][0], strlen(pairs[i][0]), &b, &e), PG_OK);
        if (b.len != strlen(want) || (b.len && memcmp(b.data, want, b.len)))
            fail_msg("'%s' became '%.*s'", pairs[i][0], (int)b.len, (const char *)b.data);
    }
    assert_int_equal(pg_text_lower("a\xff", 2, &b, &e), PG_EFORMAT);
    pg_buf_free(&b);
}

static void refusals(void **state)
{
    pg_tokenizer *t;
    int32_t *ids, far[] = {5, 620};
    size_t n;
    pg_buf out = {0};
    pg_err e;

    (void)state;
    assert_int_equal(pg_tokenizer_open(&t, "tests/golden/text/none.model", &e), PG_EIO);
    assert_non_null(strstr(e.msg, "none.model"));
    assert_int_equal(pg_tokenizer_open(&t, GOLDEN "small-a.jsonl", &e), PG_EFORMAT);
    assert_int_equal(pg_tokenizer_open(&t, "/dev/null", &e), PG_EFORMAT);
    assert_int_equal(pg_tokenizer_open(&t, GOLDEN, &e), PG_EINVAL);
    assert_non_null(strstr(e.msg, "2 other"));
    assert_null(t);

    assert_int_equal(pg_tokenizer_open(&t, GOLDEN "small-a.model", &e), PG_OK);
    assert_int_equal(pg_tokenizer_size(t), 620);
    assert_int_equal(pg_tokenizer_encode(t, "a\xc3", 2, &ids, &n, &e), PG_EFORMAT);
    assert_null(ids);
    assert_int_equal(pg_tokenizer_encode(t, NULL, 0, &ids, &n, &e), PG_OK);
    assert_int_equal(n, 0);
    free(ids);
    assert_int_equal(pg_tokenizer_decode(t, far, 2, &out, &e), PG_EINVAL);
    assert_non_null(strstr(e.msg, "620"));
    pg_buf_free(&out);
    pg_tokenizer_free(t);
}

/* A model cut or damaged anywhere is refused or read, never fatal. */
static void damaged(void **state)
{
    char path[] = "/tmp/pg-test-XXXXXX";
    int fd = mkstemp(path);
    pg_buf b = {0};
    pg_err e;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(pg_file_read(GOLDEN "small-a.model", 1 << 20, &b, &e), PG_OK);
    for (size_t cut = 0; cut < b.len; cut += 97) {
        pg_tokenizer *t;

        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, b.data, cut, 0), (ssize_t)cut);
        if (pg_tokenizer_open(&t, path, &e) == PG_OK)
            pg_tokenizer_free(t);
    }
    pg_buf_free(&b);
    close(fd);
    unlink(path);
}

static void folders(void **state)
{
    char dir[] = "/tmp/pg-test-XXXXXX", name[3][64], target[512];
    static const char *const names[] = {"other.model", "paligemma_tokenizer.model", "tokenizer.model"};
    pg_tokenizer *t;
    pg_err e;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pg_tokenizer_open(&t, dir, &e), PG_EINVAL);
    assert_non_null(getcwd(target, sizeof target - 64));
    strcat(target, "/" GOLDEN "small-a.model");
    for (size_t i = 0; i < 3; i++) {
        snprintf(name[i], sizeof name[i], "%s/%s", dir, names[i]);
        assert_int_equal(symlink(target, name[i]), 0);
        assert_int_equal(pg_tokenizer_open(&t, dir, &e), PG_OK);
        assert_string_equal(pg_tokenizer_path(t), name[i]);
        pg_tokenizer_free(t);
    }
    for (size_t i = 0; i < 3; i++)
        unlink(name[i]);
    rmdir(dir);
}

/* Which captions beside pictures a model wrote: by name and text, whatever the folder is called; a cut or foreign line counts for nobody. */
static void written(void **state)
{
    char dir[] = "/tmp/pg-test-XXXXXX", cat[64], dog[64], away[64], notes[64];
    pg_written w = {0};
    pg_err e;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(cat, sizeof cat, "%s/cat.txt", dir);
    snprintf(dog, sizeof dog, "%s/dog.txt", dir);
    snprintf(away, sizeof away, "%s/absent/cat.txt", dir);
    snprintf(notes, sizeof notes, "%s/" PG_WRITTEN_NAME, dir);
    assert_int_equal(pg_written_has(&w, cat, "a cat", 5, &e), 0); /* no notes yet; now it has looked */
    pg_written_free(&w);
    assert_int_equal(pg_written_note(cat, "a cat\n", 6, &e), PG_OK);
    assert_int_equal(pg_written_note(dog, "a dog", 5, &e), PG_OK);
    assert_int_equal(pg_written_has(&w, cat, "a cat", 5, &e), 1);
    assert_int_equal(pg_written_has(&w, dog, "a dog\r\n", 7, &e), 1);
    assert_int_equal(pg_written_has(&w, dog, "a cat", 5, &e), 0);
    assert_int_equal(pg_written_has(&w, cat, "a big cat", 9, &e), 0);
    assert_int_equal(pg_written_has(&w, away, "a cat", 5, &e), 0);
    pg_written_free(&w);
    assert_int_equal(pg_written_note(away, "a cat", 5, &e), PG_EIO);
    assert_non_null(strstr(e.msg, "cannot write"));
    assert_int_equal(truncate(notes, 17 + 10), 0); /* as a full disk leaves it */
    assert_int_equal(pg_written_has(&w, cat, "a cat", 5, &e), 1);
    assert_int_equal(pg_written_has(&w, dog, "a dog", 5, &e), 0);
    pg_written_free(&w);
    FILE *f = fopen(notes, "r+");
    assert_non_null(f);
    fseek(f, 16, SEEK_SET);
    fputs("x\n", f); /* the line is one of 17 characters now */
    fclose(f);
    assert_int_equal(pg_written_has(&w, cat, "a cat", 5, &e), 0);
    pg_written_free(&w);
    unlink(notes);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts),  cmocka_unit_test(decoding), cmocka_unit_test(lower),
        cmocka_unit_test(refusals), cmocka_unit_test(damaged),  cmocka_unit_test(folders),
        cmocka_unit_test(written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
