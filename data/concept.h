/* Which side of a split a thing is on: by a hash of its concept, so that all variants, drawings and languages of one thing agree. */
#ifndef DATA_CONCEPT_H
#define DATA_CONCEPT_H

#include <stdint.h>

/* FNV-1a of the concept and then of a salt, mixed; the low bits may be used. */
static inline uint64_t concept_hash(const char *concept, const char *salt)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *concept; concept++) h = (h ^ (unsigned char)*concept) * 0x100000001b3u;
    for (; *salt; salt++) h = (h ^ (unsigned char)*salt) * 0x100000001b3u;
    return (h ^ h >> 29) * 0x9e3779b97f4a7c15u >> 40;
}

/* One thing in ten is kept for validation. */
static inline const char *concept_split(const char *concept) { return concept_hash(concept, "") % 10 ? "train" : "val"; }

#endif
