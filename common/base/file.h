/* Files: whole reads and writes, read-only maps, and files that appear whole or not at all. */
#ifndef PG_BASE_FILE_H
#define PG_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/mem.h"

/* Loops over short counts and EINTR. pg_read_full returns the bytes read (less than n only at the end), or -1 with errno. */
ssize_t pg_read_full(int fd, void *p, size_t n);
int pg_write_full(int fd, const void *p, size_t n); /* 0, or -1 with errno */
ssize_t pg_pread_full(int fd, void *p, size_t n, off_t at);
int pg_pwrite_full(int fd, const void *p, size_t n, off_t at);

/* The whole file appended to *b; PG_ELIMIT where it holds more than max bytes. */
int pg_file_read(const char *path, size_t max, pg_buf *b, pg_err *e) PG_MUST_CHECK;

/* 1: the file holds exactly these n bytes; 0: it does not; < 0: it cannot be read. */
int pg_file_is(const char *path, const void *p, size_t n, pg_err *e) PG_MUST_CHECK;

/* A file mapped read-only and shared: costs no private memory. data is NULL for an empty file. */
typedef struct pg_map {
    const unsigned char *data;
    size_t len;
} pg_map;
int pg_map_open(pg_map *m, const char *path, pg_err *e) PG_MUST_CHECK;
void pg_map_close(pg_map *m);
/* Of the n bytes at p, those that lie in the map leave this process's memory, and the system's cache before others; they come back when touched. */
void pg_map_forget(const pg_map *m, const void *p, size_t n);

/* A file under a temporary name in the same folder; commit does fsync, rename, fsync of the folder. A path that is a link stays one.
 * abort removes the temporary file; a commit that fails has done so. Harmless twice. */
typedef struct pg_outfile {
    int fd;
    char *path, *temp;
} pg_outfile;
int pg_outfile_open(pg_outfile *f, const char *path, pg_err *e) PG_MUST_CHECK;
/* One of several files that make up `set`, whose name its temporary one is made of: a sweep for `set` finds all that a killed run left. */
int pg_outfile_open_for(pg_outfile *f, const char *path, const char *set, pg_err *e) PG_MUST_CHECK;
int pg_outfile_commit(pg_outfile *f, pg_err *e) PG_MUST_CHECK;
void pg_outfile_abort(pg_outfile *f);

/* Removes temporary files and folders (NAME.tmp.XXXXXX) that this user's killed processes have left beside path; those of living ones are
 * locked and stay. Returns how many there were. A program calls it once for what it will write. */
size_t pg_temp_sweep(const char *path);
int pg_temp_lock(int fd); /* for such a file or folder, just made: -1 where a sweep was faster, and removes it */

/* A folder of that kind beside path, just made and locked. remove: with the files in it; harmless twice. rename: gives it its name, readable as
 * the umask says; one that fails has removed it. */
typedef struct pg_temp_folder {
    char *path; /* NULL: none */
    int lock;
} pg_temp_folder;
int pg_temp_folder_make(pg_temp_folder *d, const char *path, pg_err *e) PG_MUST_CHECK;
int pg_temp_folder_rename(pg_temp_folder *d, const char *path, pg_err *e) PG_MUST_CHECK;
void pg_temp_folder_remove(pg_temp_folder *d);

int pg_file_save(const char *path, const void *p, size_t n, pg_err *e) PG_MUST_CHECK; /* a small file that appears whole */
/* A file without a name, in $TMPDIR or /tmp, gone when it is closed. */
int pg_temp_file(int *fd, pg_err *e) PG_MUST_CHECK;

bool pg_same_file(const char *a, const char *b); /* false where one does not exist */
bool pg_is_dir(const char *path);
bool pg_is_file(const char *path);
/* 1: a regular file is there; 0: none, or something else; < 0: the system cannot tell. For files that may be missing. */
int pg_file_there(const char *path, pg_err *e) PG_MUST_CHECK;
bool pg_ends_with(const char *s, const char *end);
char *pg_path_join(const char *dir, const char *name) PG_MUST_CHECK; /* NULL on no memory; an absolute name stays */
char *pg_path_dir(const char *path) PG_MUST_CHECK;                   /* "." where there is none */
/* The file that path stands for: where its last part is a link, what that leads to, also where nothing is there yet. NULL: no memory. */
char *pg_path_behind_links(const char *path) PG_MUST_CHECK;

#endif
