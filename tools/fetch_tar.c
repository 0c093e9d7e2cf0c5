/* A tar archive of WebDataset's shape: members that share their name up to the first dot are one example. One example is held at a
 * time, however large the archive is. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "fetch.h"

enum { CHUNK = 1 << 16, TEXT_MAX = 1 << 20, JSON_MAX = 16 << 20, END_MARK = 1024 };

typedef struct sample {
    char *key, *image_name, *text_name; /* key: NULL before the first; names: NULL where it has none yet */
    pg_buf image, text;
    json_t *keys;
    pg_err err; /* the first thing wrong with it */
    bool wanted, skims;
} sample;

typedef struct source {
    int fd;
    char block[CHUNK];
} source;

typedef struct shard {
    fetch *f;
    const char *file; /* its name in messages */
    bool damaged; /* nothing more can be read */
    struct archive *a;
    struct archive_entry *entry;
    source *from;
    char *member; /* the last one that was seen */
    sample s;
} shard;

/* What follows cannot be read; the example under way may lack members, so it is not put. */
static void damaged(shard *h, const char *why)
{
    if (h->damaged) return;
    if (!why) why = archive_error_string(h->a);
    if (!why) why = "it is damaged";
    if (h->member) fetch_damaged(h->f, h->file, "cannot read '%s' at member '%s': %s", h->file, h->member, why);
    else fetch_damaged(h->f, h->file, "cannot read '%s': %s", h->file, why);
    h->damaged = true;
}

static void clear(sample *s)
{
    free(s->key);
    free(s->image_name);
    free(s->text_name);
    json_decref(s->keys);
    s->image.len = s->text.len = 0;
    *s = (sample){.image = s->image, .text = s->text};
}

/* The caption is the suffix that the .json member gives, else the .txt member. */
static void put_sample(shard *h)
{
    fetch *f = h->f;
    sample *s = &h->s;
    if (!s->key || !s->wanted) {
        clear(s);
        return;
    }
    bool bad_id = false;
    char *where = pg_format("%s:%s", h->file, s->image_name ? s->image_name : s->key), *id = fetch_given_id(f, s->keys, &bad_id);
    if (!id) id = pg_strdup(s->key);
    if (!where || !id) tool_no_memory(&f->t);
    fetch_begin(f, id, where);
    if (s->err.code) tool_record_error(&f->t, f->p.rec, "%s: %s", where, s->err.msg);
    else if (bad_id) fetch_bad(f, where, "'id' is neither a string nor a whole number");
    else if (!s->image_name) fetch_bad(f, where, "no image; all members of an example must follow each other, as tar --sort=name puts them");
    else if (fetch_keys(f, s->keys, where) && fetch_set_image(f, &s->image) && s->text_name && !pg_rec_has(f->p.rec, "suffix"))
        fetch_set_caption(f, &s->text, s->text_name);
    fetch_put(f, id);
    free(where);
    free(id);
    clear(s);
}

/* False where it is too large, which is an error of this example alone, or the archive is damaged. */
static bool read_member(shard *h, struct archive_entry *entry, size_t max, pg_buf *out)
{
    char buf[CHUNK];
    pg_err *e = &h->s.err;
    la_ssize_t n;
    out->len = 0;
    if (archive_entry_size(entry) < 0 || (uint64_t)archive_entry_size(entry) > max) {
        if (!e->code) pg_error(e, PG_ELIMIT, "'%s' is larger than %zu bytes", h->member, max);
        return false;
    }
    size_t size = (size_t)archive_entry_size(entry);
    while ((n = archive_read_data(h->a, buf, sizeof buf)) > 0) {
        if ((size_t)n > size - out->len) { /* holes that a few bytes describe, of any size */
            if (!e->code) pg_error(e, PG_EFORMAT, "'%s' has more bytes than the %zu that its header says", h->member, size);
            return false;
        }
        if (pg_buf_add(out, buf, (size_t)n, e)) tool_no_memory(&h->f->t);
    }
    if (n < 0) damaged(h, NULL);
    return n >= 0;
}

static void take_image(shard *h, struct archive_entry *entry)
{
    sample *s = &h->s;
    if (s->image_name && !s->err.code) pg_error(&s->err, PG_EFORMAT, "two images, '%s' and '%s'", s->image_name, h->member);
    if (s->image_name) return;
    if (!(s->image_name = pg_strdup(h->member))) tool_no_memory(&h->f->t);
    if (!s->skims) (void)read_member(h, entry, fetch_max_image(h->f), &s->image);
}

static void take_text(shard *h, struct archive_entry *entry)
{
    sample *s = &h->s;
    if (s->text_name) {
        if (!s->err.code) pg_error(&s->err, PG_EFORMAT, "two texts, the second '%s'", h->member);
        return;
    }
    if (!(s->text_name = pg_format("%s:%s", h->file, h->member))) tool_no_memory(&h->f->t);
    (void)read_member(h, entry, TEXT_MAX, &s->text);
}

