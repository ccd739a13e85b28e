/* What egress decides by itself: policies, DNS messages, first bytes. */
#include "net/server/egress_dns.h"
#include "net/server/egress_peek.h"
#include "net/server/egress_policy.h"

#include "base/str.h"
#include "ctest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- policies -------------------------------------------------------------
 */

/* Words: +entry allows, -entry denies, @host:port pins. */
static struct egress_policy *policy(const char *words)
{
    struct egress_policy *p = egress_policy_new();
    char copy[512], *save = NULL;
    struct err e = {0};
    str_fmt(copy, sizeof(copy), "%s", words);
    for (char *w = strtok_r(copy, " ", &save); w;
         w = strtok_r(NULL, " ", &save)) {
        int rc = 0;
        if (*w == '+')
            rc = egress_policy_allow(p, w + 1, &e);
        else if (*w == '-')
            rc = egress_policy_deny(p, w + 1, &e);
        else {
            char *colon = strrchr(w, ':');
            *colon = '\0';
            egress_policy_pin(p, w + 1, atoi(colon + 1));
        }
        if (rc < 0)
            fail_msg("%s", e.msg);
    }
    return p;
}

/* May a connection to the name (or NULL) that has this address be made? */
static bool passes(const char *words, const char *name, const char *ip)
{
    struct egress_policy *p = policy(words);
    struct egress_addr a;
    assert_int_equal(egress_addr_parse(ip, &a), 0);
    enum egress_verdict v =
        name ? egress_policy_name(p, name, 443) : EGRESS_BY_ADDRESS;
    bool ok = egress_policy_address(p, v, &a, 443, false);
    egress_policy_free(p);
    return ok;
}

#define ALL "-0.0.0.0/0"

