/* Lanes in shared memory, whatever their kind: how one is found or made by its name, who has its ends, what it needs when a party
 * dies. A kind (mailbox, queue, stream, topic) is a table of operations in files of its own; lane.c knows the tables by kind.
 */
#ifndef LANE_H
#define LANE_H

#include "channel_internal.h"
#include "lane_layout.h"

#include "base/atomic.h"

/* block_move in place, for the two that every message makes. */
static inline bool record_move(struct record *rec, uint64_t from, uint64_t to)
{
    uint64_t state = from;
    while (__builtin_expect(!cas(&rec->state, &state, to | (state & REC_SHARED)), 0))
        if ((state & ~REC_SHARED) != (from & ~REC_SHARED))
            return false;
    return true;
}

/* A lane that somebody here holds: by a lease, or because it is its owner's. */
struct lane {
    struct cue_pool *pool;
    struct lane_head *head; /* the kind's struct begins with it */
    struct record *rec;
    uint32_t index;
    uint64_t generation;
    const struct lane_kind *kind; /* as its head said when it was found to make sense: the head is not asked again */
};

/* ---- what a kind is ---- */
typedef bool lane_visitor(uint32_t index, uint64_t state, void *arg);

struct lane_kind {
    const char *name;
    uint32_t number; /* CUE_MAILBOX … */
    bool redelivers; /* it knows the options `redeliver` and `dead` */
    /* Bytes of the lane's block if it is made as `with` says; what may not be is refused: CUE_EINVAL, CUE_ETOOBIG. */
    int (*bytes)(const cue_channel_opts *with, uint64_t *bytes);
    /* The rest of a block that is zero but for its head, which is filled. Nobody knows it yet. */
    void (*init)(struct lane_head *head, const cue_channel_opts *with);
    /* Whether what stands in it lets nobody reach beyond its `capacity` bytes: it comes from shared memory. */
    bool (*sound)(const struct lane_head *head, uint64_t capacity);
    /* Opens an end. It takes over our hold on the lane, which channel_ops.close gives back with lane_close; on failure it is the
     * caller's. In the channel only `ops` and `pool` need be set. */
    int (*open)(const struct lane *lane, unsigned how, const cue_channel_opts *with, cue_channel **out);
    /* No message waits. In the order of seq_cst, see lane.c. */
    bool (*empty)(const struct lane *lane);
    /* Its part of the counts. */
    void (*stat)(struct cue_pool *pool, struct lane_head *head, cue_channel_info *out);

    /* Recovery. The caller has a lease on the lane. */
    /* The party has died, or leaves: its ends become vacant, and who waits for it, or for a wake that it did not make, looks
     * again. Idempotent. */
    void (*died)(const struct lane *lane, unsigned slot, uint32_t epoch);
    /* Whether a record that a dead party has SENT into this lane (record.lane says so) is linked in it. */
    bool (*linked)(const struct lane *lane, const struct record *rec, uint32_t index);
    /* May be NULL. Where `linked` takes a walk: one walk for all records, newest first, until the visitor says true; then a record
     * that it did not see is not linked. */
    bool (*walk)(const struct lane *lane, lane_visitor *visit, void *arg);
};

extern const struct lane_kind mailbox_kind, queue_kind, stream_kind, topic_kind;
extern const struct recovery_hooks lane_recovery_hooks; /* lane_recovery.c */
/* The kind of a lane; NULL: none that is built in. */
const struct lane_kind *lane_kind_of(uint32_t kind);

/* ---- life ---- */
/* Finds the lane or makes it as `with` says; it stays until lane_close. CUE_EEXIST: the name is a block's. CUE_ETYPE: of another
 * kind than asked. */
int lane_open(struct cue_pool *pool, const char *name, const cue_channel_opts *with, struct lane *out);
/* Finds it; it stays until lane_close. CUE_ENOENT (without a trail), CUE_EEXIST: the name is a block's. */
int lane_find(struct cue_pool *pool, const char *name, struct lane *out);
/* A lane of ours that nobody knows yet: an owner of its block. `name` NULL: it will have none. */
int lane_take(struct cue_pool *pool, const char *name, const cue_channel_opts *with, cue_block *block, struct lane *out);
/* A forked child takes its parent's lane for itself. CUE_ESTALE: it went meanwhile. */
int lane_renew(const struct lane *lane);
/* Ends our hold; frees the lane if it is empty and nobody else has it open. */
void lane_close(const struct lane *lane);
/* Frees the lane if it is empty and nobody has it open; parties that are dead or leaving, `gone`, do not count. */
enum { NOBODY_GONE = POOL_MAX_PARTIES };
void lane_retire(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, unsigned gone);
/* The lane in a block that the caller holds; false: it makes no sense as one. */
bool lane_of(struct cue_pool *pool, struct record *rec, uint32_t index, struct lane *out);
/* The lane of a record, under a lease that lane_leave drops; false: there is none. */
bool lane_enter(struct cue_pool *pool, uint32_t index, struct lane *out);
void lane_leave(const struct lane *lane);
void lane_stat(const struct lane *lane, cue_channel_info *out);

/* ---- the end of sending, see cue_channel_shut ---- */
static inline bool lane_is_shut(const struct lane_head *head)
{
    return __builtin_expect((atomic_load_explicit(&head->gate, seq_cst) & GATE_SHUT) != 0, 0); /* pairs with: ring_shut */
}
/* CUE_ECLOSED. */
int lane_shut_trail(const struct cue_pool *pool, const struct lane_head *head);

/* ---- ends that only one may have ---- */
/* Claims `end`, the lane's receiver or sender: vacant, or its holder is dead. Our word comes back in `mine`. CUE_EBUSY: `does`
 * ("receives from it") says what the holder does. */
int lane_end_claim(const struct lane *lane, _Atomic uint64_t *end, const char *does, uint64_t *mine);
/* Does the party that `word` names live, and is still that party? */
bool receiver_lives(struct cue_pool *pool, uint64_t word);
/* Its pid; 0: nobody who lives. */
int32_t receiver_pid(struct cue_pool *pool, uint64_t word);
/* Recovery: `end` was (slot, epoch)'s: it is vacant now. */
bool lane_end_vacate(_Atomic uint64_t *end, unsigned slot, uint32_t epoch);

#endif
