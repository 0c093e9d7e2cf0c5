#include "model/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "text/text.h"

static int missing(pg_err *e, const char *key, const char *tool)
{
    return pg_error(e, PG_EFORMAT, "no '%s' in the record: put %s before this tool", key, tool);
}

/* Eight at a time, and without a way out between them, so that compilers make vectors of it. */
static bool all_finite(const float *x, size_t n)
{
    enum { WIDE = 8 };
    uint32_t most[WIDE] = {0}, u[WIDE], bad = 0;
    size_t i = 0;
    for (; i + WIDE <= n; i += WIDE) {
        memcpy(u, x + i, sizeof u);
        for (size_t j = 0; j < WIDE; j++) {
            u[j] &= 0x7fffffff;
            most[j] = u[j] > most[j] ? u[j] : most[j];
        }
    }
    for (size_t j = 0; j < WIDE; j++)
        bad |= most[j] >= 0x7f800000;
    for (; i < n; i++)
        bad |= !isfinite(x[i]);
    return !bad;
}

static int read_pixels(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e)
{
    pg_tensor t;
    size_t side = shape->image_size, n = side * side * 3;
    int rc = pg_rec_tensor(rec, "pixels", &t, e);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return missing(e, "pixels", "pg-resize");
    if (strcmp(t.type, "<f4") || t.ndim != 3 || t.shape[2] != 3)
        return pg_error(e, PG_EFORMAT, "'pixels' is not a float32 tensor of height, width and 3");
    if (t.shape[0] != side || t.shape[1] != side)
        return pg_error(e, PG_EFORMAT, "pixels are %zux%zu, the model wants %zux%zu: pg-resize -s %zu", t.shape[1], t.shape[0],
                        side, side, side);
    if (t.bytes != n * sizeof(float))
        return pg_error(e, PG_EFORMAT, "'pixels' holds %zu bytes, not %zu", t.bytes, n * sizeof(float));
    if (s->pixels_room < n) {
        free(s->pixels);
        s->pixels_room = 0;
        if (!(s->pixels = pg_floats(n)))
            return pg_error_nomem(e);
        s->pixels_room = n;
    }
    memcpy(s->pixels, t.data, t.bytes);
    if (!all_finite(s->pixels, n))
        return pg_error(e, PG_EFORMAT, "'pixels' holds values that are not finite");
    return PG_OK;
}

/* A list as long as the tokens; where it may be absent, *v is filled with `otherwise`. */
static int read_list(const pg_rec *rec, const char *key, int32_t **v, size_t n, bool needed, int32_t otherwise, pg_err *e)
{
    size_t found;
    int rc = pg_rec_ints(rec, key, v, &found, e);
    if (rc < 0)
        return rc;
    if (rc && found != n)
        return pg_error(e, PG_EFORMAT, "'%s' has %zu values for %zu tokens", key, found, n);
    if (rc)
        return PG_OK;
    if (needed)
        return missing(e, key, "pg-tokenize");
    if (!(*v = pg_alloc(n, sizeof **v)))
        return pg_error_nomem(e);
    for (size_t i = 0; i < n; i++)
        (*v)[i] = otherwise;
    return PG_OK;
}

static void forget(pg_sample *s)
{
    free(s->tokens);
    free(s->mask_ar);
    free(s->mask_loss);
    free(s->mask_input);
    s->tokens = s->mask_ar = s->mask_loss = s->mask_input = NULL;
    s->n = s->n_prefix = s->n_loss = 0;
}

/* What no text is made of: padding that would be looked at, a beginning that is missing or there twice. */
static int check_control(const pg_sample *s, pg_err *e)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->tokens[i] == PG_PAD)
            return pg_error(e, PG_EFORMAT, "token %zu is padding (0), but 'mask_input' does not say so: it would be seen", i);
        if (i && s->tokens[i] == PG_BOS)
            return pg_error(e, PG_EFORMAT, "token %zu is bos (2), which stands at the beginning alone", i);
    }
    return s->tokens[0] == PG_BOS ? PG_OK : pg_error(e, PG_EFORMAT, "the tokens begin with %d, not with bos (2)", (int)s->tokens[0]);
}

static int check_text(pg_sample *s, const pg_model_shape *shape, size_t stored, pg_err *e)
{
    uint32_t image, *lim = pg_alloc(stored + 1, sizeof *lim);
    int rc = lim ? pg_mask_limits(s->mask_ar, s->mask_input, stored, shape->n_image, lim, &image, &s->n, e) : pg_error_nomem(e);
    free(lim);
    if (rc)
        return rc;
    for (size_t i = 0; i < stored; i++) {
        if (s->tokens[i] < 0 || (size_t)s->tokens[i] >= shape->vocab)
            return pg_error(e, PG_EFORMAT, "token %d is outside the model's vocabulary of %zu: tokens of another model",
                            (int)s->tokens[i], shape->vocab);
        if (s->mask_loss[i] != 0 && s->mask_loss[i] != 1)
            return pg_error(e, PG_EFORMAT, "'mask_loss' holds %d, not 0 or 1", (int)s->mask_loss[i]);
        if (s->mask_loss[i] && i >= s->n)
            return pg_error(e, PG_EFORMAT, "'mask_loss' counts token %zu, which is padding", i);
        if (i && s->mask_loss[i] && !s->mask_ar[i])
            return pg_error(e, PG_EFORMAT, "token %zu is to be predicted (mask_loss 1) and seen at the same time (mask_ar 0)", i);
        s->n_loss += i && s->mask_loss[i];
    }
    while (s->n_prefix < s->n && !s->mask_ar[s->n_prefix])
        s->n_prefix++;
    /* A prefix that is not fully visible would be cut there, and the caption be of what is left. */
    for (size_t i = s->n_prefix; i < s->n; i++)
        if (!s->mask_loss[i])
            return pg_error(e, PG_EFORMAT, "token %zu is neither prefix (mask_ar 0) nor suffix (mask_loss 1)", i);
    return s->n_prefix ? check_control(s, e) : pg_error(e, PG_EFORMAT, "'tokens' has no prefix");
}

int pg_sample_read(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e)
{
    size_t stored;
    int rc;
    forget(s);
    if ((rc = read_pixels(s, shape, rec, e)) || (rc = pg_rec_ints(rec, "tokens", &s->tokens, &stored, e)) < 0)
        return rc;
    if (!rc)
        return missing(e, "tokens", "pg-tokenize");
    if ((rc = read_list(rec, "mask_ar", &s->mask_ar, stored, true, 0, e)) ||
        (rc = read_list(rec, "mask_input", &s->mask_input, stored, false, 1, e)) ||
        (rc = read_list(rec, "mask_loss", &s->mask_loss, stored, false, 0, e)))
        return rc;
    return check_text(s, shape, stored, e);
}

void pg_sample_free(pg_sample *s)
{
    forget(s);
    free(s->pixels);
    *s = (pg_sample){0};
}
