/* Adapters, and weights that are treated differently from others. */
#include <stdlib.h>
#include <string.h>

#include "model/lora.h"
#include "train.h"

void train_make_adapter(run *r)
{
    pg_lora_counts n;
    TRY(pg_lora_create(r->m, r->targets, r->rank, r->alpha, r->seed, &n, e));
    tool_info(&r->t, "adapters of rank %zu on %zu layers of the language model, %zu of the image tower%s", r->rank, n.language, n.tower,
              n.head ? ", and its head" : "");
    /* PEFT's target_modules "q_proj" does so too, and few who write it want that. */
    if (n.tower && n.language && !strstr(r->targets, "vision") && strcmp(r->targets, ".") != 0 && strcmp(r->targets, ".*") != 0)
        tool_warn(&r->t, "'%s' also matches layers of the image tower: 'language_model.*(%s)' does not", r->targets, r->targets);
}

void train_set_mults(run *r)
{
    if (r->n_lr_mults) TRY(pg_optim_mults(&r->opt.lr_mult, r->m, r->lr_mults, r->n_lr_mults, 1, e));
    if (r->n_wd_mults) TRY(pg_optim_mults(&r->opt.decay, r->m, r->wd_mults, r->n_wd_mults, 0, e));
}

char *train_group_text(const run *r)
{
    pg_buf b = {0};
    int bad = 0;
    if (r->lora) bad |= pg_buf_addf(&b, NULL, "rank %zu\nalpha %.17g\ntargets %s\n", r->rank, r->alpha, r->targets);
    if (r->opt.momentum > 0) bad |= pg_buf_addf(&b, NULL, "momentum %.17g\n", r->opt.momentum);
    if (r->accumulate > 1) bad |= pg_buf_addf(&b, NULL, "accumulate %zu\n", r->accumulate);
    for (size_t i = 0; i < r->n_lr_mults; i++) bad |= pg_buf_addf(&b, NULL, "lr-mult %s\n", r->lr_mults[i]);
    for (size_t i = 0; i < r->n_wd_mults; i++) bad |= pg_buf_addf(&b, NULL, "wd-mult %s\n", r->wd_mults[i]);
    char *text = bad ? NULL : pg_strndup(b.len ? (const char *)b.data : "", b.len);
    pg_buf_free(&b);
    return text;
}
