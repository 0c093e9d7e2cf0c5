/* The vector versions of ops.h, written once; ops_avx2.c, ops_avx512.c and ops_neon.c define the vector (VL lanes, vf and the v_ functions,
 * all static inline), VEC_NAME and VEC_TABLE, then include this file. A load or store of n < VL lanes touches only those n.
 * Sums are kept in lanes for at most RUN elements and then added up in double. */
enum { RUN = 4096, STREAM = 1 << 18 /* elements of B that are more than a cache keeps */ };

static inline size_t lanes(size_t i, size_t n)
{
    return n - i < VL ? n - i : VL;
}

/* Fills lanes beyond n with fill. */
static inline vf v_load_or(const float *p, size_t n, float fill)
{
    return n == VL ? v_load(p) : v_fill(p, n, fill);
}
static inline vf v_get(const float *p, size_t n)
{
    return n == VL ? v_load(p) : v_load_n(p, n);
}
static inline void v_put(float *p, vf x, size_t n)
{
    if (n == VL)
        v_store(p, x);
    else
        v_store_n(p, x, n);
}

/* exp, relative error below 1.2e-7 from -87.3 to 88.7; 0 below, as its result would be denormal; infinity above. */
static inline vf v_exp(vf x)
{
    const vf low = v_set(-87.33654f), high = v_set(88.8f);
    vf y = v_min(high, v_max(low, x)); /* in this order not-a-number stays */
    vf n = v_round(y * v_set(1.44269504f));
    vf r = v_fma(n, v_set(-0.693359375f), y);
    r = v_fma(n, v_set(2.12194440e-4f), r);
    vf p = v_set(1.9875691500e-4f); /* Cephes */
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    p = v_fma(p, r * r, r) + v_set(1);
    return v_zero_below(v_scale(p, n), x, low);
}

/* tanh: a polynomial near 0 (Cephes), where 1 - 2/(e^2x + 1) would cancel. */
static inline vf v_tanh(vf x)
{
    vf a = v_abs(x), z = x * x;
    vf p = v_set(-5.70498872745e-3f);
    p = v_fma(p, z, v_set(2.06390887954e-2f));
    p = v_fma(p, z, v_set(-5.37397155531e-2f));
    p = v_fma(p, z, v_set(1.33314422036e-1f));
    p = v_fma(p, z, v_set(-3.33332819422e-1f));
    vf near = v_fma(p * z, x, x);
    vf far = v_set(1) - v_set(2) / (v_exp(a + a) + v_set(1));
    return v_select_below(a, v_set(0.625f), near, v_sign_of(far, x));
}

static double sum(const float *x, size_t n)
{
    double total = 0;
    for (size_t at = 0; at < n; at += RUN) {
        size_t end = n - at < RUN ? n : at + RUN;
        vf s = v_set(0);
        for (size_t i = at; i < end; i += VL) s += v_get(x + i, lanes(i, end));
        total += v_sum(s);
    }
    return total;
}

static double sum_squares(const float *x, float mean, size_t n)
{
    double total = 0;
    vf m = v_set(mean);
    for (size_t at = 0; at < n; at += RUN) {
        size_t end = n - at < RUN ? n : at + RUN;
        vf s = v_set(0);
        for (size_t i = at; i < end; i += VL) {
            vf d = v_load_or(x + i, lanes(i, end), mean) - m;
            s = v_fma(d, d, s);
        }
        total += v_sum(s);
    }
    return total;
}

/* In double: what it is for may overflow a float. */
static double sum_squares_wide(const float *x, float mean, size_t n)
{
    if (mean != 0) return sum_squares(x, mean, n);
    double s[VL] = {0}, total = 0;
    size_t i = 0;
    for (; i + VL <= n; i += VL)
        for (size_t j = 0; j < VL; j++) s[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; i < n; i++, j++) s[j] += (double)x[i] * (double)x[i];
    for (size_t j = 0; j < VL; j++) total += s[j];
    return total;
}

static float dot(const float *x, const float *y, size_t n)
{
    vf s = v_set(0);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        s = v_fma(v_get(x + i, l), v_get(y + i, l), s);
    }
    return (float)v_sum(s);
}

