/* Routing of the data plane, without any state. */
#include "route.h"

#include "base/path.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* Host without its port, into name; false when it is too long or malformed. */
static bool host_name(const char *host, char *name, size_t cap)
{
    size_t n;
    if (*host == '[') {
        const char *end = strchr(host, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        host++;
        n = (size_t)(end - host);
    } else {
        n = strcspn(host, ":");
    }
    if (n >= cap)
        return false;
    memcpy(name, host, n);
    name[n] = '\0';
    return true;
}

static bool is_address(const char *name)
{
    unsigned char tmp[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, tmp) == 1 ||
           inet_pton(AF_INET6, name, tmp) == 1;
}

static bool starts_label(const char *name, const char *label)
{
    size_t n = strlen(label);
    return strncasecmp(name, label, n) == 0 && name[n] == '.' && name[n + 1];
}

static void bad(struct route *r, const char *text)
{
    r->kind = ROUTE_BAD;
    r->text = text;
}

static bool set_port(struct route *r, const char *p, size_t n)
{
    uint64_t port;
    if (n == 0 || str_u64(p, n, 65535, &port) || port == 0) {
        bad(r, "Invalid sandbox port");
        return false;
    }
    r->port = (int)port;
    return true;
}

static bool set_id(struct route *r, const char *p, size_t n)
{
    size_t good = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789");
    if (n == 0 || n > ROUTE_ID_MAX || good < n) {
        bad(r, "Invalid sandbox ID");
        return false;
    }
    memcpy(r->id, p, n);
    r->id[n] = '\0';
    return true;
}

static void by_headers(const char *id, const char *port, struct route *r)
{
    if (!id || !port) {
        bad(r, "missing header");
        return;
    }
    if (set_port(r, port, strlen(port)) && set_id(r, id, strlen(id)))
        r->kind = ROUTE_BOX;
}

/* "<port>-<id>[-more].<domain>" */
static void by_name(const char *name, struct route *r)
{
    size_t label = strcspn(name, ".");
    const char *dash = memchr(name, '-', label);
    if (!name[label] || !dash) {
        bad(r, "Invalid host");
        return;
    }
    const char *id = dash + 1;
    size_t n = strcspn(id, "-.");
    if (set_port(r, name, (size_t)(dash - name)) && set_id(r, id, n))
        r->kind = ROUTE_BOX;
}

void route_find(const struct http1_head *h, struct route *out)
{
    memset(out, 0, sizeof(*out));
    const char *id = http1_get(h, "E2b-Sandbox-Id");
    const char *port = http1_get(h, "E2b-Sandbox-Port");
    const char *host = http1_get(h, "Host");
    char name[256];
    if (h->target[0] != '/' && strcmp(h->target, "*") != 0) {
        bad(out, "Invalid target");
        return;
    }
    if (!host_name(host ? host : "", name, sizeof(name))) {
        bad(out, "Invalid host");
        return;
    }
    bool here = !*name || str_ieq(name, "localhost") ||
                str_ieq(name, "e2b.localhost") || is_address(name);
    if ((here || starts_label(name, "sandbox")) && (id || port))
        by_headers(id, port, out);
    else if (here && route_is(h->target, "/files"))
        out->kind = ROUTE_SIGNED;
    else if (here || starts_label(name, "api"))
        out->kind = ROUTE_CONTROL;
    else
        by_name(name, out);
}

/* The path of a target as a strict reader and a sloppy one would see it:
 * without query, unescaped, no empty, "." or ".." parts, no slash at the end.
 */
static bool plain_path(const char *target, char *dst, size_t cap)
{
    struct buf raw;
    buf_init(&raw);
    bool ok = http1_unescape(&raw, target, strcspn(target, "?#"), false) == 0;
    ok = ok && (raw.len == 0 || strlen(raw.data) == raw.len);
    ok = ok && path_clean(dst, cap, raw.len ? raw.data : "/") == 0;
    buf_fini(&raw);
    return ok;
}

int route_reserved(const char *target, char *path, size_t cap)
{
    static const char *const names[] = {
        "/init",     "/freeze", "/unfreeze", "/collapse",
        "/fsfreeze", "/fsthaw", "/upgrade",  "/_engine",
    };
    if (!plain_path(target, path, cap))
        return -1;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (str_ieq(path, names[i]))
            return 1;
    return strncasecmp(path, "/_engine/", 9) == 0;
}

bool route_is(const char *target, const char *path)
{
    size_t n = strlen(path);
    return strncmp(target, path, n) == 0 &&
           (target[n] == '\0' || target[n] == '?');
}

static bool contains(const char *s, const char *word)
{
    return s && strcasestr(s, word) != NULL;
}

bool route_browser(const struct http1_head *h)
{
    static const char *const agents[] = {
        "mozilla", "chrome", "safari", "firefox", "edge", "opera", "msie"};
    static const char *const modes[] = {"cors", "no-cors", "same-origin",
                                        "websocket"};
    const char *agent = http1_get(h, "User-Agent");
    const char *accept = http1_get(h, "Accept");
    const char *mode = http1_get(h, "Sec-Fetch-Mode");
    bool known = false;
    for (size_t i = 0; i < sizeof(agents) / sizeof(*agents); i++)
        known = known || contains(agent, agents[i]);
    if (!known)
        return false;
    if (contains(accept, "application/json") && !contains(accept, "text/html"))
        return false;
    for (size_t i = 0; mode && i < sizeof(modes) / sizeof(*modes); i++)
        if (str_ieq(mode, modes[i]))
            return false;
    bool navigates = mode && str_ieq(mode, "navigate");
    return navigates || !http1_get(h, "X-Requested-With");
}
