/* Rank 0 of several: finds the others, shares out pictures and examples, collects what they make of them. */
#include "train_ranks.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "mpi_link.h"

size_t train_ranks(const run *r)
{
    return r->link ? r->link->size : 1;
}

size_t train_share(const run *r)
{
    size_t from;
    return pg_link_share(train_ranks(r), 0, r->batch, &from);
}

/* ---- joining ---- */
/* How many processes whoever started this one says there are; 0: nothing is said. PMIx alone does not tell; Slurm's number also stands in
 * the environment of a single process of a job, but then PMIx's rank does not. */
static size_t processes_said(void)
{
    const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", getenv("PMIX_RANK") ? "SLURM_NTASKS" : NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names && names[i]; i++) {
        const char *s = getenv(names[i]);
        if (s) return (size_t)strtoul(s, NULL, 10);
    }
    return 0;
}

/* Beside this program, where it is built, or in ../lib/pg, where it is installed. */
static void *load_plugin(char *why, size_t n_why)
{
    static const char *const places[] = {"", "../lib/pg/"};
    char self[4096];
    void *lib = NULL;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n < 0 ? 0 : n] = 0;
    char *dir = pg_path_dir(self);
    snprintf(why, n_why, "it was built without MPI: there is no '" PG_MPI_PLUGIN "' beside it");
    for (size_t i = 0; dir && !lib && i < sizeof places / sizeof *places; i++) {
        char *path = pg_format("%s/%s" PG_MPI_PLUGIN, dir, places[i]);
        if (path && pg_is_file(path) && !(lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL))) /* global: Open MPI's own plugins look for its symbols */
            snprintf(why, n_why, "%s", dlerror());
        free(path);
    }
    free(dir);
    return lib;
}

static void word(run *r, size_t to, const msg *m)
{
    TRY(pg_link_send(r->link, m, sizeof *m, to, e));
}

static void all(run *r, const msg *m)
{
    for (size_t k = 1; k < r->link->size; k++) word(r, k, m);
}

void train_part(run *r)
{
    double summing, waited;
    if (!r->link) return;
    if (!r->link->rank && r->reduce) {
        pg_reduce_times(r->reduce, &summing, &waited);
        tool_note(&r->t, "%.1f s of sums over the ranks, of which the backward pass hid %.1f s", summing, summing > waited ? summing - waited : 0);
    }
    pg_reduce_free(r->reduce);
    pg_buf_free(&r->mail);
    free(r->loss_of);
    r->working = true; /* should sending fail: not again on the way out */
    if (!r->link->rank) all(r, &(msg){.kind = MSG_END});
    r->link->close(r->link);
    r->link = NULL;
}

/* Whatever ends this process ends the run. Where the others wait for a word they are sent home; where they are at work mpirun, which sees
 * the exit status, ends them. */
static void leave(int status, void *ctx)
{
    run *r = ctx;
    (void)status;
    if (r->link && !r->link->rank && !r->working) train_part(r);
}

void train_join(run *r)
{
    pg_err e = {0};
    char why[400];
    size_t said = processes_said();
    r->t.name = "pg-train"; /* for messages before the options are read */
    if (said == 1 || (!said && !getenv("PMIX_RANK"))) return;
    void *lib = load_plugin(why, sizeof why);
    if (!lib && !said) return; /* PMIx tells of ranks, perhaps of one */
    if (!lib) tool_die(&r->t, EXIT_FAIL, "started as one of %zu processes, but %s", said, why);
    pg_mpi_open_fn start;
    *(void **)&start = dlsym(lib, PG_MPI_ENTRY);
    if (!start) tool_die(&r->t, EXIT_FAIL, "'" PG_MPI_PLUGIN "' is of another version");
    if (start(&r->link, &e)) tool_die(&r->t, EXIT_FAIL, "%s", e.msg);
    if (said && r->link->size != said)
        tool_die(&r->t, EXIT_FAIL, "started as one of %zu processes, but MPI knows %zu: is it Open MPI's mpirun?", said, r->link->size);
    if (r->link->size == 1) {
        r->link->close(r->link);
        r->link = NULL;
        return;
    }
    /* Output goes to mpirun, which does not close it; a connection to a rank that has died must not end this one before it has said so. */
    signal(SIGPIPE, SIG_IGN);
    on_exit(leave, r);
}

void train_threads(run *r)
{
    size_t each = r->link->cpus / r->link->sharers;
    if (!r->t.threads) r->t.threads = each ? each : 1;
}

/* mpirun takes what is written through a terminal of its own; whether the events end up on the user's only its own output tells. */
static bool mpirun_has_terminal(void)
{
    char path[64], to[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n < 0 ? 0 : n] = 0;
    return !strncmp(to, "/dev/pts/", 9) || !strncmp(to, "/dev/tty", 8);
}

