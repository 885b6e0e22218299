/* A lock between threads of one process that is held for a few hundred instructions and hardly ever contended.
 *
 * Taking it is one compare-and-swap and giving it back one store, half of what a pthread mutex costs; who finds it taken spins
 * for a moment and then sleeps in naps of 20 us, so that a holder that was preempted, also by a real-time thread that wants the
 * lock, gets on. All zero is free. After fork() the child sets it to zero. As long as the process has one thread, which the C
 * library knows, there is nobody to shut out and taking it is a store.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include "clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/single_threaded.h>

struct lock {
    _Atomic uint32_t taken;
};

static inline bool lock_try(struct lock *lock)
{
    uint32_t free = 0;
    return atomic_compare_exchange_strong_explicit(&lock->taken, &free, 1, memory_order_acquire,
                                                   memory_order_relaxed); /* pairs with: lock_release */
}

void lock_wait(struct lock *lock);

static inline void lock_take(struct lock *lock)
{
    if (__libc_single_threaded)
        atomic_store_explicit(&lock->taken, 1, memory_order_relaxed); /* a thread that is started meanwhile finds it taken */
    else if (__builtin_expect(!lock_try(lock), 0))
        lock_wait(lock);
}

static inline void lock_release(struct lock *lock)
{
    atomic_store_explicit(&lock->taken, 0, memory_order_release);
}

#endif
