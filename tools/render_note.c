/* A note in the report: plain text in which a line "# ..." begins a section, lines with tabs make a table whose first is its head, lines
 * that begin with four blanks stay as they are, and the rest are paragraphs. Everything is text: nothing of it is markup. */
#include <string.h>

#include "base/file.h"
#include "render.h"

enum { NOTE_MAX = 1 << 20 };
typedef enum { NOTHING, PARAGRAPH, LINES, ROWS } block;

typedef struct writer {
    FILE *f;
    block open;
    bool section;
} writer;

static const char *const begin[] = {"", "<p>", "<pre>", "<div class=\"wide\"><table class=\"numbers\">\n<thead>"};
static const char *const end[] = {"", "</p>\n", "</pre>\n", "</tbody></table></div>\n"};

static void turn_to(writer *w, block b)
{
    if (w->open == b) return;
    fputs(end[w->open], w->f);
    if (b != NOTHING && !w->section) {
        fputs("<section class=\"commands\">\n", w->f);
        w->section = true;
    }
    fputs(begin[b], w->f);
    w->open = b;
}

static void put_row(writer *w, const char *s, size_t n, bool head)
{
    fputs("<tr>", w->f);
    for (size_t i = 0; i <= n;) {
        const char *tab = memchr(s + i, '\t', n - i);
        size_t len = tab ? (size_t)(tab - (s + i)) : n - i;
        fputs(head ? "<th scope=\"col\">" : "<td>", w->f);
        put_html(w->f, s + i, len);
        fputs(head ? "</th>" : "</td>", w->f);
        i += len + 1;
    }
    fputs(head ? "</tr></thead>\n<tbody>" : "</tr>\n", w->f);
}

static void heading(writer *w, const char *s, size_t n)
{
    turn_to(w, NOTHING);
    fputs(w->section ? "</section>\n<section class=\"commands\">\n<h2>" : "<section class=\"commands\">\n<h2>", w->f);
    w->section = true;
    put_html(w->f, s, n);
    fputs("</h2>\n", w->f);
}

static void put_note_line(writer *w, const char *s, size_t n)
{
    block was = w->open;
    if (n > 2 && !memcmp(s, "# ", 2)) heading(w, s + 2, n - 2);
    else if (n >= 4 && !memcmp(s, "    ", 4)) {
        turn_to(w, LINES);
        put_html(w->f, s + 4, n - 4);
        putc('\n', w->f);
    } else if (n == 0) turn_to(w, NOTHING);
    else if (memchr(s, '\t', n)) {
        turn_to(w, ROWS);
        put_row(w, s, n, was != ROWS);
    } else {
        if (was == PARAGRAPH) putc('\n', w->f);
        turn_to(w, PARAGRAPH);
        put_html(w->f, s, n);
    }
}

void put_note(const pg_tool *t, FILE *f, const char *path)
{
    pg_buf b = {0};
    pg_err e = {0};
    writer w = {.f = f};
    if (pg_file_read(path, NOTE_MAX, &b, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    const char *s = b.len ? (const char *)b.data : "";
    if (!pg_utf8_valid(s, b.len)) tool_die(t, EXIT_FAIL, "the note '%s' is not UTF-8", path);
    for (size_t i = 0; i < b.len;) {
        const char *stop = memchr(s + i, '\n', b.len - i);
        size_t n = stop ? (size_t)(stop - (s + i)) : b.len - i;
        put_note_line(&w, s + i, n - (n && s[i + n - 1] == '\r'));
        i += n + 1;
    }
    turn_to(&w, NOTHING);
    if (w.section) fputs("</section>\n", f);
    pg_buf_free(&b);
}