void train_greet(run *r)
{
    const pg_link *l = r->link;
    if (processes_said()) { /* also of one */
        if (mpirun_has_terminal()) tool_usage(&r->t, "a binary stream is not written to a terminal: redirect mpirun's output (> events.pgs)");
        r->t.forwarded = true;
    }
    if (!l) return;
    signal(SIGPIPE, SIG_IGN); /* reading the options has set it */
    train_threads(r);
    size_t online = (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    tool_info(&r->t, "%zu ranks on %zu host%s; here %zu, each with %zu thread%s", l->size, l->hosts, l->hosts == 1 ? "" : "s", l->local, r->t.threads,
              r->t.threads == 1 ? "" : "s");
    if (l->cpus * l->local < online)
        tool_info(&r->t, "mpirun lets each rank use %zu of %zu cores; 'mpirun --bind-to none' gives them all", l->cpus, online);
    if (r->batch < l->size)
        tool_warn(&r->t, "batches of %zu examples leave %zu of %zu ranks without work", r->batch, l->size - r->batch, l->size);
    all(r, &(msg){.kind = MSG_GO});
}

/* ---- the same everywhere? ---- */
char *train_twin_text(run *r)
{
    size_t values = 0;
    uint32_t crc;
    char *groups = train_group_text(r);
    TRY(pg_weights_fingerprint(r->m->weights, &crc, e));
    for (size_t i = 0; i < r->m->n_params; i++) values += r->m->params[i].count;
    char *text = !groups ? NULL :
        pg_format("version %s\nweights %08x of %zu values\ntrain %s\ntrained tensors %zu of %zu values\n%sinstructions %s\nproducts %s\n"
                  "optimizer %d\nlr %.17g\nweight-decay %.17g\nclip %.17g\nb1 %.17g\nb2 %.17g\neps %.17g\nlabel-smoothing %.17g\n",
                  PG_VERSION, crc, r->m->s.parameters, r->train, r->m->n_params, values, groups, pg_kern_isa(r->kern),
                  r->bf16 ? pg_kern_bf16(r->kern) : "float32", (int)r->opt.kind, r->opt.lr, r->opt.weight_decay, r->opt.clip, r->opt.b1, r->opt.b2,
                  r->opt.eps, r->smoothing);
    free(groups);
    return text;
}

static void name_difference(run *r, size_t rank, const char *host, const char *own, const char *other)
{
    size_t i = 0, line = 0;
    for (; own[i] && own[i] == other[i]; i++)
        if (own[i] == '\n') line = i + 1;
    if (!own[i] && !other[i]) return;
    tool_die(&r->t, EXIT_FAIL, "rank %zu on '%s' has '%.*s', rank 0 on '%s' '%.*s'", rank, host, (int)strcspn(other + line, "\n"), other + line,
             r->link->host, (int)strcspn(own + line, "\n"), own + line);
}

static int encode(void *ctx, const float *const *pixels, size_t n, float *features, pg_err *e);

void train_compare(run *r)
{
    pg_link *l = r->link;
    char *own, *other, host[sizeof l->host];
    if (!l) return;
    if (!(own = train_twin_text(r))) tool_no_memory(&r->t);
    for (size_t k = 1; k < l->size; k++) {
        uint64_t n;
        r->working = true;
        TRY(pg_link_recv(l, host, sizeof host, k, e));
        TRY(pg_link_recv(l, &n, sizeof n, k, e));
        if (!(other = pg_calloc((size_t)n + 1, 1))) tool_no_memory(&r->t);
        TRY(pg_link_recv(l, other, (size_t)n, k, e));
        r->working = k + 1 < l->size;
        name_difference(r, k, host, own, other);
        free(other);
    }
    free(own);
    r->data.encode = r->val_data.encode = encode;
    r->data.encode_ctx = r->val_data.encode_ctx = r;
    r->data.lanes = r->val_data.lanes = l->size;
    TRY(pg_reduce_new(&r->reduce, l, r->m, e));
    if (!(r->loss_of = pg_calloc(r->batch, sizeof *r->loss_of))) tool_no_memory(&r->t);
}

void train_share_state(run *r)
{
    if (!r->link || !r->progress.step) return;
    r->working = true;
    all(r, &(msg){.kind = MSG_STATE, .count = r->opt.count});
    for (size_t i = 0; i < r->m->n_params; i++) {
        size_t bytes = r->m->params[i].count * sizeof(float);
        TRY(pg_link_cast(r->link, r->m->params[i].w, bytes, e));
        if (r->opt.mu) TRY(pg_link_cast(r->link, r->opt.mu[i], bytes, e));
        if (r->opt.nu) TRY(pg_link_cast(r->link, r->opt.nu[i], bytes, e));
    }
    r->working = false;
}

/* ---- work ---- */
/* Features of n pictures, a share computed by each rank. */
static int encode(void *ctx, const float *const *pixels, size_t n, float *features, pg_err *e)
{
    run *r = ctx;
    pg_link *l = r->link;
    size_t one = r->m->s.image_size * r->m->s.image_size * 3, row = r->m->s.n_image * r->m->s.width, from;
    r->working = true;
    int rc = PG_OK;
    for (size_t k = 1; !rc && k < l->size; k++) {
        size_t some = pg_link_share(l->size, k, n, &from);
        if (some) rc = pg_link_send(l, &(msg){.kind = MSG_FEATURES, .n = some}, sizeof(msg), k, e);
        for (size_t i = from; !rc && i < from + some; i++) rc = pg_link_send(l, pixels[i], one * sizeof(float), k, e);
    }
    if (!rc) rc = pg_vit_forward(r->m, pixels, pg_link_share(l->size, 0, n, &from), features, e);
    for (size_t k = 1; !rc && k < l->size; k++) {
        size_t some = pg_link_share(l->size, k, n, &from);
        rc = pg_link_recv(l, features + from * row, some * row * sizeof *features, k, e);
    }
    if (!rc) r->working = false;
    return rc;
}

static void send_examples(run *r, size_t to, msg m, const pg_example *ex, size_t n)
{
    size_t row = (m.pixels ? r->m->s.image_size * r->m->s.image_size * 3 : r->m->s.n_image * r->m->s.width) * sizeof(float);
    r->mail.len = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t len = (int32_t)ex[i].n;
        const int32_t *lists[] = {ex[i].tokens, ex[i].mask_ar, ex[i].mask_loss, ex[i].mask_input};
        TRY(pg_buf_add(&r->mail, &len, sizeof len, e));
        for (size_t k = 0; k < 4; k++) TRY(pg_buf_add(&r->mail, lists[k], ex[i].n * sizeof(int32_t), e));
        if (m.longest < ex[i].n) m.longest = ex[i].n;
    }
    m.n = n;
    m.words = r->mail.len / sizeof(int32_t);
    word(r, to, &m);
    TRY(pg_link_send(r->link, r->mail.data, r->mail.len, to, e));
    for (size_t i = 0; i < n; i++) TRY(pg_link_send(r->link, m.pixels ? ex[i].pixels : ex[i].features, row, to, e));
}