static float max(const float *x, size_t n)
{
    vf a = v_set(-INFINITY), b = a;
    size_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        a = v_max(v_load(x + i), a);
        b = v_max(v_load(x + i + VL), b);
    }
    for (; i < n; i += VL) a = v_max(v_load_or(x + i, lanes(i, n), -INFINITY), a);
    return v_largest(v_max(a, b));
}

static bool all_finite(const float *x, size_t n)
{
    vf bad = v_set(0); /* x * 0 is 0, or not a number */
    for (size_t i = 0; i < n; i += VL) bad += v_get(x + i, lanes(i, n)) * v_set(0);
    return v_sum(bad) == 0;
}

static void scale(float *x, float a, size_t n)
{
    if (a == 0) {
        memset(x, 0, n * sizeof *x);
        return;
    }
    vf f = v_set(a);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        v_put(x + i, v_get(x + i, l) * f, l);
    }
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    vf f = v_set(a);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        v_put(y + i, v_fma(f, v_get(x + i, l), v_get(y + i, l)), l);
    }
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        v_put(y + i, v_get(y + i, l) + v_get(x + i, l), l);
    }
}

/* Lanes of a matrix of any type, at any alignment; type is a constant where it is called. v_part: n of them, also none or all. */
static inline __attribute__((always_inline)) vf v_part(const unsigned char *p, pg_mat_type type, size_t n)
{
    return type == PG_MAT_F32 ? v_any_n(p, n) : type == PG_MAT_F16 ? v_f16_n(p, n) : v_bf16_n(p, n);
}
static inline __attribute__((always_inline)) vf v_wide(const unsigned char *p, pg_mat_type type, size_t n)
{
    if (n < VL) return v_part(p, type, n);
    return type == PG_MAT_F32 ? v_load_any(p) : type == PG_MAT_F16 ? v_f16(p) : v_bf16(p);
}

static inline __attribute__((always_inline)) void widen_as(float *y, const unsigned char *x, pg_mat_type type, size_t n)
{
    size_t w = pg_mat_bytes(type), i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_wide(x + i * w, type, VL));
    if (i < n) v_store_n(y + i, v_wide(x + i * w, type, n - i), n - i);
}

static void widen(float *y, const void *x, pg_mat_type type, size_t n)
{
    if (type == PG_MAT_F32)
        memcpy(y, x, n * sizeof *y);
    else if (type == PG_MAT_F16)
        widen_as(y, x, PG_MAT_F16, n);
    else
        widen_as(y, x, PG_MAT_BF16, n);
}

static void norm(float *y, const float *x, float mean, float rstd, float plus, const float *s, const float *bias, size_t n)
{
    vf m = v_set(mean), r = v_set(rstd), p = v_set(plus);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf v = (v_get(x + i, l) - m) * r * (p + v_get(s + i, l));
        if (bias) v += v_get(bias + i, l);
        v_put(y + i, v, l);
    }
}

static void norm_sums(const float *dy, const float *x, float mean, float rstd, float plus, const float *s, size_t n, double *g,
                      double *gh)
{
    vf m = v_set(mean), r = v_set(rstd), p = v_set(plus);
    *g = *gh = 0;
    for (size_t at = 0; at < n; at += RUN) {
        size_t end = n - at < RUN ? n : at + RUN;
        vf a = v_set(0), b = v_set(0);
        for (size_t i = at; i < end; i += VL) {
            size_t l = lanes(i, end);
            vf d = v_get(dy + i, l) * (p + v_get(s + i, l));
            a += d;
            b = v_fma(d, (v_load_or(x + i, l, mean) - m) * r, b);
        }
        *g += v_sum(a);
        *gh += v_sum(b);
    }
}

static void norm_back(float *dx, const float *dy, const float *x, float mean, float rstd, float plus, const float *s, float a,
                      float b, size_t n)
{
    vf m = v_set(mean), r = v_set(rstd), p = v_set(plus), va = v_set(a), vb = v_set(b);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf h = (v_get(x + i, l) - m) * r, g = v_get(dy + i, l) * (p + v_get(s + i, l));
        v_put(dx + i, v_fma(r, g - va - h * vb, v_get(dx + i, l)), l);
    }
}

