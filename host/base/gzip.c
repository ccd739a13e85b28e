/* Streaming gzip. See gzip.h. */
#include "gzip.h"
#include "mem.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

struct gzip {
    z_stream z;
    bool compress, ended;
};

enum { GZIP_WINDOW = 15 + 16 }; /* zlib: +16 asks for the gzip format */
static const size_t ROOM_MAX = 65536;

struct gzip *gzip_new(bool compress)
{
    struct gzip *g = mem_alloc(sizeof(*g));
    g->compress = compress;
    int r = compress ? deflateInit2(&g->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                                    GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY)
                     : inflateInit2(&g->z, GZIP_WINDOW);
    if (r != Z_OK)
        abort();
    return g;
}

void gzip_free(struct gzip *g)
{
    if (!g)
        return;
    if (g->compress)
        deflateEnd(&g->z);
    else
        inflateEnd(&g->z);
    free(g);
}

int gzip_run(struct gzip *g, const void *p, size_t n, size_t *used, bool last,
             size_t out_max, struct buf *out, struct err *e)
{
    size_t start = out->len;
    *used = 0;
    if (g->ended)
        return 1;
    g->z.next_in = (Bytef *)(size_t)p;
    g->z.avail_in = n > UINT_MAX ? UINT_MAX : (uInt)n;
    uInt given = g->z.avail_in;
    while (out->len - start < out_max) {
        size_t room = out_max - (out->len - start);
        if (room > ROOM_MAX)
            room = ROOM_MAX;
        g->z.next_out = (Bytef *)buf_reserve(out, room);
        g->z.avail_out = (uInt)room;
        int r = g->compress ? deflate(&g->z, last ? Z_FINISH : Z_NO_FLUSH)
                            : inflate(&g->z, Z_NO_FLUSH);
        out->len += room - g->z.avail_out;
        out->data[out->len] = '\0';
        *used = given - g->z.avail_in;
        if (r == Z_STREAM_END) {
            g->ended = true;
            return 1;
        }
        if (r != Z_OK && r != Z_BUF_ERROR)
            return err_set(e, "protocol", "gzip: %s",
                           g->z.msg ? g->z.msg : "broken data");
        if (g->z.avail_out > 0)
            break; /* all input used, nothing more to give */
    }
    return 0;
}
