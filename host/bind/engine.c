/* The Lua module e2b_engine: the kernel side for stdlib/engine. A link unit of
 * its own, loaded by the daemon only. */
#include "engine.h"

#include <lauxlib.h>

int luaopen_e2b_engine(lua_State *L);
int luaopen_e2b_engine(lua_State *L)
{
    lua_newtable(L);
    engine_store_open(L);
    engine_proxy_open(L);
    engine_box_open(L);
    engine_layers_open(L);
    engine_gc_open(L);
    engine_host_open(L);
    engine_image_open(L);
    engine_egress_open(L);
    engine_probe_open(L);
    engine_rootless_open(L);
    return 1;
}
