/* Transfers over HTTP: several at once, resumed, verified, whole or not at all. Built on libcurl's multi interface.
 *
 * A transfer is described in a pg_transfer, added, and worked on by pg_net_step until it is finished. A file grows as PATH.part
 * beside PATH, is checked against every checksum that the server or a listing gives, synced and renamed. Tries that fail for a
 * passing reason are repeated with growing pauses, from where they stopped if the server still has the same file. */
#ifndef PG_NET_NET_H
#define PG_NET_NET_H

#include "base/mem.h"
#include "net/part.h"

typedef enum pg_host { PG_HOST_WEB, PG_HOST_KAGGLE, PG_HOST_STORAGE, PG_HOST_HUB } pg_host;

/* Goes to the origin (scheme, host, port) of the transfer's URL and nowhere else. */
typedef struct pg_auth {
    enum { PG_AUTH_NONE, PG_AUTH_BASIC, PG_AUTH_BEARER } kind;
    char *secret; /* "user:key", or a token */
    char *where;  /* the variable or file it came from, for messages */
} pg_auth;

/* The last reply. Headers lie as name 0 value 0 ..., names in lower case. */
typedef struct pg_reply {
    long status;
    pg_buf headers, body; /* body: of an error, at most 64 KiB */
    bool away;            /* it came from another place than the transfer's URL */
} pg_reply;
/* The nth value of a header; NULL where there is none. */
const char *pg_reply_header(const pg_reply *r, const char *name, size_t nth);

typedef enum pg_outcome { PG_PENDING, PG_FETCHED, PG_KEPT, PG_FAILED } pg_outcome;

/* Strings are the transfer's own; pg_transfer_free frees them. Begin with PG_TRANSFER_INIT. */
typedef struct pg_transfer {
    pg_host host;
    char *source;             /* what messages call it, gs://bucket/name */
    char *page;               /* where its licence and access are arranged; may be NULL */
    char *url;                /* asked with GET, */
    char *body;               /* or with POST of this JSON */
    char *alt_url, *alt_body; /* asked where url answers 404 or 410; without `want` and `size` */
    const pg_auth *auth;      /* may be NULL; must outlive the transfer */
    char *path;               /* the file; NULL: into `data` */
    size_t max;               /* of `data` */
    uint64_t most;            /* of the file at path; 0: any size */
    uint64_t size;            /* known beforehand, or PG_SIZE_UNKNOWN */
    pg_sums want;             /* the same */
    pg_sums must;             /* what the user demands: holds for alt_url, too */
    unsigned also;            /* sums to compute into `got` besides those that are verified */
    char *known_etag;         /* 304 for this one: PG_KEPT */
    bool probe;               /* headers only */

    pg_outcome outcome;
    pg_err err;
    uint64_t done, total; /* bytes so far, with those an earlier run left; total may be PG_SIZE_UNKNOWN */
    uint64_t arrived;     /* bytes that came over the network */
    pg_sums got;
    char *etag;
    pg_buf data;
    pg_reply reply;
    struct pg_exchange *x; /* pg_net's own */
} pg_transfer;
#define PG_TRANSFER_INIT ((pg_transfer){.size = PG_SIZE_UNKNOWN, .total = PG_SIZE_UNKNOWN, .max = (size_t)16 << 20})
void pg_transfer_free(pg_transfer *t); /* must be finished, or its pg_net freed */
/* What tells its content from others': `source`, or on the web the URL, whose query `source` hides. Not to be shown or stored. */
const char *pg_transfer_key(const pg_transfer *t);

typedef enum pg_say { PG_SAY_NOTE, PG_SAY_INFO, PG_SAY_WARNING } pg_say;

typedef struct pg_net_options {
    size_t transfers; /* at once; 0: 4 */
    size_t tries;     /* in a row without progress; 0: 6 */
    size_t stall_s;   /* a connection slower than 512 bytes/s for so long is given up; 0: 30 */
    void (*say)(void *ctx, pg_say level, const char *text); /* may be NULL */
    void (*tick)(void *ctx);                                /* called while waiting, several times a second; may be NULL */
    void *ctx;
} pg_net_options;

typedef struct pg_net pg_net;
int pg_net_new(pg_net **n, const pg_net_options *o, pg_err *e) PG_MUST_CHECK;
void pg_net_free(pg_net *n); /* unfinished transfers are given up; their parts stay */
int pg_net_add(pg_net *n, pg_transfer *t, pg_err *e) PG_MUST_CHECK;
/* Works for at most about ms. Returns the number of transfers not finished, or below 0. */
int pg_net_step(pg_net *n, int ms, pg_err *e) PG_MUST_CHECK;
/* Adds t and works until it is finished: 0, or t->err.code with *e = t->err. */
int pg_net_fetch(pg_net *n, pg_transfer *t, pg_err *e) PG_MUST_CHECK;
void pg_net_say(pg_net *n, pg_say level, const char *fmt, ...) PG_PRINTF(3, 4);

#endif
