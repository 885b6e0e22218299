/* A mailbox: many senders, one receiver, a chain that is never cut. (Models: mailbox.pml, full.pml.)
 *
 *   send      next, seq and lane into the record; OWNED -> SENT; CAS head h -> (record, position + 1)  !!; SLEEP in h: wake
 *   receive   walk down from the head to the last consumed position, hand out oldest first: SENT -> OWNED  !!, consumed += 1
 *
 * Everything undelivered hangs on the head at all times. A receiver's death needs no repair; a sender's is decided exactly: its
 * record is in the chain or was never there (mailbox_recovery.c). next, seq and lane come before SENT, else a record in its next life
 * would show its former position for a moment.
 *
 * SLEEPING. The receiver sets SLEEP by CAS on the head it found empty and sleeps on the low half, position and flags: any push
 * changes it. Senders leave SLEEP set: one that is stopped before its FUTEX_WAKE does not keep the others from waking. Each
 * sender wakes once for each sleep, see wake_receiver.
 *
 * FULL. Length is head - consumed, exact and at most `depth`. A sender keeps a private copy of `consumed` and loads the real one
 * only when the copy says full: a stale copy overestimates. (One that is 2^29 messages old would not: then it is loaded as well.)
 * Who waits sets FULL-WAIT by CAS on the very word it sleeps on, so no wake is lost; the receiver wakes all of them once a
 * quarter is free, which it is at the latest when it has emptied the lane and before it blocks.
 *
 * TAKE-OVER. Between its two steps a receiver leaves a record that is not SENT any more above `consumed`. The next one's first
 * walk finds the gap and makes up for it; at any other time a gap is damage.
 *
 * A thread that waits looks around at least once a watch period (rule S): for messages whose sender was killed before its wake,
 * and for parties whose death nobody has noticed.
 */
#include "mailbox.h"

#include "ask.h"
#include "bell.h"
#include "send.h"
#include "tap.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { LINKS_MOST = 4096 };

static const struct channel_ops mailbox_ops;

static struct mailbox_channel *mailbox_of(cue_channel *ch)
{
    return (struct mailbox_channel *)(void *)ch;
}

/* ---- send ---- */

/* How many messages there is room for, by the private copy of `consumed` first. */
static inline int32_t room_for(struct mailbox_channel *ch, uint64_t head)
{
    int32_t length = lane_length((uint32_t)head, atomic_load_explicit(&ch->consumed, relaxed)); /* private */
    if (__builtin_expect(length < ch->capacity && length >= 0, 1))
        return ch->capacity - length;
    uint32_t now = atomic_load_explicit(&ch->box->consumed, acquire);
    atomic_store_explicit(&ch->consumed, now, relaxed);
    return ch->capacity - lane_length((uint32_t)head, now);
}

/* Bytes waiting, as far as counted from `out` on. */
static inline bool overweight(const struct mailbox *box, uint64_t out, uint64_t weight)
{
    int64_t waiting = (int64_t)(atomic_load_explicit(&box->weight_in, relaxed) - out); /* a soft limit */
    return waiting > 0 && (uint64_t)waiting + weight > box->lane.bytes;
}

/* A soft limit; an empty lane takes any message. By the private copy first, as in room_for. */
static bool too_heavy(struct mailbox_channel *ch, uint64_t weight)
{
    struct mailbox *box = ch->box;
    if (__builtin_expect(weight == 0 || !overweight(box, atomic_load_explicit(&ch->weight_out, relaxed), weight), 1))
        return false;
    uint64_t out = atomic_load_explicit(&box->weight_out, relaxed); /* a soft limit */
    atomic_store_explicit(&ch->weight_out, out, relaxed);
    if (!overweight(box, out, weight))
        return false;
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    return lane_length((uint32_t)head, atomic_load_explicit(&box->consumed, acquire)) > 0;
}

/* Whether it makes sense to try; a closed lane is found out by push(). */
static bool has_room(struct mailbox_channel *ch, uint64_t weight)
{
    uint64_t head = atomic_load_explicit(&ch->box->head, acquire);
    return head & HEAD_CLOSED || (room_for(ch, head) > 0 && !too_heavy(ch, weight));
}

/* Into its place behind `below`, and SENT. false: another thread used the caller's block. */
static inline bool post(struct mailbox_channel *ch, struct parcel *p, uint32_t below, uint32_t at)
{
    /* relaxed: made readable by SENT; one that is SENT already is not linked, so nobody follows these before the head says so */
    atomic_store_explicit(&p->rec->lane, ch->lane.index, relaxed);
    atomic_store_explicit(&p->rec->next, below, relaxed);
    atomic_store_explicit(&p->rec->seq, at, relaxed);
    if (!p->sent)
        p->sent = record_move(p->rec, p->state, rec_word(REC_SENT, ch->lane.pool->self + 1, rec_generation(p->state)));
    return p->sent;
}

/* SLEEP was set when we pushed `at`. A receiver that was woken for position w sleeps again only after it has counted w; until
 * then it need not be woken a second time. (w beyond what waits: the positions have wrapped since.) */
