/* Raw mode of a terminal, and its guard. See tty.h. */
#include "tty.h"
#include "fd.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: async-signal-safe calls only. A byte says that all is restored,
 * the end of the pipe that the parent died. SIGTTOU is ignored, since by then a
 * shell may have taken the terminal back. */
static void guard(const struct tty_raw *t, int told)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    char byte;
    ssize_t n;
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &ignore, NULL);
    if (dup2(t->fd, 0) < 0 || dup2(told, 1) < 0 ||
        syscall(SYS_close_range, 2, ~0u, 0) < 0)
        _exit(1);
    while ((n = read(1, &byte, 1)) < 0 && errno == EINTR)
        ;
    if (n == 0)
        tcsetattr(0, TCSANOW, &t->saved);
    _exit(0);
}

static int start_guard(struct tty_raw *t, struct err *e)
{
    int ends[2];
    if (fd_pipe(ends, e) < 0)
        return -1;
    t->guard = fork();
    if (t->guard == 0) {
        close(ends[1]);
        guard(t, ends[0]);
    }
    int why = errno;
    fd_close(&ends[0]);
    t->alive = ends[1];
    if (t->guard > 0)
        return 0;
    fd_close(&t->alive);
    errno = why;
    return err_errno(e, NULL, "fork");
}

static void end_guard(struct tty_raw *t)
{
    while (write(t->alive, "x", 1) < 0 && errno == EINTR)
        ;
    fd_close(&t->alive);
    while (waitpid(t->guard, NULL, 0) < 0 && errno == EINTR)
        ;
}

int tty_raw(struct tty_raw *t, int fd, struct err *e)
{
    t->fd = fd;
    if (tcgetattr(fd, &t->saved) < 0)
        return err_errno(e, "invalid_argument",
                         "descriptor %d is not a terminal", fd);
    if (start_guard(t, e) < 0)
        return -1;
    struct termios raw = t->saved;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSANOW, &raw) == 0) {
        t->on = true;
        return 0;
    }
    err_errno(e, NULL, "cannot set the terminal to raw mode");
    end_guard(t);
    return -1;
}

void tty_restore(struct tty_raw *t)
{
    if (!t->on)
        return;
    t->on = false;
    while (tcsetattr(t->fd, TCSANOW, &t->saved) < 0 && errno == EINTR)
        ;
    end_guard(t);
}

int tty_size(int fd, int *cols, int *rows)
{
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 || w.ws_row == 0)
        return -1;
    *cols = w.ws_col;
    *rows = w.ws_row;
    return 0;
}

int tty_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}
