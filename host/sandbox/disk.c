/* Images, loop devices, detached mounts. See disk.h. */
#include "disk.h"

#include "base/child.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef FICLONE
#define FICLONE _IOW(0x94, 9, int)
#endif

enum { MKFS_MS = 60000, LOOP_TRIES = 100, PATH_CAP = 4096 };

/* ---- choosing -------------------------------------------------------------
 */

static const char *find_mkfs(void)
{
    static const char *const places[] = {
        "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/local/sbin/mkfs.ext4"};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

void disk_look(struct disk_facts *f)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    char *kinds =
        path_read_file(AT_FDCWD, "/proc/filesystems", 65536, NULL, NULL);
    struct rootless_ids ids;
    rootless_ids(&ids);
    f->root = geteuid() == 0 && ids.grade == ROOTLESS_NOT;
    f->loop = access("/dev/loop-control", R_OK | W_OK) == 0;
    f->ext4 = kinds && strstr(kinds, "\text4\n");
    f->mkfs = find_mkfs() != NULL;
    if (uname(&u) == 0) {
        char *end;
        major = (unsigned)strtoul(u.release, &end, 10);
        minor = *end == '.' ? (unsigned)strtoul(end + 1, NULL, 10) : 0;
    }
    f->tmpfs_xattr = major > 6 || (major == 6 && minor >= 6);
    free(kinds);
}

static uint64_t half_of_memory(const struct disk_facts *f)
{
    struct sysinfo s;
    if (f->memory_bytes)
        return f->memory_bytes / 2;
    return sysinfo(&s) == 0 ? (uint64_t)s.totalram * s.mem_unit / 2 : 0;
}

enum disk_kind disk_choose(const struct disk_facts *f, char *why, size_t cap)
{
    const char *lack = !f->root   ? "only root may mount an image"
                       : !f->loop ? "there is no usable /dev/loop-control; "
                                    "load the module loop, or give the "
                                    "container the device"
                       : !f->ext4 ? "the kernel has no ext4; load its module"
                       : !f->mkfs ? "there is no mkfs.ext4; install e2fsprogs"
                                  : NULL;
    if (!lack)
        return DISK_LOOP;
    if (f->tmpfs_xattr && f->bytes <= half_of_memory(f))
        return DISK_TMPFS;
    str_fmt(why, cap, "%s; in memory, %s", lack,
            f->tmpfs_xattr ? "it would take more than half of it"
                           : "an overlay needs Linux 6.6");
    return DISK_NONE;
}

/* ---- an empty image of each size ------------------------------------------
 */

/* No journal: the layer ends with the sandbox. */
static int run_mkfs(const char *path, struct err *e)
{
    const char *mkfs = find_mkfs();
    const char *const args[] = {
        "mkfs.ext4", "-Fq",
        "-m",        "0",
        "-b",        "4096",
        "-i",        "8192",
        "-O",        "^has_journal,^resize_inode",
        "-E",        "lazy_itable_init=1,nodiscard,root_owner=0:0",
        path,        NULL};
    char *env[] = {NULL};
    pid_t pid;
    if (!mkfs)
        return err_set(e, "unsupported",
                       "there is no mkfs.ext4; install e2fsprogs");
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    int code =
        posix_spawn(&pid, mkfs, &fa, NULL, (char *const *)(size_t)args, env);
    posix_spawn_file_actions_destroy(&fa);
    if (code) {
        errno = code;
        return err_errno(e, NULL, "cannot start %s", mkfs);
    }
    code = child_await(pid, MKFS_MS);
    return code == 0 ? 0
                     : err_set(e, "internal", "%s of %s failed (%d)", mkfs,
                               path, code);
}

/* So much larger than what is to be free inside: inodes and bitmaps. */
static uint64_t image_bytes(uint64_t bytes)
{
    uint64_t all = bytes + bytes / 30 + ((uint64_t)2 << 20);
    return all & ~(uint64_t)4095;
}

