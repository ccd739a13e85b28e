/* The processes started through envd: their life, their output to all who
 * watch, their exit states for 30 s more. Knows nothing of HTTP. */
#ifndef E2B_PROCESS_H
#define E2B_PROCESS_H

#include "envd.h"
#include "input.h"
#include "pty.h"

#include <sys/resource.h>

struct proc;
struct proc_watch;

enum proc_output { PROC_STDOUT, PROC_STDERR, PROC_PTY };

/* How it ended, in the words of Go's ProcessState. */
struct proc_end {
    int code;    /* -1: by a signal */
    bool exited; /* by exit */
    char status[64];
    bool failed; /* then error says how, with status in it */
    char error[192];
};

/* What a watcher is told. None of these runs inside a call of proc_*, but start
 * may be told inside proc_join. */
struct proc_watch_ops {
    void (*start)(void *arg, pid_t pid);
    /* It could not be started; the watch is gone. Only after proc_start. */
    void (*fail)(void *arg, const struct err *e);
    /* true: full, nothing more until proc_ready. */
    bool (*data)(void *arg, enum proc_output which, const char *p, size_t n);
    /* The watch is gone. */
    void (*end)(void *arg, const struct proc_end *end);
    /* Its deadline has passed, it was killed; the watch is gone. Only for the
     * watch of proc_start. */
    void (*deadline)(void *arg);
};

struct proc_spec {
    const struct user *user;
    const char *cwd;      /* absolute */
    const json_t *config; /* ProcessConfig, checked */
    const char *tag;      /* or NULL */
    bool input;           /* a pipe as stdin, else /dev/null */
    uint64_t timeout_ms;  /* 0: none */
    bool pty;             /* a terminal in place of the three pipes */
    struct pty_size size; /* of it */
};

/* nofile: what programs start with. */
struct procs *procs_new(struct envd *v, const struct rlimit *nofile,
                        struct err *e);
/* Kills all that run; watches end without a call. */
void procs_free(struct procs *ps);
/* Reaps every child that has ended, ours and adopted ones. */
void procs_reap(struct procs *ps);

/* Starts one, watched. NULL: e has a Connect code. */
struct proc_watch *proc_start(struct procs *ps, const struct proc_spec *s,
                              const struct proc_watch_ops *ops, void *arg,
                              struct err *e);
/* Running ones; by pid also those that ended within 30 s when ended_too. tag
 * is used when pid is 0. NULL: kind "not_found". */
struct proc *procs_find(struct procs *ps, pid_t pid, const char *tag,
                        bool ended_too, struct err *e);
pid_t proc_pid(const struct proc *p);
/* [{config, pid, tag}], those that run. */
json_t *procs_list(const struct procs *ps);

/* One more watcher. NULL: kind "resource_exhausted". Of an ended process start
 * and, later, end are told. */
struct proc_watch *proc_join(struct proc *p, const struct proc_watch_ops *ops,
                             void *arg, struct err *e);
void proc_leave(struct proc_watch *w); /* NULL is fine */
void proc_ready(struct proc_watch *w); /* not full any more */

/* SIGTERM or SIGKILL, to the pid only. From now on its end is told when it has
 * exited, whoever still holds its output. */
void proc_signal(struct proc *p, int sig);
/* As input_write; "not_found" for one that has exited, "internal" when pty is
 * not what the process has. */
int proc_write(struct proc *p, bool pty, struct buf *b,
               void (*fn)(void *arg, const struct err *e), void *arg,
               struct input_write **w, struct err *e);
/* -1: kind "unknown", a terminal has no end of input. */
int proc_close_input(struct proc *p, struct err *e);
/* -1: kind "internal", it has no terminal. */
int proc_resize(struct proc *p, struct pty_size size, struct err *e);

#endif
