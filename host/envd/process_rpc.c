/* The methods of process.Process (reference of envd, section 8). */
#include "process_rpc.h"

#include "base/base64.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/core/connect.h"
#include "net/core/stream.h"
#include "process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { STALL_MS = 30 * 1000 };

/* ---- requests ------------------------------------------------------------ */

static int want(const json_t *v, const char *name, bool ok, const char *type,
                struct err *e)
{
    if (!v || json_is_null(v) || ok)
        return 0;
    return err_set(e, "invalid_argument", "%s: must be %s", name, type);
}

/* An optional string; NULL when absent. */
static int get_string(const json_t *o, const char *key, const char **out,
                      struct err *e)
{
    const json_t *v = json_object_get(o, key);
    *out = NULL;
    if (want(v, key, json_is_string(v), "a string", e) < 0)
        return -1;
    if (!json_is_string(v))
        return 0;
    *out = json_string_value(v);
    if (strlen(*out) != json_string_length(v))
        return err_set(e, "invalid_argument", "%s: must not contain NUL", key);
    return 0;
}

static struct proc *select_process(struct rpc *c, const json_t *msg, bool ended,
                                   struct err *e)
{
    const json_t *s = json_object_get(msg, "process");
    const json_t *pid = json_object_get(s, "pid");
    const char *tag;
    long long n = 0;
    if (want(s, "process", json_is_object(s), "an object", e) < 0 ||
        get_string(s, "tag", &tag, e) < 0)
        return NULL;
    if (json_is_integer(pid))
        n = json_integer_value(pid);
    else if (json_is_string(pid))
        n = strtoll(json_string_value(pid), NULL, 10);
    if (pid && !json_is_null(pid) && (n <= 0 || n > 0x7fffffff)) {
        err_set(e, "not_found", "process with pid %lld not found", n);
        return NULL;
    }
    if (n == 0 && !tag) {
        err_set(e, "unimplemented",
                "invalid process selector: pid or tag is needed");
        return NULL;
    }
    return procs_find(rpc_envd(c)->procs, (pid_t)n, tag, ended, e);
}

static void ok(struct rpc *c)
{
    rpc_reply(c, "{}", 2);
}

/* ---- a stream of events -------------------------------------------------- */

struct feed {
    struct rpc *rpc;
    struct proc_watch *watch;
    struct loop_timer *ping, *deadline, *stall;
    uint64_t sent; /* when, loop time */
    size_t queued; /* when the client was last seen to read */
    bool full;
};

static struct loop *loop_of(const struct feed *f)
{
    return rpc_envd(f->rpc)->loop;
}

static void free_feed(struct feed *f)
{
    proc_leave(f->watch);
    loop_timer_stop(f->ping);
    loop_timer_stop(f->deadline);
    loop_timer_stop(f->stall);
    free(f);
}

static void end_feed(struct feed *f, const struct err *e, bool cut)
{
    struct rpc *c = f->rpc;
    free_feed(f);
    rpc_finish(c, e, cut);
}

static void on_stall(void *arg)
{
    struct feed *f = arg;
    struct err e;
    size_t queued = rpc_queued(f->rpc);
    if (queued < f->queued) {
        f->queued = queued; /* slow, but it reads */
        loop_after(loop_of(f), STALL_MS, on_stall, f, &f->stall);
        return;
    }
    err_set(&e, "resource_exhausted",
            "the client has read nothing for %d s: its stream is cut, the "
            "process goes on",
            STALL_MS / 1000);
    end_feed(f, &e, true);
}

static void send_event(struct feed *f, const char *json, size_t n)
{
    size_t queued = rpc_send(f->rpc, json, n);
    f->sent = loop_now(loop_of(f));
    if (queued <= (size_t)STREAM_HIGH || f->full)
        return;
    f->full = true;
    f->queued = queued;
    loop_after(loop_of(f), STALL_MS, on_stall, f, &f->stall);
}

static void feed_drain(void *arg)
{
    struct feed *f = arg;
    f->full = false;
    loop_timer_stop(f->stall);
    proc_ready(f->watch);
}

static void feed_gone(void *arg)
{
    free_feed(arg);
}

static const struct rpc_ops FEED_RPC = {feed_drain, feed_gone};

static void on_ping(void *arg)
{
    static const char text[] = "{\"event\":{\"keepalive\":{}}}";
    struct feed *f = arg;
    uint64_t every = rpc_keepalive(f->rpc) * 1000;
    uint64_t quiet = loop_now(loop_of(f)) - f->sent;
    if (quiet >= every && !f->full)
        send_event(f, text, sizeof(text) - 1);
    loop_after(loop_of(f), quiet >= every ? every : every - quiet, on_ping, f,
               &f->ping);
}

