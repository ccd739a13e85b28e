/* Unpacking a tar below one folder, by libarchive. See unpack.h. */
#include "unpack.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 64 * 1024 };

struct job {
    struct archive *in, *out;
    const char *dir;
    uint64_t files;
};

static int bad(struct err *e, struct archive *a, const char *what)
{
    const char *why = archive_error_string(a);
    return err_set(e,
                   archive_errno(a) == ENOSPC ? "not_enough_space" : "protocol",
                   "%.200s: %.200s", what, why ? why : "unknown error");
}

/* libarchive's SECURE flags look at the path as a whole; ours begins with dir,
 * hence the member's own name is looked at first. */
static int check_name(const char *name, struct err *e)
{
    const char *p = name;
    if (!name || !*name || *name == '/')
        return err_set(e, "protocol",
                       "the archive has a member named \"%.200s\"",
                       name ? name : "");
    for (; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2]))
            return err_set(e, "protocol",
                           "the archive has a member outside its folder: "
                           "\"%.200s\"",
                           name);
    return 0;
}

static int place(const struct job *j, const char *name, char *dst, size_t cap,
                 struct err *e)
{
    if (str_fmt(dst, cap, "%s/%s", j->dir, name) < 0)
        return err_set(e, "protocol", "the name of a member is too long");
    return 0;
}

static int place_entry(const struct job *j, struct archive_entry *entry,
                       struct err *e)
{
    char path[4096];
    const char *link = archive_entry_hardlink(entry);
    mode_t type = archive_entry_filetype(entry);
    if (check_name(archive_entry_pathname(entry), e) < 0 ||
        (link && check_name(link, e) < 0))
        return -1;
    if (!link && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return err_set(e, "protocol",
                       "\"%.200s\" is neither a file nor a folder nor a link",
                       archive_entry_pathname(entry));
    if (link) {
        if (place(j, link, path, sizeof(path), e) < 0)
            return -1;
        archive_entry_set_hardlink(entry, path);
    }
    if (place(j, archive_entry_pathname(entry), path, sizeof(path), e) < 0)
        return -1;
    archive_entry_set_pathname(entry, path);
    archive_entry_set_perm(entry, archive_entry_perm(entry) & 0777);
    return 0;
}

static int copy_data(struct job *j, const char *name, struct err *e)
{
    const void *p;
    size_t n;
    la_int64_t at;
    for (;;) {
        int r = archive_read_data_block(j->in, &p, &n, &at);
        if (r == ARCHIVE_EOF)
            return 0;
        if (r < ARCHIVE_WARN)
            return bad(e, j->in, name);
        if (archive_write_data_block(j->out, p, n, at) < ARCHIVE_WARN)
            return bad(e, j->out, name);
    }
}

static int copy_entries(struct job *j, struct err *e)
{
    struct archive_entry *entry;
    for (;;) {
        int r = archive_read_next_header(j->in, &entry);
        if (r == ARCHIVE_EOF)
            return 0;
        if (r < ARCHIVE_WARN)
            return bad(e, j->in, "the archive is damaged");
        if (place_entry(j, entry, e) < 0)
            return -1;
        const char *name = archive_entry_pathname(entry);
        if (archive_write_header(j->out, entry) < ARCHIVE_WARN)
            return bad(e, j->out, name);
        if (copy_data(j, name, e) < 0)
            return -1;
        if (archive_write_finish_entry(j->out) < ARCHIVE_WARN)
            return bad(e, j->out, name);
        j->files++;
    }
}

static int run(struct job *j, const char *path, struct err *e)
{
    if (archive_read_support_format_tar(j->in) != ARCHIVE_OK ||
        archive_read_support_format_empty(j->in) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(j->in) != ARCHIVE_OK)
        return bad(e, j->in, "reading archives");
    archive_write_disk_set_options(j->out, ARCHIVE_EXTRACT_TIME |
                                               ARCHIVE_EXTRACT_PERM |
                                               ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                                               ARCHIVE_EXTRACT_SECURE_NODOTDOT);
    if (archive_read_open_filename(j->in, path, BLOCK) != ARCHIVE_OK)
        return bad(e, j->in, path);
    if (copy_entries(j, e) < 0)
        return -1;
    /* folders get their modes and times now */
    if (archive_write_close(j->out) < ARCHIVE_WARN)
        return bad(e, j->out, j->dir);
    return 0;
}

int unpack_tar(const char *path, const char *dir, uint64_t *files,
               struct err *e)
{
    char real[PATH_MAX];
    if (mkdir(dir, 0777) < 0 && errno != EEXIST)
        return err_errno(e, NULL, "cannot make %s", dir);
    /* the way to the folder is the caller's own and may have links */
    if (!realpath(dir, real))
        return err_errno(e, NULL, "%s", dir);
    struct job j = {archive_read_new(), archive_write_disk_new(), real, 0};
    int r = j.in && j.out ? run(&j, path, e)
                          : err_set(e, "internal", "not enough memory");
    archive_read_free(j.in);
    archive_write_free(j.out);
    *files = j.files;
    return r;
}