static __attribute__((noinline)) void wake_receiver(struct mailbox_channel *ch, uint32_t at)
{
    uint32_t consumed = position(atomic_load_explicit(&ch->box->consumed, acquire));    /* it counts before it sets SLEEP, which we saw */
    int32_t behind = (int32_t)(atomic_load_explicit(&ch->woke_at, relaxed) - consumed); /* private */
    if (behind > 0 && behind <= (int32_t)(at - consumed))
        return;
    mailbox_rouse(ch->lane.pool, ch->box);
    atomic_store_explicit(&ch->woke_at, at, relaxed); /* only now: another thread of ours may rely on it */
}

static __attribute__((noinline)) int closed(struct mailbox_channel *ch)
{
    return ch->box->lane.mortal ? trail(CUE_EDEAD, "mailbox %x of pool %s: its receiver has ended", ch->lane.index, ch->lane.pool->name)
                                : lane_shut_trail(ch->lane.pool, &ch->box->lane);
}

/* Puts up to n parcels on the chain, as many as there is room for; how many. CUE_ESTALE: none, see post(). */
static inline __attribute__((always_inline)) int push(struct mailbox_channel *ch, struct parcel *parcels, int n, bool system)
{
    struct mailbox *box = ch->box;
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    uint32_t keep = ch->near ? HEAD_CLOSED : HEAD_CLOSED | HEAD_SLEEP; /* on the receiver's own thread nobody need be woken */
    for (;;) {
        if (__builtin_expect(head & HEAD_CLOSED, 0))
            return closed(ch);
        int room = system ? n : room_for(ch, head), k = 0;
        if (room <= 0)
            return 0;
        uint32_t at = position(head), below = head_index(head);
        while (k < n && k < room && post(ch, &parcels[k], below, at + POSITION_ONE)) {
            at += POSITION_ONE;
            below = parcels[k++].index;
        }
        if (__builtin_expect(k == 0, 0))
            return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", parcels[0].index, ch->lane.pool->name);
        if (cas(&box->head, &head, head_word(below, at, (uint32_t)head & keep))) { /* !! pairs with: receive_wait, walk */
            if (__builtin_expect(head & HEAD_SLEEP & keep, 0))
                wake_receiver(ch, at);
            if (__builtin_expect(head & HEAD_SLEEP & ~keep, 0))
                ch->roused = true;
            return k;
        }
    }
}

/* One nap for want of room; 0: look again. */
static int nap_for_room(struct mailbox_channel *ch, uint64_t weight, int64_t deadline)
{
    struct mailbox *box = ch->box;
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    uint32_t consumed = atomic_load_explicit(&box->consumed, acquire), with = consumed | CONSUMED_FULL_WAIT;
    if (head & HEAD_CLOSED || (lane_length((uint32_t)head, consumed) < ch->capacity && !too_heavy(ch, weight)))
        return 0;
    int64_t nap = deadline_nap(deadline);
    if (nap <= 0)
        return CUE_EFULL;
    if (!(consumed & CONSUMED_FULL_WAIT) && !atomic_compare_exchange_strong_explicit(&box->consumed, &consumed, with, seq_cst, acquire))
        return 0;
    return lane_nap(ch->lane.pool, &ch->halt, &box->consumed, with, nap);
}

static int wait_for_room(struct mailbox_channel *ch, uint64_t weight, int64_t *until)
{
    int status = 0;
    atomic_store_explicit(&ch->refused_weight, weight, relaxed); /* for mailbox_doze_on */
    if (*until == 0)
        return CUE_EFULL;
    int64_t deadline = *until = deadline_made(*until);
    sched_yield(); /* the receiver may share our CPU */
    while (!status && !has_room(ch, weight))
        status = nap_for_room(ch, weight, deadline);
    return status;
}

/* What the lane says to a message that found no room in time; 1: dropped, which counts as sent. */
static int refuse(struct mailbox_channel *ch, const cue_msg *m, int status)
{
    if (status != CUE_EFULL)
        return status;
    struct mailbox *box = ch->box;
    atomic_fetch_add_explicit(box->lane.full == CUE_FAIL ? &box->refused : &box->dropped_new, 1, relaxed); /* a count for people */
    if (box->lane.full == CUE_FAIL || is_question(m))
        return status;
    if (m->move)
        cue_block_release(m->move);
    return 1;
}

static inline void went(struct mailbox_channel *ch, const cue_msg *m, const struct parcel *parcel, const struct opened *opened)
{
    if (__builtin_expect(parcel->weight != 0, 0))
        atomic_fetch_add_explicit(&ch->box->weight_in, parcel->weight, relaxed); /* a soft limit; after the push, see layout */
    if (__builtin_expect(m->move != NULL, 0))
        message_gone(m, opened);
}

/* Whether a wait for room in the pool ends. */
static int send_over(void *arg, bool signalled)
{
    struct mailbox_channel *ch = arg;
    int status = interrupted(&ch->halt);
    if (!status && atomic_load_explicit(&ch->box->head, acquire) & HEAD_CLOSED)
        status = closed(ch);
    return status ? status : signalled ? CUE_EINTR : 0;
}

