/* The metrics themselves. */
#include <math.h>
#include <stdlib.h>

#include "metrics/internal.h"

/* ---- CIDEr-D (Vedantam, Zitnick, Parikh 2015), as pycocoevalcap has it ----
 * df(g)    images with g in at least one reference; at least 1
 * w(g)     count(g) * (ln images - ln df(g))
 * sim_n    sum over g of min(w_c, w_r) * w_r / (|w_c| |w_r|), 0 where a length is 0
 * image    10 * mean over references of mean over n of sim_n * exp(-d^2 / (2 * 6^2)), d the difference in bigrams */
typedef struct cider {
    const pg_corpus *c;
    uint32_t *df;
    double log_images;
} cider;

static double weight(const cider *x, const pg_gram *g)
{
    uint32_t df = x->df[g->id] > 1 ? x->df[g->id] : 1;
    return g->count * (x->log_images - log((double)df));
}

static double length(const cider *x, const pg_sentence *s, size_t n)
{
    double sum = 0;
    for (size_t i = s->start[n]; i < s->start[n + 1]; i++) {
        double w = weight(x, &x->c->grams[i]);
        sum += w * w;
    }
    return sqrt(sum);
}

static double similarity(const cider *x, const pg_sentence *c, const pg_sentence *r, size_t n)
{
    double sum = 0, norm = length(x, c, n) * length(x, r, n);
    for (size_t i = c->start[n], j = r->start[n]; i < c->start[n + 1] && j < r->start[n + 1];) {
        const pg_gram *a = &x->c->grams[i], *b = &x->c->grams[j];
        if (a->id == b->id) {
            double wc = weight(x, a), wr = weight(x, b);
            sum += fmin(wc, wr) * wr;
        }
        i += a->id <= b->id;
        j += b->id <= a->id;
    }
    return norm != 0 ? sum / norm : sum;
}

static double bigrams(const pg_sentence *s) { return s->length > 1 ? (double)(s->length - 1) : 0; }

static int count_images(cider *x, pg_err *e)
{
    const pg_corpus *c = x->c;
    size_t *seen = pg_calloc(c->ids.n, sizeof *seen);
    x->df = pg_calloc(c->ids.n, sizeof *x->df);
    for (size_t i = 0; x->df && seen && i < c->n_images; i++)
        for (size_t k = 0; k < c->images[i].n; k++) {
            const pg_sentence *r = &c->references.s[c->images[i].first + k];
            for (size_t g = r->grams; g < r->start[PG_GRAMS]; g++) {
                uint32_t id = c->grams[g].id;
                x->df[id] += seen[id] != i + 1;
                seen[id] = i + 1;
            }
        }
    free(seen);
    return x->df && seen ? PG_OK : pg_error_nomem(e);
}

int pg_cider_all(pg_corpus *c, pg_err *e)
{
    cider x = {.c = c, .log_images = log((double)c->n_images)};
    int rc = count_images(&x, e);
    for (size_t i = 0; !rc && i < c->n_images; i++) {
        pg_image_record *im = &c->images[i];
        const pg_sentence *s = &c->captions.s[i];
        double sum = 0;
        for (size_t k = 0; k < im->n; k++) {
            const pg_sentence *r = &c->references.s[im->first + k];
            double d = bigrams(s) - bigrams(r), gauss = exp(-d * d / (2 * 6.0 * 6.0));
            for (size_t n = 0; n < PG_GRAMS; n++)
                sum += similarity(&x, s, r, n) * gauss;
        }
        im->scores.v[PG_CIDER] = 10 * sum / PG_GRAMS / (double)im->n;
    }
    free(x.df);
    return rc;
}

/* ---- BLEU (Papineni et al. 2002) ----
 * match: n-grams of the caption, each counted at most as often as in the reference that has most of it; guess: n-grams of the caption.
 * p_n = (match + 1e-15) / (guess + 1e-9), BLEU_n = (p_1 ... p_n)^(1/n), times exp(1 - 1/ratio) where ratio < 1,
 * ratio = (words + 1e-15) / (words of the closest reference, the shorter of two equally close, + 1e-9) */
void pg_bleu_image(const pg_corpus *c, const pg_image_record *im, size_t caption, pg_bleu *out)
{
    const pg_sentence *s = &c->captions.s[caption], *refs = c->references.s + im->first;
    size_t closest = refs[0].length;
    *out = (pg_bleu){.words = (double)s->length};
    for (size_t k = 1; k < im->n; k++) {
        size_t a = refs[k].length, da = a > s->length ? a - s->length : s->length - a;
        size_t db = closest > s->length ? closest - s->length : s->length - closest;
        if (da < db || (da == db && a < closest))
            closest = a;
    }
    out->reference = (double)closest;
    for (size_t n = 0; n < PG_GRAMS; n++) {
        out->guess[n] = s->length > n ? (double)(s->length - n) : 0;
        for (size_t i = s->start[n]; i < s->start[n + 1]; i++) {
            uint32_t most = 0;
            for (size_t k = 0; k < im->n; k++) {
                size_t lo = refs[k].start[n], hi = refs[k].start[n + 1];
                while (lo < hi) {
                    size_t mid = (lo + hi) / 2;
                    if (c->grams[mid].id < c->grams[i].id)
                        lo = mid + 1;
                    else
                        hi = mid;
                }
                if (lo < refs[k].start[n + 1] && c->grams[lo].id == c->grams[i].id && c->grams[lo].count > most)
                    most = c->grams[lo].count;
            }
            out->match[n] += most < c->grams[i].count ? most : c->grams[i].count;
        }
    }
}

void pg_bleu_scores(const pg_bleu *b, double out[PG_GRAMS])
{
    double ratio = (b->words + 1e-15) / (b->reference + 1e-9), brevity = ratio < 1 ? exp(1 - 1 / ratio) : 1, product = 1;
    for (size_t n = 0; n < PG_GRAMS; n++) {
        product *= (b->match[n] + 1e-15) / (b->guess[n] + 1e-9);
        out[n] = pow(product, 1.0 / (double)(n + 1)) * brevity;
    }
}

/* ---- ROUGE-L (Lin 2004) ----
 * P = longest common subsequence / words of the caption, R = the same / words of the reference, each the best over references;
 * F = (1 + 1.2^2) P R / (R + 1.2^2 P) */
static size_t common(const uint32_t *a, size_t n, const uint32_t *b, size_t m, size_t *row)
{
    for (size_t j = 0; j <= m; j++)
        row[j] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t corner = 0;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            row[j] = a[i] == b[j - 1] ? corner + 1 : above > row[j - 1] ? above : row[j - 1];
            corner = above;
        }
    }
    return row[m];
}

int pg_rouge_image(const pg_corpus *c, const pg_image_record *im, size_t caption, double *out, pg_err *e)
{
    const pg_sentence *s = &c->captions.s[caption];
    double p = 0, r = 0, beta2 = 1.2 * 1.2;
    size_t *row = pg_alloc(s->n_words + 1, sizeof *row);
    if (!row)
        return pg_error_nomem(e);
    for (size_t k = 0; k < im->n; k++) {
        const pg_sentence *ref = &c->references.s[im->first + k];
        double same = (double)common(c->numbers + ref->words, ref->n_words, c->numbers + s->words, s->n_words, row);
        p = fmax(p, same / (double)s->n_words);
        r = fmax(r, same / (double)ref->n_words);
    }
    free(row);
    *out = p != 0 && r != 0 ? (1 + beta2) * p * r / (r + beta2 * p) : 0;
    return PG_OK;
}
