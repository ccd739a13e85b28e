/* What the launcher's tests run as pid 1: a static program that does the verbs
 * of its command line, one after the other, and prints what it sees. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void print_file(const char *label, const char *path)
{
    char text[4096];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n < 0) {
        printf("%s: errno %d\n", label, errno);
        return;
    }
    text[n] = '\0';
    printf("%s: %s%s", label, text, n && text[n - 1] == '\n' ? "" : "\n");
    close(fd);
}

static void list(const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    printf("ls %s:", path);
    for (int i = 0; i < n; i++)
        if (names[i]->d_name[0] != '.')
            printf(" %s", names[i]->d_name);
    printf("\n");
}

static void print_status(const char *key)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, key, strlen(key)))
            printf("%s", line);
    if (f)
        fclose(f);
}

static void about(void)
{
    struct utsname u;
    struct rlimit r;
    uname(&u);
    getrlimit(RLIMIT_NOFILE, &r);
    printf("pid: %d sid: %d uid: %d\nhost: %s\nnofile: %d\n", (int)getpid(),
           (int)getsid(0), (int)getuid(), u.nodename, (int)r.rlim_cur);
    print_file("uid_map", "/proc/self/uid_map");
    print_file("cgroup", "/proc/self/cgroup");
    static const char *const keys[] = {"CapEff", "CapBnd",     "CapPrm",
                                       "CapInh", "NoNewPrivs", "SigBlk",
                                       "SigIgn", "Groups"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        print_status(keys[i]);
}

/* The descriptors, without the one that looks. */
static void descriptors(void)
{
    printf("fds:");
    for (int i = 0; i < 1024; i++)
        if (fcntl(i, F_GETFD) >= 0)
            printf(" %d", i);
    printf("\n");
}

static void processes(void)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    printf("procs:");
    while (d && (e = readdir(d)))
        if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
            printf(" %s", e->d_name);
    printf("\n");
}

static void network(void)
{
    struct if_nameindex *n = if_nameindex();
    printf("net:");
    for (int i = 0; n && n[i].if_name; i++)
        printf(" %s", n[i].if_name);
    printf("\n");
    print_file("routes", "/proc/net/route");
    print_file("inet6", "/proc/net/if_inet6");
}

static void say(const char *what, long rc)
{
    printf("%s: %d\n", what, rc < 0 ? errno : 0);
}

static void refused(void)
{
    char args[88] = {0};
    say("unshare_user", unshare(CLONE_NEWUSER));
    say("unshare_net", unshare(CLONE_NEWNET));
    say("unshare_fs", unshare(CLONE_FS));
    say("clone_user",
        syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL));
    say("clone3", syscall(SYS_clone3, args, sizeof(args)));
    say("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
    say("umount", umount2("/proc", MNT_DETACH));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    say("bpf", syscall(SYS_bpf, 0, NULL, 0));
    say("perf", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    say("module", syscall(SYS_init_module, NULL, 0, NULL));
    say("io_uring", syscall(SYS_io_uring_setup, 1, NULL));
    say("setns", setns(0, 0));
    say("sethostname", sethostname("x", 1));
    say("newer", syscall(9999));
    say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    say("vsock_high",
        syscall(SYS_socket, 0x100000000L | AF_VSOCK, SOCK_STREAM, 0));
    say("inet", socket(AF_INET, SOCK_STREAM, 0));
    say("packet", socket(AF_PACKET, SOCK_RAW, 0));
    say("personality", syscall(SYS_personality, 0xffffffffUL));
    say("no_aslr", syscall(SYS_personality, 0x40000UL));
    say("kcore", open("/proc/kcore", O_RDONLY));
    say("kmsg", open("/dev/kmsg", O_RDONLY));
    say("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    say("inotify_limit",
        open("/proc/sys/user/max_inotify_instances", O_WRONLY));
    say("sys", open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY));
    print_file("keys", "/proc/keys");
}

static void inotify(void)
{
    int n = 0;
    while (n < 1000 && inotify_init() >= 0)
        n++;
    printf("inotify: %d\n", n);
}

/* A child takes n MiB; says how it ended. */
static void memory(int n)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < n; i++) {
            char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED)
                _exit(1);
            memset(p, 1, 1 << 20);
        }
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    printf("memory: %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void forks(int n)
{
    int made = 0;
    for (; made < n; made++) {
        pid_t pid = fork();
        if (pid < 0)
            break;
        if (pid == 0) {
            pause();
            _exit(0);
        }
    }
    printf("forks: %d errno %d\n", made, made < n ? errno : 0);
}

static void stat_of(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        printf("stat %s: errno %d\n", path, errno);
        return;
    }
    printf("stat %s: %o %d %d\n", path, st.st_mode, (int)st.st_uid,
           (int)st.st_gid);
}

static void write_to(const char *path, const char *text, int uid)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 ||
        fchown(fd, (uid_t)uid, (gid_t)uid) < 0)
        printf("write %s: errno %d\n", path, errno);
    close(fd);
}

/* Until there is no room, at most 1 GiB. */
static void fill(const char *path)
{
    static char piece[1 << 16];
    size_t kib = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t n = 0;
    memset(piece, 'x', sizeof(piece));
    while (kib < 1 << 20 && (n = write(fd, piece, sizeof(piece))) > 0)
        kib += (size_t)n >> 10;
    printf("fill: %s after %zu MiB\n", n < 0 ? strerror(errno) : "no end",
           kib >> 10);
    close(fd);
}

/* Returns how many arguments it took. */
static int verb(char **a)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } plain[] = {{"about", about},         {"descriptors", descriptors},
                 {"processes", processes}, {"network", network},
                 {"refused", refused},     {"inotify", inotify}};
    for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
        if (!strcmp(a[0], plain[i].name))
            return plain[i].run(), 0;
    if (!strcmp(a[0], "stay"))
        for (;;) {
            fflush(stdout);
            pause();
        }
    if (!a[1])
        exit(2);
    if (!strcmp(a[0], "cat"))
        return print_file(a[1], a[1]), 1;
    if (!strcmp(a[0], "fill"))
        return fill(a[1]), 1;
    if (!strcmp(a[0], "ls"))
        return list(a[1]), 1;
    if (!strcmp(a[0], "stat"))
        return stat_of(a[1]), 1;
    if (!strcmp(a[0], "rm"))
        return say("rm", remove(a[1])), 1;
    if (!strcmp(a[0], "memory"))
        return memory(atoi(a[1])), 1;
    if (!strcmp(a[0], "forks"))
        return forks(atoi(a[1])), 1;
    if (!strcmp(a[0], "exit"))
        exit(atoi(a[1]));
    if (!strcmp(a[0], "tell") && a[2])
        return say("tell", write(atoi(a[1]), a[2], strlen(a[2]))), 2;
    if (!strcmp(a[0], "write") && a[2] && a[3])
        return write_to(a[1], a[2], atoi(a[3])), 3;
    exit(2);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        i += verb(argv + i);
        fflush(stdout);
    }
    return 0;
}
