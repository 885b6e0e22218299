/* See ring.h: what a queue and a stream have in common.
 *
 * LIMITS. `depth` is exact: a message is at position p only if the one at p - depth was claimed, see the kinds' push. `bytes` is
 * soft, as on a mailbox. When a send's wait for room is over, the lane's policy says what becomes of it; with drop-old the sender
 * takes the oldest message itself, as a receiver would, and frees it.
 *
 * WAITING is on two events (event.h): the bell for messages, the room for places. A receiver calls those who wait for room once a
 * quarter is free, and before it waits itself; who is put off by that rule looks by itself within a watch period. Of several
 * receivers a message wakes one; who took one and sees more wakes the next.
 */
#include "ring.h"

#include "ask.h"
#include "send.h"
#include "tap.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { IN_VAIN_MOST = 1000 };

/* ---- waiting, both sides ---- */

static int nap(struct ring_channel *ch, _Atomic uint32_t *word, uint32_t value, int64_t ns)
{
    return lane_nap(ch->lane.pool, &ch->halt, word, value, ns);
}

/* ---- send ---- */

static int64_t weight_waiting(const struct ring *ring)
{
    return (int64_t)(atomic_load_explicit(&ring->weight_in, relaxed) - atomic_load_explicit(&ring->weight_out, relaxed)); /* a soft limit */
}

/* An empty ring takes any message. */
static bool too_heavy(struct ring_channel *ch, uint64_t weight)
{
    if (__builtin_expect(weight == 0, 1))
        return false;
    int64_t waiting = weight_waiting(ch->ring);
    return waiting > 0 && (uint64_t)waiting + weight > ch->bytes &&
           atomic_load_explicit(&ch->ring->tail, acquire) != atomic_load_explicit(&ch->ring->head, acquire);
}

static bool no_room(struct ring_channel *ch, uint64_t weight)
{
    return ch->way->full(ch) || too_heavy(ch, weight);
}

static int wait_for_room(struct ring_channel *ch, uint64_t weight, int64_t *until)
{
    int status = 0;
    atomic_store_explicit(&ch->refused_weight, weight, relaxed); /* for ring_doze */
    if (*until == 0)
        return CUE_EFULL;
    int64_t deadline = *until = deadline_made(*until);
    sched_yield(); /* a receiver may share our CPU */
    while (!status && no_room(ch, weight)) {
        int64_t ns = deadline_nap(deadline);
        if (ns <= 0)
            return CUE_EFULL;
        uint32_t value = event_prepare(&ch->ring->room); /* pairs with: room_made, ring_shut */
        if (lane_is_shut(&ch->ring->lane))
            return lane_shut_trail(ch->lane.pool, &ch->ring->lane);
        if (no_room(ch, weight))
            status = nap(ch, &ch->ring->room, value, ns);
    }
    return status;
}

static void drop(struct ring_channel *ch, const struct took *took, int status)
{
    cue_msg m;
    if (ring_unpack(ch, took, &m) == 0) {
        ask_refuse(ch->lane.pool, &m, status);
        cue_msg_release(&m);
    }
    atomic_fetch_add_explicit(&ch->ring->dropped_old, 1, relaxed); /* a count for people */
}

/* `in_vain`: how often in a row it was full and yet nothing was there to be dropped. Others may have been quicker, a few times. */
static int drop_oldest(struct ring_channel *ch, unsigned *in_vain)
{
    struct took took;
    int status = ch->way->take(ch, &took);
    if (status == 1)
        drop(ch, &took, CUE_EFULL);
    *in_vain = status == 1 ? 0 : *in_vain + 1;
    if (*in_vain > IN_VAIN_MOST)
        return trail(CUE_ECORRUPT, "lane %x of pool %s is full, and nothing is in it", ch->lane.index, ch->lane.pool->name);
    return status < 0 ? status : 0;
}

