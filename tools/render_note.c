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
    uint64_t texts; /* columns of the open table in which some row has no number; those from the 64th on are texts */
} writer;

static const char *const begin[] = {"", "<p>", "<pre>", "<div class=\"wide\"><table class=\"numbers texts\">\n<thead>"};
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

/* What stands to the right in its column, as 12, -0.5 or 98 %; nothing, too. */
static bool is_number(const char *s, size_t n)
{
    static const char also[] = "0123456789 .,+-%";
    for (size_t i = 0; i < n; i++)
        if (!memchr(also, s[i], sizeof also - 1)) return false;
    return true;
}

static size_t line_length(const char *s, size_t n)
{
    const char *stop = memchr(s, '\n', n);
    return stop ? (size_t)(stop - s) : n;
}

/* Of the rows that follow, up to the table's end. */
static uint64_t text_columns(const char *s, size_t n)
{
    uint64_t texts = 0;
    while (n) {
        size_t len = line_length(s, n), cell, i = 0;
        if (!memchr(s, '\t', len)) break;
        for (size_t k = 0; i <= len; k++, i += cell + 1) {
            const char *tab = memchr(s + i, '\t', len - i);
            cell = tab ? (size_t)(tab - (s + i)) : len - i;
            if (k < 64 && !is_number(s + i, cell - (cell && s[i + cell - 1] == '\r'))) texts |= (uint64_t)1 << k;
        }
        s += len;
        n -= len;
        if (n) s++, n--;
    }
    return texts;
}

static void put_row(writer *w, const char *s, size_t n, bool head)
{
    size_t k = 0;
    fputs("<tr>", w->f);
    for (size_t i = 0; i <= n; k++) {
        const char *tab = memchr(s + i, '\t', n - i);
        size_t len = tab ? (size_t)(tab - (s + i)) : n - i;
        fputs(head ? "<th scope=\"col\"" : "<td", w->f);
        fputs(k < 64 && !(w->texts >> k & 1) ? " class=\"number\">" : ">", w->f);
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

/* rest: what comes behind the line, of n_rest bytes */
static void put_note_line(writer *w, const char *s, size_t n, const char *rest, size_t n_rest)
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
        if (was != ROWS) w->texts = text_columns(rest, n_rest);
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
        size_t n = line_length(s + i, b.len - i), next = i + n < b.len ? i + n + 1 : b.len;
        put_note_line(&w, s + i, n - (n && s[i + n - 1] == '\r'), s + next, b.len - next);
        i = next;
    }
    turn_to(&w, NOTHING);
    if (w.section) fputs("</section>\n", f);
    pg_buf_free(&b);
}
