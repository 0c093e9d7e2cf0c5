/* A library for LD_PRELOAD that makes the n-th call of a kind fail, as a full disk, little memory or a bad cable would. tests/faults/faults.py
 * runs the tools under it. The environment says what:
 *     FAULT_TOOL=pg-train          only this program is touched, not the others of a pipeline
 *     FAULT_CALL=alloc FAULT_AT=7  the seventh call of this kind fails (from the kinds below); 0: none
 *     FAULT_MANY=1                 and every later one, too
 *     FAULT_ERRNO=12               with this errno; 0: reads and writes move one byte instead
 *     FAULT_SHARED=FILE            counters, kept in a file so that they outlive a crash: calls of each kind, then whether the fault came
 *     FAULT_TRAP=1                 stop there, for a debugger
 *     FAULT_STORM=500              a signal every so many microseconds, whose handler interrupts system calls
 * Messages (descriptor 2) are never touched. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef _IO_ERR_SEEN
#define _IO_ERR_SEEN 0x0020 /* glibc: what ferror looks at */
#endif

enum { ALLOC, READ, WRITE, STDIO, FSYNC, RENAME, CLOSE, MMAP, TRUNCATE, OPEN, STAT, FOLDER, THREAD, POLL, PIPE, FORK, SOCKET, KINDS, FIRED = KINDS, CELLS };
static const char *const kinds[KINDS] = {"alloc", "read", "write", "stdio",  "fsync",  "rename", "close", "mmap",
                                         "truncate", "open", "stat", "folder", "thread", "poll",   "pipe",  "fork", "socket"};

static unsigned *cells, at;
static int kind = -1, with, many;

/* glibc's own names of its allocator: no dlsym, which allocates itself. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

/* Is this the call that fails? Then errno is set. */
static int hit(int of)
{
    if (!cells) return 0;
    unsigned n = __atomic_add_fetch(&cells[of], 1, __ATOMIC_RELAXED);
    if (of != kind || !at || (many ? n < at : n != at)) return 0;
    __atomic_store_n(&cells[FIRED], 1, __ATOMIC_RELAXED);
    if (getenv("FAULT_TRAP")) raise(SIGTRAP);
    errno = with;
    return 1;
}

static void woken(int s) { (void)s; }

__attribute__((constructor)) static void start(void)
{
    const char *tool = getenv("FAULT_TOOL"), *call = getenv("FAULT_CALL"), *n = getenv("FAULT_AT"), *e = getenv("FAULT_ERRNO"),
               *file = getenv("FAULT_SHARED"), *storm = getenv("FAULT_STORM");
    if (!tool || strcmp(tool, program_invocation_short_name)) return;
    for (int i = 0; call && i < KINDS; i++)
        if (!strcmp(call, kinds[i])) kind = i;
    at = n ? (unsigned)strtoul(n, NULL, 10) : 0;
    with = e ? atoi(e) : 0;
    many = getenv("FAULT_MANY") != NULL;
    if (storm) {
        struct sigaction a = {.sa_handler = woken};
        struct itimerval t = {{0, atol(storm)}, {0, atol(storm)}};
        sigaction(SIGALRM, &a, NULL);
        setitimer(ITIMER_REAL, &t, NULL);
    }
    if (!file) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : (void *)syscall(SYS_mmap, NULL, CELLS * sizeof *cells, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) _exit(99);
    syscall(SYS_close, fd);
    cells = p;
}

/* ---- memory ---- */
void *malloc(size_t n) { return hit(ALLOC) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return hit(ALLOC) ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return hit(ALLOC) ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { return hit(ALLOC) ? NULL : __libc_memalign(a, n); }
void *memalign(size_t a, size_t n) { return hit(ALLOC) ? NULL : __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{
    int saved = errno;
    if (hit(ALLOC)) {
        errno = saved; /* it returns the number instead */
        return ENOMEM;
    }
    void *q = __libc_memalign(a, n);
    if (!q) return ENOMEM;
    *p = q;
    return 0;
}

/* The function that a library after this one defines. */
#define NEXT(type, name, ...)                                         \
    static type (*next)(__VA_ARGS__);                                 \
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, name)

/* A file, pipe, device or socket: not an eventfd, whose 8 bytes always go at once; and no pipe is on a disk that is full. */
static int moves(int fd)
{
    struct stat st;
    NEXT(int, "fstat", int, struct stat *);
    return next(fd, &st) || ((st.st_mode & S_IFMT) && !(with == ENOSPC && S_ISFIFO(st.st_mode)));
}

/* ---- reading and writing; errno 0 stands for one byte alone ---- */
ssize_t read(int fd, void *p, size_t n)
{
    NEXT(ssize_t, "read", int, void *, size_t);
    if (!moves(fd) || !hit(READ)) return next(fd, p, n);
    return with ? -1 : next(fd, p, n < 1 ? n : 1);
}
ssize_t pread(int fd, void *p, size_t n, off_t o)
{
    NEXT(ssize_t, "pread", int, void *, size_t, off_t);
    if (!hit(READ)) return next(fd, p, n, o);
    return with ? -1 : next(fd, p, n < 1 ? n : 1, o);
}
ssize_t write(int fd, const void *p, size_t n)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    if (fd == 2 || !moves(fd) || !hit(WRITE)) return next(fd, p, n);
    return with ? -1 : next(fd, p, n < 1 ? n : 1);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t o)
{
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (!hit(WRITE)) return next(fd, p, n, o);
    return with ? -1 : next(fd, p, n < 1 ? n : 1, o);
}
ssize_t writev(int fd, const struct iovec *v, int n)
{
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    if (!hit(WRITE)) return next(fd, v, n);
    struct iovec one = {v->iov_base, v->iov_len < 1 ? v->iov_len : 1};
    return with ? -1 : next(fd, &one, 1);
}

