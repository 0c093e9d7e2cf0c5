/* All of the library's public headers, from the lowest room to the highest; those of one room may be included alone. See pg(3). */
#ifndef PG_PG_H
#define PG_PG_H

/* base: errors, memory, files, numbers, threads */
#include "base/err.h"
#include "base/mem.h"
#include "base/file.h"
#include "base/num.h"
#include "base/thread.h"
#include "base/braces.h"
#include "base/guard.h"
/* stream: records, reader, writer */
#include "stream/stream.h"
#include "stream/name.h"
/* kernels: the arithmetic that a model runs on */
#include "kernels/kernels.h"
#include "kernels/probe.h"
/* net: downloads */
#include "net/url.h"
#include "net/hash.h"
#include "net/creds.h"
#include "net/net.h"
#include "net/part.h"
#include "net/source.h"
#include "net/cache.h"
/* image: encoded pictures to pixels */
#include "image/image.h"
/* text: the tokenizer, prompts and masks */
#include "text/text.h"
#include "text/locations.h"
#include "text/coco.h"
#include "text/written.h"
/* weights: checkpoints and adapters */
#include "weights/weights.h"
#include "weights/adapter.h"
/* metrics: CIDEr-D, BLEU, ROUGE-L */
#include "metrics/metrics.h"
/* model: forward and backward, decoding */
#include "model/model.h"
#include "model/decode.h"
#include "model/loss.h"
#include "model/lora.h"
#include "model/sample.h"
/* train: examples, optimizers, the state of a run */
#include "train/data.h"
#include "train/link.h"
#include "train/optim.h"
#include "train/reduce.h"
#include "train/schedule.h"
#include "train/state.h"

#endif