/* Sums of 32 rows are added to sums of all rows, so that rounding grows with neither. */
static void norm_cols(float *ds, float *db, const float *dy, const float *x, const float *mean, const float *rstd, size_t rows,
                      size_t ld, size_t n)
{
    for (size_t j = 0; j < n; j += VL) {
        size_t l = lanes(j, n);
        vf s = v_set(0), b = v_set(0);
        for (size_t at = 0; at < rows; at += 32) {
            size_t end = rows - at < 32 ? rows : at + 32;
            vf s32 = v_set(0), b32 = v_set(0);
            for (size_t r = at; r < end; r++) {
                vf d = v_get(dy + r * ld + j, l);
                b32 += d;
                if (ds) s32 = v_fma(d, (v_get(x + r * ld + j, l) - v_set(mean ? mean[r] : 0)) * v_set(rstd[r]), s32);
            }
            s += s32;
            b += b32;
        }
        if (ds) v_put(ds + j, v_get(ds + j, l) + s, l);
        if (db) v_put(db + j, v_get(db + j, l) + b, l);
    }
}

/* -2 sqrt(2/pi) (x + 0.044715 x^3), limited so that exp of it is finite */
static inline vf gelu_exponent(vf x)
{
    vf u = x * v_fma(x * x, v_set(-2 * 0.7978845608f * 0.044715f), v_set(-2 * 0.7978845608f));
    return v_min(v_set(80), u);
}

static void gelu(float *y, const float *x, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf g = v_get(x + i, l), v = g / (v_exp(gelu_exponent(g)) + v_set(1));
        if (up) v *= v_get(up + i, l);
        v_put(y + i, v, l);
    }
}

static void gelu_back(float *dx, float *dup, const float *dy, const float *x, const float *up, size_t n)
{
    const vf one = v_set(1);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf g = v_get(x + i, l), d = v_get(dy + i, l), e = v_exp(gelu_exponent(g)), s = one / (one + e);
        vf du = v_fma(g * g, v_set(2 * 0.7978845608f * 3 * 0.044715f), v_set(2 * 0.7978845608f));
        vf slope = v_fma(g * s * (e * s), du, s), v = d * slope;
        if (up) v *= v_get(up + i, l);
        if (dup) v_put(dup + i, d * g * s, l);
        v_put(dx + i, v, l);
    }
}

static void rope(float *x, const float *c, const float *s, size_t half, float f, float sign)
{
    vf vs = v_set(sign), vfac = v_set(f);
    for (size_t i = 0; i < half; i += VL) {
        size_t l = lanes(i, half);
        vf a = v_get(x + i, l), b = v_get(x + half + i, l), co = v_get(c + i, l), si = v_get(s + i, l) * vs;
        v_put(x + i, (a * co - b * si) * vfac, l);
        v_put(x + half + i, (b * co + a * si) * vfac, l);
    }
}

static float logit(float *s, float f, float cap, size_t n)
{
    vf m = v_set(-INFINITY), vfac = v_set(f), vc = v_set(cap), inv = v_set(cap > 0 ? 1 / cap : 0);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf v = v_get(s + i, l) * vfac;
        if (cap > 0) v = vc * v_tanh(v * inv);
        v_put(s + i, v, l);
        m = v_max(l == VL ? v : v_load_or(s + i, l, -INFINITY), m);
    }
    return v_largest(m);
}

static double exp_sum(float *y, const float *x, float largest, size_t n)
{
    double total = 0;
    vf m = v_set(largest);
    for (size_t at = 0; at < n; at += RUN) {
        size_t end = n - at < RUN ? n : at + RUN;
        vf t = v_set(0);
        for (size_t i = at; i < end; i += VL) {
            size_t l = lanes(i, end);
            vf v = v_exp(v_load_or(x + i, l, -INFINITY) - m);
            if (y) v_put(y + i, v, l);
            t += v;
        }
        total += v_sum(t);
    }
    return total;
}

