/* A C job that a Lua task waits for: work on a worker thread, results on the
 * loop. A task that is cancelled meanwhile abandons the job: its memory lives
 * until the worker is through, then release gives back what it made. */
#ifndef E2B_LJOB_H
#define E2B_LJOB_H

#include "base/job.h"
#include "task.h"

#include <lua.h>

struct ljob {
    struct job job;
    struct task_wait wait;
    void (*run)(struct ljob *j);     /* worker thread; no Lua */
    void (*release)(struct ljob *j); /* loop thread; frees what j holds */
    struct err e;
    int rc; /* < 0: e is filled */
    bool submitted, done, abandoned;
};

/* Pushes an owner of a zeroed structure of size bytes that begins with a struct
 * ljob. Fill it (no Lua error may leak what is stored in it: release sees it),
 * then ljob_start. */
struct ljob *ljob_new(lua_State *L, size_t size, void (*run)(struct ljob *j),
                      void (*release)(struct ljob *j));
/* return ljob_start(L, j, k): runs j; k gets j as its context when it is done.
 * The owner must stay on the stack until k returns. */
int ljob_start(lua_State *L, struct ljob *j, lua_KFunction k);

#endif
