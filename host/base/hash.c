/* SHA-256 by OpenSSL. See hash.h. */
#include "hash.h"
#include "mem.h"
#include "str.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

struct hash {
    EVP_MD_CTX *ctx;
};

struct hash *hash_new(void)
{
    struct hash *h = mem_alloc(sizeof(*h));
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
        abort();
    return h;
}

void hash_free(struct hash *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void hash_update(struct hash *h, const void *p, size_t n)
{
    if (EVP_DigestUpdate(h->ctx, p, n) != 1)
        abort();
}

void hash_final(struct hash *h, char out[65])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(h->ctx, md, &n) != 1 || n != 32)
        abort();
    str_hex(out, md, n);
}

void hash_hex(const void *p, size_t n, char out[65])
{
    struct hash *h = hash_new();
    hash_update(h, p, n);
    hash_final(h, out);
    hash_free(h);
}

int hash_fd(struct hash *h, int fd, struct err *e)
{
    char buf[32 * 1024];
    ssize_t r;
    while ((r = read(fd, buf, sizeof(buf))) != 0) {
        if (r > 0)
            hash_update(h, buf, (size_t)r);
        else if (errno != EINTR)
            break;
    }
    return r < 0 ? err_errno(e, NULL, "read") : 0;
}
