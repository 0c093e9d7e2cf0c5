/* One card of the report: a picture, what each run says of it, the references, the captions while training. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "base/num.h"
#include "render.h"
#include "text/text.h"

enum { THUMB_SIDE = 224, SEEN_SLOTS = 1 << 17, SEEN_MAX = SEEN_SLOTS / 2 };

static void tally_caption(const pg_tool *t, tally *c, text_view v, uint64_t picture) /* picture: a hash */
{
    uint64_t h = pg_mix(PG_MIX, v.s, v.n);
    bool inside = false;

    c->captions++;
    tool_same_add(t, &c->same, v.s, v.n, picture);
    for (size_t i = 0; i < v.n; i++) {
        c->words += v.s[i] != ' ' && !inside;
        inside = v.s[i] != ' ';
    }
    if (!c->seen && !(c->seen = pg_calloc(SEEN_SLOTS, sizeof *c->seen))) tool_no_memory(t);
    if (c->full) return;
    if (h == 0) h = 1;
    size_t i = (size_t)(h ^ h >> 32) & (SEEN_SLOTS - 1);
    while (c->seen[i] && c->seen[i] != h) i = (i + 1) & (SEEN_SLOTS - 1);
    if (!c->seen[i]) c->distinct++;
    c->seen[i] = h;
    c->full = c->distinct >= SEEN_MAX;
}

double record_score(const report *r, const pg_rec *rec)
{
    double v = NAN;
    for (size_t i = 0; i < pg_rec_count(rec); i++) {
        pg_buf b = {0};
        json_error_t why = {0};
        int rc = strcmp(pg_rec_key(rec, i), "scores") ? PG_FAIL : pg_rec_json(rec, i, false, &b, NULL);
        if (!rc) {
            json_t *o = pg_json_load(b.data, b.len, 0, &why), *cider = json_object_get(o, "CIDEr");
            if (json_is_number(cider)) v = json_number_value(cider);
            json_decref(o);
        }
        if (rc == PG_ENOMEM || pg_json_no_memory(&why)) tool_no_memory(r->t);
        pg_buf_free(&b);
    }
    return v;
}

/* Equal after lower-casing, as the suffix was in training. */
static bool same(const report *r, text_view a, const char *b, size_t n)
{
    pg_buf x = {0}, y = {0};
    int rx = pg_text_lower(a.s, a.n, &x, NULL), ry = pg_text_lower(b, n, &y, NULL);
    if (rx == PG_ENOMEM || ry == PG_ENOMEM) tool_no_memory(r->t);
    bool eq = !rx && !ry && x.len == y.len &&
              (x.len == 0 || !memcmp(x.data, y.data, x.len));
    pg_buf_free(&x);
    pg_buf_free(&y);
    return eq;
}

/* What is said of one picture. */
typedef struct said {
    bool has, match;
    text_view caption;
    double score, logprob;
} said;

static void put_picture(report *r, const pg_rec *rec, text_view alt)
{
    const unsigned char *p;
    size_t n;
    pg_buf jpeg = {0}, text = {0};
    pg_tensor x;
    pg_err e = {0};
    bool ok = pg_rec_bin(rec, "image", &p, &n, NULL) == 1 && !pg_image_thumbnail(r->image, p, n, THUMB_SIDE, &jpeg, &e);

    if (!ok && e.code != PG_ENOMEM && pg_rec_tensor(rec, "pixels", &x, &e) == 1 && !strcmp(x.type, "<f4") && x.ndim == 3 && x.shape[0] == x.shape[1] &&
        x.shape[2] == 3) {
        float *v = pg_floats(x.bytes / 4);
        jpeg.len = 0;
        if (v) {
            memcpy(v, x.data, x.bytes);
            ok = !pg_image_encode(v, x.shape[0], &jpeg, &e);
        } else (void)pg_error_nomem(&e);
        free(v);
    }
    if (ok && pg_buf_add_base64(&text, jpeg.data, jpeg.len, &e)) tool_no_memory(r->t);
    if (e.code == PG_ENOMEM) tool_die(r->t, EXIT_FAIL, "%s", e.msg);
    if (ok) {
        bool boxes = has_boxes(alt);
        if (boxes) fputs("<div class=\"framed\"><div>", r->cards);
        fputs("<img loading=\"lazy\" decoding=\"async\" alt=\"", r->cards);
        put_html(r->cards, alt.s, alt.n);
        fputs("\" src=\"data:image/jpeg;base64,", r->cards);
        fwrite(text.data, 1, text.len, r->cards);
        fputs("\">", r->cards);
        boxes_html(r->cards, alt);
        fputs(boxes ? "</div></div>\n" : "\n", r->cards);
    } else fputs("<p class=\"no-picture\">no picture in the stream</p>\n", r->cards);
    pg_buf_free(&jpeg);
    pg_buf_free(&text);
}

