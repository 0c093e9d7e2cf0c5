/* Google Cloud Storage through its JSON interface, as anybody unless a token is set. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "net/sources.h"
#include "net/url.h"

enum { PAGES_MAX = 100000 };

/* Listing and reading are separate permissions. What these buckets hold is known, so they can do without the first. */
static const struct {
    const char *bucket, *names[3];
} known[] = {{"longcap100", {"data_train90.jsonl", "data_val10.jsonl", NULL}}, {"big_vision", {"paligemma_tokenizer.model", NULL, NULL}}};

static int fill(pg_item *i, const char *bucket, const char *name, const char *generation, pg_err *e)
{
    char *base = pg_endpoint(PG_HOST_STORAGE), *b = pg_url_encode(bucket, false), *n = pg_url_encode(name, false);
    int rc = base && b && n ? PG_OK : pg_error_nomem(e);
    char *plain = rc ? NULL : pg_format("%s/storage/v1/b/%s/o/%s?alt=media", base, b, n);
    if (!rc && generation) {
        /* This version and no other; where it was replaced meanwhile, the present one. */
        i->t.url = pg_format("%s/download/storage/v1/b/%s/o/%s?alt=media&generation=%s", base, b, n, generation);
        i->t.alt_url = plain;
    } else i->t.url = plain;
    if (!rc && (!i->t.url || !plain)) rc = pg_error_nomem(e);
    free(base);
    free(b);
    free(n);
    return rc;
}

static pg_item *add(pg_hosts *h, pg_items *l, const char *bucket, const char *name, size_t strip, const char *generation, pg_err *e)
{
    char *source = pg_format("gs://%s/%s", bucket, name);
    pg_item *i = NULL;
    if (!source) pg_error_nomem(e);
    else i = pg_items_add(h, l, PG_HOST_STORAGE, source, name + strip, e);
    free(source);
    if (!i || !fill(i, bucket, name, generation, e)) return i;
    return NULL;
}

static int add_listed(pg_hosts *h, pg_items *l, const char *bucket, const json_t *v, size_t strip, pg_err *e)
{
    const char *name = json_string_value(json_object_get(v, "name")), *md5 = json_string_value(json_object_get(v, "md5Hash"));
    const char *crc = json_string_value(json_object_get(v, "crc32c")), *generation = json_string_value(json_object_get(v, "generation"));
    if (!name || strlen(name) < strip || !name[strip]) return PG_OK;
    if (generation && strspn(generation, "0123456789") != strlen(generation)) generation = NULL;
    pg_item *i = add(h, l, bucket, name, strip, generation, e);
    if (!i) return e->code;
    i->t.size = pg_json_size(json_object_get(v, "size"));
    const char *coding = json_string_value(json_object_get(v, "contentEncoding"));
    if (coding && !strcmp(coding, "gzip")) i->t.size = PG_SIZE_UNKNOWN; /* size and sums are those of the compressed bytes */
    else {
        if (md5) (void)pg_sum_base64(&i->t.want, PG_SUM_MD5, md5, strlen(md5));
        if (crc) (void)pg_sum_base64(&i->t.want, PG_SUM_CRC32C, crc, strlen(crc));
    }
    return PG_OK;
}

/* One page; *token is the next one's, NULL at the end. */
static int list_page(pg_hosts *h, const pg_source *s, const char *prefix, char **token, size_t strip, pg_items *out, long *status, pg_err *e)
{
    char *base = pg_endpoint(PG_HOST_STORAGE), *b = pg_url_encode(s->box, false), *p = pg_url_encode(prefix, false);
    char *t = *token ? pg_url_encode(*token, false) : pg_strdup("");
    char *url = base && b && p && t ? pg_format("%s/storage/v1/b/%s/o?prefix=%s&maxResults=1000%s%s&fields=items(name,size,md5Hash,crc32c,generation,"
                                                "contentEncoding,updated,etag),nextPageToken", base, b, p, *t ? "&pageToken=" : "", t) : NULL;
    json_t *o = NULL, *v;
    size_t i;
    const pg_ask a = {.host = PG_HOST_STORAGE, .source = s->text, .url = url};
    int rc = url ? pg_ask_json(h, &a, &o, status, NULL, e) : pg_error_nomem(e);
    json_array_foreach(json_object_get(o, "items"), i, v)
        if (!rc) rc = add_listed(h, out, s->box, v, strip, e);
    const char *next = json_string_value(json_object_get(o, "nextPageToken"));
    char *following = !rc && next && *next ? pg_strdup(next) : NULL;
    if (!rc && next && *next && !following) rc = pg_error_nomem(e);
    if (following && *token && !strcmp(following, *token)) rc = pg_error(e, PG_EFORMAT, "cannot list '%s': the server repeats a page token", s->text);
    free(*token);
    *token = following;
    json_decref(o);
    char *const all[] = {base, b, p, t, url};
    for (i = 0; i < 5; i++) free(all[i]);
    return rc;
}

