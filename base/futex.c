#include "futex.h"

#include <cuelight/error.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t ns)
{
    int saved = errno, status = 0;
    struct timespec left = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    if (ns <= 0)
        return CUE_ETIMEDOUT;
    if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &left, NULL, 0) < 0)
        status = errno == ETIMEDOUT ? CUE_ETIMEDOUT : errno == EINTR ? CUE_EINTR : 0;
    errno = saved;
    return status;
}

int futex_wake(_Atomic uint32_t *word, int count)
{
    int saved = errno;
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    errno = saved;
    return woken < 0 ? 0 : (int)woken;
}
