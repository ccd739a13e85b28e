/* What is told to curl before a request starts: method, body, trust, way. */
#include "httpc_impl.h"
#include "base/fd.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#define USER_AGENT "e2blua/" E2B_VERSION

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
    char *s = NULL;
    curl_url_get(u, part, &s, flags);
    return s;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = url_part(a, part, CURLU_DEFAULT_PORT);
    char *y = url_part(b, part, CURLU_DEFAULT_PORT);
    bool same = x && y && strcasecmp(x, y) == 0;
    curl_free(x);
    curl_free(y);
    return same;
}

bool httpc_setup_same_origin(const char *base, const char *location)
{
    CURLU *a = curl_url(), *b = curl_url();
    bool same = curl_url_set(a, CURLUPART_URL, base, 0) == CURLUE_OK &&
                curl_url_set(b, CURLUPART_URL, base, 0) == CURLUE_OK &&
                curl_url_set(b, CURLUPART_URL, location, 0) == CURLUE_OK &&
                same_part(a, b, CURLUPART_SCHEME) &&
                same_part(a, b, CURLUPART_HOST) &&
                same_part(a, b, CURLUPART_PORT);
    curl_url_cleanup(a);
    curl_url_cleanup(b);
    return same;
}

int httpc_setup_peer(struct httpc_req *r, struct err *e)
{
    char shown[HTTPC_PEER];
    CURLU *u = curl_url();
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, r->url, 0);
    char *scheme = url_part(u, CURLUPART_SCHEME, 0);
    char *host = url_part(u, CURLUPART_HOST, 0);
    char *port = url_part(u, CURLUPART_PORT, 0);
    bool good = rc == CURLUE_OK && scheme && host &&
                (str_ieq(scheme, "http") || str_ieq(scheme, "https"));
    if (good)
        str_fmt(r->peer, sizeof(r->peer), "%s%s%s", host, port ? ":" : "",
                port ? port : "");
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    if (good)
        return 0;
    httpc_head_safe_url(shown, sizeof(shown), r->url);
    return err_set(e, "invalid_argument",
                   "'%s' is no URL to request%s%s; give http://host/path or "
                   "https://host/path",
                   shown, rc == CURLUE_OK ? "" : ": ",
                   rc == CURLUE_OK ? "" : curl_url_strerror(rc));
}

int httpc_setup_line(struct curl_slist **list, const char *line, struct err *e)
{
    struct curl_slist *l = curl_slist_append(*list, line);
    if (!l)
        return err_set(e, "internal", "libcurl has no memory");
    *list = l;
    return 0;
}

/* What curl adds on its own account is taken back by an empty header. */
int httpc_setup_defaults(struct httpc_req *r, struct err *e)
{
    static const char *const lines[] = {
        "Expect:", "Content-Type:", "User-Agent: " USER_AGENT};
    struct curl_slist *h = r->headers;
    bool wants[] = {true, !r->has_type, !r->has_agent};
    for (; h; h = h->next)
        if (strncasecmp(h->data, "expect:", 7) == 0)
            wants[0] = false;
    for (size_t i = 0; i < 3; i++) {
        if (!wants[i])
            continue;
        if (httpc_setup_line(&r->headers, lines[i], e) < 0 ||
            httpc_setup_line(&r->harmless, lines[i], e) < 0)
            return -1;
    }
    return 0;
}

static void set_method(const struct httpc_req *r)
{
    CURL *h = r->easy;
    const struct httpc_options *o = &r->o;
    bool post = strcmp(r->method, "POST") == 0;
    bool sends = post || strcmp(r->method, "PUT") == 0 ||
                 strcmp(r->method, "PATCH") == 0 || o->nbody > 0;
    if (o->upload) {
        curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, (long)HTTPC_BUFFER);
        curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)o->length);
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    } else if (sends) {
        curl_easy_setopt(h, CURLOPT_POST, 1L);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, o->nbody > 0 ? o->body : "");
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->nbody);
        if (!post) /* curl keeps it on redirects: not for POST */
            curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    } else if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    } else if (strcmp(r->method, "GET") != 0) {
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
    }
}

/* One file of certificates and no folder: curl then keeps the parsed store
 * for the next connection, which saves 20 ms on each. */
static void set_trust(const struct httpc_req *r)
{
    const char *file = r->o.ca_file, *env = getenv("SSL_CERT_FILE");
    const char *dir = getenv("SSL_CERT_DIR");
    if (!file && env && *env)
        file = env;
    if (file)
        curl_easy_setopt(r->easy, CURLOPT_CAINFO, file);
    curl_easy_setopt(r->easy, CURLOPT_CAPATH,
                     !file && dir && *dir ? dir : NULL);
    curl_easy_setopt(r->easy, CURLOPT_SSLVERSION,
                     (long)CURL_SSLVERSION_TLSv1_2);
}

int httpc_setup_unix(struct httpc_req *r, struct err *e)
{
    char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
    if (fd_unix_name(r->o.unix_path, name, sizeof(name), &r->unix_dir, e) < 0)
        return -1;
    curl_easy_setopt(r->easy, CURLOPT_UNIX_SOCKET_PATH, name);
    /* curl keeps connections by name, and this one is only good for now. */
    curl_easy_setopt(r->easy, CURLOPT_FRESH_CONNECT,
                     r->unix_dir >= 0 ? 1L : 0L);
    curl_easy_setopt(r->easy, CURLOPT_FORBID_REUSE, r->unix_dir >= 0 ? 1L : 0L);
    return 0;
}

static void set_way(const struct httpc_req *r)
{
    CURL *h = r->easy;
    const struct httpc_options *o = &r->o;
    if (o->unix_path) {
        curl_easy_setopt(h, CURLOPT_PROXY, "");
    } else if (o->proxy) {
        curl_easy_setopt(h, CURLOPT_PROXY, o->proxy);
    }
    curl_easy_setopt(h, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, o->follow ? 1L : 0L);
    curl_easy_setopt(h, CURLOPT_MAXREDIRS, (long)HTTPC_REDIRECTS);
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
                     o->connect_ms > 0 ? o->connect_ms : 24L * 3600 * 1000);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_QUICK_EXIT, 1L); /* no join of a resolver */
    if (o->accept_encoding)
        curl_easy_setopt(h, CURLOPT_ACCEPT_ENCODING, o->accept_encoding);
}

void httpc_setup(const struct httpc_req *r)
{
    if (r->o.large)
        curl_easy_setopt(r->easy, CURLOPT_BUFFERSIZE, (long)HTTPC_BUFFER / 2);
    set_method(r);
    set_trust(r);
    set_way(r);
}
