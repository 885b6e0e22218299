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

/* The same where another word is read after it that somebody writes before he reads this one. */
static inline bool cas_seq_cst(_Atomic uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(word, expected, desired, seq_cst, acquire);
}

/* Fetches the line of a word that is about to be changed, and that another CPU changed last, once instead of first for reading. GCC
 * makes a fetch for reading of __builtin_prefetch(…, 1) unless it is told that the CPU knows PREFETCHW; all of x86-64 do, or pass over it. */
static inline void fetch_to_write(const void *at)
{
#if defined __x86_64__
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)at));
#else
    __builtin_prefetch(at, 1);
#endif
}

#endif
