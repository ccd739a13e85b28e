/* Helpers every binding uses. */
#ifndef E2B_LUTIL_H
#define E2B_LUTIL_H

#include "base/buf.h"
#include "base/err.h"

#include <lauxlib.h>
#include <lua.h>

/* The class of stdlib/e2b/error.lua; made by whoever raises first. */
#define LUTIL_ERROR_CLASS "e2b.Error"

/* Pushes an e2b.Error object made of *e (kind, message, errno). */
void lutil_push_err(lua_State *L, const struct err *e);
/* return lutil_fail(L, &e): pushes nil and the error object, returns 2. */
int lutil_fail(lua_State *L, const struct err *e);
/* return lutil_answer(L, r, &e): true, or as lutil_fail when r < 0. */
int lutil_answer(lua_State *L, int r, const struct err *e);
/* Raises an e2b.Error of that kind; for programming mistakes. */
int lutil_raise(lua_State *L, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));
/* New class: metatable named name with meta (__gc, __close, ...), __index =
 * methods. Leaves nothing on the stack. */
void lutil_class(lua_State *L, const char *name, const luaL_Reg *meta,
                 const luaL_Reg *methods);
/* Calls the function below nargs values protected, with a traceback kept; 0 or
 * -1 with the error value left on the stack. For callbacks from C. */
int lutil_call(lua_State *L, int nargs, int nresults);
/* Options table helpers: field of t at idx, with type check and a clear error
 * naming the field; dflt when nil. */
long long lutil_opt_int(lua_State *L, int idx, const char *field,
                        long long dflt);
const char *lutil_opt_str(lua_State *L, int idx, const char *field,
                          const char *dflt);
int lutil_opt_bool(lua_State *L, int idx, const char *field, int dflt);
/* Raises for a key of the options table at idx that is not in the NULL-ended
 * list; also when it is no table. */
void lutil_check_options(lua_State *L, int idx, const char *const *names);
/* Pushes a userdata that owns the empty buffer it returns. */
struct buf *lutil_buf(lua_State *L);
/* A string argument without NUL bytes: a path, a name. Raises else. */
const char *lutil_check_text(lua_State *L, int idx);

#endif
