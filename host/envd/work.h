/* Worker threads of envd: whatever may wait for a disk (or for a file system
 * that somebody inside the sandbox serves) runs there, never on the loop. They
 * start with the first job and are idle until the next. */
#ifndef E2B_WORK_H
#define E2B_WORK_H

#include "base/job.h"

struct envd;

/* Runs j->run on a worker, then j->done on the loop, never inside this call.
 * On failure neither is called. */
int work_submit(struct envd *v, struct job *j, struct err *e);
/* Waits for running jobs; done is called for all, also for those that never
 * ran. NULL-safe, twice is fine. */
void work_free(struct envd *v);

#endif
