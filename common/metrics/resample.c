/* How far a score may be trusted: drawing the pictures again, and swapping the captions of two systems. */
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "metrics/internal.h"

/* Sums over images from which every corpus score follows. */
typedef struct sums {
    double v[PG_METRICS]; /* BLEU's places unused */
    pg_bleu bleu;
} sums;

static void add(sums *s, const pg_image_record *im)
{
    s->v[PG_CIDER] += im->scores.v[PG_CIDER];
    s->v[PG_ROUGE] += im->scores.v[PG_ROUGE];
    s->v[PG_EXACT] += im->scores.v[PG_EXACT];
    for (size_t n = 0; n < PG_GRAMS; n++) {
        s->bleu.match[n] += im->bleu.match[n];
        s->bleu.guess[n] += im->bleu.guess[n];
    }
    s->bleu.words += im->bleu.words;
    s->bleu.reference += im->bleu.reference;
}

static pg_scores scores(const sums *s, size_t images)
{
    pg_scores out;
    for (size_t m = 0; m < PG_METRICS; m++)
        out.v[m] = s->v[m] / (double)images;
    pg_bleu_scores(&s->bleu, &out.v[PG_BLEU1]);
    return out;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The middle 95 % of draws[0..n), which are sorted here. */
static pg_interval middle(double *draws, size_t n)
{
    qsort(draws, n, sizeof *draws, by_value);
    size_t cut = (size_t)floor(0.025 * (double)n);
    return (pg_interval){draws[cut], draws[n - 1 - cut]};
}

/* Draws for each metric one after another; b NULL: scores of a, else differences b - a. */
static int draw(const pg_corpus *a, const pg_corpus *b, size_t resamples, uint64_t seed, double *draws)
{
    pg_rng rng;
    pg_rng_seed(&rng, seed, 1);
    for (size_t k = 0; k < resamples; k++) {
        sums x = {0}, y = {0};
        for (size_t i = 0; i < a->n_images; i++) {
            size_t image = (size_t)pg_rng_below(&rng, a->n_images);
            add(&x, &a->images[image]);
            if (b)
                add(&y, &b->images[image]);
        }
        pg_scores s = scores(&x, a->n_images), t = b ? scores(&y, a->n_images) : s;
        for (size_t m = 0; m < PG_METRICS; m++)
            draws[m * resamples + k] = b ? t.v[m] - s.v[m] : s.v[m];
    }
    return PG_OK;
}

int pg_bootstrap(const pg_corpus *c, size_t resamples, uint64_t seed, pg_interval out[PG_METRICS], pg_err *e)
{
    size_t n;
    if (resamples == 0 || c->n_images == 0)
        return pg_error(e, PG_EINVAL, "nothing to draw from");
    double *draws = pg_mul(resamples, PG_METRICS, &n) ? pg_alloc(n, sizeof *draws) : NULL;
    if (!draws)
        return pg_error_nomem(e);
    draw(c, NULL, resamples, seed, draws);
    for (size_t m = 0; m < PG_METRICS; m++)
        out[m] = middle(draws + m * resamples, resamples);
    free(draws);
    return PG_OK;
}

int pg_compare(const pg_corpus *a, const pg_corpus *b, size_t resamples, uint64_t seed, pg_difference out[PG_METRICS], pg_err *e)
{
    size_t n, beyond[PG_METRICS] = {0};
    pg_rng rng;
    if (resamples == 0 || a->n_images == 0 || a->n_images != b->n_images)
        return pg_error(e, PG_EINVAL, "not the same pictures");
    double *draws = pg_mul(resamples, PG_METRICS, &n) ? pg_alloc(n, sizeof *draws) : NULL;
    if (!draws)
        return pg_error_nomem(e);
    draw(a, b, resamples, seed, draws);
    for (size_t m = 0; m < PG_METRICS; m++)
        out[m] = (pg_difference){b->total.v[m] - a->total.v[m], middle(draws + m * resamples, resamples), 1};
    free(draws);
    pg_rng_seed(&rng, seed, 2);
    for (size_t k = 0; k < resamples; k++) {
        sums x = {0}, y = {0};
        for (size_t i = 0; i < a->n_images; i++) {
            bool swap = pg_rng_u64(&rng) >> 63;
            add(&x, swap ? &b->images[i] : &a->images[i]);
            add(&y, swap ? &a->images[i] : &b->images[i]);
        }
        pg_scores s = scores(&x, a->n_images), t = scores(&y, a->n_images);
        /* Sums in another order differ in the last bits: what is equal but for rounding counts as equal. */
        for (size_t m = 0; m < PG_METRICS; m++)
            beyond[m] += fabs(t.v[m] - s.v[m]) >= fabs(out[m].difference) - 1e-12;
    }
    for (size_t m = 0; m < PG_METRICS; m++)
        out[m].p = (double)(beyond[m] + 1) / (double)(resamples + 1);
    return PG_OK;
}