static void feed_start(void *arg, pid_t pid)
{
    struct feed *f = arg;
    char text[64];
    int n = snprintf(text, sizeof(text),
                     "{\"event\":{\"start\":{\"pid\":%ld}}}", (long)pid);
    send_event(f, text, (size_t)n);
    loop_after(loop_of(f), rpc_keepalive(f->rpc) * 1000, on_ping, f, &f->ping);
}

static void feed_fail(void *arg, const struct err *e)
{
    struct feed *f = arg;
    f->watch = NULL;
    end_feed(f, e, false);
}

static bool feed_data(void *arg, enum proc_output which, const char *p,
                      size_t n)
{
    struct feed *f = arg;
    struct buf b = {0};
    static const char *const names[] = {"stdout", "stderr", "pty"};
    buf_reserve(&b, n / 3 * 4 + 64);
    buf_printf(&b, "{\"event\":{\"data\":{\"%s\":\"", names[which]);
    base64_encode(&b, p, n);
    buf_puts(&b, "\"}}}");
    send_event(f, b.data, b.len);
    buf_fini(&b);
    return f->full;
}

static void feed_end(void *arg, const struct proc_end *end)
{
    struct feed *f = arg;
    struct buf b = {0};
    f->watch = NULL;
    buf_puts(&b, "{\"event\":{\"end\":{");
    if (end->code != 0)
        buf_printf(&b, "\"exitCode\":%d,", end->code);
    if (end->exited)
        buf_puts(&b, "\"exited\":true,");
    buf_printf(&b, "\"status\":\"%s\"", end->status);
    if (end->failed)
        buf_printf(&b, ",\"error\":\"%s\"", end->error);
    buf_puts(&b, "}}}");
    send_event(f, b.data, b.len);
    buf_fini(&b);
    end_feed(f, NULL, false);
}

static void set_deadline(struct err *e)
{
    err_set(e, "deadline_exceeded", "context deadline exceeded");
}

static void feed_deadline(void *arg)
{
    struct feed *f = arg;
    struct err e;
    set_deadline(&e);
    f->watch = NULL;
    end_feed(f, &e, false);
}

static void on_deadline(void *arg)
{
    struct err e;
    set_deadline(&e);
    end_feed(arg, &e, false);
}

static const struct proc_watch_ops FEED = {feed_start, feed_fail, feed_data,
                                           feed_end, feed_deadline};

static struct feed *new_feed(struct rpc *c)
{
    struct feed *f = mem_alloc(sizeof(*f));
    f->rpc = c;
    rpc_set(c, &FEED_RPC, f);
    return f;
}

/* A terminal's {"size":{"cols":80,"rows":24}}. */
static int get_cells(const json_t *size, const char *key, unsigned short *out,
                     struct err *e)
{
    const json_t *v = json_object_get(size, key);
    const char *s = json_string_value(v);
    uint64_t n = 0;
    bool good = !v || json_is_null(v);
    if (s)
        good = str_u64(s, strlen(s), 65535, &n) == 0;
    if (json_is_integer(v)) {
        n = (uint64_t)json_integer_value(v);
        good = n <= 65535;
    }
    *out = (unsigned short)n;
    return good ? 0
                : err_set(e, "invalid_argument",
                          "pty.size.%s: must be a number up to 65535", key);
}

static int get_size(const json_t *pty, struct pty_size *out, struct err *e)
{
    const json_t *size = json_object_get(pty, "size");
    if (want(size, "pty.size", json_is_object(size), "an object", e) < 0 ||
        get_cells(size, "cols", &out->cols, e) < 0)
        return -1;
    return get_cells(size, "rows", &out->rows, e);
}

/* ---- Start and Connect --------------------------------------------------- */

static int check_config(const json_t *msg, struct proc_spec *s, struct err *e)
{
    const json_t *p = json_object_get(msg, "process");
    const json_t *in = json_object_get(msg, "stdin");
    const json_t *pty = json_object_get(msg, "pty");
    const json_t *args = json_object_get(p, "args");
    const json_t *envs = json_object_get(p, "envs");
    const char *cmd;
    if (want(p, "process", json_is_object(p), "an object", e) < 0 ||
        want(in, "stdin", json_is_boolean(in), "true or false", e) < 0 ||
        want(pty, "pty", json_is_object(pty), "an object", e) < 0 ||
        want(args, "args", json_is_array(args), "an array", e) < 0 ||
        want(envs, "envs", json_is_object(envs), "an object", e) < 0 ||
        get_string(p, "cmd", &cmd, e) < 0 ||
        get_string(p, "cwd", &s->cwd, e) < 0 ||
        get_string(msg, "tag", &s->tag, e) < 0)
        return -1;
    if (!cmd || !*cmd)
        return err_set(e, "invalid_argument",
                       "error starting process '': exec: no command");
    s->pty = json_is_object(pty);
    if (s->pty && get_size(pty, &s->size, e) < 0)
        return -1;
    s->config = p;
    s->input = !json_is_false(in);
    return 0;
}

