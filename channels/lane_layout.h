/* What every lane in shared memory begins with, and what a message looks like in its block.
 *
 * A lane is a KEPT block of type POOL_TYPE_LANE with a name. Its bytes begin with a struct lane_head; what follows is its kind's:
 * mailbox_layout.h, ring_layout.h. Each group of words that different parties write has a line of its own, 128 bytes apart, since
 * CPUs fetch lines in pairs.
 *
 * A message is a record SENT by its sender with `lane` the index of the lane's record; `seq` and `next` say where in the lane it
 * is, as the kind says. Its block is one of
 *
 *   envelope   note NOTE_MESSAGE|MESSAGE_BYTES: bytes that were copied; `id` is the tag, `type` the message's type, `size` counts
 *              the bytes. With MESSAGE_HEADER a struct message_header comes before them
 *   block      no NOTE_MESSAGE: a block that was moved and nothing else; its bytes are the message, its type the message's type
 *
 * A block that goes along with an envelope is SENT too, lane LANE_ENVELOPE, next the envelope's index, seq the low half of the
 * envelope's generation: it is the envelope's, see lane_recovery.c.
 */
#ifndef LANE_LAYOUT_H
#define LANE_LAYOUT_H

#include "pool/pool_layout.h"

#include <cuelight/serial.h>

#define LANE_MAGIC UINT32_C(0x656e616c) /* "lane" */

/* In `gate`. SHUT, of queues and streams: cue_channel_shut, nobody sends; a mailbox says so in its head. TAPPED: see tap_layout.h. */
#define GATE_SHUT (UINT64_C(1) << 63)
#define GATE_TAPPED (UINT64_C(1) << 62)

enum {
    GATE_RETIRED = 1, /* the lane is being freed: open it anew by name */
    GATE_ONE = 2,
    LANE_DEPTH_MAX = 1 << 24,
    LANE_WEIGHTY = 4096 /* messages of this many bytes and more are counted by their bytes */
};

struct lane_head {
    /* written by the maker before the lane has a name, constant from then on */
    uint32_t magic, kind, full, depth;
    uint32_t type, mortal; /* mortal: 1: an actor's: ends with its receiver, see mailbox_layout.h */
    uint64_t bytes, max;
    _Atomic uint64_t gate;    /* grows by GATE_ONE with each open; RETIRED by CAS, see lane.c; SHUT by a receiver, until the next one;
                                 TAPPED by who taps it */
    uint32_t bell, bell_bit;  /* the block of a bell (bell.h) that is rung to wake the receiver; bell_generation 0: none */
    uint64_t bell_generation; /* plus 1 */
    uint32_t redeliver, history;
    /* who has an end that only one may have: party + 1 12 | epoch 30 | which of its channels 22; 0: none. CAS vacant or dead -> me */
    _Atomic uint64_t receiver, sender;
    _Atomic uint64_t late;      /* answers to its questions that came when nobody waited any more */
    _Atomic uint64_t tap_bytes; /* of a topic of taps, by those who tap: tap_layout.h */
    uint64_t spare[3];
};
static_assert(sizeof(struct lane_head) == 128 && offsetof(struct lane_head, gate) == 40 && offsetof(struct lane_head, receiver) == 72 &&
                  offsetof(struct lane_head, tap_bytes) == 96,
              "layout");

/* Of `receiver` and `sender`. */
static inline unsigned receiver_party(uint64_t word) /* plus 1 */
{
    return (unsigned)word & 0xfff;
}
static inline uint32_t receiver_epoch(uint64_t word)
{
    return (uint32_t)(word >> 12) & 0x3fffffff;
}

/* Bits of a message's record.note. */
enum {
    MESSAGE_BYTES = 1 << NOTE_CHANNEL_SHIFT,           /* its data are the envelope's bytes; without it the block's that goes along */
    MESSAGE_HEADER = 1 << (NOTE_CHANNEL_SHIFT + 1),    /* a header comes first */
    MESSAGE_ATTACHED = 1 << (NOTE_CHANNEL_SHIFT + 2),  /* header: a block goes along */
    MESSAGE_REFERENCE = 1 << (NOTE_CHANNEL_SHIFT + 3), /* header: a view goes along */
    MESSAGE_SYSTEM = 1 << (NOTE_CHANNEL_SHIFT + 4),    /* passed ahead of the limits */
    MESSAGE_LENT = 1 << (NOTE_CHANNEL_SHIFT + 5),      /* goes back to its lane, `name_hash`, when a receiver dies: redeliver.c */
    MESSAGE_TIMES_SHIFT = 16                           /* bits 16-31: how often it was handed out; LENT only */
};

struct message_header {
    uint64_t key;
    cue_ref from;
    int32_t status;
    uint32_t index;        /* of the block that goes along */
    uint64_t generation;   /* of it */
    uint64_t offset, size; /* reference: which of its bytes */
    uint64_t home;         /* LENT: generation of its lane. Of a topic's message, whose `id` is taken: its tag */
};
static_assert(sizeof(struct message_header) == 64, "a header is a line");

#endif
