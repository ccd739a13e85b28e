/* C jobs that tasks wait for. See ljob.h. */
#include "ljob.h"
#include "base/mem.h"
#include "lutil.h"

#include <stdlib.h>

#define LJOB_CLASS "e2b.job"

static void ljob_free(struct ljob *j)
{
    j->release(j);
    free(j);
}

static int ljob_gc(lua_State *L)
{
    struct ljob **slot = lua_touserdata(L, 1);
    struct ljob *j = *slot;
    *slot = NULL;
    if (!j)
        return 0;
    task_forget(&j->wait);
    if (j->submitted && !j->done)
        j->abandoned = true;
    else
        ljob_free(j);
    return 0;
}

struct ljob *ljob_new(lua_State *L, size_t size, void (*run)(struct ljob *j),
                      void (*release)(struct ljob *j))
{
    struct ljob **slot = lua_newuserdatauv(L, sizeof(*slot), 0);
    *slot = NULL;
    if (luaL_newmetatable(L, LJOB_CLASS)) {
        lua_pushcfunction(L, ljob_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    struct ljob *j = mem_alloc(size);
    j->run = run;
    j->release = release;
    *slot = j;
    return j;
}

static void on_worker(struct job *job)
{
    struct ljob *j = (struct ljob *)job;
    j->run(j);
}

static void on_done(struct job *job)
{
    struct ljob *j = (struct ljob *)job;
    j->done = true;
    if (j->abandoned)
        ljob_free(j);
    else
        task_wake(&j->wait);
}

int ljob_start(lua_State *L, struct ljob *j, lua_KFunction k)
{
    task_check(L);
    struct job_pool *jobs = task_jobs(L);
    j->job.run = on_worker;
    j->job.done = on_done;
    j->submitted = true;
    job_submit(jobs, &j->job);
    return task_suspend(L, &j->wait, -1, (lua_KContext)j, k);
}
