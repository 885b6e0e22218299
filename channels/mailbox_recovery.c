/* What becomes of a mailbox when a party dies: its receiver's place is vacant, who sleeps looks again, and the orphan rule.
 *
 * THE ORPHAN RULE. A record SENT by the dead party was either linked, then its message is delivered, or it never was, then it is
 * freed. One walk over the chain decides it for all: the dead push no more, so what is not in a chain now never will be.
 *
 *   c = consumed, then h = head. Down from h to c: each record must be SENT, of this lane, at its position, and its state word,
 *   flags aside (an attach may set SHARED meanwhile), must be the same before and after its `next` was read. Where that fails, it
 *   and all below were handed over meanwhile; those are SENT no more, so a CAS from the dead one's SENT word fails on them.
 */
#include "actor_lane.h"

#include <limits.h>

static struct mailbox *box_of(const struct lane *lane)
{
    return (struct mailbox *)(void *)lane->head;
}

bool mailbox_walk(const struct lane *lane, lane_visitor *visit, void *arg)
{
    struct mailbox *box = box_of(lane);
    uint32_t consumed = position(atomic_load_explicit(&box->consumed, seq_cst)); /* before head: it follows it */
    uint64_t head = atomic_load_explicit(&box->head, seq_cst);
    uint32_t at = position(head), index = head_index(head);
    for (int32_t left = lane_length(at, consumed); left > 0; left--, at -= POSITION_ONE) {
        struct record *rec = pool_record(lane->pool, index);
        uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
        if (rec_state(state) != REC_SENT || atomic_load_explicit(&rec->lane, relaxed) != lane->index ||
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

static bool is_index(uint32_t index, uint64_t state, void *arg)
{
    (void)state;
    return index == *(const uint32_t *)arg;
}

bool mailbox_linked(const struct lane *lane, const struct record *rec, uint32_t index)
{
    (void)rec;
    return mailbox_walk(lane, is_index, &index);
}

void mailbox_died(const struct lane *lane, unsigned slot, uint32_t epoch)
{
    struct mailbox *box = box_of(lane);
    if (box->lane.mortal)
        actor_lane_bury(lane, slot, epoch);
    if (lane_end_vacate(&box->lane.receiver, slot, epoch))
        futex_wake(&box->consumed, INT_MAX);
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    if (head & HEAD_SLEEP && position(head) != position(atomic_load_explicit(&box->consumed, acquire)))
        mailbox_rouse(lane->pool, box);
}
