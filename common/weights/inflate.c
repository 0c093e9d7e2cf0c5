/* Deflated members of an npz (numpy.savez_compressed). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "weights/internal.h"

enum { PIECE = 1 << 23, MOST_RATIO = 1032 }; /* deflate's best: 258 bytes from 2 bits */

int pg_map_temp(pg_map *m, size_t n, pg_err *e)
{
    *m = (pg_map){0};
    int fd, bad, rc = pg_temp_file(&fd, e);
    if (rc)
        return rc;
    if ((bad = posix_fallocate(fd, 0, (off_t)n))) {
        close(fd);
        errno = bad;
        return pg_error_errno(e, "cannot unpack %zu bytes into a temporary file", n);
    }
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rc = p == MAP_FAILED ? pg_error_errno(e, "cannot map a temporary file") : PG_OK;
    close(fd);
    if (!rc)
        *m = (pg_map){p, n};
    return rc;
}

/* Piece by piece: its checksum is computed while it is at hand, then its pages leave this process. */
static bool unpack(const pg_map *m, const pg_zip_member *z, uint32_t *crc)
{
    unsigned char *out = (unsigned char *)(uintptr_t)m->data;
    z_stream s = {0};
    size_t in = 0, at = 0;
    int rc = Z_OK;
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return false;
    while (rc == Z_OK) {
        size_t give = z->packed - in < PIECE ? z->packed - in : PIECE, room = z->len - at < PIECE ? z->len - at : PIECE;
        s.next_in = (Bytef *)(uintptr_t)(z->data + in);
        s.avail_in = (uInt)give;
        s.next_out = out + at;
        s.avail_out = (uInt)room;
        rc = inflate(&s, Z_NO_FLUSH);
        *crc = (uint32_t)crc32(*crc, out + at, (uInt)(room - s.avail_out));
        pg_map_forget(m, out + at, room - s.avail_out);
        in += give - s.avail_in;
        at += room - s.avail_out;
        if (rc == Z_OK && s.avail_in == give && s.avail_out == room)
            break; /* neither eats nor gives: cut, or longer than it says */
    }
    inflateEnd(&s);
    return rc == Z_STREAM_END && at == z->len;
}

int pg_zip_inflate(pg_map *m, const pg_zip_member *z, const char *path, pg_err *e)
{
    *m = (pg_map){0};
    if (!z->len || z->packed < z->len / MOST_RATIO)
        return pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' claims %zu bytes from %zu, which no compression does", path, (int)z->name_len,
                        z->name, z->len, z->packed);
    int rc = pg_map_temp(m, z->len, e);
    if (rc)
        return pg_error_context(e, "cannot read '%s'", path);
    uint32_t crc = 0;
    if (!unpack(m, z, &crc))
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' is damaged: its compressed data do not unpack to %zu bytes", path,
                      (int)z->name_len, z->name, z->len);
    if (!rc && crc != z->crc)
        rc = pg_error(e, PG_EFORMAT, "cannot read '%s': member '%.*s' has checksum %08x, the directory says %08x", path, (int)z->name_len, z->name,
                      crc, z->crc);
    if (rc)
        pg_map_close(m);
    return rc;
}
