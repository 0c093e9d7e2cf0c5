#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>

#include "base/file.h"
#include "text/spm.h"
#include "text/text.h"

/* The tokenizer of PaliGemma has 4.3 MB; anything far above is weights given by mistake. */
#define MODEL_MAX ((size_t)64 << 20)
/* From this size on a tokenizer must have the pieces for places in the picture. */
#define VOCAB_WITH_LOCATIONS 200000
enum { MAX_WARNINGS = 3 };

struct pg_tokenizer {
    pg_spm *spm;
    char *path;
    const char *warnings[MAX_WARNINGS];
    size_t n_warnings;
    int32_t newline, place; /* -1: not a single piece */
};

/* The only *.model of a folder. */
static int only_model(const char *dir, char **path, pg_err *e)
{
    DIR *d = opendir(dir);
    struct dirent *de;
    size_t found = 0;
    int r = PG_OK;

    *path = NULL;
    if (!d)
        return pg_error_errno(e, "cannot open the folder '%s'", dir);
    while (r == PG_OK && (errno = 0, de = readdir(d))) {
        if (de->d_name[0] == '.' || !pg_ends_with(de->d_name, ".model"))
            continue;
        if (found++ == 0 && !(*path = pg_path_join(dir, de->d_name)))
            r = pg_error_nomem(e);
    }
    if (r == PG_OK && errno)
        r = pg_error_errno(e, "cannot read the folder '%s'", dir);
    closedir(d);
    if (r == PG_OK && found == 0)
        r = pg_error(e, PG_EINVAL, "no tokenizer.model in '%s' (PaliGemma's is gs://big_vision/paligemma_tokenizer.model)", dir);
    if (r == PG_OK && found > 1)
        r = pg_error(e, PG_EINVAL, "no tokenizer.model in '%s', and %zu other .model files", dir, found);
    if (r < 0) {
        free(*path);
        *path = NULL;
    }
    return r;
}

/* Under one of its usual names; *path NULL: there is none. */
static int usual_model(const char *dir, char **path, pg_err *e)
{
    static const char *const names[] = {"tokenizer.model", "paligemma_tokenizer.model"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        *path = pg_path_join(dir, names[i]);
        if (!*path)
            return pg_error_nomem(e);
        int there = pg_file_there(*path, e);
        if (there == 1)
            return PG_OK;
        free(*path);
        *path = NULL;
        if (there < 0)
            return there;
    }
    return PG_OK;
}

int pg_tokenizer_find(const char *model, char **path, pg_err *e)
{
    char *dir = pg_is_dir(model) ? pg_strdup(model) : pg_path_dir(model);
    *path = NULL;
    int r = dir ? usual_model(dir, path, e) : pg_error_nomem(e);

    free(dir);
    return r;
}

static int find_model(const char *model, char **path, pg_err *e)
{
    *path = NULL;
    if (pg_is_dir(model)) {
        int r = usual_model(model, path, e);
        return r < 0 || *path ? r : only_model(model, path, e);
    }
    if (pg_ends_with(model, ".npz") || pg_ends_with(model, ".safetensors") || pg_ends_with(model, ".safetensors.index.json")) {
        int r = pg_tokenizer_find(model, path, e);
        return r < 0 || *path ? r : pg_error(e, PG_EINVAL, "no tokenizer.model beside '%s'", model);
    }
    *path = pg_strdup(model);
    return *path ? PG_OK : pg_error_nomem(e);
}

/* The id of a text that is a single piece; -1: it is not. */
static int single_piece(const pg_tokenizer *t, const char *text, int32_t *id, pg_err *e)
{
    int32_t *ids;
    size_t n;
    int r = pg_tokenizer_encode(t, text, strlen(text), &ids, &n, e);

    *id = r == PG_OK && n == 1 ? ids[0] : -1;
    free(ids);
    return r;
}

/* What PaliGemma relies on: the three control ids, and pieces that its training data knew whole. */
static int check(pg_tokenizer *t, pg_err *e)
{
    int pad, eos, bos, unk;
    int r = PG_OK;
    size_t n;
    pg_buf text = {0};
    int32_t *ids = NULL;

    pg_spm_control_ids(t->spm, &pad, &eos, &bos, &unk);
    if (pad != PG_PAD || eos != PG_EOS || bos != PG_BOS)
        return pg_error(e, PG_EFORMAT, "pad, eos and bos are %d, %d and %d, PaliGemma needs 0, 1 and 2", pad, eos, bos);
    if ((r = single_piece(t, "\n", &t->newline, e)) < 0 || (r = single_piece(t, "<loc0000>", &t->place, e)) < 0)
        return r;
    if (t->newline < 0)
        t->warnings[t->n_warnings++] = "the new line between prefix and suffix is not a single piece";
    if (t->place < 0 && pg_tokenizer_size(t) > VOCAB_WITH_LOCATIONS)
        t->warnings[t->n_warnings++] = "'<loc0000>' is split: this is a tokenizer of Gemma, not of PaliGemma";
    if ((r = pg_tokenizer_encode(t, "a", 1, &ids, &n, e)) < 0 || (r = pg_tokenizer_decode(t, ids, n, &text, e)) < 0)
        goto out;
    if (text.len != 1 || text.data[0] != 'a')
        t->warnings[t->n_warnings++] = "text changes on its way through the tokenizer: not one of PaliGemma";
out:
    free(ids);
    pg_buf_free(&text);
    return r;
}

