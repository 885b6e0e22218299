/* What the files of the mailbox tell each other: the lane in shared memory (lane.c), a process's end of it (mailbox.c), messages
 * and their blocks (message.c), recovery (lane_recovery.c). */
#ifndef MAILBOX_H
#define MAILBOX_H

#include "channel_internal.h"
#include "mailbox_layout.h"
#include "spin.h"

#define relaxed memory_order_relaxed
#define acquire memory_order_acquire
#define release memory_order_release
#define acq_rel memory_order_acq_rel
#define seq_cst memory_order_seq_cst

static inline bool cas(_Atomic uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(word, expected, desired, acq_rel, acquire);
}

/* block_move in place, for the two that every message makes. */
static inline bool record_move(struct record *rec, uint64_t from, uint64_t to)
{
    uint64_t state = from;
    while (__builtin_expect(!cas(&rec->state, &state, to | (state & REC_SHARED)), 0))
        if ((state & ~REC_SHARED) != (from & ~REC_SHARED))
            return false;
    return true;
}

/* ---- lane.c: a lane, found or made by name ---- */
struct lane {
    struct cue_pool *pool;
    struct mailbox *box;
    struct record *rec;
    uint32_t index;
    uint64_t generation;
};

/* Finds the lane or makes it as `opts` say; it stays until lane_close. CUE_EEXIST: the name is a block's. CUE_ETYPE: of another
 * kind than asked. */
int lane_open(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, struct lane *out);
/* A lane of ours that nobody knows yet: an owner of its block. `name` NULL: it will have none. */
int lane_take(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, cue_block *block, struct lane *out);
/* A forked child takes its parent's lane for itself. CUE_ESTALE: it went meanwhile. */
int lane_renew(const struct lane *lane);
/* Ends our hold; frees the lane if it is empty and nobody else has it open. */
void lane_close(const struct lane *lane);
/* Frees the lane if it is empty and nobody has it open; parties that are dead or leaving, `gone`, do not count. */
enum { NOBODY_GONE = POOL_MAX_PARTIES };
void lane_retire(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, unsigned gone);
/* The mailbox in the lane's block, which the caller holds; NULL: the block makes no sense as one. */
struct mailbox *lane_box(struct cue_pool *pool, struct record *rec, uint32_t index);
/* Does the party that `word` (of mailbox.receiver) names live, and is still that party? */
bool receiver_lives(struct cue_pool *pool, uint64_t word);
/* A push has seen SLEEP: wakes the receiver, or rings its bell. */
void lane_wake(struct cue_pool *pool, struct mailbox *box);
/* Messages handed out or dropped since the lane was made: `passed` brought up to `consumed`. */
uint64_t lane_passed(struct mailbox *box);
void lane_stat(struct cue_pool *pool, struct mailbox *box, const struct record *rec, cue_channel_info *out);

/* ---- mailbox.c: a process's end of it ---- */
struct link {
    struct record *rec;
    uint32_t index;
};

struct mailbox_channel {
    struct cue_channel base;
    struct lane lane;
    int32_t capacity;                /* messages that senders let pile up */
    _Atomic uint32_t woken, closing; /* cue_channel_wake, cue_channel_close: looked at by whoever is about to wait */

    _Alignas(64) _Atomic uint32_t consumed; /* senders: what it was when last looked at */
    _Atomic uint64_t weight_out;            /* the same of box->weight_out */
    _Atomic uint32_t woke_at;               /* the position of the last push for which we woke the receiver */
    _Atomic uint32_t waiting;               /* senders of ours that wait for room */

    /* the receiver's own */
    _Alignas(64) uint32_t at; /* position of the last message taken */
    uint32_t owed;            /* taken, not yet added to box->consumed */
    uint32_t seen;            /* position of the head at the last walk */
    uint32_t top, count;      /* of `links`: a stack, oldest on top; when it overflows it keeps the oldest */
    uint32_t mask;
    bool fresh;        /* before the first walk */
    bool near, roused; /* an actor's mailbox, see actor_lane.c: who sends through this is the receiver's thread; a push found SLEEP
                                 and cleared it */
    struct link *links;
    uint64_t mine;                  /* our word in box->receiver */
    uint64_t passed, bytes, copied; /* as in box */
    struct spin spin;
};

/* Sends one; 1: it went, or was dropped as the lane says. `system`: a message of the library's, see channel_send_system. */
int mailbox_send_one(struct mailbox_channel *ch, const cue_msg *m, bool system, int64_t deadline);
/* Takes up to n that are there; how many. */
int mailbox_take(struct mailbox_channel *ch, cue_msg *out, size_t n);
/* Nothing is there: true, and the next push finds SLEEP. */
bool mailbox_doze(struct mailbox_channel *ch);
/* Until something is there, or why not. */
int mailbox_wait(struct mailbox_channel *ch, int64_t deadline);

/* ---- message.c: from a cue_msg to a record and back ---- */
struct parcel {
    struct record *rec; /* what goes on the chain: an envelope, or the block itself; OWNED by us */
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
    bool pure; /* the block is the message */
};

/* What a message of this size may not be: CUE_EINVAL, ETYPE, ETOOBIG, EMOVED, ESTALE, ENOTOWNER. `lane` says what may pass. */
int message_check(struct cue_pool *pool, const struct mailbox *box, const cue_msg *m, bool system, struct opened *opened);
/* Makes what goes on the chain. Waits for room in the pool until `deadline`. CUE_ENOMEM. */
int message_pack(struct cue_pool *pool, const cue_msg *m, bool system, int64_t deadline, const struct opened *opened, struct parcel *out);
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

/* SENT by the envelope's sender -> OWNED by us, if it still is that envelope's. */
bool attached_take(struct cue_pool *pool, struct record *rec, uint64_t generation, uint32_t envelope, uint64_t envelope_generation);

#endif
