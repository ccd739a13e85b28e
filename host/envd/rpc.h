/* The Connect protocol (JSON) on top of httpd: one struct rpc a request. The
 * methods are process_rpc.c's and fs.c's. */
#ifndef E2B_RPC_H
#define E2B_RPC_H

#include "envd.h"

#include <stdbool.h>
#include <stdint.h>

struct rpc;

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM };

struct rpc_method {
    const char *name; /* "process.Process/List" */
    enum rpc_kind kind;
    /* The message; for a client stream called once for each, and with NULL at
     * its end. Answers now or later. */
    void (*call)(struct rpc *c, const json_t *msg);
};

/* What a call that goes on after `call` has returned wants to know. */
struct rpc_ops {
    void (*drain)(void *arg); /* the queue is empty after rpc_send was full */
    void (*gone)(void *arg);  /* the client; the rpc is gone after this */
};

/* Takes the request over; its target is below /process.Process/ or
 * /filesystem.Filesystem/. */
void rpc_serve(struct envd *v, struct httpd_req *r);

struct envd *rpc_envd(const struct rpc *c);
void rpc_set(struct rpc *c, const struct rpc_ops *ops, void *arg);
void *rpc_arg(const struct rpc *c);
/* The user that the caller named, else the default one. */
int rpc_user(const struct rpc *c, struct user *u, struct err *e);
/* The client's deadline: ms left from now (at least 1), 0: none. */
uint64_t rpc_timeout(const struct rpc *c);
/* Seconds between keep-alives, as asked or the default. */
uint64_t rpc_keepalive(const struct rpc *c);
/* Stops and goes on reading a client stream. */
void rpc_read(struct rpc *c, bool on);

/* Unary: the answer, a JSON text; or the error. The rpc is gone. */
void rpc_reply(struct rpc *c, const char *json, size_t n);
void rpc_fail(struct rpc *c, const struct err *e);
/* Streams: one message; returns the bytes queued. */
size_t rpc_send(struct rpc *c, const char *json, size_t n);
size_t rpc_queued(struct rpc *c);
/* Streams: the end, e NULL: success. The rpc is gone. close: the connection
 * too, for a client that does not read. */
void rpc_finish(struct rpc *c, const struct err *e, bool close);

#endif
