/* Worker threads for what takes over 1 ms. See job.h. */
#include "job.h"
#include "fd.h"
#include "mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
    struct job *first, **last;
};

struct job_pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue todo, done;
    bool closing;
    int event;
    int threads;
    pthread_t ids[16];
};

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_put(struct queue *q, struct job *j)
{
    j->next = NULL;
    *q->last = j;
    q->last = &j->next;
}

static struct job *queue_take(struct queue *q)
{
    struct job *j = q->first;
    if (j) {
        q->first = j->next;
        if (!q->first)
            q->last = &q->first;
    }
    return j;
}

static void *work(void *arg)
{
    struct job_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->todo.first && !p->closing)
            pthread_cond_wait(&p->more, &p->lock);
        if (p->closing)
            break;
        struct job *j = queue_take(&p->todo);
        pthread_mutex_unlock(&p->lock);
        j->run(j);
        pthread_mutex_lock(&p->lock);
        /* Whoever drains what is there already sees this one, too. */
        bool tell = !p->done.first;
        queue_put(&p->done, j);
        pthread_mutex_unlock(&p->lock);
        if (tell) {
            uint64_t one = 1;
            ssize_t r = write(p->event, &one, sizeof(one));
            (void)r;
        }
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct job_pool *job_pool_new(int threads, struct err *e)
{
    struct job_pool *p = mem_alloc(sizeof(*p));
    int max = (int)(sizeof(p->ids) / sizeof(p->ids[0]));
    queue_init(&p->todo);
    queue_init(&p->done);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    p->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->event < 0) {
        err_errno(e, NULL, "eventfd");
        free(p);
        return NULL;
    }
    /* Signals belong to the loop's thread. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->threads < threads && p->threads < max &&
           pthread_create(&p->ids[p->threads], NULL, work, p) == 0)
        p->threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (p->threads == 0) {
        err_set(e, "internal", "cannot start a worker thread");
        job_pool_free(p);
        return NULL;
    }
    return p;
}

void job_pool_free(struct job_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->threads; i++)
        pthread_join(p->ids[i], NULL);
    struct job *j;
    while ((j = queue_take(&p->todo)))
        queue_put(&p->done, j);
    job_drain(p);
    fd_close(&p->event);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int job_pool_fd(const struct job_pool *p)
{
    return p->event;
}

void job_submit(struct job_pool *p, struct job *j)
{
    pthread_mutex_lock(&p->lock);
    queue_put(&p->todo, j);
    pthread_mutex_unlock(&p->lock);
    /* Only now: the worker would wake up to wait for the lock. */
    pthread_cond_signal(&p->more);
}

unsigned job_drain(struct job_pool *p)
{
    uint64_t n;
    ssize_t r = read(p->event, &n, sizeof(n));
    (void)r;
    for (unsigned count = 0;; count++) {
        pthread_mutex_lock(&p->lock);
        struct job *j = queue_take(&p->done);
        pthread_mutex_unlock(&p->lock);
        if (!j)
            return count;
        j->done(j);
    }
}
