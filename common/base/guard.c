#include "base/guard.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Jansson's allocator takes no argument of ours: what it did in this thread's load is noted here. */
static _Thread_local bool ran_out;

static void *noting(size_t n)
{
    void *p = malloc(n);
    if (!p) ran_out = true;
    return p;
}

json_t *pg_json_load(const void *p, size_t n, size_t flags, json_error_t *why)
{
    json_error_t ignored;
    if (!why) why = &ignored;
    json_set_alloc_funcs(noting, free); /* the same each time, so threads may */
    ran_out = false;
    json_t *j = json_loadb(p, n, flags, why);
    if (!ran_out) return j;
    json_decref(j);
    memset(why->text, 0, sizeof why->text);
    memcpy(why->text, "out of memory", 13);
    why->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory; /* where json_error_code looks */
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