/* ---- stdio: inside of the C library nobody can step between, so the stream gets its error here ---- */
static int bad(FILE *f)
{
    if (f == stderr || !hit(STDIO)) return 0;
    f->_flags |= _IO_ERR_SEEN;
    return 1;
}
size_t fwrite(const void *p, size_t size, size_t n, FILE *f)
{
    NEXT(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    return bad(f) ? 0 : next(p, size, n, f);
}
int fputs(const char *s, FILE *f)
{
    NEXT(int, "fputs", const char *, FILE *);
    return bad(f) ? EOF : next(s, f);
}
int puts(const char *s)
{
    NEXT(int, "puts", const char *);
    return bad(stdout) ? EOF : next(s);
}
int fputc(int c, FILE *f)
{
    NEXT(int, "fputc", int, FILE *);
    return bad(f) ? EOF : next(c, f);
}
int putc(int c, FILE *f)
{
    NEXT(int, "putc", int, FILE *);
    return bad(f) ? EOF : next(c, f);
}
int putchar(int c)
{
    NEXT(int, "putchar", int);
    return bad(stdout) ? EOF : next(c);
}
int vfprintf(FILE *f, const char *fmt, va_list ap)
{
    NEXT(int, "vfprintf", FILE *, const char *, va_list);
    return bad(f) ? -1 : next(f, fmt, ap);
}
int fprintf(FILE *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vfprintf(f, fmt, ap);
    va_end(ap);
    return n;
}
int printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vfprintf(stdout, fmt, ap);
    va_end(ap);
    return n;
}
int fflush(FILE *f)
{
    NEXT(int, "fflush", FILE *);
    return f && bad(f) ? EOF : next(f);
}
int fclose(FILE *f)
{
    NEXT(int, "fclose", FILE *);
    int fault = bad(f), rc = next(f);
    if (!fault) return rc;
    errno = with;
    return EOF;
}
size_t fread(void *p, size_t size, size_t n, FILE *f)
{
    NEXT(size_t, "fread", void *, size_t, size_t, FILE *);
    return bad(f) ? 0 : next(p, size, n, f);
}
ssize_t getline(char **line, size_t *n, FILE *f)
{
    NEXT(ssize_t, "getline", char **, size_t *, FILE *);
    return bad(f) ? -1 : next(line, n, f);
}

