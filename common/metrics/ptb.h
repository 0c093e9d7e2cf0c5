/* Inside this room only: the caption tokenizer's parts. ptb.c reads text and writes tokens, ptb_match.c finds where a token ends,
 * ptb_shape.c knows the shapes of words, ptb_number.c those of numbers, addresses and markup. */
#ifndef PG_METRICS_PTB_H
#define PG_METRICS_PTB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Classes of characters; those beyond ASCII from ptb_tables.h. */
enum { PTB_DIGIT = 32, PTB_ASCII };

/* Code points and their classes, end of them, then a line feed, then what the next line begins with, then zeros. */
enum { PTB_PAD = 16 };
typedef struct ptb_text {
    uint32_t *c;
    uint8_t *k;
    size_t end, cap;
} ptb_text;

/* How a token is written: a clitic's apostrophe ('s, n't) becomes a plain one, &amp; between capitals an ampersand, markup
 * and addresses keep brackets and soft hyphens. */
typedef enum { PTB_AS_IS, PTB_CLITIC, PTB_CAPITALS, PTB_RAW } ptb_kind;

/* The best token so far. The longest wins, and what a rule must see behind the token counts; of two equal ones the first offered. */
typedef struct ptb_best {
    size_t end, all; /* the token's end; the end of what was seen */
    ptb_kind kind;
} ptb_best;

bool pg_ptb_is_quote(uint32_t c); /* a quote other than ' and " */
void pg_ptb_match(const ptb_text *t, size_t i, ptb_best *b);

static inline void ptb_offer_as(ptb_best *b, size_t end, size_t all, ptb_kind kind)
{
    if (all > b->all)
        *b = (ptb_best){end, all, kind};
}
static inline void ptb_offer(ptb_best *b, size_t end, size_t all) { ptb_offer_as(b, end, all, PTB_AS_IS); }

/* ---- shapes: each takes a position and returns the end of the longest piece of that shape, or the position itself where there is none ---- */
static inline bool ptb_is_ascii_letter(uint32_t c) { return (c | 32) - 'a' < 26; }
static inline bool ptb_is_ascii_digit(uint32_t c) { return c - '0' < 10; }
static inline bool ptb_is_ascii_alnum(uint32_t c) { return ptb_is_ascii_letter(c) || ptb_is_ascii_digit(c); }
static inline bool ptb_is_upper(uint32_t c) { return c - 'A' < 26; }
static inline bool ptb_is_space(uint32_t c) { return c == ' ' || c == '\t' || c == '\n' || c == 0xA0; }

size_t pg_ptb_literal(const ptb_text *t, size_t i, const char *word);  /* word, in any case */
size_t pg_ptb_apostrophe(const ptb_text *t, size_t i);                 /* ' U+0092 U+2019 &apos; */
size_t pg_ptb_any_apostrophe(const ptb_text *t, size_t i);             /* those and ` U+0091 U+2018 U+201B */
size_t pg_ptb_ampersand(const ptb_text *t, size_t i);                  /* & &amp; */
size_t pg_ptb_letter(const ptb_text *t, size_t i);                     /* letter, mark, or the entity of an accented letter */
size_t pg_ptb_word(const ptb_text *t, size_t i);                       /* letters and digits; a stop, ! or ? between letters */
size_t pg_ptb_hyphened(const ptb_text *t, size_t i);                   /* black-and-white, foo_bar, 5kg, o'clock-ish */
size_t pg_ptb_pointed(const ptb_text *t, size_t i);                    /* 1,000-seat, U.S.-based: stops and commas before the first hyphen, acronyms after it */
size_t pg_ptb_slashed(const ptb_text *t, size_t i);                    /* and/or, one/two-three */
size_t pg_ptb_joined_capitals(const ptb_text *t, size_t i);            /* AT&T, A+B */
size_t pg_ptb_acronym(const ptb_text *t, size_t i);                    /* U.S., a.m., x. */
size_t pg_ptb_file(const ptb_text *t, size_t i);                       /* 2nd.png: what precedes a blank or .?!, */
size_t pg_ptb_clipped(const ptb_text *t, size_t i);                    /* words with an apostrophe of their own */

size_t pg_ptb_number(const ptb_text *t, size_t i);
size_t pg_ptb_fraction(const ptb_text *t, size_t i);
size_t pg_ptb_date(const ptb_text *t, size_t i);
size_t pg_ptb_phone(const ptb_text *t, size_t i);
size_t pg_ptb_address(const ptb_text *t, size_t i); /* of the web or of mail */
size_t pg_ptb_handle(const ptb_text *t, size_t i);  /* @user, #tag */
size_t pg_ptb_markup(const ptb_text *t, size_t i);  /* <b>, </b>, <!-- x --> */
size_t pg_ptb_entity(const ptb_text *t, size_t i);  /* &#39; and the like that stay as they are */
size_t pg_ptb_smiley(const ptb_text *t, size_t i, size_t *all);

#endif
