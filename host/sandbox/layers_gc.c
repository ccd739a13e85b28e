/* Carries out a collection: gathers the facts, asks layers_gc_plan, moves what
 * goes out of sight under the lock of the leases, removes it after that. */
#include "layers_gc.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "layers.h"
#include "leases.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HIDDEN ".gone-"

enum { ROOT_MAX = 1 << 20 };

struct gc {
    int cache;
    const struct layers_gc_spec *spec;
    struct layers_gc_report *r;
    struct layers_gc_layer *v;
    size_t n;
    struct leases leases;
    struct err *err;
};

/* ---- folders ------------------------------------------------------------- */

/* Calls fn for the names in a folder of the cache. */
static int each(struct gc *g, const char *dir,
                int (*fn)(struct gc *g, const char *dir, const char *name))
{
    DIR *d = path_opendir(g->cache, dir, 0);
    if (!d)
        return err_errno(g->err, NULL, "cannot list %s in the cache", dir);
    int failed = 0;
    for (struct dirent *n; !failed && (n = readdir(d));)
        if (strcmp(n->d_name, ".") != 0 && strcmp(n->d_name, "..") != 0)
            failed = fn(g, dir, n->d_name);
    closedir(d);
    return failed;
}

/* Out of sight in one step that needs no space: on a full disk, too. */
static int hide(struct gc *g, const char *dir, const char *name)
{
    char from[320], to[352], salt[9];
    unsigned char random[4];
    str_random(random, sizeof(random));
    str_hex(salt, random, sizeof(random));
    if (str_fmt(from, sizeof(from), "%s/%s", dir, name) ||
        str_fmt(to, sizeof(to), "%s/" HIDDEN "%s-%s", dir, name, salt))
        return 0; /* no name of ours is so long */
    if (renameat(g->cache, from, g->cache, to) && errno != ENOENT)
        return err_errno(g->err, NULL, "cannot remove %s", from);
    return 0;
}