/* Found no room in time; `packed`: the message, if it is. 1: dropped, which counts as sent; 0: there is room now. */
static int refuse(struct ring_channel *ch, const cue_msg *m, struct parcel *packed, int status, unsigned *in_vain)
{
    struct ring *ring = ch->ring;
    if (status != CUE_EFULL)
        return status;
    if (ch->full == CUE_DROP_OLD)
        return drop_oldest(ch, in_vain);
    atomic_fetch_add_explicit(ch->full == CUE_FAIL ? &ring->refused : &ring->dropped_new, 1, relaxed); /* a count for people */
    if (ch->full == CUE_FAIL || is_question(m))
        return status;
    if (packed)
        message_undo(ch->lane.pool, packed); /* first: the block is the envelope's */
    if (m->move)
        cue_block_release(m->move);
    return 1;
}

void ring_called(struct ring_channel *ch, int n)
{
    if (event_call(&ch->ring->bell, n))
        atomic_fetch_add_explicit(&ch->ring->wakes, 1, relaxed); /* a count for people */
}

/* `n` messages went: wakes as many receivers. */
static inline void announce(struct ring_channel *ch, int n)
{
    if (ch->way->pushed)
        ch->way->pushed(ch);
    if (__builtin_expect(event_waited(&ch->ring->bell), 0))
        ring_called(ch, n);
}

static inline void went(struct ring_channel *ch, const cue_msg *m, const struct parcel *parcel, const struct opened *opened)
{
    if (__builtin_expect(parcel->weight != 0, 0))
        atomic_fetch_add_explicit(&ch->ring->weight_in, parcel->weight, relaxed); /* a soft limit */
    if (__builtin_expect(m->move != NULL, 0))
        message_gone(m, opened);
}

static int pack(struct ring_channel *ch, const cue_msg *m, struct opened *opened, struct parcel *parcel)
{
    if (ch->way->place_bytes == sizeof(struct place) && is_small(m)) {
        *parcel = (struct parcel){ .small = m };
        return 0;
    }
    opened->enclose = ch->enclose;
    opened->home = ch->redeliver ? ch->lane.index : INDEX_NONE;
    opened->home_generation = ch->lane.generation;
    return message_pack(ch->lane.pool, m, false, NULL, opened, parcel);
}

/* Whether a wait for room in the pool ends. */
static int send_over(void *arg, bool signalled)
{
    struct ring_channel *ch = arg;
    const struct lane_head *lane = &ch->ring->lane;
    int status = interrupted(&ch->halt);
    if (!status && lane_is_shut(lane))
        status = lane_shut_trail(ch->lane.pool, lane);
    return status ? status : signalled ? CUE_EINTR : 0;
}

static int send_patiently(struct ring_channel *ch, const cue_msg *m, int64_t deadline, struct opened *opened, bool tapped)
{
    struct tap_copy copy;
    struct parcel parcel;
    uint64_t weight = weight_of(m);
    unsigned in_vain = 0;
    int status, pushed;
    while (no_room(ch, weight)) /* before anything is copied */
        if ((status = wait_for_room(ch, weight, &deadline)) && (status = refuse(ch, m, NULL, status, &in_vain)))
            return status;
    status = pack(ch, m, opened, &parcel);
    if (status == CUE_ENOMEM && deadline)
        status = send_pack(ch->lane.pool, m, false, &deadline, send_over, ch, opened, &parcel);
    if (status)
        return status;
    do {
        if (tapped)
            tap_copy(&ch->lane, m, false, opened, &copy);
        pushed = ch->way->push(ch, &parcel, false);
        if (pushed > 0) {
            went(ch, m, &parcel, opened);
            announce(ch, 1);
        }
        if (tapped)
            tap_end(&copy, pushed > 0);
    } while (pushed == 0 &&
             ((status = wait_for_room(ch, weight, &deadline)) == 0 || (status = refuse(ch, m, &parcel, status, &in_vain)) == 0));
    if (pushed > 0)
        return 1;
    message_undo(ch->lane.pool, &parcel);
    return pushed < 0 ? pushed : status;
}

