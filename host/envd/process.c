/* Process table. See process.h. A process is STARTING until exec has happened,
 * RUNNING until it has exited and its output has ended, then kept as ENDED. */
#include "process.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/core/stream.h"
#include "process_exit.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_RUNNING = 2048,
    MAX_WATCHES = 256, /* of one process */
    KEEP_MS = 30 * 1000,
    START_MS = 30 * 1000, /* from fork to exec */
    CHUNK = 32 * 1024,
    DRAIN_MAX = 1024 * 1024,
};

struct proc_watch {
    struct proc *proc;
    const struct proc_watch_ops *ops;
    void *arg;
    bool full, owner;
};

/* A place for a watch, empty again when it has gone. */
struct slot {
    struct proc_watch *watch;
};

enum state { STARTING, RUNNING, ENDED };

struct out {
    struct proc *proc;
    enum proc_output which;
    struct stream *stream; /* NULL: ended */
};

struct proc {
    struct proc *next, **at;
    struct procs *table;
    enum state state;
    pid_t pid;
    char *tag, *cwd;
    struct pty_size size; /* at the start */
    json_t *config;
    struct out out[2];
    struct input *input;
    int report; /* of spawn, -1: done */
    struct loop_watch *report_watch;
    struct loop_timer *deadline, *limit; /* limit: to start, or to be kept */
    struct slot *slots;
    size_t nslots;
    bool pty;               /* all output is out[0] */
    bool exited, impatient; /* impatient: its end waits for no output */
    bool starved;           /* a process was killed for memory */
    int status;
    uint64_t oom_before;
};

struct procs {
    struct envd *envd;
    struct rlimit nofile;
    struct proc *list;
    unsigned running;
    int null;
};

/* ---- watches ------------------------------------------------------------- */

static void update_reading(struct proc *p)
{
    bool on = p->state == RUNNING;
    for (size_t i = 0; i < p->nslots; i++)
        on = on && !(p->slots[i].watch && p->slots[i].watch->full);
    for (int i = 0; i < 2; i++)
        if (p->out[i].stream)
            stream_read(p->out[i].stream, on);
}

/* Empties a slot; the watch's callback may then do what it likes. */
static struct proc_watch empty(struct slot *slot)
{
    struct proc_watch w = *slot->watch;
    free(slot->watch);
    slot->watch = NULL;
    return w;
}

static struct slot *find_slot(struct proc *p, const struct proc_watch *w)
{
    size_t i = 0;
    while (i < p->nslots && p->slots[i].watch != w)
        i++;
    return i < p->nslots ? &p->slots[i] : NULL;
}

void proc_leave(struct proc_watch *w)
{
    if (!w)
        return;
    struct proc *p = w->proc;
    empty(find_slot(p, w));
    update_reading(p);
}

void proc_ready(struct proc_watch *w)
{
    w->full = false;
    update_reading(w->proc);
}

/* NULL: there are as many as may be. */
static struct proc_watch *add_watch(struct proc *p,
                                    const struct proc_watch_ops *ops, void *arg)
{
    struct slot *slot = find_slot(p, NULL);
    if (!slot && p->nslots == MAX_WATCHES)
        return NULL;
    if (!slot) {
        p->slots = mem_realloc(p->slots, (p->nslots + 1) * sizeof(*slot));
        slot = &p->slots[p->nslots++];
    }
    slot->watch = mem_alloc(sizeof(*slot->watch));
    *slot->watch = (struct proc_watch){.proc = p, .ops = ops, .arg = arg};
    return slot->watch;
}

static void tell_data(struct proc *p, enum proc_output which, const char *s,
                      size_t n)
{
    while (n > 0) {
        size_t piece = n < CHUNK ? n : CHUNK;
        for (size_t i = 0; i < p->nslots; i++) {
            struct proc_watch *w = p->slots[i].watch;
            if (w && w->ops->data(w->arg, which, s, piece))
                w->full = true;
        }
        s += piece;
        n -= piece;
    }
    update_reading(p);
}

/* ---- the end ------------------------------------------------------------- */

