/* What the kinds that are rings share: the channel, limits, waiting, batches, counts (ring.c). How a message gets into the ring and
 * out of it is the kind's: queue.c, stream.c. */
#ifndef RING_H
#define RING_H

#include "await.h"
#include "cell.h"
#include "event.h"
#include "message.h"
#include "ring_layout.h"
#include "send.h"
#include "stream_layout.h"

#include <limits.h>
#include <string.h>

struct ring_channel;

/* What has been taken out of the ring. */
struct took {
    struct record *rec;
    uint32_t index;
    uint64_t state; /* OWNED by us, without REC_SHARED */
    /* rec NULL: a small message of a stream, which stays in its place until `taken`; what it will be copied to */
    const struct place *place;
    uint32_t size;
    struct cell *cell;
};

struct ring_way {
    struct channel_ops ops;
    uint32_t place_bytes; /* as in the ring */
    /* Links it. 1; 0: there is no room; CUE_ESTALE. `beyond`: the lane's depth does not hold. */
    int (*push)(struct ring_channel *ch, struct parcel *parcel, bool beyond);
    /* Claims the oldest. 1; 0: nothing is there; CUE_ECORRUPT. */
    int (*take)(struct ring_channel *ch, struct took *out);
    bool (*full)(struct ring_channel *ch);                                   /* a push would find no room; in the order of seq_cst */
    bool (*nothing)(struct ring_channel *ch);                                /* a take would find nothing; the same */
    bool (*passed)(const struct lane *lane, uint32_t shift, uint64_t until); /* as ring_passed */
    /* After pushes and after takes of one call, before the look whether the other side waits; may be NULL. */
    void (*pushed)(struct ring_channel *ch), (*taken)(struct ring_channel *ch);
};

struct ring_channel {
    struct cue_channel base; /* ops: in a struct ring_way */
    struct lane lane;
    struct ring *ring;
    const struct ring_way *way;
    /* what the lane says, once it was checked */
    uint32_t shift, depth, redeliver, full;
    bool enclose;   /* every message goes in an envelope, see queue.c */
    bool gaps;      /* a stream that drops: messages say what is missing before them */
    bool takes_all; /* stream: with places, of any type and size */
    uint64_t mask, bytes;
    struct halt halt;
    _Atomic uint32_t waiting;        /* threads that wait for room */
    _Atomic uint64_t refused_weight; /* of the message that found none last */
    _Atomic uint32_t calls;          /* receives, as far as threads do not overwrite each other's */
    struct spin spin;
    cue_channel *dead;         /* queue: where its dead letters go, or NULL */
    uint64_t receiver, sender; /* stream: our words in the lane's head, or 0 */
    struct returned *returned; /* queue: what was found to be given out again, redeliver.c */
    struct lock returned_lock;

    _Alignas(128) _Atomic uint32_t sending; /* stream: 1: a thread is in send */
    uint64_t send_at, filled;               /* stream: position of the next send; places before this one are filled */
    _Atomic uint64_t head_seen;             /* stream: head, when the sender looked last */
    uint64_t copied;                        /* stream: bytes put into the places between those */
    uint32_t posted[SEND_BATCH];            /* stream: what goes into those between: indexes plus 1 */
    _Alignas(128) uint64_t recv_at;         /* stream: of the next receive */
    uint64_t emptied, fenced;               /* stream: head, as we have said it; the same when a fence came after it last */
    uint64_t dropped;                       /* stream with gaps: what we have told of, and */
    uint32_t next;                          /* position, low half, of the message that follows if none is dropped */
    struct near_slabs near_slabs;           /* stream */
};

static inline struct ring_channel *ring_of(cue_channel *ch)
{
    return (struct ring_channel *)(void *)ch;
}
static inline struct place *ring_place(const struct ring_channel *ch, uint64_t p)
{
    return &ring_places(ch->ring)[p & ch->mask];
}
static inline _Atomic uint64_t *ring_slot(const struct ring_channel *ch, uint64_t p)
{
    return &ch->ring->slot[p & ch->mask];
}

/* ---- ring.c ---- */
int ring_bytes(const cue_channel_opts *with, uint64_t *bytes);
void ring_init(struct lane_head *head, const cue_channel_opts *with);
/* log2 of the places: from a depth that may be anything by now, checked against the block. */
bool ring_shift(const struct lane *lane, uint32_t *shift);
bool ring_shift_of(const struct lane *lane, uint32_t place_bytes, uint32_t *shift);
bool ring_sound(const struct lane_head *head, uint64_t capacity);
bool ring_sound_of(const struct lane_head *head, uint64_t capacity, uint32_t place_bytes);
uint64_t ring_bytes_of(const cue_channel_opts *with, uint32_t place_bytes);
void ring_died(const struct lane *lane);
/* Whether the record stands in the slot of its position. */
bool ring_linked(const struct lane *lane, const struct record *rec, uint32_t index);
/* Its counts, of a ring that `passed` messages have gone through and in which `queued` wait. */
void ring_counts(struct ring *ring, uint64_t passed, uint64_t queued, cue_channel_info *out);

int ring_open(const struct lane *lane, unsigned how, const cue_channel_opts *with, const struct ring_way *way, struct ring_channel **out);
/* What ring_open made, but for the lane. */
void ring_free(struct ring_channel *ch);

