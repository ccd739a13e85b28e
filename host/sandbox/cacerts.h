/* Certificate authorities that this machine trusts beyond the distribution's:
 * companies and local proxies re-sign TLS, and what runs in a sandbox must
 * trust them too. */
#ifndef E2B_CACERTS_H
#define E2B_CACERTS_H

#include "base/buf.h"
#include "base/err.h"

struct cacerts_paths {
    const char *local;  /* *.crt that the machine's owner added */
    const char *distro; /* **.crt of the distribution */
    const char *bundle; /* everything that is trusted */
};

/* The machine's own paths. */
extern const struct cacerts_paths cacerts_system;

/* Appends as PEM, sorted and without repetition: what is in local, and what is
 * in the bundle but not in distro (no distro folder: nothing of the bundle).
 * Missing files are fine. */
int cacerts_extra(const struct cacerts_paths *p, struct buf *pem,
                  struct err *e);

#endif