static void attn_back(float *s, float *dp, float f, float cap, float lse, float delta, size_t n)
{
    vf vfac = v_set(f), vc = v_set(cap), inv = v_set(cap > 0 ? 1 / cap : 0), vl = v_set(lse), vd = v_set(delta);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf a = v_get(s + i, l) * vfac, slope = vfac;
        if (cap > 0) {
            vf t = v_tanh(a * inv);
            a = vc * t;
            slope *= v_set(1) - t * t;
        }
        vf p = v_exp(a - vl);
        v_put(s + i, p, l);
        v_put(dp + i, p * (v_get(dp + i, l) - vd) * slope, l);
    }
}

static void sgd(float *w, const float *g, float lr, size_t n)
{
    vf a = v_set(lr);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        v_put(w + i, v_get(w + i, l) - a * v_get(g + i, l), l);
    }
}

static void adamw(float *w, float *mu, float *nu, const float *grad, const pg_adamw_args *a, size_t n)
{
    const vf b1 = v_set(a->b1), b2 = v_set(a->b2), c1 = v_set(1 - a->b1), c2 = v_set(1 - a->b2);
    for (size_t i = 0; i < n; i += VL) {
        size_t l = lanes(i, n);
        vf g = v_get(grad + i, l) * v_set(a->gscale), x = v_get(w + i, l);
        vf m = b1 * v_get(mu + i, l) + c1 * g, v = b2 * v_get(nu + i, l) + c2 * (g * g);
        v_put(mu + i, m, l);
        v_put(nu + i, v, l);
        vf step = v_set(a->lr) * (m / v_set(a->c1)) / (v_sqrt(v / v_set(a->c2)) + v_set(a->eps)) + v_set(a->wd) * x;
        v_put(w + i, x - v_set(a->schedule) * step, l);
    }
}

/* One strip of n columns in W vectors, M rows of C in registers, along all of K. full: n is W whole vectors, a constant; else it may be
 * any number of them. */
#undef UNROLL
#undef ALWAYS
#if defined(__clang__) && defined(__aarch64__)
#define UNROLL _Pragma("clang loop unroll(full)") /* with the other, 14 leaves loops as they are whose count it learns late */
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8") /* else arrays of sums are not kept in registers */
#endif
#define ALWAYS static inline __attribute__((always_inline))
ALWAYS size_t lanes_of(size_t x, size_t n) { return n < x * VL ? 0 : lanes(x * VL, n); }
ALWAYS void nn_strip(size_t M, size_t W, bool full, size_t n, size_t K, const float *A, size_t lda, const unsigned char *B, pg_mat_type type,
                     size_t ldb, bool more, float *C, size_t ldc)
{
    vf c[PG_SMALL_M][4];
    size_t w = pg_mat_bytes(type);
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < W; x++) c[m][x] = !more ? v_set(0) : full ? v_load(C + m * ldc + x * VL) : v_load_n(C + m * ldc + x * VL, lanes_of(x, n));
    for (size_t k = 0; k < K; k++) {
        const unsigned char *row = B + k * ldb * w;
        vf b[4];
        UNROLL
        for (size_t x = 0; x < W; x++) b[x] = full ? v_wide(row + x * VL * w, type, VL) : v_part(row + x * VL * w, type, lanes_of(x, n));
        UNROLL
        for (size_t m = 0; m < M; m++) {
            vf a = v_set(A[m * lda + k]);
            UNROLL
            for (size_t x = 0; x < W; x++) c[m][x] = v_fma(a, b[x], c[m][x]);
        }
    }
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t x = 0; x < W; x++)
            if (full) v_store(C + m * ldc + x * VL, c[m][x]);
            else v_store_n(C + m * ldc + x * VL, c[m][x], lanes_of(x, n));
}

/* For a B that comes from memory: four rows at a time are added to a run of C that stays in the first-level cache, so that B is
 * read in long runs. The next four rows are asked for early: the jump from row to row defeats the prefetcher. M is a constant only where
 * it is 1: nothing is kept in registers from row to row. */
