/* Leases: who is looking at a block.
 *
 * A party that looks at a block has its bit set in the record. Bits, not a count: when a party dies, recovery clears exactly its
 * bits. Attach sets the bit and then looks at the state; free changes the state and then looks at the bits: so at least one of
 * the two sees the other (both sides seq_cst), and a block that is freed while leased becomes DOOMED and FREE with the last
 * bit. The SHARED flag says that an attach has happened in this life; without it free needs no look at the bits at all.
 * Every clearing of a bit, also the undo of a failed attach and the reaper's, looks for DOOMED afterwards.
 *
 * One bit serves all threads of a party, so the process counts privately: a word a record, `generation | count | lock`. The bit
 * is set at 0 -> 1 and cleared at 1 -> 0 under that word's lock bit; while a count exists a stale generation is refused there,
 * so no thread's undo takes its neighbour's lease. The table is private memory that reads as zero in a forked child.
 *
 * Crash points: killed after the bit is set: recovery clears it and finishes. Killed before: nothing. Model: block.pml.
 */
#include "pool_private.h"

#include <sched.h>

/* private word: bit 0 lock | 1 counted in pool->remaining | 2-19 count | 20-63 generation */
enum { COUNT_SHIFT = 2, COUNT_MAX = (1 << 18) - 1 };
static const uint64_t LOCKED = 1, REMAINS = 2, COUNT_ONE = 1 << COUNT_SHIFT, COUNT_MASK = (uint64_t)COUNT_MAX << COUNT_SHIFT;

uint64_t lease_table_bytes(const struct cue_pool *pool)
{
    return (pool->granules + (pool->data_bytes >> 6)) * sizeof(uint64_t);
}

/* Threads of one process only, for a few instructions: whoever holds it is running or will be. */
static uint64_t word_lock(_Atomic uint64_t *word)
{
    for (unsigned spins = 0;; spins++) {
        uint64_t value = atomic_load_explicit(word, relaxed);
        if (!(value & LOCKED) && atomic_compare_exchange_weak_explicit(word, &value, value | LOCKED, acquire, relaxed))
            return value;
        if (spins % 64 == 63)
            sched_yield();
        else
            cpu_relax();
    }
}

static void word_unlock(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, release);
}

static int bit_take(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    do {
        if (!rec_live(state) || rec_generation(state) != generation)
            return CUE_ESTALE;
    } while (!(state & REC_SHARED) && !cas(&rec->state, &state, state | REC_SHARED));
    atomic_fetch_or_explicit(&rec->lease[pool->lease_word], pool->lease_bit, seq_cst); /* pairs with: block_finish */
    state = atomic_load_explicit(&rec->state, seq_cst);                                /* !! if live */
    if (rec_live(state) && rec_generation(state) == generation)
        return 0;
    atomic_fetch_and_explicit(&rec->lease[pool->lease_word], ~pool->lease_bit, seq_cst);
    state = atomic_load_explicit(&rec->state, seq_cst);
    if (rec_state(state) == REC_DOOMED)
        block_finish(pool, rec, index, rec_generation(state));
    return CUE_ESTALE;
}

static int stale(struct cue_pool *pool, uint32_t index)
{
    return trail(CUE_ESTALE, "block %x of pool %s is gone: it was freed, or its owner has died", index, pool->name);
}

int lease_take(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    _Atomic uint64_t *word = lease_word(pool, index);
    uint64_t value = word_lock(word), count = (value & COUNT_MASK) >> COUNT_SHIFT;
    int status = 0;
    if (count == 0) {
        status = bit_take(pool, rec, index, generation);
        uint64_t remains = 0;
        if (status == 0 && __builtin_expect(atomic_load_explicit(&pool->counted, seq_cst), 0)) { /* pairs with: pool_settle */
            atomic_fetch_add_explicit(&pool->remaining, 1, acq_rel);
            remains = REMAINS;
        }
        word_unlock(word, status ? value & ~(COUNT_MASK | REMAINS) : generation << REC_GENERATION_SHIFT | COUNT_ONE | remains);
    } else {
        uint64_t state = atomic_load_explicit(&rec->state, acquire);
        bool same = value >> REC_GENERATION_SHIFT == generation && rec_live(state) && rec_generation(state) == generation;
        status = !same ? CUE_ESTALE : count == COUNT_MAX ? CUE_ELIMIT : 0;
        word_unlock(word, status ? value : value + COUNT_ONE);
    }
    if (status == CUE_ELIMIT)
        return trail(status, "block %x of pool %s is viewed %d times by this process", index, pool->name, COUNT_MAX);
    return status ? stale(pool, index) : 0;
}

