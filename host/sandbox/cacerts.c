/* Finds the machine's own certificate authorities by comparing PEM texts. */
#include "cacerts.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 8 << 20, DEPTH_MAX = 4 };

const struct cacerts_paths cacerts_system = {
    .local = "/usr/local/share/ca-certificates",
    .distro = "/usr/share/ca-certificates",
    .bundle = "/etc/ssl/certs/ca-certificates.crt",
};

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define END   "-----END CERTIFICATE-----"

/* Base64 bodies without white space. */
struct certs {
    char **v;
    size_t n, cap;
};

static void certs_fini(struct certs *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->v[i]);
    free(c->v);
    memset(c, 0, sizeof(*c));
}

static void certs_add(struct certs *c, const char *from, const char *to)
{
    char *body = mem_alloc((size_t)(to - from) + 1), *w = body;
    for (const char *p = from; p < to; p++)
        if (!isspace((unsigned char)*p))
            *w++ = *p;
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->v = mem_realloc(c->v, c->cap * sizeof(*c->v));
    }
    c->v[c->n++] = body;
}

static int add_file(struct certs *c, int dir, const char *name, struct err *e)
{
    size_t n;
    char *text = path_read_file(dir, name, FILE_MAX, &n, e);
    if (!text)
        return err_wrap(e, "certificates of this machine");
    for (const char *p = text; (p = strstr(p, BEGIN));) {
        p += strlen(BEGIN);
        const char *end = strstr(p, END);
        if (!end)
            break;
        certs_add(c, p, end);
        p = end;
    }
    free(text);
    return 0;
}

static int add_dir(struct certs *c, int parent, const char *name, int depth,
                   struct err *e)
{
    DIR *d = path_opendir(parent, name, 0);
    if (!d)
        return 0;
    int failed = 0, fd = dirfd(d);
    for (struct dirent *f; !failed && (f = readdir(d));) {
        struct stat st;
        if (f->d_name[0] == '.' || fstatat(fd, f->d_name, &st, 0))
            continue;
        if (S_ISREG(st.st_mode) && str_ends(f->d_name, ".crt"))
            failed = add_file(c, fd, f->d_name, e);
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            failed = add_dir(c, fd, f->d_name, depth + 1, e);
    }
    closedir(d);
    return failed;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(struct certs *c)
{
    if (c->n)
        qsort(c->v, c->n, sizeof(*c->v), by_text);
}

static bool has(const struct certs *c, const char *body)
{
    return c->n && bsearch(&body, c->v, c->n, sizeof(*c->v), by_text) != NULL;
}

static void write_pem(struct buf *pem, const char *body)
{
    buf_puts(pem, BEGIN "\n");
    size_t n = strlen(body);
    for (size_t i = 0; i < n; i += 64)
        buf_printf(pem, "%.64s\n", body + i);
    buf_puts(pem, END "\n");
}

static int collect(const struct cacerts_paths *p, struct certs *extra,
                   struct certs *distro, struct err *e)
{
    struct certs all = {0};
    struct stat st;
    if (add_dir(extra, AT_FDCWD, p->local, 0, e) ||
        add_dir(distro, AT_FDCWD, p->distro, 0, e))
        return -1;
    sort(distro);
    if (!distro->n || stat(p->bundle, &st))
        return 0;
    int failed = add_file(&all, AT_FDCWD, p->bundle, e);
    for (size_t i = 0; !failed && i < all.n; i++)
        if (!has(distro, all.v[i]))
            certs_add(extra, all.v[i], all.v[i] + strlen(all.v[i]));
    certs_fini(&all);
    return failed;
}

int cacerts_extra(const struct cacerts_paths *p, struct buf *pem, struct err *e)
{
    struct certs extra = {0}, distro = {0};
    int failed = collect(p, &extra, &distro, e);
    sort(&extra);
    for (size_t i = 0; !failed && i < extra.n; i++)
        if (i == 0 || strcmp(extra.v[i], extra.v[i - 1]) != 0)
            write_pem(pem, extra.v[i]);
    certs_fini(&extra);
    certs_fini(&distro);
    return failed;
}
