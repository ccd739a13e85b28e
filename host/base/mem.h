/* Allocation that does not return NULL: a process of ours that cannot get a
 * few KiB cannot go on; sizes from outside are bounded before they come here.
 */
#ifndef E2B_MEM_H
#define E2B_MEM_H

#include <stddef.h>

void *mem_alloc(size_t n);              /* zeroed */
void *mem_array(size_t n, size_t size); /* zeroed; overflow aborts */
void *mem_realloc(void *p, size_t n);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
/* Overwrites with zeros in a way the compiler keeps; for secrets. */
void mem_wipe(void *p, size_t n);

#endif
