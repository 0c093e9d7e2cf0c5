#include "base/guard.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Jansson's allocator takes no argument of ours, so what belongs to this thread's call lies here: a reserve that is let go of when memory
 * runs out, with which the call finishes before its result is thrown away. */
static _Thread_local void *reserve;
static _Thread_local bool ran_out;

enum { SMALL = 1 << 16, LARGE = 1 << 24 };

static void *noting(size_t n)
{
    void *p = malloc(n);
    if (p) return p;
    ran_out = true;
    free(reserve);
    reserve = NULL;
    return malloc(n);
}

static bool begin(size_t bytes)
{
    json_set_alloc_funcs(noting, free); /* the same each time, so threads may */
    ran_out = false;
    return (reserve = malloc(bytes)) != NULL;
}

static bool end(void)
{
    free(reserve);
    reserve = NULL;
    return !ran_out;
}

json_t *pg_json_load(const void *p, size_t n, size_t flags, json_error_t *why)
{
    json_error_t ignored;
    if (!why) why = &ignored;
    json_t *j = NULL;
    if (begin(n < (LARGE - SMALL) / 32 ? SMALL + 32 * n : LARGE)) {
        j = json_loadb(p, n, flags, why);
        if (end()) return j;
    }
    json_decref(j);
    memset(why, 0, sizeof *why);
    memcpy(why->text, "out of memory", 13);
    why->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory; /* where json_error_code looks */
    return NULL;
}

char *pg_json_dumps(const json_t *j, size_t flags)
{
    if (!begin(SMALL)) return NULL;
    char *text = json_dumps(j, flags);
    if (end()) return text;
    free(text);
    return NULL;
}

int pg_json_no_memory(const json_error_t *why) { return json_error_code(why) == json_error_out_of_memory; }

int pg_regex_matches(const regex_t *re, const char *text, pg_err *e)
{
    int saved = errno;
    errno = 0;
    int no = regexec(re, text, 0, NULL, 0);
    bool memory = no == REG_ESPACE || (no && errno == ENOMEM);
    errno = saved;
    return memory ? pg_error_nomem(e) : !no;
}
