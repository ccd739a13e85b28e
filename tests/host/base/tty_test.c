/* Raw mode on a pseudo terminal: taken back by hand, and by the guard when the
 * process that asked for it is killed. */
#include "base/tty.h"
#include "base/fd.h"
#include "ctest.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct pty {
    int master, slave;
};

static struct pty pty_new(void)
{
    struct pty p;
    p.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(p.master >= 0);
    assert_int_equal(grantpt(p.master), 0);
    assert_int_equal(unlockpt(p.master), 0);
    p.slave = open(ptsname(p.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(p.slave >= 0);
    return p;
}

static void pty_close(struct pty *p)
{
    fd_close(&p->slave);
    fd_close(&p->master);
}

static int is_raw(int fd)
{
    struct termios t;
    assert_int_equal(tcgetattr(fd, &t), 0);
    return !(t.c_lflag & (ICANON | ECHO | ISIG));
}

static void goes_raw_and_back(void **state)
{
    (void)state;
    struct err e = {0};
    struct pty p = pty_new();
    struct tty_raw t = {0};
    assert_false(is_raw(p.slave));
    assert_int_equal(tty_raw(&t, p.slave, &e), 0);
    assert_true(is_raw(p.slave));
    tty_restore(&t);
    assert_false(is_raw(p.slave));
    tty_restore(&t);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    pty_close(&p);
}

static void is_restored_when_killed(void **state)
{
    (void)state;
    struct pty p = pty_new();
    int ready[2];
    struct err e = {0};
    assert_int_equal(fd_pipe(ready, &e), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct tty_raw t = {0};
        char ok = tty_raw(&t, p.slave, &e) == 0;
        if (write(ready[1], &ok, 1) == 1)
            pause();
        _exit(1);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_true(ok);
    assert_true(is_raw(p.slave));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 200 && is_raw(p.slave); i++)
        usleep(10 * 1000);
    assert_false(is_raw(p.slave));
    fd_close(&ready[0]);
    fd_close(&ready[1]);
    pty_close(&p);
}

static void refuses_what_is_no_terminal(void **state)
{
    (void)state;
    struct err e = {0};
    struct tty_raw t = {0};
    int cols, rows, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(tty_raw(&t, fd, &e), -1);
    assert_string_equal(e.kind, "invalid_argument");
    assert_int_equal(tty_size(fd, &cols, &rows), -1);
    assert_true(tty_readable(fd)); /* the end is there at once */
    tty_restore(&t);
    fd_close(&fd);
}

static void tells_size_and_input(void **state)
{
    (void)state;
    struct pty p = pty_new();
    struct winsize w = {.ws_col = 100, .ws_row = 30};
    int cols = 0, rows = 0;
    assert_int_equal(tty_size(p.slave, &cols, &rows), -1); /* 0 x 0 */
    assert_int_equal(ioctl(p.master, TIOCSWINSZ, &w), 0);
    assert_int_equal(tty_size(p.slave, &cols, &rows), 0);
    assert_int_equal(cols, 100);
    assert_int_equal(rows, 30);
    assert_false(tty_readable(p.slave));
    assert_int_equal(write(p.master, "x\n", 2), 2);
    for (int i = 0; i < 200 && !tty_readable(p.slave); i++)
        usleep(1000);
    assert_true(tty_readable(p.slave));
    pty_close(&p);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(goes_raw_and_back),
    cmocka_unit_test(is_restored_when_killed),
    cmocka_unit_test(refuses_what_is_no_terminal),
    cmocka_unit_test(tells_size_and_input),
};
RUN(tests)
