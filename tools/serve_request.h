/* One HTTP request of pg-serve, between reading it (serve_http.c) and answering it (serve_reply.c). HTTP thread only. */
#ifndef PG_SERVE_REQUEST_H
#define PG_SERVE_REQUEST_H

#include <microhttpd.h>
#include <stdarg.h>

#include "serve.h"

typedef enum { WANT_JSON, WANT_EVENTS, WANT_HTML } want;
enum { TAKES_GET, TAKES_POST };

typedef struct route {
    const char *path;
    int takes;
    bool open; /* without authorization */
    const char *type, *body, *body_end; /* a file; NULL: made on demand */
} route;

typedef struct request {
    server *s;
    conn *conn;
    const route *route; /* NULL: none */
    want want;
    char client[64], method[16], path[128];
    double start;
    job *job; /* where there is an upload */
    struct MHD_PostProcessor *form;
    pg_buf prefix, own;
    size_t received;
    bool ended, admitted; /* all was read; the job is in the list */
    unsigned answered;    /* the status that went out */
    /* a refusal, once status is not 0 */
    unsigned status;
    const char *code, *allow;
    double retry;
    char text[300];
} request;

void refuse(request *r, unsigned status, const char *code, const char *fmt, ...) PG_PRINTF(4, 5);
void refuse_size(request *r);
void size_text(size_t bytes, char text[static 32]); /* "20 MB" */
void refuse_busy(request *r, const char *code); /* what job_admit said */

/* serve_form.c: pieces of an upload, as they arrive. False, and r->status set, where the upload is refused. */
bool form_image(request *r, const char *p, size_t n);
bool form_field(request *r, const char *key, const char *name, const char *data, uint64_t off, size_t n); /* off: of the piece in its field */
void form_prefix(request *r, const char *prefix); /* from the address */
void form_check(request *r);                      /* once all is there */

const route *find_route(const char *path);
want find_want(const char *accept);
int make_page(server *s, pg_err *e) PG_MUST_CHECK;
enum MHD_Result reply_refusal(request *r, struct MHD_Connection *c);
enum MHD_Result reply_plain(request *r, struct MHD_Connection *c);
enum MHD_Result reply_job(request *r, struct MHD_Connection *c); /* one that is done */
enum MHD_Result reply_events(request *r, struct MHD_Connection *c);

#endif
