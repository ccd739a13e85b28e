/* Starting one program as some user: everything that allocates or looks at
 * files happens before the fork; the child makes system calls only. */
#ifndef E2B_SPAWN_H
#define E2B_SPAWN_H

#include "envd.h"

#include <sys/resource.h>

enum { SPAWN_GROUPS = 256 };

struct spawn_plan {
    char **argv;     /* argv[0] is looked up in env's PATH */
    char **env;      /* of spawn_env */
    const char *cwd; /* absolute, entered as the user */
    const struct user *user;
    gid_t groups[SPAWN_GROUPS];
    int ngroups;
    int fds[3];           /* what becomes 0, 1 and 2 */
    bool tty;             /* they are a terminal, to be the controlling one */
    struct rlimit nofile; /* limit the program starts with */
};

/* The environment of a program (reference of envd, section 3), ended by NULL.
 * envs: object of strings or NULL. NULL: kind "invalid_argument". */
char **spawn_env(const struct envd *v, const struct user *u, const json_t *envs,
                 struct err *e);
/* cmd and args (array of strings or NULL) as an argument vector. NULL: kind
 * "invalid_argument". */
char **spawn_argv(const char *cmd, const json_t *args, struct err *e);
void spawn_free(char **list);

/* Forks. *report becomes readable: with end of file when the program runs, or
 * with a report for spawn_report. -1: kind "resource_exhausted". */
int spawn_start(const struct spawn_plan *p, pid_t *pid, int *report,
                struct err *e);
/* Reads the report: 0 the program runs, 1 not yet, -1 it could not be started,
 * e has the reason in Go's words, for it is part of the protocol; -2 cwd does
 * not exist, which is a message of its own. */
int spawn_report(int report, const char *cmd, const char *cwd, struct err *e);

#endif