/* The message was checked. Waits as often as it has to. */
static int send_patiently(struct mailbox_channel *ch, const cue_msg *m, bool system, int64_t deadline, const struct opened *opened,
                          bool tapped)
{
    struct tap_copy copy;
    struct parcel parcel;
    struct cue_pool *pool = ch->lane.pool;
    uint64_t weight = system ? 0 : weight_of(m);
    int status = 0, pushed = 0;
    if (!system && !has_room(ch, weight) && (status = wait_for_room(ch, weight, &deadline))) /* before anything is copied */
        return refuse(ch, m, status);
    status = message_pack(pool, m, system, NULL, opened, &parcel);
    if (status == CUE_ENOMEM && deadline)
        status = send_pack(pool, m, system, &deadline, send_over, ch, opened, &parcel);
    if (status)
        return status;
    do {
        if (tapped)
            tap_copy(&ch->lane, m, system, opened, &copy);
        pushed = push(ch, &parcel, 1, system);
        if (tapped)
            tap_end(&copy, pushed > 0);
    } while (pushed == 0 && (status = wait_for_room(ch, weight, &deadline)) == 0);
    if (pushed > 0) {
        went(ch, m, &parcel, opened);
        return 1;
    }
    message_undo(pool, &parcel);
    return pushed < 0 ? pushed : refuse(ch, m, status);
}

/* Another thread may close the channel while we wait: it waits for `waiting`, which goes down with our last touch of the channel. */
static __attribute__((noinline)) int send_waiting(struct mailbox_channel *ch, const cue_msg *m, bool system, int64_t deadline,
                                                  const struct opened *opened, bool tapped)
{
    if (deadline == 0)
        return send_patiently(ch, m, system, 0, opened, tapped);
    atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: waits_end, mailbox_close */
    int status = send_patiently(ch, m, system, deadline, opened, tapped);
    wake_noticed(&ch->base, status);
    atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return status;
}

static inline __attribute__((always_inline)) int send_one(struct mailbox_channel *ch, const cue_msg *m, bool system, int64_t deadline)
{
    struct parcel parcel;
    struct opened opened;
    struct cue_pool *pool = ch->lane.pool;
    fetch_to_write(&ch->box->head); /* meanwhile the message is looked at */
    int status = message_check(pool, &ch->box->lane, m, system, &opened);
    if (__builtin_expect(status, 0))
        return status == MESSAGE_TAPPED ? send_waiting(ch, m, system, deadline, &opened, true) : status;
    if (!system && __builtin_expect(!has_room(ch, weight_of(m)), 0))
        return send_waiting(ch, m, system, deadline, &opened, false);
    status = message_pack(pool, m, system, NULL, &opened, &parcel);
    if (__builtin_expect(status, 0))
        return status == CUE_ENOMEM && deadline ? send_waiting(ch, m, system, deadline, &opened, false) : status;
    int pushed = push(ch, &parcel, 1, system);
    if (__builtin_expect(pushed <= 0, 0)) {
        message_undo(pool, &parcel);
        return pushed < 0 ? pushed : send_waiting(ch, m, system, deadline, &opened, false);
    }
    went(ch, m, &parcel, &opened);
    return 1;
}

int mailbox_send_one(struct mailbox_channel *ch, const cue_msg *m, bool system, int64_t deadline)
{
    return send_one(ch, m, system, deadline);
}

/* With one push; an error only if none went. */
static int send_batch(void *arg, const cue_msg *m, int n)
{
    struct mailbox_channel *ch = arg;
    struct parcel parcels[SEND_BATCH];
    struct opened opened[SEND_BATCH];
    struct cue_pool *pool = ch->lane.pool;
    uint64_t weight = 0;
    int packed = 0, status = 0, room = room_for(ch, atomic_load_explicit(&ch->box->head, acquire));
    while (packed < n && packed < room) {
        weight += weight_of(&m[packed]);
        if (weight_of(&m[packed]) && too_heavy(ch, weight))
            break;
        status = message_check(pool, &ch->box->lane, &m[packed], false, &opened[packed]);
        if (status >= 0) /* it was not tapped when we came */
            status = message_pack(pool, &m[packed], false, NULL, &opened[packed], &parcels[packed]);
        if (status)
            break;
        packed++;
    }
    int pushed = packed ? push(ch, parcels, packed, false) : 0;
    for (int i = packed; i-- > (pushed > 0 ? pushed : 0);)
        message_undo(pool, &parcels[i]);
    for (int i = 0; i < pushed; i++)
        went(ch, &m[i], &parcels[i], &opened[i]);
    return pushed ? pushed : status ? status : CUE_EFULL;
}

static bool sender_has_room(void *ch, uint64_t weight)
{
    return has_room(ch, weight);
}
static int sender_one(void *ch, const cue_msg *m, int64_t deadline)
{
    return mailbox_send_one(ch, m, false, deadline);
}
static const struct sending sending = { sender_has_room, sender_one, send_batch };

static int mailbox_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline)
{
    struct mailbox_channel *ch = mailbox_of(base);
    return __builtin_expect(n == 1, 1) ? send_one(ch, m, false, deadline) : send_several(ch, &ch->box->lane, &sending, m, n, deadline);
}

