/* The inner loop of small and middle-sized products, over panels of B as panel.c packs them: PG_PANEL_VECS vectors of columns wide,
 * rows of K one after another. Included by vec.h. */
enum { PANEL_ROWS = 6 }; /* 6 x 4 (avx512), 6 x 3 (neon) or 6 x 2 (avx2) sums, the vectors of B and one of A fill the registers */

ALWAYS void panel_block(size_t R, size_t W, size_t last, size_t K, const float *A, size_t rsa, size_t csa, const float *P, bool more,
                        float *C, size_t ldc)
{
    vf c[PANEL_ROWS][PANEL_VECS];
    UNROLL
    for (size_t r = 0; r < R; r++)
        UNROLL
        for (size_t x = 0; x < W; x++) c[r][x] = more ? v_get(C + r * ldc + x * VL, x + 1 < W ? VL : last) : v_set(0);
    for (size_t k = 0; k < K; k++) {
        vf b[PANEL_VECS];
        UNROLL
        for (size_t x = 0; x < W; x++) b[x] = v_load(P + (k * W + x) * VL);
        UNROLL
        for (size_t r = 0; r < R; r++) {
            vf a = v_set(A[r * rsa + k * csa]);
            UNROLL
            for (size_t x = 0; x < W; x++) c[r][x] = v_fma(a, b[x], c[r][x]);
        }
    }
    UNROLL
    for (size_t r = 0; r < R; r++)
        UNROLL
        for (size_t x = 0; x < W; x++) v_put(C + r * ldc + x * VL, c[r][x], x + 1 < W ? VL : last);
}

ALWAYS void panel_rows(size_t W, size_t M, size_t last, size_t K, const float *A, size_t rsa, size_t csa, const float *P, bool more,
                       float *C, size_t ldc)
{
    size_t m = 0;
    for (; m + PANEL_ROWS <= M; m += PANEL_ROWS)
        panel_block(PANEL_ROWS, W, last, K, A + m * rsa, rsa, csa, P, more, C + m * ldc, ldc);
    A += m * rsa;
    C += m * ldc;
    switch (M - m) {
    case 5: panel_block(5, W, last, K, A, rsa, csa, P, more, C, ldc); break;
    case 4: panel_block(4, W, last, K, A, rsa, csa, P, more, C, ldc); break;
    case 3: panel_block(3, W, last, K, A, rsa, csa, P, more, C, ldc); break;
    case 2: panel_block(2, W, last, K, A, rsa, csa, P, more, C, ldc); break;
    case 1: panel_block(1, W, last, K, A, rsa, csa, P, more, C, ldc); break;
    default: break;
    }
}

static void panel(size_t M, size_t n, size_t K, const float *A, size_t rsa, size_t csa, const float *P, bool more, float *C, size_t ldc)
{
    size_t w = (n + VL - 1) / VL, last = n - (w - 1) * VL;
    switch (w) {
    case 1: panel_rows(1, M, last, K, A, rsa, csa, P, more, C, ldc); break;
    case 2: panel_rows(2, M, last, K, A, rsa, csa, P, more, C, ldc); break;
#if PANEL_MOST >= 3
    case 3: panel_rows(3, M, last, K, A, rsa, csa, P, more, C, ldc); break;
#endif
#if PANEL_MOST >= 4
    case 4: panel_rows(4, M, last, K, A, rsa, csa, P, more, C, ldc); break;
#endif
    default: break;
    }
}