static void drop(struct proc *p)
{
    *p->at = p->next;
    if (p->next)
        p->next->at = p->at;
    if (p->state != ENDED)
        p->table->running--;
    for (int i = 0; i < 2; i++)
        if (p->out[i].stream)
            stream_close(p->out[i].stream, false);
    loop_watch_stop(p->report_watch);
    fd_close(&p->report);
    loop_timer_stop(p->deadline);
    loop_timer_stop(p->limit);
    input_free(p->input);
    for (size_t i = 0; i < p->nslots; i++)
        free(p->slots[i].watch);
    free(p->slots);
    json_decref(p->config);
    free(p->tag);
    free(p->cwd);
    free(p);
}

static void tell_end(void *arg)
{
    struct proc *p = arg;
    struct proc_end end;
    process_exit_text(p->status, &end);
    if (end.failed)
        str_fmt(end.error, sizeof(end.error), "%s", end.status);
    if (end.failed && p->starved)
        str_fmt(end.error, sizeof(end.error),
                "%s (a process was killed for lack of memory: the sandbox has "
                "%llu MiB)",
                end.status, (unsigned long long)p->table->envd->oom.limit_mb);
    for (size_t i = 0; i < p->nslots; i++) {
        if (!p->slots[i].watch)
            continue;
        struct proc_watch w = empty(&p->slots[i]);
        w.ops->end(w.arg, &end);
    }
}

static void forget(void *arg)
{
    tell_end(arg);
    drop(arg);
}

/* Unlisted first, then the streams end. */
static void finish(struct proc *p)
{
    p->state = ENDED;
    p->table->running--;
    loop_timer_stop(p->deadline);
    struct input *in = p->input;
    p->input = NULL;
    input_free(in);
    json_decref(p->config);
    p->config = NULL;
    tell_end(p);
    loop_after(p->table->envd->loop, KEEP_MS, forget, p, &p->limit);
}

/* What the pipe holds now, when we do not wait for its end. */
static void drain(struct proc *p, struct out *o)
{
    char piece[CHUNK];
    size_t sum = 0;
    while (o->stream && sum < DRAIN_MAX) {
        ssize_t n = read(stream_fd(o->stream), piece, sizeof(piece));
        if (n <= 0)
            break;
        tell_data(p, o->which, piece, (size_t)n);
        sum += (size_t)n;
    }
    if (o->stream)
        stream_close(o->stream, false);
    o->stream = NULL;
}

static void check_end(struct proc *p)
{
    if (p->state != RUNNING || !p->exited)
        return;
    if (p->impatient) {
        drain(p, &p->out[0]);
        drain(p, &p->out[1]);
    }
    if (!p->out[0].stream && !p->out[1].stream)
        finish(p);
}

static void on_output(void *arg, const char *s, long n, const struct err *e)
{
    (void)e;
    struct out *o = arg;
    struct proc *p = o->proc;
    if (n > 0) {
        tell_data(p, o->which, s, (size_t)n);
        return;
    }
    stream_close(o->stream, false);
    o->stream = NULL;
    check_end(p);
}

static const struct stream_ops OUTPUT = {.read = on_output};

static void exited(struct proc *p, int status)
{
    p->exited = true;
    p->status = status;
    /* What we end ourselves is no surprise. */
    p->starved = !p->impatient && status != 0 &&
                 oom_tell(&p->table->envd->oom, p->oom_before);
    check_end(p);
}

void procs_reap(struct procs *ps)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct proc *p = ps->list;
        while (p && (p->pid != pid || p->exited))
            p = p->next;
        if (p)
            exited(p, status);
    }
}

/* ---- the start ----------------------------------------------------------- */

static void on_deadline(void *arg)
{
    struct proc *p = arg;
    p->impatient = true;
    if (!p->exited)
        kill(p->pid, SIGKILL);
    for (size_t i = 0; i < p->nslots; i++) {
        if (!p->slots[i].watch || !p->slots[i].watch->owner)
            continue;
        struct proc_watch w = empty(&p->slots[i]);
        w.ops->deadline(w.arg);
    }
    update_reading(p);
    check_end(p);
}

