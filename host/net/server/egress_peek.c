/* See egress_peek.h. RFC 8446 4.1.2 and RFC 6066 3; RFC 9112 2 and 3. */
#include "egress_peek.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 255, RECORD_HEAD = 5, HELLO_MAX = 16384 };

/* ---- TLS ------------------------------------------------------------------
 */

/* What is left of a message; a step past its end makes it bad. */
struct cut {
    const unsigned char *p;
    size_t n;
    bool bad;
};

static unsigned number(struct cut *c, size_t bytes)
{
    unsigned v = 0;
    if (c->bad || c->n < bytes) {
        c->bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | c->p[i];
    c->p += bytes;
    c->n -= bytes;
    return v;
}

static struct cut part(struct cut *c, size_t n)
{
    struct cut out = {c->p, n, false};
    if (c->bad || n > c->n) {
        c->bad = true;
        return (struct cut){c->p, 0, true};
    }
    c->p += n;
    c->n -= n;
    return out;
}

static enum egress_peek server_name(struct cut x, char *host)
{
    struct cut list = part(&x, number(&x, 2));
    if (number(&list, 1) != 0)
        return EGRESS_PEEK_BAD;
    struct cut name = part(&list, number(&list, 2));
    if (list.bad || name.n == 0 || name.n > HOST_MAX ||
        memchr(name.p, '\0', name.n))
        return EGRESS_PEEK_BAD;
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';
    return EGRESS_PEEK_HOST;
}

static enum egress_peek client_hello(struct cut c, char *host)
{
    enum egress_peek found = EGRESS_PEEK_NOTHING;
    number(&c, 2);           /* version */
    part(&c, 32);            /* random */
    part(&c, number(&c, 1)); /* session id */
    part(&c, number(&c, 2)); /* cipher suites */
    part(&c, number(&c, 1)); /* compression */
    if (!c.bad && c.n == 0)
        return found;
    struct cut all = part(&c, number(&c, 2));
    while (!all.bad && all.n > 0) {
        unsigned type = number(&all, 2);
        struct cut x = part(&all, number(&all, 2));
        if (type != 0 || all.bad)
            continue;
        if (found != EGRESS_PEEK_NOTHING)
            return EGRESS_PEEK_BAD;
        found = server_name(x, host);
    }
    return c.bad || all.bad ? EGRESS_PEEK_BAD : found;
}

/* The handshake message may be cut into several records. */
static enum egress_peek tls(const unsigned char *p, size_t n, char *host)
{
    unsigned char hello[HELLO_MAX];
    size_t have = 0, at = 0;
    while (at + RECORD_HEAD <= n) {
        size_t len = (size_t)p[at + 3] << 8 | p[at + 4];
        if (p[at] != 22 || p[at + 1] != 3 || len == 0 ||
            have + len > sizeof(hello))
            return EGRESS_PEEK_BAD;
        size_t here = n - at - RECORD_HEAD < len ? n - at - RECORD_HEAD : len;
        memcpy(hello + have, p + at + RECORD_HEAD, here);
        have += here;
        at += RECORD_HEAD + len;
        if (have < 4)
            continue;
        size_t want = (size_t)hello[1] << 16 | (size_t)hello[2] << 8 | hello[3];
        if (hello[0] != 1 || want > sizeof(hello) - 4)
            return EGRESS_PEEK_BAD;
        if (have >= want + 4)
            return client_hello((struct cut){hello + 4, want, false}, host);
    }
    return EGRESS_PEEK_MORE;
}

/* ---- HTTP -----------------------------------------------------------------
 */

/* "host", "host:port", "[v6]:port" without the port. */
static bool take_host(const char *p, size_t n, char *host)
{
    while (n > 0 && (*p == ' ' || *p == '\t')) {
        p++;
        n--;
    }
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    const char *end = n > 0 && *p == '[' ? memchr(p, ']', n) : NULL;
    size_t len = n;
    if (end) {
        p++;
        len = (size_t)(end - p);
    } else {
        const char *colon = memchr(p, ':', n);
        len = colon ? (size_t)(colon - p) : n;
    }
    if (len > HOST_MAX)
        return false;
    memcpy(host, p, len);
    host[len] = '\0';
    return len > 0;
}

/* The authority of "METHOD http://host/path HTTP/1.1", which outdoes Host. */
static bool absolute_form(const char *line, size_t n, char *host)
{
    const char *p = memchr(line, ' ', n);
    size_t left = p ? n - (size_t)(p + 1 - line) : 0;
    if (left < 8 || strncasecmp(p + 1, "http://", 7) != 0)
        return false;
    p += 8;
    left -= 7;
    size_t len = 0;
    while (len < left && !strchr("/ ?#", p[len]))
        len++;
    const char *at = memchr(p, '@', len);
    return take_host(at ? at + 1 : p, at ? len - (size_t)(at + 1 - p) : len,
                     host);
}

static enum egress_peek header_line(const char *p, size_t n,
                                    enum egress_peek found, char *host)
{
    if (n < 5 || strncasecmp(p, "host", 4) != 0 ||
        (p[4] != ':' && p[4] != ' ' && p[4] != '\t'))
        return found;
    if (p[4] != ':' || found != EGRESS_PEEK_NOTHING)
        return EGRESS_PEEK_BAD;
    return take_host(p + 5, n - 5, host) ? EGRESS_PEEK_HOST : EGRESS_PEEK_BAD;
}

static enum egress_peek http(const char *p, size_t n, char *host)
{
    enum egress_peek found = EGRESS_PEEK_NOTHING;
    char target[HOST_MAX + 1];
    bool first = true, absolute = false;
    for (;;) {
        const char *end = memchr(p, '\n', n);
        if (!end)
            return n > 0 && found == EGRESS_PEEK_BAD ? found : EGRESS_PEEK_MORE;
        size_t len = (size_t)(end - p);
        size_t text = len > 0 && p[len - 1] == '\r' ? len - 1 : len;
        if (text == 0)
            break;
        if (memchr(p, '\0', text) || memchr(p, '\r', text) ||
            (!first && (*p == ' ' || *p == '\t')))
            return EGRESS_PEEK_BAD;
        if (first)
            absolute = absolute_form(p, text, target);
        else
            found = header_line(p, text, found, host);
        if (found == EGRESS_PEEK_BAD)
            return found;
        first = false;
        p = end + 1;
        n -= len + 1;
    }
    if (absolute) {
        memcpy(host, target, sizeof(target));
        return EGRESS_PEEK_HOST;
    }
    return found;
}

/* "GET " and its like: letters and a space. */
static enum egress_peek method(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == ' ' && i > 0)
            return EGRESS_PEEK_HOST;
        if (i >= 24 || !(isalpha((unsigned char)p[i]) || p[i] == '-'))
            return EGRESS_PEEK_NOTHING;
    }
    return EGRESS_PEEK_MORE;
}

enum egress_peek egress_peek(const char *p, size_t n, char *host)
{
    enum egress_peek r = EGRESS_PEEK_MORE;
    if (n == 0)
        return r;
    if ((unsigned char)p[0] == 22) {
        r = tls((const unsigned char *)p, n, host);
    } else {
        r = method(p, n);
        if (r == EGRESS_PEEK_HOST)
            r = http(p, n, host);
    }
    return r == EGRESS_PEEK_MORE && n >= EGRESS_PEEK_MAX ? EGRESS_PEEK_BAD : r;
}
