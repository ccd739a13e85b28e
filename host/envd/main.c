/* envd: pid 1 of a sandbox. With --memory-mb standard input is the file with
 * its group's count of processes killed for memory. Its API socket is
 * descriptor 3, the sockets of its network follow; with --socket PATH it makes
 * its own and is an ordinary process (development, tests). */
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "control.h"
#include "process.h"
#include "server.h"
#include "work.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { API_FD = 3, NET_FD = 4, GRACE_MS = 60 * 1000, EXIT_USAGE = 2 };

/* An engine sets the deadline at once; one that has died before it did knows
 * nothing of this sandbox. */
#define FIRST_DEADLINE_MS (60ull * 1000)

struct options {
    const char *socket; /* NULL: descriptor 3 */
    uint64_t grace_ms;
    uint64_t memory_mb; /* the limit; 0: none is counted */
};

static int usage(void)
{
    fputs("usage: envd [--socket PATH [--grace MS]] [--memory-mb N] | "
          "--version\n",
          stderr);
    return -1;
}

/* 0: go on, 1: answered, -1: usage. */
static int parse(int argc, char **argv, struct options *o)
{
    o->grace_ms = GRACE_MS;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts(ENVD_VERSION);
        return 1;
    }
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--socket") == 0 && value)
            o->socket = value;
        else if (strcmp(argv[i], "--memory-mb") == 0 && value) {
            if (str_u64(value, strlen(value), 1u << 30, &o->memory_mb) < 0)
                return usage();
        } else if (strcmp(argv[i], "--grace") != 0 || !value ||
                   str_u64(value, strlen(value), 86400000, &o->grace_ms) < 0)
            return usage();
    }
    return 0;
}

/* What the platform says about this sandbox, from our environment; nobody can
 * set it by /init. */
static json_t *fixed_env(void)
{
    static const char *const names[] = {"E2B_SANDBOX_ID", "E2B_TEMPLATE_ID",
                                        "E2B_EVENTS_ADDRESS"};
    json_t *env = json_object();
    json_object_set_new(env, "E2B_SANDBOX", json_string("true"));
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        const char *value = getenv(names[i]);
        json_t *s = value ? json_string(value) : NULL;
        if (s)
            json_object_set_new(env, names[i], s);
    }
    return env;
}

/* The same as files: programs without our environment look there. */
static void write_run_files(const json_t *env)
{
    const char *key;
    json_t *value;
    struct err e;
    if (path_mkdirs(AT_FDCWD, "/run/e2b", 0755, &e) < 0) {
        log_line(LOG_WARN, "envd", "%s", e.msg);
        return;
    }
    FD_AUTO int dir = open("/run/e2b", O_PATH | O_DIRECTORY | O_CLOEXEC);
    json_object_foreach((json_t *)(size_t)env, key, value)
    {
        char name[64];
        if (strcmp(key, "E2B_EVENTS_ADDRESS") == 0)
            continue;
        str_fmt(name, sizeof(name), ".%s", key);
        if (path_write_file(dir, name, json_string_value(value),
                            json_string_length(value), 0644, &e) < 0)
            log_line(LOG_WARN, "envd", "%s", e.msg);
    }
}

/* Many connections and pipes are ours; programs start with what we had. */
static struct rlimit raise_files(void)
{
    struct rlimit had, want;
    getrlimit(RLIMIT_NOFILE, &had);
    want = had;
    want.rlim_cur = had.rlim_max;
    setrlimit(RLIMIT_NOFILE, &want);
    return had;
}

/* SIGCHLD as a descriptor: no handler, so no global. */
static int open_signals(struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_errno(e, NULL, "block SIGCHLD");
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_errno(e, NULL, "signalfd") : fd;
}

struct reaper {
    int fd;
    struct procs *procs;
};

static void on_child(void *arg, unsigned events)
{
    (void)events;
    struct reaper *r = arg;
    struct signalfd_siginfo info[8];
    while (read(r->fd, info, sizeof(info)) > 0)
        ;
    procs_reap(r->procs);
}

static int open_socket(const struct options *o, struct err *e)
{
    if (o->socket)
        return fd_unix_listen(AT_FDCWD, o->socket, 0600, e);
    if (fd_cloexec(API_FD, true, e) < 0 || fd_nonblock(API_FD, true, e) < 0)
        return -1;
    /* It listens already; from here on SO_PEERCRED names us, by which an engine
     * finds a sandbox that it has no record of. */
    if (listen(API_FD, SOMAXCONN) < 0)
        return err_errno(e, NULL, "listen");
    return API_FD;
}

/* Before anything else is opened, which could take the place of a gap. */
static void take_net(struct envd *v, bool given)
{
    for (int i = 0; i < ENVD_NET; i++) {
        int type;
        socklen_t n = sizeof(type);
        v->net[i] = -1;
        if (given &&
            getsockopt(NET_FD + i, SOL_SOCKET, SO_TYPE, &type, &n) == 0 &&
            fd_cloexec(NET_FD + i, true, NULL) == 0)
            v->net[i] = NET_FD + i;
    }
}

static int serve(struct envd *v, const struct options *o, struct err *e)
{
    bool first = getpid() == 1;
    struct rlimit nofile = raise_files();
    struct reaper reaper = {.fd = open_signals(e)};
    if (reaper.fd < 0)
        return -1;
    v->procs = procs_new(v, &nofile, e);
    v->control = control_new(v, first ? FIRST_DEADLINE_MS : 0, o->grace_ms);
    struct loop_watch *watch = NULL;
    reaper.procs = v->procs;
    if (v->procs)
        watch = loop_watch(v->loop, reaper.fd, LOOP_READ, on_child, &reaper, e);
    int fd = watch ? open_socket(o, e) : -1;
    if (fd >= 0)
        v->server = server_new(v, fd, e);
    bool served = v->server != NULL;
    if (served) {
        on_child(&reaper, 0); /* what ended before we looked */
        loop_run(v->loop);
    }
    server_free(v->server);
    control_free(v->control);
    procs_free(v->procs);
    work_free(v);
    loop_watch_stop(watch);
    fd_close(&reaper.fd);
    return served ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err e = {0};
    struct envd v = {0};
    int r = parse(argc, argv, &o);
    if (r != 0)
        return r < 0 ? EXIT_USAGE : 0;
    take_net(&v, !o.socket);
    log_open(STDERR_FILENO, LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    if (getpid() == 1)
        prctl(PR_SET_DUMPABLE, 0); /* /proc/1 is not for root inside */
    umask(022);
    v.oom = (struct oom){.fd = STDIN_FILENO, .limit_mb = o.memory_mb};
    v.loop = loop_new(&e);
    v.default_user = mem_strdup("root");
    v.fixed_env = fixed_env();
    v.env = json_copy(v.fixed_env);
    if (getpid() == 1)
        write_run_files(v.fixed_env);
    r = v.loop ? serve(&v, &o, &e) : -1;
    if (r < 0)
        log_line(LOG_ERROR, "envd", "%s", e.msg);
    for (int i = 0; i < ENVD_NET; i++)
        fd_close(&v.net[i]);
    free(v.token);
    free(v.default_user);
    free(v.default_workdir);
    json_decref(v.env);
    json_decref(v.fixed_env);
    loop_free(v.loop);
    return r < 0 ? 1 : 0;
}