static int mailbox_put(cue_channel *base, struct parcel *parcel)
{
    return push(mailbox_of(base), parcel, 1, true);
}

int channel_send_system(cue_channel *base, const cue_msg *m)
{
    if (base->ops != &mailbox_ops)
        return trail(CUE_ENOSYS, "messages of the library go through mailboxes only");
    int status = channel_enter(base);
    return status ? status : (status = mailbox_send_one(mailbox_of(base), m, true, 0)) < 0 ? status : 0;
}

/* ---- receive ---- */

/* Says how far we are, and wakes senders once a quarter is free. */
static inline void advance(struct mailbox_channel *ch)
{
    struct mailbox *box = ch->box;
    uint32_t before = atomic_fetch_add_explicit(&box->consumed, ch->owed, release); /* pairs with: room_for */
    ch->passed += ch->owed / POSITION_ONE;
    ch->owed = 0;
    /* relaxed: counts for people; only we write them */
    atomic_store_explicit(&box->passed, ch->passed, relaxed);
    atomic_store_explicit(&box->received_bytes, ch->bytes, relaxed);
    atomic_store_explicit(&box->received_copied, ch->copied, relaxed);
    if (__builtin_expect(!(before & CONSUMED_FULL_WAIT), 1))
        return;
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    if (lane_length((uint32_t)head, ch->at) > (int32_t)((int64_t)ch->capacity * 3 / 4))
        return;
    atomic_fetch_and_explicit(&box->consumed, ~(uint32_t)CONSUMED_FULL_WAIT, acq_rel); /* pairs with: nap_for_room */
    futex_wake(&box->consumed, INT_MAX);
}

/* Collects what is above `at`; the head was loaded with acquire, and each record's SENT makes the rest of it readable. */
static inline int walk(struct mailbox_channel *ch, uint64_t head)
{
    struct mailbox *box = ch->box;
    uint32_t at = position(head), index = head_index(head), n = 0;
    while (at != ch->at) {
        struct record *rec = record_near(ch->lane.pool, ch->near_slabs, index);
        fetch_near(ch->near_slabs, index);
        if (!rec || rec_state(atomic_load_explicit(&rec->state, acquire)) != REC_SENT || /* pairs with: post */
            atomic_load_explicit(&rec->lane, relaxed) != ch->lane.index || atomic_load_explicit(&rec->seq, relaxed) != at)
            break;
        ch->links[n++ & ch->mask] = (struct link){ rec, index };
        index = atomic_load_explicit(&rec->next, relaxed);
        at -= POSITION_ONE;
    }
    if (__builtin_expect(at != ch->at, 0)) {
        if (!ch->fresh)
            return trail(CUE_ECORRUPT, "mailbox %x of pool %s: the chain ends %d messages early", ch->lane.index, ch->lane.pool->name,
                         lane_length(at, ch->at));
        ch->owed += at - ch->at; /* taken by a former receiver that was killed before it counted them */
        ch->at = at;
        advance(ch);
    }
    ch->fresh = false;
    ch->seen = position(head);
    ch->top = n;
    ch->count = n <= ch->mask ? n : ch->mask + 1;
    if (n > atomic_load_explicit(&box->peak, relaxed)) /* a count for people */
        atomic_store_explicit(&box->peak, n, relaxed);
    return 0;
}

/* The oldest. */
static inline __attribute__((always_inline)) int take(struct mailbox_channel *ch, cue_msg *out)
{
    struct link link = ch->links[--ch->top & ch->mask];
    struct cue_pool *pool = ch->lane.pool;
    struct unpacked about = { 0 };
    uint64_t state = atomic_load_explicit(&link.rec->state, acquire), taken;
    ch->count--;
    ch->at += POSITION_ONE;
    ch->owed += POSITION_ONE;
    do {
        if (__builtin_expect(rec_state(state) != REC_SENT, 0)) {
            memset(out, 0, sizeof *out);
            return trail(CUE_ECORRUPT, "mailbox %x of pool %s: message %x is not sent any more", ch->lane.index, pool->name, link.index);
        }
        taken = rec_word(REC_OWNED, pool->self + 1, rec_generation(state));
    } while (!cas(&link.rec->state, &state, taken | (state & REC_SHARED))); /* !! */
    int status = message_unpack_near(pool, ch->near_slabs, link.rec, link.index, taken, out, &about);
    ch->bytes += about.payload;
    ch->copied += about.copied;
    if (__builtin_expect(about.weight != 0, 0)) { /* only we write it */
        uint64_t out_before = atomic_load_explicit(&ch->box->weight_out, relaxed);
        atomic_store_explicit(&ch->box->weight_out, out_before + about.weight, relaxed); /* a soft limit */
    }
    return status;
}