static void policies(void **state)
{
    static const struct {
        const char *words, *name, *ip;
        bool passes;
    } rows[] = {
        /* open, but for what is not public */
        {"", "example.com", "93.184.216.34", true},
        {"", NULL, "93.184.216.34", true},
        {"", NULL, "2606:2800:220:1::1", true},
        {"", NULL, "203.0.113.80", true},
        {"", "example.com", "127.0.0.1", false},
        {"", "example.com", "10.1.2.3", false},
        {"", "example.com", "100.64.0.1", false},
        {"", "example.com", "100.128.0.1", true},
        {"", "example.com", "172.16.0.1", false},
        {"", "example.com", "172.32.0.1", true},
        {"", "example.com", "192.168.255.255", false},
        {"", "example.com", "169.254.169.254", false},
        {"", NULL, "169.254.169.254", false},
        {"", NULL, "0.0.0.0", false},
        {"", NULL, "224.0.0.1", false},
        {"", NULL, "255.255.255.255", false},
        {"", NULL, "::1", false},
        {"", NULL, "::", false},
        {"", NULL, "::ffff:127.0.0.1", false},
        {"", NULL, "::127.0.0.1", false},
        {"", NULL, "64:ff9b::7f00:1", false},
        {"", NULL, "64:ff9b::5db8:d822", true},
        {"", NULL, "2002:7f00:1::1", false},
        {"", NULL, "fd00::1", false},
        {"", NULL, "fe80::1", false},
        {"", NULL, "ff02::1", false},
        /* closed */
        {ALL, "example.com", "93.184.216.34", false},
        {ALL, NULL, "93.184.216.34", false},
        {ALL, NULL, "2606:2800:220:1::1", false},
        /* by name */
        {"+example.com " ALL, "example.com", "93.184.216.34", true},
        {"+Example.COM. " ALL, "example.com", "93.184.216.34", true},
        {"+example.com " ALL, "www.example.com", "93.184.216.34", false},
        {"+example.com " ALL, "notexample.com", "93.184.216.34", false},
        {"+example.com " ALL, NULL, "93.184.216.34", false},
        {"+*.example.com " ALL, "www.example.com", "93.184.216.34", true},
        {"+*.example.com " ALL, "a.b.example.com", "93.184.216.34", true},
        {"+*.example.com " ALL, "example.com", "93.184.216.34", false},
        {"+*.example.com " ALL, "badexample.com", "93.184.216.34", false},
        {"+* " ALL, "example.com", "93.184.216.34", true},
        {"+* " ALL, NULL, "93.184.216.34", false},
        /* a name leads to private addresses only when it is named itself */
        {"+db.internal " ALL, "db.internal", "10.0.0.5", true},
        {"+db.internal " ALL, "db.internal", "127.0.0.1", true},
        {"+db.internal " ALL, "db.internal", "169.254.169.254", false},
        {"+*.internal " ALL, "db.internal", "10.0.0.5", false},
        {"+* " ALL, "db.internal", "10.0.0.5", false},
        /* by address */
        {"+93.184.216.34 " ALL, NULL, "93.184.216.34", true},
        {"+93.184.216.0/24 " ALL, NULL, "93.184.216.99", true},
        {"+93.184.216.0/25 " ALL, NULL, "93.184.216.200", false},
        {"+93.184.216.34 " ALL, "example.com", "93.184.216.34", true},
        {"+93.184.216.34 " ALL, "example.com", "93.184.216.35", false},
        {"+2606:2800::/32 " ALL, NULL, "2606:2800:220:1::1", true},
        {"-93.184.216.0/24", NULL, "93.184.216.34", false},
        {"-93.184.216.0/24", "example.com", "93.184.216.34", false},
        {"-93.184.216.0/24", NULL, "93.184.217.34", true},
        {"+93.184.216.34 -93.184.216.0/24", NULL, "93.184.216.34", true},
        {"-2606:2800::/32", NULL, "2606:2800:220:1::1", false},
        {"-::/0", NULL, "2606:2800:220:1::1", false},
        {"-::/0", NULL, "93.184.216.34", true},
        /* private ranges by an entry that lies in them */
        {"+10.0.0.0/8 " ALL, NULL, "10.1.2.3", true},
        {"+10.1.2.3", NULL, "10.1.2.3", true},
        {"+169.254.169.254 " ALL, NULL, "169.254.169.254", true},
        {"+0.0.0.0/0 " ALL, NULL, "10.1.2.3", false},
        {"+0.0.0.0/0 " ALL, NULL, "93.184.216.34", true},
        {"+8.0.0.0/6", NULL, "10.1.2.3", false},
        {"+fd00::/8 " ALL, NULL, "fd00::1", true},
        {"+::/0 " ALL, NULL, "fd00::1", false},
        /* the machine's own proxy */
        {"@proxy.corp:443", "proxy.corp", "10.0.0.9", true},
        {"@proxy.corp:3128", "proxy.corp", "10.0.0.9", false},
        {"@10.0.0.9:443", NULL, "10.0.0.9", true},
        {"@10.0.0.9:80", NULL, "10.0.0.9", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (passes(rows[i].words, rows[i].name, rows[i].ip) != rows[i].passes)
            fail_msg("policy '%s': %s %s should%s pass", rows[i].words,
                     rows[i].name ? rows[i].name : "", rows[i].ip,
                     rows[i].passes ? "" : " not");
}

static void own_address(void **state)
{
    struct egress_addr a;
    (void)state;
    egress_addr_parse("203.0.113.7", &a);
    static const struct {
        const char *words;
        enum egress_verdict v;
        bool passes;
    } rows[] = {
        {"", EGRESS_BY_ADDRESS, false},
        {"+*"
         " " ALL,
         EGRESS_BY_PATTERN, false},
        {"+me.example " ALL, EGRESS_BY_NAME, true},
        {"+203.0.113.7 " ALL, EGRESS_BY_ADDRESS, true},
        {"+203.0.113.0/24 " ALL, EGRESS_BY_ADDRESS, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct egress_policy *p = policy(rows[i].words);
        if (egress_policy_address(p, rows[i].v, &a, 80, true) != rows[i].passes)
            fail_msg("own address, policy '%s'", rows[i].words);
        egress_policy_free(p);
    }
}

static void closed_without_look_up(void **state)
{
    struct egress_policy *p = policy("+example.com " ALL);
    (void)state;
    assert_int_equal(egress_policy_name(p, "other.com", 0), EGRESS_REFUSED);
    assert_true(egress_policy_names(p));
    egress_policy_free(p);
    p = policy("+1.2.3.4 " ALL);
    assert_int_equal(egress_policy_name(p, "other.com", 0), EGRESS_BY_ADDRESS);
    assert_false(egress_policy_names(p));
    egress_policy_free(p);
}

static void wrong_entries(void **state)
{
    static const char *const allow[] = {
        "0.0.0.0",    "::",          "1.2.3.4/33", "1.2.3.4/",   "300.1.1.1",
        "1.2.3",      "exa mple",    "",           ".",          "a..b",
        "*.",         "**.x.com",    "x.*.com",    "http://a.b", "a.b:443",
        "fd00::/129", "\xc3\xbc.de", "-x/8"};
    static const char *const deny[] = {"0.0.0.0", "::",        "example.com",
                                       "*",       "1.2.3.4/x", ""};
    struct err e = {0};
    char want[128];
    (void)state;
    struct egress_policy *p = egress_policy_new();
    for (size_t i = 0; i < sizeof(allow) / sizeof(*allow); i++) {
        if (egress_policy_allow(p, allow[i], &e) == 0)
            fail_msg("allowed: '%s'", allow[i]);
        str_fmt(want, sizeof(want), "invalid allowed address %s", allow[i]);
        assert_string_equal(e.msg, want);
    }
    for (size_t i = 0; i < sizeof(deny) / sizeof(*deny); i++) {
        if (egress_policy_deny(p, deny[i], &e) == 0)
            fail_msg("denied: '%s'", deny[i]);
        str_fmt(want, sizeof(want), "invalid denied CIDR %s", deny[i]);
        assert_string_equal(e.msg, want);
    }
    assert_int_equal(egress_policy_check(p, &e), 0);
    assert_int_equal(egress_policy_allow(p, "a.b", &e), 0);
    assert_int_equal(egress_policy_check(p, &e), -1);
    assert_non_null(strstr(e.msg, "you must include 'ALL_TRAFFIC'"));
    egress_policy_free(p);
}

static void long_names(void **state)
{
    char name[300], clean[EGRESS_NAME_MAX + 1];
    (void)state;
    memset(name, 'a', sizeof(name));
    for (int i = 49; i < 299; i += 50)
        name[i] = '.';
    name[253] = '\0';
    assert_int_equal(egress_name_clean(name, clean), 0);
    name[253] = 'a';
    name[254] = '\0';
    assert_int_equal(egress_name_clean(name, clean), -1);
    memset(name, 'a', 64);
    name[64] = '\0';
    assert_int_equal(egress_name_clean(name, clean), -1);
}

/* ---- DNS ------------------------------------------------------------------
 */

#define HEAD_Q "\x12\x34\x01\x00\0\x01\0\0\0\0\0\0"
#define NAME   "\7example\3com\0"

static void answers(void **state)
{
    static const unsigned char ip[] = {198, 18, 0, 1};
    static const char message[] = HEAD_Q NAME "\0\1\0\1";
    struct egress_dns q;
    enum egress_dns_code code;
    unsigned char out[EGRESS_DNS_ANSWER];
    (void)state;
    assert_int_equal(egress_dns_parse(message, sizeof(message) - 1, &q, &code),
                     0);
    assert_string_equal(q.name, "example.com");
    assert_int_equal(q.type, EGRESS_DNS_A);
    size_t n = egress_dns_answer(&q, EGRESS_DNS_OK, ip, 4, out);
    static const char want[] = "\x12\x34\x85\x80\0\1\0\1\0\0\0\0" NAME
                               "\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4"
                               "\xc6\x12\0\1";
    assert_int_equal(n, sizeof(want) - 1);
    assert_memory_equal(out, want, n);
    n = egress_dns_answer(&q, EGRESS_DNS_NO_NAME, ip, 4, out);
    assert_int_equal(n, sizeof(message) - 1);
    assert_int_equal(out[3] & 15, 3);
    assert_int_equal(out[7], 0);
}

static void questions(void **state)
{
#define ROW(text, result, code)                                                \
    {                                                                          \
        text, sizeof(text) - 1, result, code                                   \
    }
    static const struct {
        const char *p;
        size_t n;
        int result;
        enum egress_dns_code code;
    } rows[] = {
        ROW("", -1, 0), ROW("\x12\x34\x01", -1, 0),
        ROW("\x12\x34\x81\x80\0\1\0\0\0\0\0\0" NAME "\0\1\0\1", -1, 0),
        ROW(HEAD_Q NAME "\0\x1c\0\1", 0, 0),
        ROW(HEAD_Q "\0\0\2\0\1", 0, 0), /* the root */
        /* EDNS behind it is not looked at */
        ROW("\x12\x34\x01\x20\0\1\0\0\0\0\0\1" NAME
            "\0\1\0\1\0\0\x29\x10\0\0\0\0\0\0\0",
            0, 0),
        ROW(HEAD_Q, 1, EGRESS_DNS_FORMAT),
        ROW(HEAD_Q NAME "\0\1\0", 1, EGRESS_DNS_FORMAT),
        ROW(HEAD_Q "\7exam", 1, EGRESS_DNS_FORMAT),
        ROW(HEAD_Q "\xc0\x0c\0\1\0\1", 1, EGRESS_DNS_FORMAT), /* a loop */
        ROW(HEAD_Q "\3www\xc0\x0c\0\1\0\1", 1, EGRESS_DNS_FORMAT),
        ROW(HEAD_Q "\x40www\0\0\1\0\1", 1, EGRESS_DNS_FORMAT),
        ROW(HEAD_Q "\3w\0w\0\0\1\0\1", 1, EGRESS_DNS_FORMAT),
        ROW(HEAD_Q "\3w.w\0\0\1\0\1", 1, EGRESS_DNS_FORMAT),
        ROW("\x12\x34\x01\x00\0\2\0\0\0\0\0\0" NAME "\0\1\0\1" NAME "\0\1\0\1",
            1, EGRESS_DNS_FORMAT),
        ROW("\x12\x34\x01\x00\0\0\0\0\0\0\0\0", 1, EGRESS_DNS_FORMAT),
        ROW("\x12\x34\x20\x00\0\1\0\0\0\0\0\0" NAME "\0\1\0\1", 1,
            EGRESS_DNS_UNKNOWN),
        ROW(HEAD_Q NAME "\0\1\0\3", 1, EGRESS_DNS_UNKNOWN), /* chaos */
    };
#undef ROW
    struct egress_dns q;
    enum egress_dns_code code;
    unsigned char out[EGRESS_DNS_ANSWER];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        code = EGRESS_DNS_OK;
        int r = egress_dns_parse(rows[i].p, rows[i].n, &q, &code);
        if (r != rows[i].result || (r > 0 && code != rows[i].code))
            fail_msg("question %zu: %d, code %d", i, r, (int)code);
        if (r >= 0)
            assert_in_range(egress_dns_answer(&q, code, NULL, 0, out), 12,
                            sizeof(out));
    }
}

static void longest_name(void **state)
{
    char message[12 + 4 * 64 + 8] = HEAD_Q;
    unsigned char out[EGRESS_DNS_ANSWER], ip[16] = {0};
    struct egress_dns q;
    enum egress_dns_code code;
    (void)state;
    for (int i = 0; i < 4; i++) {
        int len = i < 3 ? 63 : 61;
        message[12 + i * 64] = (char)len;
        memset(message + 12 + i * 64 + 1, 'a', (size_t)len);
    }
    size_t n = 12 + 3 * 64 + 62;
    memcpy(message + n, "\0\0\x1c\0\1", 5);
    assert_int_equal(egress_dns_parse(message, n + 5, &q, &code), 0);
    assert_int_equal(strlen(q.name), 253);
    assert_in_range(egress_dns_answer(&q, EGRESS_DNS_OK, ip, 16, out), 290,
                    sizeof(out));
    message[12 + 3 * 64] = 62;
    message[n] = 'a';
    memcpy(message + n + 1, "\0\0\x1c\0\1", 5);
    assert_int_equal(egress_dns_parse(message, n + 6, &q, &code), 1);
}

/* ---- first bytes ----------------------------------------------------------
 */

static void http_hosts(void **state)
{
    static const struct {
        const char *text;
        enum egress_peek want;
        const char *host;
    } rows[] = {
        {"", EGRESS_PEEK_MORE, NULL},
        {"GE", EGRESS_PEEK_MORE, NULL},
        {"GET / HTTP/1.1\r\nHost: a.example\r\n", EGRESS_PEEK_MORE, NULL},
        {"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", EGRESS_PEEK_HOST,
         "a.example"},
        {"GET / HTTP/1.1\nhost:A.example:8080 \n\n", EGRESS_PEEK_HOST,
         "A.example"},
        {"GET / HTTP/1.1\r\nAccept: x\r\nHOST:\t[::1]:80\r\n\r\n",
         EGRESS_PEEK_HOST, "::1"},
        {"get / HTTP/1.1\r\nHost: a.example\r\n\r\n", EGRESS_PEEK_HOST,
         "a.example"},
        {"GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
         EGRESS_PEEK_HOST, "b.example"},
        {"GET http://u:p@b.example:81?x HTTP/1.1\r\nHost: a\r\n\r\n",
         EGRESS_PEEK_HOST, "b.example"},
        {"GET / HTTP/1.0\r\n\r\n", EGRESS_PEEK_NOTHING, NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", EGRESS_PEEK_BAD, NULL},
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", EGRESS_PEEK_BAD, NULL},
        {"GET / HTTP/1.1\r\nX: y\r\n Host: a\r\n\r\n", EGRESS_PEEK_BAD, NULL},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", EGRESS_PEEK_BAD, NULL},
        {"GET / HTTP/1.1\r\nX: y\rHost: a\r\n\r\n", EGRESS_PEEK_BAD, NULL},
        {"SSH-2.0-OpenSSH_9\r\n", EGRESS_PEEK_NOTHING, NULL},
        {"\x01\x02\x03", EGRESS_PEEK_NOTHING, NULL},
    };
    char host[256];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        enum egress_peek got =
            egress_peek(rows[i].text, strlen(rows[i].text), host);
        if (got != rows[i].want)
            fail_msg("'%s': %d", rows[i].text, (int)got);
        if (got == EGRESS_PEEK_HOST)
            assert_string_equal(host, rows[i].host);
    }
}

/* A ClientHello with that server name (NULL: none), in records of that size;
 * returns the length. */
static size_t client_hello(unsigned char *dst, const char *name, size_t record)
{
    unsigned char m[1024] = {1};
    size_t n = 4, name_len = name ? strlen(name) : 0;
    m[n] = m[n + 1] = 3;
    n += 2 + 32;
    m[n++] = 0;                           /* session id */
    memcpy(m + n, "\0\2\x13\x01\1\0", 6); /* a suite, no compression */
    n += 6;
    size_t ext = n;
    n += 2;
    memcpy(m + n, "\0\x17\0\0", 4); /* another extension */
    n += 4;
    if (name) {
        const size_t sizes[] = {name_len + 5, name_len + 3};
        const unsigned char head[] = {0,
                                      0,
                                      (unsigned char)(sizes[0] >> 8),
                                      (unsigned char)sizes[0],
                                      (unsigned char)(sizes[1] >> 8),
                                      (unsigned char)sizes[1],
                                      0,
                                      (unsigned char)(name_len >> 8),
                                      (unsigned char)name_len};
        memcpy(m + n, head, sizeof(head));
        n += sizeof(head);
        memcpy(m + n, name, name_len);
        n += name_len;
    }
    m[ext] = (unsigned char)((n - ext - 2) >> 8);
    m[ext + 1] = (unsigned char)(n - ext - 2);
    m[2] = (unsigned char)((n - 4) >> 8);
    m[3] = (unsigned char)(n - 4);
    size_t out = 0;
    for (size_t at = 0; at < n; at += record) {
        size_t len = n - at < record ? n - at : record;
        const unsigned char head[] = {22, 3, 1, (unsigned char)(len >> 8),
                                      (unsigned char)len};
        memcpy(dst + out, head, 5);
        memcpy(dst + out + 5, m + at, len);
        out += 5 + len;
    }
    return out;
}

static void server_names(void **state)
{
    unsigned char p[8192];
    char host[256];
    (void)state;
    static const size_t records[] = {4096, 40, 1};
    for (size_t r = 0; r < 3; r++) {
        size_t n = client_hello(p, "www.example.com", records[r]);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(egress_peek((char *)p, cut, host),
                             EGRESS_PEEK_MORE);
        assert_int_equal(egress_peek((char *)p, n, host), EGRESS_PEEK_HOST);
        assert_string_equal(host, "www.example.com");
        n = client_hello(p, NULL, records[r]);
        assert_int_equal(egress_peek((char *)p, n, host), EGRESS_PEEK_NOTHING);
    }
    size_t n = client_hello(p, "", 4096);
    assert_int_equal(egress_peek((char *)p, n, host), EGRESS_PEEK_BAD);
    /* Every single wrong byte leads to some answer, never past the end. */
    n = client_hello(p, "www.example.com", 64);
    for (size_t i = 0; i < n; i++)
        for (int v = 0; v < 256; v += 15) {
            unsigned char *copy = malloc(n);
            memcpy(copy, p, n);
            copy[i] = (unsigned char)v;
            assert_in_range(egress_peek((char *)copy, n, host),
                            EGRESS_PEEK_MORE, EGRESS_PEEK_BAD);
            free(copy);
        }
}

static void endless_head(void **state)
{
    char *p = malloc(EGRESS_PEEK_MAX), host[256];
    (void)state;
    memset(p, 'A', EGRESS_PEEK_MAX);
    memcpy(p, "GET / ", 6);
    assert_int_equal(egress_peek(p, EGRESS_PEEK_MAX - 1, host),
                     EGRESS_PEEK_MORE);
    assert_int_equal(egress_peek(p, EGRESS_PEEK_MAX, host), EGRESS_PEEK_BAD);
    free(p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(policies),
    cmocka_unit_test(own_address),
    cmocka_unit_test(closed_without_look_up),
    cmocka_unit_test(wrong_entries),
    cmocka_unit_test(long_names),
    cmocka_unit_test(answers),
    cmocka_unit_test(questions),
    cmocka_unit_test(longest_name),
    cmocka_unit_test(http_hosts),
    cmocka_unit_test(server_names),
    cmocka_unit_test(endless_head),
};
RUN(tests)