/* Tells pictures apart: by their bytes, their pixels, or where the stream has neither by the id. */
static uint64_t picture_hash(const pg_rec *rec, const char *id)
{
    const unsigned char *p;
    pg_tensor x;
    size_t n;
    if (pg_rec_bin(rec, "image", &p, &n, NULL) == 1) return pg_mix(PG_MIX, p, n);
    if (pg_rec_tensor(rec, "pixels", &x, NULL) == 1) return pg_mix(PG_MIX, x.data, x.bytes);
    return pg_mix(PG_MIX, id, strlen(id));
}

static int by_id(const void *a, const void *b) { return strcmp(((const entry *)a)->id, ((const entry *)b)->id); }

static said *gather(report *r, const pg_rec *rec, const char *id, char **refs, size_t n_refs)
{
    said *s = pg_calloc(r->n_columns, sizeof *s);
    if (!s) tool_no_memory(r->t);
    for (size_t i = 0; i < r->n_columns; i++) {
        entry key = {.id = (char *)id}, *e = i && r->columns[i].n ? bsearch(&key, r->columns[i].e, r->columns[i].n, sizeof key, by_id) : NULL;
        s[i].score = s[i].logprob = NAN;
        if (e) s[i] = (said){.has = true, .caption = {e->caption, strlen(e->caption)}, .score = e->score, .logprob = e->logprob};
        if (i == 0 && pg_rec_has(rec, "caption")) {
            s[i] = (said){.has = true, .caption = view(rec, "caption"), .score = record_score(r, rec)};
            if (pg_rec_double(rec, "logprob", &s[i].logprob, NULL) != 1) s[i].logprob = NAN;
        }
        for (size_t k = 0; k < n_refs; k++) s[i].match |= s[i].has && same(r, s[i].caption, refs[k], strlen(refs[k]));
        if (!s[i].has) continue;
        tally_caption(r->t, &r->columns[i].tally, s[i].caption, picture_hash(rec, id));
        r->columns[i].tally.known += n_refs > 0;
        r->columns[i].tally.matches += s[i].match;
        r->scored |= isfinite(s[i].score);
    }
    if (r->n_columns > 1 && s[0].has && s[r->n_columns - 1].has) {
        const said *a = &s[0], *b = &s[r->n_columns - 1];
        double d = isfinite(a->score) && isfinite(b->score) ? b->score - a->score : (double)b->match - (double)a->match;
        r->better += d > 0;
        r->worse += d < 0;
        r->equal += d == 0;
    }
    return s;
}

static size_t count_words(text_view v)
{
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++) n += v.s[i] != ' ' && (i == 0 || v.s[i - 1] == ' ');
    return n;
}

/* What the script sorts and filters by: scores and matches of each run, words of the last caption. */
static void put_opening(report *r, const said *s, bool error, bool refs)
{
    const said *last = r->n_columns ? &s[r->n_columns - 1] : NULL;
    fprintf(r->cards, "<article class=\"card%s\" data-n=\"%zu\" data-s=\"", error ? " error" : "", last ? count_words(last->caption) : 0);
    for (size_t i = 0; i < r->n_columns; i++) {
        if (i) putc(' ', r->cards);
        if (!s[i].has) fputs("-", r->cards);
        else if (isfinite(s[i].score)) fprintf(r->cards, "%.6g", s[i].score);
        else fputs(!refs ? "-" : s[i].match ? "1" : "0", r->cards);
    }
    fputs("\" data-m=\"", r->cards);
    for (size_t i = 0; i < r->n_columns; i++) fputs(s[i].has && refs ? s[i].match ? "1" : "0" : "-", r->cards);
    fputs("\">\n", r->cards);
}

static void put_run(report *r, const column *c, const said *s, char **refs, size_t n_refs, const char *near)
{
    fputs("<div class=\"run\">", r->cards);
    if (r->n_columns > 1) {
        fputs("<span class=\"label\">", r->cards);
        put_str(r->cards, c->label);
        fputs("</span>", r->cards);
    }
    fputs("<p class=\"cap\">", r->cards);
    if (!s->has) fputs("<span class=\"soft\">no caption</span>", r->cards);
    else if (s->caption.n == 0) fputs("<span class=\"soft\">empty caption</span>", r->cards);
    else if (near && !s->match)
        put_marked(r->cards, s->caption, (text_view){near, strlen(near)}, "extra", "not in the reference");
    else put_html(r->cards, s->caption.s, s->caption.n);
    (void)refs;
    if (s->has && n_refs)
        fputs(s->match ? " <span class=\"good\" role=\"img\" aria-label=\"matches a reference\" title=\"matches a reference\">✓</span>"
                       : " <span class=\"bad\" role=\"img\" aria-label=\"matches no reference\" title=\"matches no reference\">✗</span>", r->cards);
    fputs("</p>", r->cards);
    if (isfinite(s->score)) fprintf(r->cards, "<span class=\"score\" title=\"CIDEr\">%.2f</span>", s->score);
    fputs("</div>\n", r->cards);
}

