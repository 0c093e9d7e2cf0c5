/* What the parts of augment share: things (a picture and its names), drawing, and what is said of a drawing. */
#ifndef DATA_AUGMENT_H
#define DATA_AUGMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/num.h"

enum { MAX_LANGS = 8, MAX_THINGS = 8192, MAX_SIZE = 1024 };

typedef struct thing {
    char *code;              /* the picture's name without folder and ending */
    char *name[MAX_LANGS];   /* in each list's language; NULL: that list has none */
    bool described[MAX_LANGS];
    char *path;
    unsigned char *rgba;     /* NULL: not loaded yet; premultiplied by alpha, with a transparent border of one pixel: (w + 2) * (h + 2) * 4 */
    size_t w, h;
} thing;

typedef struct lists {
    thing *things;
    size_t n, n_langs;
    const char *lang[MAX_LANGS];
} lists;

_Noreturn void die(const char *what, const char *why); /* one line on stderr, exit 1 */

/* augment_draw.c */
/* Reads the PNG at t->path; one more than twice as large as `size` is reduced by a whole factor first. */
void picture_load(thing *t, size_t size);
enum { WHITE = 10, N_COLOURS };
/* On the colour (jittered, unless white), at a scale of 0.8 to 1 of the square and a place that keeps it inside; amount 0 to 1 shrinks
 * both ranges, 0 is the whole square. rgb: size*size*3. */
void picture_draw(const thing *t, pg_rng *r, size_t size, size_t colour, double amount, unsigned char *rgb);

/* augment_text.c */
/* Adds the lines of LANG.jsonl: things from the first list, names alone from the others (by the same `image`). */
void lists_read(lists *l, const char *file);
/* Whether descriptions can be made in a language. */
bool text_describes(const char *lang);
/* The name, or with full "red apple on a blue background" in the language; returns false where it does not fit into n bytes. */
bool text_make(const thing *t, size_t lang, const char *code, size_t colour, bool full, char *out, size_t n);

#endif
