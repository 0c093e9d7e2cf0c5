/* The life of a transfer: waits for its turn and for the lock, goes from hop to hop, is tried again, checked and put in place. */
#include "net/net.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "net/creds.h"
#include "net/internal.h"
#include "net/url.h"

enum { HOPS_MAX = 10, LOCK_LOOK_MS = 100, CHECK_LOOK_MS = 5, TICK_MS = 200, PROGRESS_BYTES = 1 << 16, WAIT_MAX_S = 600 };

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void pg_net_say(pg_net *n, pg_say level, const char *fmt, ...)
{
    char text[700];
    va_list ap;
    if (!n->o.say) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    n->o.say(n->o.ctx, level, text);
}

void pg_transfer_free(pg_transfer *t)
{
    char *const owned[] = {t->source, t->page, t->url, t->body, t->alt_url, t->alt_body, t->path, t->known_etag, t->etag};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    pg_buf_free(&t->data);
    pg_buf_free(&t->reply.headers);
    pg_buf_free(&t->reply.body);
    *t = PG_TRANSFER_INIT;
}

const char *pg_transfer_key(const pg_transfer *t) { return t->host == PG_HOST_WEB && t->url ? t->url : t->source; }

int pg_net_new(pg_net **out, const pg_net_options *o, pg_err *e)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) return pg_error(e, PG_FAIL, "libcurl does not start");
    pg_net *n = pg_calloc(1, sizeof *n);
    if (!n || !(n->multi = curl_multi_init())) {
        free(n);
        curl_global_cleanup();
        return pg_error_nomem(e);
    }
    n->o = *o;
    if (!n->o.transfers) n->o.transfers = 4;
    if (!n->o.tries) n->o.tries = 6;
    if (!n->o.stall_s) n->o.stall_s = 30;
    /* Parallel transfers are to have connections of their own. */
    curl_multi_setopt(n->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    pg_rng_seed(&n->rng, (uint64_t)now_ms(), (uint64_t)getpid());
    *out = n;
    return PG_OK;
}

static void exchange_free(struct pg_exchange *x, bool drop)
{
    pg_exchange_stop(x);
    if (x->has_part) pg_part_close(&x->part, drop);
    pg_origin_free(&x->seen);
    free(x->at);
    x->t->x = NULL;
    free(x);
}

void pg_net_free(pg_net *n)
{
    if (!n) return;
    for (size_t i = 0; i < n->n; i++) exchange_free(n->queue[i], false);
    free(n->queue);
    curl_multi_cleanup(n->multi);
    curl_global_cleanup();
    free(n);
}

int pg_net_add(pg_net *n, pg_transfer *t, pg_err *e)
{
    if (t->host == PG_HOST_HUB && pg_hub_offline())
        return pg_error(e, PG_FAIL, "cannot fetch '%s': it is not in the hub's cache, or damaged there, and HF_HUB_OFFLINE is set", t->source);
    if (n->n == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 16;
        struct pg_exchange **q = pg_realloc(n->queue, cap, sizeof(*q));
        if (!q) return pg_error_nomem(e);
        n->queue = q;
        n->cap = cap;
    }
    struct pg_exchange *x = pg_calloc(1, sizeof *x);
    if (!x) return pg_error_nomem(e);
    *x = (struct pg_exchange){.net = n, .t = t, .seen = {.size = PG_SIZE_UNKNOWN}};
    t->x = x;
    t->outcome = PG_PENDING;
    n->queue[n->n++] = x;
    return PG_OK;
}

static void finish(struct pg_exchange *x, pg_outcome outcome, bool drop)
{
    pg_net *n = x->net;
    pg_transfer *t = x->t;
    t->outcome = outcome;
    if (x->seen.etag && outcome != PG_FAILED) {
        free(t->etag);
        t->etag = x->seen.etag;
        x->seen.etag = NULL;
    }
    for (size_t i = 0; i < n->n; i++)
        if (n->queue[i] == x) {
            memmove(n->queue + i, n->queue + i + 1, (n->n - i - 1) * sizeof(struct pg_exchange *));
            n->n--;
            break;
        }
    exchange_free(x, drop);
}

static void fail(struct pg_exchange *x, const pg_err *why, bool drop)
{
    x->t->err = *why;
    if (!x->t->err.code) x->t->err.code = PG_FAIL;
    pg_error_context(&x->t->err, "cannot fetch '%s'", x->t->source);
    finish(x, PG_FAILED, drop);
}

