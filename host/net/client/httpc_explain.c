/* What curl's codes mean, in the words and kinds of e2b.Error. */
#include "httpc_impl.h"

#include <stdio.h>
#include <string.h>

/* "connect to HOST" or "connect to the proxy HOST:PORT": who refused? */
static void explain_connect(struct httpc_req *r, struct err *e)
{
    char host[256] = "";
    long port = 0, errnum = 0;
    curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &errnum);
    if (r->socket_errno)
        errnum = r->socket_errno;
    const char *why =
        errnum ? strerror((int)errnum) : "no connection could be made";
    int n =
        sscanf(r->errbuf, "Failed to connect to %255s port %ld", host, &port);
    if (n == 2 && !r->o.unix_path && !strstr(r->peer, host))
        err_set(e, "network", "cannot connect to the proxy %s:%ld: %s", host,
                port, why);
    else
        err_set(e, "network", "cannot connect to %s: %s", r->peer, why);
    e->errnum = (int)errnum;
}

static void explain_tls(const struct httpc_req *r, CURLcode rc, struct err *e)
{
    if (strstr(r->errbuf, "SSL_ERROR_SYSCALL") ||
        strstr(r->errbuf, "Connection reset")) {
        err_set(e, "network", "%s: the connection broke in the TLS handshake",
                r->peer);
        return;
    }
    const char *why = *r->errbuf ? r->errbuf : curl_easy_strerror(rc);
    const char *help = "";
    if (rc == CURLE_SSL_CACERT_BADFILE)
        help = "; name a file of trusted certificates by ca_file or "
               "SSL_CERT_FILE, or install ca-certificates";
    else if (strstr(why, "issuer certificate") || strstr(why, "self-signed"))
        help = "; if you trust it, name its CA by ca_file or SSL_CERT_FILE";
    err_set(e, "tls", "TLS with %s: %s%s", r->peer, why, help);
    for (char *s = e->msg; *s; s++)
        if ((unsigned char)*s < ' ')
            *s = '?';
}

static void explain_timeout(struct httpc_req *r, struct err *e)
{
    err_set(e, "timeout", "no connection to %s after %.10g s", r->peer,
            (double)r->o.connect_ms / 1000);
    r->failure.deadline = "request";
}

/* The connection broke or the peer does not speak HTTP. */
static void explain_broken(struct httpc_req *r, CURLcode rc, struct err *e)
{
    long proxy = 0;
    curl_easy_getinfo(r->easy, CURLINFO_HTTP_CONNECTCODE, &proxy);
    /* curl has no code of its own for bad chunks, only this text. */
    r->refused = proxy >= 300 && proxy < 500;
    bool garbage = strstr(r->errbuf, "chunked-encoding") != NULL;
    if (proxy >= 300)
        err_set(e, "network", "the proxy refuses a connection to %s: HTTP %ld",
                r->peer, proxy);
    else if (garbage)
        err_set(e, "protocol", "%s: bad chunk in the body of the response",
                r->peer);
    else if (r->head.done)
        err_set(e, "network",
                "%s: the connection broke after %llu bytes of the response's "
                "body",
                r->peer, (unsigned long long)r->received);
    else
        err_set(e, "network", "%s: the connection %s", r->peer,
                rc == CURLE_GOT_NOTHING ? "was closed without an answer"
                                        : "broke before an answer came");
}

void httpc_explain(struct httpc_req *r, CURLcode rc)
{
    struct err *e = &r->failure.err;
    if (e->kind) { /* a callback knows better */
        err_wrap(e, "%s", r->peer);
        return;
    }
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        err_set(e, "network", "cannot find %s: its name has no address",
                r->peer);
        break;
    case CURLE_COULDNT_RESOLVE_PROXY:
        err_set(e, "network",
                "cannot reach %s: the proxy's name has no address", r->peer);
        break;
    case CURLE_COULDNT_CONNECT:
        explain_connect(r, e);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        explain_timeout(r, e);
        break;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        explain_tls(r, rc, e);
        break;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_PROXY:
        explain_broken(r, rc, e);
        break;
    case CURLE_TOO_MANY_REDIRECTS:
        err_set(e, "protocol", "%s: more than %d redirects", r->peer,
                HTTPC_REDIRECTS);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, or a redirect to ftp: */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WRITE_ERROR: /* of the decoder; ours has e->kind set */
        err_set(e, "protocol", "%s: the answer is not valid HTTP/1.1 (%s)",
                r->peer, curl_easy_strerror(rc));
        break;
    default:
        err_set(e, "network", "%s: %s", r->peer, curl_easy_strerror(rc));
    }
}
