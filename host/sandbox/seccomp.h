/* The system call filter of a sandbox. The table is made at build time by
 * seccomp_gen.c; what it refuses and why stands there. */
#ifndef E2B_SECCOMP_H
#define E2B_SECCOMP_H

/* Loads the filter into the calling thread; needs CAP_SYS_ADMIN in its user
 * namespace (no_new_privs stays off, or sudo would not work inside).
 * Async-signal-safe. 0, or -1 with errno. */
int seccomp_load_table(void);
/* Likewise: from now on calls that change owners or ids do nothing and succeed,
 * for namespaces with one id. */
int seccomp_load_fakes(void);

#endif
