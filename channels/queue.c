/* A queue: many senders, many receivers that compete, first in first out, each message to exactly one. (Model: queue.pml.)
 *
 *   send      p = tail, s = slot of p. Empty in p's lap: lane, seq := p into the record; OWNED -> SENT; CAS slot s -> (lap, record)  !!;
 *             CAS tail p -> p + 1. Full in p's lap, or of a later one: help tail on. Of a former lap: that message is still SENT:
 *             full; else it was claimed: CAS slot -> empty in p's lap, again
 *   receive   p = head, s = slot of p. Empty in p's lap: nothing. Of a later lap: help head on. The record is SENT, in this lane, at p:
 *             CAS SENT -> OWNED  !!. In any case then CAS slot -> empty in the next lap, CAS head p -> p + 1. Not ours: again
 *
 * The claim is the CAS of the record. Clearing the slot and moving head and tail is tidying that everybody helps with, so who is
 * killed or stopped between two steps holds up nobody. Messages are claimed in the order of their positions, which is the order in
 * which their senders' slots were set.
 *
 * A sender that was killed before its slot was set: its record is in no slot, and is freed (ring_linked). One that was killed after it: its
 * message is there.
 *
 * ENVELOPES ALWAYS. A claim compares the state word that was loaded before lane and position were looked at. A block that is moved from
 * hand to hand keeps its generation: it could be received, sent on by the same process, and be SENT by it with the same word again,
 * elsewhere, before a receiver that was stopped in between does its CAS. An envelope is SENT once, then freed, which changes its
 * generation. So a pure block gets an envelope here, which the receiver does not see.
 *
 * SHUT (cue_channel_shut). A sender looks whether the lane is shut before it begins and once more after its slot was set. A receiver shuts
 * it and then looks at the slots. Both in the order of seq_cst: either the sender sees it, and takes its message out again by a claim like
 * a receiver's, or the receiver sees the message. (Model: shut.pml.)
 *
 * What a receiver that dies has in hand: redeliver.c.
 */
#include "ring.h"

#include <stdio.h>
#include <string.h>

/* tail and head are hints that every push and take sets right as it finds them: at most a few places behind. */
static int damaged(struct ring_channel *ch, uint64_t p)
{
    return trail(CUE_ECORRUPT, "queue %x of pool %s: the place of message %llu makes no sense", ch->lane.index, ch->lane.pool->name,
                 (unsigned long long)p);
}

/* Whether message p still waits in its place, in which there is `slot`. */
static bool still_there(struct ring_channel *ch, uint64_t p, uint64_t slot)
{
    struct record *rec = slot_index(slot) ? pool_record(ch->lane.pool, slot_index(slot) - 1) : NULL;
    return rec && ring_message(ch->lane.index, rec, p);
}

static inline void tail_on(struct ring_channel *ch, uint64_t p)
{
    cas(&ch->ring->tail, &p, p + 1);
}

/* Where depth is not the number of places: whether the message `depth` before p still waits. */
static bool too_deep(struct ring_channel *ch, uint64_t p)
{
    if (__builtin_expect(ch->depth == ch->mask + 1 || p < ch->depth, 1))
        return false;
    uint64_t before = p - ch->depth, slot = atomic_load_explicit(ring_slot(ch, before), seq_cst);
    return slot_ahead(slot, before, ch->shift) == 0 && still_there(ch, before, slot);
}

bool queue_full(struct ring_channel *ch)
{
    for (;;) {
        uint64_t p = atomic_load_explicit(&ch->ring->tail, seq_cst), slot = atomic_load_explicit(ring_slot(ch, p), seq_cst);
        int32_t ahead = slot_ahead(slot, p, ch->shift);
        if (ahead < 0)
            return still_there(ch, p - ch->mask - 1, slot);
        if (ahead == 0 && slot_index(slot) == 0)
            return too_deep(ch, p);
        if (ahead > 1)
            return false; /* stale, or damage: queue_push finds out */
        tail_on(ch, p);
    }
}

