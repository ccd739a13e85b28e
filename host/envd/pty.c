/* Pseudo terminals without libc's help, which would look at /etc/group. */
#include "pty.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

int pty_resize(int master, struct pty_size size, struct err *e)
{
    struct winsize w = {.ws_col = size.cols, .ws_row = size.rows};
    if (ioctl(master, TIOCSWINSZ, &w) < 0)
        return err_errno(e, "internal", "error resizing tty");
    return 0;
}

static int open_master(struct err *e)
{
    int unlocked = 0;
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && ioctl(fd, TIOCSPTLCK, &unlocked) == 0)
        return fd;
    err_errno(e, "resource_exhausted", "open /dev/ptmx");
    fd_close(&fd);
    return -1;
}

static int open_slave(int master, const struct user *u, struct err *e)
{
    int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "resource_exhausted", "open the terminal");
    /* devpts has set the group; where we are no root, it is ours already */
    if (u->uid == geteuid() || fchown(fd, u->uid, (gid_t)-1) == 0)
        return fd;
    err_errno(e, "internal", "give the terminal to %s", u->name);
    fd_close(&fd);
    return -1;
}

int pty_open(const struct user *u, struct pty_size size, int *master,
             int *slave, struct err *e)
{
    *slave = -1;
    *master = open_master(e);
    if (*master >= 0)
        *slave = open_slave(*master, u, e);
    if (*slave >= 0 && pty_resize(*master, size, e) == 0)
        return 0;
    fd_close(master);
    fd_close(slave);
    return -1;
}
