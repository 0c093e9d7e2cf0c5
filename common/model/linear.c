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
    for (size_t b = 0; b < l->blocks; b++) {
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
    for (size_t b = 0; b < l->blocks; b++) {
        if (dx) {
            pg_mat w = transposed(block_of(l, b));
            pg_gemm(k, R, l->in, width, dy + b * width, l->out, false, &w, add_dx || b ? 1.0f : 0.0f, dx, l->in);
        }
        if (l->gw) {
            pg_mat d = {.data = dy + b * width, .type = PG_MAT_F32, .rows = R, .cols = width, .ld = l->out};
            pg_gemm(k, l->in, width, R, x, l->in, true, &d, 1.0f, l->gw + b * l->in * width, width);
        }
    }
    if (l->gbias)
        pg_add_bias_back(k, l->gbias, dy, R, l->out);
    if (l->lora)
        pg_lora_back(k, l, dx, dy, x, R);
}
