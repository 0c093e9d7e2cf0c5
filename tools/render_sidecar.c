/* -f sidecar: the caption of each picture in a text file beside it. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "render.h"
#include "text/written.h"

enum { SAID = 3 }; /* of the files that are kept, and of records that are refused; the rest is counted */

/* name.txt of the picture, by which pictures of several formats may be told; NULL where it is no file here. */
static char *text_path(const pg_tool *t, text_view source)
{
    pg_err e = {0};
    char *path = pg_strndup(source.s, source.n), *txt = NULL;
    if (!path) tool_no_memory(t);
    int there = strlen(path) == source.n && !strstr(path, "://") ? pg_file_there(path, &e) : 0;
    tool_must(t, there < 0 ? there : PG_OK, &e);
    if (there) {
        char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
        if (dot && dot != path && dot[-1] != '/') *dot = 0;
        if (!(txt = pg_format("%s.txt", path))) tool_no_memory(t);
    }
    free(path);
    return txt;
}

/* One name of a file, whichever way its folder was written. */
static char *whole_path(const pg_tool *t, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = pg_path_dir(path), *real = dir ? realpath(dir, NULL) : NULL;
    char *whole = dir ? pg_path_join(real ? real : dir, slash ? slash + 1 : path) : NULL;
    if (!whole) tool_no_memory(t);
    free(real);
    free(dir);
    return whole;
}

static void refuse(pg_tool *t, sidecars *n, text_view source, const char *txt)
{
    if (n->refused++ < SAID)
        tool_error(t, "cannot write the caption of '%.*s': '%s' has that of another record of this stream", (int)(source.n < INT_MAX ? source.n : INT_MAX), source.s, txt);
}

static void write_sidecar(pg_tool *t, text_view source, const char *txt, text_view caption, bool overwrite, sidecars *n)
{
    char *whole = whole_path(t, txt);
    bool mine = tool_seen_has(&n->mine, whole);
    struct stat st;
    pg_buf line = {0};
    pg_err e = {0};
    if (pg_buf_add(&line, caption.s, caption.n, &e) || pg_buf_add(&line, "\n", 1, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    if (mine) {
        int same = pg_file_is(txt, line.data, line.len, &e);
        tool_must(t, same < 0 ? same : PG_OK, &e);
        if (!same) refuse(t, n, source, txt);
    } else if (!overwrite && lstat(txt, &st) == 0) {
        if (n->kept++ < SAID) tool_warn(t, "'%s' exists and is kept; --overwrite replaces it", txt);
    } else {
        /* The note first: killed in between, a note of no file harms nobody, but a caption without its note would pass for a person's. */
        if (pg_written_note(txt, caption.s, caption.n, &e) || pg_file_save(txt, line.data, line.len, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
        tool_seen_add(t, &n->mine, whole);
        n->written++;
    }
    pg_buf_free(&line);
    free(whole);
}

void put_sidecar(pg_tool *t, const pg_rec *rec, bool overwrite, sidecars *n)
{
    if (pg_rec_has_error(rec) || pg_rec_has(rec, "partial")) return;
    text_view source = view(rec, "source");
    char *txt = pg_rec_has(rec, "caption") ? text_path(t, source) : NULL;
    if (txt) write_sidecar(t, source, txt, view(rec, "caption"), overwrite, n);
    else n->without++;
    free(txt);
}

uint64_t sidecars_end(pg_tool *t, sidecars *n)
{
    if (n->kept > SAID) tool_warn(t, "%llu more exist and are kept", (unsigned long long)(n->kept - SAID));
    if (n->refused > SAID) tool_error(t, "the same of %llu more records", (unsigned long long)(n->refused - SAID));
    tool_info(t, "%llu file%s written, %llu kept, %llu record%s without caption or local image", (unsigned long long)n->written, n->written == 1 ? "" : "s",
              (unsigned long long)n->kept, (unsigned long long)n->without, n->without == 1 ? "" : "s");
    tool_seen_free(&n->mine);
    return n->refused;
}
