/* A pipeline behind a web page. What HTTP, the command and the rest need lies in serve_*.c beside this file; serve.h begins with a map. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/num.h"
#include "serve.h"

static const char help[] =
    "usage: pg-serve [options] -- COMMAND...\n"
    "A web page and an API in front of COMMAND, which reads a stream of examples and\n"
    "writes it with captions. Access log on standard output, a line of JSON a request.\n"
    "\n"
    "  -b, --bind ADDRESS        address to listen on (default 127.0.0.1)\n"
    "  -p, --port PORT           port (default 8080; 0: any that is free)\n"
    "      --prefix PREFIX       for pictures that come without (default: COMMAND's own)\n"
    "      --max-upload SIZE     largest picture in bytes; K, M, G are known (default 20M)\n"
    "      --max-pixels N        most pixels of a picture (default 100M)\n"
    "      --queue N             most pictures that wait or are worked on (default 16)\n"
    "      --timeout S           seconds that COMMAND may take for a picture (default 120)\n"
    "      --start-timeout S     seconds that COMMAND may take to begin (default 600)\n"
    "      --client-timeout S    seconds that a client may take (default 30)\n"
    "      --rate N              most pictures a minute for each client address; 0: no limit\n"
    "                            (default 120 where others can reach it, else 0)\n"
    "      --auth-file FILE      names with hashed passwords (htpasswd -B), or tokens\n"
    "      --proxy               behind a proxy: believe X-Forwarded-For\n"
    "      --read-only           forbid itself and COMMAND to write files (Landlock)\n"
    "  -q, --quiet; -v, --verbose; -h, --help; --version\n"
    "\n"
    "SIGTERM: finish what has come in, then exit. SIGHUP: start COMMAND anew, then move over.\n"
    "\n"
    "example:\n"
    "  pg-serve -- sh -c 'pg-resize -m MODEL | pg-tokenize -m MODEL | pg-infer -m MODEL --partial'\n";

enum { PREFIX = 256, UPLOAD, PIXELS, QUEUE, TIMEOUT, START, CLIENT, RATE, AUTH, PROXY, READ_ONLY };

static size_t bytes_of(const pg_tool *t, const char *option, const char *value, size_t max)
{
    size_t v;
    if (!pg_parse_bytes(value, &v)) tool_usage(t, "%s '%s': not a size such as 500K, 20M or 1G", option, value);
    if (v < 1 || v > max) tool_usage(t, "%s %s: not between 1 and %zu", option, value, max);
    return v;
}

static void parse(server *s, int argc, char **argv)
{
    static const struct option opts[] = {{"bind", required_argument, NULL, 'b'},
                                         {"port", required_argument, NULL, 'p'},
                                         {"prefix", required_argument, NULL, PREFIX},
                                         {"max-upload", required_argument, NULL, UPLOAD},
                                         {"max-pixels", required_argument, NULL, PIXELS},
                                         {"queue", required_argument, NULL, QUEUE},
                                         {"timeout", required_argument, NULL, TIMEOUT},
                                         {"start-timeout", required_argument, NULL, START},
                                         {"client-timeout", required_argument, NULL, CLIENT},
                                         {"rate", required_argument, NULL, RATE},
                                         {"auth-file", required_argument, NULL, AUTH},
                                         {"proxy", no_argument, NULL, PROXY},
                                         {"read-only", no_argument, NULL, READ_ONLY},
                                         {0}};
    pg_tool *t = &s->t;
    options *o = &s->o;
    *o = (options){.address = "127.0.0.1", .port = "8080", .max_upload = 20 << 20, .max_pixels = 100 << 20, .queue = 16, .timeout = 120,
                   .start_timeout = 600, .client_timeout = 30, .rate = -1};
    tool_start(t, "pg-serve", help, argc, argv);
    for (int c; (c = tool_getopt(t, "b:p:", opts, false)) != -1;)
        switch (c) {
        case 'b': o->address = optarg; break;
        case 'p': o->port = optarg; (void)tool_size(t, "--port", optarg, 0, 65535); break;
        case PREFIX: o->prefix = optarg; break;
        case UPLOAD: o->max_upload = bytes_of(t, "--max-upload", optarg, (size_t)1 << 29); break;
        case PIXELS: o->max_pixels = bytes_of(t, "--max-pixels", optarg, PG_MAX_PIXELS); break;
        case QUEUE: o->queue = tool_size(t, "--queue", optarg, 1, 4096); break;
        case TIMEOUT: o->timeout = tool_double(t, "--timeout", optarg, 0.1, 86400); break;
        case START: o->start_timeout = tool_double(t, "--start-timeout", optarg, 0.1, 86400); break;
        case CLIENT: o->client_timeout = tool_double(t, "--client-timeout", optarg, 0.1, 3600); break;
        case RATE: o->rate = tool_double(t, "--rate", optarg, 0, 1e6); break;
        case AUTH: o->auth_file = optarg; break;
        case PROXY: o->proxy = true; break;
        case READ_ONLY: o->read_only = true; break;
        }
    if (o->prefix && !pg_utf8_valid(o->prefix, strlen(o->prefix))) tool_usage(t, "--prefix '%s': not valid UTF-8", o->prefix);
    for (const char *c = o->prefix; c && *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) tool_usage(t, "--prefix '%s': control characters or several lines", o->prefix);
    if (optind >= argc) tool_usage(t, "no command: name it after --");
    o->command = argv + optind;
}

/* The default limit depends on who can reach the socket, which may be one that the service manager has made. */
static void limit_rate(server *s, const char *where)
{
    bool alone = !s->o.proxy && (!strncmp(where, "http://127.", 11) || !strncmp(where, "http://[::1]", 12) || strncmp(where, "http:", 5));
    if (s->o.rate < 0) s->o.rate = alone ? 0 : 120;
    if (s->o.rate > 0 && !(s->rates = rates_new(s->o.rate))) tool_no_memory(&s->t);
}

