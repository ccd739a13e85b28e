/* Walking trees. See walk.h. */
#include "walk.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void walk_names_add(struct walk_names *l, const char *name)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
    }
    l->v[l->n++] = mem_strdup(name);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void walk_names_sort(struct walk_names *l)
{
    if (l->n > 1)
        qsort(l->v, l->n, sizeof(*l->v), by_bytes);
}

void walk_names_fini(struct walk_names *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct walk_names){NULL, 0, 0};
}

static int push(struct walk *w, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        fd_close(&fd);
        return -1;
    }
    if (w->depth == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 16;
        w->f = mem_realloc(w->f, w->cap * sizeof(*w->f));
    }
    w->f[w->depth++] =
        (struct walk_folder){.fd = fd, .dev = st.st_dev, .ino = st.st_ino};
    return 0;
}

int walk_open(struct walk *w, int fd)
{
    *w = (struct walk){NULL, 0, 0};
    return push(w, fd);
}

void walk_close(struct walk *w)
{
    for (size_t i = 0; i < w->depth; i++) {
        fd_close(&w->f[i].fd);
        walk_names_fini(&w->f[i].names);
    }
    free(w->f);
    *w = (struct walk){NULL, 0, 0};
}

struct walk_folder *walk_top(struct walk *w)
{
    return &w->f[w->depth - 1];
}

int walk_down(struct walk *w, const char *name)
{
    int fd =
        openat(walk_top(w)->fd, name,
               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    size_t above = w->depth - 1;
    if (push(w, fd) < 0)
        return -1;
    if (above >= WALK_FDS)
        fd_close(&w->f[above].fd);
    return 0;
}

static int reopen(struct walk_folder *f, int child)
{
    struct stat st;
    f->fd = openat(child, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0)
        return -1;
    if (fstat(f->fd, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino)
        return 0;
    fd_close(&f->fd);
    errno = ESTALE;
    return -1;
}

int walk_up(struct walk *w)
{
    struct walk_folder *left = walk_top(w);
    int r = 0;
    w->depth--;
    if (w->depth > 0 && walk_top(w)->fd < 0)
        r = reopen(walk_top(w), left->fd);
    fd_close(&left->fd);
    walk_names_fini(&left->names);
    return r;
}

int walk_read(struct walk *w, bool (*fn)(void *arg, const char *name, int type),
              void *arg)
{
    /* A descriptor of its own: closedir closes it, and the offset is new. */
    DIR *d = path_opendir(walk_top(w)->fd, ".", 0);
    if (!d)
        return -1;
    struct dirent *de;
    bool more = true;
    /* each stream has one thread; readdir_r is deprecated for this */
    /* cppcheck-suppress readdirCalled */
    while (more && (errno = 0, de = readdir(d))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        more = fn(arg, de->d_name, de->d_type);
    }
    int failed = more ? errno : 0;
    closedir(d);
    errno = failed;
    return failed ? -1 : 0;
}
