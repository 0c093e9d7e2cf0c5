#include "model/model.h"

int pg_mask_limits(const int32_t *mask_ar, const int32_t *mask_input, size_t n_text, size_t n_image, uint32_t *lim,
                   uint32_t *lim_image, size_t *n, pg_err *e)
{
    size_t used = n_text, next;
    for (size_t i = 0; mask_input && i < n_text; i++)
        if (mask_input[i] != 0 && mask_input[i] != 1)
            return pg_error(e, PG_EFORMAT, "'mask_input' holds %d, not 0 or 1", (int)mask_input[i]);
    while (mask_input && used && !mask_input[used - 1])
        used--;
    for (size_t i = 0; i < used; i++) {
        if (mask_ar[i] != 0 && mask_ar[i] != 1)
            return pg_error(e, PG_EFORMAT, "'mask_ar' holds %d, not 0 or 1", (int)mask_ar[i]);
        if (mask_input && !mask_input[i])
            return pg_error(e, PG_EFORMAT, "'mask_input' has padding at token %zu, before the end", i);
    }
    if (n_image > UINT32_MAX - used)
        return pg_error(e, PG_ELIMIT, "a sequence of %zu tokens is too long", used);
    /* A row sees up to the next token that starts a new step of the cumulative sum. */
    next = used;
    for (size_t i = used; i-- > 0;) {
        lim[i] = (uint32_t)(n_image + next);
        if (mask_ar[i])
            next = i;
    }
    *lim_image = (uint32_t)(n_image + next);
    *n = used;
    return PG_OK;
}