static void take_keys(shard *h, struct archive_entry *entry)
{
    sample *s = &h->s;
    pg_buf b = {0};
    json_error_t why;
    json_t *o = NULL;
    if (s->keys) {
        if (!s->err.code) pg_error(&s->err, PG_EFORMAT, "two objects of keys, the second '%s'", h->member);
        return;
    }
    if (read_member(h, entry, JSON_MAX, &b)) {
        o = pg_json_load(b.len ? (char *)b.data : "", b.len, JSON_REJECT_DUPLICATES, &why);
        if (!o && pg_json_no_memory(&why)) tool_no_memory(&h->f->t);
        if (!json_is_object(o) && !s->err.code) pg_error(&s->err, PG_EFORMAT, "'%s': %s", h->member, o ? "not a JSON object" : why.text);
    }
    pg_buf_free(&b);
    if (json_is_object(o)) s->keys = o;
    else json_decref(o);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void take(shard *h, struct archive_entry *entry)
{
    sample *s = &h->s;
    const char *base = base_name(h->member), *dot = strchr(base, '.'), *ending = dot ? dot + 1 : "";
    size_t stem = (size_t)((dot ? dot : base + strlen(base)) - h->member);
    bool image = fetch_is_image(base) && strchr(ending, '.') == NULL, text = !strcasecmp(ending, "txt"), keys = !strcasecmp(ending, "json");
    if (!image && !text && !keys) {
        if (fetch_first_time(h->f, dot ? dot : "no ending"))
            tool_warn(&h->f->t, "'%s': member '%s' and others like it are left out (known: .jpg, .jpeg, .png, .txt, .json)", h->file, h->member);
        return;
    }
    if (s->key && (strncmp(s->key, h->member, stem) || s->key[stem])) put_sample(h);
    if (!fetch_more(h->f)) return;
    if (!s->key) {
        if (!(s->key = pg_strndup(h->member, stem))) tool_no_memory(&h->f->t);
        s->wanted = fetch_wanted(h->f);
        s->skims = fetch_skims(h->f);
    }
    if (!s->wanted) return;
    if (image) take_image(h, entry);
    else if (keys) take_keys(h, entry);
    else take_text(h, entry);
}

/* Names of the newer format are UTF-8, which the C locale cannot express. */
static bool set_member(shard *h, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    if (!name) name = archive_entry_pathname_utf8(entry);
    if (!name) {
        damaged(h, "the next member has no name");
        return false;
    }
    while (!strncmp(name, "./", 2)) name += 2;
    free(h->member);
    if (!(h->member = pg_strdup(name))) tool_no_memory(&h->f->t);
    return true;
}

/* libarchive takes the end of the file for the archive's. */
static bool has_end_mark(int fd)
{
    static const char zeros[END_MARK];
    char end[END_MARK];
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return true; /* a pipe: cannot be looked at */
    return st.st_size >= END_MARK && pg_pread_full(fd, end, END_MARK, st.st_size - END_MARK) == END_MARK && !memcmp(end, zeros, END_MARK);
}

/* libarchive's own reader and entry are not safe where memory runs out. */
static la_ssize_t read_block(struct archive *a, void *ctx, const void **block)
{
    source *s = ctx;
    ssize_t n;
    do n = read(s->fd, s->block, sizeof s->block);
    while (n < 0 && errno == EINTR);
    if (n < 0) archive_set_error(a, errno, "%s", strerror(errno));
    *block = s->block;
    return n;
}

static void walk(shard *h, int fd)
{
    fetch *f = h->f;
    int rc = ARCHIVE_OK;
    h->entry = archive_entry_new();
    h->from = pg_alloc(1, sizeof *h->from);
    if (!h->entry || !h->from) tool_no_memory(&f->t);
    h->from->fd = fd;
    struct archive_entry *entry = h->entry;
    if (archive_read_set_callback_data(h->a, h->from)) tool_no_memory(&f->t);
    if (archive_read_open(h->a, h->from, NULL, read_block, NULL)) damaged(h, NULL);
    while (!h->damaged && fetch_more(f) && ((rc = archive_read_next_header2(h->a, entry)) == ARCHIVE_OK || rc == ARCHIVE_WARN)) {
        if (!set_member(h, entry)) break;
        bool plain = archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry);
        if (plain && *base_name(h->member) != '.') take(h, entry);
        else if (!plain && archive_entry_filetype(entry) != AE_IFDIR) tool_warn(&f->t, "'%s': member '%s' is a link or a device and is left out", h->file, h->member);
    }
    if (h->damaged || !fetch_more(f)) return;
    if (rc != ARCHIVE_EOF) damaged(h, NULL);
    else if (!has_end_mark(fd)) damaged(h, "it is cut: no end mark follows");
    else put_sample(h);
    if (!f->order.number) tool_warn(&f->t, "no images (.png, .jpg, .jpeg, .jpe, .jfif) in '%s'", h->file);
}

void fetch_tar(fetch *f, const char *file, const char *name)
{
    shard h = {.f = f, .file = name, .a = archive_read_new()};
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (!h.a || archive_read_support_format_tar(h.a)) tool_no_memory(&f->t);
    if (fd < 0) fetch_no_source(f, name, EXIT_FAIL, "cannot open '%s': %s", name, strerror(errno));
    else {
        walk(&h, fd);
        close(fd);
    }
    clear(&h.s);
    pg_buf_free(&h.s.image);
    pg_buf_free(&h.s.text);
    free(h.member);
    archive_entry_free(h.entry);
    archive_read_free(h.a);
    free(h.from);
}