/* ---- files ---- */
int fsync(int fd)
{
    NEXT(int, "fsync", int);
    return hit(FSYNC) ? -1 : next(fd);
}
int fdatasync(int fd)
{
    NEXT(int, "fdatasync", int);
    return hit(FSYNC) ? -1 : next(fd);
}
int rename(const char *a, const char *b)
{
    NEXT(int, "rename", const char *, const char *);
    return hit(RENAME) ? -1 : next(a, b);
}
int link(const char *a, const char *b)
{
    NEXT(int, "link", const char *, const char *);
    return hit(RENAME) ? -1 : next(a, b);
}
int close(int fd) /* the descriptor is gone either way, as on Linux */
{
    NEXT(int, "close", int);
    int fault = fd != 2 && hit(CLOSE), rc = next(fd);
    if (!fault) return rc;
    errno = with;
    return -1;
}
void *mmap(void *p, size_t n, int prot, int flags, int fd, off_t o)
{
    NEXT(void *, "mmap", void *, size_t, int, int, int, off_t);
    return hit(MMAP) ? MAP_FAILED : next(p, n, prot, flags, fd, o);
}
int ftruncate(int fd, off_t n)
{
    NEXT(int, "ftruncate", int, off_t);
    return hit(TRUNCATE) ? -1 : next(fd, n);
}
int posix_fallocate(int fd, off_t o, off_t n)
{
    NEXT(int, "posix_fallocate", int, off_t, off_t);
    return hit(TRUNCATE) ? with : next(fd, o, n);
}
int open(const char *path, int flags, ...)
{
    NEXT(int, "open", const char *, int, ...);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return hit(OPEN) ? -1 : next(path, flags, mode);
}
int openat(int dir, const char *path, int flags, ...)
{
    NEXT(int, "openat", int, const char *, int, ...);
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return hit(OPEN) ? -1 : next(dir, path, flags, mode);
}
int mkstemp(char *path)
{
    NEXT(int, "mkstemp", char *);
    return hit(OPEN) ? -1 : next(path);
}
FILE *fopen(const char *path, const char *mode)
{
    NEXT(FILE *, "fopen", const char *, const char *);
    return hit(OPEN) ? NULL : next(path, mode);
}
FILE *fdopen(int fd, const char *mode)
{
    NEXT(FILE *, "fdopen", int, const char *);
    return hit(OPEN) ? NULL : next(fd, mode);
}
FILE *tmpfile(void)
{
    NEXT(FILE *, "tmpfile", void);
    return hit(OPEN) ? NULL : next();
}
FILE *open_memstream(char **p, size_t *n)
{
    NEXT(FILE *, "open_memstream", char **, size_t *);
    return hit(OPEN) ? NULL : next(p, n);
}
int stat(const char *restrict path, struct stat *restrict st)
{
    NEXT(int, "stat", const char *, struct stat *);
    return hit(STAT) ? -1 : next(path, st);
}
int lstat(const char *restrict path, struct stat *restrict st)
{
    NEXT(int, "lstat", const char *, struct stat *);
    return hit(STAT) ? -1 : next(path, st);
}
int fstat(int fd, struct stat *st)
{
    NEXT(int, "fstat", int, struct stat *);
    return hit(STAT) ? -1 : next(fd, st);
}
off_t lseek(int fd, off_t o, int whence)
{
    NEXT(off_t, "lseek", int, off_t, int);
    return hit(STAT) ? -1 : next(fd, o, whence);
}
int mkdir(const char *path, mode_t mode)
{
    NEXT(int, "mkdir", const char *, mode_t);
    return hit(FOLDER) ? -1 : next(path, mode);
}
DIR *opendir(const char *path)
{
    NEXT(DIR *, "opendir", const char *);
    return hit(FOLDER) ? NULL : next(path);
}
struct dirent *readdir(DIR *d)
{
    NEXT(struct dirent *, "readdir", DIR *);
    return hit(FOLDER) ? NULL : next(d);
}
char *realpath(const char *restrict path, char *restrict out)
{
    NEXT(char *, "realpath", const char *, char *);
    return hit(FOLDER) ? NULL : next(path, out);
}

/* ---- threads, processes, waiting ---- */
int pthread_create(pthread_t *restrict t, const pthread_attr_t *restrict a, void *(*fn)(void *), void *restrict ctx)
{
    NEXT(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return hit(THREAD) ? with : next(t, a, fn, ctx);
}
int poll(struct pollfd *p, nfds_t n, int ms)
{
    NEXT(int, "poll", struct pollfd *, nfds_t, int);
    return hit(POLL) ? -1 : next(p, n, ms);
}
int pipe(int fd[2])
{
    NEXT(int, "pipe", int *);
    return hit(PIPE) ? -1 : next(fd);
}
int pipe2(int fd[2], int flags)
{
    NEXT(int, "pipe2", int *, int);
    return hit(PIPE) ? -1 : next(fd, flags);
}
pid_t fork(void)
{
    NEXT(pid_t, "fork", void);
    return hit(FORK) ? -1 : next();
}
int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *restrict actions,
                const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict])
{
    NEXT(int, "posix_spawn", pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const *, char *const *);
    return hit(FORK) ? with : next(pid, path, actions, attr, argv, env);
}
int posix_spawnp(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *restrict actions,
                 const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict])
{
    NEXT(int, "posix_spawnp", pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const *, char *const *);
    return hit(FORK) ? with : next(pid, file, actions, attr, argv, env);
}

/* ---- sockets ---- */
int socket(int domain, int type, int protocol)
{
    NEXT(int, "socket", int, int, int);
    return hit(SOCKET) ? -1 : next(domain, type, protocol);
}
int bind(int fd, const struct sockaddr *a, socklen_t n)
{
    NEXT(int, "bind", int, const struct sockaddr *, socklen_t);
    return hit(SOCKET) ? -1 : next(fd, a, n);
}
int listen(int fd, int n)
{
    NEXT(int, "listen", int, int);
    return hit(SOCKET) ? -1 : next(fd, n);
}
int accept4(int fd, struct sockaddr *a, socklen_t *n, int flags)
{
    NEXT(int, "accept4", int, struct sockaddr *, socklen_t *, int);
    return hit(SOCKET) ? -1 : next(fd, a, n, flags);
}
ssize_t recv(int fd, void *p, size_t n, int flags)
{
    NEXT(ssize_t, "recv", int, void *, size_t, int);
    return hit(SOCKET) ? -1 : next(fd, p, n, flags);
}
ssize_t send(int fd, const void *p, size_t n, int flags)
{
    NEXT(ssize_t, "send", int, const void *, size_t, int);
    return hit(SOCKET) ? -1 : next(fd, p, n, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    NEXT(ssize_t, "sendmsg", int, const struct msghdr *, int);
    return hit(SOCKET) ? -1 : next(fd, m, flags);
}
int epoll_wait(int fd, struct epoll_event *ev, int n, int ms)
{
    NEXT(int, "epoll_wait", int, struct epoll_event *, int, int);
    return hit(POLL) ? -1 : next(fd, ev, n, ms);
}
