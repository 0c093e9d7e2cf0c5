/* What a form or a raw body brings: the picture, its name, the prefix. Pieces come as they arrive; nothing is believed. */
#include <stdlib.h>
#include <string.h>

#include "serve_request.h"

enum { PREFIX_MAX = 1000 /* characters */, NAME_MAX_BYTES = 200 };

void refuse_size(request *r)
{
    char most[32];
    size_text(r->s->o.max_upload, most);
    refuse(r, 413, "too_large", "this picture is larger than %s", most);
}

static void refuse_prefix(request *r) { refuse(r, 400, "prefix", "the prefix is longer than %d characters", PREFIX_MAX); }

static bool take_text(request *r, pg_buf *b, const char *p, size_t n)
{
    if (b->len + n > 4 * PREFIX_MAX) refuse_prefix(r);
    else if (pg_buf_add(b, p, n, NULL)) refuse(r, 500, "no_memory", "out of memory");
    return !r->status;
}

static void check_prefix(request *r, const pg_buf *b)
{
    size_t characters = 0;
    for (size_t i = 0; i < b->len; i++) {
        characters += (b->data[i] & 0xc0) != 0x80;
        if (b->data[i] < 32 || b->data[i] == 127) refuse(r, 400, "prefix", "the prefix holds control characters or several lines");
    }
    if (characters > PREFIX_MAX) refuse_prefix(r);
    if (b->len && !pg_utf8_valid((const char *)b->data, b->len)) refuse(r, 400, "prefix", "the prefix is not UTF-8");
}

void form_prefix(request *r, const char *prefix)
{
    if (take_text(r, &r->prefix, prefix, strlen(prefix))) check_prefix(r, &r->prefix);
}

bool form_image(request *r, const char *p, size_t n)
{
    server *s = r->s;
    if (n > s->o.max_upload - r->job->image.len) {
        refuse_size(r);
        return false;
    }
    pthread_mutex_lock(&s->lock);
    bool room = s->held + n <= s->o.max_upload * (s->o.queue + 1);
    if (room) s->held += n;
    pthread_mutex_unlock(&s->lock);
    if (!room) {
        refuse_busy(r, "queue_full");
        return false;
    }
    if (!pg_buf_add(&r->job->image, p, n, NULL)) return true;
    pthread_mutex_lock(&s->lock);
    s->held -= n;
    pthread_mutex_unlock(&s->lock);
    refuse(r, 500, "no_memory", "out of memory");
    return false;
}

/* The last part of a client's file name: only ever told to the command as `source`, never opened. */
static char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/'), *back = strrchr(name, '\\');
    if (slash) name = slash + 1;
    if (back && back >= name) name = back + 1;
    if (!*name || strlen(name) > NAME_MAX_BYTES || !pg_utf8_valid(name, strlen(name))) return NULL;
    char *copy = pg_strdup(name);
    for (char *c = copy; copy && *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    return copy;
}

bool form_field(request *r, const char *key, const char *name, const char *data, uint64_t off, size_t n)
{
    if (!strcmp(key, "image")) {
        if (!off && r->job->image.len) {
            refuse(r, 400, "one_picture", "one picture a request");
            return false;
        }
        if (!off && name && !r->job->source) r->job->source = base_name(name);
        return form_image(r, data, n);
    }
    if (!strcmp(key, "prefix")) {
        if (!off) r->prefix.len = 0;
        return take_text(r, &r->prefix, data, n);
    }
    if (!strcmp(key, "own")) return take_text(r, &r->own, data, n);
    return true;
}

static bool blank(const pg_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->data[i] != ' ') return false;
    return true;
}

static void choose_prefix(request *r)
{
    const pg_buf *b = blank(&r->own) ? &r->prefix : &r->own;
    check_prefix(r, b);
    if (blank(b)) {
        const char *usual = r->s->o.prefix;
        if (usual && !(r->job->prefix = pg_strdup(usual))) refuse(r, 500, "no_memory", "out of memory");
        return;
    }
    if (!r->status && !(r->job->prefix = pg_strndup((const char *)b->data, b->len))) refuse(r, 500, "no_memory", "out of memory");
}

static void look_at_picture(request *r)
{
    const pg_buf *b = &r->job->image;
    pg_image_info info;
    pg_err e = {0};
    bool png = b->len >= 4 && !memcmp(b->data, "\x89PNG", 4), jpeg = b->len >= 2 && !memcmp(b->data, "\xff\xd8", 2);
    r->job->type = png ? "image/png" : "image/jpeg";
    if (!b->len) refuse(r, 400, "no_picture", "no picture came with this request");
    else if (!png && !jpeg) {
        (void)!pg_image_look(r->s->image, b->data, b->len, r->s->o.max_pixels, &info, &e);
        refuse(r, 415, "not_a_picture", "this cannot be captioned: %s", e.msg);
    } else if (pg_image_look(r->s->image, b->data, b->len, r->s->o.max_pixels, &info, &e)) {
        if (e.code == PG_ELIMIT) refuse(r, 413, "too_many_pixels", "this picture is too large: %s", e.msg);
        else refuse(r, e.code == PG_ENOMEM ? 500 : 422, "picture", "this picture cannot be read: %s", e.msg);
    }
}

void form_check(request *r)
{
    look_at_picture(r);
    if (!r->status) choose_prefix(r);
}