static int list(pg_hosts *h, const pg_source *s, const char *prefix, size_t strip, pg_items *out, long *status, pg_err *e)
{
    char *token = NULL;
    int rc = PG_OK, page = 0;
    do rc = list_page(h, s, prefix, &token, strip, out, status, e);
    while (!rc && token && ++page < PAGES_MAX);
    if (!rc && token) rc = pg_error(e, PG_ELIMIT, "cannot list '%s': more than %d pages", s->text, PAGES_MAX);
    free(token);
    return rc;
}

/* Without a listing: what is known by name. False where nothing is. */
static bool by_name(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e)
{
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (strcmp(known[k].bucket, s->box) || s->file) continue;
        for (size_t i = 0; known[k].names[i]; i++)
            if (!add(h, out, s->box, known[k].names[i], 0, NULL, e)) return false;
        return true;
    }
    return false;
}

static size_t base_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? (size_t)(slash - name) + 1 : 0;
}

int pg_storage_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e)
{
    bool folder = !s->file || pg_ends_with(s->file, "/");
    long status = 0;
    pg_err why = {0};
    if (folder) {
        int rc = list(h, s, s->file ? s->file : "", s->file ? strlen(s->file) : 0, out, &status, e);
        out->folder = true;
        if (rc && (status == 401 || status == 403) && by_name(h, s, out, &why)) {
            pg_net_say(h->net, PG_SAY_INFO, "'%s' may not be listed; asking for the files that are known by name", s->text);
            out->by_name = true;
            return PG_OK;
        }
        if (rc && (status == 401 || status == 403)) pg_error_context(e, "name one object, its listing is refused");
        return rc || out->n ? rc : pg_error(e, PG_FAIL, "'%s' holds no objects", s->text);
    }
    /* A name, or a folder without its slash: the listing tells. Without one, it is taken for a name. */
    size_t strip = base_of(s->file), len = strlen(s->file) - strip;
    int rc = list(h, s, s->file, strip, out, &status, &why);
    if (rc && status != 401 && status != 403) {
        *e = why;
        return rc;
    }
    size_t kept = 0;
    bool exact = rc != PG_OK;
    for (size_t i = 0; i < out->n; i++) exact = exact || !strcmp(out->at[i].name, s->file + strip);
    for (size_t i = 0; i < out->n; i++) {
        pg_item *it = &out->at[i];
        bool keep = exact ? !rc && !strcmp(it->name, s->file + strip) : !strncmp(it->name, s->file + strip, len) && it->name[len] == '/';
        if (!keep) {
            pg_item_free(it);
            continue;
        }
        if (!exact) memmove(it->name, it->name + len + 1, strlen(it->name + len + 1) + 1);
        out->at[kept++] = *it;
    }
    out->n = kept;
    out->folder = !exact;
    if (kept) return PG_OK;
    if (!exact) return pg_error(e, PG_FAIL, "cannot fetch '%s': no such object or folder", s->text);
    return add(h, out, s->box, s->file, strip, NULL, e) ? PG_OK : e->code ? e->code : pg_error(e, PG_EINVAL, "'%s' does not name a file", s->text);
}

int pg_storage_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e)
{
    pg_items l = {0};
    int rc = PG_OK;
    if (add(h, &l, s->box, s->file, base_of(s->file), NULL, e)) {
        *out = l.at[0];
        l.n = 0;
    } else rc = e->code ? e->code : pg_error(e, PG_EINVAL, "'%s' does not name a file", s->text);
    pg_items_free(&l);
    return rc;
}
