#include <errno.h>
#include <limits.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/text.h"
#include "tool.h"

static const char help[] =
    "usage: pg-tokenize -m MODEL [-p PREFIX] [-l LENGTH] [--keep-case] < STREAM > STREAM\n"
    "Adds the tokens of each example's prefix and suffix, and their masks.\n"
    "\n"
    "  -m, --model MODEL    folder with tokenizer.model, or such a file\n"
    "  -p, --prefix PREFIX  for all examples (default: the example's own, else 'caption en')\n"
    "  -l, --length LENGTH  pad and cut to LENGTH tokens (default, or 0: as long as each is)\n"
    "      --keep-case      do not lower-case suffixes\n"
    "  -q, --quiet          no remarks\n"
    "  -v, --verbose        more of them\n"
    "  -h, --help           this text\n"
    "      --version        the version\n"
    "\n"
    "  pg-fetch photos/ | pg-resize | pg-tokenize -m MODEL -p 'caption en' > train.pgs\n";

enum { OPT_KEEP_CASE = 256 };

typedef struct options {
    const char *model, *prefix;
    size_t length;
    bool keep_case;
} options;

typedef struct counts {
    uint64_t examples, cut, eos_lost, lowered;
    char first_cut[128];
} counts;

static void parse(pg_tool *t, options *o)
{
    static const struct option opts[] = {
        {"model", required_argument, NULL, 'm'},  {"prefix", required_argument, NULL, 'p'},
        {"length", required_argument, NULL, 'l'}, {"keep-case", no_argument, NULL, OPT_KEEP_CASE},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = tool_getopt(t, "m:p:l:", opts, false)) != -1) {
        switch (c) {
        case 'm':
            o->model = optarg;
            break;
        case 'p':
            o->prefix = optarg;
            break;
        case 'l':
            o->length = tool_size(t, "--length", optarg, 0, 1u << 20);
            break;
        case OPT_KEEP_CASE:
            o->keep_case = true;
            break;
        }
    }
    if (optind < t->argc)
        tool_usage(t, "unexpected operand '%s'", t->argv[optind]);
    if (!o->model)
        tool_usage(t, "no model given: use -m MODEL");
}

/* {"tokenizer": {"path": ..., "pieces": N}} for the header, so that a stream tells what made its tokens. */
static pg_rec *header_keys(pg_tool *t, const pg_tokenizer *tok)
{
    char *path = realpath(pg_tokenizer_path(tok), NULL);
    if (!path)
        tool_die(t, EXIT_FAIL, "cannot find '%s': %s", pg_tokenizer_path(tok), strerror(errno));
    pg_rec *r = pg_rec_new();
    msgpack_sbuffer b;
    msgpack_packer p;
    pg_err e;

    msgpack_sbuffer_init(&b);
    msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
    if (!r || msgpack_pack_map(&p, 2) || msgpack_pack_str_with_body(&p, "path", 4) ||
        msgpack_pack_str_with_body(&p, path, strlen(path)) || msgpack_pack_str_with_body(&p, "pieces", 6) ||
        msgpack_pack_uint64(&p, pg_tokenizer_size(tok)))
        tool_die(t, EXIT_FAIL, "no memory");
    if (pg_rec_set_raw(r, "tokenizer", b.data, b.size, &e) < 0)
        tool_die(t, EXIT_FAIL, "%s", e.msg);
    msgpack_sbuffer_destroy(&b);
    free(path);
    return r;
}

static int get_prefix(const options *o, const pg_rec *rec, const char **s, size_t *n, pg_err *e)
{
    int r;

    if (o->prefix) {
        *s = o->prefix;
        *n = strlen(*s);
        return PG_OK;
    }
    r = pg_rec_str(rec, "prefix", s, n, e);
    if (r == 0) {
        *s = "caption en";
        *n = strlen(*s);
    }
    return r < 0 ? r : PG_OK;
}

