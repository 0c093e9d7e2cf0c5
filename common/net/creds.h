/* Who we are to a host. Read from the environment and the files that the hosts' own clients use; never from a command line. */
#ifndef PG_NET_CREDS_H
#define PG_NET_CREDS_H

#include "net/net.h"

/* Fills *a; kind PG_AUTH_NONE where nothing is set. Order, Kaggle: KAGGLE_API_TOKEN (a token or the name of a file with it),
 * ~/.kaggle/access_token[.txt], KAGGLE_USERNAME with KAGGLE_KEY, kaggle.json in $KAGGLE_CONFIG_DIR, ~/.kaggle, $XDG_CONFIG_HOME/kaggle.
 * Hub: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, $HF_TOKEN_PATH, $HF_HOME/token; none with HF_HUB_DISABLE_IMPLICIT_TOKEN.
 * Storage: GOOGLE_OAUTH_ACCESS_TOKEN, none with STORAGE_EMULATOR_HOST. A file that others may read is warned of through n (may be NULL). */
int pg_auth_find(pg_auth *a, pg_host host, pg_net *n, pg_err *e) PG_MUST_CHECK;
void pg_auth_free(pg_auth *a);

/* Where a host is: HF_ENDPOINT, KAGGLE_API_ENDPOINT, STORAGE_EMULATOR_HOST, else the public one. No slash at the end; free(). */
char *pg_endpoint(pg_host host);
bool pg_env_flag(const char *name); /* 1, ON, YES, TRUE in any case */
bool pg_hub_offline(void); /* HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: nothing is asked of the hub */
/* $variable, else $HOME/below; NULL where neither is set, or no memory. */
char *pg_env_dir(const char *variable, const char *below);
/* Folders of the hub's and kagglehub's own clients. */
char *pg_hub_home(void);
char *pg_hub_cache(void);
char *pg_kagglehub_cache(void);

#endif