/* From the origin again: credentials may go there, and a signed address is renewed. */
static int from_origin(struct pg_exchange *x, pg_err *e)
{
    char *at = pg_strdup(x->t->url);
    if (!at) return pg_error_nomem(e);
    free(x->at);
    x->at = at;
    x->hops = 0;
    x->away = x->weak = false;
    pg_origin_free(&x->seen);
    x->seen.size = PG_SIZE_UNKNOWN;
    return PG_OK;
}

/* Where this try may begin: behind what an earlier one left of the same file, as far as is known yet. */
static uint64_t resume_from(const struct pg_exchange *x)
{
    const pg_transfer *t = x->t;
    const pg_origin *o = &x->part.from;
    if (!t->path || !x->part.have || !o->source || strcmp(o->source, t->source)) return 0;
    if (o->size == PG_SIZE_UNKNOWN || x->part.have > o->size) return 0;
    if (t->size != PG_SIZE_UNKNOWN && t->size != o->size) return 0;
    return pg_sums_differ(&o->sums, &t->want) || pg_sums_differ(&o->sums, &t->must) ? 0 : x->part.have;
}

static void start_try(struct pg_exchange *x)
{
    pg_err e = {0};
    if (x->t->probe) x->from = 0;
    else x->from = resume_from(x);
    if (from_origin(x, &e) || pg_exchange_start(x, &e)) fail(x, &e, false);
    else x->state = PG_X_RUNNING;
}

/* Another process put the file there while this one waited, and not an older one lies there still. */
static bool appeared(const struct pg_exchange *x)
{
    struct stat now;
    const struct stat *b = &x->before;
    if (stat(x->t->path, &now) || !S_ISREG(now.st_mode)) return false;
    return now.st_ino != b->st_ino || now.st_dev != b->st_dev || now.st_mtim.tv_sec != b->st_mtim.tv_sec || now.st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

/* It is also what this process was to fetch, as far as is known. */
static bool fits(const struct pg_exchange *x)
{
    const pg_transfer *t = x->t;
    struct stat st;
    pg_sums want = t->want, got = {0};
    pg_err e = {0};
    if (stat(t->path, &st) || (t->size != PG_SIZE_UNKNOWN && t->size != (uint64_t)st.st_size) || !pg_sums_merge(&want, &t->must)) return false;
    unsigned which = t->must.have | pg_sum_best(t->want.have);
    return !which || (!pg_hash_file(t->path, which, &got, &e) && !pg_sums_differ(&want, &got));
}

static void begin(struct pg_exchange *x)
{
    pg_err e = {0};
    pg_transfer *t = x->t;
    if (t->path && !t->probe) {
        if (x->state == PG_X_QUEUED && stat(t->path, &x->before)) x->before = (struct stat){0};
        int rc = pg_part_open(&x->part, t->path, &e);
        if (rc < 0) return fail(x, &e, false);
        if (rc == 0) {
            if (x->state != PG_X_LOCKED) pg_net_say(x->net, PG_SAY_INFO, "another process is fetching '%s'; waiting for it", t->source);
            x->state = PG_X_LOCKED;
            x->due = now_ms() + LOCK_LOOK_MS;
            return;
        }
        x->has_part = true;
        if (x->state == PG_X_LOCKED && appeared(x) && fits(x)) return finish(x, PG_KEPT, false);
    }
    start_try(x);
}

/* Seconds that the server asks to wait; -1 where it does not. */
static long long asked_wait(const struct pg_exchange *x)
{
    curl_off_t s = 0;
    const char *limit = pg_reply_header(&x->t->reply, "ratelimit", 0), *left = limit;
    if (!curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &s) && s > 0) return s;
    while (left && (left = strstr(left, "t=")) && left > limit && !strchr("; ,", left[-1])) left += 2; /* not the end of limit= or reset= */
    if (left && left[2] >= '0' && left[2] <= '9') return strtol(left + 2, NULL, 10) + 1;
    return -1;
}