/* A file without a name until it is complete: whoever dies here leaves none. */
static int make_seed(const char *seeds, const char *path, uint64_t bytes,
                     struct err *e)
{
    char name[48];
    int fd = open(seeds, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)image_bytes(bytes)) < 0) {
        err_errno(e, NULL, "cannot make an image in %s", seeds);
    } else {
        str_fmt(name, sizeof(name), "/proc/%d/fd/%d", (int)getpid(), fd);
        int r = run_mkfs(name, e);
        if (r == 0 &&
            (linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 ||
             errno == EEXIST))
            return fd;
        if (r == 0)
            err_errno(e, NULL, "cannot make the image %s", path);
    }
    fd_close(&fd);
    return -1;
}

static int open_seed(const char *seeds, uint64_t bytes, struct err *e)
{
    char path[PATH_CAP];
    if (mkdir(seeds, 0700) < 0 && errno != EEXIST)
        return err_errno(e, NULL, "cannot make the folder %s", seeds);
    if (str_fmt(path, sizeof(path), "%s/%llu.img", seeds,
                (unsigned long long)(bytes >> 20)) < 0)
        return err_set(e, "invalid_argument", "the path %s is too long", seeds);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    return errno == ENOENT ? make_seed(seeds, path, bytes, e)
                           : err_errno(e, NULL, "cannot open %s", path);
}

/* Only what is data: a file system of 10 GiB that is empty is a few hundred
 * KiB. */
static int copy_data(int from, int to, off_t size, struct err *e)
{
    off_t at = 0;
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(from, at, SEEK_HOLE), out = at;
        while (at < end) {
            ssize_t n =
                copy_file_range(from, &at, to, &out, (size_t)(end - at), 0);
            if (n <= 0)
                return err_errno(e, NULL, "cannot copy the empty image");
        }
    }
    if (errno != ENXIO || ftruncate(to, size) < 0)
        return err_errno(e, NULL, "cannot copy the empty image");
    return 0;
}

static int make_image(const char *seeds, const char *image, uint64_t bytes,
                      struct err *e)
{
    FD_AUTO int from = open_seed(seeds, bytes, e);
    struct stat st;
    if (from < 0)
        return -1;
    FD_AUTO int to = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0 || fstat(from, &st) < 0)
        return err_errno(e, NULL, "cannot make the image %s", image);
    if (ioctl(to, FICLONE, from) < 0 && copy_data(from, to, st.st_size, e) < 0)
        return -1;
    return fd_take(&to);
}

/* ---- the loop device ------------------------------------------------------
 */

/* Another may take the free one in between. */
static int attach(int image, char *name, size_t cap, struct err *e)
{
    struct loop_config c = {
        .fd = (uint32_t)image,
        .block_size = 4096,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR},
    };
    FD_AUTO int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return err_errno(e, NULL, "cannot open /dev/loop-control");
    for (int i = 0; i < LOOP_TRIES; i++) {
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        if (n < 0)
            return err_errno(e, NULL, "no free loop device");
        str_fmt(name, cap, "/dev/loop%d", n);
        int fd = open(name, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) == 0)
            return fd;
        int saved = errno;
        fd_close(&fd);
        errno = saved;
        if (errno != EBUSY && errno != ENXIO && errno != ENOENT)
            break;
    }
    return err_errno(e, NULL, "cannot set up %s", name);
}

/* What is deleted goes back to the host; nothing waits for the host's disk, as
 * nobody will look at the image after the sandbox. */
static int mount_detached(const char *device, struct err *e)
{
    FD_AUTO int fs = (int)syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC);
    int fd = -1;
    if (fs >= 0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", device, 0) ==
            0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "discard", NULL, 0) == 0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "nobarrier", NULL, 0) ==
            0 &&
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
    return fd < 0 ? err_errno(e, NULL, "cannot mount %s as ext4", device) : fd;
}

int disk_open(const char *seeds, const char *image, uint64_t bytes,
              struct err *e)
{
    char name[32];
    FD_AUTO int file = make_image(seeds, image, bytes, e);
    if (file < 0)
        return -1;
    FD_AUTO int loop = attach(file, name, sizeof(name), e);
    int fd = loop < 0 ? -1 : mount_detached(name, e);
    if (fd < 0)
        (void)unlink(image);
    return fd;
}
