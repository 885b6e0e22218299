/* Sleeping on a word of shared memory, or on one of several. The kernel compares the words under its own locks, so no fence is
 * needed around these.
 *
 * For several there are three ways, the best that the kernel has: requests of an io_uring (uring.h, Linux 6.7), futex_waitv (Linux
 * 5.16, up to 128 words), and naps: the words are looked at every few milliseconds. CUE_WAIT (uring, waitv, nap) names the best
 * that may be used, so that each can be tested. */
#ifndef BASE_FUTEX_H
#define BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word == expected, at most `ns`. 0: woken or the word differs; CUE_ETIMEDOUT; CUE_EINTR: a signal handler ran.
 * Leaves no trail. */
int futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t ns);

/* Wakes up to `count` sleepers of any process; how many. */
int futex_wake(_Atomic uint32_t *word, int count);

enum futex_way { FUTEX_NAP = 1, FUTEX_WAITV, FUTEX_URING };
/* The best way that the kernel has and CUE_WAIT allows; the same for the life of the process. */
enum futex_way futex_way(void);

struct futex_word {
    _Atomic uint32_t *word;
    uint32_t expected;
};
enum { FUTEX_WORDS_MAX = 128 };
/* futex_wait for up to FUTEX_WORDS_MAX words at once: 0 if any of them was woken or differs. Who is woken by naps is so within
 * FUTEX_NAP_NS. */
int futex_wait_any(const struct futex_word *words, unsigned n, int64_t ns);
#define FUTEX_NAP_NS 5000000

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