/* Another try after a pause, unless there were enough. */
static void again(struct pg_exchange *x, const pg_err *why, long long wait_s)
{
    pg_err e = *why;
    if (x->body >= PROGRESS_BYTES && wait_s != 0) x->tries = 0;
    if (++x->tries >= x->net->o.tries || wait_s > WAIT_MAX_S) {
        if (wait_s > WAIT_MAX_S) pg_error_context(&e, "the server asks to come back in %lld s", wait_s);
        else if (x->tries > 1) pg_error_context(&e, "given up after %zu tries", x->tries);
        return fail(x, &e, false);
    }
    double pause = (double)(1u << (x->tries < 6 ? x->tries - 1 : 5)) * (0.5 + pg_rng_double(&x->net->rng) / 2);
    long long ms = wait_s > 0 ? wait_s * 1000 : (long long)(pause * 1000);
    pg_net_say(x->net, PG_SAY_INFO, "'%s': %s; next try in %.1f s", x->t->source, e.msg, (double)ms / 1000);
    pg_exchange_stop(x);
    x->state = PG_X_WAITING;
    x->due = now_ms() + ms;
}

/* Throws away what is there and starts over. */
static void restart(struct pg_exchange *x, const char *why)
{
    pg_err e = {0};
    pg_error(&e, PG_EFORMAT, "%s", why);
    pg_exchange_stop(x);
    if (x->has_part) {
        const pg_origin nothing = {.source = x->t->source, .size = PG_SIZE_UNKNOWN};
        pg_err bad = {0};
        if (pg_part_begin(&x->part, &nothing, &bad)) return fail(x, &bad, false);
    }
    if (++x->tries >= x->net->o.tries) return fail(x, &e, true);
    pg_net_say(x->net, PG_SAY_INFO, "'%s': %s; starting over", x->t->source, why);
    start_try(x);
}

static void redirect(struct pg_exchange *x)
{
    pg_err e = {0};
    const char *to = NULL;
    pg_transfer *t = x->t;
    if (curl_easy_getinfo(x->easy, CURLINFO_REDIRECT_URL, &to) || !to) {
        pg_error(&e, PG_EFORMAT, "status %ld without a place to go to", t->reply.status);
        return fail(x, &e, false);
    }
    if (++x->hops > HOPS_MAX) {
        pg_error(&e, PG_EFORMAT, "redirected more than %d times, perhaps in a circle", HOPS_MAX);
        return fail(x, &e, false);
    }
    if (pg_url_is_https(t->url) && !pg_url_is_https(to)) {
        pg_error(&e, PG_EFORMAT, "the server redirects from https to something else");
        return fail(x, &e, false);
    }
    char *at = pg_strdup(to);
    if (!at) {
        pg_error_nomem(&e);
        return fail(x, &e, false);
    }
    if (!pg_url_same_origin(at, t->url)) x->away = true; /* for good, even if a later hop leads back */
    free(x->at);
    x->at = at;
    if (pg_exchange_start(x, &e)) fail(x, &e, false);
}

static bool passing_status(long status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

static bool passing_trouble(CURLcode c)
{
    switch (c) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
    }
}

static void trouble(struct pg_exchange *x, CURLcode c)
{
    pg_err e = {0};
    bool slow = c == CURLE_OPERATION_TIMEDOUT && x->verdict != PG_V_NONE;
    if (slow) pg_error(&e, PG_EIO, "less than 512 bytes/s for %zu s", x->net->o.stall_s);
    else if (c == CURLE_PARTIAL_FILE || (c == CURLE_RECV_ERROR && x->body))
        pg_error(&e, PG_EIO, "the connection broke after %llu bytes", (unsigned long long)(x->from + x->body));
    else pg_error(&e, PG_EIO, "%s", x->error[0] ? x->error : curl_easy_strerror(c));
    if (c == CURLE_PEER_FAILED_VERIFICATION) pg_error_context(&e, "its certificate cannot be verified (SSL_CERT_FILE names other authorities)");
    if (!passing_trouble(c)) return fail(x, &e, false);
    again(x, &e, slow ? 0 : -1);
}

/* 416: nothing is left to send, or the part is longer than the file. */
static bool is_complete(const struct pg_exchange *x)
{
    const char *range = pg_reply_header(&x->t->reply, "content-range", 0);
    uint64_t total;
    return x->has_part && range && !strncmp(range, "bytes */", 8) && pg_parse_u64(range + 8, &total) && total == x->part.have &&
           total == x->part.from.size;
}

static void check_memory(struct pg_exchange *x)
{
    pg_transfer *t = x->t;
    pg_err e = {0};
    if (x->seen.sums.have | t->also && pg_hash_bytes(t->data.data, t->data.len, x->seen.sums.have | t->also, &t->got, &e)) return fail(x, &e, false);
    if (!pg_sums_differ(&x->seen.sums, &t->got)) return finish(x, PG_FETCHED, false);
    if (x->rehashed) {
        pg_error(&e, PG_EFORMAT, "its checksum is wrong, twice");
        return fail(x, &e, false);
    }
    x->rehashed = true;
    restart(x, "its checksum is wrong");
}

