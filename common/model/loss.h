/* Loss and gradients of a batch: mean over examples (those without loss tokens count as 0) of the mean of -log p over each
 * example's loss tokens. big_vision: notebook's update_fn; oracle: paligemma_ref.py loss_fn. */
#ifndef PG_MODEL_LOSS_H
#define PG_MODEL_LOSS_H

#include "model/model.h"

typedef struct pg_example {
    const float *pixels;   /* [image_size,image_size,3]; needed where the tower is trained or features is NULL */
    const float *features; /* [n_image,width] from pg_vit_forward, NULL: computed here */
    const int32_t *tokens, *mask_ar, *mask_loss, *mask_input; /* [n] */
    size_t n;
} pg_example;

/* loss_of [n]: each example's loss; *loss their mean; where one is not finite its group has no backward pass. token_logp (may be NULL):
 * per example an array [n] receiving log p of tokens[t] given what is before, for mask_loss tokens, else 0. grad: adds the gradient of
 * *loss to the params' g (zero them first with pg_grads_zero). Examples are worked on in groups whose activations, all kept, fit `budget`
 * bytes (0: 1.25 GiB): a constant, so that the bits do not depend on the machine. Whether they are kept or computed again (m->recompute)
 * does not change the bits. The last token's own row and rows after the last loss token are not computed. */
int pg_loss(pg_model *m, pg_work *w, const pg_example *ex, size_t n, bool grad, size_t budget, double *loss, double *loss_of,
            float *const *token_logp, double label_smoothing, pg_err *e) PG_MUST_CHECK;
/* The same for n examples of a batch of `of`: gradients and *loss are their share of its mean, divided by `of`. n may be 0. */
int pg_loss_share(pg_model *m, pg_work *w, const pg_example *ex, size_t n, size_t of, bool grad, size_t budget, double *loss,
                  double *loss_of, float *const *token_logp, double label_smoothing, pg_err *e) PG_MUST_CHECK;

/* The backward pass completes gradients in stages: decoder layers from the last to the first, then what else the language model has,
 * the tower's layers from the last to the first, the rest of it. While the last group of examples is worked on m->ready is told of
 * each stage as it is complete; not of one in which nothing was done, so that after pg_loss all are. */
size_t pg_grad_stages(const pg_model *m);
size_t pg_grad_stage(const pg_model *m, const pg_param *p, size_t layer); /* of layer `layer` of p */
bool pg_grad_layer(const pg_model *m, const pg_param *p, size_t stage, size_t *layer); /* which of p that stage completes; false: none */

/* Gradients are those of all layers, unless pg_grads_share was called: then the layers of a tensor have one memory, in which each finds
 * zeros when its turn comes. m->ready must use a gradient at once, and may change the weights that it is of, which backward has no more use
 * for. A batch must be worked on in one group (pg_loss_in_one), else pg_loss is PG_EINVAL, as it is without
 * m->ready. Does nothing where no tensor has layers. Once, before gradients are used. */
int pg_grads_share(pg_model *m, pg_err *e) PG_MUST_CHECK;
bool pg_loss_in_one(const pg_model *m, size_t rows, size_t batch); /* with the default budget; rows: image and text */
float *pg_grad_of(const pg_model *m, const pg_param *p, size_t layer); /* [per_layer] */
size_t pg_grads_bytes(const pg_model *m);
void pg_grads_pass_on(pg_model *m, size_t stage); /* pg_loss's: clears what layers share, for the next stage */

/* Bytes that a batch with gradients takes, its longest sequence having so many rows (at least 1), image and text; about. */
size_t pg_loss_bytes(const pg_model *m, size_t rows, size_t batch);
/* The same of a model that is not opened, all activations kept; image: what reads pictures is trained, too. */
size_t pg_shape_loss_bytes(const pg_model_shape *s, bool image, size_t rows, size_t batch);
void pg_grads_zero(pg_model *m);
/* True if any trainable parameter is in the image tower or its head (then features cannot be cached). */
bool pg_trains_image(const pg_model *m);

#endif
