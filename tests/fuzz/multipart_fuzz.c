/* multipart: the first byte says how the rest is cut; the result must be that
 * of feeding it in one piece. */
#include "net/core/multipart.h"
#include "cut.h"

static int on_part(void *arg, const char *name, const char *filename,
                   struct err *e)
{
    (void)e;
    buf_printf(arg, "<%s|%s>", name, filename ? filename : "");
    return 0;
}

static int on_data(void *arg, const char *p, size_t n, struct err *e)
{
    (void)e;
    buf_append(arg, p, n);
    return 0;
}

static int on_end(void *arg, struct err *e)
{
    (void)e;
    buf_puts(arg, "</>");
    return 0;
}

static int read_all(const char *p, size_t len, size_t step, struct buf *out)
{
    static const struct multipart_ops ops = {on_part, on_data, on_end};
    struct err e;
    struct multipart *m =
        multipart_new("multipart/form-data; boundary=X", &ops, out, &e);
    int r = 0;
    for (size_t i = 0; r == 0 && i < len; i += step)
        r = multipart_feed(m, p + i, len - i < step ? len - i : step, &e);
    if (r == 0)
        r = multipart_finish(m, &e);
    multipart_free(m);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    cut_check(data, size, read_all);
    struct err e;
    char *type = malloc(size);
    memcpy(type, data + 1, size - 1);
    type[size - 1] = '\0';
    static const struct multipart_ops ops = {on_part, on_data, on_end};
    multipart_free(multipart_new(type, &ops, NULL, &e));
    free(type);
    return 0;
}
