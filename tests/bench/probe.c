/* The C half of the benches: times plain processes, pumps bytes over two
 * sockets as a bare peer of up- and downloads, and is a small HTTP server and
 * client whose own time is negligible. Static, as it also runs in sandboxes.
 * Prints figures in microseconds, one a line; exits with 1 on any failure. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, MANY = 1000, LIMIT_SECONDS = 300 };

struct sample {
    int64_t us;
    long rss_kb;
    int status;
};

static void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int number(const char *text, int min, int max)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || n < min || n > max) {
        fprintf(stderr, "probe: '%s' is not a number from %d to %d\n", text,
                min, max);
        exit(2);
    }
    return (int)n;
}

/* ---- processes ---------------------------------------------------------- */

/* As a command of user 1000 starts in a sandbox, without the sandbox. */
static void enter(const char *root)
{
    if (chroot(root) < 0 || chdir("/home/user") < 0 || setgid(1000) < 0 ||
        setuid(1000) < 0)
        die(root);
    setenv("HOME", "/home/user", 1);
    setenv("USER", "user", 1);
}

static pid_t start(const char *root, char **argv)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            _exit(127);
    if (root != NULL)
        enter(root);
    execvp(argv[0], argv);
    _exit(127);
}

/* N processes at once; each is counted from the common beginning. */
static int many(int n, const char *root, char **argv)
{
    struct sample got[MANY];
    int64_t began = now_us();
    for (int i = 0; i < n; i++)
        start(root, argv);
    for (int i = 0; i < n; i++) {
        struct rusage use;
        int status;
        if (wait4(-1, &status, 0, &use) < 0)
            die("wait4");
        got[i] = (struct sample){now_us() - began, use.ru_maxrss, status};
    }
    for (int i = 0; i < n; i++) {
        if (got[i].status != 0) {
            fprintf(stderr, "probe: %s: wait status %d\n", argv[0],
                    got[i].status);
            return 1;
        }
        printf("%lld %ld\n", (long long)got[i].us, got[i].rss_kb);
    }
    return 0;
}

/* ---- the pump ----------------------------------------------------------- */

static void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            die("write");
        p += done;
        n -= (size_t)done;
    }
}

static int64_t copy(int from, int to)
{
    static char buffer[BUFFER];
    int64_t total = 0;
    ssize_t n;
    while ((n = read(from, buffer, sizeof(buffer))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("read");
        write_all(to, buffer, (size_t)n);
        total += n;
    }
    return total;
}

static int tcp_listen(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0)
        die("listen");
    return fd;
}

static int tcp_connect(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        die("connect");
    return fd;
}

static void tcp_pair(int pair[2])
{
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    int listener = tcp_listen(0);
    if (getsockname(listener, (struct sockaddr *)&a, &len) < 0)
        die("getsockname");
    pair[0] = tcp_connect(ntohs(a.sin_port));
    pair[1] = accept(listener, NULL, NULL);
    if (pair[1] < 0)
        die("accept");
    close(listener);
}

/* A process that copies and has nothing else of all these open. */
static void copier(int from, int to, const int *all)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return;
    for (int i = 0; i < 6; i++)
        if (all[i] != from && all[i] != to)
            close(all[i]);
    copy(from, to);
    _exit(0);
}

