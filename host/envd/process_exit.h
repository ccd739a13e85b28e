/* Exit states in the words of Go's ProcessState, which are part of the
 * protocol. */
#ifndef E2B_PROCESS_EXIT_H
#define E2B_PROCESS_EXIT_H

#include "process.h"

/* status as by waitpid. */
void process_exit_text(int status, struct proc_end *end);

#endif
