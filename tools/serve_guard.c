/* Who may use the server, and how often. */
#include <arpa/inet.h>
#include <crypt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/num.h"
#include "serve.h"

/* ---- names, passwords, tokens ---- */
enum { REMEMBERED = 16, CREDENTIALS_MAX = 1024 };

typedef struct credential {
    char *name, *secret; /* name NULL: the secret is a token, as it is; else a hash of crypt(5) */
} credential;

struct auth {
    credential *all;
    size_t n;
    /* Headers that were accepted: a slow hash is computed once for each, not for every request. */
    char *accepted[REMEMBERED];
    size_t next;
};

void auth_free(auth *a)
{
    if (!a) return;
    for (size_t i = 0; i < a->n; i++) {
        free(a->all[i].name);
        free(a->all[i].secret);
    }
    for (size_t i = 0; i < REMEMBERED; i++) free(a->accepted[i]);
    free(a->all);
    free(a);
}

static bool known_hash(const char *s)
{
    static const char *const kinds[] = {"$2y$", "$2b$", "$2a$", "$5$", "$6$", "$y$", "$7$", "$gy$"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strncmp(s, kinds[i], strlen(kinds[i]))) return true;
    return false;
}

static int add_line(auth *a, const char *path, size_t number, char *line, pg_err *e)
{
    char *colon = strchr(line, ':');
    credential *more = pg_realloc(a->all, a->n + 1, sizeof *more);
    if (!more) return pg_error_nomem(e);
    a->all = more;
    size_t n = colon ? (size_t)(colon - line) : 0;
    for (size_t i = 0; colon && i < a->n; i++)
        if (a->all[i].name && strlen(a->all[i].name) == n && !memcmp(a->all[i].name, line, n))
            return pg_error(e, PG_EFORMAT, "'%s', line %zu: the name '%s' was there before", path, number, a->all[i].name);
    if (colon && !known_hash(colon + 1))
        return pg_error(e, PG_EFORMAT, "'%s', line %zu: the password is not hashed with bcrypt, yescrypt or SHA-2; make it with htpasswd -B", path,
                        number);
    if (!colon && strlen(line) < 16)
        return pg_error(e, PG_EFORMAT, "'%s', line %zu: a token of less than 16 characters can be guessed", path, number);
    credential *c = &a->all[a->n];
    *c = (credential){colon ? pg_strndup(line, n) : NULL, pg_strdup(colon ? colon + 1 : line)};
    a->n++;
    return (colon && !c->name) || !c->secret ? pg_error_nomem(e) : PG_OK;
}

/* Neither a hash nor a token can end in white space; an editor leaves some behind. */
static void trim_end(char *line)
{
    size_t n = strlen(line);
    while (n && strchr(" \t\r", line[n - 1])) line[--n] = 0;
}

int auth_open(auth **out, const char *path, pg_err *e)
{
    pg_buf b = {0};
    size_t number = 0;
    auth *a = pg_calloc(1, sizeof *a);
    *out = NULL;
    if (!a) return pg_error_nomem(e);
    int rc = pg_file_read(path, 1 << 20, &b, e);
    if (!rc) rc = pg_buf_add(&b, "", 1, e);
    for (char *line = rc ? NULL : (char *)b.data, *next; line && !rc; line = next) {
        if ((next = strchr(line, '\n'))) *next++ = 0;
        number++;
        trim_end(line);
        if (*line && *line != '#') rc = add_line(a, path, number, line, e);
    }
    if (!rc && !a->n) rc = pg_error(e, PG_EFORMAT, "'%s' holds neither a name with a password nor a token", path);
    pg_buf_free(&b);
    if (rc) auth_free(a);
    else *out = a;
    return rc;
}

/* Takes the same time wherever they differ. */
static bool same(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned differ = n != m;
    for (size_t i = 0; i < n; i++) differ |= (unsigned)(a[i] ^ b[m ? i % m : 0]);
    return !differ;
}

/* A name that is not in the file costs a hash too, that of another one: the time of an answer does not tell which names there are. */
static bool check(const auth *a, const char *name, const char *secret)
{
    struct crypt_data data = {0};
    const credential *its = NULL, *any = NULL;
    bool ok = false;
    for (size_t i = 0; i < a->n; i++) {
        const credential *c = &a->all[i];
        if (!c->name) ok |= same(c->secret, secret);
        else if (name) {
            any = c;
            if (same(c->name, name)) its = c;
        }
    }
    const char *hash = any ? crypt_r(secret, (its ? its : any)->secret, &data) : NULL;
    return ok | (hash && its && same(hash, its->secret));
}