int pg_tokenizer_open(pg_tokenizer **out, const char *model, pg_err *e)
{
    pg_tokenizer *t = pg_calloc(1, sizeof *t);
    pg_buf b = {0};
    int r;

    *out = NULL;
    if (!t)
        return pg_error_nomem(e);
    if ((r = find_model(model, &t->path, e)) < 0)
        goto out;
    if ((r = pg_file_read(t->path, MODEL_MAX, &b, e)) < 0)
        goto out;
    /* An empty file is a valid, empty protocol buffer; SentencePiece answers that with a fatal check. */
    if (b.len == 0)
        r = pg_error(e, PG_EFORMAT, "empty file");
    else if ((r = pg_spm_load(&t->spm, b.data, b.len, e)) == PG_OK)
        r = check(t, e);
    if (r < 0)
        r = pg_error_context(e, "cannot use tokenizer '%s'", t->path);
out:
    pg_buf_free(&b);
    if (r < 0)
        pg_tokenizer_free(t);
    else
        *out = t;
    return r;
}

void pg_tokenizer_free(pg_tokenizer *t)
{
    if (!t)
        return;
    pg_spm_free(t->spm);
    free(t->path);
    free(t);
}

size_t pg_tokenizer_size(const pg_tokenizer *t)
{
    return pg_spm_size(t->spm);
}

const char *pg_tokenizer_path(const pg_tokenizer *t)
{
    return t->path;
}

const char *pg_tokenizer_warning(const pg_tokenizer *t, size_t i)
{
    return i < t->n_warnings ? t->warnings[i] : NULL;
}

int32_t pg_tokenizer_newline(const pg_tokenizer *t)
{
    return t->newline;
}

bool pg_tokenizer_has_places(const pg_tokenizer *t)
{
    return t->place >= 0;
}

int pg_tokenizer_encode(const pg_tokenizer *t, const char *s, size_t len, int32_t **ids, size_t *n, pg_err *e)
{
    *ids = NULL;
    *n = 0;
    /* SentencePiece would put U+FFFD in place of what is not UTF-8 and say nothing. */
    if (len && u8_check((const uint8_t *)s, len))
        return pg_error(e, PG_EFORMAT, "not valid UTF-8");
    return pg_spm_encode(t->spm, s ? s : "", len, ids, n, e);
}

/* Bytes of a run of byte pieces as text: valid characters, and one U+FFFD for each byte that belongs to none. */
static int flush_bytes(pg_buf *bytes, pg_buf *out, pg_err *e)
{
    for (size_t i = 0; i < bytes->len;) {
        ucs4_t c;
        int k = u8_mbtoucr(&c, bytes->data + i, bytes->len - i);
        int r = k > 0 ? pg_buf_add(out, bytes->data + i, (size_t)k, e) : pg_buf_add(out, "\xEF\xBF\xBD", 3, e);

        if (r < 0)
            return r;
        i += k > 0 ? (size_t)k : 1;
    }
    bytes->len = 0;
    return PG_OK;
}

/* The piece's text, its U+2581 back as spaces. */
static int add_piece(const char *p, size_t n, pg_buf *out, pg_err *e)
{
    int r = PG_OK;

    for (size_t i = 0; i < n && r == PG_OK;) {
        if (n - i >= 3 && !memcmp(p + i, "\xE2\x96\x81", 3)) {
            r = pg_buf_add(out, " ", 1, e);
            i += 3;
        } else {
            r = pg_buf_add(out, p + i, 1, e);
            i++;
        }
    }
    return r;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int pg_tokenizer_decode(const pg_tokenizer *t, const int32_t *ids, size_t n, pg_buf *out, pg_err *e)
{
    size_t size = pg_tokenizer_size(t);
    pg_buf bytes = {0};
    int r = PG_OK;

    for (size_t i = 0; i < n && ids[i] != PG_EOS && r == PG_OK; i++) {
        const char *p;
        size_t len;
        enum pg_spm_kind kind;

        if (ids[i] < 0 || (size_t)ids[i] >= size) {
            r = pg_error(e, PG_EINVAL, "token %ld is not in the tokenizer of %zu pieces", (long)ids[i], size);
            break;
        }
        if (!(p = pg_spm_piece(t->spm, ids[i], &len))) {
            r = pg_error_nomem(e);
            break;
        }
        kind = pg_spm_kind(t->spm, ids[i]);
        if (kind == PG_SPM_BYTE) {
            /* "<0x41>" */
            unsigned char c = len == 6 && hex(p[3]) >= 0 && hex(p[4]) >= 0 ? (unsigned char)(hex(p[3]) * 16 + hex(p[4])) : '?';
            r = pg_buf_add(&bytes, &c, 1, e);
            continue;
        }
        if ((r = flush_bytes(&bytes, out, e)) < 0)
            break;
        if (kind == PG_SPM_UNKNOWN)
            r = pg_buf_add(out, " \xE2\x81\x87 ", 5, e);
        else if (kind == PG_SPM_NORMAL)
            r = add_piece(p, len, out, e);
    }
    if (r == PG_OK)
        r = flush_bytes(&bytes, out, e);
    pg_buf_free(&bytes);
    return r;
}
