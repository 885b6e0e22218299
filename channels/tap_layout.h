/* What a tap's copy of a message begins with, and where taps are found (tap.c).
 *
 *   lane_head.gate         GATE_TAPPED: senders show what they send to those who tap the lane
 *   a topic "@tap-I-G"     I the index of the tapped lane's record, G its generation, both hexadecimal: who taps it subscribes there. No
 *                          name that a user may choose begins with @
 *   lane_head.tap_bytes    of that topic: depth of the deepest tap 32 | so many bytes of each message are copied, at most 32. Both grow with
 *                          who wants more
 *   a message of it        an envelope with header, whose bytes are a struct tap_note and then the first ones of the message
 */
#ifndef TAP_LAYOUT_H
#define TAP_LAYOUT_H

#include "lane_layout.h"

#define TAP_MAGIC UINT32_C(0x65706174) /* "tape" */

/* Written by the sender before anybody can see it. */
struct tap_note {
    uint32_t magic, flags; /* CUE_TAPPED_BLOCK … */
    uint64_t size, block;  /* of the message: its bytes, those of the block that went along */
    int64_t sent_ns;
    int32_t pid;
    uint32_t party; /* slot + 1 */
    uint64_t spare[3];
};
static_assert(sizeof(struct tap_note) == 64 && offsetof(struct tap_note, sent_ns) == 24, "a line; what follows is aligned");

static inline uint64_t tap_word(uint32_t depth, uint64_t bytes)
{
    return (uint64_t)depth << 32 | (uint32_t)bytes;
}
static inline uint32_t tap_depth(uint64_t word)
{
    return (uint32_t)(word >> 32);
}
static inline uint64_t tap_bytes(uint64_t word)
{
    return (uint32_t)word;
}

#endif
