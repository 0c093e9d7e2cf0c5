/* Another picture size: position embeddings on another grid. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "weights/internal.h"

static void put_value(unsigned char *to, float f, pg_dtype t)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    pg_put(to, t == PG_F32 ? u : t == PG_F16 ? pg_f32_to_f16(f) : pg_f32_to_bf16(f), pg_dtype_size(t));
}

/* Corner on corner: new index i lies at i * (old - 1) / (new - 1) of the old ones. */
static double place(size_t i, size_t now, size_t was, size_t *low)
{
    double x = now > 1 ? (double)i * (double)(was - 1) / (double)(now - 1) : 0;
    *low = (size_t)x;
    if (*low + 1 >= was)
        *low = was > 1 ? was - 2 : 0;
    return x - (double)*low;
}

static void interpolate(const float *old, size_t was, unsigned char *out, size_t now, size_t width, pg_dtype t)
{
    size_t size = pg_dtype_size(t), step = was > 1;
    for (size_t y = 0; y < now; y++)
        for (size_t x = 0; x < now; x++) {
            size_t y0, x0;
            double fy = place(y, now, was, &y0), fx = place(x, now, was, &x0);
            const float *a = old + (y0 * was + x0) * width, *b = a + step * width, *c = a + step * was * width, *d = c + step * width;
            for (size_t i = 0; i < width; i++, out += size) {
                double top = (1 - fx) * (double)a[i] + fx * (double)b[i], low = (1 - fx) * (double)c[i] + fx * (double)d[i];
                put_value(out, (float)((1 - fy) * top + fy * low), t);
            }
        }
}

int pg_weights_resize(pg_weights *w, size_t image_size, pg_err *e)
{
    pg_model_shape *s = &w->shape;
    if (w->why.code)
        return pg_error(e, w->why.code, "%s", w->why.msg);
    if (!image_size || image_size % s->patch)
        return pg_error(e, PG_EINVAL, "a picture of %zu pixels is not a whole number of patches of %zu", image_size, s->patch);
    size_t now = image_size / s->patch, was = s->image_size / s->patch, tokens, count, at = 0;
    if (now == was)
        return PG_OK;
    while (at < w->n_canon && strcmp(w->canon[at].name, "img/pos_embedding") != 0)
        at++;
    if (at == w->n_canon || !pg_mul(now, now, &tokens) || !pg_mul(tokens, s->vit_width, &count))
        return pg_error(e, PG_EINVAL, "'%s': no position embeddings for pictures of %zu pixels", w->path, image_size);
    pg_view v;
    int rc = pg_weights_view(w, "img/pos_embedding", 0, PG_WHOLE, &v, e);
    if (rc)
        return rc;
    float *old = pg_alloc(v.count, sizeof *old);
    unsigned char *fresh = old ? pg_alloc(count, pg_dtype_size(v.dtype)) : NULL;
    if (!fresh) {
        free(old);
        return pg_error_nomem(e);
    }
    pg_view_widen(&v, old);
    interpolate(old, was, fresh, now, s->vit_width, v.dtype);
    free(old);
    free(w->pos);
    w->pos = fresh;
    pg_weight *stored = (pg_weight *)(uintptr_t)v.from;
    stored->shape[stored->ndim - 2] = tokens;
    stored->count = count;
    stored->data = fresh;
    w->canon[at].shape[1] = tokens;
    w->dims.of['P'] = tokens;
    s->parameters = s->parameters - s->n_image * s->vit_width + count;
    s->n_image = tokens;
    s->image_size = image_size;
    return PG_OK;
}
