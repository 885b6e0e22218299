/* See event.h. */
#include "event.h"

int event_call(_Atomic uint32_t *word, int count)
{
    uint32_t value = atomic_fetch_add_explicit(word, 2, seq_cst) + 2;
    int woken = futex_wake(word, count);
    if (woken < count && value & 1)
        atomic_compare_exchange_strong_explicit(word, &value, value & ~UINT32_C(1), seq_cst, relaxed); /* pairs with: event_prepare */
    return woken;
}
