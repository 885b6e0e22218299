/* Short names for the memory orders, and the compare-and-swap that almost every protocol step is. For .c files and for headers of
 * one folder: the names are too short to be shown to users. */
#ifndef BASE_ATOMIC_H
#define BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define relaxed memory_order_relaxed
#define acquire memory_order_acquire
#define release memory_order_release
#define acq_rel memory_order_acq_rel
#define seq_cst memory_order_seq_cst

/* *word: *expected -> desired. false: *expected is what it was instead. */
static inline bool cas(_Atomic uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(word, expected, desired, acq_rel, acquire);
}

#endif
