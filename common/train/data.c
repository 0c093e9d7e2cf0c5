#include "train/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "text/text.h"

enum { BLOCK_ROWS = 64 };

/* ---- rows, in memory first ---- */
struct pg_store {
    size_t row, n, in_memory, most_in_memory, n_blocks;
    float **blocks; /* BLOCK_ROWS rows each */
    int fd;
};

int pg_store_new(pg_store **out, size_t row, size_t memory, pg_err *e)
{
    *out = pg_calloc(1, sizeof **out);
    if (!*out) return pg_error_nomem(e);
    **out = (pg_store){.row = row, .most_in_memory = memory / (row * sizeof(float)), .fd = -1};
    return PG_OK;
}

void pg_store_free(pg_store *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_blocks; i++) free(s->blocks[i]);
    free(s->blocks);
    if (s->fd >= 0) close(s->fd);
    free(s);
}

int pg_store_add(pg_store *s, const float *row, pg_err *e)
{
    int rc;
    if (s->n >= s->most_in_memory) {
        if (s->fd < 0 && (rc = pg_temp_file(&s->fd, e))) return rc;
        if (pg_write_full(s->fd, row, s->row * sizeof *row)) return pg_error_errno(e, "cannot write a temporary file");
        s->n++;
        return PG_OK;
    }
    if (s->n / BLOCK_ROWS == s->n_blocks) {
        float **b = pg_realloc(s->blocks, s->n_blocks + 1, sizeof *b);
        if (!b) return pg_error_nomem(e);
        s->blocks = b;
        size_t size;
        if (!pg_mul(s->row, BLOCK_ROWS, &size) || !(b[s->n_blocks] = pg_floats(size))) return pg_error_nomem(e);
        s->n_blocks++;
    }
    memcpy(s->blocks[s->n / BLOCK_ROWS] + s->n % BLOCK_ROWS * s->row, row, s->row * sizeof *row);
    s->in_memory = ++s->n;
    return PG_OK;
}

void pg_store_clear(pg_store *s)
{
    s->n = s->in_memory = 0;
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
}

int pg_store_get(const pg_store *s, size_t i, float *row, const float **at_row, pg_err *e)
{
    if (i < s->in_memory) {
        *at_row = s->blocks[i / BLOCK_ROWS] + i % BLOCK_ROWS * s->row;
        return PG_OK;
    }
    *at_row = row;
    size_t bytes = s->row * sizeof *row;
    ssize_t got = pg_pread_full(s->fd, row, bytes, (off_t)((i - s->in_memory) * bytes));
    if (got < 0) return pg_error_errno(e, "cannot read a temporary file");
    return (size_t)got == bytes ? PG_OK : pg_error(e, PG_EIO, "a temporary file is shorter than what was written");
}

/* ---- records to items ---- */
size_t pg_data_row(const pg_data *d, const pg_model *m)
{
    return d->pixels ? m->s.image_size * m->s.image_size * 3 : m->s.n_image * m->s.width;
}

static int add_item(pg_data *d, const pg_model *m, const pg_sample *s, const pg_rec *rec, pg_err *e)
{
    char digits[PG_ID_DIGITS];
    const char *id;
    size_t len = 0;
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 64;
        pg_data_item *p = pg_realloc(d->items, cap, sizeof *p);
        if (!p) return pg_error_nomem(e);
        d->items = p;
        d->cap = cap;
    }
    if (!pg_rec_id(rec, digits, &id, &len)) id = "", len = 0;
    pg_data_item *it = &d->items[d->n];
    *it = (pg_data_item){.id = pg_strndup(id, len), .tokens = pg_alloc(s->n, 4 * sizeof(int32_t)), .n = s->n, .n_prefix = s->n_prefix, .n_loss = s->n_loss};
    if (!it->id || !it->tokens) {
        free(it->id);
        free(it->tokens);
        return pg_error_nomem(e);
    }
    size_t bytes = s->n * sizeof(int32_t);
    memcpy(it->tokens, s->tokens, bytes);
    memcpy(it->tokens + s->n, s->mask_ar, bytes);
    memcpy(it->tokens + 2 * s->n, s->mask_loss, bytes);
    for (size_t i = 0; i < s->n; i++) it->tokens[3 * s->n + i] = 1; /* pg_sample_read has cut the padding off */
    d->n++;
    it->picture = pg_sample_picture(s, &m->s);
    d->hash = pg_mix(pg_mix(pg_mix(d->hash, it->id, len + 1), it->tokens, 3 * bytes), &it->picture, sizeof it->picture);
    if (!s->n_loss) d->no_suffix++;
    else if (s->tokens[s->n - 1] != PG_EOS) d->no_eos++;
    d->beyond += s->beyond;
    return PG_OK;
}

typedef struct pending {
    pg_model *m;
    float *pixels, *features;
    const float **at;
    size_t n, room;
} pending;

static int flush(pg_data *d, pending *q, pg_err *e)
{
    size_t one = q->m->s.image_size * q->m->s.image_size * 3, row = pg_data_row(d, q->m);
    int rc = PG_OK;
    for (size_t i = 0; i < q->n; i++) q->at[i] = q->pixels + i * one;
    if (q->n && d->encode) rc = d->encode(d->encode_ctx, q->at, q->n, q->features, e);
    else if (q->n) rc = pg_vit_forward(q->m, q->at, q->n, q->features, e);
    for (size_t i = 0; !rc && i < q->n; i++) rc = pg_store_add(d->store, q->features + i * row, e);
    q->n = 0;
    return rc;
}