static int find_cwd(struct rpc *c, struct proc_spec *s, char *cwd, size_t cap,
                    struct err *e)
{
    if (users_path(rpc_envd(c), s->user, s->cwd ? s->cwd : "", cwd, cap, e) < 0)
        return -1;
    if (!*cwd && snprintf(cwd, cap, "%s", s->user->home) >= (int)cap)
        return err_set(e, "invalid_argument", "the home directory is too long");
    s->cwd = cwd;
    return 0;
}

static void call_start(struct rpc *c, const json_t *msg)
{
    struct proc_spec s = {0};
    struct user u;
    char cwd[4096];
    struct err e = {0};
    if (rpc_user(c, &u, &e) < 0 || check_config(msg, &s, &e) < 0) {
        rpc_fail(c, &e);
        return;
    }
    s.user = &u;
    s.timeout_ms = rpc_timeout(c);
    if (find_cwd(c, &s, cwd, sizeof(cwd), &e) < 0) {
        rpc_fail(c, &e);
        return;
    }
    struct feed *f = new_feed(c);
    f->watch = proc_start(rpc_envd(c)->procs, &s, &FEED, f, &e);
    if (!f->watch)
        end_feed(f, &e, false);
}

static void call_connect(struct rpc *c, const json_t *msg)
{
    struct err e = {0};
    uint64_t ms = rpc_timeout(c);
    struct proc *p = select_process(c, msg, true, &e);
    if (!p) {
        rpc_fail(c, &e);
        return;
    }
    struct feed *f = new_feed(c);
    f->watch = proc_join(p, &FEED, f, &e);
    if (!f->watch)
        end_feed(f, &e, false);
    else if (ms > 0)
        loop_after(loop_of(f), ms, on_deadline, f, &f->deadline);
}

/* ---- unary methods ------------------------------------------------------- */

static void call_list(struct rpc *c, const json_t *msg)
{
    (void)msg;
    struct buf b = {0};
    json_t *o = json_object();
    json_object_set_new(o, "processes", procs_list(rpc_envd(c)->procs));
    json_write(&b, o);
    json_decref(o);
    rpc_reply(c, b.data, b.len);
    buf_fini(&b);
}

static int get_signal(const json_t *msg, struct err *e)
{
    const json_t *v = json_object_get(msg, "signal");
    const char *name = json_string_value(v);
    long long n = json_is_integer(v) ? json_integer_value(v) : 0;
    if ((name && strcmp(name, "SIGNAL_SIGKILL") == 0) || n == SIGKILL)
        return SIGKILL;
    if ((name && strcmp(name, "SIGNAL_SIGTERM") == 0) || n == SIGTERM)
        return SIGTERM;
    if (n)
        return err_set(e, "unimplemented", "invalid signal: %lld", n);
    return err_set(e, "unimplemented", "invalid signal: %.100s",
                   name ? name : "SIGNAL_UNSPECIFIED");
}

static void call_signal(struct rpc *c, const json_t *msg)
{
    struct err e = {0};
    struct proc *p = select_process(c, msg, false, &e);
    int sig = p ? get_signal(msg, &e) : -1;
    if (sig < 0) {
        rpc_fail(c, &e);
        return;
    }
    ok(c);
    proc_signal(p, sig);
}

static void call_close_stdin(struct rpc *c, const json_t *msg)
{
    struct err e = {0};
    struct proc *p = select_process(c, msg, false, &e);
    if (!p) {
        rpc_fail(c, &e);
        return;
    }
    if (proc_close_input(p, &e) < 0)
        rpc_fail(c, &e);
    else
        ok(c);
}

static void call_update(struct rpc *c, const json_t *msg)
{
    struct err e = {0};
    struct pty_size size = {0, 0};
    const json_t *pty = json_object_get(msg, "pty");
    struct proc *p = select_process(c, msg, false, &e);
    if (!p || (json_is_object(pty) &&
               (get_size(pty, &size, &e) < 0 || proc_resize(p, size, &e) < 0)))
        rpc_fail(c, &e);
    else
        ok(c);
}

/* ---- input --------------------------------------------------------------- */

/* One writer of input: a SendInput, or a StreamInput from its start on. */
struct writer {
    struct rpc *rpc;
    pid_t pid; /* looked up anew each time: it may be gone */
    struct input_write *write;
    struct loop_timer *deadline;
    bool stream;
};

