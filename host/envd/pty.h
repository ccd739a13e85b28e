/* Pseudo terminals. */
#ifndef E2B_PTY_H
#define E2B_PTY_H

#include "envd.h"

struct pty_size {
    unsigned short cols, rows;
};

/* A new one; its program's end (*slave) belongs to the user, who could not
 * open it else. Both close-on-exec. -1: kind "resource_exhausted". */
int pty_open(const struct user *u, struct pty_size size, int *master,
             int *slave, struct err *e);
int pty_resize(int master, struct pty_size size, struct err *e);

#endif