static void failed(struct proc *p, const struct err *e)
{
    for (size_t i = 0; i < p->nslots; i++) {
        if (!p->slots[i].watch)
            continue;
        struct proc_watch w = empty(&p->slots[i]);
        w.ops->fail(w.arg, e);
    }
    drop(p);
}

static const char *cmd_of(const struct proc *p)
{
    return json_string_value(json_object_get(p->config, "cmd"));
}

/* An older one of the same number that is still remembered makes way. */
static void drop_namesake(struct proc *p)
{
    struct proc *next;
    for (struct proc *q = p->table->list; q; q = next) {
        next = q->next;
        if (q != p && q->pid == p->pid && q->state == ENDED)
            forget(q);
    }
}

static void wrap_start(const struct proc *p, struct err *e)
{
    struct buf line = {0};
    const json_t *args = json_object_get(p->config, "args");
    json_t *arg;
    size_t i;
    buf_puts(&line, cmd_of(p));
    json_array_foreach(args, i, arg)
    {
        if (line.len < 200 && json_is_string(arg))
            buf_printf(&line, " %.200s", json_string_value(arg));
    }
    bool cut = line.len > 200;
    const char *dots = cut ? "..." : "";
    if (p->pty)
        err_wrap(e,
                 "error starting pty with command '%.150s%s' in dir '%.100s' "
                 "with '%d' cols and '%d' rows",
                 line.data, dots, p->cwd, p->size.cols, p->size.rows);
    else
        err_wrap(e, "error starting process '%.200s%s'", line.data, dots);
    buf_fini(&line);
}

static void on_report(void *arg, unsigned events)
{
    (void)events;
    struct proc *p = arg;
    struct err e = {0};
    int r = spawn_report(p->report, cmd_of(p), p->cwd, &e);
    if (r > 0)
        return;
    loop_watch_stop(p->report_watch);
    p->report_watch = NULL;
    fd_close(&p->report);
    loop_timer_stop(p->limit);
    if (r < 0) {
        if (r == -1)
            wrap_start(p, &e);
        failed(p, &e);
        return;
    }
    p->state = RUNNING;
    drop_namesake(p);
    for (size_t i = 0; i < p->nslots; i++)
        if (p->slots[i].watch)
            p->slots[i].watch->ops->start(p->slots[i].watch->arg, p->pid);
    update_reading(p);
    check_end(p);
}

/* A path on a file system that does not answer. */
static void start_late(void *arg)
{
    struct proc *p = arg;
    struct err e;
    kill(p->pid, SIGKILL);
    err_set(&e, "deadline_exceeded", "exec did not come back within %d s",
            START_MS / 1000);
    wrap_start(p, &e);
    failed(p, &e);
}

struct pipes {
    int in[2], out[2], err[2];
};

static void close_pipes(struct pipes *io)
{
    for (int i = 0; i < 2; i++) {
        fd_close(&io->in[i]);
        fd_close(&io->out[i]);
        fd_close(&io->err[i]);
    }
}

/* Of a terminal in and out have our end, in[0] the program's. */
static int open_pty(struct pipes *io, const struct proc_spec *s, struct err *e)
{
    if (pty_open(s->user, s->size, &io->out[0], &io->in[0], e) < 0)
        return -1;
    io->in[1] = fcntl(io->out[0], F_DUPFD_CLOEXEC, 3);
    if (io->in[1] >= 0)
        return 0;
    err_errno(e, "resource_exhausted", "duplicate the terminal");
    close_pipes(io);
    return -1;
}

static int open_pipes(struct pipes *io, const struct proc_spec *s,
                      struct err *e)
{
    *io = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}};
    if (s->pty)
        return open_pty(io, s, e);
    if ((s->input && fd_pipe(io->in, e) < 0) || fd_pipe(io->out, e) < 0 ||
        fd_pipe(io->err, e) < 0) {
        e->kind = "resource_exhausted";
        close_pipes(io);
        return -1;
    }
    return 0;
}

