/* See egress_dns.h. RFC 1035, section 4. */
#include "egress_dns.h"

#include <stdbool.h>
#include <string.h>

enum {
    HEAD = 12,
    TYPE_A = 1,
    TYPE_PTR = 12,
    TYPE_AAAA = 28,
    TYPE_ANY = 255,
    CLASS_IN = 1,
    FLAG_RESPONSE = 0x80,
    FLAG_AUTHORITATIVE = 0x04,
    FLAG_RECURSION = 0x01,
    FLAG_RECURSION_AVAILABLE = 0x80
};

static unsigned u16(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* The labels at p as a dotted name; returns their length in bytes or 0. A
 * question has no reason for a pointer, so there are no loops either. */
static size_t take_name(const unsigned char *p, size_t n, char *name)
{
    size_t at = 0, len = 0;
    while (at < n && p[at] != 0) {
        size_t label = p[at++];
        if (label > 63 || label > n - at || len + (len > 0) + label > 253)
            return 0;
        if (memchr(p + at, '\0', label) || memchr(p + at, '.', label))
            return 0;
        if (len > 0)
            name[len++] = '.';
        memcpy(name + len, p + at, label);
        len += label;
        at += label;
    }
    if (at >= n || at + 1 > 255)
        return 0;
    name[len] = '\0';
    return at + 1;
}

static enum egress_dns_type type_of(unsigned type)
{
    switch (type) {
    case TYPE_A:
    case TYPE_ANY:
        return EGRESS_DNS_A;
    case TYPE_AAAA:
        return EGRESS_DNS_AAAA;
    case TYPE_PTR:
        return EGRESS_DNS_PTR;
    default:
        return EGRESS_DNS_OTHER;
    }
}

int egress_dns_parse(const void *bytes, size_t n, struct egress_dns *q,
                     enum egress_dns_code *code)
{
    const unsigned char *p = bytes;
    q->question_len = 0;
    q->name[0] = '\0';
    if (n < HEAD || n > EGRESS_DNS_MAX || p[2] & FLAG_RESPONSE)
        return -1;
    memcpy(q->head, p, HEAD);
    if (p[2] >> 3 & 15) {
        *code = EGRESS_DNS_UNKNOWN;
        return 1;
    }
    size_t len = u16(p + 4) == 1 ? take_name(p + HEAD, n - HEAD, q->name) : 0;
    if (len == 0 || n - HEAD - len < 4) {
        q->name[0] = '\0'; /* may be half written */
        *code = EGRESS_DNS_FORMAT;
        return 1;
    }
    q->question_len = len + 4;
    memcpy(q->question, p + HEAD, q->question_len);
    q->type = type_of(u16(p + HEAD + len));
    *code = EGRESS_DNS_OK;
    if (u16(p + HEAD + len + 2) == CLASS_IN)
        return 0;
    *code = EGRESS_DNS_UNKNOWN;
    return 1;
}

size_t egress_dns_answer(const struct egress_dns *q, enum egress_dns_code code,
                         const void *addr, size_t addr_len,
                         unsigned char dst[EGRESS_DNS_ANSWER])
{
    bool has = addr && code == EGRESS_DNS_OK && q->question_len > 0;
    memset(dst, 0, HEAD);
    memcpy(dst, q->head, 2);
    dst[2] = (unsigned char)(FLAG_RESPONSE | FLAG_AUTHORITATIVE |
                             (q->head[2] & (0x78 | FLAG_RECURSION)));
    dst[3] = (unsigned char)(FLAG_RECURSION_AVAILABLE | code);
    dst[5] = q->question_len > 0;
    dst[7] = has;
    memcpy(dst + HEAD, q->question, q->question_len);
    size_t n = HEAD + q->question_len;
    if (!has)
        return n;
    const unsigned char record[] = {
        0xc0, HEAD,           0, addr_len == 4 ? TYPE_A : TYPE_AAAA,
        0,    CLASS_IN,       0, 0,
        0,    EGRESS_DNS_TTL, 0, (unsigned char)addr_len};
    memcpy(dst + n, record, sizeof(record));
    n += sizeof(record);
    memcpy(dst + n, addr, addr_len);
    return n + addr_len;
}
