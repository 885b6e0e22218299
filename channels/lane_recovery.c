/* What becomes of lanes and of messages on their way when a party dies, or leaves.
 *
 * First, what others wait for: a receiver's place becomes vacant, its full senders look again, and a receiver that sleeps while
 * there are messages is woken (a sender may have been killed between its push and its wake). Each of them would find out by
 * itself within a watch period. Lanes that nobody has open any more and that are empty are retired.
 *
 * THE ORPHAN RULE. A record SENT by the dead party was either linked, then its message is delivered, or it never was, then it is
 * freed. One walk over each lane decides it for all: the dead push no more, so what is not in a chain now never will be.
 *
 *   c = consumed, then h = head. Down from h to c: each record must be SENT, of this lane, at its position, and its state word,
 *   flags aside (an attach may set SHARED meanwhile), must be the same before and after its `next` was read. Where that fails, it
 *   and all below were handed over meanwhile; those are SENT no more, so a CAS from the dead one's SENT word fails on them.
 *
 * ENVELOPES. A block that goes along with an envelope follows it. Its sender is dead: it stays while the envelope is linked, or
 * taken by another party; else it goes with it. Its receiver is dead between taking the envelope and taking the block: the
 * envelope is OWNED by the dead, so the block is freed first, whoever sent it; the sweep frees the envelope afterwards. While a
 * block is SENT for an envelope that envelope has the generation noted in the block (message.c), and an envelope that somebody
 * has taken was pushed, so its sender touches neither any more. Model: envelope.pml.
 *
 * A record that is in flight through a socket is not linked anywhere: it goes with its sender.
 *
 * A party that leaves keeps its SENT records: they are linked, unless a thread of it is still inside a send.
 */
#include "actor_lane.h"

#include <limits.h>
#include <stdlib.h>

/* What one sweep has found linked: indexes of records SENT by the party, sorted. A thread does one sweep at a time. */
static _Thread_local struct {
    struct cue_pool *pool;
    unsigned slot;
    uint32_t *linked;
    size_t count, room;
    bool complete; /* no room for one of them: each is looked for on its own instead */
} sweep;

/* ---- walking a chain ---- */

/* Calls `visit` with what is linked, newest first, until it returns true. */
static bool chain_walk(struct cue_pool *pool, const struct mailbox *box, uint32_t lane,
                       bool (*visit)(uint32_t index, uint64_t state, void *arg), void *arg)
{
    uint32_t consumed = position(atomic_load_explicit(&box->consumed, seq_cst)); /* before head: it follows it */
    uint64_t head = atomic_load_explicit(&box->head, seq_cst);
    uint32_t at = position(head), index = head_index(head);
    for (int32_t left = lane_length(at, consumed); left > 0; left--, at -= POSITION_ONE) {
        struct record *rec = pool_record(pool, index);
        uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
        if (rec_state(state) != REC_SENT || atomic_load_explicit(&rec->lane, relaxed) != lane ||
            atomic_load_explicit(&rec->seq, relaxed) != at)
            return false;
        uint32_t next = atomic_load_explicit(&rec->next, relaxed);
        atomic_thread_fence(acquire); /* these before the second look at the state */
        if ((atomic_load_explicit(&rec->state, relaxed) & ~REC_FLAGS) != (state & ~REC_FLAGS))
            return false;
        if (visit(index, state, arg))
            return true;
        index = next;
    }
    return false;
}

/* The mailbox of a lane, under a lease that the caller drops with box_leave. */
static struct mailbox *box_enter(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t *generation)
{
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    *generation = rec_generation(state);
    if (rec_state(state) != REC_KEPT || atomic_load_explicit(&rec->type, relaxed) != POOL_TYPE_LANE ||
        lease_take(pool, rec, index, *generation))
        return NULL;
    struct mailbox *box = lane_box(pool, rec, index);
    if (!box && lease_drop(pool, rec, index, *generation))
        pool_view_ended(pool);
    return box;
}

static void box_leave(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    if (lease_drop(pool, rec, index, generation))
        pool_view_ended(pool);
}

/* ---- is it linked? ---- */

static bool is_index(uint32_t index, uint64_t state, void *arg)
{
    (void)state;
    return index == *(const uint32_t *)arg;
}