static int set_output(struct proc *p, enum proc_output which, int *fd,
                      struct err *e)
{
    struct out *o = &p->out[which == PROC_STDERR];
    o->proc = p;
    o->which = which;
    o->stream = stream_new(p->table->envd->loop, *fd, &OUTPUT, o, e);
    if (!o->stream)
        return -1;
    *fd = -1;
    return 0;
}

/* Our ends of the pipes, and the report, onto the loop. */
static int attach(struct proc *p, struct pipes *io, struct err *e)
{
    struct loop *l = p->table->envd->loop;
    if (set_output(p, p->pty ? PROC_PTY : PROC_STDOUT, &io->out[0], e) < 0 ||
        (!p->pty && set_output(p, PROC_STDERR, &io->err[0], e) < 0))
        return -1;
    if (io->in[1] >= 0) {
        p->input = input_new(l, io->in[1], e);
        if (!p->input)
            return -1;
        io->in[1] = -1;
    }
    p->report_watch = loop_watch(l, p->report, LOOP_READ, on_report, p, e);
    return p->report_watch ? 0 : -1;
}

static int launch(struct proc *p, const struct proc_spec *s,
                  struct spawn_plan *plan, struct err *e)
{
    struct pipes io;
    plan->ngroups = users_groups(s->user, plan->groups, SPAWN_GROUPS, e);
    if (plan->ngroups < 0 || open_pipes(&io, s, e) < 0)
        return -1;
    plan->tty = s->pty;
    plan->fds[0] = s->input || s->pty ? io.in[0] : p->table->null;
    plan->fds[1] = s->pty ? io.in[0] : io.out[1];
    plan->fds[2] = s->pty ? io.in[0] : io.err[1];
    p->oom_before = oom_count(&p->table->envd->oom);
    int r = spawn_start(plan, &p->pid, &p->report, e);
    if (r == 0) {
        r = attach(p, &io, e);
        if (r < 0)
            kill(p->pid, SIGKILL);
    }
    close_pipes(&io);
    return r;
}

static int prepare(struct proc *p, const struct proc_spec *s, struct err *e)
{
    struct spawn_plan plan = {
        .cwd = s->cwd, .user = s->user, .nofile = p->table->nofile};
    int r = -1;
    plan.env = spawn_env(p->table->envd, s->user,
                         json_object_get(s->config, "envs"), e);
    if (plan.env)
        plan.argv =
            spawn_argv(cmd_of(p), json_object_get(s->config, "args"), e);
    if (plan.argv)
        r = launch(p, s, &plan, e);
    spawn_free(plan.env);
    spawn_free(plan.argv);
    return r;
}

struct proc_watch *proc_start(struct procs *ps, const struct proc_spec *s,
                              const struct proc_watch_ops *ops, void *arg,
                              struct err *e)
{
    if (ps->running >= MAX_RUNNING) {
        err_set(e, "resource_exhausted",
                "%d processes run already: wait for some to end", MAX_RUNNING);
        return NULL;
    }
    struct proc *p = mem_alloc(sizeof(*p));
    p->table = ps;
    p->report = -1;
    p->config = json_incref((json_t *)(size_t)s->config);
    p->cwd = mem_strdup(s->cwd);
    p->pty = s->pty;
    p->size = s->size;
    p->tag = s->tag ? mem_strdup(s->tag) : NULL;
    p->at = &ps->list;
    p->next = ps->list;
    if (p->next)
        p->next->at = &p->next;
    ps->list = p;
    ps->running++;
    if (prepare(p, s, e) < 0) {
        wrap_start(p, e);
        drop(p);
        return NULL;
    }
    loop_after(ps->envd->loop, START_MS, start_late, p, &p->limit);
    if (s->timeout_ms > 0)
        loop_after(ps->envd->loop, s->timeout_ms, on_deadline, p, &p->deadline);
    struct proc_watch *w = add_watch(p, ops, arg);
    w->owner = true;
    return w;
}

/* ---- what others ask ----------------------------------------------------- */

