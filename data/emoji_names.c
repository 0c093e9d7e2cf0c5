/* Names of Unicode's CLDR (annotations/LANG.xml), and what they are names of. */
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "emoji.h"

/* The code points of s without U+FE0F (variation selector: neither in cmap nor in any ligature); 0: not UTF-8, or too long. */
size_t names_code_points(const char *s, unsigned out[MAX_SEQUENCE])
{
    size_t n = 0;
    while (*s) {
        unsigned char c = (unsigned char)*s++;
        size_t more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        unsigned v = c & (more ? 0x3fu >> more : 0x7fu);
        for (; more; more--, s++) {
            if (((unsigned char)*s & 0xc0) != 0x80) return 0;
            v = v << 6 | ((unsigned char)*s & 0x3fu);
        }
        if (v == 0xfe0f) continue;
        if (n == MAX_SEQUENCE) return 0;
        out[n++] = v;
    }
    return n;
}

typedef struct names {
    char *code;
    pg_buf text;
    pg_err e;
    json_t *all; /* code points as a string: name, in the file's order */
} names;

static void on_start(void *ctx, const char *name, const char **attr)
{
    names *s = ctx;
    const char *cp = NULL, *type = NULL;
    if (strcmp(name, "annotation")) return;
    for (; attr[0]; attr += 2) {
        if (!strcmp(attr[0], "cp")) cp = attr[1];
        if (!strcmp(attr[0], "type")) type = attr[1];
    }
    if (cp && type && !strcmp(type, "tts") && !(s->code = pg_strdup(cp))) die("names", "out of memory");
}

static void on_text(void *ctx, const char *p, int n)
{
    names *s = ctx;
    if (s->code && pg_buf_add(&s->text, p, (size_t)n, &s->e)) die("names", s->e.msg);
}

static void on_end(void *ctx, const char *name)
{
    names *s = ctx;
    (void)name;
    if (!s->code) return;
    if (s->text.len && json_object_set_new(s->all, s->code, json_stringn((const char *)s->text.data, s->text.len)))
        die("names", "a name that is not UTF-8, or out of memory");
    free(s->code);
    s->code = NULL;
    s->text.len = 0;
}

void names_read(const char *dir, const char *derived, const char *lang, json_t *all)
{
    pg_err e = {0};
    pg_buf b = {0};
    names s = {.all = all};
    char *path = pg_format("%s%s/%s.xml", dir, derived, lang);
    if (!path) die(lang, "out of memory");
    if (pg_file_read(path, (size_t)64 << 20, &b, &e)) die(path, e.msg);
    XML_Parser x = XML_ParserCreate(NULL);
    if (!x) die(path, "out of memory");
    XML_SetUserData(x, &s);
    XML_SetElementHandler(x, on_start, on_end);
    XML_SetCharacterDataHandler(x, on_text);
    if (XML_Parse(x, (const char *)b.data, (int)b.len, 1) == XML_STATUS_ERROR) die(path, XML_ErrorString(XML_GetErrorCode(x)));
    XML_ParserFree(x);
    pg_buf_free(&b);
    pg_buf_free(&s.text);
    free(path);
}

/* The thing that an English name is a variant of: without skin tone, hair and sex. A flag or a keycap is what follows its colon. */
void names_concept(const char *name, char *out, size_t room)
{
    static const char *const people[] = {"man", "woman", "person", "men", "women", "people", "boy", "girl", "child", "and", NULL};
    static const char *const same[][2] = {{"merman", "merperson"}, {"mermaid", "merperson"}, {"older", "old"}, {"adult", ""}};
    size_t end = strcspn(name, ":"), n = 0;
    if (!strncmp(name, "flag:", 5) || !strncmp(name, "keycap:", 7)) end = strlen(name);
    out[0] = 0;
    for (const char *p = name; p < name + end;) {
        size_t len = strcspn(p, " ");
        if (len > (size_t)(name + end - p)) len = (size_t)(name + end - p);
        char word[64];
        const char *w = word;
        snprintf(word, sizeof word, "%.*s", (int)len, p);
        for (size_t i = 0; people[i]; i++)
            if (!strcmp(word, people[i])) w = "";
        for (size_t i = 0; i < sizeof same / sizeof *same; i++)
            if (!strcmp(word, same[i][0])) w = same[i][1];
        if (*w && n < room) n += (size_t)snprintf(out + n, room - n, "%s%s", n ? " " : "", w);
        p += len + 1;
    }
    if (!out[0]) snprintf(out, room, "person");
}
