/* pg-resize: encoded images to pixels. Records lie in a ring: this thread reads and writes them, in order; the others decode. What is
 * decoded goes out before more input is waited for. With one thread the same ring is worked on here, a record at a time. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/thread.h"
#include "image/image.h"
#include "tool.h"
#include "weights/weights.h"

static const char help[] =
    "usage: pg-resize [-s SIZE | -m MODEL] [--filter bilinear|bicubic] [--no-orient] [--background COLOUR] [--drop-image]\n"
    "Reads examples with encoded images (PNG, JPEG) and adds their pixels: SIZE x SIZE x 3 floats in [-1,1].\n"
    "\n"
    "  -s, --size SIZE          pixels a side, 1 to 8192 (default 224)\n"
    "  -m, --model MODEL        the size that MODEL takes\n"
    "      --filter FILTER      bilinear: tf.image.resize with antialias, unrounded (default);\n"
    "                           bicubic: as the Hugging Face processor does\n"
    "      --no-orient          ignore the EXIF orientation\n"
    "      --background COLOUR  blend transparent pixels over white, black, grey, red, green, blue or #rrggbb;\n"
    "                           without it alpha is dropped\n"
    "      --drop-image         leave the encoded image out of what goes on\n"
    "      --max-pixels N       refuse larger images (default 178956970)\n"
    "      --max-record SIZE    refuse larger records (default 1G)\n"
    "  -j, --threads N          images decoded at the same time (default: the cores this process may use)\n"
    "  -q, --quiet   -v, --verbose   -h, --help   --version\n"
    "\n"
    "example: pg-fetch photos/ | pg-resize -m MODEL --drop-image > photos.pgs\n";

typedef struct options {
    pg_image_opts image;
    bool drop_image;
} options;

static bool colour(const char *s, unsigned char rgb[3])
{
    static const struct {
        const char *name;
        unsigned char rgb[3];
    } named[] = {{"white", {255, 255, 255}}, {"black", {0, 0, 0}},   {"grey", {128, 128, 128}}, {"gray", {128, 128, 128}},
                 {"red", {255, 0, 0}},       {"green", {0, 128, 0}}, {"blue", {0, 0, 255}}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcasecmp(s, named[i].name)) continue;
        memcpy(rgb, named[i].rgb, 3);
        return true;
    }
    if (s[0] != '#' || strlen(s) != 7 || strspn(s + 1, "0123456789abcdefABCDEF") != 6) return false;
    const unsigned long v = strtoul(s + 1, NULL, 16);
    for (int i = 0; i < 3; i++) rgb[i] = (unsigned char)(v >> (16 - 8 * i));
    return true;
}

static size_t size_of_model(const pg_tool *t, const char *model)
{
    pg_weights *w;
    pg_model_shape s;
    pg_err e = {0};
    if (pg_weights_open(&w, model, &e) || pg_weights_shape(w, &s, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    pg_weights_close(w);
    return s.image_size;
}

static void parse(pg_tool *t, options *o)
{
    enum { FILTER = 1000, NO_ORIENT, BACKGROUND, DROP_IMAGE, MAX_PIXELS };
    static const struct option longs[] = {{"size", required_argument, NULL, 's'},
                                          {"model", required_argument, NULL, 'm'},
                                          {"filter", required_argument, NULL, FILTER},
                                          {"no-orient", no_argument, NULL, NO_ORIENT},
                                          {"background", required_argument, NULL, BACKGROUND},
                                          {"drop-image", no_argument, NULL, DROP_IMAGE},
                                          {"max-pixels", required_argument, NULL, MAX_PIXELS},
                                          TOOL_MAX_RECORD,
                                          {NULL, 0, NULL, 0}};
    const char *model = NULL;
    int c;
    *o = (options){.image = {.orient = true}};
    while ((c = tool_getopt(t, "s:m:", longs, true)) != -1) {
        switch (c) {
        case 's': o->image.size = tool_size(t, "--size", optarg, 1, 8192); break;
        case 'm': model = optarg; break;
        case FILTER:
            if (!strcmp(optarg, "bilinear")) o->image.filter = PG_BILINEAR;
            else if (!strcmp(optarg, "bicubic")) o->image.filter = PG_BICUBIC;
            else tool_usage(t, "--filter '%s': neither bilinear nor bicubic", optarg);
            break;
        case NO_ORIENT: o->image.orient = false; break;
        case BACKGROUND:
            if (!colour(optarg, o->image.background)) tool_usage(t, "--background '%s': not a colour; say white or #rrggbb", optarg);
            o->image.blend = true;
            break;
        case DROP_IMAGE: o->drop_image = true; break;
        case MAX_PIXELS: o->image.max_pixels = tool_size(t, "--max-pixels", optarg, 1, (size_t)1 << 40); break;
        default: tool_usage(t, "unexpected option");
        }
    }
    if (optind < t->argc) tool_usage(t, "unexpected operand '%s'; the stream comes from standard input", t->argv[optind]);
    if (model && o->image.size) tool_usage(t, "--size and --model exclude each other");
    if (model) o->image.size = size_of_model(t, model);
    else if (!o->image.size) o->image.size = 224;
}

enum { PER_THREAD = 4, RING_BYTES = 256 << 20 };

typedef struct slot {
    pg_rec *rec;
    float *pixels;
    char id[256], warning[256];
    pg_image_info info;
    pg_err why;
    int rc; /* 1 decoded, 0 nothing to do, < 0 see why */
    bool done;
} slot;

