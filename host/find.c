/* Where a script is found. See find.h. */
#include "find.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct embed_file *find_carried(const char *path)
{
    for (size_t i = 0; i < embed_count; i++)
        if (strcmp(embed_files[i].name, path) == 0)
            return &embed_files[i];
    return NULL;
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static bool has(const char *dir, const char *name)
{
    char path[4096];
    struct stat st;
    return str_fmt(path, sizeof(path), "%s/%s", dir, name) == 0 &&
           stat(path, &st) == 0;
}

/* Nearest ancestor with scripts/ or templates/, not above a .git root or
 * $HOME. */
static int project(char *dir, size_t cap)
{
    const char *home = getenv("HOME");
    if (!getcwd(dir, cap))
        return -1;
    for (;;) {
        if (has(dir, "scripts") || has(dir, "templates"))
            return 0;
        if (has(dir, ".git") || (home && strcmp(dir, home) == 0))
            return -1;
        char *slash = strrchr(dir, '/');
        if (!slash || slash == dir)
            return -1;
        *slash = '\0';
    }
}

static bool try_path(struct found *out, struct buf *looked, const char *path)
{
    buf_printf(looked, "  %s\n", path);
    return str_fmt(out->path, sizeof(out->path), "%s", path) == 0 &&
           is_file(path);
}

int find_script(const char *name, struct found *out, struct buf *looked)
{
    char dir[2048], path[4096];
    const char *ext = str_ends(name, ".lua") ? "" : ".lua";
    memset(out, 0, sizeof(*out));
    if (try_path(out, looked, name))
        return 0;
    if (name[0] != '/' && project(dir, sizeof(dir)) == 0 &&
        str_fmt(path, sizeof(path), "%s/scripts/%s%s", dir, name, ext) == 0 &&
        try_path(out, looked, path))
        return 0;
    out->path[0] = '\0';
    if (name[0] != '/' &&
        str_fmt(path, sizeof(path), "scripts/%s%s", name, ext) == 0) {
        buf_printf(looked, "  %s (installed copy)\n", path);
        out->carried = find_carried(path);
    }
    return out->carried ? 0 : -1;
}

static int distance(const char *a, const char *b)
{
    int row[40];
    int n = (int)strlen(b);
    if (n >= 39)
        return 99;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (*a != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *find_nearest(const char *word, const char *const *list)
{
    const char *best = NULL;
    int least = 4;
    for (; *list; list++) {
        int d = distance(word, *list);
        if (d < least) {
            least = d;
            best = *list;
        }
    }
    return best;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *find_near_script(const char *name)
{
    char word[40];
    const char *best = NULL;
    int least = 4;
    if (str_fmt(word, sizeof(word), "%s%s", base_name(name),
                str_ends(name, ".lua") ? "" : ".lua") < 0)
        return NULL;
    for (size_t i = 0; i < embed_count; i++) {
        const char *path = embed_files[i].name;
        if (strncmp(path, "scripts/", 8) != 0 || !str_ends(path, ".lua"))
            continue;
        int d = distance(word, base_name(path));
        if (d < least) {
            least = d;
            best = path + 8;
        }
    }
    return best;
}
