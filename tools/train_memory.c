/* What fits into memory: whose gradients are held, which layers keep their activations. It changes the time, never the result. */
#include <stdio.h>
#include <string.h>

#include "train.h"

enum { RESERVE = 512 << 20, OWN = 256 << 20 }; /* left to others by default; buffers and code of our own */

/* What the system could give, in bytes; 0: not known. */
static size_t available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
    if (f) fclose(f);
    return (size_t)kib << 10;
}

/* Everything but activations: weights (mapped, but they must stay in memory to be of use), trained copies, gradients, moments, features. */
static size_t besides(const run *r)
{
    size_t trained = 0, features = r->data.n * pg_data_row(&r->data, r->m) * sizeof(float);
    for (size_t i = 0; i < r->m->n_params; i++) trained += r->m->params[i].count * sizeof(float);
    return pg_weights_bytes(r->m->weights) + (r->opt.kind == PG_ADAMW ? 3 : r->opt.momentum > 0 ? 2 : 1) * trained + pg_grads_bytes(r->m) + (features < r->memory ? features : r->memory) + OWN;
}

/* Not where the whole gradient is wanted, to clip it or to add to it: that of other ranks, other batches, other groups of this one. */
void train_share_gradients(run *r, size_t rows)
{
    size_t all = pg_grads_bytes(r->m);
    if (r->opt.clip > 0 || r->link || r->accumulate > 1 || !pg_loss_in_one(r->m, rows, r->batch)) return;
    TRY(pg_grads_share(r->m, e));
    size_t one = pg_grads_bytes(r->m);
    if (one >> 20 < all >> 20) tool_note(&r->t, "%zu MiB of gradients instead of %zu: a layer's weights change as soon as its own is complete", one >> 20, all >> 20);
}

void train_fit_memory(run *r, size_t rows)
{
    size_t have = r->max_memory, fixed = besides(r), most = r->m->s.depth - 1, n = 0;
    if (rows <= r->longest) return;
    r->longest = rows;
    if (!have) {
        have = available();
        if (!have) return;
        have = have > RESERVE ? have - RESERVE : 0;
        if (r->link && r->link->local > 1) { /* the ranks of this host share the mapped weights and divide the rest */
            size_t weights = pg_weights_bytes(r->m->weights);
            have = have > weights ? weights + (have - weights) / r->link->local : have / r->link->local;
        }
    }
    for (; n < most; n++) {
        r->m->recompute = n;
        if (fixed + pg_loss_bytes(r->m, rows, train_share(r)) <= have) break;
    }
    r->m->recompute = n;
    size_t need = fixed + pg_loss_bytes(r->m, rows, train_share(r));
    if (need > have && !r->memory_warned)
        tool_warn(&r->t, "about %zu MiB of memory are needed, %s: %zu", need >> 20,
                  r->max_memory ? "more than --max-memory" : "and less is free", have >> 20);
    r->memory_warned = r->memory_warned || need > have;
    if (need > have) return;
    if (n)
        tool_info(&r->t, "to stay below %zu MiB, %zu of %zu layers compute their activations again instead of keeping them", have >> 20, n,
                  r->m->s.depth);
    else
        tool_note(&r->t, "about %zu MiB of memory, all activations kept", need >> 20);
}
