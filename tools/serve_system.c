/* The socket, the service manager, and what the process gives up before it begins. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#define HAVE_LANDLOCK 1
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* Linux 6.2 */
#endif
#endif
#endif

#include "base/num.h"
#include "serve.h"

/* ---- the socket ---- */
/* From systemd, as sd_listen_fds(3) defines it: 3, or -1. */
static int inherited(void)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
    size_t p, count;
    if (!pid || !n || !pg_parse_size(pid, &p) || !pg_parse_size(n, &count) || (pid_t)p != getpid() || count < 1) return -1;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    fcntl(3, F_SETFD, FD_CLOEXEC);
    return 3;
}

static int bound(const struct addrinfo *a)
{
    int one = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, 128)) return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void name_of(int fd, char where[static 80])
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[48] = "?", port[8] = "?";
    if (!getsockname(fd, (struct sockaddr *)&a, &n) && a.ss_family == AF_UNIX) snprintf(where, 80, "a Unix socket");
    else {
        (void)getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
        snprintf(where, 80, strchr(host, ':') ? "http://[%s]:%s/" : "http://%s:%s/", host, port);
    }
}

int system_listen(server *s, char where[static 80], pg_err *e)
{
    struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE}, *a = NULL;
    int fd = inherited();
    s->inherited = fd >= 0;
    if (fd < 0) {
        int rc = getaddrinfo(s->o.address, s->o.port, &want, &a);
        if (rc == EAI_NONAME) return pg_error(e, PG_EINVAL, "cannot listen on '%s': not an IPv4 or IPv6 address, such as 127.0.0.1", s->o.address);
        if (rc) return pg_error(e, PG_EINVAL, "cannot listen on '%s': %s", s->o.address, gai_strerror(rc));
        fd = bound(a);
        freeaddrinfo(a);
    }
    if (fd < 0) return pg_error_errno(e, "cannot listen on '%s' port %s", s->o.address, s->o.port);
    name_of(fd, where);
    return fd;
}

void system_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!path || !*path || strlen(path) >= sizeof a.sun_path) return;
    memcpy(a.sun_path, path, strlen(path));
    if (*path == '@') a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

/* ---- hardening; the command inherits it ---- */
#ifdef HAVE_LANDLOCK
/* Nothing in the file system can be written, made or removed any more, but for what lies in /dev (null, shm). */
static int read_only(pg_err *e)
{
    uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                      LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                      LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                      LANDLOCK_ACCESS_FS_MAKE_SYM;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) return pg_error_errno(e, "--read-only: this kernel offers no Landlock");
    if (abi >= 3) writes |= LANDLOCK_ACCESS_FS_TRUNCATE;
    struct landlock_ruleset_attr attr = {.handled_access_fs = writes};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0), rc = PG_OK;
    if (rules < 0) return pg_error_errno(e, "--read-only: cannot make Landlock rules");
    struct landlock_path_beneath_attr dev = {.allowed_access = writes, .parent_fd = open("/dev", O_RDONLY | O_CLOEXEC | O_DIRECTORY)};
    if (dev.parent_fd < 0 || syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &dev, 0) ||
        syscall(SYS_landlock_restrict_self, rules, 0))
        rc = pg_error_errno(e, "--read-only: cannot apply Landlock rules");
    if (dev.parent_fd >= 0) close(dev.parent_fd);
    close(rules);
    return rc;
}
#else
static int read_only(pg_err *e) { return pg_error(e, PG_EINVAL, "--read-only: this build knows no Landlock"); }
#endif

int system_harden(const server *s, pg_err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return pg_error_errno(e, "cannot give up new privileges");
    return s->o.read_only ? read_only(e) : PG_OK;
}