typedef struct ring {
    const options *o;
    slot *slots;
    size_t lying; /* pictures whose orientation was not applied */
    size_t n, read, taken, written; /* counts of records, each mod n a slot: written <= taken <= read <= written + n */
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pg_image **decoders; /* [threads], the first for this thread */
    pthread_t *workers;
    size_t threads, started;
    int wake[2]; /* a pipe: a byte for each record that is done, so that this thread can wait for them and for input at once */
} ring;

static void decode(const ring *r, pg_image *im, slot *s)
{
    const unsigned char *bytes;
    size_t n;
    s->warning[0] = 0;
    s->rc = 0;
    if (pg_rec_passes(s->rec)) return;
    s->rc = pg_rec_bin(s->rec, "image", &bytes, &n, &s->why);
    if (s->rc == 0) s->rc = pg_error(&s->why, PG_EFORMAT, "the record has no image");
    if (s->rc < 0) return;
    s->rc = pg_image_pixels(im, bytes, n, &r->o->image, s->pixels, &s->info, s->warning, &s->why) ? s->why.code : 1;
}

typedef struct worker {
    ring *r;
    pg_image *im;
} worker;

static void *run(void *arg)
{
    worker w = *(worker *)arg;
    ring *r = w.r;
    free(arg);
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->taken == r->read && !r->stop) pthread_cond_wait(&r->work, &r->lock);
        if (r->taken == r->read) break;
        slot *s = &r->slots[r->taken++ % r->n];
        pthread_mutex_unlock(&r->lock);
        decode(r, w.im, s);
        pthread_mutex_lock(&r->lock);
        s->done = true;
        pthread_cond_signal(&r->done);
        (void)!write(r->wake[1], "", 1); /* a full pipe wakes, too */
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void start(pg_tool *t, ring *r, const options *o)
{
    size_t floats = 3 * o->image.size * o->image.size, most = RING_BYTES / (floats * sizeof(float)), cpus = t->threads ? t->threads : pg_cpus();
    pg_err e = {0};
    *r = (ring){.o = o, .threads = cpus, .n = cpus > 1 ? PER_THREAD * cpus : 1};
    if (r->n > most) r->n = most ? most : 1;
    r->slots = pg_calloc(r->n, sizeof *r->slots);
    r->decoders = pg_calloc(r->threads, sizeof(pg_image *));
    r->workers = pg_calloc(r->threads, sizeof *r->workers);
    if (!r->slots || !r->decoders || !r->workers) tool_no_memory(t);
    for (size_t i = 0; i < r->n; i++)
        if (!(r->slots[i].rec = pg_rec_new()) || !(r->slots[i].pixels = pg_floats(floats)))
            tool_die(t, EXIT_FAIL, "no memory for %zux%zu pixels", o->image.size, o->image.size);
    for (size_t i = 0; i < r->threads; i++)
        if (pg_image_new(&r->decoders[i], &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->done, NULL);
    for (int i = 0; r->threads > 1 && i < 2; i++)
        if ((i == 0 && pipe(r->wake)) || fcntl(r->wake[i], F_SETFL, O_NONBLOCK)) tool_die(t, EXIT_FAIL, "cannot make a pipe: %s", strerror(errno));
    for (size_t i = 0; r->threads > 1 && i < r->threads; i++) {
        worker *w = pg_alloc(1, sizeof *w);
        if (!w) tool_no_memory(t);
        *w = (worker){r, r->decoders[i]};
        if (pthread_create(&r->workers[i], NULL, run, w)) tool_die(t, EXIT_FAIL, "cannot start thread %zu", i);
        r->started++;
    }
}

static void finish(ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < r->started; i++) pthread_join(r->workers[i], NULL);
    for (int i = 0; r->started && i < 2; i++) close(r->wake[i]);
    for (size_t i = 0; i < r->n; i++) {
        pg_rec_free(r->slots[i].rec);
        free(r->slots[i].pixels);
    }
    for (size_t i = 0; i < r->threads; i++) pg_image_free(r->decoders[i]);
    free(r->slots);
    free(r->decoders);
    free(r->workers);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->done);
}