static void free_writer(struct writer *w)
{
    input_forget(w->write);
    loop_timer_stop(w->deadline);
    free(w);
}

static void end_writer(struct writer *w, const struct err *e)
{
    struct rpc *c = w->rpc;
    bool stream = w->stream;
    free_writer(w);
    if (e) {
        rpc_fail(c, e);
    } else if (stream) {
        rpc_send(c, "{}", 2);
        rpc_finish(c, NULL, false);
    } else {
        ok(c);
    }
}

static void writer_drain(void *arg)
{
    (void)arg;
}

static void writer_gone(void *arg)
{
    free_writer(arg);
}

static const struct rpc_ops WRITER = {writer_drain, writer_gone};

static void writer_late(void *arg)
{
    struct err e;
    set_deadline(&e);
    end_writer(arg, &e);
}

static struct writer *new_writer(struct rpc *c, bool stream)
{
    struct writer *w = mem_alloc(sizeof(*w));
    uint64_t ms = rpc_timeout(c);
    w->rpc = c;
    w->stream = stream;
    rpc_set(c, &WRITER, w);
    if (ms > 0)
        loop_after(rpc_envd(c)->loop, ms, writer_late, w, &w->deadline);
    return w;
}

static void written(void *arg, const struct err *e)
{
    struct writer *w = arg;
    w->write = NULL;
    if (e || !w->stream)
        end_writer(w, e);
    else
        rpc_read(w->rpc, true);
}

/* msg: what has "input". -1: refused. */
static int write_input(struct writer *w, struct proc *p, const json_t *msg,
                       struct err *e)
{
    const json_t *in = json_object_get(msg, "input");
    const json_t *data = json_object_get(in, "stdin");
    const json_t *pty = json_object_get(in, "pty");
    struct buf b = {0};
    bool to_pty = json_is_string(pty);
    if (to_pty)
        data = pty;
    if (!data || json_is_null(data))
        return err_set(e, "unimplemented",
                       "invalid input type: stdin or pty is needed");
    if (!json_is_string(data) || base64_decode(&b, json_string_value(data),
                                               json_string_length(data)) < 0) {
        buf_fini(&b);
        return err_set(e, "invalid_argument", "input.%s: must be base64",
                       to_pty ? "pty" : "stdin");
    }
    int r = proc_write(p, to_pty, &b, written, w, &w->write, e);
    buf_fini(&b);
    return r;
}

static void call_send_input(struct rpc *c, const json_t *msg)
{
    struct err e = {0};
    struct proc *p = select_process(c, msg, false, &e);
    if (!p) {
        rpc_fail(c, &e);
        return;
    }
    struct writer *w = new_writer(c, false);
    if (write_input(w, p, msg, &e) < 0)
        end_writer(w, &e);
}

static void stream_start(struct rpc *c, const json_t *start)
{
    struct err e = {0};
    struct proc *p = NULL;
    if (json_is_object(start))
        p = select_process(c, start, false, &e);
    else
        err_set(&e, "invalid_argument",
                "the first message of StreamInput must be start");
    if (!p) {
        rpc_fail(c, &e);
        return;
    }
    new_writer(c, true)->pid = proc_pid(p);
}

static void call_stream_input(struct rpc *c, const json_t *msg)
{
    struct writer *w = rpc_arg(c);
    const json_t *data = json_object_get(msg, "data");
    struct err e = {0};
    if (!w) {
        stream_start(c, json_object_get(msg, "start"));
        return;
    }
    if (!msg) {
        end_writer(w, NULL);
        return;
    }
    if (!json_is_object(data))
        return; /* a keep-alive */
    struct proc *p = procs_find(rpc_envd(c)->procs, w->pid, NULL, false, &e);
    if (!p || write_input(w, p, data, &e) < 0)
        end_writer(w, &e);
    else
        rpc_read(c, false);
}

const struct rpc_method process_rpc_methods[] = {
    {"process.Process/List", RPC_UNARY, call_list},
    {"process.Process/Start", RPC_SERVER_STREAM, call_start},
    {"process.Process/Connect", RPC_SERVER_STREAM, call_connect},
    {"process.Process/Update", RPC_UNARY, call_update},
    {"process.Process/SendInput", RPC_UNARY, call_send_input},
    {"process.Process/StreamInput", RPC_CLIENT_STREAM, call_stream_input},
    {"process.Process/SendSignal", RPC_UNARY, call_signal},
    {"process.Process/CloseStdin", RPC_UNARY, call_close_stdin},
    {NULL, RPC_UNARY, NULL},
};
