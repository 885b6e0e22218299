#include "lock.h"

#include <errno.h>

void lock_wait(struct lock *lock)
{
    int saved = errno;
    for (unsigned tries = 1; !lock_try(lock); tries++) {
        if (tries % 128)
            cpu_relax();
        else
            nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    }
    errno = saved;
}
