/* Checksums: of values, whatever the layout, and of what a file says of itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "weights/internal.h"

enum { SAMPLE = 1024, CRC_STEP = 1 << 30 };

static uint32_t add(uint32_t crc, const unsigned char *p, size_t n)
{
    for (size_t at = 0; at < n; at += CRC_STEP)
        crc = (uint32_t)crc32(crc, p + at, (uInt)(n - at < CRC_STEP ? n - at : CRC_STEP));
    return crc;
}

static int sum(void *ctx, const void *p, size_t n, pg_err *e)
{
    uint32_t *crc = ctx;
    (void)e;
    *crc = add(*crc, p, n);
    return PG_OK;
}

int pg_weights_checksum(const pg_weights *w, size_t i, uint32_t *crc, pg_dtype *t, pg_err *e)
{
    if (i >= pg_canonical_count(w))
        return pg_error(e, PG_EINVAL, "'%s' has no tensor %zu", w->path, i);
    const pg_canonical *c = &w->canon[i];
    size_t layers = c->layers ? c->layers : 1, parts = c->parts ? c->parts : 1;
    void *buf = pg_alloc(PG_EMIT_BYTES, 1);
    int rc = buf ? PG_OK : pg_error_nomem(e);
    if (!pg_one_dtype(&w->res[i], c, t) || *t == PG_I8)
        *t = PG_F32;
    *crc = 0;
    for (size_t k = 0; !rc && k < layers * parts; k++) {
        pg_view v;
        if (!(rc = pg_weights_view(w, c->name, k / parts, c->parts ? k % parts : PG_WHOLE, &v, e))) {
            rc = pg_emit_view(&(pg_emit){.w = w, .buf = buf, .sink = sum, .ctx = crc}, &v, *t, e);
            pg_weights_forget(w, &v);
        }
    }
    free(buf);
    return rc;
}

/* The first values of each layer of each tensor whose name begins so; of k and v, gate and up the first, since a file may part them. */
static int fingerprint(const pg_weights *w, const char *begin, bool exact, uint32_t *crc, pg_err *e)
{
    float *buf = pg_alloc(SAMPLE, sizeof *buf);
    if (!buf)
        return pg_error_nomem(e);
    int rc = w->why.code ? pg_error(e, w->why.code, "%s", w->why.msg) : PG_OK;
    *crc = 0;
    for (size_t i = 0; !rc && i < pg_canonical_count(w); i++) {
        const pg_canonical *c = &w->canon[i];
        if (strncmp(c->name, begin, strlen(begin)))
            continue;
        for (size_t l = 0; !rc && l < (c->layers ? c->layers : 1); l++) {
            pg_view v;
            if ((rc = pg_weights_view(w, c->name, l, w->res[i].n->pieces ? 0 : PG_WHOLE, &v, e)))
                break;
            while (v.count > SAMPLE) { /* down to the front corner */
                size_t d = 0;
                while (v.shape[d] == 1)
                    d++;
                PG_KNOWN(d < v.ndim && v.shape[d]); /* since the count, their product, is above SAMPLE */
                v.count /= v.shape[d];
                size_t keep = v.count < SAMPLE ? SAMPLE / v.count : 1;
                v.shape[d] = keep < v.shape[d] ? keep : v.shape[d];
                v.count *= v.shape[d];
            }
            pg_view_widen(&v, buf);
            for (size_t k = 0; k < v.count && !exact; k++)
                buf[k] = pg_rounded(buf[k], PG_BF16);
            *crc = add(*crc, (const unsigned char *)buf, v.count * sizeof *buf);
        }
    }
    free(buf);
    return rc;
}

int pg_weights_fingerprint(const pg_weights *w, uint32_t *crc, pg_err *e)
{
    return fingerprint(w, "", false, crc, e);
}

int pg_weights_tower(const pg_weights *w, uint32_t *crc, pg_err *e)
{
    return fingerprint(w, "img/", true, crc, e);
}

/* ---- verify ---- */
typedef struct counter {
    size_t bad;
} counter;

static int count_bad(void *ctx, const void *p, size_t n, pg_err *e)
{
    counter *c = ctx;
    const float *f = p;
    (void)e;
    for (size_t i = 0; i < n / sizeof *f; i++)
        c->bad += !isfinite(f[i]);
    return PG_OK;
}

static int check_values(const pg_weights *w, void *buf, void (*say)(void *, const char *), void *ctx, size_t *faults, pg_err *e)
{
    for (size_t i = 0; i < w->n; i++) {
        pg_view v = pg_view_raw(&w->t[i].w);
        counter c = {0};
        pg_err text = {0};
        int rc = pg_emit_view(&(pg_emit){.w = w, .buf = buf, .sink = count_bad, .ctx = &c}, &v, PG_F32, &text);
        pg_weights_forget(w, &v);
        if (rc && rc != PG_EFORMAT) /* that is an output matrix other than the embedding */
            return pg_error(e, rc, "%s", text.msg);
        if (!rc && !c.bad)
            continue;
        if (!rc)
            pg_error(&text, PG_FAIL, "tensor '%s' holds %zu values that are not finite", w->t[i].name, c.bad);
        say(ctx, text.msg);
        ++*faults;
    }
    return PG_OK;
}

static bool damaged(const pg_npz *z, size_t i, pg_err *text)
{
    size_t n;
    const unsigned char *p = pg_npz_member(z, i, &n);
    uint32_t want = pg_npz_crc(z, i), got = add(0, p, n);
    pg_npz_forget(z, p, n);
    if (got != want)
        pg_error(text, PG_EFORMAT, "array '%s' has checksum %08x, the directory says %08x", pg_npz_at(z, i)->key, got, want);
    return got != want;
}

int pg_npz_verify(const pg_npz *z, pg_err *e)
{
    for (size_t i = 0; i < pg_npz_count(z); i++)
        if (damaged(z, i, e))
            return PG_EFORMAT;
    return PG_OK;
}

int pg_weights_verify(const pg_weights *w, void (*say)(void *ctx, const char *text), void *ctx, size_t *faults, pg_err *e)
{
    void *buf = pg_alloc(PG_EMIT_BYTES, 1);
    if (!buf)
        return pg_error_nomem(e);
    *faults = 0;
    for (size_t i = 0; w->npz && i < pg_npz_count(w->npz); i++) {
        pg_err text;
        if (!damaged(w->npz, i, &text))
            continue;
        say(ctx, text.msg);
        ++*faults;
    }
    int rc = check_values(w, buf, say, ctx, faults, e);
    free(buf);
    return rc;
}
