/* What goes out: checkpoints and states as files, events on stdout. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/lora.h"
#include "train.h"

/* What this run leaves in order wherever it ends: folders that it made and in which nothing was written go again, as does the file that it
 * locks. */
static char *made[2], *lock_path;
static void remove_empty(void)
{
    if (lock_path) (void)unlink(lock_path);
    free(lock_path);
    lock_path = NULL;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        if (made[i]) (void)rmdir(made[i]);
        free(made[i]);
        made[i] = NULL;
    }
}

static void make_folder(run *r, const char *dir)
{
    size_t n = made[0] ? 1 : 0;
    if (mkdir(dir, 0777)) {
        int saved = errno;
        if (!pg_is_dir(dir)) tool_die(&r->t, EXIT_FAIL, "cannot make the folder '%s': %s", dir, saved == EEXIST ? "it is there and is no folder" : strerror(saved));
        return;
    }
    if (!(made[n] = pg_strdup(dir))) tool_no_memory(&r->t);
}

/* Two runs with the same OUT would write over each other's state and weights. While it runs each has a lock, which the system takes back
 * however it ends: of the folder OUT, or where OUT is a file, which comes last, of a file beside it, which a sweep removes where a run was killed. */
static void lock_out(run *r)
{
    struct stat mine, there;
    char *path = r->out_dir ? pg_strdup(r->out_dir) : pg_format("%s.tmp.locked", r->out);
    if (!path) tool_no_memory(&r->t);
    for (int tries = 0; tries < 100; tries++) {
        int fd = open(path, (r->out_dir ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_NOFOLLOW) | O_CLOEXEC, 0666);
        if (fd < 0) break; /* whether OUT can be written is seen below */
        bool locked = !flock(fd, LOCK_EX | LOCK_NB);
        if (!locked && errno == EWOULDBLOCK) {
            close(fd);
            tool_die(&r->t, EXIT_FAIL, "another pg-train is writing '%s': wait for it, end it, or choose another --output", r->out);
        }
        if (!locked) tool_note(&r->t, "'%s' cannot be locked (%s): nothing keeps another run from writing there", path, strerror(errno));
        /* Of a run that has just ended and removed it? Then a third one may make it anew. */
        bool gone = stat(path, &there) ? errno == ENOENT : !fstat(fd, &mine) && (mine.st_ino != there.st_ino || mine.st_dev != there.st_dev);
        if (!gone) {
            r->lock = fd;
            if (!r->out_dir) lock_path = path;
            break;
        }
        close(fd);
    }
    if (!lock_path) free(path);
}

/* Whether a folder that holds `name` and gets `ours` would be more than one checkpoint. Shards are of the model.safetensors they are parts of. */
static bool disturbs(const char *name, const char *ours)
{
    bool safetensors = pg_ends_with(name, ".safetensors") || pg_ends_with(name, ".safetensors.index.json");
    if (name[0] == '.' || !strcmp(name, ours) || !(safetensors || pg_ends_with(name, ".npz"))) return false;
    bool shard = !strcmp(name, "model.safetensors.index.json") || (!strncmp(name, "model-", 6) && safetensors);
    return !(shard && !strcmp(ours, "model.safetensors"));
}

/* An earlier run's file of the same name is replaced; any other weights beside it would leave a folder that no tool can open. */
static void check_folder(run *r, const char *dir, const char *ours)
{
    DIR *d = opendir(dir);
    if (!d) tool_die(&r->t, EXIT_FAIL, "cannot read the folder '%s': %s", dir, strerror(errno));
    for (const struct dirent *f; (f = readdir(d));)
        if (disturbs(f->d_name, ours))
            tool_die(&r->t, EXIT_FAIL, "the folder '%s' holds '%s', beside which %s would be a second checkpoint: choose another folder, or move it away", dir,
                     f->d_name, ours);
    closedir(d);
}

/* The file that OUT stands for; *dir where it is a folder, which is made. `mark` (".best" or "") goes before the ending. */
static char *weights_path(run *r, const char *mark, char **dir)
{
    static const char *const endings[] = {".npz", ".safetensors"};
    size_t n = strlen(r->out);
    char *path = NULL;
    while (n > 1 && r->out[n - 1] == '/') n--;
    *dir = NULL;
    for (size_t i = 0; i < 2; i++)
        if (pg_ends_with(r->out, endings[i]) && !(path = pg_format("%.*s%s%s", (int)(n - strlen(endings[i])), r->out, mark, endings[i])))
            tool_no_memory(&r->t);
    if (!path && (*dir = pg_format("%.*s%s", (int)n, r->out, mark))) {
        const char *name = r->lora ? "adapter_model.safetensors" : pg_weights_format(r->m->weights) == PG_NPZ ? "model.npz" : "model.safetensors";
        path = pg_path_join(*dir, name);
        make_folder(r, *dir);
    }
    if (!path) tool_no_memory(&r->t);
    return path;
}

/* The same command again is meant to replace what it wrote, but whoever forgot to change the name has the whole training to stop it. */
static void say_replaced(const run *r, const char *path)
{
    if (pg_is_file(path)) tool_info(&r->t, "'%s' of an earlier run will be replaced", path);
}

