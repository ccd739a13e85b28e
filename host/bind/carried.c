/* require "e2b_carried": the files that the program carries: stdlib, scripts,
 * templates, tapes. */
#include "find.h"
#include "lutil.h"

int luaopen_e2b_carried(lua_State *L);

/* read(path in the project) -> text | nil */
static int l_read(lua_State *L)
{
    const struct embed_file *f = find_carried(luaL_checkstring(L, 1));
    if (f)
        lua_pushlstring(L, (const char *)f->data, f->size);
    else
        lua_pushnil(L);
    return 1;
}

int luaopen_e2b_carried(lua_State *L)
{
    static const luaL_Reg functions[] = {{"read", l_read}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
