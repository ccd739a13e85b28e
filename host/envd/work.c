/* Worker threads of envd. See work.h. */
#include "work.h"
#include "base/mem.h"
#include "envd.h"

#include <stdbool.h>
#include <stdlib.h>

enum { WORK_THREADS = 4 };

struct work {
    struct job_pool *pool;
    struct loop_watch *watch; /* only while a job is out */
    unsigned out;
    bool closing;
};

/* One job on its way, so that the count is kept whoever owns the job. */
struct item {
    struct job job;
    struct job *inner;
    struct work *work;
};

static void item_run(struct job *j)
{
    struct item *it = (struct item *)j;
    it->inner->run(it->inner);
}

static void item_done(struct job *j)
{
    struct item *it = (struct item *)j;
    struct job *inner = it->inner;
    it->work->out--;
    free(it);
    inner->done(inner);
}

static void ready(void *arg, unsigned events)
{
    struct work *w = arg;
    (void)events;
    job_drain(w->pool);
    if (w->out == 0) {
        loop_watch_stop(w->watch);
        w->watch = NULL;
    }
}

static struct work *start(struct err *e)
{
    struct work *w = mem_alloc(sizeof(*w));
    w->pool = job_pool_new(WORK_THREADS, e);
    if (w->pool)
        return w;
    free(w);
    return NULL;
}

int work_submit(struct envd *v, struct job *j, struct err *e)
{
    if (!v->work && !(v->work = start(e)))
        return err_wrap(e, "start worker threads");
    struct work *w = v->work;
    if (w->closing)
        return err_set(e, "unavailable", "the sandbox is ending");
    if (!w->watch) {
        w->watch =
            loop_watch(v->loop, job_pool_fd(w->pool), LOOP_READ, ready, w, e);
        if (!w->watch)
            return -1;
    }
    struct item *it = mem_alloc(sizeof(*it));
    it->job.run = item_run;
    it->job.done = item_done;
    it->inner = j;
    it->work = w;
    w->out++;
    job_submit(w->pool, &it->job);
    return 0;
}

void work_free(struct envd *v)
{
    struct work *w = v->work;
    if (!w)
        return;
    loop_watch_stop(w->watch);
    w->watch = NULL;
    w->closing = true; /* a done may want to submit more */
    job_pool_free(w->pool);
    free(w);
    v->work = NULL;
}
