/* What a mailbox keeps in shared memory, word by word, and what a message looks like in its block.
 *
 * A lane is a KEPT block of type POOL_TYPE_LANE with a name; its bytes are a struct mailbox. Each group of words that different
 * parties write has a line of its own, 128 bytes apart, since CPUs fetch lines in pairs.
 *
 *   head      index of the newest record 32 | position 30 | SLEEP 1 | CLOSED 1. The low half is the futex on which the receiver
 *             sleeps. Only ever moved by compare-and-swap or a change of SLEEP; the chain below it is never cut
 *   consumed  position 30 | FULL-WAIT 1 | spare 1: the last position that was handed out; the futex on which senders wait
 *
 * Positions are kept shifted by two, as they stand in the words; they wrap, so differences are signed.
 *
 * A message is a record SENT by its sender with `lane` the index of the lane's record, `seq` its position, `next` the record
 * below it. Its block is one of
 *
 *   envelope   note NOTE_MESSAGE|MESSAGE_BYTES: bytes that were copied; `id` is the tag, `type` the message's type, `size` counts
 *              the bytes. With MESSAGE_HEADER a struct message_header comes before them
 *   block      no NOTE_MESSAGE: a block that was moved and nothing else; its bytes are the message, its type the message's type
 *
 * A block that goes along with an envelope is SENT too, lane LANE_ENVELOPE, next the envelope's index, seq the low half of the
 * envelope's generation: it is the envelope's, see lane_recovery.c.
 */
#ifndef MAILBOX_LAYOUT_H
#define MAILBOX_LAYOUT_H

#include "pool/pool_layout.h"

#include <cuelight/serial.h>

#define MAILBOX_MAGIC UINT32_C(0x786f626d) /* "mbox" */

enum {
    HEAD_CLOSED = 1,        /* a mortal lane whose receiver has ended: a push is CUE_EDEAD. For good */
    HEAD_SLEEP = 2,         /* the receiver sleeps, or is about to: whoever pushes wakes it. Only the receiver's process clears it */
    CONSUMED_FULL_WAIT = 2, /* senders sleep, or are about to, until there is room */
    POSITION_ONE = 4,       /* one message */
    GATE_RETIRED = 1,       /* the lane is being freed: open it anew by name */
    GATE_ONE = 2,
    MAILBOX_DEPTH_MAX = 1 << 24,
    MAILBOX_WEIGHTY = 4096 /* messages of this many bytes and more are counted by their bytes */
};

struct mailbox {
    /* written by the maker before the lane has a name, constant from then on */
    uint32_t magic, kind, full, depth;
    uint32_t type, mortal; /* mortal: 1: an actor's: ends with its receiver, see HEAD_CLOSED */
    uint64_t bytes, max;
    _Atomic uint64_t gate;    /* grows by GATE_ONE with each open; RETIRED by CAS, see lane.c */
    uint32_t bell, bell_bit;  /* the block of a bell (bell.h) that is rung instead of waking `head`; bell_generation 0: none */
    uint64_t bell_generation; /* plus 1 */
    uint64_t pad0[8];
    _Atomic uint64_t head; /* CAS by senders; SLEEP by the receiver */
    uint64_t pad1[15];
    _Atomic uint32_t consumed; /* added to by the receiver; FULL-WAIT set by senders, cleared by the receiver */
    uint32_t pad2[31];
    _Atomic uint64_t receiver; /* party + 1 12 | epoch 30 | which of its channels 22; 0: none. CAS vacant or dead -> me */
    uint64_t pad3[15];
    /* counts of the receiver */
    _Atomic uint64_t passed; /* messages handed out or dropped as old; low 30 bits follow `consumed` */
    _Atomic uint64_t dropped_old, peak, received_bytes, received_copied;
    _Atomic uint64_t weight_out; /* bytes of weighty messages that were taken; see weight_in */
    uint64_t pad4[10];
    /* counts of senders, off their usual path */
    _Atomic uint64_t dropped_new, refused, wakes;
    _Atomic uint64_t weight_in; /* bytes of weighty messages that were sent: added after the push, so `out` may be ahead for a
                                   moment. A word for each side, so that a message moves neither line to the other one. When the
                                   receiver finds the lane empty it sets `out` to `in`: what the killed forgot does not add up */
    uint64_t pad5[4];
};
static_assert(offsetof(struct mailbox, head) == 128 && offsetof(struct mailbox, consumed) == 256, "layout");
static_assert(offsetof(struct mailbox, receiver) == 384 && offsetof(struct mailbox, passed) == 512, "layout");
static_assert(offsetof(struct mailbox, dropped_new) == 640 && sizeof(struct mailbox) == 704, "layout");
static_assert(sizeof(struct mailbox) + POOL_NAME_BYTES <= 1024, "an idle mailbox is small");

/* Bits of a message's record.note. */
enum {
    MESSAGE_BYTES = 1 << NOTE_CHANNEL_SHIFT,           /* its data are the envelope's bytes; without it the block's that goes along */
    MESSAGE_HEADER = 1 << (NOTE_CHANNEL_SHIFT + 1),    /* a header comes first */
    MESSAGE_ATTACHED = 1 << (NOTE_CHANNEL_SHIFT + 2),  /* header: a block goes along */
    MESSAGE_REFERENCE = 1 << (NOTE_CHANNEL_SHIFT + 3), /* header: a view goes along */
    MESSAGE_SYSTEM = 1 << (NOTE_CHANNEL_SHIFT + 4)     /* passed ahead of the limits */
};

struct message_header {
    uint64_t key;
    cue_ref from;
    int32_t status;
    uint32_t index;        /* of the block that goes along */
    uint64_t generation;   /* of it */
    uint64_t offset, size; /* reference: which of its bytes */
    uint64_t spare;
};
static_assert(sizeof(struct message_header) == 64, "a header is a line");

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
/* Of `receiver`. */
static inline unsigned receiver_party(uint64_t word) /* plus 1 */
{
    return (unsigned)word & 0xfff;
}
static inline uint32_t receiver_epoch(uint64_t word)
{
    return (uint32_t)(word >> 12) & 0x3fffffff;
}
/* Messages between two positions. Signed: head is loaded before consumed and may be behind it; unsigned that would read as a
 * full lane, and a sender could go to sleep on an empty one. */
static inline int32_t lane_length(uint32_t head, uint32_t consumed)
{
    return (int32_t)(position(head) - position(consumed)) / POSITION_ONE;
}

#endif