struct proc *procs_find(struct procs *ps, pid_t pid, const char *tag,
                        bool ended_too, struct err *e)
{
    struct proc *ended = NULL;
    for (struct proc *p = ps->list; p; p = p->next) {
        bool it = pid ? p->pid == pid : p->tag && strcmp(p->tag, tag) == 0;
        if (it && p->state == RUNNING)
            return p;
        if (it && p->state == ENDED && ended_too && !ended)
            ended = p;
    }
    if (ended)
        return ended;
    if (pid)
        err_set(e, "not_found", "process with pid %ld not found", (long)pid);
    else
        err_set(e, "not_found", "process with tag %.200s not found", tag);
    return NULL;
}

pid_t proc_pid(const struct proc *p)
{
    return p->pid;
}

json_t *procs_list(const struct procs *ps)
{
    json_t *a = json_array();
    for (const struct proc *p = ps->list; p; p = p->next) {
        if (p->state != RUNNING)
            continue;
        json_t *o = json_object();
        json_object_set(o, "config", p->config);
        json_object_set_new(o, "pid", json_integer(p->pid));
        if (p->tag)
            json_object_set_new(o, "tag", json_string(p->tag));
        json_array_insert_new(a, 0, o); /* oldest first */
    }
    return a;
}

struct proc_watch *proc_join(struct proc *p, const struct proc_watch_ops *ops,
                             void *arg, struct err *e)
{
    struct proc_watch *w = add_watch(p, ops, arg);
    if (!w) {
        err_set(e, "resource_exhausted",
                "process %ld has %d watchers already: disconnect some",
                (long)p->pid, MAX_WATCHES);
        return NULL;
    }
    ops->start(arg, p->pid);
    if (p->state == ENDED && !p->deadline)
        loop_after(p->table->envd->loop, 0, tell_end, p, &p->deadline);
    return w;
}

void proc_signal(struct proc *p, int sig)
{
    p->impatient = true;
    if (!p->exited)
        kill(p->pid, sig);
    check_end(p);
}

int proc_write(struct proc *p, bool pty, struct buf *b,
               void (*fn)(void *arg, const struct err *e), void *arg,
               struct input_write **w, struct err *e)
{
    if (p->exited)
        return err_set(e, "not_found", "process with pid %ld not found",
                       (long)p->pid);
    if (p->pty && !pty)
        return err_set(e, "internal",
                       "error writing to stdin: tty assigned to process — "
                       "input should be written to the pty, not the stdin");
    if (pty && !p->pty)
        return err_set(e, "internal",
                       "error writing to tty: tty not assigned to process — "
                       "input should be written to the stdin, not the pty");
    if (!p->input)
        return err_set(e, "internal",
                       "error writing to stdin: stdin not enabled or closed");
    return input_write(p->input, b, fn, arg, w, e);
}

int proc_close_input(struct proc *p, struct err *e)
{
    if (p->pty)
        return err_set(e, "unknown",
                       "error closing stdin: cannot close stdin for PTY "
                       "process — send Ctrl+D (0x04) instead");
    if (p->input)
        input_close(p->input);
    return 0;
}

int proc_resize(struct proc *p, struct pty_size size, struct err *e)
{
    if (!p->pty || !p->out[0].stream)
        return err_set(e, "internal",
                       "error resizing tty: tty not assigned to process");
    return pty_resize(stream_fd(p->out[0].stream), size, e);
}

/* ---- the table ----------------------------------------------------------- */

struct procs *procs_new(struct envd *v, const struct rlimit *nofile,
                        struct err *e)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0) {
        err_errno(e, NULL, "open /dev/null");
        return NULL;
    }
    struct procs *ps = mem_alloc(sizeof(*ps));
    ps->envd = v;
    ps->nofile = *nofile;
    ps->null = null;
    return ps;
}

void procs_free(struct procs *ps)
{
    if (!ps)
        return;
    struct proc *next;
    for (struct proc *p = ps->list; p; p = next) {
        next = p->next;
        if (p->state != ENDED && !p->exited)
            kill(p->pid, SIGKILL);
        drop(p);
    }
    fd_close(&ps->null);
    free(ps);
}
