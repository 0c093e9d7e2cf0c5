/* Scores against pycocoevalcap's (tests/golden/metrics); intervals and differences against what is known of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "metrics/metrics.h"

#define GOLDEN "tests/golden/metrics/"
static const double TOLERANCE = 1e-9; /* argued in the README there: formulas agree to 3e-15 */

static pg_corpus *read_set(const char *name)
{
    char path[256], *line = NULL;
    size_t room = 0;
    pg_corpus *c;
    pg_err e = {0};
    snprintf(path, sizeof path, GOLDEN "%s.jsonl", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    /* All sets go through the corpus as the reference tool does it; only in `context` that changes something. */
    assert_int_equal(pg_corpus_new(&c, true, &e), 0);
    while (getline(&line, &room, f) > 0) {
        json_t *o = json_loads(line, 0, NULL), *refs = json_object_get(o, "references");
        const char *text = json_string_value(json_object_get(o, "caption")), *r[16];
        for (size_t i = 0; i < json_array_size(refs); i++)
            r[i] = json_string_value(json_array_get(refs, i));
        assert_int_equal(pg_corpus_add(c, text, strlen(text), r, json_array_size(refs), &e), 0);
        json_decref(o);
    }
    free(line);
    fclose(f);
    assert_int_equal(pg_corpus_score(c, &e), 0);
    return c;
}

static void check(const char *name, const char *who, const pg_scores *have, const json_t *want)
{
    static const char *const keys[] = {"CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L"};
    for (size_t m = 0; m < 6; m++) {
        double w = json_number_value(json_object_get(want, keys[m]));
        assert_non_null(json_object_get(want, keys[m]));
        if (!(fabs(w - have->v[m]) <= TOLERANCE))
            fail_msg("%s, %s: %s %.17g, wanted %.17g", name, who, keys[m], have->v[m], w);
    }
}

static void test_golden(void **state)
{
    static const char *const names[] = {"main",       "long",      "length-penalty", "short",  "empty-candidates", "same-references",
                                        "one-image", "two-images", "context"};
    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[256];
        snprintf(path, sizeof path, GOLDEN "%s.expected.json", names[k]);
        json_t *want = json_load_file(path, 0, NULL), *images = json_object_get(want, "images");
        pg_corpus *c = read_set(names[k]);
        pg_scores s = pg_corpus_total(c);
        assert_int_equal(pg_corpus_images(c), json_array_size(images));
        check(names[k], "corpus", &s, json_object_get(want, "corpus"));
        for (size_t i = 0; i < pg_corpus_images(c); i++) {
            char who[32];
            snprintf(who, sizeof who, "image %zu", i);
            s = pg_corpus_image(c, i);
            check(names[k], who, &s, json_array_get(images, i));
        }
        pg_corpus_free(c);
        json_decref(want);
    }
}

static void add(pg_corpus *c, const char *caption, const char *reference)
{
    pg_err e = {0};
    assert_int_equal(pg_corpus_add(c, caption, strlen(caption), &reference, 1, &e), 0);
}

static pg_corpus *empty(void)
{
    pg_corpus *c;
    assert_int_equal(pg_corpus_new(&c, false, NULL), 0);
    return c;
}

static void test_nothing(void **state)
{
    pg_err e = {0};
    pg_corpus *c = empty();
    (void)state;
    assert_int_equal(pg_corpus_add(c, "a", 1, NULL, 0, &e), PG_EINVAL);
    assert_int_equal(pg_corpus_score(c, &e), PG_EINVAL);
    pg_corpus_free(c);
}

static void test_facts(void **state)
{
    pg_corpus *c = empty();
    (void)state;
    add(c, "A dog.", "a dog");
    add(c, "a dog", "A DOG");
    add(c, "", "three words here");
    assert_int_equal(pg_corpus_score(c, NULL), 0);
    pg_caption_facts f = pg_corpus_facts(c);
    assert_int_equal(f.distinct, 2); /* as words */
    assert_int_equal(f.empty, 1);
    assert_int_equal(f.shortest, 0);
    assert_int_equal(f.longest, 2);
    assert_true(fabs(f.mean - 4.0 / 3) < 1e-12);
    assert_true(fabs(f.reference_mean - 7.0 / 3) < 1e-12);
    assert_false(f.same_references);
    /* Exact is about letters, not words: the stop counts, capitals do not. */
    assert_true(pg_corpus_image(c, 0).v[PG_EXACT] == 0);
    assert_true(pg_corpus_image(c, 1).v[PG_EXACT] == 1);
    pg_corpus_free(c);
}