/* Another thread may close the channel while we wait: it waits for `waiting`, which goes down with our last touch of the channel. */
static __attribute__((noinline)) int send_waiting(struct ring_channel *ch, const cue_msg *m, int64_t deadline, struct opened *opened,
                                                  bool tapped)
{
    atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: ring_still */
    int status = send_patiently(ch, m, deadline, opened, tapped);
    wake_noticed(&ch->base, status);
    atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return status;
}

static int send_one(struct ring_channel *ch, const cue_msg *m, int64_t deadline)
{
    struct parcel parcel;
    struct opened opened;
    int status = message_check(ch->lane.pool, &ch->ring->lane, m, false, &opened);
    if (__builtin_expect(status, 0))
        return status == MESSAGE_TAPPED ? send_waiting(ch, m, deadline, &opened, true) : status;
    if (__builtin_expect(no_room(ch, weight_of(m)), 0))
        return send_waiting(ch, m, deadline, &opened, false);
    status = pack(ch, m, &opened, &parcel);
    if (__builtin_expect(status, 0))
        return status == CUE_ENOMEM && deadline ? send_waiting(ch, m, deadline, &opened, false) : status;
    int pushed = ch->way->push(ch, &parcel, false);
    if (__builtin_expect(pushed <= 0, 0)) {
        message_undo(ch->lane.pool, &parcel);
        return pushed < 0 ? pushed : send_waiting(ch, m, deadline, &opened, false);
    }
    went(ch, m, &parcel, &opened);
    announce(ch, 1);
    return 1;
}

/* With one call for receivers; an error only if none went. */
static int send_batch(void *arg, const cue_msg *m, int n)
{
    struct ring_channel *ch = arg;
    int sent = 0, status = 0;
    while (sent < n && !status) {
        struct parcel parcel;
        struct opened opened;
        if ((status = message_check(ch->lane.pool, &ch->ring->lane, &m[sent], false, &opened)) < 0)
            break; /* else it was not tapped when we came */
        if ((status = no_room(ch, weight_of(&m[sent])) ? CUE_EFULL : pack(ch, &m[sent], &opened, &parcel)))
            break;
        int pushed = ch->way->push(ch, &parcel, false);
        if (pushed <= 0) {
            message_undo(ch->lane.pool, &parcel);
            status = pushed ? pushed : CUE_EFULL;
        } else {
            went(ch, &m[sent++], &parcel, &opened);
        }
    }
    if (sent)
        announce(ch, sent);
    return sent ? sent : status;
}

static bool sender_has_room(void *ch, uint64_t weight)
{
    return !no_room(ch, weight);
}
static int sender_one(void *ch, const cue_msg *m, int64_t deadline)
{
    return send_one(ch, m, deadline);
}
static const struct sending sending = { sender_has_room, sender_one, send_batch };

int ring_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline)
{
    struct ring_channel *ch = ring_of(base);
    return __builtin_expect(n == 1, 1) ? send_one(ch, m, deadline) : send_several(ch, &ch->ring->lane, &sending, m, n, deadline);
}

int ring_put(cue_channel *base, struct parcel *parcel)
{
    struct ring_channel *ch = ring_of(base);
    int status = ch->way->push(ch, parcel, true);
    if (status > 0)
        announce(ch, 1);
    return status;
}

/* ---- receive ---- */

/* Places have become free, and we are about to wait, or leave: calls those who wait for one all the same. */
static void room_made(struct ring_channel *ch)
{
    atomic_thread_fence(seq_cst); /* pairs with: event_prepare; a stream has none with each message */
    if (event_waited(&ch->ring->room))
        event_call(&ch->ring->room, INT_MAX);
}

int ring_unpack(struct ring_channel *ch, const struct took *took, cue_msg *out)
{
    struct ring *ring = ch->ring;
    struct unpacked about = { 0 };
    if (!took->rec) {
        stream_unpack(took, out);
        return 0;
    }
    int status = message_unpack_near(ch->lane.pool, &ch->near_slabs, took->rec, took->index, took->state, out, &about);
    if (__builtin_expect(took->state & REC_LENT && status == 0, 0))
        message_handed_out(took->rec);
    if (__builtin_expect(about.weight != 0, 0))
        atomic_fetch_add_explicit(&ring->weight_out, about.weight, relaxed); /* a soft limit */
    return status;
}

