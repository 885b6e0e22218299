/* Messages: from a cue_msg to a record that a lane can link, and back (message.c). For all kinds of lanes. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "lane.h"

struct parcel {
    const cue_msg *small; /* rec NULL: a stream carries it in a place of its own */
    struct record *rec;   /* what goes into the lane: an envelope, or the block itself; OWNED by us */
    uint32_t index;
    bool envelope;       /* rec was made by us: undone, it is freed */
    bool sent;           /* its state is SENT */
    uint64_t state;      /* the state word to go back to */
    struct record *with; /* the block that goes along as the envelope's, or NULL */
    uint32_t with_index;
    uint64_t with_state;
    uint64_t weight;  /* bytes, if the message is weighty, else 0 */
    uint64_t made_ns; /* of a block that goes itself: the word that next and seq overwrite */
};

/* The block behind `move`, as it was found by message_check. */
struct opened {
    struct block_ref ref;
    uint64_t state;
    bool pure;     /* the block is the message */
    bool enclose;  /* but goes in an envelope all the same, and */
    uint32_t home; /* the lane's index, if it is one with redeliver, else INDEX_NONE */
    uint64_t home_generation;
    bool tag_in_header; /* set by the caller between message_check and message_pack */
};

/* What a message of this size may not be: CUE_EINVAL, ETYPE, ETOOBIG, EMOVED, ESTALE, ENOTOWNER. `lane` says what may pass.
 * MESSAGE_TAPPED: it may, and the lane is tapped: see tap.h. */
enum { MESSAGE_TAPPED = 1 };
int message_check(struct cue_pool *pool, const struct lane_head *lane, const cue_msg *m, bool system, struct opened *opened);
/* Makes what goes into the lane. `until` NULL: does not wait for room in the pool; else it does so in line, which is for who has tried
 * without. CUE_ENOMEM, or what `until->over` says. */
int message_pack(struct cue_pool *pool, const cue_msg *m, bool system, const struct room_until *until, const struct opened *opened,
                 struct parcel *out);
/* It was not sent: the caller has everything again. */
void message_undo(struct cue_pool *pool, struct parcel *parcel);
/* It was sent: the caller's handle is empty. */
void message_gone(const cue_msg *m, const struct opened *opened);
/* The message of a record that was just taken (OWNED by us, state word `taken`). CUE_ECORRUPT: it made no sense and was freed.
 * `payload`, `copied`: bytes, for the counts. */
struct unpacked {
    uint64_t payload, copied, weight;
};
int message_unpack(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t taken, cue_msg *out, struct unpacked *about);

/* In cue_msg.priv[3] of a tap's copy, with the address of what it says of itself (tap.c): no record's address ends in it, and no socket's
 * number (cue_msg_peer). */
enum { PRIV_TAPPED = 2, PRIV_BITS = 3 };

static inline bool message_is_tapped(const cue_msg *m)
{
    return (m->priv[3] & PRIV_BITS) == PRIV_TAPPED;
}

/* Word by word: a `rep stos`, which compilers make of a memset of this size, costs as much as the rest of a message. */
static inline void message_clear(cue_msg *m)
{
    m->type = 0;
    m->status = 0;
    m->tag = m->key = 0;
    m->from = (cue_ref){ 0 };
    m->data = NULL;
    m->size = 0;
    m->move = NULL;
    m->block.data = NULL;
    m->block.size = 0;
    m->block.priv[0] = m->block.priv[1] = m->block.priv[2] = 0;
    m->redelivered = m->gap = 0;
    m->priv[0] = m->priv[1] = m->priv[2] = m->priv[3] = 0;
}

/* Of a LENT message: it is handed out once more. */
static inline void message_handed_out(struct record *rec)
{
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* ours */
    if (note >> MESSAGE_TIMES_SHIFT < UINT16_MAX)
        atomic_store_explicit(&rec->note, note + (UINT32_C(1) << MESSAGE_TIMES_SHIFT), relaxed);
}

/* SENT by the envelope's sender -> OWNED by us, if it still is that envelope's. */
bool attached_take(struct cue_pool *pool, struct record *rec, uint64_t generation, uint32_t envelope, uint64_t envelope_generation);

/* Bytes that count for the lane's `bytes`: 0 below LANE_WEIGHTY. */
static inline uint64_t weight_of(const cue_msg *m)
{
    uint64_t bytes = m->size + (m->move ? m->move->size : 0);
    return bytes >= LANE_WEIGHTY ? bytes : 0;
}

#endif