/* n captions, a share of them equal to their reference. */
static pg_corpus *made_up(size_t n, double share, uint64_t seed)
{
    pg_corpus *c = empty();
    pg_rng rng;
    pg_rng_seed(&rng, seed, 0);
    for (size_t i = 0; i < n; i++) {
        char ref[64];
        snprintf(ref, sizeof ref, "thing%zu on place%zu", i % 37, i % 11);
        add(c, pg_rng_double(&rng) < share ? ref : "nothing at all", ref);
    }
    assert_int_equal(pg_corpus_score(c, NULL), 0);
    return c;
}

static void test_bootstrap(void **state)
{
    pg_interval in[PG_METRICS], again[PG_METRICS];
    pg_corpus *c = made_up(400, 0.5, 1);
    double p = pg_corpus_total(c).v[PG_EXACT], half = 1.96 * sqrt(p * (1 - p) / 400);
    (void)state;
    assert_int_equal(pg_bootstrap(c, 2000, 7, in, NULL), 0);
    assert_int_equal(pg_bootstrap(c, 2000, 7, again, NULL), 0);
    assert_memory_equal(in, again, sizeof in);
    for (size_t m = 0; m < PG_METRICS; m++)
        assert_true(in[m].low < pg_corpus_total(c).v[m] && pg_corpus_total(c).v[m] < in[m].high);
    /* A share's interval is known: 1.96 standard errors. 2,000 draws place its ends to about 5 % of the width (observed 2 %). */
    assert_true(fabs(in[PG_EXACT].low - (p - half)) < 0.2 * half);
    assert_true(fabs(in[PG_EXACT].high - (p + half)) < 0.2 * half);
    pg_corpus_free(c);
}

static void test_compare(void **state)
{
    pg_difference d[PG_METRICS];
    pg_corpus *a = made_up(400, 0.5, 1), *b = made_up(400, 0.5, 2), *better = made_up(400, 0.8, 3), *few = made_up(10, 0.5, 1);
    (void)state;
    /* A system against itself: no difference, and every swap is as good. */
    assert_int_equal(pg_compare(a, a, 500, 1, d, NULL), 0);
    for (size_t m = 0; m < PG_METRICS; m++)
        assert_true(d[m].difference == 0 && d[m].p == 1 && d[m].interval.low == 0 && d[m].interval.high == 0);
    assert_int_equal(pg_compare(a, better, 500, 1, d, NULL), 0);
    for (size_t m = 0; m < PG_METRICS; m++)
        assert_true(d[m].difference > 0 && d[m].interval.low > 0 && d[m].p < 0.005);
    assert_int_equal(pg_compare(better, a, 500, 1, d, NULL), 0);
    assert_true(d[PG_CIDER].difference < 0 && d[PG_CIDER].interval.high < 0 && d[PG_CIDER].p < 0.005);
    /* Two draws of the same kind: exact match's p follows from the sign test on the captions that differ. */
    assert_int_equal(pg_compare(a, b, 5000, 1, d, NULL), 0);
    double plus = 0, minus = 0;
    for (size_t i = 0; i < 400; i++) {
        double x = pg_corpus_image(b, i).v[PG_EXACT] - pg_corpus_image(a, i).v[PG_EXACT];
        plus += x > 0;
        minus += x < 0;
    }
    double z = (fabs(plus - minus) - 1) / sqrt(plus + minus), sign = erfc(fmax(z, 0) / sqrt(2));
    assert_true(fabs(d[PG_EXACT].p - sign) < 0.03); /* 5,000 swaps: standard error at most 0.007 */
    assert_int_equal(pg_compare(a, few, 500, 1, d, NULL), PG_EINVAL);
    pg_corpus_free(a);
    pg_corpus_free(b);
    pg_corpus_free(better);
    pg_corpus_free(few);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_nothing), cmocka_unit_test(test_facts),
        cmocka_unit_test(test_bootstrap), cmocka_unit_test(test_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
