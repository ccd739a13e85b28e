/* The base image: made once by mmdebstrap (image_recipe.c), kept in
 * $E2BLUA_CACHE as the first layer. */
#ifndef E2B_IMAGE_H
#define E2B_IMAGE_H

#include "base/err.h"

#include <stdbool.h>

/* Layer id of the base of this recipe and machine (hash of recipe + arch +
 * the machine's extra CAs); that of namespaces with one id is another. */
int image_base_id(bool one_id, char id[65], struct err *e);
/* Progress lines ("stage", 0..100 or -1) come on the calling thread. Makes the
 * image if it is missing: cache_dir/layers/<id>/{fs/,meta.json}, meta.json
 * last by rename. Interrupted or failed makings are cleaned up and begun anew;
 * two at once: the second waits for the first (flock), saying so. Long
 * (a minute): own process or job; *stop is polled. */
int image_base_make(const char *cache_dir, char id[65],
                    void (*progress)(void *arg, const char *stage, int percent),
                    void *arg, const volatile int *stop, struct err *e);
/* The same with the parts that tests replace. */
struct image_maker {
    void (*progress)(void *arg, const char *stage, int percent);
    void *arg;
    const volatile int *stop; /* may be NULL */
    /* Run as: program -c RECIPE name ROOT WORK. NULL: /bin/sh in mount and
     * process namespaces of its own. */
    const char *program;
    int timeout_ms; /* 0: 30 minutes */
};
int image_base_make_by(const char *cache_dir, char id[65],
                       const struct image_maker *m, struct err *e);
bool image_base_ready(const char *cache_dir, bool one_id, char id[65]);

#endif
