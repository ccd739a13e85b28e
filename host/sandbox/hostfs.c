/* File systems below the engine's home and cache. See hostfs.h. */
#include "hostfs.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Those on which sandboxes cannot be laid: overlayfs wants renames, whiteouts
 * and attributes from its upper folder, the launcher wants to map its ids, and
 * SQLite wants locks that hold. */
static const struct {
    uint64_t type;
    const char *name;
} UNFIT[] = {
    {OVERLAYFS_SUPER_MAGIC, "overlay (the file system of a container)"},
    {NFS_SUPER_MAGIC, "NFS"},
    {SMB_SUPER_MAGIC, "SMB"},
    {CIFS_SUPER_MAGIC, "CIFS"},
    {SMB2_SUPER_MAGIC, "SMB"},
    {V9FS_MAGIC, "9p"},
    {FUSE_SUPER_MAGIC, "FUSE"},
    {AFS_SUPER_MAGIC, "AFS"},
    {CEPH_SUPER_MAGIC, "Ceph"},
    {MSDOS_SUPER_MAGIC, "FAT"},
    {EXFAT_SUPER_MAGIC, "exFAT"},
    {0x7366746e, "NTFS"},
    {0x858458f6, "ramfs"},
    {0xf15f, "eCryptfs"},
};

static void add_space(struct hostfs_facts *f, const struct statvfs *v)
{
    f->read_only = (v->f_flag & ST_RDONLY) != 0;
    f->free_bytes = (uint64_t)v->f_bavail * v->f_frsize;
    f->free_files = v->f_files ? v->f_favail : UINT64_MAX;
}

/* Some file systems have no unnamed files, hence one with a name. */
static void try_file(const char *path, struct hostfs_facts *f)
{
    size_t cap = strlen(path) + 32;
    char *name = mem_alloc(cap);
    (void)str_fmt(name, cap, "%s/.e2blua-XXXXXX", path);
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        f->write_errno = errno;
    } else {
        unlink(name);
        if (write(fd, "x", 1) != 1)
            f->write_errno = errno;
        if (fsetxattr(fd, "user.e2blua", "x", 1, 0))
            f->xattr_errno = errno;
        fd_close(&fd);
    }
    free(name);
}

int hostfs_gather(const char *path, struct hostfs_facts *f, struct err *e)
{
    struct statfs fs;
    struct statvfs v;
    memset(f, 0, sizeof(*f));
    if (statfs(path, &fs) || statvfs(path, &v))
        return err_errno(e, NULL, "%s", path);
    f->type = (uint64_t)fs.f_type & 0xffffffff;
    add_space(f, &v);
    try_file(path, f);
    return 0;
}

static int no_room(const struct hostfs_facts *f, const char *path,
                   struct err *e)
{
    if (f->free_bytes < (uint64_t)HOSTFS_MIN_MIB << 20)
        return err_set(e, "not_enough_space",
                       "%.1f MiB are free on the file system of %s, at least "
                       "%d are needed: make room there, or collect layers "
                       "(e2blua engine gc)",
                       (double)f->free_bytes / (1 << 20), path, HOSTFS_MIN_MIB);
    if (f->free_files < HOSTFS_MIN_FILES)
        return err_set(e, "not_enough_space",
                       "%llu files can still be made on the file system of "
                       "%s, at least %d are needed: remove some, or collect "
                       "layers (e2blua engine gc)",
                       (unsigned long long)f->free_files, path,
                       HOSTFS_MIN_FILES);
    return 0;
}

int hostfs_judge(const struct hostfs_facts *f, const char *variable,
                 const char *path, struct err *e)
{
    for (size_t i = 0; i < sizeof(UNFIT) / sizeof(*UNFIT); i++)
        if (UNFIT[i].type == f->type)
            return err_set(e, "unsupported",
                           "%s is on %s, where sandboxes cannot be laid: set "
                           "%s to a folder of a local disk (ext4, xfs, btrfs) "
                           "or a tmpfs",
                           path, UNFIT[i].name, variable);
    if (f->read_only || f->write_errno == EROFS)
        return err_set(e, "invalid_argument",
                       "%s is mounted read-only: set %s to a folder that can "
                       "be written",
                       path, variable);
    if (f->write_errno == EACCES || f->write_errno == EPERM)
        return err_set(e, "invalid_argument",
                       "user %u may not write in %s: set %s to a folder of "
                       "this user's, or have its owner changed",
                       (unsigned)rootless_user(), path, variable);
    /* Before what may be the same cause. */
    if (no_room(f, path, e))
        return -1;
    if (f->write_errno) {
        errno = f->write_errno;
        return err_errno(e, NULL, "no file can be made in %s (%s)", path,
                         variable);
    }
    if (f->xattr_errno == EOPNOTSUPP)
        return err_set(e, "unsupported",
                       "the file system of %s keeps no user attributes (a "
                       "tmpfs does since Linux 6.6), which sandboxes need: "
                       "set %s to a folder of a local disk",
                       path, variable);
    return 0;
}

int hostfs_room(const char *path, struct err *e)
{
    struct hostfs_facts f = {0};
    struct statvfs v;
    if (statvfs(path, &v))
        return err_errno(e, NULL, "%s", path);
    add_space(&f, &v);
    return no_room(&f, path, e);
}