/* The suffix as it is trained on; NULL where the example has none. */
static int get_suffix(const options *o, const pg_rec *rec, pg_buf *low, const char **s, size_t *n, bool *lowered, pg_err *e)
{
    int r;

    *lowered = false;
    if ((r = pg_rec_str(rec, "suffix", s, n, e)) <= 0) {
        *s = NULL;
        *n = 0;
        return r;
    }
    if (o->keep_case)
        return PG_OK;
    low->len = 0;
    if ((r = pg_text_lower(*s, *n, low, e)) < 0)
        return pg_error_context(e, "suffix");
    *lowered = low->len != *n || (low->len && memcmp(low->data, *s, low->len));
    *s = low->data ? (const char *)low->data : "";
    *n = low->len;
    return PG_OK;
}

static int set_prompt(pg_rec *rec, const pg_prompt *p, pg_err *e)
{
    int r;

    if ((r = pg_rec_set_ints(rec, "tokens", p->tokens, p->n, e)) < 0 ||
        (r = pg_rec_set_ints(rec, "mask_ar", p->mask_ar, p->n, e)) < 0 ||
        (r = pg_rec_set_ints(rec, "mask_loss", p->mask_loss, p->n, e)) < 0)
        return r;
    return pg_rec_set_ints(rec, "mask_input", p->mask_input, p->n, e);
}

static int tokenize(const options *o, const pg_tokenizer *tok, const tool_pipe *p, pg_prompt *prompt, pg_buf *low,
                    counts *n, pg_err *e)
{
    const char *prefix, *suffix;
    size_t n_prefix, n_suffix;
    bool lowered;
    int r;

    if ((r = get_prefix(o, p->rec, &prefix, &n_prefix, e)) < 0 ||
        (r = get_suffix(o, p->rec, low, &suffix, &n_suffix, &lowered, e)) < 0 ||
        (r = pg_prompt_make(tok, prefix, n_prefix, suffix, n_suffix, o->length, prompt, e)) < 0 ||
        (r = set_prompt(p->rec, prompt, e)) < 0)
        return r;
    n->examples++;
    n->lowered += lowered;
    if (prompt->truncated && n->cut++ == 0)
        tool_id(p, n->first_cut, sizeof n->first_cut);
    n->eos_lost += prompt->eos_lost;
    return PG_OK;
}

static void remarks(pg_tool *t, const options *o, const counts *n)
{
    if (n->lowered)
        tool_info(t, "lower-cased %llu suffixes; --keep-case keeps them", (unsigned long long)n->lowered);
    if (n->cut)
        tool_warn(t, "%llu of %llu examples were cut to %zu tokens, %llu lost their eos; the first is '%s'",
                  (unsigned long long)n->cut, (unsigned long long)n->examples, o->length, (unsigned long long)n->eos_lost,
                  n->first_cut);
}

int main(int argc, char **argv)
{
    pg_tool t;
    options o = {0};
    counts n = {0};
    tool_pipe p = {0};
    pg_tokenizer *tok;
    pg_rec *extra;
    pg_prompt prompt = {0};
    pg_buf low = {0};
    pg_err e;
    int r, status;

    tool_start(&t, "pg-tokenize", help, argc, argv);
    parse(&t, &o);
    if (pg_tokenizer_open(&tok, o.model, &e) < 0)
        tool_die(&t, EXIT_FAIL, "%s", e.msg);
    for (size_t i = 0; pg_tokenizer_warning(tok, i); i++)
        tool_warn(&t, "'%s': %s", pg_tokenizer_path(tok), pg_tokenizer_warning(tok, i));
    tool_open_in(&t, &p, 0, "stdin", "examples");
    extra = header_keys(&t, tok);
    tool_open_out(&t, &p, NULL, extra);
    while (tool_next(&t, &p)) {
        if (!pg_rec_has_error(p.rec) && (r = tokenize(&o, tok, &p, &prompt, &low, &n, &e)) < 0) {
            char id[256];

            if (r == PG_ENOMEM)
                tool_die(&t, EXIT_FAIL, "%s", e.msg);
            tool_record_error(&t, p.rec, "cannot tokenize '%s': %s", tool_id(&p, id, sizeof id), e.msg);
        }
        tool_put(&t, &p, p.rec);
    }
    status = tool_finish(&t, &p, NULL);
    remarks(&t, &o, &n);
    pg_buf_free(&low);
    pg_prompt_free(&prompt);
    pg_rec_free(extra);
    pg_tokenizer_free(tok);
    return status;
}
