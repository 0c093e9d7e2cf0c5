/* Shared by the files of this room that carry out transfers. */
#ifndef PG_NET_INTERNAL_H
#define PG_NET_INTERNAL_H

#include <curl/curl.h>
#include <sys/stat.h>

#include "base/num.h"
#include "net/net.h"

/* What the headers of a reply mean for its transfer. */
typedef enum pg_verdict {
    PG_V_NONE,      /* no headers yet */
    PG_V_TAKE,      /* the body is the file */
    PG_V_ASIDE,     /* the body is an error's text or a redirect's */
    PG_V_UNCHANGED, /* 304 */
    PG_V_PROBED,
    PG_V_RESTART,   /* what is there does not belong to what the server has now */
    PG_V_FAIL       /* x->err says why; no further try would help */
} pg_verdict;

/* A transfer under way. */
struct pg_exchange {
    pg_net *net;
    pg_transfer *t;
    CURL *easy;
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    enum { PG_X_QUEUED, PG_X_LOCKED, PG_X_WAITING, PG_X_RUNNING, PG_X_CHECKING } state;
    long long due;  /* when to look again, in milliseconds of the monotonic clock */
    char *at;       /* the URL of this hop */
    bool away;      /* left the origin: no credentials any more */
    bool alt, reasked, rehashed;
    size_t hops, tries;
    pg_part part;
    bool has_part;
    struct stat before; /* of path when the transfer began; st_ino 0: nothing was there */
    uint64_t from, body; /* of this try: where it began, bytes that arrived */
    pg_origin seen;      /* what the replies say the file is */
    bool weak;           /* seen.etag does not promise the same bytes */
    pg_verdict verdict;
    pg_err err;
};

struct pg_net {
    CURLM *multi;
    pg_net_options o;
    pg_rng rng;
    struct pg_exchange **queue; /* not finished, in order of arrival */
    size_t n, cap;
    long long ticked;
};

/* exchange.c: one request and its reply. */
int pg_exchange_start(struct pg_exchange *x, pg_err *e);
void pg_exchange_stop(struct pg_exchange *x); /* the connection, not the transfer */
void pg_exchange_judge(struct pg_exchange *x); /* once the headers are there; sets x->verdict */

/* explain.c: t->reply is an error; says what it means and what the user can do. */
int pg_explain(const pg_transfer *t, pg_err *e);
/* The text of an error in a reply's headers or body, "" where there is none. */
void pg_reply_message(const pg_reply *r, char *out, size_t n);
/* A body of 200 that is {"code":403,"message":...}: its code, else 0. */
long pg_reply_hidden_code(const void *body, size_t n);

#endif
