#include "model/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/model.h"
#include "text/text.h"

/* Of pixels: 1, and room for another program's rounding. */
static const float MOST_PIXEL = 1.01F;

static int missing(pg_err *e, const char *key, const char *tool)
{
    return pg_error(e, PG_EFORMAT, "no '%s' in the record: put %s before this tool", key, tool);
}

/* The largest magnitude, infinite for what is no number. Eight at a time, and without a way out between them, so that compilers make
 * vectors of it; the bits of magnitudes are in the order of what they stand for. */
static float largest(const float *x, size_t n)
{
    enum { WIDE = 8, INFINITE = 0x7f800000 };
    uint32_t most[WIDE] = {0}, u[WIDE], all = 0;
    float f;
    size_t i = 0;
    for (; i + WIDE <= n; i += WIDE) {
        memcpy(u, x + i, sizeof u);
        for (size_t j = 0; j < WIDE; j++) {
            u[j] &= 0x7fffffff;
            most[j] = u[j] > most[j] ? u[j] : most[j];
        }
    }
    memcpy(u, x + i, (n - i) * sizeof *u);
    for (size_t j = 0; j < n - i; j++)
        most[j] = (u[j] & 0x7fffffff) > most[j] ? u[j] & 0x7fffffff : most[j];
    for (size_t j = 0; j < WIDE; j++)
        all = most[j] > all ? most[j] : all;
    all = all < INFINITE ? all : INFINITE;
    memcpy(&f, &all, sizeof f);
    return f;
}

/* The same of floats that lie anywhere, copied to `to`: in pieces that are still in the first-level cache when they are looked at. */
static float largest_copied(float *to, const unsigned char *from, size_t n)
{
    enum { PIECE = 1024 };
    float most = 0;
    for (size_t i = 0; i < n; i += PIECE) {
        size_t take = n - i < PIECE ? n - i : PIECE;
        memcpy(to + i, from + i * sizeof *to, take * sizeof *to);
        most = fmaxf(most, largest(to + i, take));
    }
    return most;
}

static int room_for(float **p, size_t *room, size_t n, pg_err *e)
{
    if (*room >= n)
        return PG_OK;
    free(*p);
    *room = 0;
    if (!(*p = pg_floats(n)))
        return pg_error_nomem(e);
    *room = n;
    return PG_OK;
}

static int check_finite(float most, const char *key, pg_err *e)
{
    return isfinite(most) ? PG_OK : pg_error(e, PG_EFORMAT, "'%s' holds values that are not finite", key);
}

int pg_sample_pixels(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e)
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
    if ((rc = room_for(&s->pixels, &s->pixels_room, n, e)))
        return rc;
    s->has_features = false;
    float most = largest_copied(s->pixels, t.data, n);
    s->beyond = most > MOST_PIXEL;
    return check_finite(most, "pixels", e);
}

/* ---- features instead of pixels ---- */
static int check_tower(const pg_sample *s, const pg_rec *rec, pg_err *e)
{
    const char *mine, *theirs;
    size_t n;
    int rc = pg_model_tower(s->features_of, &mine, e);
    if (rc)
        return rc;
    if ((rc = pg_rec_str(rec, "tower", &theirs, &n, e)) < 0)
        return rc;
    if (!rc)
        return pg_error(e, PG_EFORMAT, "'features' without 'tower': of which image tower they are is not known");
    if (n != strlen(mine) || memcmp(mine, theirs, n))
        return pg_error(e, PG_EFORMAT, "the features are of image tower %.*s, the model's is %s", (int)(n < 16 ? n : 16), theirs, mine);
    return PG_OK;
}

/* 1 where the record has them, 0 where it has none. */
static int read_features(pg_sample *s, const pg_rec *rec, pg_err *e)
{
    pg_tensor t;
    int rc = pg_rec_tensor(rec, "features", &t, e);
    if (rc <= 0)
        return rc;
    if (!s->features_of)
        return pg_error(e, PG_EFORMAT, "features instead of pixels: they serve where the image tower stays as it is");
    const pg_model_shape *shape = &s->features_of->s;
    size_t n = shape->n_image * shape->width;
    bool half = !strcmp(t.type, "<f2");
    if ((!half && strcmp(t.type, "<f4")) || t.ndim != 2)
        return pg_error(e, PG_EFORMAT, "'features' is not a float32 or float16 tensor of image tokens and width");
    if (t.shape[0] != shape->n_image || t.shape[1] != shape->width)
        return pg_error(e, PG_EFORMAT, "features are %zux%zu, the model's %zux%zu", t.shape[0], t.shape[1], shape->n_image, shape->width);
    if (t.bytes != n * (half ? 2 : 4))
        return pg_error(e, PG_EFORMAT, "'features' holds %zu bytes, not %zu", t.bytes, n * (half ? 2 : 4));
    if ((rc = check_tower(s, rec, e)) || (rc = room_for(&s->features, &s->features_room, n, e)))
        return rc;
    for (size_t i = 0; half && i < n; i++) {
        uint16_t h;
        memcpy(&h, t.data + 2 * i, sizeof h);
        s->features[i] = pg_f16_to_f32(h);
    }
    s->has_features = true;
    s->beyond = false;
    rc = check_finite(half ? largest(s->features, n) : largest_copied(s->features, t.data, n), "features", e);
    return rc ? rc : 1;
}

int pg_sample_set_features(pg_rec *rec, pg_model *m, const float *features, bool half, pg_err *e)
{
    size_t n = m->s.n_image * m->s.width;
    pg_tensor t = {.type = "<f4", .ndim = 2, .shape = {m->s.n_image, m->s.width}, .data = (const unsigned char *)features, .bytes = n * sizeof *features};
    const char *tower;
    uint16_t *h = half ? pg_alloc(n, sizeof *h) : NULL;
    int rc = half && !h ? pg_error_nomem(e) : pg_model_tower(m, &tower, e);
    if (!rc)
        rc = check_finite(largest(features, n), "features", e);
    for (size_t i = 0; half && !rc && i < n; i++) {
        h[i] = pg_f32_to_f16(features[i]);
        if ((h[i] & 0x7c00) == 0x7c00)
            rc = pg_error(e, PG_EFORMAT, "a feature of %g is beyond the range of float16", (double)features[i]);
    }
    if (half) {
        memcpy(t.type, "<f2", 4);
        t.data = (const unsigned char *)h;
        t.bytes = n * sizeof *h;
    }
    if (!rc && !(rc = pg_rec_set_tensor(rec, "features", &t, e)) && !(rc = pg_rec_set_str(rec, "tower", tower, strlen(tower), e)))
        pg_rec_del(rec, "pixels");
    free(h);
    return rc;
}

uint64_t pg_sample_picture(const pg_sample *s, const pg_model_shape *shape)
{
    if (s->has_features)
        return pg_mix_floats(PG_MIX, s->features, shape->n_image * shape->width);
    return pg_mix_floats(PG_MIX, s->pixels, shape->image_size * shape->image_size * 3);
}

/* The picture: pixels where there are any. */
static int read_picture(pg_sample *s, const pg_model_shape *shape, const pg_rec *rec, pg_err *e)
{
    int rc = pg_rec_has(rec, "pixels") ? 0 : read_features(s, rec, e);
    return rc ? (rc < 0 ? rc : PG_OK) : pg_sample_pixels(s, shape, rec, e);
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
    if ((rc = read_picture(s, shape, rec, e)) || (rc = pg_rec_ints(rec, "tokens", &s->tokens, &stored, e)) < 0)
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
    free(s->features);
    *s = (pg_sample){0};
}