static const float *replacement(void *ctx, const char *name, size_t layer, size_t part)
{
    const run *r = ctx;
    for (size_t i = 0; i < r->m->n_params; i++) {
        const pg_param *p = &r->m->params[i];
        if (strcmp(p->name, name)) continue;
        const float *w = p->w + layer * p->per_layer;
        return part == PG_WHOLE ? w : w + part * (p->per_layer / 2); /* kv_einsum and gating_einsum: two parts */
    }
    return NULL;
}

/* Better to know now than after a night of training. */
static void probe(run *r, const char *path)
{
    pg_outfile f;
    if (r->lora ? pg_same_file(path, pg_weights_path(r->m->weights)) : pg_weights_touches(r->m->weights, path))
        tool_die(&r->t, EXIT_FAIL, "writing '%s' would change the model that is being trained: choose another folder", path);
    for (size_t i = 0; pg_ends_with(path, ".npz") && i < pg_weights_count(r->m->weights); i++)
        if (pg_weights_at(r->m->weights, i)->dtype == PG_I8)
            tool_die(&r->t, EXIT_FAIL, "cannot write '%s': the model is int8, which only safetensors files hold", path);
    TRY(pg_outfile_open(&f, path, e));
    pg_outfile_abort(&f);
    const pg_save_how how = {.replace = replacement, .ctx = r, .probe = true};
    if (!r->lora && pg_ends_with(path, ".safetensors")) TRY(pg_weights_save_as(r->m->weights, path, &how, e));
}

/* What a run that was killed while it saved has left. */
static void sweep(run *r, const char *path)
{
    size_t n = pg_temp_sweep(path);
    if (n) tool_info(&r->t, "removed %zu temporary file%s that a killed run left of '%s'", n, n == 1 ? "" : "s", path);
}

static void sweep_folder(run *r, const char *dir)
{
    static const char *const beside[] = {"tokenizer.model", "adapter_config.json"};
    for (size_t i = 0; dir && i < sizeof beside / sizeof *beside; i++) {
        char *path = pg_path_join(dir, beside[i]);
        if (!path) tool_no_memory(&r->t);
        sweep(r, path);
        free(path);
    }
}

void train_choose_output(run *r)
{
    if (atexit(remove_empty)) tool_no_memory(&r->t);
    r->weights_out = weights_path(r, "", &r->out_dir);
    lock_out(r);
    r->state_path = pg_format("%s.state", r->out_dir ? r->out_dir : r->out);
    if (!r->state_path) tool_no_memory(&r->t);
    sweep(r, r->weights_out);
    sweep_folder(r, r->out_dir);
    sweep(r, r->state_path);
    probe(r, r->weights_out);
    if (r->out_dir) check_folder(r, r->out_dir, strrchr(r->weights_out, '/') + 1);
    say_replaced(r, r->weights_out);
    if (!r->keep_best) return;
    r->best_out = weights_path(r, ".best", &r->best_dir);
    sweep(r, r->best_out);
    sweep_folder(r, r->best_dir);
    probe(r, r->best_out);
    if (r->best_dir) check_folder(r, r->best_dir, strrchr(r->best_out, '/') + 1);
    say_replaced(r, r->best_out);
}

static void copy_into(run *r, const char *dir, const char *from, const char *name)
{
    pg_buf b = {0};
    char *to = pg_path_join(dir, name);
    if (!to) tool_no_memory(&r->t);
    TRY(pg_file_read(from, (size_t)1 << 28, &b, e));
    TRY(pg_file_save(to, b.data, b.len, e));
    pg_buf_free(&b);
    free(to);
}

void train_save_weights(run *r, const char *path, const char *dir)
{
    if (r->lora) {
        TRY(pg_lora_save(r->m, dir, r->alpha, e));
        return;
    }
    TRY(pg_weights_save(r->m->weights, path, replacement, r, e));
    if (dir && r->tok) copy_into(r, dir, pg_tokenizer_path(r->tok), "tokenizer.model");
}

void train_save_state(run *r)
{
    TRY(pg_state_save(r->state_path, r->m, &r->opt, &r->progress, r->fingerprint, e));
    event_begin(r, "save", r->progress.step);
    event_str(r, "path", r->state_path);
    event_emit(r);
}

/* ---- events ---- */
void event_str(run *r, const char *key, const char *s) { TRY(pg_rec_set_str(r->event, key, s, strlen(s), e)); }
void event_int(run *r, const char *key, size_t v) { TRY(pg_rec_set_int(r->event, key, (int64_t)v, e)); }
void event_num(run *r, const char *key, double v) { TRY(pg_rec_set_double(r->event, key, v, e)); }

void event_begin(run *r, const char *event, size_t step)
{
    pg_rec_clear(r->event);
    event_str(r, "event", event);
    event_int(r, "step", step);
}

void event_emit(run *r)
{
    tool_put(&r->t, &r->p, r->event);
    TRY(pg_writer_flush(r->p.out, e));
}
