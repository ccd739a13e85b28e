/* Leases as locked files. No meaning of what is leased. */
#include "leases.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POLL_MS = 5, NAME_MAX_BYTES = 64, FILE_MAX = 1 << 20 };

static int check_name(const char *name, struct err *e)
{
    size_t n = strlen(name);
    if (n >= 1 && n <= NAME_MAX_BYTES &&
        strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz-") == n)
        return 0;
    return err_set(e, "invalid_argument",
                   "lease '%.80s' must be 1 to 64 of a-z, 0-9 and -", name);
}

/* Many take leases at once, one collects. */
static int lock(int cache, int how, struct err *e)
{
    int fd = openat(cache, "gc.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                    0600);
    if (fd < 0)
        return err_errno(e, NULL, "cannot make gc.lock in the cache");
    for (int waited = 0; flock(fd, how | LOCK_NB); waited += POLL_MS) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            err_errno(e, NULL, "cannot lock the cache");
            fd_close(&fd);
            return -1;
        }
        if (waited >= LEASES_WAIT_MS) {
            fd_close(&fd);
            return err_set(e, "timeout",
                           "gc.lock of the cache was held for %d s: is a "
                           "process stopped in a collection?",
                           LEASES_WAIT_MS / 1000);
        }
        poll(NULL, 0, POLL_MS);
    }
    return fd;
}

static int append(int fd, const char *const *items, int n, struct err *e)
{
    struct buf text = {0};
    for (int i = 0; i < n; i++)
        buf_printf(&text, "%s\n", items[i]);
    int failed = n ? fd_write_all(fd, text.data, text.len, e) : 0;
    buf_fini(&text);
    return failed;
}

int leases_take(int cache, const char *name, const char *const *items, int n,
                struct err *e)
{
    char path[96];
    if (check_name(name, e))
        return -1;
    int FD_AUTO guard = lock(cache, LOCK_SH, e);
    if (guard < 0)
        return -1;
    (void)str_fmt(path, sizeof(path), "leases/%s", name);
    int fd = openat(cache, path,
                    O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, NULL, "cannot make %s in the cache", path);
    if (flock(fd, LOCK_SH | LOCK_NB))
        err_errno(e, NULL, "cannot lock %s in the cache", path);
    else if (append(fd, items, n, e) == 0)
        return fd;
    fd_close(&fd);
    unlinkat(cache, path, 0);
    return -1;
}

int leases_add(int cache, int lease, const char *const *items, int n,
               struct err *e)
{
    int FD_AUTO guard = lock(cache, LOCK_SH, e);
    return guard < 0 ? -1 : append(lease, items, n, e);
}

void leases_forget(int cache, const char *name)
{
    char path[96];
    if (check_name(name, NULL))
        return;
    (void)str_fmt(path, sizeof(path), "leases/%s", name);
    unlinkat(cache, path, 0);
}

int leases_lock(int cache, struct err *e)
{
    return lock(cache, LOCK_EX, e);
}

static void add_lines(struct leases *l, char *text)
{
    char *rest = NULL;
    for (char *p = strtok_r(text, "\n", &rest); p;
         p = strtok_r(NULL, "\n", &rest)) {
        if (l->n % 64 == 0)
            l->items = mem_realloc(l->items, (l->n + 64) * sizeof(char *));
        l->items[l->n++] = mem_strdup(p);
    }
}

static int read_items(int fd, struct leases *l, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) || st.st_size > FILE_MAX)
        return err_set(e, "internal", "it cannot be read");
    char *text = mem_alloc((size_t)st.st_size + 1);
    int failed = fd_read_all(fd, text, (size_t)st.st_size, e) < 0;
    if (!failed)
        add_lines(l, text);
    free(text);
    l->living++;
    return failed ? -1 : 0;
}

static int read_one(int dir, const char *name, struct leases *l, struct err *e)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, NULL, "lease %s", name);
    int failed = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(dir, name, 0); /* nobody else has it open */
    else if (read_items(fd, l, e))
        failed = err_wrap(e, "lease %s", name);
    fd_close(&fd);
    return failed;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int leases_read(int cache, struct leases *l, struct err *e)
{
    memset(l, 0, sizeof(*l));
    DIR *d = path_opendir(cache, "leases", 0);
    if (!d)
        return err_errno(e, NULL, "cannot list the leases of the cache");
    int failed = 0;
    for (struct dirent *n; !failed && (n = readdir(d));)
        if (check_name(n->d_name, NULL) == 0)
            failed = read_one(dirfd(d), n->d_name, l, e);
    closedir(d);
    if (failed) {
        leases_fini(l);
        return -1;
    }
    if (l->n)
        qsort(l->items, l->n, sizeof(*l->items), by_text);
    return 0;
}

bool leases_has(const struct leases *l, const char *item)
{
    return l->n && bsearch(&item, l->items, l->n, sizeof(*l->items), by_text);
}

void leases_fini(struct leases *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i]);
    free(l->items);
    memset(l, 0, sizeof(*l));
}
