/* The lists of things, and what is said of a drawing.
 *
 * In every language that has a form below, half of the things are also *described* ("red apple on a blue background"), the other half
 * only named; a hash of the thing's concept and of the language decides, so the halves never mix, whatever the seed, and variants of one
 * thing stay together. A description begins with the name, without "a": a tokenizer gives a word another token after a space, and tokens
 * that names never start with could not be learnt. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "augment.h"
#include "base/file.h"
#include "concept.h"

static const struct {
    const char *lang, *between, *after; /* NAME between COLOUR after */
    const char *colours[N_COLOURS];
} forms[] = {
    {"en", " on a ", " background", {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black", "white"}},
    {"es", " sobre fondo ", "", {"rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "marrón", "gris", "negro", "blanco"}},
    {"de", " auf ", " Hintergrund",
     {"rotem", "orangem", "gelbem", "grünem", "blauem", "violettem", "rosa", "braunem", "grauem", "schwarzem", "weißem"}},
    {"fr", " sur fond ", "", {"rouge", "orange", "jaune", "vert", "bleu", "violet", "rose", "marron", "gris", "noir", "blanc"}},
};
enum { N_FORMS = sizeof forms / sizeof *forms };

bool text_describes(const char *lang)
{
    for (size_t i = 0; i < N_FORMS; i++)
        if (!strcmp(forms[i].lang, lang)) return true;
    return false;
}

bool text_make(const thing *t, size_t lang, const char *code, size_t colour, bool full, char *out, size_t n)
{
    int len = 0;
    if (!full) len = snprintf(out, n, "%s", t->name[lang]);
    for (size_t i = 0; full && i < N_FORMS; i++)
        if (!strcmp(forms[i].lang, code)) {
            const char *c = forms[i].colours[colour];
            bool an = !strcmp(code, "en") && strchr("aeiou", c[0]);
            len = snprintf(out, n, "%s%s%s%s", t->name[lang], an ? " on an " : forms[i].between, c, forms[i].after);
        }
    return len > 0 && (size_t)len < n;
}

static thing *find(lists *l, const char *code)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->things[i].code, code)) return &l->things[i];
    return NULL;
}

static void add_line(lists *l, json_t *o, const char *file, const char *dir)
{
    const char *image = json_string_value(json_object_get(o, "image")), *name = json_string_value(json_object_get(o, "suffix"));
    const char *concept = json_string_value(json_object_get(o, "concept"));
    if (!image || !name) die(file, "a line without image or suffix");
    const char *slash = strrchr(image, '/');
    char *code = pg_strdup(slash ? slash + 1 : image), *copy = pg_strdup(name);
    if (!code || !copy) die(file, "out of memory");
    code[strcspn(code, ".")] = 0;
    size_t lang = l->n_langs;
    thing *t = lang ? find(l, code) : NULL;
    if (lang && !t) { /* a thing that the first language does not name */
        free(code);
        free(copy);
        return;
    }
    if (!t) {
        if (l->n == MAX_THINGS) die(file, "too many lines");
        t = &l->things[l->n++];
        t->code = code;
        if (!(t->path = image[0] == '/' ? pg_strdup(image) : pg_path_join(dir, image))) die(file, "out of memory");
    } else free(code);
    if (t->name[lang]) free(t->name[lang]);
    t->name[lang] = copy;
    t->described[lang] = concept_hash(concept ? concept : t->code, l->lang[lang]) & 1;
}

void lists_read(lists *l, const char *file)
{
    FILE *in = fopen(file, "r");
    char *line = NULL, *dir = pg_path_dir(file);
    const char *base = strrchr(file, '/');
    size_t room = 0;
    if (!in || !dir) die(file, strerror(errno));
    if (l->n_langs == MAX_LANGS) die(file, "too many lists");
    char *lang = pg_strdup(base ? base + 1 : file);
    if (!lang) die(file, "out of memory");
    lang[strcspn(lang, ".")] = 0;
    l->lang[l->n_langs] = lang;
    while (getline(&line, &room, in) >= 0) {
        json_error_t e;
        json_t *o = json_loads(line, 0, &e);
        add_line(l, o, file, dir);
        json_decref(o);
    }
    l->n_langs++;
    free(line);
    free(dir);
    fclose(in);
}
