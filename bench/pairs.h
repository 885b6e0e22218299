/* Pairs of alloc and free, timed the same way for us and for every allocator beside us. */
#ifndef BENCH_PAIRS_H
#define BENCH_PAIRS_H

#include "bench/bench.h"

#include <stdatomic.h>

enum { PAIRS_BATCH = 64, PAIRS_PROCESSES = 4, PAIRS_RING = 256 };

/* Runs `pair` until the round is over: nanoseconds a pair. The clock is read once a batch. */
#define PAIRS_LOOP(b, pair, figure)                                                                                                        \
    do {                                                                                                                                   \
        uint64_t pairs_begin = ticks_now(), pairs_end = bench_end(b);                                                                      \
        uint64_t pairs_n = 0, pairs_now;                                                                                                   \
        do {                                                                                                                               \
            for (int pairs_i = 0; pairs_i < PAIRS_BATCH; pairs_i++) {                                                                      \
                pair                                                                                                                       \
            }                                                                                                                              \
            pairs_n += PAIRS_BATCH;                                                                                                        \
        } while ((pairs_now = ticks_now()) < pairs_end);                                                                                   \
        bench_figure(b, figure(ticks_ns(pairs_now - pairs_begin), (double)pairs_n));                                                       \
    } while (0)
#define PAIRS_NS_EACH(ns, n) ((ns) / (n))
#define PAIRS_PER_SECOND(ns, n) (1e9 * (n) / (ns))
#define PAIRS(b, pair) PAIRS_LOOP(b, pair, PAIRS_NS_EACH)
#define PAIRS_RATE(b, pair) PAIRS_LOOP(b, pair, PAIRS_PER_SECOND)

/* The sum of what so many processes do at a time. */
static inline void pairs_of_helpers(struct bench *b, unsigned processes)
{
    struct helper *h[PAIRS_PROCESSES];
    for (unsigned i = 0; i < processes; i++)
        h[i] = bench_helper(b, i);
    while (bench_next(b)) {
        double sum = 0;
        for (unsigned i = 0; i < processes; i++)
            helper_go(h[i], bench_seconds(b));
        for (unsigned i = 0; i < processes; i++)
            sum += helper_figure(h[i]);
        bench_figure(b, sum);
    }
    for (unsigned i = 0; i < processes; i++)
        helper_end(h[i]);
}
static inline void pairs_of_one(struct bench *b, long arg)
{
    (void)arg;
    pairs_of_helpers(b, 1);
}
static inline void pairs_of_two(struct bench *b, long arg)
{
    (void)arg;
    pairs_of_helpers(b, 2);
}
static inline void pairs_of_four(struct bench *b, long arg)
{
    (void)arg;
    pairs_of_helpers(b, 4);
}

/* From one thread to another: a ring whose slots carry their own flag. */
struct pairs_ring {
    struct {
        _Alignas(64) _Atomic(void *) p;
    } slot[PAIRS_RING];
    _Alignas(64) unsigned taken;
    _Alignas(64) unsigned given;
};
#define PAIRS_END ((void *)1)

static inline void pairs_give(struct pairs_ring *ring, void *p)
{
    _Atomic(void *) *slot = &ring->slot[ring->given++ % PAIRS_RING].p;
    while (atomic_load_explicit(slot, memory_order_acquire)) /* pairs with: pairs_take */
        bench_relax();
    atomic_store_explicit(slot, p, memory_order_release); /* pairs with: pairs_take */
}
static inline void *pairs_take(struct pairs_ring *ring)
{
    void *p;
    _Atomic(void *) *slot = &ring->slot[ring->taken++ % PAIRS_RING].p;
    while (!(p = atomic_load_explicit(slot, memory_order_acquire))) /* pairs with: pairs_give */
        bench_relax();
    atomic_store_explicit(slot, NULL, memory_order_release); /* pairs with: pairs_give */
    return p;
}

#endif
