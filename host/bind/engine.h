/* What the files of the Lua module e2b_engine share. Each adds its functions to
 * the module's table on top of the stack. */
#ifndef E2B_ENGINE_H
#define E2B_ENGINE_H

#include <lua.h>

void engine_store_open(lua_State *L);    /* store() */
void engine_proxy_open(lua_State *L);    /* proxy() */
void engine_box_open(lua_State *L);      /* launch(), adopt(), kill() */
void engine_layers_open(lua_State *L);   /* layers, trees */
void engine_gc_open(lua_State *L);       /* leases, gc() */
void engine_host_open(lua_State *L);     /* disks, descriptors, strays() */
void engine_image_open(lua_State *L);    /* image_make() */
void engine_egress_open(lua_State *L);   /* egress(), egress_policy() */
void engine_probe_open(lua_State *L);    /* probe_...() for doctor */
void engine_rootless_open(lua_State *L); /* rootless_...() */

const char *engine_grade(int grade); /* name of an enum rootless_grade */

struct netns_sockets;
/* Of the box at idx (raises else), still the box's own. */
struct netns_sockets *engine_box_sockets(lua_State *L, int idx);

#endif
