/* A stream: one sender, one receiver, the fastest lane. (Model: stream.pml.)
 *
 * A ring of places (stream_layout.h) that hold small messages themselves, and the index of the record of any other. Each end keeps its
 * position to itself. What a message needs is its place, two lines that go over together; the sender looks at `head` when the ring seems
 * full, nobody else does.
 *
 *   send      p < head + depth, by a head that may be old. Small: the message into the place of p. Else lane, seq := p into the record;
 *             OWNED -> SENT. word := (lap, what)  !!. Else full
 *   receive   word of p says p's lap. Small: copied out; head := p + 1  !!. Else CAS SENT -> OWNED  !!; head := p + 1
 *
 * A call of several messages sets its words, or says its head, at its end.
 *
 * FENCES. A sender has one with each call, between its words and the look whether the receiver sleeps. A receiver would have to wait for
 * its own stores before it could act on the message. So it has one when a quarter of the ring was taken, and before it waits itself. In
 * between it may overlook a sender that goes to sleep for room just then, which need not be woken before a quarter is free; so it is woken
 * when half of the ring is.
 *
 * AN END CHANGES HANDS when its holder closes or dies. A record in a place from head on that is not SENT at its position was claimed by a
 * receiver that was killed before it said so, and with it all before it: a new receiver goes on behind the last of these. A small message
 * that was only copied is received once more: it had not reached the dead one's caller. A sender goes on at the first place from head on
 * that is not full.
 *
 * A sender that was killed before its word was set: its record is in no place, and is freed (stream_linked).
 *
 * With drop-old the sender takes the oldest message itself, so both ends claim; then the ring has slot words and is worked as a queue's,
 * which knows how to (queue.c), with one sender and one receiver.
 *
 * LOANS. cue_channel_reserve gives a block of the pool, an owner; cue_channel_commit sends it. On every lane, not only here.
 */
#include "ring.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool stream_full(struct ring_channel *ch)
{
    if (__builtin_expect(ch->send_at - atomic_load_explicit(&ch->head_seen, relaxed) < ch->depth, 1)) /* private */
        return false;
    uint64_t head = atomic_load_explicit(&ch->ring->head, seq_cst); /* pairs with: stream_taken */
    atomic_store_explicit(&ch->head_seen, head, relaxed);
    return ch->send_at - head >= ch->depth; /* also if it makes no sense */
}

