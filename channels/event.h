/* An event that any number of processes may wait for: a futex word in shared memory that knows whether anybody waits.
 *
 *   word   bit 0: somebody sleeps, or is about to | the rest: a number that changes with each wait and each call
 *
 *   wait   v = word; CAS v -> next number | 1; look again whether there is something; FUTEX_WAIT(word, that value)
 *   call   make it so; word has bit 0? word += 2, FUTEX_WAKE; fewer slept than it would have woken: CAS that value -> without bit 0
 *
 * All of it seq_cst: of a caller that makes something so and then looks at the bit, and a waiter that sets the bit and then looks
 * again, one sees the other. Who calls leaves the bit set, so a caller that is stopped before its FUTEX_WAKE does not keep others
 * from waking; it goes when a call has woken all who slept, and then only if the word has not changed since: a waiter changes the word
 * before it sleeps, so the bit of one who sleeps, or is about to, is never cleared. No bit a party and no count, so the dead leave
 * nothing behind but a bit that costs one call too many. (Model: event.pml.)
 *
 * Where a call wakes one of several, that one passes it on if it sees more than it took (the baton): callers that are stopped or killed
 * between the making and the call, or a burst, mute nobody. And every sleeper looks once a watch period.
 */
#ifndef EVENT_H
#define EVENT_H

#include "base/atomic.h"
#include "base/futex.h"

/* Announces a sleeper; the value to sleep on, after another look. */
static inline uint32_t event_prepare(_Atomic uint32_t *word)
{
    uint32_t value = atomic_load_explicit(word, relaxed), next;
    do
        next = (value + 2) | 1;
    while (!atomic_compare_exchange_weak_explicit(word, &value, next, seq_cst, relaxed)); /* pairs with: event_waited */
    return next;
}

/* After what is called out was made, in the order of seq_cst. */
static inline bool event_waited(_Atomic uint32_t *word)
{
    return atomic_load_explicit(word, seq_cst) & 1; /* pairs with: event_prepare */
}

/* Wakes up to `count`; how many. Who was about to sleep looks again. */
int event_call(_Atomic uint32_t *word, int count);

#endif
