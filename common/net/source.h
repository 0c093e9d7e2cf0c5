/* What a remote source names, and the files it holds.
 *     https://host/path   file:///path   gs://bucket/name   kaggle://owner/model/framework/variation[/version][/file]
 *     hf://owner/repo[@revision][/file], or with the revision at the end; hf://datasets/owner/repo for data sets */
#ifndef PG_NET_SOURCE_H
#define PG_NET_SOURCE_H

#include "net/creds.h"
#include "net/net.h"

typedef struct pg_source {
    pg_host host;
    char *text;    /* for messages: without the query of a URL */
    char *box;     /* the URL; bucket; owner/model/framework/variation; owner/repo, datasets/owner/repo */
    char *version; /* of Kaggle or the hub; NULL: the latest */
    char *file;    /* within box; NULL: all of it. gs: a name, or a prefix ending in '/' */
} pg_source;

/* Has a scheme, so it is no path: http, https, gs, kaggle, hf. file:// is not among them. */
bool pg_source_is_remote(const char *text);
int pg_source_parse(pg_source *s, const char *text, pg_err *e) PG_MUST_CHECK;
void pg_source_free(pg_source *s);
/* The text of a file named relative to another: beside it, unless the name has a scheme of its own. NULL on no memory. */
char *pg_source_beside(const char *text, const char *name);

typedef struct pg_item {
    char *name;   /* a safe relative path */
    char *cached; /* the same file in another client's cache, or NULL */
    bool skip;    /* not needed */
    pg_transfer t;
} pg_item;
typedef struct pg_items {
    pg_item *at;
    size_t n, cap;
    size_t rejected; /* names that are no place for a file; each was warned of */
    bool folder;     /* the source was one */
    bool data;       /* it is a data set: all of it is wanted */
    bool by_name;    /* the listing was refused, so this is what was known by name */
} pg_items;
void pg_items_free(pg_items *l);

/* Hosts with what is needed to ask them. */
typedef struct pg_hosts {
    pg_net *net;
    pg_auth auth[PG_HOST_HUB + 1];
    bool known[PG_HOST_HUB + 1];
    char *asked, *version; /* the last box whose version was asked, and the answer: pictures of one box share it */
} pg_hosts;
void pg_hosts_free(pg_hosts *h); /* not the net */

/* The files of a source, one where it is a file, sorted by name. */
int pg_source_list(pg_hosts *h, const pg_source *s, pg_items *out, pg_err *e) PG_MUST_CHECK;
/* The one file that s names, without asking more than is needed to reach it. */
int pg_source_item(pg_hosts *h, const pg_source *s, pg_item *out, pg_err *e) PG_MUST_CHECK;
void pg_item_free(pg_item *i);

/* Sets skip for all that a model does not need: leaves weights of one precision, tokenizer and configuration. Lists without
 * weights, and data sets, are left as they are. An error where there are several models. */
int pg_select_model(pg_items *l, const char *source, pg_err *e) PG_MUST_CHECK;
/* Where an index lists the shards, asks for it and skips shards that it does not name. */
int pg_select_shards(pg_hosts *h, pg_items *l, const char *source, pg_err *e) PG_MUST_CHECK;
bool pg_is_weights(const char *name);

/* Copies a local file into place like a download: whole, verified against want, or not at all. Links where it may (not for `copy`). */
int pg_local_fetch(const char *from, const char *path, const pg_sums *want, bool may_link, pg_err *e) PG_MUST_CHECK;

#endif