/* Features cannot stand for pixels of all records or of none: that is no matter of single records. */
static int no_pixels(const pg_rec *rec, pg_err *e)
{
    char digits[PG_ID_DIGITS];
    const char *id = "?";
    size_t n = 1;
    (void)pg_rec_id(rec, digits, &id, &n);
    return pg_error(e, PG_EINVAL, "'%.*s' holds features instead of pixels, which serve only where the image tower is not trained", (int)(n > 60 ? 60 : n), id);
}

/* Of those that do not fit the first is told of. */
static void count_unusable(pg_data *d, const pg_rec *rec, const char *why)
{
    char digits[PG_ID_DIGITS];
    const char *id = "?";
    size_t len = 1;
    if (d->unusable++) return;
    (void)pg_rec_id(rec, digits, &id, &len);
    snprintf(d->first_unusable, sizeof d->first_unusable, "'%.*s': %.180s", (int)(len > 60 ? 60 : len), id, why);
}

/* One record: an item, or counted among those that are none. */
static int take(pg_data *d, pending *q, pg_sample *s, const pg_rec *rec, pg_err *e)
{
    size_t one = q->m->s.image_size * q->m->s.image_size * 3;
    pg_err why = {0};
    int rc;
    if (pg_rec_passes(rec)) {
        d->errors += pg_rec_has_error(rec);
        return PG_OK;
    }
    if (d->pixels && !pg_rec_has(rec, "pixels") && pg_rec_has(rec, "features")) return no_pixels(rec, e);
    if (pg_sample_read(s, &q->m->s, rec, &why)) {
        if (why.code == PG_ENOMEM) return pg_error_nomem(e);
        count_unusable(d, rec, why.msg);
        return PG_OK;
    }
    if ((rc = add_item(d, q->m, s, rec, e)) || (d->seen && (rc = d->seen(d->ctx, d->n - 1, rec, e)))) return rc;
    if (d->skip) return PG_OK;
    if (d->pixels) return pg_store_add(d->store, s->pixels, e);
    if (s->has_features) return (rc = flush(d, q, e)) ? rc : pg_store_add(d->store, s->features, e);
    memcpy(q->pixels + q->n++ * one, s->pixels, one * sizeof(float));
    return q->n == q->room ? flush(d, q, e) : PG_OK;
}

int pg_data_read(pg_data *d, pg_reader *rd, pg_model *m, size_t most, size_t memory, pg_err *e)
{
    size_t one = m->s.image_size * m->s.image_size * 3;
    pending q = {.m = m, .room = PG_FEATURE_GROUP * (d->lanes ? d->lanes : 1)};
    pg_sample s = {0};
    pg_rec *rec = pg_rec_new();
    int rc = PG_OK, more = 1;
    if (!d->hash) d->hash = PG_MIX;
    d->pixels = pg_trains_image(m);
    s.features_of = d->pixels ? NULL : m;
    q.pixels = pg_floats(one * q.room);
    q.features = pg_floats(m->s.n_image * m->s.width * q.room);
    q.at = pg_alloc(q.room, sizeof *q.at);
    if (!rec || !q.pixels || !q.features || !q.at) rc = pg_error_nomem(e);
    if (!rc && !d->store) rc = pg_store_new(&d->store, pg_data_row(d, m), memory, e);
    while (!rc && (!most || d->n < most) && (more = pg_reader_next(rd, rec, e)) > 0) rc = take(d, &q, &s, rec, e);
    if (!rc && more < 0) rc = more;
    if (!rc) rc = flush(d, &q, e);
    pg_sample_free(&s);
    pg_rec_free(rec);
    free(q.pixels);
    free(q.features);
    free(q.at);
    return rc ? rc : more == 0;
}

void pg_data_clear(pg_data *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->items[i].id);
        free(d->items[i].tokens);
    }
    d->n = 0;
    if (d->store) pg_store_clear(d->store);
}

void pg_data_free(pg_data *d)
{
    pg_data_clear(d);
    pg_store_free(d->store);
    free(d->items);
    *d = (pg_data){0};
}

int pg_data_batch(const pg_data *d, const pg_model *m, const size_t *idx, size_t n, float *rows, pg_example *ex, pg_err *e)
{
    size_t row = pg_data_row(d, m);
    for (size_t i = 0; i < n; i++) {
        const pg_data_item *it = &d->items[idx[i]];
        const float *at;
        int rc = pg_store_get(d->store, idx[i], rows + i * row, &at, e);
        if (rc) return rc;
        ex[i] = (pg_example){.tokens = it->tokens, .mask_ar = it->tokens + it->n, .mask_loss = it->tokens + 2 * it->n,
                             .mask_input = it->tokens + 3 * it->n, .n = it->n};
        if (d->pixels) ex[i].pixels = at;
        else ex[i].features = at;
    }
    return PG_OK;
}

/* ---- order ---- */
int pg_order_new(pg_order *o, size_t n, uint64_t seed, bool shuffle, pg_err *e)
{
    *o = (pg_order){.n = n, .seed = seed, .shuffle = shuffle, .perm = pg_alloc(n, sizeof *o->perm)};
    return o->perm ? PG_OK : pg_error_nomem(e);
}

size_t pg_order_at(pg_order *o, size_t k)
{
    size_t epoch = k / o->n;
    if (!o->shuffle) return k % o->n;
    if (!o->ready || epoch != o->epoch) {
        pg_rng r;
        pg_rng_seed(&r, o->seed, epoch);
        pg_rng_permutation(&r, o->perm, o->n);
        o->epoch = epoch;
        o->ready = true;
    }
    return o->perm[k % o->n];
}

void pg_order_free(pg_order *o)
{
    free(o->perm);
    o->perm = NULL;
}