static bool decode64(const char *s, char *out, size_t room)
{
    unsigned bits = 0, have = 0;
    size_t n = 0;
    for (; *s && *s != '='; s++) {
        unsigned v;
        if (*s >= 'A' && *s <= 'Z') v = (unsigned)(*s - 'A');
        else if (*s >= 'a' && *s <= 'z') v = (unsigned)(*s - 'a') + 26;
        else if (*s >= '0' && *s <= '9') v = (unsigned)(*s - '0') + 52;
        else if (*s == '+' || *s == '/') v = *s == '+' ? 62 : 63;
        else return false;
        bits = bits << 6 | v;
        if ((have += 6) < 8) continue;
        have -= 8;
        if (n + 1 >= room) return false;
        out[n++] = (char)(bits >> have & 255);
    }
    out[n] = 0;
    return true;
}

bool auth_remembers(const auth *a, const char *h)
{
    bool is = false;
    for (size_t i = 0; h && i < REMEMBERED; i++)
        if (a->accepted[i] && same(a->accepted[i], h)) is = true;
    return is;
}

bool auth_allows(auth *a, const char *h)
{
    char plain[CREDENTIALS_MAX], *colon = NULL;
    bool ok = false;
    if (!h || strlen(h) >= CREDENTIALS_MAX) return false;
    if (!strncasecmp(h, "Bearer ", 7)) ok = check(a, NULL, h + 7);
    else if (!strncasecmp(h, "Basic ", 6) && decode64(h + 6, plain, sizeof plain) && (colon = strchr(plain, ':'))) {
        *colon = 0;
        ok = check(a, plain, colon + 1); /* a browser asks for a password: a token will do for one, with any name */
    }
    memset(plain, 0, sizeof plain);
    if (ok) {
        free(a->accepted[a->next]);
        a->accepted[a->next] = pg_strdup(h);
        a->next = (a->next + 1) % REMEMBERED;
    }
    return ok;
}

/* ---- rates: a bucket of tokens for each address, in a table that does not grow ---- */
enum { SETS = 1024, WAYS = 4 };

typedef struct bucket {
    unsigned char key[16];
    double left, at; /* at 0: unused */
} bucket;

struct rates {
    double per_second, burst;
    bucket all[SETS][WAYS];
};

rates *rates_new(double per_minute)
{
    rates *r = pg_calloc(1, sizeof *r);
    if (!r) return NULL;
    r->per_second = per_minute / 60;
    r->burst = per_minute / 6 > 5 ? per_minute / 6 : 5; /* ten seconds' worth at once */
    return r;
}

void rates_free(rates *r) { free(r); }

static void key_of(const char *address, unsigned char key[16])
{
    static const unsigned char mapped[12] = {[10] = 255, [11] = 255}; /* IPv4 as a socket for both kinds shows it */
    memcpy(key, mapped, 12);
    if (inet_pton(AF_INET, address, key + 12) == 1) return;
    memset(key, 0, 16);
    if (inet_pton(AF_INET6, address, key) == 1 && memcmp(key, mapped, 12)) memset(key + 8, 0, 8);
}

static bucket *bucket_of(rates *r, const unsigned char key[16])
{
    uint64_t h = pg_mix(PG_MIX, key, 16);
    bucket *set = r->all[(h ^ h >> 32) % SETS], *oldest = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].at > 0 && !memcmp(set[i].key, key, 16)) return &set[i];
        if (set[i].at < oldest->at) oldest = &set[i];
    }
    *oldest = (bucket){.left = r->burst};
    memcpy(oldest->key, key, 16);
    return oldest;
}

double rates_take(rates *r, const char *address, double now)
{
    unsigned char key[16];
    if (!r) return 0;
    key_of(address, key);
    bucket *b = bucket_of(r, key);
    if (b->at > 0) b->left += (now - b->at) * r->per_second;
    if (b->left > r->burst) b->left = r->burst;
    b->at = now;
    if (b->left < 1) return (1 - b->left) / r->per_second;
    b->left--;
    return 0;
}