static void complete(struct pg_exchange *x)
{
    pg_transfer *t = x->t;
    pg_err e = {0};
    uint64_t end = x->from + x->body;
    if (x->seen.size != PG_SIZE_UNKNOWN && end != x->seen.size) {
        pg_error(&e, PG_EIO, "the connection ended after %llu of %llu bytes", (unsigned long long)end, (unsigned long long)x->seen.size);
        return again(x, &e, -1);
    }
    t->total = end;
    if (!t->path) {
        pg_exchange_stop(x);
        return check_memory(x);
    }
    if (x->part.from.size == PG_SIZE_UNKNOWN) {
        x->part.from.size = end;
        if (pg_part_hash(&x->part, x->seen.sums.have | t->also, &e)) return fail(x, &e, false);
    }
    pg_exchange_stop(x);
    x->state = PG_X_CHECKING;
    x->due = 0;
}

/* Kaggle may say 200 and mean 403. */
static bool hides_error(struct pg_exchange *x, pg_err *e)
{
    pg_transfer *t = x->t;
    pg_buf b = {0};
    const char *type = pg_reply_header(&t->reply, "content-type", 0);
    if (t->host != PG_HOST_KAGGLE || x->away || x->part.have > 65536 || !type || strncmp(type, "application/json", 16)) return false;
    long code = pg_file_read(x->part.part, 65536, &b, e) ? 0 : pg_reply_hidden_code(b.data, b.len);
    if (code) {
        pg_buf_free(&t->reply.body);
        t->reply.body = b;
        t->reply.status = code;
        pg_explain(t, e);
    } else pg_buf_free(&b);
    return code != 0;
}

static void check(struct pg_exchange *x)
{
    pg_transfer *t = x->t;
    pg_err e = {0};
    int rc = pg_part_sums(&x->part, &t->got, &e);
    if (rc == 0) {
        x->due = now_ms() + CHECK_LOOK_MS;
        return;
    }
    if (rc < 0) return fail(x, &e, false);
    unsigned bad = pg_sums_differ(&x->seen.sums, &t->got);
    if (bad && x->rehashed) {
        char want[72], got[72];
        pg_sum_text(&x->seen.sums, bad, want);
        pg_sum_text(&t->got, bad, got);
        pg_error(&e, PG_EFORMAT, "its %s is %s, and should be %s", bad == PG_SUM_MD5 ? "md5" : bad == PG_SUM_CRC32C ? "crc32c" : bad == PG_SUM_SHA256 ? "sha256" : "git sha1", got, want);
        return fail(x, &e, true);
    }
    if (bad) {
        x->rehashed = true;
        return restart(x, "its checksum is wrong");
    }
    if (hides_error(x, &e)) return fail(x, &e, true);
    if (pg_part_commit(&x->part, &e)) return fail(x, &e, false);
    x->has_part = false;
    finish(x, PG_FETCHED, false);
}

/* The other way to ask, for what the first does not know: without the pinned version, or in another form. */
static bool other_way(struct pg_exchange *x)
{
    pg_transfer *t = x->t;
    if (x->alt || !t->alt_url) return false;
    x->alt = true;
    free(t->url);
    free(t->body);
    t->url = t->alt_url;
    t->body = t->alt_body;
    t->alt_url = t->alt_body = NULL;
    t->size = PG_SIZE_UNKNOWN;
    t->want = (pg_sums){0};
    start_try(x);
    return true;
}

static void refused(struct pg_exchange *x)
{
    long status = x->t->reply.status;
    pg_err e = {0};
    if (passing_status(status)) {
        pg_explain(x->t, &e);
        return again(x, &e, asked_wait(x));
    }
    if (x->away && !x->reasked && (status == 400 || status == 401 || status == 403 || status == 404)) {
        x->reasked = true; /* the signed address has expired; the origin gives a new one */
        pg_net_say(x->net, PG_SAY_NOTE, "'%s': the storage answers %ld; asking for a new address", x->t->source, status);
        return start_try(x);
    }
    if (!x->away && (status == 404 || status == 410) && other_way(x)) return;
    pg_explain(x->t, &e);
    fail(x, &e, !x->away && (status == 404 || status == 410)); /* a proxy or a firewall may say anything else; the file is still there */
}

