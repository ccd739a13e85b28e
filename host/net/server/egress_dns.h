/* Questions of DNS and our answers to them: one question, one address. No
 * answer of anybody else is ever parsed here (the machine's resolver does
 * that), so this is a parser of 12 + 255 + 4 bytes; a library that reads
 * questions would bring a hundred times its size. */
#ifndef E2B_EGRESS_DNS_H
#define E2B_EGRESS_DNS_H

#include <stddef.h>
#include <stdint.h>

enum {
    EGRESS_DNS_MAX = 4096,   /* bytes of a question that is looked at */
    EGRESS_DNS_ANSWER = 320, /* bytes that any answer fits in */
    EGRESS_DNS_TTL = 30      /* seconds */
};

enum egress_dns_type {
    EGRESS_DNS_A, /* A or ANY */
    EGRESS_DNS_AAAA,
    EGRESS_DNS_PTR,  /* there are no names for addresses */
    EGRESS_DNS_OTHER /* the name has nothing of that type */
};

enum egress_dns_code {
    EGRESS_DNS_OK = 0,
    EGRESS_DNS_FORMAT = 1,
    EGRESS_DNS_FAILED = 2,
    EGRESS_DNS_NO_NAME = 3,
    EGRESS_DNS_UNKNOWN = 4
};

struct egress_dns {
    unsigned char head[12];
    unsigned char question[255 + 4]; /* as it came, without pointers */
    size_t question_len;
    char name[254]; /* dotted, may hold any byte but NUL */
    enum egress_dns_type type;
};

/* 0: a question to be answered with `code` OK or what is found; 1: one that is
 * answered with *code at once; -1: no question at all, to be dropped. */
int egress_dns_parse(const void *p, size_t n, struct egress_dns *q,
                     enum egress_dns_code *code);
/* The answer: with the address (4 or 16 bytes) or, addr NULL, without one.
 * Returns its length. */
size_t egress_dns_answer(const struct egress_dns *q, enum egress_dns_code code,
                         const void *addr, size_t addr_len,
                         unsigned char dst[EGRESS_DNS_ANSWER]);

#endif
