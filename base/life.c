#include "life.h"

#include "shm.h"
#include "trail.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

static pthread_mutex_t holding = PTHREAD_MUTEX_INITIALIZER; /* keeps fork() out of life_hold() */

static struct flock byte_of(unsigned byte)
{
    return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LIFE_OFFSET + byte, .l_len = 1 };
}

bool life_held(int fd, unsigned byte)
{
    struct flock lock = byte_of(byte);
    int saved = errno;
    bool held = fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
    errno = saved;
    return held;
}

static int hold(int fd, unsigned byte, struct life_lock *lock)
{
    int own = shm_reopen(fd);
    if (own < 0)
        return trail_errno("cannot open the pool once more for lock byte %u (is /proc mounted?)", byte);
    struct flock range = byte_of(byte);
    if (fcntl(own, F_OFD_SETLK, &range) < 0) {
        int status = errno == EAGAIN || errno == EACCES ? CUE_EBUSY : trail_errno("cannot take lock byte %u", byte);
        close(own);
        return status;
    }
    size_t bytes = shm_huge(own) ? HUGE_PAGE : PAGE; /* the least that can be mapped */
    void *page = mmap(NULL, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, own, 0);
    int status = page == MAP_FAILED ? trail_errno("cannot map the holder of lock byte %u", byte) : 0;
    close(own);
    if (status)
        return status;
    madvise(page, bytes, MADV_DONTFORK);
    if (!life_held(fd, byte)) {
        munmap(page, bytes);
        return trail(CUE_ENOSYS, "the file system forgets locks held by a mapping, so the death of a process could not be seen");
    }
    lock->page = page;
    lock->bytes = bytes;
    return 0;
}

int life_hold(int fd, unsigned byte, struct life_lock *lock)
{
    lock->page = NULL;
    pthread_mutex_lock(&holding);
    int status = hold(fd, byte, lock);
    pthread_mutex_unlock(&holding);
    return status;
}

void life_release(struct life_lock *lock)
{
    if (lock->page)
        munmap(lock->page, lock->bytes);
    lock->page = NULL;
}

void life_before_fork(void)
{
    pthread_mutex_lock(&holding);
}

void life_after_fork(void)
{
    pthread_mutex_unlock(&holding);
}