bool lease_pin(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    _Atomic uint64_t *word = lease_word(pool, index);
    uint64_t value = word_lock(word), count = (value & COUNT_MASK) >> COUNT_SHIFT;
    bool fits = count == 0 || (count < COUNT_MAX && value >> REC_GENERATION_SHIFT == generation);
    if (count == 0) {
        atomic_fetch_or_explicit(&rec->lease[pool->lease_word], pool->lease_bit, seq_cst); /* pairs with: block_finish */
        value = generation << REC_GENERATION_SHIFT;
        if (__builtin_expect(atomic_load_explicit(&pool->counted, seq_cst), 0)) { /* as in lease_take */
            atomic_fetch_add_explicit(&pool->remaining, 1, acq_rel);
            value |= REMAINS;
        }
    }
    word_unlock(word, fits ? value + COUNT_ONE : value);
    return fits;
}

int lease_more(struct cue_pool *pool, uint32_t index, uint64_t generation)
{
    _Atomic uint64_t *word = lease_word(pool, index);
    uint64_t value = word_lock(word), count = (value & COUNT_MASK) >> COUNT_SHIFT;
    bool held = count > 0 && count < COUNT_MAX && value >> REC_GENERATION_SHIFT == generation;
    word_unlock(word, held ? value + COUNT_ONE : value);
    return held ? 0 : stale(pool, index);
}

bool lease_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    _Atomic uint64_t *word = lease_word(pool, index);
    uint64_t value = word_lock(word), count = (value & COUNT_MASK) >> COUNT_SHIFT;
    if (count == 0 || value >> REC_GENERATION_SHIFT != generation) { /* an alias that was released twice: not ours any more */
        word_unlock(word, value);
        return false;
    }
    if (count > 1) {
        word_unlock(word, value - COUNT_ONE);
        return false;
    }
    atomic_fetch_and_explicit(&rec->lease[pool->lease_word], ~pool->lease_bit, seq_cst); /* pairs with: block_finish */
    word_unlock(word, 0);
    uint64_t state = atomic_load_explicit(&rec->state, seq_cst);
    if (rec_state(state) == REC_DOOMED)
        block_finish(pool, rec, index, rec_generation(state));
    if (__builtin_expect((value & REMAINS) != 0, 0))
        pool_view_ended(pool);
    return true;
}

bool lease_alone(struct cue_pool *pool, uint32_t index)
{
    _Atomic uint64_t *word = lease_word(pool, index);
    uint64_t value = word_lock(word);
    word_unlock(word, value);
    return (value & COUNT_MASK) == COUNT_ONE;
}

bool lease_remains(struct cue_pool *pool, const struct record *rec, uint32_t index)
{
    if (!(atomic_load_explicit(&rec->lease[pool->lease_word], acquire) & pool->lease_bit))
        return false;
    _Atomic uint64_t *word = lease_word(pool, index);
    uint64_t value = word_lock(word);
    bool counts = (value & COUNT_MASK) != 0 && !(value & REMAINS);
    word_unlock(word, counts ? value | REMAINS : value);
    return counts;
}

/* The bits of a dead party (or of ours, leaving). */
void party_bits_clear(struct cue_pool *pool, struct record *rec, uint32_t index, unsigned slot)
{
    uint64_t bit = UINT64_C(1) << (slot % 64);
    if (!(atomic_load_explicit(&rec->lease[slot / 64], acquire) & bit))
        return;
    atomic_fetch_and_explicit(&rec->lease[slot / 64], ~bit, seq_cst);
    uint64_t state = atomic_load_explicit(&rec->state, seq_cst);
    if (rec_state(state) == REC_DOOMED)
        block_finish(pool, rec, index, rec_generation(state));
}
