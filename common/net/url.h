/* URLs and the names in them. */
#ifndef PG_NET_URL_H
#define PG_NET_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Percent-encodes all but A-Za-z0-9-._~ (and '/' where keep_slash). free(); NULL on no memory, as all here. */
char *pg_url_encode(const char *s, bool keep_slash);
/* The inverse; NULL also where it would hold a 0 byte. */
char *pg_url_decode(const char *s);
/* file:///a%20b and file://localhost/a%20b are the path /a b. NULL also where it is no path of this machine. */
bool pg_url_is_file(const char *url);
char *pg_url_file(const char *url);
/* For messages, headers and logs: without user, password, query and fragment (a query may be a signature). Other text is copied. */
char *pg_url_redact(const char *url);
/* Holds a user or a password. */
bool pg_url_has_user(const char *url);
/* Scheme, host and port are the same. */
bool pg_url_same_origin(const char *a, const char *b);
/* https, or this very machine. */
bool pg_url_is_private(const char *url);
bool pg_url_is_https(const char *url);
/* The last part of the path, decoded; NULL where it is empty or no file name. */
char *pg_url_last(const char *url);
char *pg_url_host(const char *url);

/* NULL, or why a remote name is no place for a file under a folder: empty, absolute, "." or "..", a backslash, a control character,
 * or one of the endings that the files of a download have. */
const char *pg_name_reject(const char *name);

#endif
