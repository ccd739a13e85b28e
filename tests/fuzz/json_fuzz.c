/* json: what is read and written is read again as the same value; any bytes
 * make a JSON string that can be read. */
#include "base/json.h"
#include "base/buf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const struct buf *b)
{
    struct err e;
    json_t *v = json_parse(b->data, b->len, &e);
    if (!v)
        abort();
    return v;
}

static void round_trip(json_t *v)
{
    struct buf text, again;
    buf_init(&text);
    buf_init(&again);
    json_write(&text, v);
    json_t *w = parse(&text);
    json_write(&again, w);
    if (!json_equal(v, w) || text.len != again.len ||
        memcmp(text.data, again.data, text.len) != 0)
        abort();
    json_decref(w);
    buf_clear(&text);
    json_write_pretty(&text, v);
    w = parse(&text);
    if (!json_equal(v, w))
        abort();
    json_decref(w);
    buf_fini(&text);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct buf text;
    const char *p = (const char *)data;
    json_t *v = json_parse(p, size, &e);
    if (v)
        round_trip(v);
    json_decref(v);
    buf_init(&text);
    buf_puts(&text, "[");
    json_write_string(&text, p, size);
    buf_puts(&text, "]");
    v = parse(&text);
    json_t *repaired = json_bytes(p, size);
    if (!json_equal(json_array_get(v, 0), repaired))
        abort();
    json_decref(repaired);
    json_decref(v);
    buf_fini(&text);
    return 0;
}
