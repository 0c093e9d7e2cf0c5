#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "text/text.h"
#include "tool.h"

static const char help[] =
    "usage: pg-tokenize -m MODEL [-p PREFIX] [-l LENGTH] [--keep-case] < STREAM > STREAM\n"
    "Adds the tokens of each example's prefix and suffix, and their masks.\n"
    "\n"
    "  -m, --model MODEL    folder with tokenizer.model, such a file, or weights beside it\n"
    "  -p, --prefix PREFIX  for all examples (default: the example's own, else 'caption en')\n"
    "  -l, --length LENGTH  pad and cut to LENGTH tokens (default, or 0: as long as each is)\n"
    "      --keep-case      do not lower-case suffixes\n"
    "      --max-record SIZE  refuse larger records (default 1G)\n"
    "  -q, --quiet          no remarks\n"
    "  -v, --verbose        more of them\n"
    "  -h, --help           this text\n"
    "      --version        the version\n"
    "\n"
    "  pg-fetch photos/ | pg-resize -m MODEL | pg-tokenize -m MODEL -p 'caption en' > train.pgs\n";

enum { OPT_KEEP_CASE = 256 };

typedef struct options {
    const char *model, *prefix;
    size_t length;
    bool keep_case;
} options;

/* Records with something odd, and the first of them. */
typedef struct oddity {
    uint64_t n;
    char first[128];
} oddity;

typedef struct counts {
    uint64_t examples, eos_lost, lowered;
    oddity cut, newline, control, places, replaced;
} counts;