double train_batch(run *r, const size_t *idx, float *rows, pg_example *ex, size_t part)
{
    bool last = part + 1 == r->accumulate;
    size_t from, own;
    double loss = 0;
    TRY(pg_data_batch(&r->data, r->m, idx, r->batch, rows, ex, e));
    if (!r->link) {
        TRY(pg_loss(r->m, r->work, ex, r->batch, true, 0, &loss, NULL, NULL, r->smoothing, e));
        return loss;
    }
    r->working = true;
    for (size_t k = 1; k < r->link->size; k++) {
        size_t n = pg_link_share(r->link->size, k, r->batch, &from);
        send_examples(r, k, (msg){.kind = MSG_BATCH, .of = r->batch, .first = !part, .last = last, .pixels = r->data.pixels}, ex + from, n);
    }
    if (last) TRY(pg_reduce_begin(r->reduce, e));
    own = pg_link_share(r->link->size, 0, r->batch, &from);
    TRY(pg_loss_share(r->m, r->work, ex, own, r->batch, true, 0, &loss, r->loss_of, NULL, r->smoothing, e));
    if (last) TRY(pg_reduce_end(r->reduce, e));
    for (size_t k = 1; k < r->link->size; k++) {
        size_t n = pg_link_share(r->link->size, k, r->batch, &from);
        TRY(pg_link_recv(r->link, r->loss_of + from, n * sizeof *r->loss_of, k, e));
    }
    r->working = false;
    loss = 0;
    for (size_t i = 0; i < r->batch; i++) loss += r->loss_of[i]; /* in the order of one process */
    return loss / (double)r->batch;
}

void train_tell_step(run *r, double mult)
{
    if (r->link) all(r, &(msg){.kind = MSG_STEP, .mult = mult});
}

void train_ask_loss(run *r, size_t k, const pg_example *ex, size_t n)
{
    r->working = true;
    send_examples(r, k, (msg){.kind = MSG_LOSS, .of = n, .pixels = r->val_data.pixels}, ex, n);
}

double train_take_loss(run *r, size_t k)
{
    double loss;
    TRY(pg_link_recv(r->link, &loss, sizeof loss, k, e));
    return loss;
}
