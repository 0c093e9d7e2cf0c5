#include "model/layers.h"
#include "model/lora.h"

static pg_mat block_of(const pg_linear *l, size_t b)
{
    pg_mat w = l->w;
    w.data = (const unsigned char *)l->w.data + b * l->block_bytes;
    return w;
}

static pg_mat transposed(pg_mat w)
{
    size_t rows = w.rows;
    w.rows = w.cols;
    w.cols = rows;
    w.trans = !w.trans;
    return w;
}

static void product(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R, float beta)
{
    size_t width = l->out / l->blocks;
    pg_half_mat all = {.m = l->w, .blocks = l->blocks, .step = l->block_bytes};
    bool done = l->quant || l->packed || (l->blocks > 1 && pg_gemm_half(k, R, l->out, l->in, x, l->in, false, &all, beta, y, l->out));
    if (l->quant)
        pg_quant_gemm(k, R, x, l->in, l->quant, beta, y, l->out);
    else if (l->packed)
        pg_packed_gemm(k, R, x, l->in, l->packed, beta, y, l->out);
    for (size_t b = 0; !done && b < l->blocks; b++) {
        pg_mat w = block_of(l, b);
        pg_gemm(k, R, width, l->in, x, l->in, false, &w, beta, y + b * width, l->out);
    }
    if (l->bias)
        pg_add_bias(k, y, l->bias, R, l->out);
    if (l->lora)
        pg_lora_forward(k, l, y, x, R);
}

void pg_linear_forward(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R)
{
    product(k, l, y, x, R, 0);
}

void pg_linear_add(pg_kern *k, const pg_linear *l, float *y, const float *x, size_t R)
{
    product(k, l, y, x, R, 1.0f);
}

void pg_linear_back(pg_kern *k, const pg_linear *l, float *dx, bool add_dx, const float *dy, const float *x, size_t R)
{
    size_t width = l->out / l->blocks;
    pg_half_mat below = {.m = transposed(l->w), .blocks = l->blocks, .step = l->block_bytes, .down = true};
    pg_half_mat beside = {.m = {.data = dy, .type = PG_MAT_F32, .rows = R, .cols = width, .ld = l->out}, .blocks = l->blocks,
                          .step = width * sizeof *dy, .c_step = l->in * width};
    bool many = l->blocks > 1;
    bool have_dx = dx && l->packed_back;
    if (have_dx)
        pg_packed_gemm(k, R, dy, l->out, l->packed_back, add_dx ? 1.0f : 0.0f, dx, l->in);
    else
        have_dx = many && dx && pg_gemm_half(k, R, l->in, l->out, dy, l->out, false, &below, add_dx ? 1.0f : 0.0f, dx, l->in);
    bool have_gw = many && l->gw && pg_gemm_half(k, l->in, l->out, R, x, l->in, true, &beside, 1.0f, l->gw, width);
    for (size_t b = 0; b < l->blocks; b++) {
        if (dx && !have_dx) {
            pg_mat w = transposed(block_of(l, b));
            pg_gemm(k, R, l->in, width, dy + b * width, l->out, false, &w, add_dx || b ? 1.0f : 0.0f, dx, l->in);
        }
        if (l->gw && !have_gw) {
            pg_mat d = {.data = dy + b * width, .type = PG_MAT_F32, .rows = R, .cols = width, .ld = l->out};
            pg_gemm(k, l->in, width, R, x, l->in, true, &d, 1.0f, l->gw + b * l->in * width, width);
        }
    }
    if (l->gbias)
        pg_add_bias_back(k, l->gbias, dy, R, l->out);
    if (l->lora)
        pg_lora_back(k, l, dx, dy, x, R);
}
