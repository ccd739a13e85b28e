/* What comes from sandboxes: DNS questions and the first bytes of connections.
 * The first byte of the input chooses. */
#include "net/server/egress_dns.c"
#include "net/server/egress_peek.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void dns(const uint8_t *p, size_t n)
{
    static const unsigned char ip[16] = {1};
    struct egress_dns q;
    enum egress_dns_code code = EGRESS_DNS_OK;
    unsigned char out[EGRESS_DNS_ANSWER];
    if (egress_dns_parse(p, n, &q, &code) < 0)
        return;
    size_t len = egress_dns_answer(&q, code, ip, n % 2 ? 4 : 16, out);
    if (len < 12 || len > sizeof(out) || strlen(q.name) > 253)
        abort();
}

/* More bytes never turn an answer into another one. */
static void peek(const uint8_t *p, size_t n)
{
    char host[256], again[256];
    enum egress_peek all = egress_peek((const char *)p, n, host);
    enum egress_peek part = egress_peek((const char *)p, n / 2, again);
    if (part == EGRESS_PEEK_HOST &&
        (all != EGRESS_PEEK_HOST || strcmp(host, again) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2)
        dns(data + 1, size - 1);
    else
        peek(data + 1, size - 1);
    return 0;
}
