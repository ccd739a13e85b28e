/* Fork and exec. See spawn.h. */
#include "spawn.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum step { STEP_EXEC, STEP_LOOKUP, STEP_CHDIR, STEP_USER, STEP_SETUP };

struct report {
    enum step step;
    int errnum;
};

/* ---- before the fork ----------------------------------------------------- */

struct list {
    char **items;
    size_t n, cap;
};

static void list_take(struct list *l, char *item)
{
    if (l->n + 1 >= l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->items = mem_realloc(l->items, l->cap * sizeof(char *));
    }
    l->items[l->n++] = item;
    l->items[l->n] = NULL;
}

void spawn_free(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

static char *pair(const char *key, const char *value)
{
    size_t n = strlen(key) + strlen(value) + 2;
    char *s = mem_alloc(n);
    snprintf(s, n, "%s=%s", key, value);
    return s;
}

/* Takes the place of an equal key among the first `old` entries. */
static void env_set(struct list *l, size_t old, const char *key,
                    const char *value)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < old; i++)
        if (strncmp(l->items[i], key, n) == 0 && l->items[i][n] == '=') {
            free(l->items[i]);
            l->items[i] = pair(key, value);
            return;
        }
    list_take(l, pair(key, value));
}

static bool plain(const json_t *s)
{
    return json_is_string(s) &&
           strlen(json_string_value(s)) == json_string_length(s);
}

static int env_add(struct list *l, const json_t *envs, struct err *e)
{
    const char *key;
    json_t *value;
    size_t old = l->n; /* an object has each key once */
    json_object_foreach((json_t *)(size_t)envs, key, value)
    {
        if (!*key || strchr(key, '='))
            return err_set(e, "invalid_argument",
                           "environment variable '%s': a name is not empty "
                           "and has no '='",
                           key);
        if (!plain(value))
            return err_set(e, "invalid_argument",
                           "environment variable '%s': the value must be a "
                           "string without NUL",
                           key);
        env_set(l, old, key, json_string_value(value));
    }
    return 0;
}

char **spawn_env(const struct envd *v, const struct user *u, const json_t *envs,
                 struct err *e)
{
    struct list l = {0};
    const char *path = getenv("PATH");
    env_set(&l, 0, "PATH",
            path ? path
                 : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
                   "/bin");
    env_set(&l, 0, "HOME", u->home);
    env_set(&l, 0, "USER", u->name);
    env_set(&l, 0, "LOGNAME", u->name);
    if (env_add(&l, v->env, e) < 0 || env_add(&l, envs, e) < 0) {
        spawn_free(l.items);
        return NULL;
    }
    return l.items;
}

char **spawn_argv(const char *cmd, const json_t *args, struct err *e)
{
    struct list l = {0};
    size_t i;
    json_t *arg;
    list_take(&l, mem_strdup(cmd));
    json_array_foreach(args, i, arg)
    {
        if (!plain(arg)) {
            err_set(e, "invalid_argument",
                    "args[%zu]: must be a string without NUL", i);
            spawn_free(l.items);
            return NULL;
        }
        list_take(&l, mem_strdup(json_string_value(arg)));
    }
    return l.items;
}

/* What execve is tried with, in this order. */
static char **candidates(const char *cmd, char **env)
{
    struct list l = {0};
    const char *path = "";
    if (strchr(cmd, '/')) {
        list_take(&l, mem_strdup(cmd));
        return l.items;
    }
    for (char **p = env; *p; p++)
        if (str_starts(*p, "PATH="))
            path = *p + 5;
    while (*cmd) {
        size_t n = strcspn(path, ":");
        size_t size = n + strlen(cmd) + 3;
        char *s = mem_alloc(size);
        snprintf(s, size, "%.*s/%s", n ? (int)n : 1, n ? path : ".", cmd);
        list_take(&l, s);
        if (!path[n])
            break;
        path += n + 1;
    }
    if (!l.items)
        l.items = mem_alloc(sizeof(char *));
    return l.items;
}

/* ---- the child: system calls only ---------------------------------------- */

static _Noreturn void give_up(int report, enum step step, int errnum)
{
    struct report r = {step, errnum};
    ssize_t n = write(report, &r, sizeof(r));
    _exit(n == sizeof(r) ? 127 : 126);
}

