/* SentencePiece behind C, and the prompt of PaliGemma: tokens and the three masks (big_vision's preprocess_tokens). */
#ifndef PG_TEXT_TEXT_H
#define PG_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum { PG_PAD = 0, PG_EOS = 1, PG_BOS = 2, PG_UNK = 3 };

typedef struct pg_tokenizer pg_tokenizer;
/* model: a folder holding tokenizer.model (or paligemma_tokenizer.model, or the only *.model), such a file, or weights
 * (*.npz, *.safetensors) beside which one of the first two lies. */
int pg_tokenizer_open(pg_tokenizer **t, const char *model, pg_err *e) PG_MUST_CHECK;
void pg_tokenizer_free(pg_tokenizer *t);
/* The tokenizer under its usual names (the first two) in the folder `model`, or beside the file `model`; for free(). *path NULL: there is none. */
int pg_tokenizer_find(const char *model, char **path, pg_err *e) PG_MUST_CHECK;
size_t pg_tokenizer_size(const pg_tokenizer *t);     /* pieces */
const char *pg_tokenizer_path(const pg_tokenizer *t); /* the file that was read */
/* What is odd about the tokenizer, number i (from 0), as a message; NULL beyond the last. Lives as long as t. */
const char *pg_tokenizer_warning(const pg_tokenizer *t, size_t i);
int32_t pg_tokenizer_newline(const pg_tokenizer *t); /* what parts prefix and suffix; -1: it is not a single piece */
bool pg_tokenizer_has_places(const pg_tokenizer *t); /* <loc0000> is a single piece */
/* New array of *n ids for free(). Plain text: no control token is ever produced. s may hold NUL. */
int pg_tokenizer_encode(const pg_tokenizer *t, const char *s, size_t len, int32_t **ids, size_t *n, pg_err *e) PG_MUST_CHECK;
/* Text of the ids before the first eos, appended to out (may hold NUL). golden/text rule 9. */
int pg_tokenizer_decode(const pg_tokenizer *t, const int32_t *ids, size_t n, pg_buf *out, pg_err *e) PG_MUST_CHECK;

/* Full Unicode lower-casing (final sigma too), appended to out. Invalid UTF-8 is an error. */
int pg_text_lower(const char *s, size_t len, pg_buf *out, pg_err *e) PG_MUST_CHECK;

typedef struct pg_prompt {
    int32_t *tokens, *mask_ar, *mask_loss, *mask_input; /* n each; one allocation each, reused by pg_prompt_make */
    size_t n, cap;
    size_t full_length; /* before cutting */
    bool truncated, eos_lost;
} pg_prompt;
/* bos + prefix + "\n" + suffix + eos, texts encoded apart; suffix NULL or empty: no suffix, no eos. length 0: as long as needed. */
int pg_prompt_make(const pg_tokenizer *t, const char *prefix, size_t n_prefix, const char *suffix, size_t n_suffix,
                   size_t length, pg_prompt *p, pg_err *e) PG_MUST_CHECK;
void pg_prompt_free(pg_prompt *p);

#endif
