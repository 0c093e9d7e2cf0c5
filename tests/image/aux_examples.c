/* aux_examples make COPIES FILE...  a stream of examples on stdout: each file as `image`, COPIES times over; a file named
 *                                   "none" gives a record without image, "broken" one that carries an error already
 * aux_examples show                 a stream from stdin as text: id, width, height, shape, SHA-256 of pixels, keys, error */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "sha256.h"
#include "stream/stream.h"

static int make(int argc, char **argv, pg_err *e)
{
    pg_writer *w = NULL;
    pg_rec *r = pg_rec_new();
    char id[300];
    if (!r || pg_writer_new(&w, 1, "stdout", e) || pg_writer_header(w, NULL, "examples", "aux", "0", argc, argv, NULL, e)) return 1;
    for (unsigned long i = 0, n = strtoul(argv[2], NULL, 10); i < n; i++)
        for (int f = 3; f < argc; f++) {
            pg_buf b = {0};
            const char *slash = strrchr(argv[f], '/');
            pg_rec_clear(r);
            if (n == 1) snprintf(id, sizeof id, "%s", slash ? slash + 1 : argv[f]);
            else snprintf(id, sizeof id, "%lu", i);
            if (pg_rec_set_str(r, "id", id, strlen(id), e)) return 1;
            if (!strcmp(argv[f], "broken")) {
                if (pg_rec_set_error(r, "pg-fetch", "lost", e)) return 1;
            } else if (strcmp(argv[f], "none")) {
                if (pg_file_read(argv[f], (size_t)1 << 28, &b, e) || pg_rec_set_bin(r, "image", b.data, b.len, e)) return 1;
            }
            if (pg_rec_set_str(r, "suffix", "a caption", 9, e) || pg_writer_add(w, r, e)) return 1;
            pg_buf_free(&b);
        }
    if (pg_writer_end(w, NULL, e)) return 1;
    pg_writer_free(w);
    pg_rec_free(r);
    return 0;
}

static int show(pg_err *e)
{
    pg_reader *in = NULL;
    pg_rec *r = pg_rec_new();
    int rc;
    if (!r || pg_reader_new(&in, 0, "stdin", e) || pg_reader_header(in, r, e) != 1) return 1;
    while ((rc = pg_reader_next(in, r, e)) == 1) {
        const char *id;
        size_t n;
        int64_t w = 0, h = 0;
        pg_tensor t;
        char sha[65] = "-", *error = pg_rec_error(r);
        if (pg_rec_str(r, "id", &id, &n, e) != 1 || pg_rec_int(r, "width", &w, e) < 0 || pg_rec_int(r, "height", &h, e) < 0) return 1;
        rc = pg_rec_tensor(r, "pixels", &t, e);
        if (rc < 0) return 1;
        printf("%.*s %ldx%ld ", (int)n, id, (long)w, (long)h);
        if (rc) {
            sha256_hex(t.data, t.bytes, sha);
            for (size_t i = 0; i < t.ndim; i++) printf("%s%zu", i ? "," : t.type, t.shape[i]);
        }
        printf(" %s", sha);
        for (size_t i = 0; i < pg_rec_count(r); i++) printf("%c%s", i ? ',' : ' ', pg_rec_key(r, i));
        printf(" %s\n", error ? error : "ok");
        free(error);
    }
    pg_reader_free(in);
    pg_rec_free(r);
    return rc < 0;
}

int main(int argc, char **argv)
{
    pg_err e = {0};
    int rc = 2;
    if (argc > 3 && !strcmp(argv[1], "make")) rc = make(argc, argv, &e);
    else if (argc == 2 && !strcmp(argv[1], "show")) rc = show(&e);
    if (rc) fprintf(stderr, "aux_examples: %s\n", e.msg);
    return rc;
}