static int64_t processor_us(int who)
{
    struct rusage use;
    if (getrusage(who, &use) < 0)
        die("getrusage");
    return (int64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 +
           use.ru_utime.tv_usec + use.ru_stime.tv_usec;
}

/* file -> TCP -> unix -> file, or with the sockets the other way round: three
 * processes, as host, engine and envd are. */
static int pump(const char *source, const char *target, bool up)
{
    int tcp[2], local[2];
    tcp_pair(tcp);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, local) < 0)
        die("socketpair");
    const int *first = up ? tcp : local, *second = up ? local : tcp;
    /* Emptying what was in the target counts, as it does in a sandbox. */
    int64_t began = now_us();
    int from = open(source, O_RDONLY);
    int to = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (from < 0 || to < 0)
        die(from < 0 ? source : target);
    int all[6] = {tcp[0], tcp[1], local[0], local[1], from, to};
    copier(from, first[0], all);
    copier(first[1], second[0], all);
    copier(second[1], to, all);
    for (int i = 0; i < 6; i++)
        close(all[i]);
    for (int i = 0; i < 3; i++) {
        int status;
        if (wait(&status) < 0 || status != 0)
            die("a copier failed");
    }
    int64_t us = now_us() - began;
    printf(
        "%lld %lld\n", (long long)us,
        (long long)(processor_us(RUSAGE_SELF) + processor_us(RUSAGE_CHILDREN)));
    return 0;
}

/* ---- HTTP --------------------------------------------------------------- */

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/* Reads until the text has come, at most cap bytes; false at the end. */
static bool read_until(int fd, const char *text, char *buffer, size_t cap)
{
    size_t n = 0;
    for (;;) {
        ssize_t got = read(fd, buffer + n, cap - 1 - n);
        if (got <= 0)
            return false;
        n += (size_t)got;
        buffer[n] = '\0';
        if (strstr(buffer, text) != NULL)
            return true;
        if (n == cap - 1)
            return false;
    }
}

static _Noreturn void serve(int port)
{
    int listener = tcp_listen(port);
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            die("accept");
        if (fork() == 0) {
            char buffer[8192];
            int on = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            while (read_until(fd, "\r\n\r\n", buffer, sizeof(buffer)))
                write_all(fd, ANSWER, sizeof(ANSWER) - 1);
            _exit(0);
        }
        close(fd);
    }
}

static int round_trips(int port, const char *host, int count, int pause_us)
{
    char request[512], buffer[8192];
    int n = snprintf(request, sizeof(request),
                     "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    if (n <= 0 || n >= (int)sizeof(request)) {
        fprintf(stderr, "probe: the host's name is too long\n");
        return 2;
    }
    int fd = tcp_connect(port);
    for (int i = 0; i < count; i++) {
        int64_t began = now_us();
        write_all(fd, request, (size_t)n);
        if (!read_until(fd, "\r\n\r\nok", buffer, sizeof(buffer))) {
            fprintf(stderr, "probe: not the answer expected: %s\n", buffer);
            return 1;
        }
        printf("%lld\n", (long long)(now_us() - began));
        usleep((useconds_t)pause_us);
    }
    return 0;
}

/* ---- output ------------------------------------------------------------- */

/* A line every so often, until nobody reads. */
static _Noreturn void tick(int pause_ms)
{
    for (;;) {
        write_all(STDOUT_FILENO, "tick\n", 5);
        usleep((useconds_t)pause_ms * 1000);
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: probe many N ROOT|- COMMAND [ARGS...]\n"
                    "       probe up|down SOURCE TARGET\n"
                    "       probe serve PORT\n"
                    "       probe rtt PORT HOST COUNT PAUSE_US\n"
                    "       probe tick PAUSE_MS\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";
    if (strcmp(verb, "serve") == 0)
        serve(number(argv[2], 1, 65535));
    if (strcmp(verb, "tick") == 0)
        tick(number(argv[2], 1, 60000));
    /* Whatever hangs ends; the two above live as long as their sandbox. */
    alarm(LIMIT_SECONDS);
    if (strcmp(verb, "many") == 0 && argc > 4)
        return many(number(argv[2], 1, MANY),
                    strcmp(argv[3], "-") == 0 ? NULL : argv[3], argv + 4);
    if (argc == 4 && (strcmp(verb, "up") == 0 || strcmp(verb, "down") == 0))
        return pump(argv[2], argv[3], strcmp(verb, "up") == 0);
    if (strcmp(verb, "rtt") == 0 && argc == 6)
        return round_trips(number(argv[2], 1, 65535), argv[3],
                           number(argv[4], 1, 1000000),
                           number(argv[5], 0, 1000000));
    return usage();
}
