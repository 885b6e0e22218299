/* Locks that tell who lives.
 *
 * A write lock (OFD) on one byte of a shared object, held by a mapping: the object is opened anew, the byte is locked, one page
 * of that description is mapped and the descriptor is closed. The mapping is then the only reference to the description, so
 * the lock lives exactly as long as the address space: closefrom() does not end it, a forked child does not keep it
 * (MADV_DONTFORK), exec and SIGKILL release it no later than the process's pidfd becomes readable.
 *
 * The bytes lie far behind the end of any object, from LIFE_OFFSET on.
 */
#ifndef BASE_LIFE_H
#define BASE_LIFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Offset of lock byte 0. */
#define LIFE_OFFSET ((int64_t)1 << 40)

struct life_lock {
    void *page; /* what holds it; NULL: not held */
    size_t bytes;
};

/* Takes lock byte `byte` of the object behind `fd`. CUE_EBUSY without a trail if another holds it; CUE_ENOSYS where the file
 * system does not keep the lock (the process could not be seen to live). */
int life_hold(int fd, unsigned byte, struct life_lock *lock);
void life_release(struct life_lock *lock);

/* Does anybody hold lock byte `byte`? Also true if that cannot be found out: nobody is declared dead by mistake. */
bool life_held(int fd, unsigned byte);

/* Around fork(): no child may inherit a descriptor of a lock that is being taken. Called by pthread_atfork handlers. */
void life_before_fork(void);
void life_after_fork(void);

#endif