/* Also what a collection that was killed has left; two may do it at once. */
static int remove_hidden(struct gc *g, const char *dir, const char *name)
{
    if (!str_starts(name, HIDDEN))
        return 0;
    int FD_AUTO at = openat(g->cache, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return path_remove_tree(at, name, g->err);
}

static int sweep(struct gc *g)
{
    static const char *const dirs[] = {"layers", "tmp", "damaged"};
    layers_sweep(g->cache);
    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
        if (each(g, dirs[i], remove_hidden))
            return -1;
    return 0;
}

/* ---- facts --------------------------------------------------------------- */

/* An older layer has no size on record. */
static uint64_t size_of(struct gc *g, const char *id, const json_t *doc)
{
    const json_t *size = json_object_get(doc, "size");
    if (json_is_integer(size))
        return (uint64_t)json_integer_value(size);
    int FD_AUTO fs = layers_fd(g->cache, id, NULL);
    return fs >= 0 ? layers_bytes(fs) : 0;
}

static int64_t used_at(struct gc *g, const char *id)
{
    char path[96];
    struct stat st;
    (void)str_fmt(path, sizeof(path), "layers/%s", id);
    if (fstatat(g->cache, path, &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    return (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
}

static void add_layer(struct gc *g, const char *id, const struct buf *meta)
{
    json_t *doc = json_parse(meta->data, meta->len, NULL);
    if (g->n % 64 == 0)
        g->v = mem_realloc(g->v, (g->n + 64) * sizeof(*g->v));
    struct layers_gc_layer *l = &g->v[g->n++];
    memset(l, 0, sizeof(*l));
    (void)str_fmt(l->id, sizeof(l->id), "%s", id);
    json_text(doc, "parent", l->parent, sizeof(l->parent));
    json_text(doc, "content", l->content, sizeof(l->content));
    json_text(doc, "parent_content", l->parent_content,
              sizeof(l->parent_content));
    l->bytes = size_of(g, id, doc);
    l->used = used_at(g, id);
    json_decref(doc);
}

static int set_aside(struct gc *g, const char *id, const struct err *why)
{
    char name[LAYERS_ASIDE_NAME] = "-";
    if (!g->spec->dry_run && layers_aside(g->cache, id, name, g->err))
        return -1;
    buf_printf(&g->r->damaged, "%s\t%s\t%s\n", id, name, why->msg);
    return 0;
}

/* Takes up a layer if it is a whole one. Another collection may be at work. */
static int look_at(struct gc *g, const char *id)
{
    struct buf meta = {0};
    struct err why = {0};
    int failed = 0;
    bool bad = layers_meta(g->cache, id, &meta, &why) != 0 ||
               layers_check(g->cache, id, &meta, &why) < 0;
    if (!bad)
        add_layer(g, id, &meta);
    else if (layers_have(g->cache, id))
        /* One that cannot be read is none that may go. */
        failed = why.errnum == EUCLEAN
                     ? set_aside(g, id, &why)
                     : err_set(g->err, why.kind, "%s", why.msg);
    buf_fini(&meta);
    return failed;
}

static int each_layer(struct gc *g, int (*fn)(struct gc *g, const char *id))
{
    struct buf ids = {0};
    int failed = layers_list(g->cache, &ids, g->err);
    char *rest = NULL;
    for (char *id = failed || !ids.data ? NULL
                                        : strtok_r(ids.data, "\n", &rest);
         id && !failed; id = strtok_r(NULL, "\n", &rest))
        failed = fn(g, id);
    buf_fini(&ids);
    return failed;
}

/* ---- verify -------------------------------------------------------------- */

static int verify_one(struct gc *g, const char *id)
{
    char name[48], salt[25];
    unsigned char random[12];
    struct err why = {0};
    str_random(random, sizeof(random));
    str_hex(salt, random, sizeof(random));
    (void)str_fmt(name, sizeof(name), "verify-%s", salt);
    int FD_AUTO lease = leases_take(g->cache, name, &id, 1, g->err);
    if (lease < 0)
        return -1;
    int result = layers_verify(g->cache, id, &why), failed = 0;
    if (result == 1 && layers_have(g->cache, id))
        failed = set_aside(g, id, &why);
    else if (result < 0 && layers_have(g->cache, id))
        failed = err_set(g->err, why.kind, "%s", why.msg);
    g->r->checked += result == 0 || result == 1;
    g->r->unchecked += result == 2;
    leases_forget(g->cache, name);
    return failed;
}

/* ---- what stays ---------------------------------------------------------- */

static void keep(struct gc *g, const char *id)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->v[i].id, id) == 0)
            g->v[i].kept = true;
}

/* One home's templates; a home that is gone has none. */
static int take_root(struct gc *g, const char *dir, const char *name)
{
    char path[320];
    struct stat st;
    size_t n;
    if (name[0] == '.' || str_fmt(path, sizeof(path), "%s/%s", dir, name))
        return 0;
    char *text = path_read_file(g->cache, path, ROOT_MAX, &n, g->err);
    if (!text)
        return err_wrap(g->err, "roots of the cache");
    char *rest = NULL, *home = strtok_r(text, "\n", &rest);
    if (home && stat(home, &st) && (errno == ENOENT || errno == ENOTDIR)) {
        if (!g->spec->dry_run)
            unlinkat(g->cache, path, 0);
        home = NULL;
    }
    for (char *id = home; id && (id = strtok_r(NULL, "\n", &rest));)
        keep(g, id);
    free(text);
    return 0;
}

/* Leases first: a build gives its lease up when its template is a root. */
static int mark(struct gc *g)
{
    if (leases_read(g->cache, &g->leases, g->err) ||
        each(g, "roots", take_root))
        return -1;
    if (g->spec->keep)
        keep(g, g->spec->keep);
    for (size_t i = 0; i < g->n; i++)
        g->v[i].leased = leases_has(&g->leases, g->v[i].id);
    return 0;
}

/* ---- what goes ----------------------------------------------------------- */

static int take_away(struct gc *g)
{
    struct layers_gc_report *r = g->r;
    for (size_t i = 0; i < g->n; i++) {
        const struct layers_gc_layer *l = &g->v[i];
        bool goes = l->why == LAYERS_GC_USELESS || l->why == LAYERS_GC_OVER;
        if (goes && !g->spec->dry_run && hide(g, "layers", l->id))
            return -1;
        r->gone += goes;
        r->gone_bytes += goes ? l->bytes : 0;
        r->layers += !goes;
        r->leased_bytes += l->why == LAYERS_GC_LEASED ? l->bytes : 0;
        r->template_bytes += l->why == LAYERS_GC_TEMPLATE ? l->bytes : 0;
        if (goes)
            buf_printf(&r->removed, "%s %llu %s\n", l->id,
                       (unsigned long long)l->bytes,
                       l->why == LAYERS_GC_OVER ? "over" : "useless");
    }
    return 0;
}

/* The folder of a build step: "b" and 20 of [a-z0-9] (stdlib/engine/builds). */
static bool is_step(const char *name)
{
    return strlen(name) == 21 && name[0] == 'b' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == 21;
}

static int take_step(struct gc *g, const char *dir, const char *name)
{
    char item[64];
    if (!is_step(name) || str_fmt(item, sizeof(item), "tmp/%s", name) ||
        leases_has(&g->leases, item))
        return 0;
    g->r->tmp++;
    return g->spec->dry_run ? 0 : hide(g, dir, name);
}

static uint64_t aside_size(struct gc *g, const char *dir, const char *name)
{
    char path[320];
    if (str_fmt(path, sizeof(path), "%s/%s", dir, name))
        return 0;
    int FD_AUTO fd = openat(g->cache, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? layers_bytes(fd) : 0;
}

static int count_aside(struct gc *g, const char *dir, const char *name)
{
    if (!str_starts(name, HIDDEN))
        g->r->aside_bytes += aside_size(g, dir, name);
    return 0;
}

/* A sandbox may still have it mounted. */
static int take_aside(struct gc *g, const char *dir, const char *name)
{
    char id[65];
    size_t n = strcspn(name, ".");
    if (n == 0 || n >= sizeof(id))
        return 0;
    memcpy(id, name, n);
    id[n] = '\0';
    if (leases_has(&g->leases, id))
        return 0;
    g->r->aside++;
    return g->spec->dry_run ? 0 : hide(g, dir, name);
}

/* What was set aside is nobody's loss, so it goes first. */
static int decide(struct gc *g)
{
    struct layers_gc_report *r = g->r;
    uint64_t max = g->spec->max;
    if (mark(g) || each(g, "tmp", take_step))
        return -1;
    r->bytes = layers_gc_plan(g->v, g->n, 0, UINT64_MAX);
    if (r->aside_bytes && (r->bytes > max || r->aside_bytes > max - r->bytes)) {
        if (each(g, "damaged", take_aside))
            return -1;
        r->aside_bytes = 0;
    }
    r->bytes = layers_gc_plan(g->v, g->n, r->aside_bytes, max);
    return take_away(g);
}

static void gc_fini(struct gc *g)
{
    free(g->v);
    leases_fini(&g->leases);
}

int layers_gc(int cache, const struct layers_gc_spec *s,
              struct layers_gc_report *r, struct err *e)
{
    struct gc g = {.cache = cache, .spec = s, .r = r, .err = e};
    memset(r, 0, sizeof(*r));
    int failed = (s->verify && each_layer(&g, verify_one)) ||
                 each_layer(&g, look_at) || each(&g, "damaged", count_aside);
    int lock = failed ? -1 : leases_lock(cache, e);
    if (lock < 0)
        failed = 1;
    if (!failed)
        failed = decide(&g);
    fd_close(&lock);
    if (!failed && !s->dry_run)
        failed = sweep(&g);
    gc_fini(&g);
    return failed ? err_wrap(e, "collecting layers") : 0;
}

void layers_gc_fini(struct layers_gc_report *r)
{
    buf_fini(&r->removed);
    buf_fini(&r->damaged);
}
