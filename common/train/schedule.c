#include "train/schedule.h"

#include <math.h>

double pg_schedule_at(pg_schedule kind, size_t step, size_t total, double base, double warmup)
{
    double x = warmup * (double)total, w = x > 0 ? nearbyint(x) : 0, lr = base; /* nearbyint: half to even, as Python's round */
    if (x > 0 && w < 1) w = 1;
    if (kind == PG_COSINE) {
        double span = (double)total - w, progress = span > 0 ? ((double)step - w) / span : (double)step < w ? 0 : 1; /* all warm-up: it only rises */
        progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
        lr = base * 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
    }
    return w > 0 && (double)step < w ? lr * ((double)step / w) : lr;
}

double pg_learning_rate(pg_schedule kind, size_t step, size_t steps, double base, double warmup)
{
    return pg_schedule_at(kind, step, steps + 1, base, warmup);
}
