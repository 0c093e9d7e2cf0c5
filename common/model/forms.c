/* Weights in another form than that of the file: as 8-bit integers, or packed as products want them. Every linear layer, and the
 * embedding as the right side of the logits. */
#include "model/open.h"

static size_t vit_linears(pg_vit_layer *l, pg_linear **out)
{
    pg_linear *all[] = {&l->q, &l->k, &l->v, &l->o, &l->fc1, &l->fc2};
    size_t n = sizeof all / sizeof *all;
    for (size_t i = 0; i < n; i++)
        out[i] = all[i];
    return n;
}

static size_t dec_linears(pg_dec_layer *l, pg_linear **out)
{
    pg_linear *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    size_t n = sizeof all / sizeof *all;
    for (size_t i = 0; i < n; i++)
        out[i] = all[i];
    return n;
}

size_t pg_model_linears(pg_model *m, size_t i, pg_linear *out[PG_LINEARS])
{
    if (i < m->s.vit_depth)
        return vit_linears(&m->vit[i], out);
    if (i == m->s.vit_depth) {
        out[0] = &m->head;
        return 1;
    }
    return dec_linears(&m->dec[i - m->s.vit_depth - 1], out);
}

static int make(pg_model *m, pg_linear *l, size_t *bytes, pg_err *e)
{
    pg_half_mat all = {.m = l->w, .blocks = l->blocks, .step = l->block_bytes};
    int rc = l->quant ? PG_OK : pg_quant_new(&l->quant, m->kern, &all, e);
    *bytes += pg_quant_bytes(l->quant);
    return rc;
}

int pg_model_quantise(pg_model *m, size_t *bytes, pg_err *e)
{
    pg_linear *some[PG_LINEARS];
    size_t total = 0;
    int rc = PG_OK;
    if (m->n_params)
        return pg_error(e, PG_EINVAL, "a model that is trained cannot have 8-bit weights");
    for (size_t i = 0; i < m->s.vit_depth + 1 + m->s.depth; i++) {
        size_t n = pg_model_linears(m, i, some);
        for (size_t j = 0; j < n; j++)
            if ((rc = make(m, some[j], &total, e)))
                return rc;
    }
    if (!m->qembed)
        rc = pg_quant_new(&m->qembed, m->kern, &(pg_half_mat){.m = m->embed}, e);
    total += pg_quant_bytes(m->qembed);
    if (bytes)
        *bytes = total;
    return rc;
}

static pg_half_mat turned(pg_half_mat b)
{
    size_t rows = b.m.rows;
    b.m.rows = b.m.cols;
    b.m.cols = rows;
    b.m.trans = !b.m.trans;
    b.down = true;
    return b;
}

int pg_model_pack(pg_model *m, bool back, pg_err *e)
{
    pg_linear *some[PG_LINEARS];
    int rc = PG_OK;
    if (m->s.parameters > PG_SMALL_MODEL)
        return PG_OK;
    for (size_t i = 0; i < m->s.vit_depth + 1 + m->s.depth && !rc; i++) {
        size_t n = pg_model_linears(m, i, some);
        for (size_t j = 0; j < n && !rc; j++) {
            pg_linear *l = some[j];
            pg_half_mat all = {.m = l->w, .blocks = l->blocks, .step = l->block_bytes}, below = turned(all);
            if (l->gw || l->quant)
                continue;
            rc = pg_packed_new(&l->packed, m->kern, &all, e);
            if (!rc && back)
                rc = pg_packed_new(&l->packed_back, m->kern, &below, e);
        }
    }
    pg_half_mat patch = {.m = m->patch.w, .blocks = m->patch.blocks, .step = m->patch.block_bytes};
    if (!rc && !m->patch.gw)
        rc = pg_packed_new(&m->patch.packed, m->kern, &patch, e);
    if (rc || m->gembed || m->qembed)
        return rc;
    pg_half_mat all = {.m = m->embed}, below = turned(all);
    rc = pg_packed_new(&m->packed_embed, m->kern, &all, e);
    if (!rc && back)
        rc = pg_packed_new(&m->packed_embed_back, m->kern, &below, e);
    return rc;
}

void pg_model_free_forms(pg_model *m)
{
    pg_linear *some[PG_LINEARS];
    for (size_t i = 0; m->vit && m->dec && i < m->s.vit_depth + 1 + m->s.depth; i++) {
        size_t n = pg_model_linears(m, i, some);
        for (size_t j = 0; j < n; j++) {
            pg_quant_free(some[j]->quant);
            pg_packed_free(some[j]->packed);
            pg_packed_free(some[j]->packed_back);
            some[j]->quant = NULL;
            some[j]->packed = some[j]->packed_back = NULL;
        }
    }
    pg_packed_free(m->patch.packed);
    m->patch.packed = NULL;
    pg_quant_free(m->qembed);
    pg_packed_free(m->packed_embed);
    pg_packed_free(m->packed_embed_back);
    m->qembed = NULL;
    m->packed_embed = m->packed_embed_back = NULL;
}