/* The lane was shut just before we put it in. 1: somebody has received it all the same. */
static __attribute__((noinline)) int withdraw(struct ring_channel *ch, struct parcel *parcel)
{
    uint64_t sent = rec_word(REC_SENT, ch->lane.pool->self + 1, rec_generation(parcel->state));
    if (!record_move(parcel->rec, sent, parcel->state)) /* !! as a claim */
        return 1;
    parcel->sent = false;
    atomic_fetch_add_explicit(&ch->ring->withdrawn, 1, relaxed); /* a count for people: its position is nobody's */
    return lane_shut_trail(ch->lane.pool, &ch->ring->lane);
}

int queue_push(struct ring_channel *ch, struct parcel *parcel, bool beyond)
{
    for (;;) {
        uint64_t p = atomic_load_explicit(&ch->ring->tail, acquire), lap = p >> ch->shift;
        _Atomic uint64_t *place = ring_slot(ch, p);
        uint64_t slot = atomic_load_explicit(place, acquire);
        int32_t ahead = slot_ahead(slot, p, ch->shift);
        if (__builtin_expect(ahead == 0 && slot_index(slot) == 0, 1)) {
            if (!beyond && too_deep(ch, p))
                return 0;
            if (!ring_post(ch, parcel, p))
                return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", parcel->index, ch->lane.pool->name);
            if (atomic_compare_exchange_strong_explicit(place, &slot, slot_word(lap, parcel->index + 1), seq_cst, relaxed)) {
                tail_on(ch, p); /* !! above; pairs with: queue_take, and with event_prepare */
                return lane_is_shut(&ch->ring->lane) ? withdraw(ch, parcel) : 1;
            }
        } else if (ahead >= 0) {
            if (ahead > 1 && atomic_load_explicit(&ch->ring->tail, acquire) == p)
                return damaged(ch, p);
            tail_on(ch, p);
        } else if (still_there(ch, p - ch->mask - 1, slot)) {
            return 0;
        } else {
            cas(place, &slot, slot_word(lap, 0));
        }
    }
}

bool queue_nothing(struct ring_channel *ch)
{
    for (;;) {
        uint64_t p = atomic_load_explicit(&ch->ring->head, seq_cst), slot = atomic_load_explicit(ring_slot(ch, p), seq_cst);
        int32_t ahead = slot_ahead(slot, p, ch->shift);
        if (ahead != 1)
            return ahead == 0 && slot_index(slot) == 0; /* what is neither is stale, or damage: queue_take finds out */
        cas(&ch->ring->head, &p, p + 1);
    }
}

int queue_take(struct ring_channel *ch, struct took *out)
{
    struct cue_pool *pool = ch->lane.pool;
    uint64_t lent = ch->redeliver ? REC_LENT : 0;
    for (;;) {
        uint64_t p = atomic_load_explicit(&ch->ring->head, acquire), lap = p >> ch->shift;
        _Atomic uint64_t *place = ring_slot(ch, p);
        uint64_t slot = atomic_load_explicit(place, acquire), state = 0; /* pairs with: queue_push */
        int32_t ahead = slot_ahead(slot, p, ch->shift);
        if (ahead == 0 && slot_index(slot) == 0)
            return 0;
        if (__builtin_expect(ahead < 0 || ahead > 1, 0) && atomic_load_explicit(&ch->ring->head, acquire) == p)
            return damaged(ch, p);
        if (ahead == 0) {
            out->index = slot_index(slot) - 1;
            out->rec = pool_record(pool, out->index);
            state = out->rec ? ring_message(ch->lane.index, out->rec, p) : 0;
            if (state) {
                out->state = rec_word(REC_OWNED, pool->self + 1, rec_generation(state)) | lent;
                state = record_move(out->rec, state & ~REC_SHARED, out->state); /* !! */
            }
            cas(place, &slot, slot_word(lap + 1, 0));
        }
        uint64_t head = p;
        cas(&ch->ring->head, &head, p + 1);
        if (state)
            return 1;
    }
}

/* ---- the channel ---- */

static const struct ring_way queue_way;

