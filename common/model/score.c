/* How likely a given text is: one forward pass, logits only where a token counts. */
#include <math.h>
#include <string.h>

#include "model/layers.h"

enum { LOGIT_ROWS = 32 };

/* h [n,D]: the final norm's output at the text tokens. */
static int score_rows(pg_model *m, pg_work *w, const pg_scoring *s, const float *h, pg_err *e)
{
    size_t D = m->s.width, V = m->s.vocab;
    float *logits = pg_work_rows(w, LOGIT_ROWS, V, e), *rows = logits ? pg_work_rows(w, LOGIT_ROWS, D, e) : NULL;
    size_t at[LOGIT_ROWS], n = 0;
    int32_t target[LOGIT_ROWS];
    float weight[LOGIT_ROWS], logp[LOGIT_ROWS];
    if (!rows)
        return PG_ENOMEM;
    for (size_t i = 0; i < LOGIT_ROWS; i++)
        weight[i] = 1.0f;
    for (size_t t = 0; t < s->n; t++) {
        s->logp[t] = 0;
        if (t && s->mask_loss[t]) {
            memcpy(rows + n * D, h + (t - 1) * D, D * sizeof *rows);
            target[n] = s->tokens[t];
            at[n++] = t;
        }
        if (!n || (n < LOGIT_ROWS && t + 1 < s->n))
            continue;
        pg_logits(m, logits, rows, n);
        pg_xent(m->kern, logits, target, weight, logp, n, V, false);
        for (size_t i = 0; i < n; i++) {
            if (!isfinite(logp[i]))
                return pg_error(e, PG_FAIL, "non-finite logits: the weights or the picture hold values that are not numbers");
            s->logp[at[i]] = logp[i];
        }
        n = 0;
    }
    return PG_OK;
}

int pg_score(pg_model *m, pg_work *w, const pg_scoring *s, pg_err *e)
{
    size_t N = m->s.n_image, D = m->s.width, n, R = N + s->n;
    pg_mark mark = pg_work_mark(w);
    uint32_t image, *lim = pg_work_bytes(w, R, sizeof *lim, e), *pos = lim ? pg_work_bytes(w, R, sizeof *pos, e) : NULL;
    float *x = pos ? pg_work_rows(w, R, D, e) : NULL;
    int rc = PG_ENOMEM;
    if (!x || (rc = pg_mask_limits(s->mask_ar, NULL, s->n, N, lim + N, &image, &n, e)))
        goto out;
    for (size_t r = 0; r < R; r++) {
        pos[r] = (uint32_t)r;
        if (r < N)
            lim[r] = image;
    }
    size_t start[] = {0, R};
    pg_rows rows = {1, R, start, pos, lim};
    if (s->features)
        memcpy(x, s->features, N * D * sizeof *x);
    else if ((rc = pg_vit_forward(m, &s->pixels, 1, x, e)))
        goto out;
    if (!(rc = pg_embed(m, x + N * D, s->tokens, s->n, e)) &&
        !(rc = pg_decoder_forward(m, w, x, &rows, NULL, NULL, e)))
        rc = score_rows(m, w, s, x + N * D, e);
out:
    pg_work_release(w, mark);
    return rc;
}
