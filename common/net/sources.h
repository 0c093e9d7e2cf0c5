/* Shared by the files that list sources. */
#ifndef PG_NET_SOURCES_H
#define PG_NET_SOURCES_H

#include <jansson.h>

#include "net/source.h"

const pg_auth *pg_hosts_auth(pg_hosts *h, pg_host host, pg_err *e); /* NULL: error */

/* One request to an API: JSON in *out. *status, where not NULL, takes the status of a refusal. *next: the URL in Link rel=next. */
typedef struct pg_ask {
    pg_host host;
    const char *source, *page, *url, *alt_url, *alt_body;
} pg_ask;
int pg_ask_json(pg_hosts *h, const pg_ask *a, json_t **out, long *status, char **next, pg_err *e) PG_MUST_CHECK;

/* A new item, name checked; NULL with e->code 0: rejected or a folder's placeholder. Takes no ownership. */
pg_item *pg_items_add(pg_hosts *h, pg_items *l, pg_host host, const char *source, const char *name, pg_err *e);
/* The version of a box that was asked for before; NULL: ask. And noting it. */
const char *pg_hosts_recall(const pg_hosts *h, const pg_source *s);
int pg_hosts_remember(pg_hosts *h, const pg_source *s, const char *version, pg_err *e) PG_MUST_CHECK;
uint64_t pg_json_size(const json_t *v); /* an integer, or one in a string; PG_SIZE_UNKNOWN */

int pg_kaggle_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e) PG_MUST_CHECK;
int pg_kaggle_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e) PG_MUST_CHECK;
int pg_storage_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e) PG_MUST_CHECK;
int pg_storage_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e) PG_MUST_CHECK;
int pg_hub_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e) PG_MUST_CHECK;
int pg_hub_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e) PG_MUST_CHECK;

#endif
