/* Captions and references as numbers, and the scores of all of them. */
#include <stdlib.h>
#include <string.h>

#include "metrics/internal.h"
#include "metrics/words.h"
#include "text/text.h"

const char *pg_metric_name(size_t m)
{
    static const char *const names[PG_METRICS] = {"CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "exact"};
    return m < PG_METRICS ? names[m] : NULL;
}

int pg_corpus_new(pg_corpus **c, bool context, pg_err *e)
{
    *c = pg_calloc(1, sizeof **c);
    if (!*c || !((*c)->tokenizer = pg_words_new())) {
        free(*c);
        *c = NULL;
        return pg_error_nomem(e);
    }
    (*c)->context = context;
    return PG_OK;
}

void pg_corpus_free(pg_corpus *c)
{
    if (!c)
        return;
    pg_words_free(c->tokenizer);
    pg_buf_free(&c->text);
    pg_buf_free(&c->low);
    pg_vocabulary_free(&c->vocabulary);
    pg_ids_free(&c->ids);
    free(c->numbers);
    free(c->grams);
    free(c->captions.s);
    free(c->references.s);
    pg_buf_free(&c->captions.lines);
    pg_buf_free(&c->references.lines);
    free(c->images);
    free(c);
}

/* Room for `more` elements beyond n in an array that grows by half. */
static int reserve(void **p, size_t *cap, size_t n, size_t more, size_t size, pg_err *e)
{
    size_t need, want;
    if (!pg_add(n, more, &need))
        return pg_error_nomem(e);
    if (need <= *cap)
        return PG_OK;
    want = *cap + *cap / 2 > need ? *cap + *cap / 2 : need + 64;
    void *q = pg_realloc(*p, want, size);
    if (!q)
        return pg_error_nomem(e);
    *p = q;
    *cap = want;
    return PG_OK;
}

/* ---- one sentence ---- */
static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The n-grams of numbers[from..from+length): an n-gram's number follows from that of its first n-1 words and the last word. */
static int count_grams(pg_corpus *c, pg_sentence *s, size_t from, pg_err *e)
{
    uint32_t before[512], *prefix = s->length <= 512 ? before : pg_alloc(s->length, sizeof *prefix), *ids = pg_alloc(s->length, sizeof *ids);
    int rc = prefix && ids ? reserve((void **)&c->grams, &c->cap_grams, c->n_grams, s->length * PG_GRAMS, sizeof *c->grams, e) : pg_error_nomem(e);
    s->grams = c->n_grams;
    for (size_t n = 1; !rc && n <= PG_GRAMS; n++) {
        size_t many = s->length >= n ? s->length - n + 1 : 0;
        s->start[n - 1] = c->n_grams;
        for (size_t i = 0; !rc && i < many; i++) {
            uint64_t first = n == 1 ? UINT32_MAX : prefix[i];
            rc = pg_ids_get(&c->ids, first << 32 | c->numbers[from + i + n - 1], &prefix[i], e);
            ids[i] = prefix[i];
        }
        if (many > 1)
            qsort(ids, many, sizeof *ids, by_id);
        for (size_t i = 0; !rc && i < many; i++)
            if (i && ids[i] == ids[i - 1])
                c->grams[c->n_grams - 1].count++;
            else
                c->grams[c->n_grams++] = (pg_gram){ids[i], 1};
    }
    s->start[PG_GRAMS] = c->n_grams;
    if (prefix != before)
        free(prefix);
    free(ids);
    return rc;
}

/* Bytes of the white space at s as Python's str.split() sees it, of what a token may hold; 0 where there is none. */
static size_t white(const unsigned char *s, size_t n)
{
    if (n && *s == ' ')
        return 1;
    if (n > 1 && s[0] == 0xC2 && (s[1] == 0xA0 || s[1] == 0x85))
        return 2;
    if (n > 2 && ((s[0] == 0xE2 && s[1] == 0x80 && (s[2] <= 0x8A || s[2] == 0xA8 || s[2] == 0xA9 || s[2] == 0xAF)) ||
                  (s[0] == 0xE2 && s[1] == 0x81 && s[2] == 0x9F) || (s[0] == 0xE3 && s[1] == 0x80 && s[2] == 0x80) ||
                  (s[0] == 0xE1 && s[1] == 0x9A && s[2] == 0x80)))
        return 3;
    return 0;
}

static int add_word(pg_corpus *c, const char *s, size_t n, pg_err *e)
{
    int rc = reserve((void **)&c->numbers, &c->cap_numbers, c->n_numbers, 1, sizeof *c->numbers, e);
    return rc ? rc : pg_vocabulary_get(&c->vocabulary, s, n, &c->numbers[c->n_numbers++], e);
}

/* c->text holds the words. */
static int add_sentence(pg_corpus *c, pg_sentences *list, pg_err *e)
{
    const char *p = (const char *)c->text.data;
    size_t n = c->text.len, at = 0, from;
    pg_sentence s = {.words = c->n_numbers};
    int rc = reserve((void **)&list->s, &list->cap, list->n, 1, sizeof *list->s, e);
    bool odd = false;
    for (size_t i = 0; !rc && i <= n; i++)
        if (i == n || p[i] == ' ') {
            rc = add_word(c, n ? p + at : "", i - at, e);
            at = i + 1;
        } else
            odd |= white((const unsigned char *)p + i, n - i) > 0;
    s.n_words = c->n_numbers - s.words;
    from = s.words;
    s.length = n ? s.n_words : 0;
    if (odd) {
        from = c->n_numbers;
        at = 0;
        for (size_t i = 0; !rc && i <= n;) {
            size_t w = i < n ? white((const unsigned char *)p + i, n - i) : 1;
            if (w && i > at)
                rc = add_word(c, p + at, i - at, e);
            i += w ? w : 1;
            at = w ? i : at;
        }
        s.length = c->n_numbers - from;
    }
    if (!rc)
        rc = count_grams(c, &s, from, e);
    if (!rc)
        list->s[list->n++] = s;
    return rc;
}

static int tokenise(pg_corpus *c, pg_sentences *list, const char *s, size_t n, pg_context context, const char *next, size_t n_next, pg_err *e)
{
    c->text.len = 0;
    int rc = pg_words_make(c->tokenizer, s, n, context, next, n_next, &c->text, e);
    return rc ? rc : add_sentence(c, list, e);
}

/* With context all texts wait, a line each, until the last is known: behind empty lines the next word can matter, too. */
static int put(pg_corpus *c, pg_sentences *list, const char *s, size_t n, pg_err *e)
{
    if (!c->context)
        return tokenise(c, list, s, n, PG_ALONE, NULL, 0, e);
    size_t from = list->lines.len;
    int rc = pg_buf_add(&list->lines, s, n, e);
    for (size_t i = from; !rc && i < list->lines.len; i++)
        if (list->lines.data[i] == '\n')
            list->lines.data[i] = ' ';
    list->waiting += !rc;
    return rc ? rc : pg_buf_add(&list->lines, "\n", 1, e);
}

static int put_waiting(pg_corpus *c, pg_sentences *list, pg_err *e)
{
    const char *p = (const char *)list->lines.data, *end = p ? p + list->lines.len : NULL;
    int rc = PG_OK;
    PG_KNOWN(p || !list->waiting); /* put() adds a line with each text */
    for (; !rc && list->waiting; list->waiting--) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        bool last = list->waiting == 1;
        rc = tokenise(c, list, p, (size_t)(stop - p), last ? PG_LAST : PG_FOLLOWED, stop + 1, (size_t)(end - stop - 1), e);
        p = stop + 1;
    }
    pg_buf_free(&list->lines);
    return rc;
}