int ring_send_many(cue_channel *ch, const cue_msg *m, size_t n, int64_t deadline);
int ring_put(cue_channel *ch, struct parcel *parcel);
/* `n` messages went, and a receiver waits. */
void ring_called(struct ring_channel *ch, int n);
int ring_recv_many(cue_channel *ch, cue_msg *out, size_t n, int64_t deadline);
void ring_wake(cue_channel *ch);
/* Ends the waits of other threads and waits for them to come out. */
void ring_still(struct ring_channel *ch);
bool ring_doze(cue_channel *ch, unsigned how, struct channel_sleep *on);
void ring_rouse(cue_channel *ch, unsigned how);
int ring_stat(cue_channel *ch, cue_channel_info *out);
int ring_shut(cue_channel *ch);
int ring_drain(cue_channel *ch, int64_t deadline);
int ring_discard(cue_channel *ch);
/* Whether everything before position `until` was claimed, or where that is UINT64_MAX, everything that is there. In the order of
 * seq_cst. */
bool ring_passed(const struct lane *lane, uint32_t shift, uint64_t until);

/* A message that was taken becomes the caller's. */
int ring_unpack(struct ring_channel *ch, const struct took *took, cue_msg *out);

/* ---- stream.c: what it carries in its places ---- */
static inline bool is_small(const cue_msg *m)
{
    return !m->move && m->size <= PLACE_ROOM && cue_ref_same(m->from, (cue_ref){ 0 });
}
static inline void stream_unpack(const struct took *took, cue_msg *out)
{
    const struct place *place = took->place;
    message_clear(out);
    out->type = place->type;
    out->status = place->status;
    out->tag = place->tag;
    out->key = place->key;
    out->size = took->size;
    out->data = "";
    if (took->cell) {
        out->data = memcpy(took->cell->bytes, place->bytes, PLACE_ROOM); /* all: that is quicker */
        out->priv[1] = (uint64_t)(uintptr_t)took->cell;
        out->priv[2] = took->cell->life;
    }
}

/* Into its place in the lane, and SENT. false: another thread used the caller's block. */
static inline bool ring_post(struct ring_channel *ch, struct parcel *p, uint64_t at)
{
    /* relaxed: made readable by SENT; one that is SENT already is in no slot, so nobody follows these before a slot says so */
    atomic_store_explicit(&p->rec->lane, ch->lane.index, relaxed);
    atomic_store_explicit(&p->rec->seq, (uint32_t)at, relaxed);
    if (!p->sent)
        p->sent = record_move(p->rec, p->state, rec_word(REC_SENT, ch->lane.pool->self + 1, rec_generation(p->state)));
    return p->sent;
}

/* ---- receiving ---- */
static inline uint64_t ring_queued(const struct ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, acquire); /* before tail: it follows it, but for hints that are behind */
    int64_t length = (int64_t)(atomic_load_explicit(&ring->tail, acquire) - head);
    return length > 0 ? (uint64_t)length : 0;
}

static inline void ring_peak(struct ring *ring, uint64_t waiting)
{
    if (waiting > atomic_load_explicit(&ring->peak, relaxed)) /* a count for people */
        atomic_store_explicit(&ring->peak, waiting, relaxed);
}

/* A call has brought `n` messages: the counts for people. `tail` is the senders' line: it is looked at now and then only. */
static inline void ring_count(struct ring_channel *ch, size_t n, uint64_t bytes, uint64_t copied)
{
    struct ring *ring = ch->ring;
    uint32_t calls = atomic_load_explicit(&ch->calls, relaxed); /* private */
    atomic_store_explicit(&ch->calls, calls + 1, relaxed);
    if (__builtin_expect(calls % 64 == 0, 0))
        ring_peak(ring, ring_queued(ring) + n);
    if (ch->base.ops->shared) {
        atomic_fetch_add_explicit(&ring->received_bytes, bytes, relaxed);
        atomic_fetch_add_explicit(&ring->received_copied, copied, relaxed);
    } else { /* only we write them */
        atomic_store_explicit(&ring->received_bytes, atomic_load_explicit(&ring->received_bytes, relaxed) + bytes, relaxed);
        atomic_store_explicit(&ring->received_copied, atomic_load_explicit(&ring->received_copied, relaxed) + copied, relaxed);
    }
}

/* Places have become free: calls those who wait for one, once a quarter is. */
static inline void ring_room_made(struct ring_channel *ch)
{
    if (__builtin_expect(event_waited(&ch->ring->room), 0) && ring_queued(ch->ring) <= (uint64_t)ch->depth * 3 / 4)
        event_call(&ch->ring->room, INT_MAX);
}

/* ---- queue.c: a struct ring_way's, also for a stream that drops old messages ---- */
int queue_push(struct ring_channel *ch, struct parcel *parcel, bool beyond);
int queue_take(struct ring_channel *ch, struct took *out);
bool queue_full(struct ring_channel *ch);
bool queue_nothing(struct ring_channel *ch);

/* ---- redeliver.c: messages that a dead receiver had in hand ---- */
/* Gives out one that waits to be given out again. 1; 0: none waits, or they are others' by now; negative: as a receive. */
int returned_take(struct ring_channel *ch, cue_msg *out);
/* The same, as it is: for returned_bury. */
bool returned_claim(struct ring_channel *ch, struct took *out);
/* What was claimed goes to the lane `dead`, or is freed. */
void returned_bury(struct ring_channel *ch, const struct took *took);
void returned_free(struct ring_channel *ch);

/* Whether a record is the message at this position, SENT: its state word, or 0. */
static inline uint64_t ring_message(uint32_t lane, const struct record *rec, uint64_t at)
{
    uint64_t state = atomic_load_explicit(&rec->state, acquire); /* pairs with: ring_post */
    return rec_state(state) == REC_SENT && atomic_load_explicit(&rec->lane, relaxed) == lane &&
                   atomic_load_explicit(&rec->seq, relaxed) == (uint32_t)at
               ? state
               : 0;
}

#endif