ALWAYS void nn_stream(size_t M, size_t n, size_t K, const float *A, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                      bool more, float *C, size_t ldc)
{
    size_t w = pg_mat_bytes(type), k = 0;
    for (size_t m = 0; m < M && !more; m++) memset(C + m * ldc, 0, n * sizeof *C);
    for (; k + 4 <= K; k += 4) {
        const unsigned char *b0 = B + k * ldb * w, *b1 = b0 + ldb * w, *b2 = b1 + ldb * w, *b3 = b2 + ldb * w;
        size_t ahead = k + 8 <= K ? 4 * ldb * w : 0;
        for (size_t i = 0; i < n; i += VL) {
            size_t l = lanes(i, n);
            vf r0 = v_wide(b0 + i * w, type, l), r1 = v_wide(b1 + i * w, type, l), r2 = v_wide(b2 + i * w, type, l),
               r3 = v_wide(b3 + i * w, type, l);
            if (i * w % 64 == 0) {
                __builtin_prefetch(b0 + ahead + i * w);
                __builtin_prefetch(b1 + ahead + i * w);
                __builtin_prefetch(b2 + ahead + i * w);
                __builtin_prefetch(b3 + ahead + i * w);
            }
            for (size_t m = 0; m < M; m++) {
                const float *a = A + m * lda + k;
                vf c = v_get(C + m * ldc + i, l);
                c = v_fma(v_set(a[0]), r0, c);
                c = v_fma(v_set(a[1]), r1, c);
                c = v_fma(v_set(a[2]), r2, c);
                v_put(C + m * ldc + i, v_fma(v_set(a[3]), r3, c), l);
            }
        }
    }
    for (; k < K; k++)
        for (size_t i = 0; i < n; i += VL) {
            size_t l = lanes(i, n);
            vf b = v_wide(B + (k * ldb + i) * w, type, l);
            for (size_t m = 0; m < M; m++) v_put(C + m * ldc + i, v_fma(v_set(A[m * lda + k]), b, v_get(C + m * ldc + i, l)), l);
        }
}

#define BY_M(call) /* 1 goes another way */ \
    switch (M) {            \
    case 2: call(2); break; \
    case 3: call(3); break; \
    case 4: call(4); break; \
    case 5: call(5); break; \
    case 6: call(6); break; \
    case 7: call(7); break; \
    default: call(8); break; \
    }

ALWAYS void nn_as(size_t M, size_t n, size_t K, const float *A, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                  bool more, float *C, size_t ldc)
{
    size_t i = 0, w = pg_mat_bytes(type);
    if (M == 1) {
        nn_stream(1, n, K, A, lda, B, type, ldb, more, C, ldc);
        return;
    }
    if (K * ldb > STREAM) {
        nn_stream(M, n, K, A, lda, B, type, ldb, more, C, ldc);
        return;
    }
    for (; i + WIDE * VL <= n; i += WIDE * VL)
#define CALL(m) nn_strip(m, WIDE, true, WIDE * VL, K, A, lda, B + i * w, type, ldb, more, C + i, ldc)
        BY_M(CALL)
#undef CALL
    for (; i < n; i += REST * VL)
#define CALL(m) nn_strip(m, REST, false, n - i < REST * VL ? n - i : REST * VL, K, A, lda, B + i * w, type, ldb, more, C + i, ldc)
        BY_M(CALL)
#undef CALL
}

static void gemm_nn(size_t M, size_t n, size_t K, const float *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool more,
                    float *C, size_t ldc)
{
    if (type == PG_MAT_F32)
        nn_as(M, n, K, A, lda, B, PG_MAT_F32, ldb, more, C, ldc);
    else if (type == PG_MAT_F16)
        nn_as(M, n, K, A, lda, B, PG_MAT_F16, ldb, more, C, ldc);
    else
        nn_as(M, n, K, A, lda, B, PG_MAT_BF16, ldb, more, C, ldc);
}

/* Rows of B against M rows of A. For one row of A two sums (pairs), so that additions do not wait for each other; for more, some rows of
 * B at a time, so that A, from the second-level cache, is read less often. */
