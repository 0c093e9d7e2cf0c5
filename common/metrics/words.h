/* The caption tokenizer: from a caption to the words that CIDEr-D, BLEU and ROUGE-L count.
 *
 * It gives what pycocoevalcap 1.2 gets from the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1: lower-cased tokens, one blank
 * between them, punctuation tokens dropped. tests/golden/metrics/README.md describes the behaviour case by case. */
#ifndef PG_METRICS_WORDS_H
#define PG_METRICS_WORDS_H

#include "base/mem.h"

/* Keeps buffers between captions; one per thread. */
typedef struct pg_words pg_words;
pg_words *pg_words_new(void); /* NULL on no memory */
void pg_words_free(pg_words *w);

/* What follows the caption. The reference tool writes all captions into one file, and what follows can change the end of one: a stop
 * after a single letter goes where the next line begins a sentence, no. keeps its stop where a number follows, and the last line, which
 * has no line feed, loses some smileys. PG_ALONE tokenises a caption by itself; the others do as that tool does. */
typedef enum { PG_ALONE, PG_FOLLOWED, PG_LAST } pg_context;

/* Appends the words of the caption to *out; no words append nothing. Every line separator in the caption is a blank.
 * next: the captions that follow, line by line, for PG_FOLLOWED. A byte that is not UTF-8 counts as a character that is removed. */
int pg_words_make(pg_words *w, const char *caption, size_t n, pg_context context, const char *next, size_t n_next, pg_buf *out,
                  pg_err *e) PG_MUST_CHECK;

#endif