static int queue_close(cue_channel *base)
{
    struct ring_channel *ch = ring_of(base);
    if (base->forks == fork_epoch) { /* else it is the parent's */
        ring_still(ch);
        cue_channel_close(ch->dead);
        lane_close(&ch->lane);
    }
    returned_free(ch);
    return 0;
}

static int queue_forked(cue_channel *base)
{
    if (base->how & CUE_RECV)
        return trail(CUE_EFORK, "this channel receives for the parent process");
    struct ring_channel *ch = ring_of(base);
    atomic_store_explicit(&ch->waiting, 0, relaxed); /* private: those threads are not here */
    halt_forget(&ch->halt);
    return lane_renew(&ch->lane);
}

static int queue_open(const struct lane *lane, unsigned how, const cue_channel_opts *with, cue_channel **out)
{
    struct ring_channel *ch;
    char url[POOL_NAME_BYTES + 8], name[POOL_NAME_BYTES];
    int status = ring_open(lane, how, with, &queue_way, &ch);
    if (status)
        return status;
    ch->enclose = true;
    memcpy(name, ch->ring->dead, sizeof name);
    name[sizeof name - 1] = 0;
    if (how & CUE_RECV && ch->redeliver && name[0]) {
        snprintf(url, sizeof url, "shm:///%s", name);
        status = cue_channel_open(url, CUE_SEND, &(cue_channel_opts){ .pool = lane->pool }, &ch->dead);
        if (!status && !ch->dead->ops->put)
            status = trail(CUE_ETYPE, "lane %s, for dead letters, is neither a mailbox nor a queue", name);
    }
    if (status) {
        cue_channel_close(ch->dead);
        ring_free(ch);
        return status;
    }
    *out = &ch->base;
    return 0;
}

static const struct ring_way queue_way = {
    .place_bytes = sizeof(uint64_t),
    .ops = {
        .send_many = ring_send_many,
        .recv_many = ring_recv_many,
        .put = ring_put,
        .wake = ring_wake,
        .stat = ring_stat,
        .forked = queue_forked,
        .close = queue_close,
        .later = true,
        .shared = true,
        .doze = ring_doze,
        .rouse = ring_rouse,
        .asks = true,
        .shut = ring_shut,
        .drain = ring_drain,
        .discard = ring_discard,
    },
    .push = queue_push,
    .take = queue_take,
    .full = queue_full,
    .nothing = queue_nothing,
    .passed = ring_passed,
};

/* ---- the lane ---- */

static int queue_bytes(const cue_channel_opts *with, uint64_t *bytes)
{
    int status = with->dead ? name_check(with->dead) : 0;
    if (with->dead && !with->redeliver)
        status = trail(CUE_EINVAL, "dead=%.64s without redeliver: nothing would ever go there", with->dead);
    return status ? status : ring_bytes(with, bytes);
}

static bool queue_empty(const struct lane *lane)
{
    struct ring *ring = (struct ring *)(void *)lane->head;
    uint32_t shift;
    return ring_shift(lane, &shift) && !(atomic_load_explicit(&ring->returned, seq_cst) & RING_RETURNED) &&
           ring_passed(lane, shift, UINT64_MAX);
}

static void queue_stat(struct cue_pool *pool, struct lane_head *head, cue_channel_info *out)
{
    (void)pool;
    struct ring *ring = (struct ring *)(void *)head;
    uint64_t passed = atomic_load_explicit(&ring->head, acquire);
    int64_t waiting = (int64_t)(atomic_load_explicit(&ring->tail, acquire) - passed);
    ring_counts(ring, passed, waiting > 0 ? (uint64_t)waiting : 0, out);
}

static void queue_died(const struct lane *lane, unsigned slot, uint32_t epoch)
{
    (void)slot, (void)epoch;
    ring_died(lane);
}

const struct lane_kind queue_kind = {
    .name = "queue",
    .number = CUE_QUEUE,
    .redelivers = true,
    .bytes = queue_bytes,
    .init = ring_init,
    .sound = ring_sound,
    .open = queue_open,
    .empty = queue_empty,
    .stat = queue_stat,
    .died = queue_died,
    .linked = ring_linked,
};
