/* --features: what the image tower makes of each picture, in the place of its pixels. */
#include <stdlib.h>

#include "infer.h"

/* The records held go: those with pixels together through the tower. */
static void go(infer *f, float *out)
{
    size_t n = 0, one = f->m->s.n_image * f->m->s.width;
    const float **pixels = pg_alloc(f->n_slots, sizeof *pixels);
    pg_err e = {0};
    if (!pixels)
        infer_no_memory(f);
    for (size_t i = 0; i < f->held; i++)
        if (!f->slots[i].finished)
            pixels[n++] = f->slots[i].sample.pixels;
    if (n && pg_vit_forward(f->m, pixels, n, out, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    n = 0;
    for (size_t i = 0; i < f->held; i++) {
        slot *s = &f->slots[i];
        if (!s->finished && pg_sample_set_features(s->rec, f->m, out + n++ * one, f->half, &e)) {
            if (e.code == PG_ENOMEM)
                infer_no_memory(f);
            tool_record_error(&f->t, s->rec, "'%s': %s", s->id, e.msg);
        } else {
            f->done += !s->finished;
        }
        tool_put(&f->t, &f->p, s->rec);
    }
    f->held = 0;
    free(pixels);
}

static bool come(infer *f)
{
    slot *s = &f->slots[f->held];
    pg_err e = {0};
    if (!tool_next(&f->t, &f->p))
        return false;
    tool_id(&f->p, s->id, sizeof s->id);
    pg_rec *got = f->p.rec;
    f->p.rec = s->rec;
    s->rec = got;
    f->held++;
    s->finished = pg_rec_has_error(s->rec);
    if (s->finished || !pg_sample_pixels(&s->sample, &f->m->s, s->rec, &e))
        return true;
    if (e.code == PG_ENOMEM)
        infer_no_memory(f);
    tool_record_error(&f->t, s->rec, "'%s': %s", s->id, e.msg);
    s->finished = true;
    return true;
}

void infer_features(infer *f)
{
    size_t n;
    const char *tower;
    pg_err e = {0};
    float *out = pg_mul(f->batch, f->m->s.n_image * f->m->s.width, &n) ? pg_floats(n) : NULL;
    if (!out)
        infer_no_memory(f);
    if (pg_model_tower(f->m, &tower, &e))
        tool_die(&f->t, EXIT_FAIL, "%s", e.msg);
    tool_note(&f->t, "features of image tower %s", tower);
    for (bool more = true; more;) {
        more = come(f);
        if (f->held && (!more || f->held == f->batch || !infer_ready(f)))
            go(f, out);
    }
    free(out);
}
