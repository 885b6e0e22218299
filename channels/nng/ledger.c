/* A block on its way through a socket; see nng_internal.h for the record's words.
 *
 * Commit points: OWNED(me) -> SENT(me) in ledger_send, SENT -> OWNED in ledger_claim, SENT -> FREE in ledger_take_back and in the
 * sender's recovery. ledger_carry goes SENT(me) -> OWNED(me) -> SENT(me) with another `next` and `seq` between: whoever claims with the old
 * one comes before the first step, and has it, or fails. Killed between the steps: the block is owned by the dead, and freed. lane,
 * next and seq are written by the owner before the first and read before the others; a recycled record has another generation in
 * its state word, so that their CAS fails.
 */
#include "nng_internal.h"

int ledger_send(cue_pool *pool, const struct block_ref *ref, uint64_t channel, uint64_t number, bool far, struct in_flight *out)
{
    struct record *rec = ref->rec;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_generation(state) != ref->generation || !rec_live(state))
        return trail(CUE_ESTALE, "block %x of pool %s is gone", ref->index, pool->name);
    if (rec_state(state) != REC_OWNED || rec_party(state) != pool->self + 1)
        return trail(CUE_ENOTOWNER, "block %x of pool %s is not ours to send", ref->index, pool->name);
    *out = (struct in_flight){ rec, ref->index, ref->generation, (uint32_t)channel, (uint32_t)number, far };
    /* relaxed: made readable by the CAS */
    atomic_store_explicit(&rec->lane, LANE_SOCKET, relaxed);
    atomic_store_explicit(&rec->next, far ? ~out->channel : out->channel, relaxed);
    atomic_store_explicit(&rec->seq, out->number, relaxed);
    if (!block_move(rec, state, rec_word(REC_SENT, pool->self + 1, ref->generation))) /* !! */
        return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", ref->index, pool->name);
    return 0;
}

static bool on_this_way(const struct record *rec, uint64_t state, uint64_t generation, uint32_t channel, uint32_t number)
{
    return rec_state(state) == REC_SENT && rec_generation(state) == generation &&
           atomic_load_explicit(&rec->lane, relaxed) == LANE_SOCKET && /* the state was loaded with acquire */
           atomic_load_explicit(&rec->next, relaxed) == channel && atomic_load_explicit(&rec->seq, relaxed) == number;
}

static bool still_ours(cue_pool *pool, const struct in_flight *block, uint64_t *state)
{
    *state = atomic_load_explicit(&block->rec->state, acquire);
    return rec_party(*state) == pool->self + 1 &&
           on_this_way(block->rec, *state, block->generation, block->far ? ~block->channel : block->channel, block->number);
}

bool ledger_pending(cue_pool *pool, const struct in_flight *block)
{
    uint64_t state;
    return still_ours(pool, block, &state);
}

bool ledger_carry(cue_pool *pool, struct in_flight *block, bool far, uint64_t number)
{
    uint64_t state, owned = rec_word(REC_OWNED, pool->self + 1, block->generation);
    if (!still_ours(pool, block, &state) || !block_move(block->rec, state, owned)) /* !! taken back */
        return false;
    block->far = far;
    block->number = (uint32_t)number;
    atomic_store_explicit(&block->rec->next, far ? ~block->channel : block->channel, relaxed);   /* made readable by the CAS */
    atomic_store_explicit(&block->rec->seq, block->number, relaxed);                             /* the same */
    return block_move(block->rec, owned, rec_word(REC_SENT, pool->self + 1, block->generation)); /* !! */
}

bool ledger_bytes(cue_pool *pool, const struct in_flight *block, const char **data, uint64_t *size)
{
    uint64_t state, capacity;
    char *at;
    if (!still_ours(pool, block, &state) || !pool_bytes(pool, block->index, &at, &capacity) || (*size = rec_size(block->rec)) > capacity)
        return false;
    *data = at;
    return true;
}

bool ledger_take_back(cue_pool *pool, const struct in_flight *block)
{
    uint64_t state;
    return still_ours(pool, block, &state) && block_drop(pool, block->rec, block->index, state); /* !! */
}

bool ledger_claim(cue_pool *pool, uint32_t index, uint64_t generation, uint64_t channel, uint64_t number, cue_block *out)
{
    struct record *rec = pool_record(pool, index);
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0, capacity;
    char *data;
    if (!rec || !on_this_way(rec, state, generation, (uint32_t)channel, (uint32_t)number))
        return false;
    if (!block_move(rec, state, rec_word(REC_OWNED, pool->self + 1, generation))) /* !! */
        return false;
    uint64_t size = rec_size(rec); /* ours now */
    if (!pool_bytes(pool, index, &data, &capacity) || size > capacity) {
        block_drop(pool, rec, index, rec_word(REC_OWNED, pool->self + 1, generation));
        return false;
    }
    handle_owner(pool, index, generation, data, size, out);
    return true;
}