/* With drop-old: all but the newest `depth` go. Stops at one of the library's own, which is delivered. */
static __attribute__((noinline)) void trim(struct mailbox_channel *ch)
{
    struct mailbox *box = ch->box;
    uint64_t dropped = 0;
    cue_msg m;
    while (ch->count && lane_length(ch->seen, ch->at) > (int32_t)box->lane.depth) {
        const struct record *oldest = ch->links[(ch->top - 1) & ch->mask].rec;
        if (atomic_load_explicit(&oldest->note, relaxed) & MESSAGE_SYSTEM)
            break;
        uint64_t bytes = ch->bytes, copied = ch->copied;
        if (take(ch, &m) == 0) {
            ask_refuse(ch->lane.pool, &m, CUE_EFULL);
            cue_msg_release(&m);
        }
        ch->bytes = bytes; /* not received */
        ch->copied = copied;
        dropped++;
    }
    if (dropped)
        atomic_fetch_add_explicit(&box->dropped_old, dropped, relaxed); /* a count for people */
}

static uint64_t dropped(const struct mailbox *box)
{
    return atomic_load_explicit(&box->dropped_old, relaxed) + atomic_load_explicit(&box->dropped_new, relaxed); /* counts */
}

/* The message says how many were dropped since the one before. */
static __attribute__((noinline)) void gap_say(struct mailbox_channel *ch, cue_msg *m)
{
    uint64_t now = dropped(ch->box), gap = now - ch->dropped;
    m->gap = gap < UINT32_MAX ? (uint32_t)gap : UINT32_MAX;
    ch->dropped = now;
}

static inline __attribute__((always_inline)) int take_some(struct mailbox_channel *ch, cue_msg *out, size_t n)
{
    struct mailbox *box = ch->box;
    uint32_t step = (uint32_t)ch->capacity / 8 * POSITION_ONE;
    size_t got = 0;
    int status = 0;
    while (got < n && !status) { /* counted in steps, so that a full lane's senders get on meanwhile */
        if (ch->count == 0) {
            uint64_t head = atomic_load_explicit(&box->head, acquire); /* pairs with: push */
            if (position(head) == ch->at || (status = walk(ch, head)))
                break;
        }
        if (__builtin_expect(box->lane.full == CUE_DROP_OLD, 0))
            trim(ch);
        if (ch->count && (status = take(ch, &out[got])) == 0) {
            if (__builtin_expect(box->lane.full != CUE_FAIL, 0))
                gap_say(ch, &out[got]);
            got++;
        }
        if (ch->owed > step && got < n)
            advance(ch);
    }
    if (ch->owed)
        advance(ch);
    return got ? (int)got : status;
}

int mailbox_take(struct mailbox_channel *ch, cue_msg *out, size_t n)
{
    return take_some(ch, out, n);
}

/* The lane is empty: what the killed forgot to take off its weight is forgotten. */
static void settle_weight(struct mailbox *box)
{
    uint64_t in = atomic_load_explicit(&box->weight_in, relaxed); /* a soft limit */
    if (atomic_load_explicit(&box->weight_out, relaxed) != in)
        atomic_store_explicit(&box->weight_out, in, relaxed);
}

bool mailbox_doze(struct mailbox_channel *ch)
{
    struct mailbox *box = ch->box;
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    if (position(head) != ch->at)
        return false;
    settle_weight(box);
    return atomic_compare_exchange_strong_explicit(&box->head, &head, head | HEAD_SLEEP, seq_cst, acquire); /* pairs with: push */
}

/* Nothing waits, and nothing more will come. */
static inline bool drained(const struct mailbox_channel *ch, uint64_t head)
{
    return __builtin_expect((head & HEAD_CLOSED) != 0, 0) && position(head) == ch->at && !ch->box->lane.mortal;
}

/* One nap for want of messages; 0: look again. */
static int nap_for_message(void *arg, int64_t deadline)
{
    struct mailbox_channel *ch = arg;
    struct mailbox *box = ch->box;
    int64_t nap = deadline_nap(deadline);
    uint64_t head = atomic_load_explicit(&box->head, acquire);
    if (position(head) != ch->at)
        return 0;
    if (drained(ch, head))
        return closed(ch);
    if (nap <= 0)
        return CUE_EEMPTY;
    settle_weight(box);
    if (!atomic_compare_exchange_strong_explicit(&box->head, &head, head | HEAD_SLEEP, seq_cst, acquire)) /* pairs with: push */
        return 0;
    int status = lane_nap(ch->lane.pool, &ch->halt, futex_low_half(&box->head), (uint32_t)head | HEAD_SLEEP, nap);
    atomic_fetch_and_explicit(&box->head, ~(uint64_t)HEAD_SLEEP, acq_rel); /* only the receiver's process clears it */
    return status;
}

static bool is_there(void *arg)
{
    const struct mailbox_channel *ch = arg;
    return position(atomic_load_explicit(&ch->box->head, acquire)) != ch->at;
}

int mailbox_wait(struct mailbox_channel *ch, int64_t deadline)
{
    return await_message(&ch->spin, &ch->halt, deadline, is_there, nap_for_message, ch);
}

static int mailbox_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    struct mailbox_channel *ch = mailbox_of(base);
    for (;;) {
        int got = __builtin_expect(n == 1, 1) ? take_some(ch, out, 1) : mailbox_take(ch, out, n < INT32_MAX ? n : INT32_MAX);
        if (__builtin_expect(got != 0, 1))
            return got;
        if (deadline == 0)
            return drained(ch, atomic_load_explicit(&ch->box->head, acquire)) ? closed(ch) : CUE_EEMPTY;
        deadline = deadline_made(deadline);
        int status = mailbox_wait(ch, deadline);
        if (status)
            return status;
    }
}