static void count_received(struct ring_channel *ch, const cue_msg *m, size_t n)
{
    uint64_t bytes = 0, copied = 0;
    for (size_t i = 0; i < n; i++) {
        bool as_bytes = m[i].data != m[i].block.data;
        bytes += m[i].block.size + (as_bytes ? m[i].size : 0);
        copied += as_bytes ? m[i].size : 0;
    }
    ring_count(ch, n, bytes, copied);
}

/* Of a stream that drops, before it is handed out. With drop-old the positions of what was dropped are missing, with drop-new there were
 * none. */
static __attribute__((noinline)) void gap_say(struct ring_channel *ch, const struct took *took, cue_msg *m)
{
    uint32_t at =
        took->rec ? atomic_load_explicit(&took->rec->seq, relaxed) : ch->next; /* ours; a small one is of a stream with drop-new */
    uint64_t dropped = atomic_load_explicit(&ch->ring->dropped_new, relaxed);  /* a count */
    uint64_t gap = (uint32_t)(at - ch->next) + (dropped - ch->dropped);
    m->gap = gap < UINT32_MAX ? (uint32_t)gap : UINT32_MAX;
    ch->next = at + 1;
    ch->dropped = dropped;
}

static int take_some(struct ring_channel *ch, cue_msg *out, size_t n)
{
    struct ring *ring = ch->ring;
    struct took took;
    size_t got = 0;
    int status = 0;
    if (__builtin_expect(atomic_load_explicit(&ring->returned, acquire) & RING_RETURNED, 0))
        while (got < n && (status = returned_take(ch, &out[got])) == 1)
            got++;
    while (got < n && status >= 0 && (status = ch->way->take(ch, &took)) == 1)
        if ((status = ring_unpack(ch, &took, &out[got])) == 0) {
            if (__builtin_expect(ch->gaps, 0))
                gap_say(ch, &took, &out[got]);
            got++;
        }
    if (ch->way->taken)
        ch->way->taken(ch);
    if (got == 0)
        return status;
    count_received(ch, out, got);
    ring_room_made(ch);
    if (__builtin_expect(event_waited(&ring->bell), 0) && !ch->way->nothing(ch))
        event_call(&ring->bell, 1); /* the baton */
    return (int)got;
}

static bool nothing_at_all(struct ring_channel *ch)
{
    return !(atomic_load_explicit(&ch->ring->returned, seq_cst) & RING_RETURNED) && ch->way->nothing(ch);
}
static bool is_there(void *ch)
{
    return !nothing_at_all(ch);
}

/* Nothing waits, and nothing more will come: what a sender puts in and does not see that we have shut it, we see. */
static inline bool drained(struct ring_channel *ch)
{
    return lane_is_shut(&ch->ring->lane) && nothing_at_all(ch);
}

static int nap_for_message(void *arg, int64_t deadline)
{
    struct ring_channel *ch = arg;
    int64_t ns = deadline_nap(deadline);
    if (drained(ch))
        return lane_shut_trail(ch->lane.pool, &ch->ring->lane);
    if (ns <= 0)
        return CUE_EEMPTY;
    uint32_t value = event_prepare(&ch->ring->bell); /* pairs with: announce */
    return nothing_at_all(ch) ? nap(ch, &ch->ring->bell, value, ns) : 0;
}

/* The ring is empty: what the killed forgot to take off its weight is forgotten. */
static void settle_weight(struct ring *ring)
{
    uint64_t in = atomic_load_explicit(&ring->weight_in, relaxed), out = atomic_load_explicit(&ring->weight_out, relaxed);
    if (in != out && atomic_load_explicit(&ring->tail, relaxed) == atomic_load_explicit(&ring->head, relaxed))
        cas(&ring->weight_out, &out, in); /* a soft limit */
}

static int wait_for_message(struct ring_channel *ch, int64_t deadline)
{
    room_made(ch);
    settle_weight(ch->ring);
    return await_message(&ch->spin, &ch->halt, deadline, is_there, nap_for_message, ch);
}

