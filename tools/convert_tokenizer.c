/* The tokenizer beside the weights, and the files by which transformers makes its processor of it. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/guard.h"
#include "convert.h"
#include "text/text.h"

enum { FILE_MAX = 1 << 28 };

/* One that is there may be another model's, too, or the user's: it stays. */
static int keep_file(pg_tool *t, const char *path, const void *p, size_t n, pg_err *e)
{
    int same = pg_file_is(path, p, n, e);
    if (!same) tool_warn(t, "'%s' is there, is not what belongs to these weights, and stays", path);
    return same < 0 ? same : PG_OK;
}

static int write_file(pg_tool *t, const char *dir, const char *name, const void *p, size_t n, pg_err *e)
{
    char *to = pg_path_join(dir, name);
    int rc = to ? pg_file_there(to, e) : pg_error_nomem(e);
    if (rc >= 0) rc = rc ? keep_file(t, to, p, n, e) : pg_file_save(to, p, n, e);
    free(to);
    return rc;
}

static int copy_file(pg_tool *t, const char *from, const char *dir, const char *name, pg_err *e)
{
    pg_buf b = {0};
    int rc = pg_file_read(from, FILE_MAX, &b, e);
    if (!rc) rc = write_file(t, dir, name, b.data, b.len, e);
    pg_buf_free(&b);
    return rc;
}

static int write_json(pg_tool *t, const char *dir, const char *name, json_t *j, pg_err *e)
{
    char *text = j ? pg_json_dumps(j, JSON_INDENT(1)) : NULL;
    int rc = text ? write_file(t, dir, name, text, strlen(text), e) : pg_error_nomem(e);
    free(text);
    json_decref(j);
    return rc;
}

/* <image> is the first row that is no token; it is in no SentencePiece model. */
static int make_json(pg_tool *t, const char *dir, size_t image_token, pg_err *e)
{
    char id[24];
    snprintf(id, sizeof id, "%zu", image_token);
    json_t *token = json_pack("{s:s,s:b,s:b,s:b,s:b,s:b}", "content", "<image>", "lstrip", 0, "normalized", 0, "rstrip", 0, "single_word", 0, "special", 1);
    int rc = write_json(t, dir, "tokenizer_config.json",
                        json_pack("{s:b,s:b,s:{s:o},s:[s],s:s,s:s,s:s,s:s,s:b,s:s,s:s}", "add_bos_token", 1, "add_eos_token", 0,
                                  "added_tokens_decoder", id, token, "additional_special_tokens", "<image>", "bos_token", "<bos>", "eos_token",
                                  "<eos>", "pad_token", "<pad>", "unk_token", "<unk>", "clean_up_tokenization_spaces", 0, "processor_class",
                                  "PaliGemmaProcessor", "tokenizer_class", "GemmaTokenizer"), e);
    if (!rc) rc = write_json(t, dir, "added_tokens.json", json_pack("{s:I}", "<image>", (json_int_t)image_token), e);
    return rc ? rc : write_json(t, dir, "special_tokens_map.json",
                                json_pack("{s:[s],s:s,s:s,s:s,s:s}", "additional_special_tokens", "<image>", "bos_token", "<bos>", "eos_token",
                                          "<eos>", "pad_token", "<pad>", "unk_token", "<unk>"), e);
}

/* What transformers has written beside the source. */
static int copy_beside(pg_tool *t, const char *from, const char *to, bool *copied, pg_err *e)
{
    static const char *const beside[] = {"tokenizer_config.json", "tokenizer.json", "added_tokens.json", "special_tokens_map.json", "chat_template.json"};
    int rc = PG_OK;
    *copied = false;
    for (size_t i = 0; !rc && i < sizeof beside / sizeof *beside; i++) {
        char *path = pg_path_join(from, beside[i]);
        int there = path ? pg_file_there(path, e) : pg_error_nomem(e);
        rc = there == 1 ? copy_file(t, path, to, beside[i], e) : there;
        *copied = *copied || there == 1;
        free(path);
    }
    return rc;
}

/* Without one beside it the result is of use only together with another folder. */
static void say_none(pg_tool *t, const char *to, const char *why)
{
    pg_tokenizer *there = NULL;
    pg_err e = {0};
    if (pg_tokenizer_open(&there, to, &e)) tool_info(t, "no tokenizer goes along: %s; pg-tokenize -m wants a tokenizer.model beside the weights", why);
    pg_tokenizer_free(there);
}

int copy_tokenizer(pg_tool *t, const pg_weights *source, const char *weights, pg_err *e)
{
    pg_tokenizer *tok = NULL;
    pg_model_shape s;
    char *from = pg_path_dir(pg_weights_path(source)), *to = pg_path_dir(weights);
    bool hf = pg_ends_with(weights, ".safetensors"), copied = false;
    int rc = from && to ? PG_OK : pg_error_nomem(e);
    if (!rc && hf) rc = copy_beside(t, from, to, &copied, e);
    if (!rc && (rc = pg_tokenizer_open(&tok, from, e))) {
        if (rc != PG_ENOMEM && rc != PG_EIO) rc = PG_OK; /* there is none, or one of another kind */
        if (!rc) say_none(t, to, e->msg);
    } else if (!rc) {
        rc = copy_file(t, pg_tokenizer_path(tok), to, "tokenizer.model", e);
        if (!rc && hf && !copied && !(rc = pg_weights_shape(source, &s, e))) rc = make_json(t, to, s.vocab, e);
    }
    pg_tokenizer_free(tok);
    free(from);
    free(to);
    return rc;
}
