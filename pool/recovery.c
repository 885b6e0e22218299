/* Recovery: what a dead party leaves, and how it goes.
 *
 * Whoever holds a dead slot's reap byte sweeps; then the slot is free with a new epoch. Every step is a CAS from the dead one's
 * value or clears bits idempotently, so a reaper that dies is reaped and the next one begins again. One walk over the records:
 *
 *   SENT by it     the lane's layer says whether it was ever linked: linked stays, unlinked is freed
 *   OWNED by it    freed
 *   REPLACING      taken back, or ended if it had taken the key over
 *   its lease      cleared
 *   DOOMED         finished, whoever doomed it
 *   TAIL by it     freed, if the run that it belongs to was never committed
 *   FREE           its hint is set again: a freer may have been killed between its commit and its hint
 *
 * Then the owner words of slabs and extents. What somebody else waits for comes first (party_died), and never depends on the
 * reaper alone: all who sleep look for themselves once a watch period.
 *
 * The same sweep serves a party that leaves: then it only finds what the process still owned.
 *
 * What is SENT, POSTED, or of a type of the layers above is theirs to judge: they have registered how. Without them a process sweeps up
 * only in pools that hold nothing such. It looks once the party is dead: what a dead party sent or made shows in records by then, and what
 * the living make meanwhile has nothing of the dead. Its own things it gives back in any pool: it has sent nothing.
 */
#include "pool_private.h"

#include <stdio.h>
#include <string.h>

const struct recovery_hooks *recovery_hooks;

void recovery_register(const struct recovery_hooks *hooks)
{
    recovery_hooks = hooks;
}

/* Of the layers above: a lane or what belongs to one, a message, or anything on its way. */
static int is_beyond(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)pool, (void)index, (void)arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    enum record_state is = rec_state(state);
    if (is == REC_FREE || is == REC_SLAB || is == REC_TAIL)
        return 0;
    return is == REC_SENT || is == REC_POSTED || state & REC_TOPIC || atomic_load_explicit(&rec->type, relaxed) >= POOL_TYPE_SYSTEM ||
           atomic_load_explicit(&rec->note, relaxed) & NOTE_MESSAGE; /* pairs with: the state word */
}

bool recovery_able(struct cue_pool *pool)
{
    return recovery_hooks || !pool_each_record(pool, is_beyond, NULL);
}

bool recovery_linked(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t word)
{
    return pool->flags & CUE_READ_ONLY || !recovery_hooks || recovery_hooks->linked(pool, rec, index, word); /* to look takes a lease */
}

struct sweep {
    unsigned slot;
    uint32_t epoch;
};

static int sweep_record(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    const struct sweep *sweep = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    enum record_state is = rec_state(state);
    if (is == REC_FREE && !atomic_load_explicit(&rec->lease[sweep->slot / 64], acquire))
        return 0;
    if (rec_party(state) == sweep->slot + 1) {
        bool mine = is == REC_OWNED || is == REC_POSTED;
        if (is == REC_SENT)
            mine = !recovery_linked(pool, rec, index, state);
        if (mine)
            block_drop(pool, rec, index, state);
        if (is == REC_KEPT && state & REC_REPLACING)
            directory_settle(pool, rec, index, state);
        if (is == REC_TAIL && !(index & INDEX_R2))
            run_tail_sweep(pool, index);
    }
    party_bits_clear(pool, rec, index, sweep->slot);
    state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_DOOMED)
        block_finish(pool, rec, index, rec_generation(state));
    return 0;
}

static void sweep_owner(_Atomic uint64_t *owner, const struct sweep *sweep)
{
    uint64_t word = atomic_load_explicit(owner, acquire);
    if (owner_kind(word) == OWNER_CURSOR && owner_party(word) == sweep->slot + 1 && (word >> 16 & 0xffff) == (sweep->epoch & 0xffff))
        cas(owner, &word, OWNER_NONE);
}

static void sweep_owners(struct cue_pool *pool, const struct sweep *sweep)
{
    unsigned shift = pool->extent_shift - pool->slab_shift;
    for (uint32_t n = 0; n < pool->nextents; n++) {
        struct extent *extent = &pool->extents[n];
        if (!extent_meta_present(pool, n)) {
            sweep_owner(&extent->owner, sweep);
            continue;
        }
        uint64_t word = atomic_load_explicit(&extent->owner, acquire);
        if (owner_kind(word) == OWNER_CLAIM && owner_party(word) == sweep->slot + 1) {
            struct record *head = pool_record(pool, (uint32_t)(word >> 32));
            if (!head || rec_state(atomic_load_explicit(&head->state, acquire)) == REC_FREE) { /* claimed, never committed; or freed */
                atomic_store_explicit(&extent->largest, UINT32_MAX, relaxed);                  /* a hint */
                cas(&extent->owner, &word, OWNER_NONE);
            }
        } else if (owner_kind(word) == OWNER_CURSOR && owner_party(word) == sweep->slot + 1) {
            atomic_store_explicit(&extent->largest, UINT32_MAX, relaxed); /* a hint */
            sweep_owner(&extent->owner, sweep);
        }
        for (uint32_t slab = n << shift; slab < (n + 1) << shift && first_granule_of_slab(pool, slab) < pool->granules; slab++)
            sweep_owner(&slab_head(pool, slab)->owner, sweep);
    }
}

void recovery_sweep(struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    struct sweep sweep = { slot, epoch };
    events_forget(pool, slot);
    if (recovery_hooks)
        recovery_hooks->party_died(pool, slot, epoch);
    pool_each_record(pool, sweep_record, &sweep);
    sweep_owners(pool, &sweep);
    if (recovery_hooks)
        recovery_hooks->party_swept();
}

/* ---- hints ---- */

/* Sets a hint for whatever is free: harmless where it is known, and what a killed freer did not say is said. */
static int hint_record(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    struct {
        uint32_t slab, word;
        uint64_t bits;
    } *batch = arg;
    uint32_t slab = index & INDEX_R2 ? slab_of_index(pool, index) : UINT32_MAX, ordinal = ordinal_of_index(pool, index);
    if (batch->bits && (batch->slab != slab || batch->word != ordinal / 64)) {
        slab_hint(pool, batch->slab, batch->word, batch->bits);
        batch->bits = 0;
    }
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (slab == UINT32_MAX) {
        if (rec_state(state) == REC_FREE || rec_state(state) == REC_TAIL)
            run_hint(pool, index);
    } else if (rec_state(state) == REC_FREE) {
        batch->slab = slab;
        batch->word = ordinal / 64;
        batch->bits |= UINT64_C(1) << (ordinal % 64);
    }
    return 0;
}

void recovery_rebuild_hints(struct cue_pool *pool)
{
    struct {
        uint32_t slab, word;
        uint64_t bits;
    } batch = { 0, 0, 0 };
    pool_each_record(pool, hint_record, &batch);
    if (batch.bits)
        slab_hint(pool, batch.slab, batch.word, batch.bits);
    for (uint32_t n = 0; n < pool->nextents; n++)
        if (owner_vacant(pool, atomic_load_explicit(&pool->extents[n].owner, acquire))) /* also claims of a run that is gone */
            atomic_store_explicit(&pool->extents[n].largest, UINT32_MAX, relaxed);      /* a hint */
}