static void parse(pg_tool *t, options *o)
{
    static const struct option opts[] = {
        {"model", required_argument, NULL, 'm'},  {"prefix", required_argument, NULL, 'p'},
        {"length", required_argument, NULL, 'l'}, {"keep-case", no_argument, NULL, OPT_KEEP_CASE},
        TOOL_MAX_RECORD,
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
    if (o->prefix && !pg_utf8_valid(o->prefix, strlen(o->prefix)))
        tool_usage(t, "--prefix '%s': not valid UTF-8", o->prefix);
    if (o->prefix && o->prefix[0] == '/' && pg_is_dir(o->prefix)) /* PREFIX of an installation, taken for that of the scripts */
        tool_warn(t, "the prefix '%s' is the name of a folder", o->prefix);
    if (!o->model)
        tool_usage(t, "no model given: use -m MODEL");
}

/* {"tokenizer": {"path": ..., "pieces": N}} for the header, so that a stream tells what made its tokens. A path that is not UTF-8 is left out:
 * a msgpack string must be. */
static pg_rec *header_keys(pg_tool *t, const pg_tokenizer *tok)
{
    char *path = realpath(pg_tokenizer_path(tok), NULL);
    if (!path)
        tool_die(t, EXIT_FAIL, "cannot find '%s': %s", pg_tokenizer_path(tok), strerror(errno));
    pg_rec *r = pg_rec_new();
    bool text = pg_utf8_valid(path, strlen(path));
    msgpack_sbuffer b;
    msgpack_packer p;
    pg_err e;

    msgpack_sbuffer_init(&b);
    msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
    if (!r || msgpack_pack_map(&p, text ? 2 : 1) ||
        (text && (msgpack_pack_str_with_body(&p, "path", 4) || msgpack_pack_str_with_body(&p, path, strlen(path)))) ||
        msgpack_pack_str_with_body(&p, "pieces", 6) || msgpack_pack_uint64(&p, pg_tokenizer_size(tok)))
        tool_no_memory(t);
    if (pg_rec_set_raw(r, "tokenizer", b.data, b.size, &e) < 0)
        tool_die(t, EXIT_FAIL, "%s", e.msg);
    msgpack_sbuffer_destroy(&b);
    free(path);
    return r;
}

static int get_prefix(const options *o, const pg_rec *rec, const char **s, size_t *n, bool *replaced, pg_err *e)
{
    int r;

    *replaced = false;
    r = pg_rec_str(rec, "prefix", s, n, e);
    if (o->prefix) {
        *replaced = r > 0 && (*n != strlen(o->prefix) || memcmp(*s, o->prefix, *n));
        *s = o->prefix;
        *n = strlen(*s);
        return PG_OK;
    }
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

static void notice(oddity *o, const tool_pipe *p)
{
    if (o->n++ == 0)
        tool_id(p, o->first, sizeof o->first);
}

static bool holds(const char *s, size_t n, const char *what)
{
    size_t len = strlen(what);
    for (size_t i = 0; i + len <= n; i++)
        if (!memcmp(s + i, what, len))
            return true;
    return false;
}

/* "<loc" and four digits, "<seg" and three, ">": names of places in the picture. */
static bool holds_place(const char *s, size_t n)
{
    for (size_t i = 0; i + 8 <= n; i++) {
        size_t digits = !memcmp(s + i, "<loc", 4) ? 4 : !memcmp(s + i, "<seg", 4) ? 3 : 0, k = 0;
        while (k < digits && i + 4 + k < n && s[i + 4 + k] >= '0' && s[i + 4 + k] <= '9')
            k++;
        if (digits && k == digits && i + 4 + k < n && s[i + 4 + k] == '>')
            return true;
    }
    return false;
}

/* Text that does not become what its writer may have meant. */
static void look_at(const pg_tokenizer *tok, const tool_pipe *p, const char *prefix, size_t n_prefix, const char *suffix, size_t n_suffix, counts *n)
{
    static const char *const controls[] = {"<bos>", "<eos>", "<pad>", "<image>", "<unk>", "<start_of_turn>"};
    bool control = false;

    for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++)
        control = control || holds(prefix, n_prefix, controls[i]) || holds(suffix, n_suffix, controls[i]);
    if (control)
        notice(&n->control, p);
    if (n_prefix && prefix[n_prefix - 1] == '\n')
        notice(&n->newline, p);
    if (!pg_tokenizer_has_places(tok) && (holds_place(prefix, n_prefix) || holds_place(suffix, n_suffix)))
        notice(&n->places, p);
}

static int tokenize(const options *o, const pg_tokenizer *tok, const tool_pipe *p, pg_prompt *prompt, pg_buf *low,
                    counts *n, pg_err *e)
{
    const char *prefix, *suffix;
    size_t n_prefix, n_suffix;
    bool lowered, replaced;
    int r;

    if ((r = get_prefix(o, p->rec, &prefix, &n_prefix, &replaced, e)) < 0 ||
        (r = get_suffix(o, p->rec, low, &suffix, &n_suffix, &lowered, e)) < 0 ||
        (r = pg_prompt_make(tok, prefix, n_prefix, suffix, n_suffix, o->length, prompt, e)) < 0 ||
        (r = set_prompt(p->rec, prompt, e)) < 0)
        return r;
    n->examples++;
    n->lowered += lowered;
    if (replaced)
        notice(&n->replaced, p);
    if (prompt->truncated)
        notice(&n->cut, p);
    n->eos_lost += prompt->eos_lost;
    look_at(tok, p, prefix, n_prefix, suffix, n_suffix, n);
    return PG_OK;
}

static void remarks(pg_tool *t, const options *o, const counts *n)
{
    if (n->lowered)
        tool_warn(t, "lower-cased %" PRIu64 " suffix%s, as the notebook does; --keep-case keeps them as they are", n->lowered, n->lowered == 1 ? "" : "es");
    if (n->replaced.n)
        tool_info(t, "%" PRIu64 " example%s own, which --prefix replaces; the first is '%s'", n->replaced.n,
                  n->replaced.n == 1 ? " has a prefix of its" : "s have prefixes of their", n->replaced.first);
    if (n->cut.n)
        tool_warn(t, "%" PRIu64 " of %" PRIu64 " examples were cut to %zu tokens, %" PRIu64 " lost their eos; the first is '%s'", n->cut.n, n->examples,
                  o->length, n->eos_lost, n->cut.first);
    if (n->newline.n)
        tool_warn(t, "%" PRIu64 " prefix%s with a new line; the one that parts prefix and suffix is added here; the first is '%s'", n->newline.n,
                  n->newline.n == 1 ? " ends" : "es end", n->newline.first);
    if (n->control.n)
        tool_warn(t, "%" PRIu64 " example%s <bos>, <eos>, <image> or the like, which is text here and no token: leave it out; the first is '%s'", n->control.n,
                  n->control.n == 1 ? " holds" : "s hold", n->control.first);
    if (n->places.n)
        tool_warn(t, "%" PRIu64 " example%s places such as <loc0000>, which this tokenizer splits; the first is '%s'", n->places.n,
                  n->places.n == 1 ? " names" : "s name", n->places.first);
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
    tool_open_in(&t, &p, 0, "standard input", "examples");
    extra = header_keys(&t, tok);
    tool_open_out(&t, &p, NULL, extra);
    while (tool_next(&t, &p)) {
        if (!pg_rec_passes(p.rec) && (r = tokenize(&o, tok, &p, &prompt, &low, &n, &e)) < 0) {
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
