/* The Lua files and tapes carried by the program, in order of name. */
#ifndef E2B_EMBED_H
#define E2B_EMBED_H

#include <stddef.h>

struct embed_file {
    const char *name; /* path in the project: "stdlib/e2b/error.lua" */
    const unsigned char *data;
    size_t size;
};

extern const struct embed_file embed_files[];
extern const size_t embed_count;

#endif
