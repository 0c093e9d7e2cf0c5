/* The part of SentencePiece that is used, as C: no exception crosses this border. Only common/text/tokenizer.c calls it. */
#ifndef PG_TEXT_SPM_H
#define PG_TEXT_SPM_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pg_spm pg_spm;
enum pg_spm_kind { PG_SPM_NORMAL, PG_SPM_CONTROL, PG_SPM_UNKNOWN, PG_SPM_BYTE };

/* model: the bytes of a model file. */
int pg_spm_load(pg_spm **s, const void *model, size_t n, pg_err *e) PG_MUST_CHECK;
void pg_spm_free(pg_spm *s);
size_t pg_spm_size(const pg_spm *s);
/* Ids of the control pieces as the model names them; -1 for none. */
void pg_spm_control_ids(const pg_spm *s, int *pad, int *eos, int *bos, int *unk);
/* id in [0,size). The text lives as long as s. NULL: no memory. */
const char *pg_spm_piece(const pg_spm *s, int id, size_t *len);
enum pg_spm_kind pg_spm_kind(const pg_spm *s, int id);
/* New array of *n ids for free(). */
int pg_spm_encode(const pg_spm *s, const char *text, size_t len, int32_t **ids, size_t *n, pg_err *e) PG_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
