/* From a row of logits to tokens. Arithmetic in double. Logits must be finite. */
#ifndef PG_MODEL_PICK_H
#define PG_MODEL_PICK_H

#include <stddef.h>
#include <stdint.h>

/* x = cap * tanh(x / cap): Gemma 2's final_logits_softcap. */
void pg_softcap(float *x, size_t n, float cap);

/* The n likeliest tokens of logits x [V], falling; on a tie the lower one first. n <= V. */
void pg_top(int32_t *token, size_t n, const float *x, size_t V);

/* p [V]: what tokens are drawn with. Logits are divided by the temperature (> 0); then, where 0 < top_p < 1, the nucleus: in
 * falling order, tokens are counted whose cumulative probability is still below top_p; the next one's logit is the cut, and what
 * is strictly below it gets 0. room: V doubles of scratch. */
void pg_probabilities(double *p, double *room, const float *x, size_t V, double temperature, double top_p);

/* The first token whose cumulative sum exceeds u times the whole, u in [0,1). */
size_t pg_draw(const double *p, size_t V, double u);

#endif
