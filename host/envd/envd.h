/* The daemon inside a sandbox: what its parts share. `err.kind` is a Connect
 * code here ("not_found", "invalid_argument", ...), always a static string. */
#ifndef E2B_ENVD_H
#define E2B_ENVD_H

#include "base/err.h"
#include "base/json.h"
#include "net/core/httpd.h"
#include "net/core/loop.h"
#include "oom.h"

#include <sys/types.h>

#define ENVD_VERSION "0.6.13"

struct control; /* control.h */
struct procs;   /* process.h */
struct server;  /* server.h */
struct work;    /* work.h */

enum { ENVD_NET = 4 };

struct envd {
    struct loop *loop;
    /* The sockets that this sandbox's network comes to, the engine's; kept for
     * the next engine. -1: a gap. */
    int net[ENVD_NET];
    struct oom oom;
    char *token;           /* NULL: none set, everything is open */
    char *default_user;    /* never NULL; "root" until /init says else */
    char *default_workdir; /* NULL: none */
    json_t *env;           /* object of strings: global environment */
    json_t *fixed_env;     /* the part of it that /init cannot change */
    struct procs *procs;
    struct control *control;
    struct server *server;
    struct work *work; /* work.c: worker threads, NULL until used */
};

struct user {
    uid_t uid;
    gid_t gid;
    char name[64], home[512], shell[128];
};

/* ---- users.c: no NSS (a static glibc would load the sandbox's libraries into
 * pid 1) ------------------------------------------------------------------- */

/* name NULL or "": the default user. -1: kind "unauthenticated". */
int users_find(const struct envd *v, const char *name, struct user *u,
               struct err *e);
/* Supplementary groups of the user, at most max; returns their number. */
int users_groups(const struct user *u, gid_t *g, int max, struct err *e);
/* Names by id; the number as text when there is none. */
void users_name(uid_t uid, char *dst, size_t cap);
void users_group_name(gid_t gid, char *dst, size_t cap);
/* A path from outside as the reference of envd resolves it (section 3). -1:
 * kind "invalid_argument". */
int users_path(const struct envd *v, const struct user *u, const char *path,
               char *dst, size_t cap, struct err *e);

/* ---- fs.c ---------------------------------------------------------------- */

/* The unary methods of filesystem.Filesystem, on a worker thread. Reads u and
 * req before it returns. done is called once, on the loop, after fs_call has
 * returned: answer (borrowed) with e NULL, or NULL with e, whose kind is a
 * Connect code ("unimplemented" for a method it does not have). It also comes
 * when the client has gone: keep arg until then. */
void fs_call(struct envd *v, const char *method, const struct user *u,
             const json_t *req,
             void (*done)(void *arg, json_t *answer, const struct err *e),
             void *arg);

/* ---- files.c: GET and POST /files. The access token has been checked. Take
 * the request over and answer it. ------------------------------------------ */
void files_get(struct envd *v, struct httpd_req *r);
void files_post(struct envd *v, struct httpd_req *r);

#endif
