/* What was streamed before: $XDG_CACHE_HOME/pg/fetch, a file for each source (on the web, for each whole URL), its sha256 and validator beside it. An entry is used
 * after the server has said that it is still the same one, and if its sha256 is right. The least recently used go first. */
#ifndef PG_NET_CACHE_H
#define PG_NET_CACHE_H

#include "net/net.h"

typedef struct pg_cache pg_cache;
int pg_cache_open(pg_cache **c, uint64_t limit, pg_err *e) PG_MUST_CHECK;
/* Directs a transfer into the cache, asking only for what has changed (not where `anew`). */
int pg_cache_direct(pg_cache *c, pg_transfer *t, bool anew, pg_err *e) PG_MUST_CHECK;
/* After the transfer: notes what arrived, or verifies what was kept. PG_EFORMAT: the entry is damaged, or
 * another process replaced it and has not noted it yet; it stays, for that one: ask anew. */
int pg_cache_settle(pg_cache *c, const pg_transfer *t, pg_err *e) PG_MUST_CHECK;
/* Once the entry was read: keeps to the limit, give or take an eighth and what is fetched ahead. */
void pg_cache_ease(pg_cache *c);
/* Keeps to the limit. */
void pg_cache_close(pg_cache *c);

#endif