int ring_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    struct ring_channel *ch = ring_of(base);
    for (;;) {
        int got = take_some(ch, out, n < INT32_MAX ? n : INT32_MAX);
        if (__builtin_expect(got != 0, 1))
            return got;
        if (deadline == 0)
            return drained(ch) ? lane_shut_trail(ch->lane.pool, &ch->ring->lane) : CUE_EEMPTY;
        deadline = deadline_made(deadline);
        int status = wait_for_message(ch, deadline);
        if (status)
            return status;
    }
}

/* ---- wake, close, sleeping elsewhere ---- */

void ring_wake(cue_channel *base)
{
    struct ring_channel *ch = ring_of(base);
    atomic_store_explicit(&ch->halt.woken, 1, seq_cst); /* pairs with: interrupted */
    if (base->how & CUE_RECV)
        event_call(&ch->ring->bell, INT_MAX);
    if (atomic_load_explicit(&ch->waiting, seq_cst))
        event_call(&ch->ring->room, INT_MAX);
}

void ring_still(struct ring_channel *ch)
{
    atomic_store_explicit(&ch->halt.closing, 1, seq_cst); /* pairs with: interrupted */
    while (atomic_load_explicit(&ch->base.receiving, acquire) || atomic_load_explicit(&ch->waiting, acquire) ||
           atomic_load_explicit(&ch->sending, acquire)) {
        event_call(&ch->ring->bell, INT_MAX);
        event_call(&ch->ring->room, INT_MAX);
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    }
    if (ch->base.how & CUE_RECV)
        room_made(ch);
}

bool ring_doze(cue_channel *base, unsigned how, struct channel_sleep *on)
{
    struct ring_channel *ch = ring_of(base);
    on->word = how == CUE_RECV ? &ch->ring->bell : &ch->ring->room;
    if (how == CUE_RECV)
        room_made(ch);
    on->value = event_prepare(on->word); /* pairs with: announce, room_made, ring_shut */
    if (lane_is_shut(&ch->ring->lane) && (how != CUE_RECV || nothing_at_all(ch)))
        return false;
    return how == CUE_RECV ? nothing_at_all(ch) : no_room(ch, atomic_load_explicit(&ch->refused_weight, relaxed));
}

void ring_rouse(cue_channel *base, unsigned how)
{
    (void)base, (void)how; /* the bit goes by itself, see event.h */
}

/* ---- shut ---- */

int ring_shut(cue_channel *base)
{
    struct ring *ring = ring_of(base)->ring;
    atomic_fetch_or_explicit(&ring->lane.gate, GATE_SHUT, seq_cst); /* !! pairs with: lane_is_shut */
    event_call(&ring->bell, INT_MAX);
    event_call(&ring->room, INT_MAX);
    return 0;
}

/* head is a hint that may be behind, so each place from there on is looked at. */
bool ring_passed(const struct lane *lane, uint32_t shift, uint64_t until)
{
    const struct ring *ring = (const struct ring *)(const void *)lane->head;
    uint64_t places = UINT64_C(1) << shift, p = atomic_load_explicit(&ring->head, seq_cst);
    for (uint64_t looks = 0; looks <= places && (until == UINT64_MAX || (int64_t)(until - p) > 0); looks++, p++) {
        uint64_t slot = atomic_load_explicit(&ring->slot[p & (places - 1)], seq_cst);
        int32_t ahead = slot_ahead(slot, p, shift);
        if (ahead == 0 && slot_index(slot) == 0)
            return true;
        const struct record *rec = ahead == 0 ? pool_record(lane->pool, slot_index(slot) - 1) : NULL;
        if (ahead < 0 || ahead > 1 || (rec && ring_message(lane->index, rec, p)))
            return false; /* waits, or is damage, or we are late: look again */
    }
    return until != UINT64_MAX && (int64_t)(until - p) <= 0;
}

