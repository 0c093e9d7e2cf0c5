/* The tokenizer beside the weights, and the files by which transformers makes its processor of it. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "convert.h"
#include "text/text.h"

enum { FILE_MAX = 1 << 28 };

static void write_file(const pg_tool *t, const char *dir, const char *name, const void *p, size_t n)
{
    pg_err e = {0};
    char *to = pg_path_join(dir, name);
    if (!to) tool_die(t, EXIT_FAIL, "out of memory");
    if (!pg_is_file(to) && pg_file_save(to, p, n, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    free(to);
}

static void copy_file(const pg_tool *t, const char *from, const char *dir, const char *name)
{
    pg_err e = {0};
    pg_buf b = {0};
    if (pg_file_read(from, FILE_MAX, &b, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    write_file(t, dir, name, b.data, b.len);
    pg_buf_free(&b);
}

static void write_json(const pg_tool *t, const char *dir, const char *name, json_t *j)
{
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    if (!text) tool_die(t, EXIT_FAIL, "out of memory");
    write_file(t, dir, name, text, strlen(text));
    free(text);
    json_decref(j);
}

/* <image> is the first row that is no token; it is in no SentencePiece model. */
static void make_json(const pg_tool *t, const char *dir, size_t image_token)
{
    char id[24];
    snprintf(id, sizeof id, "%zu", image_token);
    json_t *token = json_pack("{s:s,s:b,s:b,s:b,s:b,s:b}", "content", "<image>", "lstrip", 0, "normalized", 0, "rstrip", 0, "single_word", 0, "special", 1);
    write_json(t, dir, "tokenizer_config.json",
               json_pack("{s:b,s:b,s:{s:o},s:[s],s:s,s:s,s:s,s:s,s:b,s:s,s:s}", "add_bos_token", 1, "add_eos_token", 0, "added_tokens_decoder", id, token,
                         "additional_special_tokens", "<image>", "bos_token", "<bos>", "eos_token", "<eos>", "pad_token", "<pad>", "unk_token", "<unk>",
                         "clean_up_tokenization_spaces", 0, "processor_class", "PaliGemmaProcessor", "tokenizer_class", "GemmaTokenizer"));
    write_json(t, dir, "added_tokens.json", json_pack("{s:I}", "<image>", (json_int_t)image_token));
    write_json(t, dir, "special_tokens_map.json",
               json_pack("{s:[s],s:s,s:s,s:s,s:s}", "additional_special_tokens", "<image>", "bos_token", "<bos>", "eos_token", "<eos>", "pad_token", "<pad>",
                         "unk_token", "<unk>"));
}

void copy_tokenizer(pg_tool *t, const pg_weights *source, const char *weights)
{
    static const char *const beside[] = {"tokenizer_config.json", "tokenizer.json", "added_tokens.json", "special_tokens_map.json", "processor_config.json",
                                         "chat_template.json"};
    pg_err e = {0};
    pg_tokenizer *tok;
    pg_model_shape s;
    char *from = pg_path_dir(pg_weights_path(source)), *to = pg_path_dir(weights);
    bool hf = pg_ends_with(weights, ".safetensors"), copied = false;
    if (!from || !to) tool_die(t, EXIT_FAIL, "out of memory");
    for (size_t i = 0; hf && i < sizeof beside / sizeof *beside; i++) {
        char *path = pg_path_join(from, beside[i]);
        if (!path) tool_die(t, EXIT_FAIL, "out of memory");
        if (pg_is_file(path)) {
            copy_file(t, path, to, beside[i]);
            copied = true;
        }
        free(path);
    }
    if (pg_tokenizer_open(&tok, from, &e)) {
        tool_note(t, "no tokenizer goes along: %s", e.msg);
    } else {
        copy_file(t, pg_tokenizer_path(tok), to, "tokenizer.model");
        if (hf && !copied && !pg_weights_shape(source, &s, &e)) make_json(t, to, s.vocab);
        pg_tokenizer_free(tok);
    }
    free(from);
    free(to);
}
