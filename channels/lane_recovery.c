/* What becomes of lanes and of messages on their way when a party dies, or leaves.
 *
 * First, what others wait for: each lane's kind sees to it (lane_kind.died). Each of those who wait would find out by itself within
 * a watch period. Lanes that nobody has open any more and that are empty are retired.
 *
 * A record SENT by the dead party was either linked in its lane, then its message is delivered, or it never was, then it is freed:
 * the lane's kind knows (lane_kind.linked). Kinds that find out by a walk walk once for all records.
 *
 * ENVELOPES. A block that goes along with an envelope follows it. Its sender is dead: it stays while the envelope is linked, or
 * taken by another party; else it goes with it. Its receiver is dead between taking the envelope and taking the block: the
 * envelope is OWNED by the dead, so the block is freed first, whoever sent it; the sweep frees the envelope afterwards. While a
 * block is SENT for an envelope that envelope has the generation noted in the block (message.c), and an envelope that somebody
 * has taken was pushed, so its sender touches neither any more. Model: envelope.pml.
 *
 * A message of a queue with redeliver that the dead party had in hand goes back to its queue first: redeliver.c.
 *
 * A record that is in flight through a socket is not linked anywhere: it goes with its sender.
 *
 * A party that leaves keeps its SENT records: they are linked, unless a thread of it is still inside a send.
 */
#include "ask.h"
#include "redeliver.h"
#include "tap.h"
#include "topic.h"

#include <stdlib.h>

/* What one sweep has found linked by walking: indexes of records SENT by the party, sorted. A thread does one sweep at a time. */
static _Thread_local struct {
    struct cue_pool *pool;
    unsigned slot;
    uint32_t *linked;
    size_t count, room;
    bool complete; /* no room for one of them: each is looked for on its own instead */
} sweep;

/* ---- is it linked? ---- */

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static bool message_linked(struct cue_pool *pool, const struct record *rec, uint32_t index, uint64_t state)
{
    struct lane lane;
    if (!lane_enter(pool, atomic_load_explicit(&rec->lane, relaxed), &lane)) /* of a dead sender: it changes no more, or the CAS that
                                                                                 follows fails */
        return false;
    const struct lane_kind *kind = lane.kind;
    bool found;
    if (kind->walk && sweep.complete && sweep.pool == pool && rec_party(state) == sweep.slot + 1)
        found = sweep.count && bsearch(&index, sweep.linked, sweep.count, sizeof index, compare);
    else
        found = kind->linked(&lane, rec, index);
    lane_leave(&lane);
    return found;
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
        if (rec_state(is) == REC_OWNED) /* taken by a receiver, who takes the block next; or never sent */
            return rec_party(is) != rec_party(state) || is & REC_LENT;
        if (returned_waits(envelope, is))
            return true;
        if ((rec_state(is) == REC_POSTED || rec_state(is) == REC_DOOMED) && is & REC_TOPIC)
            return true; /* goes with it, see topic_record_finishing */
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
    if (lane == LANE_ENVELOPE)
        return attached_linked(pool, rec, state);
    return message_linked(pool, rec, index, state) || returned_put(pool, rec, index, state);
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

static void lane_settle(struct cue_pool *pool, uint32_t index, unsigned slot, uint32_t epoch)
{
    struct lane lane;
    if (!lane_enter(pool, index, &lane))
        return;
    const struct lane_kind *kind = lane.kind;
    kind->died(&lane, slot, epoch);
    if (kind->walk && slot != pool->self)
        kind->walk(&lane, note_linked, NULL);
    lane_leave(&lane);
}

/* A block that goes along with an envelope which the dead party had taken. */
static void attached_settle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, unsigned slot)
{
    uint32_t next = atomic_load_explicit(&rec->next, relaxed),
             low = atomic_load_explicit(&rec->seq, relaxed); /* pairs with: the look at the envelope */
    const struct record *envelope = pool_record(pool, next);
    uint64_t is = envelope ? atomic_load_explicit(&envelope->state, acquire) : 0;
    if (rec_state(is) == REC_OWNED && rec_party(is) == slot + 1 && (uint32_t)rec_generation(is) == low && rec_party(state) != slot + 1 &&
        !(is & REC_LENT))
        block_drop(pool, rec, index, state); /* !! */
}

struct death {
    unsigned slot;
    uint32_t epoch, lanes;
};

static bool is_lane(const struct record *rec, uint64_t state)
{
    return rec_state(state) == REC_KEPT && atomic_load_explicit(&rec->type, relaxed) == POOL_TYPE_LANE; /* pairs with: the state word */
}

static int settle(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    struct death *death = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (is_lane(rec, state)) {
        lane_settle(pool, index, death->slot, death->epoch);
        death->lanes++;
    }
    if (rec_state(state) == REC_OWNED && state & REC_LENT && rec_party(state) == death->slot + 1) {
        if (!returned_put(pool, rec, index, state) && death->slot != pool->self)
            ask_settle(pool, rec, index); /* the same */
    } else if (returned_waits(rec, state))
        returned_remind(pool, rec);
    else if (rec_state(state) == REC_SENT && atomic_load_explicit(&rec->lane, relaxed) == LANE_ENVELOPE && death->slot != pool->self)
        attached_settle(pool, rec, index, state, death->slot);
    else if (rec_state(state) == REC_OWNED && rec_party(state) == death->slot + 1 && death->slot != pool->self)
        ask_settle(pool, rec, index);                        /* before it is freed */
    else if (state & REC_TOPIC && death->slot != pool->self) /* a thread of ours may still be about to post it */
        topic_record_settle(pool, rec, index, state, death->slot);
    else if (rec_state(state) == REC_KEPT && atomic_load_explicit(&rec->type, relaxed) == POOL_TYPE_SUBSCRIPTION)
        topic_history_settle(pool, rec, index);
    return 0;
}

/* Lanes that the dead party was the last to have open, or to tap. */
static int retire_without(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    const struct death *death = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    struct lane lane;
    if (is_lane(rec, state) && lane_enter(pool, index, &lane)) {
        tap_settle(&lane);
        lane_leave(&lane);
    }
    if (is_lane(rec, state))
        lane_retire(pool, rec, index, rec_generation(state), death->slot);
    return 0;
}

static void party_died(struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    sweep.pool = pool;
    sweep.slot = slot;
    sweep.count = 0;
    sweep.complete = slot != pool->self;
    struct death death = { slot, epoch, 0 };
    pool_each_record(pool, settle, &death);
    if (death.lanes) /* after what may go back into one */
        pool_each_record(pool, retire_without, &death);
    if (sweep.count)
        qsort(sweep.linked, sweep.count, sizeof *sweep.linked, compare);
}

static int retire_lane(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)arg;
    struct lane lane;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (is_lane(rec, state) && lane_enter(pool, index, &lane))
        lane_close(&lane); /* in the place of the dead */
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

static int give_up(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_OWNED && state & REC_LENT && rec_party(state) == pool->self + 1)
        returned_put(pool, rec, index, state);
    return 0;
}

/* What we have in hand goes back before the blocks that came along with it are freed as ours. */
static void given_up(struct cue_pool *pool)
{
    pool_each_record(pool, give_up, NULL);
}

const struct recovery_hooks lane_recovery_hooks = { linked, party_died, party_swept, given_up, topic_record_finishing, topic_record_stuck };

/* Before main, and before other constructors that may open pools: whoever recovers knows how. */
__attribute__((constructor(101))) static void register_recovery(void)
{
    recovery_register(&lane_recovery_hooks);
}
