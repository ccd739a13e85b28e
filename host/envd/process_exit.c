/* Go's texts for exit states. See process_exit.h. */
#include "process_exit.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static const char *const NAMES[] = {
    [SIGHUP] = "hangup",
    [SIGINT] = "interrupt",
    [SIGQUIT] = "quit",
    [SIGILL] = "illegal instruction",
    [SIGTRAP] = "trace/breakpoint trap",
    [SIGABRT] = "aborted",
    [SIGBUS] = "bus error",
    [SIGFPE] = "floating point exception",
    [SIGKILL] = "killed",
    [SIGUSR1] = "user defined signal 1",
    [SIGSEGV] = "segmentation fault",
    [SIGUSR2] = "user defined signal 2",
    [SIGPIPE] = "broken pipe",
    [SIGALRM] = "alarm clock",
    [SIGTERM] = "terminated",
};

void process_exit_text(int status, struct proc_end *end)
{
    if (WIFEXITED(status)) {
        *end = (struct proc_end){.code = WEXITSTATUS(status), .exited = true};
        snprintf(end->status, sizeof(end->status), "exit status %d", end->code);
        end->failed = end->code != 0;
        return;
    }
    size_t sig = (size_t)WTERMSIG(status);
    const char *core = WCOREDUMP(status) ? " (core dumped)" : "";
    *end = (struct proc_end){.code = -1, .failed = true};
    if (sig < sizeof(NAMES) / sizeof(*NAMES) && NAMES[sig])
        snprintf(end->status, sizeof(end->status), "signal: %s%s", NAMES[sig],
                 core);
    else
        snprintf(end->status, sizeof(end->status), "signal: signal %zu%s", sig,
                 core);
}
