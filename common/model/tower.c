/* Which image tower a model has. */
#include <inttypes.h>
#include <stdio.h>

#include "model/loss.h"

static bool adapted(const pg_model *m)
{
    bool is = m->patch.lora || m->head.lora;
    for (size_t l = 0; l < m->s.vit_depth; l++) {
        const pg_vit_layer *v = &m->vit[l];
        is = is || v->q.lora || v->k.lora || v->v.lora || v->o.lora || v->fc1.lora || v->fc2.lora;
    }
    return is;
}

int pg_model_tower(pg_model *m, const char **name, pg_err *e)
{
    uint32_t crc;
    if (pg_trains_image(m))
        return pg_error(e, PG_EINVAL, "the image tower is trained, so features that were stored are not its own: give pixels");
    if (adapted(m))
        return pg_error(e, PG_EINVAL, "an adapter changes the image tower, so features that were stored are not its own: give pixels");
    int rc = *m->tower ? PG_OK : pg_weights_tower(m->weights, &crc, e);
    if (rc)
        return rc;
    if (!*m->tower)
        snprintf(m->tower, sizeof m->tower, "%08" PRIx32, crc);
    *name = m->tower;
    return PG_OK;
}