static void set_up(server *s)
{
    struct stat st;
    pg_err e = {0};
    s->started = serve_now();
    if (getrandom(&s->run, sizeof s->run, 0) != (ssize_t)sizeof s->run) s->run = (uint64_t)time(NULL);
    if (pthread_mutex_init(&s->lock, NULL) || pthread_mutex_init(&s->auth_lock, NULL) || pthread_cond_init(&s->work, NULL)) tool_no_memory(&s->t);
    if (pg_image_new(&s->image, &e) || (s->o.auth_file && auth_open(&s->auth, s->o.auth_file, &e))) tool_die(&s->t, EXIT_FAIL, "%s", e.msg);
    if (s->o.auth_file && !stat(s->o.auth_file, &st) && (st.st_mode & 077))
        tool_warn(&s->t, "'%s' can be read by others than its owner", s->o.auth_file);
    if (system_harden(s, &e)) tool_die(&s->t, EXIT_FAIL, "%s", e.msg);
}

static void reload(server *s)
{
    auth *a = NULL;
    pg_err e = {0};
    if (s->o.auth_file && auth_open(&a, s->o.auth_file, &e)) tool_warn(&s->t, "%s; the old names and tokens stay", e.msg);
    if (a) {
        pthread_mutex_lock(&s->auth_lock);
        auth *old = s->auth;
        s->auth = a;
        pthread_mutex_unlock(&s->auth_lock);
        auth_free(old);
    }
    children_reload(s);
}

static void signals_of(sigset_t *set)
{
    static const int all[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sigaddset(set, all[i]);
}

/* The next signal, 0 where none came for a little while. */
static int next_signal(const sigset_t *set, bool busy)
{
    struct timespec wait = {.tv_nsec = busy ? 50000000 : 200000000};
    int sig = sigtimedwait(set, NULL, &wait);
    return sig < 0 ? 0 : sig;
}

static void look_after(server *s)
{
    double now = serve_now();
    children_look(s);
    pthread_mutex_lock(&s->lock);
    jobs_deadlines(s, now);
    pthread_mutex_unlock(&s->lock);
    http_slow(s, now);
}

/* Until SIGTERM or SIGINT; false where there is nothing to serve. */
static bool serve(server *s, const sigset_t *set)
{
    while (!children_hopeless(s)) {
        int sig = next_signal(set, s->next != NULL);
        if (sig == SIGTERM || sig == SIGINT) return true;
        if (sig == SIGHUP) reload(s);
        look_after(s);
    }
    tool_error(&s->t, "given up: the command '%s' has ended %zu times and never began to answer", s->o.command[0], s->failures);
    return false;
}

static size_t active(server *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->active;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* No new requests; what has come in is answered, then the command ends. A second signal, or hurry: at once. */
static void drain(server *s, const sigset_t *set, bool hurry)
{
    static const char stopping[] = "the server is stopping";
    double until = serve_now() + s->o.timeout;
    tool_info(&s->t, "stopping: %zu requests are still being answered", active(s));
    system_notify("STOPPING=1");
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
    http_quiesce(s);
    while (active(s) && !hurry && serve_now() < until) {
        int sig = next_signal(set, true);
        hurry = sig == SIGTERM || sig == SIGINT;
        look_after(s);
    }
    pthread_mutex_lock(&s->lock);
    while (s->first) job_done(s, s->first, 503, "stopping", stopping, sizeof stopping - 1);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; active(s) && i < 20; i++) (void)next_signal(set, true);
    http_stop(s);
    children_retire(s);
    for (until = serve_now() + (hurry ? 0 : 10); !children_over(s) && serve_now() < until; children_look(s)) (void)next_signal(set, true);
    children_kill(s);
    for (int i = 0; !children_over(s) && i < 40; i++, children_look(s)) (void)next_signal(set, true);
}

int main(int argc, char **argv)
{
    server s = {0};
    sigset_t set;
    char where[80];
    pg_err e = {0};
    child *first;
    parse(&s, argc, argv);
    signals_of(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    set_up(&s);
    int fd = system_listen(&s, where, &e);
    if (fd >= 0) limit_rate(&s, where);
    if (fd < 0 || child_start(&s, &first, &e)) tool_die(&s.t, EXIT_FAIL, "%s", e.msg);
    pthread_mutex_lock(&s.lock);
    s.current = first;
    pthread_cond_broadcast(&s.work);
    pthread_mutex_unlock(&s.lock);
    if (http_start(&s, fd, &e)) tool_die(&s.t, EXIT_FAIL, "%s", e.msg);
    tool_info(&s.t, "listening on %s", where);
    system_notify("READY=1");
    bool served = serve(&s, &set);
    drain(&s, &set, !served);
    if (!children_over(&s)) return EXIT_FAIL; /* a process that cannot be killed; its threads still use s */
    auth_free(s.auth);
    rates_free(s.rates);
    pg_image_free(s.image);
    pthread_cond_destroy(&s.work);
    pthread_mutex_destroy(&s.auth_lock);
    pthread_mutex_destroy(&s.lock);
    return tool_close_stdout(&s.t) || !served ? EXIT_FAIL : EXIT_OK;
}
