/* Build-time program: prints the system call filters as C tables.
 *
 * Every call whose number is over LAST_KNOWN answers ENOSYS, so the set that
 * DENIED was read against is closed; programs then take their older way.
 * Refused is what Docker's default profile refuses to a container without
 * CAP_SYS_ADMIN, and socket families that nothing in a sandbox needs. clone3
 * answers ENOSYS, because its flags lie in memory a filter cannot read: libc
 * falls back to clone, whose flags are filtered.
 *
 * The second table is for namespaces with one id only: what would change owners
 * or ids, or make a device, does nothing and says that it went well, or dpkg
 * and tar could not work there. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LAST_KNOWN = 456 }; /* futex_requeue; numbers from 424 on are common */

static const char *const DENIED[] = {
    /* mounts and namespaces */
    "mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree",
    "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "setns",
    "quotactl", "quotactl_fd", "swapon", "swapoff", "sysfs", "ustat",
    /* the machine: modules, kernels, clocks, ports, names, logs */
    "init_module", "finit_module", "delete_module", "create_module",
    "query_module", "get_kernel_syms", "kexec_load", "kexec_file_load",
    "reboot", "settimeofday", "stime", "clock_settime", "clock_settime64",
    "iopl", "ioperm", "sethostname", "setdomainname", "syslog", "acct",
    "vhangup",
    /* large attack surface, or not kept apart by namespaces */
    "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key",
    "fanotify_init", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "lookup_dcookie", "open_by_handle_at", "kcmp", "pidfd_getfd",
    "process_madvise", "map_shadow_stack",
    /* memory placement */
    "mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node",
    "migrate_pages", "move_pages",
    /* gone or never there */
    "_sysctl", "afs_syscall", "getpmsg", "nfsservctl", "putpmsg", "security",
    "tuxcall", "uselib", "vserver"};

static const char *const FAKED[] = {
    "chown",    "fchown",   "lchown",    "fchownat",  "setuid",
    "setgid",   "setreuid", "setregid",  "setresuid", "setresgid",
    "setfsuid", "setfsgid", "setgroups", "capset"};

enum {
    NEW_NAMESPACES = 0x7e020000, /* NS CGROUP UTS IPC USER PID NET */
    NEW_TIME = 0x80,             /* clone's low byte is a signal instead */
};

static void instruction(uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
    printf("    {0x%02x, %u, %u, 0x%08x},\n", code, jt, jf, k);
}

static void load(size_t offset)
{
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void answer(uint32_t action)
{
    instruction(BPF_RET | BPF_K, 0, 0, action);
}

/* The kernel reads these arguments as 32 bits; so must the filter. */
static void load_arg0(void)
{
    bool big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    load(offsetof(struct seccomp_data, args) + (big ? 4 : 0));
}

static uint32_t number(const char *name)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr < 0) {
        fprintf(stderr, "seccomp_gen: no system call '%s' here\n", name);
        exit(1);
    }
    return (uint32_t)nr;
}

/* Accumulator: the call's number, and still so for whatever follows. */
static void refuse_flags(const char *name, uint32_t flags)
{
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, number(name));
    load_arg0();
    instruction(BPF_JMP | BPF_JSET | BPF_K, 0, 1, flags);
    answer(SECCOMP_RET_ERRNO | EPERM);
    answer(SECCOMP_RET_ALLOW);
}

static void only_values(const char *name, const uint32_t *v, uint8_t n, int err)
{
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(n + 3), number(name));
    load_arg0();
    for (uint8_t i = 0; i < n; i++)
        instruction(BPF_JMP | BPF_JEQ | BPF_K, (uint8_t)(n - i), 0, v[i]);
    answer(SECCOMP_RET_ERRNO | (uint32_t)err);
    answer(SECCOMP_RET_ALLOW);
}

static void print_conditions(void)
{
    static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK,
                                        AF_PACKET};
    /* PER_LINUX, PER_LINUX32, both with UNAME26, and the question */
    static const uint32_t personalities[] = {0, 8, 0x20000, 0x20008,
                                             0xffffffff};
    load(offsetof(struct seccomp_data, arch));
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, seccomp_arch_native());
    answer(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(struct seccomp_data, nr));
    instruction(BPF_JMP | BPF_JGT | BPF_K, 0, 1, LAST_KNOWN);
    answer(SECCOMP_RET_ERRNO | ENOSYS);
    refuse_flags("clone", NEW_NAMESPACES);
    refuse_flags("unshare", NEW_NAMESPACES | NEW_TIME);
    only_values("socket", families, 5, EAFNOSUPPORT);
    only_values("personality", personalities, 5, EPERM);
}

static int add_rules(scmp_filter_ctx f)
{
    for (size_t i = 0; i < sizeof(DENIED) / sizeof(*DENIED); i++) {
        int nr = seccomp_syscall_resolve_name(DENIED[i]);
        if (nr < 0) /* not on this machine */
            continue;
        if (seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), nr, 0) < 0) {
            fprintf(stderr, "seccomp_gen: no rule for %s\n", DENIED[i]);
            return -1;
        }
    }
    return seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), (int)number("clone3"),
                            0);
}

static int print_rules(void)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int fd = memfd_create("table", MFD_CLOEXEC);
    if (!f || fd < 0 || seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0 ||
        add_rules(f) < 0 || seccomp_export_bpf(f, fd) < 0 ||
        lseek(fd, 0, SEEK_SET) < 0) {
        fprintf(stderr, "seccomp_gen: libseccomp refuses the rules\n");
        return -1;
    }
    struct sock_filter i;
    while (read(fd, &i, sizeof(i)) == (ssize_t)sizeof(i))
        instruction(i.code, i.jt, i.jf, i.k);
    close(fd);
    seccomp_release(f);
    return 0;
}

/* A device node; pipes and sockets are made. */
static void fake_device(const char *name, int mode_arg)
{
    bool big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    int nr = seccomp_syscall_resolve_name(name);
    if (nr < 0)
        return;
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, (uint32_t)nr);
    load(offsetof(struct seccomp_data, args) + 8 * (size_t)mode_arg +
         (big ? 4 : 0));
    instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, S_IFMT);
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, S_IFCHR);
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, S_IFBLK);
    answer(SECCOMP_RET_ERRNO);
    answer(SECCOMP_RET_ALLOW);
}

static void print_fakes(void)
{
    load(offsetof(struct seccomp_data, arch));
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, seccomp_arch_native());
    answer(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof(FAKED) / sizeof(*FAKED); i++) {
        int nr = seccomp_syscall_resolve_name(FAKED[i]);
        if (nr < 0)
            continue;
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)nr);
        answer(SECCOMP_RET_ERRNO);
    }
    fake_device("mknod", 1);
    fake_device("mknodat", 2);
    answer(SECCOMP_RET_ALLOW);
}

int main(void)
{
    printf("/* Made by seccomp_gen. */\n"
           "static const struct sock_filter SECCOMP_TABLE[] = {\n");
    print_conditions();
    if (print_rules() < 0)
        return 1;
    printf("};\n"
           "static const struct sock_filter SECCOMP_FAKES[] = {\n");
    print_fakes();
    printf("};\n");
    return fflush(stdout) ? 1 : 0;
}
