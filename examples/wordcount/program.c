/* Other programs that the reader starts and ends: see job.h. */
#include "job.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t program_start(char *const *argv, char *const *extra, int death_signal)
{
    size_t n = 0, m = 0;
    while (argv[n])
        n++;
    while (extra[m])
        m++;
    char **all = calloc(n + m + 1, sizeof *all);
    if (!all)
        return -1;
    memcpy(all, argv, n * sizeof *all);
    memcpy(all + n, extra, m * sizeof *all);

    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, death_signal);
        if (getppid() == parent) /* else it died before the line above */
            execvp(all[0], all);
        fprintf(stderr, "wordcount: cannot run %s: %s\n", all[0], strerror(errno));
        _exit(127);
    }
    free(all);
    return pid;
}

int program_end(pid_t pid, int wait_ms)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd >= 0) {
        int64_t end = now_ns() + (int64_t)wait_ms * 1000000;
        int left = wait_ms;
        while (poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, left) < 0 && errno == EINTR)
            left = (int)((end - now_ns()) / 1000000) > 0 ? (int)((end - now_ns()) / 1000000) : 0;
        close(pidfd);
    }
    int status = 0;
    pid_t done = waitpid(pid, &status, pidfd >= 0 ? WNOHANG : 0);
    if (done == 0) {
        kill(pid, SIGKILL);
        done = waitpid(pid, &status, 0);
    }
    if (done != pid)
        return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
