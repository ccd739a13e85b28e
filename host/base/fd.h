/* Descriptors: close-on-exec everywhere, EINTR handled, SCM_RIGHTS. */
#ifndef E2B_FD_H
#define E2B_FD_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes *fd if it is >= 0 and sets it to -1; keeps errno. */
void fd_close(int *fd);
#define FD_AUTO __attribute__((cleanup(fd_close)))
/* Gives *fd away: returns it and leaves -1. */
int fd_take(int *fd);
int fd_cloexec(int fd, bool on, struct err *e);
int fd_nonblock(int fd, bool on, struct err *e);
int fd_pipe(int fds[2], struct err *e); /* O_CLOEXEC */
/* All n bytes or an error; blocking descriptors only. */
int fd_write_all(int fd, const void *p, size_t n, struct err *e);
/* Up to n bytes until EOF; returns the count. */
ssize_t fd_read_all(int fd, void *p, size_t n, struct err *e);
/* Until it can be read or has hung up: 1; 0 at the deadline, by clock_ms; -1
 * (errno): it cannot be waited for. */
int fd_await(int fd, int64_t deadline);
/* Whether n more descriptors can be opened; *open and *limit (may be NULL) say
 * why not: how many there are, of how many. */
bool fd_room(int n, int *open, int *limit);
/* Sends/receives bytes with descriptors; recv sets close-on-exec, closes what
 * is over max, returns bytes (0 = EOF), *nfds counts. */
ssize_t fd_send(int sock, const void *p, size_t n, const int *fds, int nfds,
                struct err *e);
ssize_t fd_recv(int sock, void *p, size_t n, int *fds, int max, int *nfds,
                struct err *e);
/* A name for the socket at path that fits into a sockaddr_un (dst[cap], cap
 * 108). A longer path goes through a descriptor of its folder: then *dirfd is
 * to be kept open while the name is used and closed afterwards, else it is -1.
 */
int fd_unix_name(const char *path, char *dst, size_t cap, int *dirfd,
                 struct err *e);
/* Listening / connected AF_UNIX stream socket at dirfd/name (any length of
 * path: goes through /proc/self/fd). Nonblocking, close-on-exec. */
int fd_unix_listen(int dirfd, const char *name, mode_t mode, struct err *e);
int fd_unix_connect(int dirfd, const char *name, struct err *e);
/* Sealed executable memfd holding p[0..n). */
int fd_memfd_sealed(const char *name, const void *p, size_t n, struct err *e);

#endif
