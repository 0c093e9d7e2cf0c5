/* What the parts of emoji share: the font's pictures and the names of CLDR. */
#ifndef DATA_EMOJI_H
#define DATA_EMOJI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

enum { MAX_SEQUENCE = 16 };

_Noreturn void die(const char *subject, const char *why); /* one line on stderr, exit 1 */

/* emoji_font.c */
typedef struct font {
    const unsigned char *p; /* the file */
    size_t n;
    bool bad; /* something lay outside of the file, or was not as this font has it */
    size_t cmap12, ligatures, cblc, cbdt;
} font;
void font_find_tables(font *f);
/* The PNG file of a sequence of code points, inside the font; false: it has no picture. */
bool font_picture(font *f, const unsigned *code, size_t n, const unsigned char **png, size_t *len);

/* emoji_folder.c */
json_t *folder_open(const char *dir); /* code points: path */
bool folder_picture(const json_t *files, const unsigned *code, size_t n, pg_buf *png);

/* emoji_names.c */
/* The code points of s without U+FE0F (variation selector: neither in cmap nor in any ligature); 0: not UTF-8, or too long. */
size_t names_code_points(const char *s, unsigned out[MAX_SEQUENCE]);
/* Adds the names in DIR (+ `derived`)/LANG.xml to `all`: code points as a string: name, in the file's order. */
void names_read(const char *dir, const char *derived, const char *lang, json_t *all);
/* The thing that an English name is a variant of: without skin tone, hair and sex. A flag or a keycap is what follows its colon. */
void names_concept(const char *name, char *out, size_t room);

#endif