/* For one record, where no sweep has looked at all of them. */
static bool linked_in_lane(struct cue_pool *pool, const struct record *rec, uint32_t index)
{
    uint32_t lane = atomic_load_explicit(&rec->lane, relaxed); /* of a dead sender: it changes no more, or the CAS that follows fails */
    uint64_t generation;
    struct record *of = pool_record(pool, lane);
    struct mailbox *box = box_enter(pool, of, lane, &generation);
    if (!box)
        return false;
    bool found = chain_walk(pool, box, lane, is_index, &index);
    box_leave(pool, of, lane, generation);
    return found;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static bool message_linked(struct cue_pool *pool, const struct record *rec, uint32_t index, uint64_t state)
{
    if (sweep.complete && sweep.pool == pool && rec_party(state) == sweep.slot + 1)
        return sweep.count && bsearch(&index, sweep.linked, sweep.count, sizeof index, compare);
    return linked_in_lane(pool, rec, index);
}

/* A block that goes along with an envelope; its sender is dead. */
static bool attached_linked(struct cue_pool *pool, const struct record *rec, uint64_t state)
{
    uint32_t index = atomic_load_explicit(&rec->next, relaxed), low = atomic_load_explicit(&rec->seq, relaxed); /* as above */
    const struct record *envelope = pool_record(pool, index);
    for (;;) {
        uint64_t is = envelope ? atomic_load_explicit(&envelope->state, acquire) : 0;
        if (!envelope || (uint32_t)rec_generation(is) != low)
            return false;
        if (rec_state(is) == REC_OWNED)
            return rec_party(is) != rec_party(state); /* taken by a receiver, who takes the block next; or never sent */
        if (rec_state(is) != REC_SENT)
            return false;
        if (message_linked(pool, envelope, index, is))
            return true;
        if ((atomic_load_explicit(&envelope->state, acquire) & ~REC_FLAGS) == (is & ~REC_FLAGS))
            return false; /* never linked: nobody will ever take it */
    }
}

static bool linked(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state)
{
    uint32_t lane = atomic_load_explicit(&rec->lane, relaxed); /* as above */
    if (lane == LANE_SOCKET)
        return false; /* also our own: who leaves sends nothing again */
    if (rec_party(state) == pool->self + 1)
        return true;
    return lane == LANE_ENVELOPE ? attached_linked(pool, rec, state) : message_linked(pool, rec, index, state);
}

/* ---- a party has died ---- */

static bool note_linked(uint32_t index, uint64_t state, void *arg)
{
    (void)arg;
    if (rec_party(state) != sweep.slot + 1)
        return false;
    if (sweep.count == sweep.room) {
        size_t room = sweep.room ? 2 * sweep.room : 256;
        uint32_t *more = realloc(sweep.linked, room * sizeof *more);
        if (!more) {
            sweep.complete = false;
            return true;
        }
        sweep.linked = more;
        sweep.room = room;
    }
    sweep.linked[sweep.count++] = index;
    return false;
}

/* Those who wait on the lane look again. */
static void waiters_wake(struct cue_pool *pool, struct mailbox *box, unsigned slot, uint32_t epoch)
{
    uint64_t receiver = atomic_load_explicit(&box->receiver, acquire);
    if (receiver_party(receiver) == slot + 1 && receiver_epoch(receiver) == (epoch & 0x3fffffff) && cas(&box->receiver, &receiver, 0))
        futex_wake(&box->consumed, INT_MAX);
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    if (head & HEAD_SLEEP && position(head) != position(atomic_load_explicit(&box->consumed, acquire)))
        lane_wake(pool, box);
}

static void lane_settle(struct cue_pool *pool, struct record *rec, uint32_t index, unsigned slot, uint32_t epoch)
{
    uint64_t generation;
    struct mailbox *box = box_enter(pool, rec, index, &generation);
    if (!box)
        return;
    if (box->mortal)
        actor_lane_bury(pool, rec, index, generation, box, slot, epoch);
    waiters_wake(pool, box, slot, epoch);
    if (slot != pool->self)
        chain_walk(pool, box, index, note_linked, NULL);
    box_leave(pool, rec, index, generation);
    lane_retire(pool, rec, index, generation, slot);
}

/* A block that goes along with an envelope which the dead party had taken. */
static void attached_settle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, unsigned slot)
{
    uint32_t next = atomic_load_explicit(&rec->next, relaxed),
             low = atomic_load_explicit(&rec->seq, relaxed); /* pairs with: the look at the envelope */
    const struct record *envelope = pool_record(pool, next);
    uint64_t is = envelope ? atomic_load_explicit(&envelope->state, acquire) : 0;
    if (rec_state(is) == REC_OWNED && rec_party(is) == slot + 1 && (uint32_t)rec_generation(is) == low && rec_party(state) != slot + 1)
        block_drop(pool, rec, index, state); /* !! */
}

struct death {
    unsigned slot;
    uint32_t epoch;
};

static int settle(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    const struct death *death = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_KEPT && atomic_load_explicit(&rec->type, relaxed) == POOL_TYPE_LANE)
        lane_settle(pool, rec, index, death->slot, death->epoch);
    else if (rec_state(state) == REC_SENT && atomic_load_explicit(&rec->lane, relaxed) == LANE_ENVELOPE && death->slot != pool->self)
        attached_settle(pool, rec, index, state, death->slot);
    return 0;
}

static void party_died(struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    sweep.pool = pool;
    sweep.slot = slot;
    sweep.count = 0;
    sweep.complete = slot != pool->self;
    struct death death = { slot, epoch };
    pool_each_record(pool, settle, &death);
    if (sweep.count)
        qsort(sweep.linked, sweep.count, sizeof *sweep.linked, compare);
}

static int retire_lane(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_KEPT && atomic_load_explicit(&rec->type, relaxed) == POOL_TYPE_LANE)
        lane_retire(pool, rec, index, rec_generation(state), NOBODY_GONE);
    return 0;
}

/* The dead one's bits are cleared. Somebody who closed a lane since it was settled has seen such a bit and left it alone. */
static void party_swept(void)
{
    if (sweep.slot != sweep.pool->self)
        pool_each_record(sweep.pool, retire_lane, NULL);
    free(sweep.linked);
    sweep.linked = NULL;
    sweep.count = sweep.room = 0;
    sweep.complete = false;
}

/* Known to the pool layer by name. */
const struct recovery_hooks lane_recovery_hooks = { linked, party_died, party_swept };