static void put_references(report *r, const said *last, char **refs, size_t n_refs, size_t near)
{
    if (n_refs == 0) return;
    fputs("<p class=\"ref\"><span class=\"label\">reference</span> ", r->cards);
    if (last && last->has && !last->match)
        put_marked(r->cards, (text_view){refs[near], strlen(refs[near])}, last->caption, "missing", "not in the caption");
    else put_str(r->cards, refs[near]);
    fputs("</p>\n", r->cards);
    if (n_refs == 1) return;
    fprintf(r->cards, "<details><summary>%zu more reference%s</summary><ul>", n_refs - 1, n_refs == 2 ? "" : "s");
    for (size_t i = 0; i < n_refs; i++)
        if (i != near) {
            fputs("<li>", r->cards);
            put_str(r->cards, refs[i]);
            fputs("</li>", r->cards);
        }
    fputs("</ul></details>\n", r->cards);
}

/* The captions that training's validation made of this example. */
static void put_moments(report *r, const char *id, bool open)
{
    size_t lo = 0, hi = r->n_moments;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(r->moments[mid].id, id) < 0) lo = mid + 1;
        else hi = mid;
    }
    if (lo == r->n_moments || strcmp(r->moments[lo].id, id) != 0) return;
    fprintf(r->cards, "<details%s><summary>while training</summary><table class=\"steps\">", open ? " open" : "");
    for (; lo < r->n_moments && !strcmp(r->moments[lo].id, id); lo++) {
        fprintf(r->cards, "<tr><th scope=\"row\">step %.0f</th><td>", r->moments[lo].step);
        put_str(r->cards, r->moments[lo].caption);
        fputs("</td></tr>", r->cards);
    }
    fputs("</table></details>\n", r->cards);
}

static void put_error(report *r, const pg_rec *rec, const char *id)
{
    char *why = pg_rec_error(rec);
    said none = {0};
    r->errors++;
    fprintf(r->cards, "<article class=\"card error\" data-n=\"0\" data-s=\"-\" data-m=\"-\">\n");
    put_picture(r, rec, none.caption);
    fputs("<div class=\"body\"><p class=\"cap bad\">error</p><p>", r->cards);
    put_str(r->cards, why ? why : "unknown");
    fputs("</p><p class=\"id\">", r->cards);
    put_str(r->cards, id);
    fputs("</p></div></article>\n", r->cards);
    free(why);
}

void put_card(report *r, const tool_pipe *p)
{
    char id[256], *whole, **refs = NULL;
    size_t n_refs = 0, near = 0;
    const pg_rec *rec = p->rec;
    text_view suffix = view(rec, "suffix"), prefix = view(rec, "prefix");

    r->records++;
    tool_id(p, id, sizeof id);
    if (pg_rec_has_error(rec)) {
        put_error(r, rec, id);
        return;
    }
    whole = tool_whole_id(r->t, p);
    int rc = pg_rec_strs(rec, "references", &refs, &n_refs, NULL);
    if (rc == PG_ENOMEM) tool_no_memory(r->t);
    if (rc != 1 || n_refs == 0) {
        n_refs = suffix.n ? 1 : 0;
        refs = n_refs ? pg_calloc(1, sizeof *refs) : NULL;
        if (n_refs && (!refs || !(refs[0] = pg_strndup(suffix.s, suffix.n)))) tool_no_memory(r->t);
    }
    said *s = gather(r, rec, whole, refs, n_refs), *last = r->n_columns ? &s[r->n_columns - 1] : NULL;
    if (n_refs && last) near = nearest_reference(last->caption, refs, n_refs);
    put_opening(r, s, false, n_refs > 0);
    put_picture(r, rec, last && last->has ? last->caption : (text_view){"not captioned", 13});
    fputs("<div class=\"body\">\n", r->cards);
    for (size_t i = 0; i < r->n_columns; i++)
        put_run(r, &r->columns[i], &s[i], refs, n_refs, n_refs ? refs[nearest_reference(s[i].caption, refs, n_refs)] : NULL);
    put_references(r, last, refs, n_refs, near);
    put_moments(r, whole, r->n_columns == 0);
    fputs("<p class=\"id\">", r->cards);
    put_str(r->cards, id);
    if (prefix.n) {
        fputs(" · ", r->cards);
        put_html(r->cards, prefix.s, prefix.n);
    }
    if (last && isfinite(last->logprob)) fprintf(r->cards, " · <span title=\"natural logarithm of the caption's probability\">log p %.2f</span>", last->logprob);
    fputs("</p></div></article>\n", r->cards);
    free(s);
    free(whole);
    pg_strs_free(refs, n_refs);
}
