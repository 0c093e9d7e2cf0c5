/* How fast gradients are summed: mpirun -n N aux_reduce BUILD/pg-mpi.so MIB [TIMES]. Rank 0 prints the median. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "mpi_link.h"
#include "train/reduce.h"

enum { LAYERS = 16, MOST = 100 };
static pg_err err;

static void must(int rc)
{
    if (!rc) return;
    fprintf(stderr, "aux_reduce: %s\n", err.msg);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double processor(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: mpirun -n N aux_reduce BUILD/pg-mpi.so MIB [TIMES]\n");
        return 2;
    }
    size_t count = (size_t)strtoul(argv[2], NULL, 10) << 18, times = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 7;
    void *lib = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    pg_mpi_open_fn start = NULL;
    if (lib) *(void **)&start = dlsym(lib, PG_MPI_ENTRY);
    if (!start || !count || !times || times > MOST) {
        fprintf(stderr, "aux_reduce: %s\n", lib ? "bad size or number of times" : dlerror());
        return 2;
    }
    pg_link *l;
    must(start(&l, &err));
    float *g = pg_floats(count);
    pg_param p = {.name = "llm/layers/attn/q_einsum/w", .layers = LAYERS, .per_layer = count / LAYERS, .count = count, .g = g};
    pg_model m = {.s = {.depth = LAYERS, .vit_depth = 1}, .params = &p, .n_params = 1};
    pg_reduce *r;
    if (!g) must(pg_error_nomem(&err));
    must(pg_reduce_new(&r, l, &m, &err));
    for (size_t i = 0; i < count; i++) g[i] = 0;
    double took[MOST], cpu = processor();
    for (size_t i = 0; i < times; i++) {
        double from = now();
        must(pg_reduce_begin(r, &err));
        must(pg_reduce_end(r, &err));
        took[i] = now() - from;
    }
    cpu = (processor() - cpu) / (double)times;
    qsort(took, times, sizeof *took, ascending);
    double bytes = (double)count * sizeof *g, median = took[times / 2];
    if (!l->rank)
        printf("%zu ranks, %s MiB: %.1f ms, fastest %.1f ms: %.2f GB/s of gradient, %.2f GB/s sent by each; %.1f ms of processor time a rank\n", l->size, argv[2],
               1e3 * median, 1e3 * took[0], bytes / median * 1e-9, 2 * (double)(l->size - 1) / (double)l->size * bytes / median * 1e-9, 1e3 * cpu);
    pg_reduce_free(r);
    free(g);
    l->close(l);
    return 0;
}