/* 1 or 0, or < 0. Bytes that are no UTF-8 have no case: they are compared as they are. */
static int same_in_lower_case(pg_corpus *c, const char *a, size_t n, const char *b, size_t m, pg_err *e)
{
    c->text.len = c->low.len = 0;
    int rc = pg_text_lower(a, n, &c->text, e);
    if (!rc)
        rc = pg_text_lower(b, m, &c->low, e);
    if (rc == PG_ENOMEM)
        return rc;
    if (rc)
        return n == m && !memcmp(a, b, n);
    return c->text.len == c->low.len && (c->low.len == 0 || !memcmp(c->text.data, c->low.data, c->low.len));
}

int pg_corpus_add(pg_corpus *c, const char *caption, size_t n, const char *const *references, size_t n_references, pg_err *e)
{
    pg_image_record im = {.n = n_references};
    int rc;
    if (n_references == 0)
        return pg_error(e, PG_EINVAL, "no reference");
    if ((rc = reserve((void **)&c->images, &c->cap_images, c->n_images, 1, sizeof *c->images, e)))
        return rc;
    im.first = c->references.n + c->references.waiting;
    for (size_t i = 0; i < n_references; i++) {
        if ((rc = same_in_lower_case(c, caption, n, references[i], strlen(references[i]), e)) < 0)
            return rc;
        if (rc)
            im.scores.v[PG_EXACT] = 1;
    }
    rc = put(c, &c->captions, caption, n, e);
    for (size_t i = 0; !rc && i < n_references; i++)
        rc = put(c, &c->references, references[i], strlen(references[i]), e);
    if (!rc)
        c->images[c->n_images++] = im;
    return rc;
}

