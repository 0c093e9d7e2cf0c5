/* Caption scores as pycocoevalcap 1.2 computes them: CIDEr-D, BLEU-1..4, ROUGE-L; and how sure one can be of them.
 *
 * Captions and references of all images are added, then scored together: the weight of a word in CIDEr-D depends on the references of the
 * whole set. Memory grows with the captions. */
#ifndef PG_METRICS_METRICS_H
#define PG_METRICS_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum { PG_CIDER, PG_BLEU1, PG_BLEU2, PG_BLEU3, PG_BLEU4, PG_ROUGE, PG_EXACT, PG_METRICS };
const char *pg_metric_name(size_t m); /* "CIDEr", "BLEU-1" ... "ROUGE-L", "exact" */

/* CIDEr is in [0,10], the others in [0,1]. exact: 1 where the caption equals a reference after lower-casing. */
typedef struct pg_scores {
    double v[PG_METRICS];
} pg_scores;

typedef struct pg_corpus pg_corpus;
/* context: each caption is tokenised with an eye on the next one, as the reference tool does (metrics/words.h). */
int pg_corpus_new(pg_corpus **c, bool context, pg_err *e) PG_MUST_CHECK;
void pg_corpus_free(pg_corpus *c);
/* One image. No reference is PG_EINVAL. */
int pg_corpus_add(pg_corpus *c, const char *caption, size_t n, const char *const *references, size_t n_references, pg_err *e) PG_MUST_CHECK;
/* Scores everything added so far, once. No image is PG_EINVAL. */
int pg_corpus_score(pg_corpus *c, pg_err *e) PG_MUST_CHECK;

/* After scoring. Images are numbered in the order in which they were added. */
size_t pg_corpus_images(const pg_corpus *c);
pg_scores pg_corpus_image(const pg_corpus *c, size_t image);
pg_scores pg_corpus_total(const pg_corpus *c);

typedef struct pg_caption_facts {
    size_t distinct, empty;      /* captions that differ as words; captions without a word */
    size_t shortest, longest;    /* words of a caption */
    double mean, reference_mean; /* words of a caption, of a reference */
    bool same_references;        /* all of several images have the same ones, so CIDEr-D is 0 whatever the captions */
} pg_caption_facts;
pg_caption_facts pg_corpus_facts(const pg_corpus *c);

/* ---- how sure ---- */
typedef struct pg_interval {
    double low, high;
} pg_interval;

/* 95 % intervals by bootstrap: images are drawn with replacement `resamples` times, the corpus's score computed for each draw. The
 * weights of CIDEr-D stay those of the whole set. */
int pg_bootstrap(const pg_corpus *c, size_t resamples, uint64_t seed, pg_interval out[PG_METRICS], pg_err *e) PG_MUST_CHECK;

typedef struct pg_difference {
    double difference; /* b - a */
    pg_interval interval;
    double p; /* two-sided, of a difference this large if the two did not differ */
} pg_difference;

/* Image i of a and of b is the same picture with the same references. The interval is a bootstrap over pictures; p comes from swapping
 * the two captions of randomly chosen pictures (approximate randomisation), so it is never below 1 / (resamples + 1). */
int pg_compare(const pg_corpus *a, const pg_corpus *b, size_t resamples, uint64_t seed, pg_difference out[PG_METRICS], pg_err *e) PG_MUST_CHECK;

#endif
