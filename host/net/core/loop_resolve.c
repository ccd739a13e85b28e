/* Name look-ups on threads of their own: libuv's pool has four, and the end of
 * the loop would wait for a look-up that hangs in it. */
#include "base/mem.h"
#include "loop.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ADDRESSES = 16, STACK_BYTES = 256 * 1024 };

/* Belongs to the loop and to the thread; the last one frees it. */
struct loop_resolve {
    pthread_mutex_t lock;
    int refs;
    struct loop_wake *wake; /* NULL: nobody waits any more */
    char *host;
    char *addrs[MAX_ADDRESSES + 1];
    int status; /* of getaddrinfo */
    void (*fn)(void *arg, char **addrs, const struct err *e);
    void *arg;
};

static void drop(struct loop_resolve *r)
{
    pthread_mutex_lock(&r->lock);
    int left = --r->refs;
    pthread_mutex_unlock(&r->lock);
    if (left > 0)
        return;
    for (int i = 0; r->addrs[i]; i++)
        free(r->addrs[i]);
    pthread_mutex_destroy(&r->lock);
    free(r->host);
    free(r);
}

static void keep(struct loop_resolve *r, const struct addrinfo *list)
{
    int n = 0;
    char text[INET6_ADDRSTRLEN];
    for (const struct addrinfo *a = list; a && n < MAX_ADDRESSES;
         a = a->ai_next) {
        const void *ip = NULL;
        if (a->ai_family == AF_INET)
            ip = &((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr;
        else if (a->ai_family == AF_INET6)
            ip = &((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr;
        if (ip && inet_ntop(a->ai_family, ip, text, sizeof(text)))
            r->addrs[n++] = mem_strdup(text);
    }
}

static void *look_up(void *arg)
{
    struct loop_resolve *r = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    r->status = getaddrinfo(r->host, NULL, &hints, &list);
    if (r->status == 0) {
        keep(r, list);
        freeaddrinfo(list);
    }
    pthread_mutex_lock(&r->lock);
    if (r->wake)
        loop_wake_send(r->wake);
    pthread_mutex_unlock(&r->lock);
    drop(r);
    return NULL;
}

static void stop_waiting(struct loop_resolve *r)
{
    pthread_mutex_lock(&r->lock);
    loop_wake_free(r->wake);
    r->wake = NULL;
    pthread_mutex_unlock(&r->lock);
}

static void on_wake(void *arg)
{
    struct loop_resolve *r = arg;
    struct err e;
    stop_waiting(r);
    if (r->status == 0 && r->addrs[0]) {
        r->fn(r->arg, r->addrs, NULL);
    } else {
        bool none = r->status == 0 || r->status == EAI_NONAME ||
                    r->status == EAI_NODATA;
        err_set(&e, none ? "not_found" : "network", "look up %s: %s", r->host,
                r->status ? gai_strerror(r->status) : "no address");
        r->fn(r->arg, NULL, &e);
    }
    drop(r);
}

static int start_thread(struct loop_resolve *r)
{
    pthread_attr_t a;
    pthread_t t;
    sigset_t all, old;
    sigfillset(&all);
    if (pthread_attr_init(&a))
        return -1;
    pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&a, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&t, &a, look_up, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&a);
    return failed ? -1 : 0;
}

struct loop_resolve *loop_resolve(struct loop *l, const char *host,
                                  void (*fn)(void *arg, char **addrs,
                                             const struct err *e),
                                  void *arg, struct err *e)
{
    struct loop_resolve *r = mem_alloc(sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    r->refs = 2;
    r->host = mem_strdup(host);
    r->fn = fn;
    r->arg = arg;
    r->wake = loop_wake_new(l, on_wake, r, e);
    if (r->wake && start_thread(r) == 0)
        return r;
    if (r->wake)
        err_set(e, "internal", "no thread to look up %s", host);
    loop_wake_free(r->wake);
    r->refs = 1;
    drop(r);
    return NULL;
}

void loop_resolve_cancel(struct loop_resolve *r)
{
    if (!r)
        return;
    stop_waiting(r);
    drop(r);
}
