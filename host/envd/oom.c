/* Reads memory.events (v2) or memory.oom_control (v1). See oom.h. */
#include "oom.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint64_t oom_count(const struct oom *o)
{
    char text[512];
    ssize_t n =
        o->limit_mb && o->fd >= 0 ? pread(o->fd, text, sizeof(text) - 1, 0) : 0;
    text[n > 0 ? n : 0] = '\0';
    /* A line of its own: oom_kill_disable and oom_group_kill are others. */
    const char *at = strstr(text, "oom_kill ");
    return at ? strtoull(at + strlen("oom_kill "), NULL, 10) : 0;
}

bool oom_tell(struct oom *o, uint64_t before)
{
    uint64_t now = oom_count(o);
    if (now <= before || now <= o->told)
        return false;
    o->told = now;
    return true;
}
