#include "model/pick.h"

#include <math.h>
#include <stdlib.h>

void pg_softcap(float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i++)
        x[i] = cap * tanhf(x[i] / cap);
}

void pg_top(int32_t *token, size_t n, const float *x, size_t V)
{
    size_t held = 0;
    for (size_t t = 0; t < V; t++) {
        if (held == n && !(x[t] > x[token[n - 1]]))
            continue;
        size_t at = held < n ? held++ : n - 1;
        for (; at && x[t] > x[token[at - 1]]; at--)
            token[at] = token[at - 1];
        token[at] = (int32_t)t;
    }
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The smallest probability that stays. Tokens below (1 - top_p) / V have less than 1 - top_p together, so the cut is not among
 * them and only the others need sorting. */
static double cut_of(const double *p, double *room, size_t V, double top_p)
{
    double least = (1.0 - top_p) / (double)V, sum = 0;
    size_t n = 0, k = 0;
    for (size_t i = 0; i < V; i++)
        if (p[i] >= least)
            room[n++] = p[i];
    qsort(room, n, sizeof *room, falling);
    while (k + 1 < n && (sum += room[k]) < top_p)
        k++;
    return n ? room[k] : 0;
}

void pg_probabilities(double *p, double *room, const float *x, size_t V, double temperature, double top_p)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < V; i++)
        if ((double)x[i] > max)
            max = (double)x[i];
    for (size_t i = 0; i < V; i++)
        sum += p[i] = exp(((double)x[i] - max) / temperature);
    for (size_t i = 0; i < V; i++)
        p[i] /= sum;
    if (!(top_p > 0) || top_p >= 1)
        return;
    double cut = cut_of(p, room, V, top_p);
    sum = 0;
    for (size_t i = 0; i < V; i++) {
        if (p[i] < cut)
            p[i] = 0;
        sum += p[i];
    }
    for (size_t i = 0; i < V; i++)
        p[i] /= sum;
}

size_t pg_draw(const double *p, size_t V, double u)
{
    double whole = 0, sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < V; i++)
        whole += p[i];
    for (size_t i = 0; i < V; i++) {
        if (!(p[i] > 0))
            continue;
        last = i;
        if ((sum += p[i]) > u * whole)
            break;
    }
    return last;
}
