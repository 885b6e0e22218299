/* What a mailbox keeps in shared memory behind its struct lane_head, word by word.
 *
 *   head      index of the newest record 32 | position 30 | SLEEP 1 | CLOSED 1. The low half is the futex on which the receiver
 *             sleeps. Only ever moved by compare-and-swap or a change of SLEEP; the chain below it is never cut
 *   consumed  position 30 | FULL-WAIT 1 | spare 1: the last position that was handed out; the futex on which senders wait
 *
 * Positions are kept shifted by two, as they stand in the words; they wrap, so differences are signed. Of a message's record `seq`
 * is its position, `next` the record below it.
 */
#ifndef MAILBOX_LAYOUT_H
#define MAILBOX_LAYOUT_H

#include "lane_layout.h"

enum {
    HEAD_CLOSED = 1,        /* no push succeeds. A mortal lane: its receiver has ended, CUE_EDEAD, for good. Else: its receiver has shut it,
                               CUE_ECLOSED, until the next one clears it */
    HEAD_SLEEP = 2,         /* the receiver sleeps, or is about to: whoever pushes wakes it. Only the receiver's process clears it */
    CONSUMED_FULL_WAIT = 2, /* senders sleep, or are about to, until there is room */
    POSITION_ONE = 4        /* one message */
};

struct mailbox {
    struct lane_head lane;
    _Atomic uint64_t head; /* CAS by senders; SLEEP by the receiver */
    uint64_t pad1[15];
    _Atomic uint32_t consumed; /* added to by the receiver; FULL-WAIT set by senders, cleared by the receiver */
    uint32_t pad2[31];
    /* counts of the receiver */
    _Atomic uint64_t passed; /* messages handed out or dropped as old; low 30 bits follow `consumed` */
    _Atomic uint64_t dropped_old, peak, received_bytes, received_copied;
    _Atomic uint64_t weight_out; /* bytes of weighty messages that were taken; see weight_in */
    uint64_t pad3[10];
    /* counts of senders, off their usual path */
    _Atomic uint64_t dropped_new, refused, wakes;
    _Atomic uint64_t weight_in; /* bytes of weighty messages that were sent: added after the push, so `out` may be ahead for a
                                   moment. A word for each side, so that a message moves neither line to the other one. When the
                                   receiver finds the lane empty it sets `out` to `in`: what the killed forgot does not add up */
    uint64_t pad4[4];
};
static_assert(offsetof(struct mailbox, head) == 128 && offsetof(struct mailbox, consumed) == 256, "layout");
static_assert(offsetof(struct mailbox, passed) == 384 && offsetof(struct mailbox, dropped_new) == 512, "layout");
static_assert(sizeof(struct mailbox) == 576, "layout");
static_assert(sizeof(struct mailbox) + POOL_NAME_BYTES <= 1024, "an idle mailbox is small");

static inline uint32_t position(uint64_t word) /* of head or consumed */
{
    return (uint32_t)word & ~UINT32_C(3);
}
static inline uint32_t head_index(uint64_t head)
{
    return (uint32_t)(head >> 32);
}
static inline uint64_t head_word(uint32_t index, uint32_t at, uint32_t flags)
{
    return (uint64_t)index << 32 | at | flags;
}
/* Messages between two positions. Signed: head is loaded before consumed and may be behind it; unsigned that would read as a
 * full lane, and a sender could go to sleep on an empty one. */
static inline int32_t lane_length(uint32_t head, uint32_t consumed)
{
    return (int32_t)(position(head) - position(consumed)) / POSITION_ONE;
}

#endif
