/* A stream: one sender, one receiver, the fastest lane.
 *
 * The same slots as a queue's. Each end keeps its position to itself, so they share nothing but the slots, and what a message needs
 * is one line of slots, the record and the bytes.
 *
 *   send      s = slot of p. Empty in p's lap: lane, seq := p into the record; OWNED -> SENT; slot := (lap, record)  !!. Else full
 *   receive   s = slot of p. (p's lap, record): CAS SENT -> OWNED  !!; slot := empty in the next lap. Else nothing
 *
 * Only the sender makes a slot full and only the receiver makes it empty, so both store it plainly; a fence a call comes between that
 * and the look whether the other one sleeps. A call of several messages fills its places, or empties them, all at its end: a line
 * with eight of them then goes over once, and not with each message.
 *
 * AN END CHANGES HANDS when its holder closes or dies. All slots together show the positions r .. r + N - 1, where r is the receiver's:
 * those with a message and then the empty ones, which show where the next messages will be. A slot whose record is not SENT at its
 * position was claimed by a receiver that was killed before it emptied it; a new receiver empties it. So a new receiver goes on at
 * the lowest position, a new sender at the lowest empty one, else behind all.
 *
 * A sender that was killed before its slot was set: its record is in no slot, and is freed (ring_linked).
 *
 * With drop-old the sender takes the oldest message itself, so both ends claim; then the ring is worked as a queue's, which knows how
 * to (queue.c), with one sender and one receiver.
 *
 * LOANS. cue_channel_reserve gives a block of the pool, an owner; cue_channel_commit sends it. On every lane, not only here.
 */
#include "ring.h"

#include <stdlib.h>

static bool stream_full(struct ring_channel *ch)
{
    uint64_t p = ch->send_at, slot = atomic_load_explicit(ring_slot(ch, p), seq_cst);
    if (slot_index(slot) || slot_ahead(slot, p, ch->shift))
        return true;
    if (__builtin_expect(ch->depth == ch->mask + 1 || p < ch->depth, 1))
        return false;
    return slot_index(atomic_load_explicit(ring_slot(ch, p - ch->depth), seq_cst)) != 0; /* the one `depth` before still waits */
}

static int stream_push(struct ring_channel *ch, struct parcel *parcel, bool beyond)
{
    (void)beyond;
    uint64_t p = ch->send_at;
    if (__builtin_expect(stream_full(ch), 0))
        return 0;
    if (!ring_post(ch, parcel, p))
        return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", parcel->index, ch->lane.pool->name);
    ch->posted[ch->send_at++ - ch->filled] = parcel->index + 1;
    return 1;
}

static bool stream_nothing(struct ring_channel *ch)
{
    uint64_t p = ch->recv_at, slot = atomic_load_explicit(ring_slot(ch, p), seq_cst);
    return slot_index(slot) == 0 || slot_ahead(slot, p, ch->shift);
}

static int stream_take(struct ring_channel *ch, struct took *out)
{
    struct cue_pool *pool = ch->lane.pool;
    uint64_t p = ch->recv_at, slot = atomic_load_explicit(ring_slot(ch, p), acquire), state; /* pairs with: stream_push */
    if (slot_index(slot) == 0 && slot_ahead(slot, p, ch->shift) == 0)
        return 0;
    out->index = slot_index(slot) - 1;
    out->rec = slot_index(slot) ? pool_record(pool, out->index) : NULL;
    state = out->rec && slot_ahead(slot, p, ch->shift) == 0 ? ring_message(ch->lane.index, out->rec, p) : 0;
    if (__builtin_expect(state == 0, 0))
        return trail(CUE_ECORRUPT, "stream %x of pool %s: message %llu makes no sense", ch->lane.index, pool->name, (unsigned long long)p);
    out->state = rec_word(REC_OWNED, pool->self + 1, rec_generation(state));
    if (!record_move(out->rec, state & ~REC_SHARED, out->state)) /* !! */
        return trail(CUE_ECORRUPT, "stream %x of pool %s: message %llu is not sent any more", ch->lane.index, pool->name,
                     (unsigned long long)p);
    ch->recv_at = p + 1;
    return 1;
}

