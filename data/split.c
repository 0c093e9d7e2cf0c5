/* Adds `split` to JSON lines: "val" for one concept in ten, else "train". A line without `concept` counts by its `suffix`.
 * Usage: split <in.jsonl >out.jsonl */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "concept.h"

static void die(size_t line, const char *why)
{
    fprintf(stderr, "split: line %zu: %s\n", line, why);
    exit(1);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    for (size_t n = 1; getline(&line, &room, stdin) >= 0; n++) {
        json_error_t e;
        json_t *o = json_loads(line, 0, &e);
        const char *concept = json_string_value(json_object_get(o, "concept"));
        if (!concept) concept = json_string_value(json_object_get(o, "suffix"));
        if (!concept) die(n, o ? "neither concept nor suffix" : e.text);
        if (json_object_set_new(o, "split", json_string(concept_split(concept))) || json_dumpf(o, stdout, JSON_COMPACT) || putchar('\n') == EOF)
            die(n, "cannot be written");
        json_decref(o);
    }
    free(line);
    if (fclose(stdout)) die(0, "stdout cannot be written");
    return 0;
}
