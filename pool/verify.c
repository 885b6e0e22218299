/* Invariants, looked at as the library goes: only in builds with CUE_CHECK (the presets asan and tsan have it). What breaks one aborts.
 *
 * Of each record: it is filled only while FREE; a state is left only for those that may follow it, and a generation ends with FREE and
 * nothing else. Of what this process keeps privately of a pool, at the beginning of public calls: a cursor stands in a slab that is
 * ours and of its class, and its summary says which words have bits; an extent that we hold is ours, no granule is both free and the
 * start of a run, each free one's record is FREE, the count is the number of bits, and a warm run has its start.
 *
 * cue_pool_check looks at what all parties share, and says what it finds instead.
 */
#include "slab_cursor.h"

#ifdef CUE_CHECK
#include <stdio.h>
#include <stdlib.h>

void verify_failed(const char *what, uint64_t a, uint64_t b)
{
    fprintf(stderr, "cuelight: an invariant is broken: %s (%#llx, %#llx)\n", what, (unsigned long long)a, (unsigned long long)b);
    abort();
}

void verify_transition(uint64_t from, uint64_t to)
{
    static const uint16_t next[8] = {
        [REC_FREE] = 1 << REC_OWNED | 1 << REC_SLAB | 1 << REC_TAIL,
        [REC_OWNED] = 1 << REC_OWNED | 1 << REC_KEPT | 1 << REC_SENT | 1 << REC_POSTED | 1 << REC_DOOMED | 1 << REC_FREE,
        [REC_KEPT] = 1 << REC_KEPT | 1 << REC_OWNED | 1 << REC_DOOMED | 1 << REC_FREE,
        [REC_SENT] = 1 << REC_SENT | 1 << REC_OWNED | 1 << REC_DOOMED | 1 << REC_FREE,
        [REC_POSTED] = 1 << REC_POSTED | 1 << REC_OWNED | 1 << REC_DOOMED | 1 << REC_FREE,
        [REC_DOOMED] = 1 << REC_FREE,
        [REC_SLAB] = 1 << REC_FREE,
        [REC_TAIL] = 1 << REC_FREE,
    };
    uint64_t grown = rec_generation(to) - rec_generation(from);
    if (rec_state(from) > REC_TAIL || !(next[rec_state(from)] >> rec_state(to) & 1) || grown != (rec_state(to) == REC_FREE))
        verify_failed("a record may not go on like this", from, to);
}

static void verify_cursor(struct cue_pool *pool, const struct slab_cursor *cursor, unsigned class)
{
    if (!cursor->head)
        return;
    if (atomic_load_explicit(&cursor->head->owner, acquire) != owner_cursor(pool))
        verify_failed("a cursor stands in a slab that is not ours", cursor->slab, class);
    if (atomic_load_explicit(&pool->slab_owner[cursor->slab], acquire) != cursor)
        verify_failed("a slab knows another cursor", cursor->slab, class);
    if (cursor->stride != slab_class_lines[class] * (uint32_t)POOL_LINE)
        verify_failed("a slab is of another class than its cursor", cursor->stride, class);
    for (uint32_t w = 0; w < POOL_SLAB_WORDS; w++)
        if ((cursor->bits[w] != 0) != (cursor->top >> w & 1))
            verify_failed("a cursor's summary lies", cursor->top, w);
}

void verify_now(struct cue_pool *pool)
{
    static _Thread_local uint32_t calls;
    static _Thread_local bool within; /* what is looked at may itself be a public call's */
    if (within || !pool || pool->flags & CUE_READ_ONLY || atomic_load_explicit(&pool->open, acquire) != 1)
        return;
    within = true;
    struct slab_cache *cache = cache_of(pool);
    for (unsigned class = 0; cache && class < SLAB_CLASSES; class ++)
        verify_cursor(pool, &cache->cursors[class], class);
    if (calls++ % 32 == 0)
        extents_verify(pool);
    within = false;
}
#endif