/* ---- for who sleeps on more than this channel ---- */

static bool mailbox_doze_on(cue_channel *base, unsigned how, struct channel_sleep *on)
{
    struct mailbox_channel *ch = mailbox_of(base);
    struct mailbox *box = ch->box;
    if (how == CUE_RECV) {
        uint64_t head = atomic_load_explicit(&box->head, acquire);
        uint32_t low = (uint32_t)head | HEAD_SLEEP;
        if (position(head) != ch->at || drained(ch, head) || !mailbox_doze(ch))
            return false;
        *on = (struct channel_sleep){ futex_low_half(&box->head), low };
        return true;
    }
    uint32_t consumed = atomic_load_explicit(&box->consumed, acquire), with = consumed | CONSUMED_FULL_WAIT;
    if (has_room(ch, atomic_load_explicit(&ch->refused_weight, relaxed)) ||
        (consumed != with && !atomic_compare_exchange_strong_explicit(&box->consumed, &consumed, with, seq_cst, acquire)))
        return false; /* pairs with: advance */
    *on = (struct channel_sleep){ &box->consumed, with };
    return true;
}

static void mailbox_rouse_from(cue_channel *base, unsigned how)
{
    if (how == CUE_RECV) /* FULL-WAIT is the receiver's to clear */
        atomic_fetch_and_explicit(&mailbox_of(base)->box->head, ~(uint64_t)HEAD_SLEEP, acq_rel);
}

/* ---- wake, close ---- */

/* Ends futex waits of this channel. A waiter sets SLEEP or FULL-WAIT, then looks at `halt`, then sleeps if the word has not
 * changed; we have set a flag of it and now change the word: so it either sees that or does not sleep. */
static void waits_end(struct mailbox_channel *ch)
{
    struct mailbox *box = ch->box;
    if (ch->base.how & CUE_RECV) {
        atomic_fetch_and_explicit(&box->head, ~(uint64_t)HEAD_SLEEP, seq_cst); /* pairs with: nap_for_message */
        futex_wake(futex_low_half(&box->head), INT_MAX);
    }
    if (atomic_load_explicit(&ch->waiting, seq_cst)) {
        atomic_fetch_and_explicit(&box->consumed, ~(uint32_t)CONSUMED_FULL_WAIT, seq_cst); /* pairs with: nap_for_room */
        futex_wake(&box->consumed, INT_MAX);
    }
}

static void mailbox_wake(cue_channel *base)
{
    struct mailbox_channel *ch = mailbox_of(base);
    atomic_store_explicit(&ch->halt.woken, 1, seq_cst); /* pairs with: interrupted */
    waits_end(ch);
}

/* ---- shut ---- */

void mailbox_end(struct mailbox *box)
{
    atomic_fetch_or_explicit(&box->head, HEAD_CLOSED, seq_cst); /* !! pairs with: push, nap_for_room, nap_for_message */
    if (atomic_fetch_and_explicit(&box->consumed, ~(uint32_t)CONSUMED_FULL_WAIT, seq_cst) & CONSUMED_FULL_WAIT)
        futex_wake(&box->consumed, INT_MAX);
}

static int mailbox_shut(cue_channel *base)
{
    struct mailbox_channel *ch = mailbox_of(base);
    mailbox_end(ch->box);
    waits_end(ch);
    return 0;
}

/* One nap until something was taken; 0: look again. */
static int nap_for_taking(struct mailbox_channel *ch, uint32_t until, int64_t deadline)
{
    struct mailbox *box = ch->box;
    uint32_t consumed = atomic_load_explicit(&box->consumed, acquire), with = consumed | CONSUMED_FULL_WAIT;
    int64_t nap = deadline_nap(deadline);
    if (lane_length(until, consumed) <= 0)
        return 0;
    if (nap <= 0)
        return CUE_ETIMEDOUT;
    if (!(consumed & CONSUMED_FULL_WAIT) && !atomic_compare_exchange_strong_explicit(&box->consumed, &consumed, with, seq_cst, acquire))
        return 0; /* pairs with: advance */
    return lane_nap(ch->lane.pool, &ch->halt, &box->consumed, with, nap);
}

static int mailbox_drain(cue_channel *base, int64_t deadline)
{
    struct mailbox_channel *ch = mailbox_of(base);
    uint32_t until = position(atomic_load_explicit(&ch->box->head, acquire));
    int status = 0;
    atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: waits_end, mailbox_close */
    while (!status && lane_length(until, atomic_load_explicit(&ch->box->consumed, acquire)) > 0)
        status = nap_for_taking(ch, until, deadline);
    wake_noticed(base, status);
    atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return status;
}