/* Of a receiver: everything that is there; of a sender: what was there when it came, all that it had sent. */
static bool all_taken(struct ring_channel *ch, uint64_t until)
{
    bool returned = ch->base.how & CUE_RECV && atomic_load_explicit(&ch->ring->returned, seq_cst) & RING_RETURNED;
    return !returned && ch->way->passed(&ch->lane, ch->shift, until);
}

int ring_drain(cue_channel *base, int64_t deadline)
{
    struct ring_channel *ch = ring_of(base);
    uint64_t until = base->how & CUE_RECV ? UINT64_MAX : atomic_load_explicit(&ch->ring->tail, acquire);
    int status = 0;
    atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: ring_still */
    while (!status && !all_taken(ch, until)) {
        int64_t ns = deadline_nap(deadline);
        uint32_t value = ns > 0 ? event_prepare(&ch->ring->room) : 0; /* pairs with: room_made */
        if (!all_taken(ch, until))
            status = ns > 0 ? nap(ch, &ch->ring->room, value, ns) : CUE_ETIMEDOUT;
    }
    wake_noticed(base, status);
    atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return status;
}

/* The next one, whether given back or in the ring. */
static int claim(struct ring_channel *ch, struct took *took)
{
    if (ch->redeliver && returned_claim(ch, took))
        return 1;
    int status = ch->way->take(ch, took);
    if (status == 1 && ch->redeliver)  /* then it is LENT */
        message_handed_out(took->rec); /* else one that died with it half in `dead` would count as a sender, see returned_put */
    return status;
}

int ring_discard(cue_channel *base)
{
    struct ring_channel *ch = ring_of(base);
    struct took took;
    int freed = 0, status;
    for (; (status = claim(ch, &took)) == 1 && freed < INT_MAX; freed++)
        if (ch->dead)
            returned_bury(ch, &took);
        else
            drop(ch, &took, CUE_ECLOSED);
    if (ch->way->taken)
        ch->way->taken(ch);
    room_made(ch);
    return freed ? freed : status;
}

/* ---- the lane ---- */

static uint32_t shift_for(uint32_t depth)
{
    uint32_t shift = 0;
    while (UINT32_C(1) << shift < depth)
        shift++;
    return shift;
}

int ring_bytes(const cue_channel_opts *with, uint64_t *bytes)
{
    *bytes = ring_bytes_of(with, sizeof(uint64_t));
    return 0;
}

uint64_t ring_bytes_of(const cue_channel_opts *with, uint32_t place_bytes)
{
    return sizeof(struct ring) + ((uint64_t)place_bytes << shift_for(with->depth ? with->depth : 1024));
}

void ring_init(struct lane_head *head, const cue_channel_opts *with)
{
    struct ring *ring = (struct ring *)(void *)head; /* zero is an empty ring */
    ring->shift = shift_for(head->depth);
    ring->place_bytes = sizeof(uint64_t);
    if (with->dead)
        memcpy(ring->dead, with->dead, strlen(with->dead));
}

bool ring_shift(const struct lane *lane, uint32_t *shift)
{
    return ring_shift_of(lane, sizeof(uint64_t), shift);
}

bool ring_shift_of(const struct lane *lane, uint32_t place_bytes, uint32_t *shift)
{
    uint32_t depth = lane->head->depth;
    char *data;
    uint64_t capacity;
    if (depth < 1 || depth > LANE_DEPTH_MAX || !pool_bytes(lane->pool, lane->index, &data, &capacity))
        return false;
    *shift = shift_for(depth);
    return capacity >= sizeof(struct ring) + ((uint64_t)place_bytes << *shift);
}

bool ring_sound(const struct lane_head *head, uint64_t capacity)
{
    return ring_sound_of(head, capacity, sizeof(uint64_t));
}

bool ring_sound_of(const struct lane_head *head, uint64_t capacity, uint32_t place_bytes)
{
    const struct ring *ring = (const struct ring *)(const void *)head;
    return capacity >= sizeof *ring && head->depth >= 1 && head->depth <= LANE_DEPTH_MAX && ring->shift == shift_for(head->depth) &&
           ring->place_bytes == place_bytes && capacity >= sizeof *ring + ((uint64_t)place_bytes << ring->shift);
}