/* The raw call: libc's does not touch the two signals it keeps for itself. */
static void reset_signals(void)
{
    static const char dfl[64]; /* the kernel's struct: SIG_DFL, no flags */
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        (void)syscall(SYS_rt_sigaction, i, dfl, NULL, NSIG / 8);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Puts fds on 0, 1 and 2. They may be among 0 to 2 themselves: first away. */
static int place(const int fds[3])
{
    int high[3];
    for (int i = 0; i < 3; i++) {
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (high[i] < 0)
            return -1;
    }
    for (int i = 0; i < 3; i++)
        if (dup2(high[i], i) < 0)
            return -1;
    return 0;
}

/* The program is a better victim than we are when memory runs out. */
static void be_victim(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? write(fd, "100", 3) : 0;
    (void)n;
    if (fd >= 0)
        close(fd);
}

/* Raw calls: libc's set the ids of all threads by signals. Where we are that
 * user already and may not set groups (no root outside), we stay as we are. */
static int become(const struct spawn_plan *p)
{
    const struct user *u = p->user;
    if (syscall(SYS_setgroups, p->ngroups, p->groups) < 0 &&
        (u->uid != geteuid() || u->gid != getegid()))
        return -1;
    if (syscall(SYS_setresgid, u->gid, u->gid, u->gid) < 0)
        return -1;
    return (int)syscall(SYS_setresuid, u->uid, u->uid, u->uid);
}

/* Like execvp: goes on after what says "not here", remembers EACCES, and gives
 * a file without a format to the shell. script has room for that. */
static int run(const struct spawn_plan *p, char **paths, char **script)
{
    int errnum = ENOENT;
    for (; *paths; paths++) {
        execve(*paths, p->argv, p->env);
        if (errno == ENOEXEC) {
            script[1] = *paths;
            execve(script[0], script, p->env);
        }
        if (errno == EACCES)
            errnum = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR)
            return errno;
    }
    return errnum;
}

static _Noreturn void child(const struct spawn_plan *p, char **paths,
                            char **script, int report)
{
    report = fcntl(report, F_DUPFD_CLOEXEC, 3);
    if (place(p->fds) < 0 || setsid() < 0 ||
        (p->tty && ioctl(0, TIOCSCTTY, 0) < 0))
        give_up(report, STEP_SETUP, errno);
    be_victim();
    setrlimit(RLIMIT_NOFILE, &p->nofile);
    umask(022);
    if (become(p) < 0)
        give_up(report, STEP_USER, errno);
    if (chdir(p->cwd) < 0)
        give_up(report, STEP_CHDIR, errno);
    reset_signals();
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    int errnum = run(p, paths, script);
    bool looked = !strchr(p->argv[0], '/') && errnum == ENOENT;
    give_up(report, looked ? STEP_LOOKUP : STEP_EXEC, errnum);
}

/* ---- the parent ---------------------------------------------------------- */

static char **shell_script(char **argv)
{
    size_t n = 0;
    while (argv[n])
        n++;
    char **s = mem_array(n + 3, sizeof(*s));
    s[0] = (char *)(size_t) "/bin/sh";
    memcpy(s + 2, argv + 1, n * sizeof(*s)); /* with the NULL */
    return s;
}

int spawn_start(const struct spawn_plan *p, pid_t *pid, int *report,
                struct err *e)
{
    int pipes[2];
    if (fd_pipe(pipes, e) < 0 || fd_nonblock(pipes[0], true, e) < 0) {
        e->kind = "resource_exhausted";
        return -1;
    }
    char **paths = candidates(p->argv[0], p->env);
    char **script = shell_script(p->argv);
    *pid = fork();
    if (*pid == 0)
        child(p, paths, script, pipes[1]);
    if (*pid < 0)
        err_errno(e, "resource_exhausted", "fork");
    free(script);
    spawn_free(paths);
    fd_close(&pipes[1]);
    if (*pid < 0) {
        fd_close(&pipes[0]);
        return -1;
    }
    *report = pipes[0];
    return 0;
}

int spawn_report(int report, const char *cmd, const char *cwd, struct err *e)
{
    struct report r;
    char why[96];
    ssize_t n = read(report, &r, sizeof(r));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (n != sizeof(r))
        return 0;
    if (r.step == STEP_LOOKUP)
        return err_set(e, "invalid_argument",
                       "exec: \"%.200s\": executable file not found in $PATH",
                       cmd);
    if (r.step == STEP_CHDIR && r.errnum == ENOENT) {
        err_set(e, "invalid_argument", "cwd '%s' does not exist", cwd);
        return -2;
    }
    const char *s = strerror_r(r.errnum, why, sizeof(why));
    char first = (char)tolower((unsigned char)*s);
    const char *rest = *s ? s + 1 : "";
    if (r.step == STEP_CHDIR)
        return err_set(e, "invalid_argument", "chdir %.200s: %c%s", cwd, first,
                       rest);
    if (r.step == STEP_SETUP)
        return err_set(e, "internal", "set up: %c%s", first, rest);
    if (r.step == STEP_USER)
        return err_set(e, "invalid_argument", "switch user: %c%s", first, rest);
    return err_set(e, "invalid_argument", "fork/exec %.200s: %c%s", cmd, first,
                   rest);
}