static int mailbox_discard(cue_channel *base)
{
    struct mailbox_channel *ch = mailbox_of(base);
    struct mailbox *box = ch->box;
    uint64_t bytes = ch->bytes, copied = ch->copied, before = atomic_load_explicit(&box->dropped_old, relaxed); /* only we add to it */
    int status;
    cue_msg m;
    while ((status = mailbox_take(ch, &m, 1)) > 0) { /* which trims, too */
        ask_refuse(ch->lane.pool, &m, CUE_ECLOSED);
        cue_msg_release(&m);
        atomic_fetch_add_explicit(&box->dropped_old, 1, relaxed); /* counts for people, as the rest */
    }
    uint64_t freed = atomic_load_explicit(&box->dropped_old, relaxed) - before;
    ch->bytes = bytes; /* not received */
    ch->copied = copied;
    atomic_store_explicit(&box->received_bytes, bytes, relaxed);
    atomic_store_explicit(&box->received_copied, copied, relaxed);
    return freed ? (int)(freed < INT_MAX ? freed : INT_MAX) : status;
}

static int mailbox_close(cue_channel *base)
{
    struct mailbox_channel *ch = mailbox_of(base);
    struct mailbox *box = ch->box;
    if (base->forks == fork_epoch) {                          /* else it is the parent's */
        atomic_store_explicit(&ch->halt.closing, 1, seq_cst); /* pairs with: interrupted */
        while (atomic_load_explicit(&base->receiving, acquire) || atomic_load_explicit(&ch->waiting, acquire)) {
            waits_end(ch);
            nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
        }
        if (base->how & CUE_RECV) {
            uint64_t mine = ch->mine;
            cas(&box->lane.receiver, &mine, 0);
            if (atomic_fetch_and_explicit(&box->consumed, ~(uint32_t)CONSUMED_FULL_WAIT, acq_rel) & CONSUMED_FULL_WAIT)
                futex_wake(&box->consumed, INT_MAX); /* put off by the rule of a quarter */
        }
        lane_close(&ch->lane);
    }
    free(ch->links);
    free(ch->near_slabs);
    return 0;
}

static int mailbox_forked(cue_channel *base)
{
    if (base->how & CUE_RECV)
        return trail(CUE_EFORK, "this channel receives for the parent process");
    struct mailbox_channel *ch = mailbox_of(base);
    atomic_store_explicit(&ch->waiting, 0, relaxed); /* private: those threads are not here */
    halt_forget(&ch->halt);
    return lane_renew(&ch->lane);
}

/* ---- counts ---- */

static int mailbox_stat(cue_channel *base, cue_channel_info *out)
{
    const struct lane *lane = &mailbox_of(base)->lane;
    lane_stat(lane, out);
    return 0;
}

static uint64_t mailbox_receiver(cue_channel *base)
{
    return atomic_load_explicit(&mailbox_of(base)->lane.head->receiver, acquire); /* whoever it is now */
}

static const struct channel_ops mailbox_ops = {
    .send_many = mailbox_send_many,
    .recv_many = mailbox_recv_many,
    .put = mailbox_put,
    .wake = mailbox_wake,
    .stat = mailbox_stat,
    .forked = mailbox_forked,
    .close = mailbox_close,
    .shut = mailbox_shut,
    .drain = mailbox_drain,
    .discard = mailbox_discard,
    .later = true,
    .doze = mailbox_doze_on,
    .rouse = mailbox_rouse_from,
    .receiver = mailbox_receiver,
    .asks = true,
};

/* ---- open ---- */

/* The receiver's place: free, or its holder is dead. */
static int receiver_claim(struct mailbox_channel *ch)
{
    struct mailbox *box = ch->box;
    int status = lane_end_claim(&ch->lane, &box->lane.receiver, "receives from it", &ch->mine); /* !! */
    if (status)
        return status;
    if (atomic_load_explicit(&box->head, acquire) & HEAD_CLOSED) /* by a former one */
        atomic_fetch_and_explicit(&box->head, ~(uint64_t)HEAD_CLOSED, acq_rel);
    ch->at = position(atomic_load_explicit(&box->consumed, acquire));
    ch->fresh = true;
    /* relaxed: only the receiver writes them. The former one may have been killed between `consumed` and `passed` */
    ch->passed = mailbox_passed(box);
    ch->bytes = atomic_load_explicit(&box->received_bytes, relaxed);
    ch->copied = atomic_load_explicit(&box->received_copied, relaxed);
    ch->dropped = dropped(box);
    return 0;
}

static int receiver_prepare(struct mailbox_channel *ch, cue_time spin)
{
    uint32_t links = 64;
    if (ch->box->lane.mortal)
        return trail(CUE_EBUSY, "lane %x of pool %s is the mailbox of an actor", ch->lane.index, ch->lane.pool->name);
    while (links < (uint32_t)ch->capacity && links < LINKS_MOST)
        links *= 2;
    ch->mask = links - 1;
    ch->links = calloc(links, sizeof *ch->links);
    ch->near_slabs = calloc(1, sizeof *ch->near_slabs);
    if (!ch->links || !ch->near_slabs)
        return trail(CUE_ENOMEM, "no process memory for a receiver");
    spin_init(&ch->spin, spin);
    return receiver_claim(ch);
}