void ring_died(const struct lane *lane)
{
    struct ring *ring = (struct ring *)(void *)lane->head;
    if (event_waited(&ring->bell))
        event_call(&ring->bell, INT_MAX);
    if (event_waited(&ring->room))
        event_call(&ring->room, INT_MAX);
}

bool ring_linked(const struct lane *lane, const struct record *rec, uint32_t index)
{
    const struct ring *ring = (const struct ring *)(const void *)lane->head;
    uint32_t shift, seq = atomic_load_explicit(&rec->seq, relaxed); /* of a dead sender */
    if (!ring_shift(lane, &shift))
        return false;
    uint32_t at = seq & ((UINT32_C(1) << shift) - 1);
    uint64_t slot = atomic_load_explicit(&ring->slot[at], seq_cst);
    return slot_index(slot) == index + 1 && (uint32_t)((slot >> 32) << shift | at) == seq;
}

void ring_counts(struct ring *ring, uint64_t passed, uint64_t waiting, cue_channel_info *out)
{
    /* relaxed: counts for people */
    uint64_t old = atomic_load_explicit(&ring->dropped_old, relaxed), nobody = atomic_load_explicit(&ring->withdrawn, relaxed);
    out->sleeping = atomic_load_explicit(&ring->bell, relaxed) & 1;
    out->shut = lane_is_shut(&ring->lane);
    ring_peak(ring, waiting);
    out->queued = waiting;
    out->peak = atomic_load_explicit(&ring->peak, relaxed);
    out->sent = passed + waiting > nobody ? passed + waiting - nobody : 0;
    out->received = passed > old + nobody ? passed - old - nobody : 0;
    out->bytes = atomic_load_explicit(&ring->received_bytes, relaxed);
    out->copied = atomic_load_explicit(&ring->received_copied, relaxed);
    out->dropped = out->gaps = old + atomic_load_explicit(&ring->dropped_new, relaxed);
    out->refused = atomic_load_explicit(&ring->refused, relaxed);
    out->wakes = atomic_load_explicit(&ring->wakes, relaxed);
    out->returned = atomic_load_explicit(&ring->returns, relaxed);
    out->redelivered = atomic_load_explicit(&ring->redelivered, relaxed);
    out->dead = atomic_load_explicit(&ring->dead_letters, relaxed);
}

int ring_stat(cue_channel *base, cue_channel_info *out)
{
    const struct lane *lane = &ring_of(base)->lane;
    lane_stat(lane, out);
    return 0;
}

/* ---- open ---- */

int ring_open(const struct lane *lane, unsigned how, const cue_channel_opts *with, const struct ring_way *way, struct ring_channel **out)
{
    uint32_t shift, full = lane->head->full;
    if (!ring_shift_of(lane, way->place_bytes, &shift) || (full == CUE_DROP_OLD && way->place_bytes == sizeof(struct place)))
        return trail(CUE_ECORRUPT, "lane %x of pool %s makes no sense", lane->index, lane->pool->name);
    struct ring_channel *ch = aligned_alloc(_Alignof(struct ring_channel), sizeof *ch);
    if (!ch)
        return trail(CUE_ENOMEM, "no process memory for a channel");
    memset(ch, 0, sizeof *ch);
    ch->base.ops = &way->ops;
    ch->base.pool = lane->pool;
    ch->base.how = how;
    ch->lane = *lane;
    ch->ring = (struct ring *)(void *)lane->head;
    ch->way = way;
    ch->shift = shift;
    ch->mask = (UINT64_C(1) << shift) - 1;
    uint32_t depth = lane->head->depth; /* it may have changed since */
    ch->depth = depth < 1 || depth > ch->mask + 1 ? (uint32_t)ch->mask + 1 : depth;
    ch->bytes = lane->head->bytes;
    ch->full = full;
    ch->redeliver = lane->head->redeliver;
    if (how & CUE_RECV)
        spin_init(&ch->spin, with->spin);
    *out = ch;
    return 0;
}

void ring_free(struct ring_channel *ch)
{
    returned_free(ch);
    free(ch);
}