static bool differ(const char *a, const char *b) { return a && b && strcmp(a, b); }

/* 416 to a part that is whole: it is verified like any other download, if it is still what the server has. */
static void finish_part(struct pg_exchange *x)
{
    const pg_origin *o = &x->part.from;
    pg_err e = {0};
    bool same = pg_sums_merge(&x->seen.sums, &o->sums) && pg_sums_merge(&x->seen.sums, &x->t->want) && pg_sums_merge(&x->seen.sums, &x->t->must);
    if (!same || differ(x->seen.etag, o->etag) || differ(x->seen.generation, o->generation))
        return restart(x, "the server has another version than the part on the disk");
    x->seen.size = o->size;
    if (pg_part_hash(&x->part, x->seen.sums.have | x->t->also, &e)) return fail(x, &e, false);
    complete(x);
}

static void answered(struct pg_exchange *x, CURLcode c)
{
    if (x->verdict == PG_V_NONE && !c) pg_exchange_judge(x); /* no body came */
    switch (x->verdict) {
    case PG_V_FAIL: {
        pg_err e = x->err;
        return fail(x, &e, x->t->most && e.code == PG_ELIMIT);
    }
    case PG_V_UNCHANGED: return finish(x, PG_KEPT, false);
    case PG_V_PROBED: return finish(x, PG_FETCHED, false);
    case PG_V_RESTART: return restart(x, "the server has another version than the part on the disk");
    case PG_V_TAKE:
        if (x->body >= PROGRESS_BYTES) x->reasked = false;
        return c ? trouble(x, c) : complete(x);
    case PG_V_NONE: return trouble(x, c);
    case PG_V_ASIDE: break;
    }
    pg_reply *r = &x->t->reply;
    long hidden = r->status == 200 ? pg_reply_hidden_code(r->body.data, r->body.len) : 0;
    if (hidden) r->status = hidden;
    long status = r->status;
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) return redirect(x);
    if (status == 416 && x->from) {
        return is_complete(x) ? finish_part(x) : restart(x, "the part on the disk is longer than the file");
    }
    refused(x);
}

/* What is due now; returns the time of what is due next. */
static long long attend(pg_net *n)
{
    long long now = now_ms(), next = now + 1000;
    size_t active = 0, i = 0;
    for (size_t j = 0; j < n->n; j++) active += n->queue[j]->state != PG_X_QUEUED;
    while (i < n->n) {
        struct pg_exchange *x = n->queue[i];
        size_t before = n->n;
        bool due = x->state == PG_X_QUEUED ? active < n->o.transfers : x->state != PG_X_RUNNING && x->due <= now;
        if (due) {
            if (x->state == PG_X_QUEUED) active++;
            if (x->state == PG_X_CHECKING) check(x);
            else if (x->state == PG_X_WAITING) start_try(x);
            else begin(x);
        }
        if (n->n < before) { /* x is finished, and a place is free */
            active--;
            continue;
        }
        if (x->state != PG_X_RUNNING && x->state != PG_X_QUEUED && x->due < next) next = x->due;
        i++;
    }
    return next;
}

int pg_net_step(pg_net *n, int ms, pg_err *e)
{
    long long next = attend(n), now = now_ms();
    int running = 0, left = 0;
    if (!n->n) return 0;
    CURLMcode m = curl_multi_perform(n->multi, &running);
    for (CURLMsg *msg; !m && (msg = curl_multi_info_read(n->multi, &left));) {
        char *x = NULL;
        CURLcode c = msg->data.result;
        if (msg->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &x);
        answered((struct pg_exchange *)(void *)x, c);
        next = now;
    }
    long long wait = next - now < ms ? next - now : ms;
    if (n->n && wait > 0 && !m) m = curl_multi_poll(n->multi, NULL, 0, (int)wait, NULL);
    if (m) return pg_error(e, PG_FAIL, "libcurl: %s", curl_multi_strerror(m));
    if (n->o.tick && now - n->ticked >= TICK_MS) {
        n->ticked = now;
        n->o.tick(n->o.ctx);
    }
    return (int)n->n;
}

int pg_net_fetch(pg_net *n, pg_transfer *t, pg_err *e)
{
    int rc = pg_net_add(n, t, e);
    while (rc >= 0 && t->outcome == PG_PENDING) rc = pg_net_step(n, TICK_MS, e);
    if (rc < 0) return rc;
    if (t->outcome != PG_FAILED) return PG_OK;
    *e = t->err;
    return e->code;
}
