/* What the kinds that are rings share: the channel, limits, waiting, batches, counts (ring.c). How a message gets into the ring and
 * out of it is the kind's: queue.c, stream.c. */
#ifndef RING_H
#define RING_H

#include "event.h"
#include "message.h"
#include "ring_layout.h"
#include "spin.h"

enum { RING_BATCH = 32 }; /* messages that are pushed before `pushed` is called */

struct ring_channel;

/* What has been taken out of the ring. */
struct took {
    struct record *rec;
    uint32_t index;
    uint64_t state; /* OWNED by us, without REC_SHARED */
};

struct ring_way {
    struct channel_ops ops;
    /* Links it. 1; 0: there is no room; CUE_ESTALE. `beyond`: the lane's depth does not hold. */
    int (*push)(struct ring_channel *ch, struct parcel *parcel, bool beyond);
    /* Claims the oldest. 1; 0: nothing is there; CUE_ECORRUPT. */
    int (*take)(struct ring_channel *ch, struct took *out);
    bool (*full)(struct ring_channel *ch);      /* a push would find no room; in the order of seq_cst */
    bool (*nothing)(struct ring_channel *ch);   /* a take would find nothing; the same */
    /* After pushes and after takes of one call, before the look whether the other side waits; may be NULL. */
    void (*pushed)(struct ring_channel *ch), (*taken)(struct ring_channel *ch);
};

struct ring_channel {
    struct cue_channel base; /* ops: in a struct ring_way */
    struct lane lane;
    struct ring *ring;
    const struct ring_way *way;
    /* what the lane says, once it was checked */
    uint32_t shift, depth, redeliver;
    bool enclose; /* every message goes in an envelope, see queue.c */
    bool gaps;    /* a stream that drops: messages say what is missing before them */
    uint64_t mask, bytes;
    _Atomic uint32_t woken, closing; /* cue_channel_wake, cue_channel_close: looked at by whoever is about to wait */
    _Atomic uint32_t waiting;        /* threads that wait for room */
    _Atomic uint64_t refused_weight; /* of the message that found none last */
    _Atomic uint32_t calls;          /* receives, as far as threads do not overwrite each other's */
    struct spin spin;
    cue_channel *dead;        /* queue: where its dead letters go, or NULL */
    uint64_t receiver, sender; /* stream: our words in the lane's head, or 0 */
    struct returned *returned; /* queue: what was found to be given out again, redeliver.c */
    struct lock returned_lock;

    _Alignas(128) _Atomic uint32_t sending; /* stream: 1: a thread is in send */
    uint64_t send_at, filled;               /* stream: position of the next send; places before this one are filled */
    uint32_t posted[RING_BATCH];            /* stream: what goes into those between: indexes plus 1 */
    _Alignas(128) uint64_t recv_at;         /* stream: of the next receive */
    uint64_t emptied;                       /* stream: places before it are empty */
    uint64_t dropped;                       /* stream with gaps: what we have told of, and */
    uint32_t next;                          /* position, low half, of the message that follows if none is dropped */
};

static inline struct ring_channel *ring_of(cue_channel *ch)
{
    return (struct ring_channel *)(void *)ch;
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
bool ring_sound(const struct lane_head *head, uint64_t capacity);
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
/* Whether everything before position `until` was claimed, or where that is UINT64_MAX, everything that is there. In the order of seq_cst. */
bool ring_passed(const struct lane *lane, uint32_t shift, uint64_t until);

/* A message that was taken becomes the caller's. */
int ring_unpack(struct ring_channel *ch, const struct took *took, cue_msg *out);

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
