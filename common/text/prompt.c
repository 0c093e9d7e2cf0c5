#include <stdlib.h>
#include <string.h>

#include "text/text.h"

static int reserve(pg_prompt *p, size_t n, pg_err *e)
{
    int32_t **arrays[] = {&p->tokens, &p->mask_ar, &p->mask_loss, &p->mask_input};

    if (n <= p->cap)
        return PG_OK;
    for (size_t i = 0; i < 4; i++) {
        int32_t *a = pg_realloc(*arrays[i], n, sizeof *a);

        if (!a)
            return pg_error_nomem(e);
        *arrays[i] = a;
    }
    p->cap = n;
    return PG_OK;
}

/* Puts what fits: tokens beyond p->n only count. */
static void put(pg_prompt *p, const int32_t *ids, size_t n, int causal)
{
    for (size_t i = 0; i < n; i++, p->full_length++) {
        if (p->full_length >= p->n)
            continue;
        p->tokens[p->full_length] = ids[i];
        p->mask_ar[p->full_length] = p->mask_loss[p->full_length] = causal;
        p->mask_input[p->full_length] = 1;
    }
}

int pg_prompt_make(const pg_tokenizer *t, const char *prefix, size_t n_prefix, const char *suffix, size_t n_suffix,
                   size_t length, pg_prompt *p, pg_err *e)
{
    static const int32_t bos = PG_BOS, eos = PG_EOS;
    int32_t *a = NULL, *b = NULL, *c = NULL;
    size_t na = 0, nb = 0, nc = 0, total;
    bool has_suffix = suffix && n_suffix;
    int r;

    /* The three are encoded apart, as the reference does: joined, a piece could span the border. */
    if ((r = pg_tokenizer_encode(t, prefix, n_prefix, &a, &na, e)) < 0) {
        r = pg_error_context(e, "prefix");
        goto out;
    }
    if ((r = pg_tokenizer_encode(t, "\n", 1, &b, &nb, e)) < 0)
        goto out;
    if (has_suffix && (r = pg_tokenizer_encode(t, suffix, n_suffix, &c, &nc, e)) < 0) {
        r = pg_error_context(e, "suffix");
        goto out;
    }
    total = 1 + na + nb + (has_suffix ? nc + 1 : 0);
    if ((r = reserve(p, length ? length : total, e)) < 0)
        goto out;
    p->n = length ? length : total;
    p->full_length = 0;
    put(p, &bos, 1, 0);
    put(p, a, na, 0);
    put(p, b, nb, 0);
    if (has_suffix) {
        put(p, c, nc, 1);
        put(p, &eos, 1, 1);
    }
    p->truncated = p->full_length > p->n;
    p->eos_lost = p->truncated && has_suffix;
    for (size_t i = p->full_length; i < p->n; i++) {
        p->tokens[i] = PG_PAD;
        p->mask_ar[i] = p->mask_loss[i] = p->mask_input[i] = 0;
    }
out:
    free(a);
    free(b);
    free(c);
    return r;
}

void pg_prompt_free(pg_prompt *p)
{
    free(p->tokens);
    free(p->mask_ar);
    free(p->mask_loss);
    free(p->mask_input);
    *p = (pg_prompt){0};
}