/* Empties the places of what was taken. */
static void stream_taken(struct ring_channel *ch)
{
    for (; ch->emptied != ch->recv_at; ch->emptied++)
        atomic_store_explicit(ring_slot(ch, ch->emptied), slot_word((ch->emptied >> ch->shift) + 1, 0), release); /* pairs with: stream_full */
    atomic_store_explicit(&ch->ring->head, ch->recv_at, relaxed); /* a count for people */
    atomic_thread_fence(seq_cst);                                 /* pairs with: event_prepare */
}

/* Fills the places of what was posted. */
static void stream_pushed(struct ring_channel *ch)
{
    uint64_t from = ch->filled;
    for (; ch->filled != ch->send_at; ch->filled++) /* !! pairs with: stream_take */
        atomic_store_explicit(ring_slot(ch, ch->filled), slot_word(ch->filled >> ch->shift, ch->posted[ch->filled - from]), release);
    atomic_store_explicit(&ch->ring->tail, ch->send_at, relaxed); /* a count for people */
    atomic_thread_fence(seq_cst);                                 /* pairs with: event_prepare */
}

static int stream_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline)
{
    struct ring_channel *ch = ring_of(base);
    if (__builtin_expect(atomic_exchange_explicit(&ch->sending, 1, acquire), 0)) /* private */
        return trail(CUE_EBUSY, "another thread is sending on this stream");
    int status = ring_send_many(base, m, n, deadline);
    atomic_store_explicit(&ch->sending, 0, release); /* the last touch of the channel, see ring_still */
    return status;
}

/* ---- the channel ---- */

static int stream_close(cue_channel *base)
{
    struct ring_channel *ch = ring_of(base);
    if (base->forks == fork_epoch) { /* else it is the parent's */
        uint64_t receiver = ch->receiver, sender = ch->sender;
        ring_still(ch);
        if (receiver)
            cas(&ch->ring->lane.receiver, &receiver, 0);
        if (sender)
            cas(&ch->ring->lane.sender, &sender, 0);
        lane_close(&ch->lane);
    }
    return 0;
}

/* Empties what a killed receiver claimed and did not empty. Only by one who has claimed the receiver's end. */
static void tidy(struct ring_channel *ch)
{
    for (uint64_t i = 0; i <= ch->mask; i++) {
        uint64_t slot = atomic_load_explicit(&ch->ring->slot[i], acquire), p = (slot >> 32) << ch->shift | i;
        const struct record *rec = slot_index(slot) ? pool_record(ch->lane.pool, slot_index(slot) - 1) : NULL;
        if (slot_index(slot) && (!rec || !ring_message(ch->lane.index, rec, p)))
            cas(&ch->ring->slot[i], &slot, slot_word((slot >> 32) + 1, 0));
    }
}

/* The lowest position of all slots, or of the empty ones; behind all if there is none. Positions may have wrapped: they are taken
 * relative to the first slot's lap. The other end moves meanwhile. A sender fills the lowest empty slots, which changes no
 * position. A receiver empties the lowest full ones, each after the one before: one that we saw full may be empty by now, and one
 * behind it that was emptied later is taken for the lowest; so we go back from there as far as it is empty. */
static uint64_t lowest(struct ring_channel *ch, bool of_empty)
{
    uint32_t base = (uint32_t)(atomic_load_explicit(&ch->ring->slot[0], acquire) >> 32);
    int64_t best = INT64_MAX, all = INT64_MAX;
    for (uint64_t i = 0; i <= ch->mask; i++) {
        uint64_t slot = atomic_load_explicit(&ch->ring->slot[i], acquire);
        int64_t at = (int64_t)((uint64_t)(int64_t)(int32_t)((uint32_t)(slot >> 32) - base) << ch->shift) + (int64_t)i;
        all = at < all ? at : all;
        if (!of_empty || slot_index(slot) == 0)
            best = at < best ? at : best;
    }
    uint64_t found = ((uint64_t)base << ch->shift) + (uint64_t)(best != INT64_MAX ? best : all + (int64_t)ch->mask + 1);
    while (of_empty && atomic_load_explicit(ring_slot(ch, found - 1), acquire) == slot_word((found - 1) >> ch->shift, 0))
        found--;
    return found;
}