ALWAYS void nt_rows(size_t M, size_t R, bool pairs, size_t K, const float *A, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                    bool more, float *C, size_t ldc)
{
    size_t w = pg_mat_bytes(type), k = 0;
    vf s[PG_SMALL_M][4], t = v_set(0);
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t r = 0; r < R; r++) s[m][r] = v_set(0);
    if (M * R == 1 && pairs)
        for (; k + 2 * VL <= K; k += 2 * VL) {
            s[0][0] = v_fma(v_load(A + k), v_wide(B + k * w, type, VL), s[0][0]);
            t = v_fma(v_load(A + k + VL), v_wide(B + (k + VL) * w, type, VL), t);
        }
    for (; k + VL <= K; k += VL) {
        vf b[4];
        UNROLL
        for (size_t r = 0; r < R; r++) b[r] = v_wide(B + (r * ldb + k) * w, type, VL);
        UNROLL
        for (size_t m = 0; m < M; m++) {
            vf a = v_load(A + m * lda + k);
            UNROLL
            for (size_t r = 0; r < R; r++) s[m][r] = v_fma(a, b[r], s[m][r]);
        }
    }
    if (k < K)
        UNROLL
        for (size_t m = 0; m < M; m++) {
            vf a = v_load_n(A + m * lda + k, K - k);
            UNROLL
            for (size_t r = 0; r < R; r++) s[m][r] = v_fma(a, v_wide(B + (r * ldb + k) * w, type, K - k), s[m][r]);
        }
    s[0][0] += t;
    UNROLL
    for (size_t m = 0; m < M; m++)
        UNROLL
        for (size_t r = 0; r < R; r++) {
            float v = (float)v_sum(s[m][r]), *c = C + m * ldc + r;
            *c = more ? *c + v : v;
        }
}

ALWAYS void nt_as(size_t M, size_t n, size_t K, const float *A, size_t lda, const unsigned char *B, pg_mat_type type, size_t ldb,
                  bool more, float *C, size_t ldc)
{
    size_t w = pg_mat_bytes(type), i = 0;
    for (; M > 1 && i + NT_ROWS <= n; i += NT_ROWS)
#define CALL(m) nt_rows(m, NT_ROWS, true, K, A, lda, B + i * ldb * w, type, ldb, more, C + i, ldc)
        BY_M(CALL)
#undef CALL
    /* All of B for one row of A; else the last few, one sum each as before them. */
    for (; i < n; i++)
        for (size_t m = 0; m < M; m++) nt_rows(1, 1, M == 1, K, A + m * lda, lda, B + i * ldb * w, type, ldb, more, C + m * ldc + i, ldc);
}

static void gemm_nt(size_t M, size_t n, size_t K, const float *A, size_t lda, const void *B, pg_mat_type type, size_t ldb, bool more,
                    float *C, size_t ldc)
{
    if (type == PG_MAT_F32)
        nt_as(M, n, K, A, lda, B, PG_MAT_F32, ldb, more, C, ldc);
    else if (type == PG_MAT_F16)
        nt_as(M, n, K, A, lda, B, PG_MAT_F16, ldb, more, C, ldc);
    else
        nt_as(M, n, K, A, lda, B, PG_MAT_BF16, ldb, more, C, ldc);
}

#include "kernels/vec_panel.h"

/* Where the file has v_turn, for blocks of VL x VL. */
#ifdef VEC_TURN
static void turn(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols)
{
    size_t r = 0;
    for (; r + VL <= rows; r += VL) {
        size_t c = 0;
        for (; c + VL <= cols; c += VL) v_turn(y + c * ldy + r, ldy, x + r * ldx + c, ldx);
        if (c < cols) pg_turn(y + c * ldy + r, ldy, x + r * ldx + c, ldx, VL, cols - c);
    }
    if (r < rows) pg_turn(y + r, ldy, x + r * ldx, ldx, rows - r, cols);
}
#define TURN turn
#else
#define TURN pg_turn
#endif

const pg_ops VEC_TABLE = {.name = VEC_NAME, .sum = sum, .sum_squares = sum_squares_wide, .dot = dot, .max = max,
    .all_finite = all_finite, .scale = scale, .axpy = axpy, .add = add, .widen = widen, .norm = norm, .norm_sums = norm_sums,
    .norm_back = norm_back, .norm_cols = norm_cols, .gelu = gelu, .gelu_back = gelu_back, .rope = rope, .logit = logit,
    .exp_sum = exp_sum, .attn_back = attn_back, .sgd = sgd, .adamw = adamw, .gemm_nn = gemm_nn, .gemm_nt = gemm_nt,
    .turn = TURN, .lanes = VL, .panel_cols = VL * PANEL_VECS, .panel = panel};
