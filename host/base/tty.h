/* The terminal that the program was started in: its size, and raw mode that is
 * taken back on every way out, a SIGKILL of this process included. */
#ifndef E2B_TTY_H
#define E2B_TTY_H

#include "err.h"

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

struct tty_raw {
    bool on;
    int fd;      /* the caller's; stays open until tty_restore */
    int alive;   /* end of a pipe whose other end the guard reads */
    pid_t guard; /* a child that restores when this process has died */
    struct termios saved;
};

/* No echo, no signals from keys, bytes as they are typed. kind invalid_argument
 * when fd is no terminal. *t must be zeroed. */
int tty_raw(struct tty_raw *t, int fd, struct err *e);
/* Twice is fine. */
void tty_restore(struct tty_raw *t);
/* -1: fd is no terminal, or one that knows no size. */
int tty_size(int fd, int *cols, int *rows);
/* 1: a read does not block (bytes, the end, or a failure are there). */
int tty_readable(int fd);

#endif