/* The next record into its slot and to the workers. As pg_reader_next: 1, 0 at the end, < 0 on a bad stream. */
static int take_in(tool_pipe *p, ring *r, pg_err *e)
{
    slot *s = &r->slots[r->read % r->n];
    pg_rec *other = p->rec;
    int rc = tool_read(p, e);
    if (rc != 1) return rc;
    tool_id(p, s->id, sizeof s->id);
    p->rec = s->rec;
    s->rec = other;
    if (!r->started) decode(r, r->decoders[0], s);
    pthread_mutex_lock(&r->lock);
    s->done = !r->started;
    r->read++;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    return 1;
}

/* Adds pixels, width and height to the record, or the error it met. */
static void put_out(pg_tool *t, tool_pipe *p, ring *r)
{
    slot *s = &r->slots[r->written % r->n];
    const size_t side = r->o->image.size;
    const pg_tensor tensor = {.type = "<f4", .ndim = 3, .shape = {side, side, 3}, .data = (const unsigned char *)s->pixels,
                              .bytes = side * side * 3 * sizeof(float)};
    pg_err e = {0};
    pthread_mutex_lock(&r->lock);
    while (!s->done) pthread_cond_wait(&r->done, &r->lock);
    pthread_mutex_unlock(&r->lock);
    if (s->rc < 0) tool_record_error(t, s->rec, "cannot decode '%s': %s", s->id, s->why.msg);
    if (s->rc > 0) {
        if (s->warning[0]) tool_warn(t, "'%s': %s", s->id, s->warning);
        r->lying += !r->o->image.orient && s->info.orientation > 1;
        tool_note(t, "'%s': %s, %zux%zu", s->id, s->info.format, s->info.width, s->info.height);
        if (pg_rec_set_tensor(s->rec, "pixels", &tensor, &e) || pg_rec_set_int(s->rec, "width", (int64_t)s->info.width, &e) ||
            pg_rec_set_int(s->rec, "height", (int64_t)s->info.height, &e))
            tool_die(t, EXIT_FAIL, "cannot add pixels to '%s': %s", s->id, e.msg);
        if (r->o->drop_image) pg_rec_del(s->rec, "image");
    }
    tool_put(t, p, s->rec);
    r->written++;
}

static bool first_is_done(ring *r)
{
    pthread_mutex_lock(&r->lock);
    bool is = r->slots[r->written % r->n].done;
    pthread_mutex_unlock(&r->lock);
    return is;
}

/* Until a record is done or input comes. A pipe holds less than one picture: who waited for the record alone would leave the other
 * threads without work. */
static void wait_for_either(pg_tool *t, tool_pipe *p, ring *r)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = r->wake[0], .events = POLLIN}};
    char bytes[64];
    pg_err e = {0};
    if (pg_writer_flush(p->out, &e)) tool_die(t, EXIT_FAIL, "%s", e.msg);
    (void)!poll(fds, 2, -1);
    while (read(r->wake[0], bytes, sizeof bytes) > 0) continue;
}

int main(int argc, char **argv)
{
    pg_tool t;
    tool_pipe p = {0};
    options o;
    ring r;
    tool_start(&t, "pg-resize", help, argc, argv);
    parse(&t, &o);
    tool_open_in(&t, &p, 0, "standard input", "examples");
    tool_open_out(&t, &p, NULL, NULL);
    start(&t, &r, &o);
    pg_err e = {0};
    for (int more = 1; more == 1 || r.written < r.read;) {
        bool full = r.read == r.written + r.n, waiting = r.written < r.read;
        if (more == 1 && !full && (!waiting || pg_reader_ready(p.in))) more = take_in(&p, &r, &e);
        else if (more != 1 || full || !r.started || first_is_done(&r)) put_out(&t, &p, &r);
        else wait_for_either(&t, &p, &r);
    }
    if (e.code) tool_bad_stream(&t, &p, &e);
    if (r.lying)
        tool_warn(&t, "%zu picture%s an EXIF orientation that --no-orient does not apply", r.lying, r.lying == 1 ? " has" : "s have");
    finish(&r);
    return tool_finish(&t, &p, NULL);
}
