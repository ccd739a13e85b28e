/* Work that takes over 1 ms runs here: a few own threads, C only, no Lua.
 * run() executes on a worker; done() is called by job_drain, which the owner
 * calls on its loop thread whenever job_fd is readable. */
#ifndef E2B_JOB_H
#define E2B_JOB_H

#include "err.h"

struct job {
    void (*run)(struct job *j);  /* worker thread */
    void (*done)(struct job *j); /* loop thread; may free j */
    struct job *next;            /* the queue's */
};

struct job_pool;
struct job_pool *job_pool_new(int threads, struct err *e);
/* Waits for running jobs, drops queued ones (done is called for all). */
void job_pool_free(struct job_pool *p);
int job_pool_fd(const struct job_pool *p); /* eventfd, poll for reading */
void job_submit(struct job_pool *p, struct job *j);
unsigned job_drain(struct job_pool *p); /* how many were done */

#endif