static int mailbox_open(const struct lane *lane, unsigned how, const cue_channel_opts *with, cue_channel **out)
{
    struct mailbox_channel *ch = aligned_alloc(_Alignof(struct mailbox_channel), sizeof *ch);
    if (!ch)
        return trail(CUE_ENOMEM, "no process memory for a channel");
    memset(ch, 0, sizeof *ch);
    struct mailbox *box = ch->box = (struct mailbox *)(void *)lane->head;
    ch->base.ops = &mailbox_ops;
    ch->base.pool = lane->pool;
    ch->base.how = how;
    ch->lane = *lane;
    ch->capacity = (int32_t)(box->lane.full == CUE_DROP_OLD ? 2 * box->lane.depth : box->lane.depth);
    uint32_t consumed = atomic_load_explicit(&box->consumed, acquire);
    atomic_store_explicit(&ch->consumed, consumed, relaxed); /* private, as the next */
    atomic_store_explicit(&ch->woke_at, position(consumed), relaxed);
    int status = how & CUE_RECV ? receiver_prepare(ch, with->spin) : 0;
    if (status) {
        free(ch->links);
        free(ch->near_slabs);
        free(ch);
        return status;
    }
    *out = &ch->base;
    return 0;
}

/* ---- the lane ---- */

static int mailbox_bytes(const cue_channel_opts *with, uint64_t *bytes)
{
    (void)with;
    *bytes = sizeof(struct mailbox);
    return 0;
}

static void mailbox_init(struct lane_head *head, const cue_channel_opts *with)
{
    (void)with;
    /* relaxed: the lane is not published yet */
    atomic_store_explicit(&((struct mailbox *)(void *)head)->head, head_word(INDEX_NONE, 0, 0), relaxed);
}

static bool mailbox_sound(const struct lane_head *head, uint64_t capacity)
{
    return capacity >= sizeof(struct mailbox) && head->depth >= 1 && head->depth <= LANE_DEPTH_MAX;
}

struct mailbox *mailbox_box(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    struct lane lane;
    return lane_of(pool, rec, index, &lane) && lane.kind == &mailbox_kind ? (struct mailbox *)(void *)lane.head : NULL;
}

static bool mailbox_empty(const struct lane *lane)
{
    struct mailbox *box = (struct mailbox *)(void *)lane->head;
    uint32_t consumed = position(atomic_load_explicit(&box->consumed, seq_cst)); /* before head: it follows it */
    return position(atomic_load_explicit(&box->head, seq_cst)) == consumed;
}

void mailbox_rouse(struct cue_pool *pool, struct mailbox *box)
{
    cue_block bell;
    bool woke = true;
    if (!box->lane.bell_generation) {
        futex_wake(futex_low_half(&box->head), 1);
    } else if (pool_attach(pool, box->lane.bell, box->lane.bell_generation - 1, 44, &bell) == 0) { /* else its process has ended */
        woke = bell_ring(bell.data, bell.size, box->lane.bell_bit);
        cue_block_release(&bell);
    }
    if (woke)
        atomic_fetch_add_explicit(&box->wakes, 1, relaxed); /* a count for people */
}

uint64_t mailbox_passed(struct mailbox *box)
{
    uint64_t passed = atomic_load_explicit(&box->passed, relaxed); /* a count for people */
    uint32_t low = (uint32_t)passed * POSITION_ONE;
    return passed + (uint64_t)(int64_t)lane_length(position(atomic_load_explicit(&box->consumed, acquire)), low);
}

static void mailbox_counts(struct cue_pool *pool, struct lane_head *head, cue_channel_info *out)
{
    (void)pool;
    struct mailbox *box = (struct mailbox *)(void *)head;
    uint32_t consumed = atomic_load_explicit(&box->consumed, acquire);
    uint64_t top = atomic_load_explicit(&box->head, acquire), passed = mailbox_passed(box);
    int32_t queued = lane_length((uint32_t)top, consumed);
    /* relaxed: counts for people */
    uint64_t old = atomic_load_explicit(&box->dropped_old, relaxed);
    out->sleeping = (top & HEAD_SLEEP) != 0;
    out->shut = top & HEAD_CLOSED;
    out->queued = queued > 0 ? (uint64_t)queued : 0;
    out->peak = atomic_load_explicit(&box->peak, relaxed);
    out->sent = passed + out->queued;
    out->received = passed > old ? passed - old : 0;
    out->bytes = atomic_load_explicit(&box->received_bytes, relaxed);
    out->copied = atomic_load_explicit(&box->received_copied, relaxed);
    out->dropped = out->gaps = dropped(box);
    out->refused = atomic_load_explicit(&box->refused, relaxed);
    out->wakes = atomic_load_explicit(&box->wakes, relaxed);
}

const struct lane_kind mailbox_kind = {
    .name = "mailbox",
    .number = CUE_MAILBOX,
    .bytes = mailbox_bytes,
    .init = mailbox_init,
    .sound = mailbox_sound,
    .open = mailbox_open,
    .empty = mailbox_empty,
    .stat = mailbox_counts,
    .died = mailbox_died,
    .linked = mailbox_linked,
    .walk = mailbox_walk,
};
