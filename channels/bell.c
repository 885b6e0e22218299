/* See bell.h. */
#include "channels/bell.h"

#include "base/futex.h"

#define seq_cst memory_order_seq_cst

enum { ASLEEP = 1 };

void bell_init(struct bell *bell, uint32_t bits)
{
    /* relaxed: nobody else knows the bell yet */
    atomic_store_explicit(&bell->word, 0, memory_order_relaxed);
    bell->spare0 = 0;
    for (unsigned i = 0; i < BELL_SUMMARY; i++)
        atomic_store_explicit(&bell->summary[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < (bits + 63) / 64; i++)
        atomic_store_explicit(&bell->leaf[i], 0, memory_order_relaxed);
}

bool bell_ring(struct bell *bell, size_t bytes, uint32_t bit)
{
    uint32_t leaf = bit / 64;
    if (leaf / 64 >= BELL_SUMMARY || bytes < sizeof *bell + (leaf + 1) * sizeof(uint64_t))
        return false; /* damage: the mailbox and its bell do not belong together */
    atomic_fetch_or_explicit(&bell->leaf[leaf], UINT64_C(1) << (bit % 64), seq_cst);    /* pairs with: bell_take's leaf exchange */
    if (!(atomic_load_explicit(&bell->summary[leaf / 64], seq_cst) >> (leaf % 64) & 1)) /* pairs with: bell_take's summary exchange */
        atomic_fetch_or_explicit(&bell->summary[leaf / 64], UINT64_C(1) << (leaf % 64), seq_cst); /* pairs with: bell_any in bell_sleep */
    if (!(atomic_load_explicit(&bell->word, seq_cst) & ASLEEP)) /* pairs with: bell_sleep's announcement */
        return false;
    bell_nudge(bell);
    return true;
}

void bell_nudge(struct bell *bell)
{
    if (!(atomic_load_explicit(&bell->word, seq_cst) & ASLEEP)) /* pairs with: bell_sleep's announcement */
        return;
    atomic_fetch_add_explicit(&bell->word, 2, seq_cst); /* the sleeper's expected value is no more */
    futex_wake(&bell->word, 1);
}

bool bell_any(const struct bell *bell, uint32_t bits)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < (bits + 4095) / 4096; i++)
        any |= atomic_load_explicit(&bell->summary[i], seq_cst); /* pairs with: bell_ring's summary */
    return any != 0;
}

unsigned bell_take(struct bell *bell, uint32_t bits, void (*visit)(void *arg, uint32_t bit), void *arg)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < (bits + 4095) / 4096; i++) {
        if (!atomic_load_explicit(&bell->summary[i], memory_order_relaxed)) /* what is missed here is seen before a sleep */
            continue;
        uint64_t summary = atomic_exchange_explicit(&bell->summary[i], 0, seq_cst); /* pairs with: bell_ring's look at summary */
        for (; summary; summary &= summary - 1) {
            uint32_t leaf = i * 64 + (uint32_t)__builtin_ctzll(summary);
            if (leaf >= (bits + 63) / 64)
                break;                                                              /* damage */
            uint64_t set = atomic_exchange_explicit(&bell->leaf[leaf], 0, seq_cst); /* pairs with: bell_ring's leaf */
            for (; set; set &= set - 1, taken++)
                visit(arg, leaf * 64 + (uint32_t)__builtin_ctzll(set));
        }
    }
    return taken;
}

void bell_sleep(struct bell *bell, uint32_t bits, int64_t ns, bool (*awake)(void *arg), void *arg)
{
    uint32_t word = atomic_fetch_or_explicit(&bell->word, ASLEEP, seq_cst) | ASLEEP; /* pairs with: bell_ring, bell_nudge */
    if (!bell_any(bell, bits) && !(awake && awake(arg)))
        futex_wait(&bell->word, word, ns);
    atomic_fetch_and_explicit(&bell->word, ~(uint32_t)ASLEEP, seq_cst);
}
