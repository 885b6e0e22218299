/* Sleeping on a word of shared memory. The kernel compares the word under its own lock, so no fence is needed around these. */
#ifndef BASE_FUTEX_H
#define BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word == expected, at most `ns`. 0: woken or the word differs; CUE_ETIMEDOUT; CUE_EINTR: a signal handler ran.
 * Leaves no trail. */
int futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t ns);

/* Wakes up to `count` sleepers of any process; how many. */
int futex_wake(_Atomic uint32_t *word, int count);

/* The low (flags and sequence) half of a 64-bit word, which is what a futex can compare. */
static inline _Atomic uint32_t *futex_low_half(_Atomic uint64_t *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (_Atomic uint32_t *)(void *)word;
#else
#error "shared layouts are little-endian"
#endif
}

#endif