static void add_up(pg_corpus *c)
{
    pg_bleu all = {0};
    for (size_t i = 0; i < c->n_images; i++) {
        const pg_image_record *im = &c->images[i];
        for (size_t n = 0; n < PG_GRAMS; n++) {
            all.match[n] += im->bleu.match[n];
            all.guess[n] += im->bleu.guess[n];
        }
        all.words += im->bleu.words;
        all.reference += im->bleu.reference;
        for (size_t m = 0; m < PG_METRICS; m++)
            c->total.v[m] += im->scores.v[m];
    }
    for (size_t m = 0; m < PG_METRICS; m++)
        c->total.v[m] /= (double)c->n_images;
    pg_bleu_scores(&all, &c->total.v[PG_BLEU1]);
}

static bool same_words(const pg_corpus *c, const pg_sentence *a, const pg_sentence *b)
{
    return a->n_words == b->n_words && !memcmp(c->numbers + a->words, c->numbers + b->words, a->n_words * sizeof *c->numbers);
}

/* Captions that differ: a table of the first of each kind. */
static int distinct(const pg_corpus *c, size_t *found, pg_err *e)
{
    size_t cap = 1024;
    while (cap < 2 * c->captions.n)
        cap *= 2;
    size_t *slots = pg_calloc(cap, sizeof *slots);
    if (!slots)
        return pg_error_nomem(e);
    for (size_t i = 0; i < c->captions.n; i++) {
        const pg_sentence *s = &c->captions.s[i];
        uint64_t h = s->n_words;
        for (size_t k = 0; k < s->n_words; k++)
            h = (h ^ c->numbers[s->words + k]) * 0x9E3779B97F4A7C15u;
        size_t k = (size_t)(h >> 32) & (cap - 1);
        while (slots[k] && !same_words(c, s, &c->captions.s[slots[k] - 1]))
            k = (k + 1) & (cap - 1);
        *found += !slots[k];
        slots[k] = slots[k] ? slots[k] : i + 1;
    }
    free(slots);
    return PG_OK;
}

/* The references of two images, one by one. */
static bool same_references(const pg_corpus *c, const pg_image_record *a, const pg_image_record *b)
{
    bool same = a->n == b->n;
    for (size_t k = 0; same && k < a->n; k++)
        same = same_words(c, &c->references.s[a->first + k], &c->references.s[b->first + k]);
    return same;
}

static int gather_facts(pg_corpus *c, pg_err *e)
{
    pg_caption_facts f = {.shortest = SIZE_MAX, .same_references = c->n_images > 1};
    for (size_t i = 0; i < c->captions.n; i++) {
        size_t n = c->captions.s[i].length;
        f.empty += n == 0;
        f.shortest = n < f.shortest ? n : f.shortest;
        f.longest = n > f.longest ? n : f.longest;
        f.mean += (double)n / (double)c->captions.n;
    }
    for (size_t i = 0; i < c->references.n; i++)
        f.reference_mean += (double)c->references.s[i].length / (double)c->references.n;
    for (size_t i = 1; f.same_references && i < c->n_images; i++)
        f.same_references = same_references(c, &c->images[0], &c->images[i]);
    c->facts = f;
    return distinct(c, &c->facts.distinct, e);
}

int pg_corpus_score(pg_corpus *c, pg_err *e)
{
    int rc = put_waiting(c, &c->captions, e);
    if (!rc)
        rc = put_waiting(c, &c->references, e);
    if (!rc && c->n_images == 0)
        return pg_error(e, PG_EINVAL, "no captions to score");
    if (!rc)
        rc = pg_cider_all(c, e);
    for (size_t i = 0; !rc && i < c->n_images; i++) {
        pg_image_record *im = &c->images[i];
        pg_bleu_image(c, im, i, &im->bleu);
        pg_bleu_scores(&im->bleu, &im->scores.v[PG_BLEU1]);
        rc = pg_rouge_image(c, im, i, &im->scores.v[PG_ROUGE], e);
    }
    if (!rc)
        add_up(c);
    return rc ? rc : gather_facts(c, e);
}

size_t pg_corpus_images(const pg_corpus *c) { return c->n_images; }
pg_scores pg_corpus_image(const pg_corpus *c, size_t image) { return c->images[image].scores; }
pg_scores pg_corpus_total(const pg_corpus *c) { return c->total; }
pg_caption_facts pg_corpus_facts(const pg_corpus *c) { return c->facts; }
