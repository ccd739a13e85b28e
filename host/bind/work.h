/* A C function that Lua calls and a worker thread executes, while the calling
 * task waits. Use:
 *     struct my *m = work_new(L, sizeof(*m), &my_class);   (struct work first)
 *     m->path = mem_strdup(...);
 *     return work_call(L, &m->work);
 * When the task is cancelled the worker still ends; nobody hears of it. */
#ifndef E2B_WORK_H
#define E2B_WORK_H

#include "task.h"

struct work;

struct work_class {
    /* Worker thread, no Lua: 0, or -1 with *e filled. */
    int (*run)(struct work *w, struct err *e);
    /* Pushes the results of a run that did not fail; returns how many. */
    int (*push)(lua_State *L, struct work *w);
    /* Frees what the fields own, not *w; NULL: nothing. */
    void (*fini)(struct work *w);
};

struct work_call;

struct work {
    struct job job;
    const struct work_class *class;
    struct work_call *owner; /* NULL: given up */
    struct err e;
    int result;
};

/* The push of a run that has nothing to tell but that it did not fail. */
int work_push_true(lua_State *L, struct work *w);
/* Zeroed memory of that size, owned by the userdata it pushes. */
void *work_new(lua_State *L, size_t size, const struct work_class *c);
/* The userdata of work_new must be on top. Raises cannot_wait where waiting is
 * impossible; a failed run gives nil, err. */
int work_call(lua_State *L, struct work *w);

#endif
