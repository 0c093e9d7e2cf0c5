/* Inside this room only: captions as numbers, n-grams as numbers, what each metric needs of them. */
#ifndef PG_METRICS_INTERNAL_H
#define PG_METRICS_INTERNAL_H

#include "metrics/metrics.h"

enum { PG_GRAMS = 4 };

/* A map from 64-bit keys to 0, 1, 2, ... in the order in which keys were first seen. Start with {0}. */
typedef struct pg_ids {
    uint64_t *keys;
    uint32_t *values;
    size_t cap, n; /* cap: 0 or a power of two */
} pg_ids;
int pg_ids_get(pg_ids *m, uint64_t key, uint32_t *id, pg_err *e) PG_MUST_CHECK;
void pg_ids_free(pg_ids *m);

/* Words to numbers. Start with {0}. */
typedef struct pg_vocabulary {
    pg_buf text;    /* all words one after another */
    size_t *at;     /* where word i begins; at[n] is the end */
    uint32_t *slots; /* word + 1, 0 where empty */
    size_t cap, n, room;
} pg_vocabulary;
int pg_vocabulary_get(pg_vocabulary *v, const char *s, size_t n, uint32_t *id, pg_err *e) PG_MUST_CHECK;
void pg_vocabulary_free(pg_vocabulary *v);

typedef struct pg_gram {
    uint32_t id, count;
} pg_gram;

/* A caption or a reference. CIDEr and BLEU split at any white space (a no-break space inside a token too) and see no empty word;
 * ROUGE splits at the blank, and the empty caption is one empty word. */
typedef struct pg_sentence {
    size_t words, n_words;           /* in pg_corpus.numbers: as ROUGE sees them */
    size_t length;                   /* words as CIDEr and BLEU see them */
    size_t grams, start[PG_GRAMS + 1]; /* in pg_corpus.grams, sorted by id; those of n words lie in start[n-1]..start[n] */
} pg_sentence;

typedef struct pg_sentences {
    pg_sentence *s;
    size_t n, cap;
    pg_buf lines; /* with context: texts that wait until all are known */
    size_t waiting;
} pg_sentences;

/* What BLEU adds up over images. */
typedef struct pg_bleu {
    double match[PG_GRAMS], guess[PG_GRAMS], words, reference;
} pg_bleu;

typedef struct pg_image_record {
    size_t first, n; /* its references */
    pg_scores scores;
    pg_bleu bleu;
} pg_image_record;

struct pg_corpus {
    bool context;
    struct pg_words *tokenizer;
    pg_buf text, low;
    pg_vocabulary vocabulary;
    pg_ids ids;
    uint32_t *numbers;
    size_t n_numbers, cap_numbers;
    pg_gram *grams;
    size_t n_grams, cap_grams;
    pg_sentences captions, references;
    pg_image_record *images;
    size_t n_images, cap_images;
    pg_scores total;
    pg_caption_facts facts;
};

/* One image from what was gathered. */
int pg_cider_all(pg_corpus *c, pg_err *e) PG_MUST_CHECK;
void pg_bleu_image(const pg_corpus *c, const pg_image_record *im, size_t caption, pg_bleu *out);
void pg_bleu_scores(const pg_bleu *b, double out[PG_GRAMS]);
int pg_rouge_image(const pg_corpus *c, const pg_image_record *im, size_t caption, double *out, pg_err *e) PG_MUST_CHECK;

#endif