static int claim_ends(struct ring_channel *ch, bool positions)
{
    struct lane_head *head = &ch->ring->lane;
    int status = 0;
    if (ch->base.how & CUE_RECV)
        status = lane_end_claim(&ch->lane, &head->receiver, "receives from it", &ch->receiver);
    if (!status && ch->base.how & CUE_SEND)
        status = lane_end_claim(&ch->lane, &head->sender, "sends on it", &ch->sender);
    if (status) {
        uint64_t receiver = ch->receiver;
        if (receiver)
            cas(&head->receiver, &receiver, 0);
        return status;
    }
    if (positions && ch->receiver)
        tidy(ch);
    if (positions && ch->receiver)
        ch->recv_at = ch->emptied = lowest(ch, false);
    if (positions && ch->sender)
        ch->send_at = ch->filled = lowest(ch, true);
    return 0;
}

/* Where the next message to be taken is, or will be, of a ring that is worked as a queue. */
static uint64_t next_message(struct ring_channel *ch)
{
    queue_nothing(ch); /* sets the hint right */
    return atomic_load_explicit(&ch->ring->head, acquire);
}

static const struct ring_way stream_way, dropping_way;

static int stream_open(const struct lane *lane, unsigned how, const cue_channel_opts *with, cue_channel **out)
{
    struct ring_channel *ch;
    bool dropping = lane->head->full == CUE_DROP_OLD;
    int status = ring_open(lane, how, with, dropping ? &dropping_way : &stream_way, &ch);
    if (status)
        return status;
    ch->enclose = dropping;
    status = claim_ends(ch, !dropping);
    if (status) {
        ring_free(ch);
        return status;
    }
    if (how & CUE_RECV && lane->head->full != CUE_FAIL) {
        ch->gaps = true;
        ch->next = (uint32_t)(dropping ? next_message(ch) : ch->recv_at);
        ch->dropped = atomic_load_explicit(&ch->ring->dropped_new, relaxed); /* a count */
    }
    *out = &ch->base;
    return 0;
}

static uint64_t stream_receiver(cue_channel *base)
{
    return atomic_load_explicit(&ring_of(base)->lane.head->receiver, acquire); /* whoever it is now */
}

#define STREAM_OPS                                                                                                                         \
    {                                                                                                                                      \
        .send_many = stream_send_many, .recv_many = ring_recv_many, .wake = ring_wake, .stat = ring_stat, .close = stream_close,           \
        .later = true, .doze = ring_doze, .rouse = ring_rouse, .receiver = stream_receiver, .asks = true,                                  \
        .shut = ring_shut, .drain = ring_drain, .discard = ring_discard                                                                    \
    }

static const struct ring_way stream_way = {
    .ops = STREAM_OPS,
    .push = stream_push,
    .take = stream_take,
    .full = stream_full,
    .nothing = stream_nothing,
    .pushed = stream_pushed,
    .taken = stream_taken,
};

static const struct ring_way dropping_way = {
    .ops = STREAM_OPS,
    .push = queue_push,
    .take = queue_take,
    .full = queue_full,
    .nothing = queue_nothing,
};

/* ---- the lane ---- */

static bool stream_empty(const struct lane *lane)
{
    const struct ring *ring = (const struct ring *)(const void *)lane->head;
    uint32_t shift;
    if (!ring_shift(lane, &shift))
        return false;
    for (uint64_t i = 0; i < UINT64_C(1) << shift; i++) {
        uint64_t slot = atomic_load_explicit(&ring->slot[i], seq_cst), p = (slot >> 32) << shift | i;
        const struct record *rec = slot_index(slot) ? pool_record(lane->pool, slot_index(slot) - 1) : NULL;
        if (rec && ring_message(lane->index, rec, p))
            return false;
    }
    return true; /* but for slots that a killed receiver did not empty */
}

static void stream_stat(struct cue_pool *pool, struct lane_head *head, cue_channel_info *out)
{
    (void)pool;
    struct ring *ring = (struct ring *)(void *)head;
    uint64_t passed = atomic_load_explicit(&ring->head, acquire);
    int64_t waiting = (int64_t)(atomic_load_explicit(&ring->tail, acquire) - passed);
    ring_counts(ring, passed, waiting > 0 ? (uint64_t)waiting : 0, out);
}

static void stream_died(const struct lane *lane, unsigned slot, uint32_t epoch)
{
    lane_end_vacate(&lane->head->receiver, slot, epoch);
    lane_end_vacate(&lane->head->sender, slot, epoch);
    ring_died(lane);
}

const struct lane_kind stream_kind = {
    .name = "stream",
    .bytes = ring_bytes,
    .init = ring_init,
    .sound = ring_sound,
    .open = stream_open,
    .empty = stream_empty,
    .stat = stream_stat,
    .died = stream_died,
    .linked = ring_linked,
};