/* At most PLACE_ROOM, from a caller's memory: without a call. */
static inline void copy_small(unsigned char *to, const unsigned char *from, size_t n)
{
    if (n == PLACE_ROOM) {
        memcpy(to, from, PLACE_ROOM);
    } else if (n >= 32) {
        memcpy(to, from, 32);
        memcpy(to + n - 32, from + n - 32, 32);
    } else if (n >= 16) {
        memcpy(to, from, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

/* The bytes first: the receiver looks at the other line all the time, and takes it away from us between two stores to it that wait for a
 * third. */
static inline void place_fill(struct place *place, const cue_msg *m)
{
    copy_small(place->bytes, m->data, m->size);
    atomic_signal_fence(seq_cst); /* the order of the stores, see above; it is no matter of who sees what */
    place->type = m->type;
    place->status = m->status;
    place->tag = m->tag;
    place->key = m->key;
    place->size = (uint32_t)m->size;
}

static int stream_push(struct ring_channel *ch, struct parcel *parcel, bool beyond)
{
    (void)beyond;
    uint64_t p = ch->send_at;
    uint32_t what = PLACE_SMALL;
    if (__builtin_expect(stream_full(ch), 0))
        return 0;
    if (!parcel->rec) {
        place_fill(ring_place(ch, p), parcel->small);
        ch->copied += parcel->small->size;
    } else if (ring_post(ch, parcel, p)) {
        what = parcel->index + 1;
    } else {
        return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", parcel->index, ch->lane.pool->name);
    }
    ch->posted[ch->send_at++ - ch->filled] = what;
    return 1;
}

/* After the words. */
static inline void stream_sent(struct ring_channel *ch)
{
    atomic_store_explicit(&ch->ring->tail, ch->send_at, relaxed); /* a count for people */
    atomic_thread_fence(seq_cst);                                 /* pairs with: event_prepare */
    if (ch->copied)
        atomic_fetch_add_explicit(&ch->lane.pool->copied, ch->copied, relaxed); /* a count for people */
    ch->copied = 0;
}

/* Sets the words of what was posted. */
static void stream_pushed(struct ring_channel *ch)
{
    uint64_t from = ch->filled;
    for (; ch->filled != ch->send_at; ch->filled++) /* !! pairs with: stream_take */
        atomic_store_explicit(&ring_place(ch, ch->filled)->word, slot_word(ch->filled >> ch->shift, ch->posted[ch->filled - from]),
                              release);
    stream_sent(ch);
}

static bool stream_nothing(struct ring_channel *ch)
{
    uint64_t p = ch->recv_at;
    return !place_full(atomic_load_explicit(&ring_place(ch, p)->word, seq_cst), p, ch->shift);
}

static __attribute__((noinline)) int no_sense(struct ring_channel *ch, uint64_t p)
{
    return trail(CUE_ECORRUPT, "stream %x of pool %s: message %llu makes no sense", ch->lane.index, ch->lane.pool->name,
                 (unsigned long long)p);
}

static inline int take_small(struct ring_channel *ch, const struct place *place, struct took *out)
{
    out->rec = NULL;
    out->place = place;
    out->size = place->size;
    if (__builtin_expect(out->size > PLACE_ROOM, 0))
        return no_sense(ch, ch->recv_at);
    out->cell = out->size ? cell_take() : NULL;
    if (__builtin_expect(out->size && !out->cell, 0))
        return trail(CUE_ENOMEM, "no process memory for a message");
    ch->recv_at++;
    return 1;
}

static int stream_take(struct ring_channel *ch, struct took *out)
{
    struct cue_pool *pool = ch->lane.pool;
    const struct place *place = ring_place(ch, ch->recv_at);
    uint64_t word = atomic_load_explicit(&place->word, acquire), state; /* pairs with: stream_pushed */
    if (!place_full(word, ch->recv_at, ch->shift))
        return 0;
    if (place_what(word) == PLACE_SMALL)
        return take_small(ch, place, out);
    out->index = place_what(word) - 1;
    out->rec = record_near(pool, &ch->near_slabs, out->index);
    fetch_near(&ch->near_slabs, out->index);
    state = out->rec ? ring_message(ch->lane.index, out->rec, ch->recv_at) : 0;
    if (__builtin_expect(state == 0, 0))
        return no_sense(ch, ch->recv_at);
    out->state = rec_word(REC_OWNED, pool->self + 1, rec_generation(state));
    if (!record_move(out->rec, state & ~REC_SHARED, out->state)) /* !! */
        return no_sense(ch, ch->recv_at);
    ch->recv_at++;
    return 1;
}

/* Says how far we are. */
static void stream_taken(struct ring_channel *ch)
{
    if (ch->recv_at == ch->emptied)
        return;
    ch->emptied = ch->recv_at;
    atomic_store_explicit(&ch->ring->head, ch->emptied, release); /* !! pairs with: stream_full */
    if (ch->emptied - ch->fenced >= ch->depth / 4) {
        atomic_thread_fence(seq_cst); /* pairs with: event_prepare */
        ch->fenced = ch->emptied;
    }
}

/* ---- a small message, alone: what ring.c would do, step by step, with nothing in between ---- */

static inline bool may_be_quick(const struct ring_channel *ch, const cue_msg *m)
{
    return is_small(m) && ch->takes_all && m->type < CUE_TYPE_SYSTEM && (m->data || !m->size) &&
           !(atomic_load_explicit(&ch->ring->lane.gate, seq_cst) & (GATE_SHUT | GATE_TAPPED)); /* pairs with: ring_shut, tap_announce */
}

static inline int quick_send(struct ring_channel *ch, const cue_msg *m)
{
    struct ring *ring = ch->ring;
    uint64_t p = ch->send_at;
    struct place *place = ring_place(ch, p);
    place_fill(place, m);
    atomic_store_explicit(&place->word, slot_word(p >> ch->shift, PLACE_SMALL), release); /* !! pairs with: stream_take */
    ch->send_at = ch->filled = p + 1;
    ch->copied = m->size;
    stream_sent(ch);
    if (__builtin_expect(event_waited(&ring->bell), 0))
        ring_called(ch, INT_MAX); /* its one receiver: the bit need not stay */
    return 1;
}

enum { LOOKS = 2000 }; /* for one that is on its way: sooner than a clock is read */

static inline int quick_take(struct ring_channel *ch, cue_msg *out)
{
    struct took took;
    int status = take_small(ch, ring_place(ch, ch->recv_at), &took);
    if (__builtin_expect(status != 1, 0))
        return status;
    stream_unpack(&took, out);
    stream_taken(ch);
    ring_count(ch, 1, took.size, took.size);
    ring_room_made(ch);
    return 1;
}

static int stream_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    struct ring_channel *ch = ring_of(base);
    const struct place *place = ring_place(ch, ch->recv_at);
    uint64_t lap = (uint32_t)(ch->recv_at >> ch->shift), word;
    if (__builtin_expect(n > 1 || ch->gaps, 0))
        return ring_recv_many(base, out, n, deadline);
    unsigned looks = deadline && spin_most(&ch->spin) > 0 ? LOOKS : 1;
    do
        word = atomic_load_explicit(&place->word, acquire); /* pairs with: quick_send */
    while (word >> 32 != lap && --looks);
    return word == slot_word(lap, PLACE_SMALL) ? quick_take(ch, out) : ring_recv_many(base, out, 1, deadline);
}

static int stream_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline)
{
    struct ring_channel *ch = ring_of(base);
    if (__builtin_expect(atomic_exchange_explicit(&ch->sending, 1, acquire), 0)) /* private */
        return trail(CUE_EBUSY, "another thread is sending on this stream");
    int status = n == 1 && may_be_quick(ch, m) && !stream_full(ch) ? quick_send(ch, m) : ring_send_many(base, m, n, deadline);
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

/* Where a new receiver goes on: see above. */
static uint64_t first_untaken(const struct lane *lane, uint32_t shift)
{
    struct ring *ring = (struct ring *)(void *)lane->head;
    uint64_t head = atomic_load_explicit(&ring->head, seq_cst), mask = (UINT64_C(1) << shift) - 1,
             found = head; /* pairs with: stream_taken */
    for (uint64_t p = head; p - head <= mask; p++) {
        uint64_t word = atomic_load_explicit(&ring_places(ring)[p & mask].word, seq_cst);
        if (!place_full(word, p, shift))
            break;
        if (place_what(word) == PLACE_SMALL)
            continue;
        const struct record *rec = pool_record(lane->pool, place_what(word) - 1);
        if (rec && ring_message(lane->index, rec, p))
            break;
        found = p + 1;
    }
    return found;
}

/* Places are not emptied, so what the receiver does meanwhile makes no difference. */
static uint64_t first_not_full(struct ring_channel *ch, uint64_t head)
{
    uint64_t p = head;
    while (p - head <= ch->mask && place_full(atomic_load_explicit(&ring_place(ch, p)->word, acquire), p, ch->shift))
        p++;
    return p;
}

static void go_on(struct ring_channel *ch)
{
    if (ch->receiver) {
        ch->recv_at = ch->emptied = ch->fenced = first_untaken(&ch->lane, ch->shift);
        atomic_store_explicit(&ch->ring->head, ch->emptied, release); /* pairs with: stream_full */
    }
    if (ch->sender) {
        uint64_t head = atomic_load_explicit(&ch->ring->head, acquire); /* pairs with: stream_taken */
        ch->send_at = ch->filled = first_not_full(ch, head);
        atomic_store_explicit(&ch->head_seen, head, relaxed);         /* private */
        atomic_store_explicit(&ch->ring->tail, ch->send_at, relaxed); /* a count for people */
    }
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
    if (positions)
        go_on(ch);
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
    ch->takes_all = !dropping && !lane->head->type && !lane->head->max;
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

#define STREAM_OPS(recv)                                                                                                                   \
    {                                                                                                                                      \
        .send_many = stream_send_many, .recv_many = recv, .wake = ring_wake, .stat = ring_stat, .close = stream_close, .later = true,      \
        .doze = ring_doze, .rouse = ring_rouse, .receiver = stream_receiver, .asks = true, .shut = ring_shut, .drain = ring_drain,         \
        .discard = ring_discard                                                                                                            \
    }

static bool stream_passed(const struct lane *lane, uint32_t shift, uint64_t until);

static const struct ring_way stream_way = {
    .ops = STREAM_OPS(stream_recv_many),
    .place_bytes = sizeof(struct place),
    .push = stream_push,
    .take = stream_take,
    .full = stream_full,
    .nothing = stream_nothing,
    .passed = stream_passed,
    .pushed = stream_pushed,
    .taken = stream_taken,
};

static const struct ring_way dropping_way = {
    .ops = STREAM_OPS(ring_recv_many),
    .place_bytes = sizeof(uint64_t),
    .push = queue_push,
    .take = queue_take,
    .full = queue_full,
    .nothing = queue_nothing,
    .passed = ring_passed,
};

/* ---- the lane ---- */

static uint32_t place_bytes(uint32_t full)
{
    return full == CUE_DROP_OLD ? sizeof(uint64_t) : sizeof(struct place);
}

static int stream_bytes(const cue_channel_opts *with, uint64_t *bytes)
{
    *bytes = ring_bytes_of(with, place_bytes(with->full));
    return 0;
}

static void stream_init(struct lane_head *head, const cue_channel_opts *with)
{
    ring_init(head, with);
    ((struct ring *)(void *)head)->place_bytes = place_bytes(head->full);
}

static bool stream_sound(const struct lane_head *head, uint64_t capacity)
{
    return ring_sound_of(head, capacity, place_bytes(head->full));
}

static bool slots_empty(const struct lane *lane)
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

static bool places_empty(const struct lane *lane, uint32_t shift)
{
    uint64_t p = first_untaken(lane, shift), mask = (UINT64_C(1) << shift) - 1;
    return !place_full(atomic_load_explicit(&ring_places((struct ring *)(void *)lane->head)[p & mask].word, seq_cst), p, shift);
}

static bool stream_passed(const struct lane *lane, uint32_t shift, uint64_t until)
{
    const struct ring *ring = (const struct ring *)(const void *)lane->head;
    if (until == UINT64_MAX)
        return places_empty(lane, shift);
    return (int64_t)(until - atomic_load_explicit(&ring->head, seq_cst)) <= 0; /* pairs with: stream_taken */
}

static bool stream_empty(const struct lane *lane)
{
    uint32_t shift;
    if (lane->head->full == CUE_DROP_OLD)
        return slots_empty(lane);
    return ring_shift_of(lane, sizeof(struct place), &shift) && places_empty(lane, shift);
}

/* Whether the record stands in the place of its position. */
static bool stream_linked(const struct lane *lane, const struct record *rec, uint32_t index)
{
    struct ring *ring = (struct ring *)(void *)lane->head;
    uint32_t shift, seq = atomic_load_explicit(&rec->seq, relaxed); /* of a dead sender */
    if (lane->head->full == CUE_DROP_OLD)
        return ring_linked(lane, rec, index);
    if (!ring_shift_of(lane, sizeof(struct place), &shift))
        return false;
    uint32_t at = seq & ((UINT32_C(1) << shift) - 1);
    uint64_t word = atomic_load_explicit(&ring_places(ring)[at].word, seq_cst);
    return place_what(word) == index + 1 && (uint32_t)((word >> 32) << shift | at) == seq;
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
    .number = CUE_STREAM,
    .bytes = stream_bytes,
    .init = stream_init,
    .sound = stream_sound,
    .open = stream_open,
    .empty = stream_empty,
    .stat = stream_stat,
    .died = stream_died,
    .linked = stream_linked,
};
