/* What the files of the HTTP client share: the request. Not for others. */
#ifndef E2B_HTTPC_IMPL_H
#define E2B_HTTPC_IMPL_H

#include "httpc.h"
#include "httpc_head.h"

#include <curl/curl.h>

enum { HTTPC_REDIRECTS = 10, HTTPC_PEER = 300 };

struct httpc {
    struct loop *loop;
    CURLM *multi; /* NULL: no requests and no connections */
    struct loop_timer *timer;
    struct httpc_sock **socks; /* by descriptor */
    size_t nsocks;
    struct httpc_req *reqs;
    unsigned active;
};

struct httpc_req {
    struct httpc_req *next, **at; /* of those that run */
    struct httpc *client;         /* NULL after httpc_free */
    CURL *easy;                   /* NULL before start and after the end */
    char *method, *url;
    struct curl_slist *headers, *harmless;
    bool has_type, has_agent; /* the caller's own headers */
    int unix_dir;             /* of a unix socket with a long path, or -1 */
    struct httpc_options o;   /* its strings are curl's copies by now */
    char peer[HTTPC_PEER];    /* for messages */
    enum httpc_state state;
    struct httpc_head head;
    struct buf in, out;
    bool recv_paused, send_paused, finished;
    bool sent;         /* a byte of the request may have left */
    bool stripped;     /* redirected to another host */
    bool refused;      /* by a proxy's rules */
    int64_t left;      /* of the announced upload, -1: unknown */
    uint64_t received; /* bytes of the body */
    uint64_t last;     /* when the last one came */
    uint64_t begun;
    int socket_errno; /* why there was no socket */
    struct loop_timer *head_timer, *idle_timer;
    struct httpc_failure failure; /* kind set early: by a callback */
    char errbuf[CURL_ERROR_SIZE];
};

/* httpc.c: ends the requests that curl has done with. */
void httpc_take_messages(struct httpc *c);

/* httpc_multi.c: curl's multi on the loop, opened for the first request. */
int httpc_multi_open(struct httpc *c);
void httpc_multi_close(struct httpc *c);
/* Before its start: the handle's sockets are close-on-exec. */
void httpc_multi_adopt(struct httpc_req *r);
/* After its end: the connection is looked after if curl keeps it. */
void httpc_multi_done(struct httpc *c, CURL *easy);
/* No request runs any more: waits for the end of kept connections, or closes
 * the multi. */
void httpc_multi_idle(struct httpc *c);

/* httpc_setup.c: what is told to curl before a request starts. */
/* Checks r->url and fills r->peer. */
int httpc_setup_peer(struct httpc_req *r, struct err *e);
int httpc_setup_line(struct curl_slist **list, const char *line, struct err *e);
int httpc_setup_defaults(struct httpc_req *r, struct err *e);
/* The way through a unix socket, whatever the length of its path. */
int httpc_setup_unix(struct httpc_req *r, struct err *e);
void httpc_setup(const struct httpc_req *r);
bool httpc_setup_same_origin(const char *base, const char *location);

/* httpc_explain.c: fills r->failure, while the easy handle still lives. */
void httpc_explain(struct httpc_req *r, CURLcode rc);

#endif
