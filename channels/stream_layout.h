/* What a stream keeps in shared memory behind its struct ring, unless it drops old messages: places instead of slot words.
 *
 *   place   two lines, which CPUs fetch together: a word that says what is there, and a small message itself: up to 64 bytes, no
 *           block, nobody to answer. Anything else is a record, as in the other lanes, of which the place has the index. Position p
 *           lies in place p mod N
 *   word    lap 32 | what 32: 0 nothing yet, the index of a record + 1, or PLACE_SMALL. A place is full at p if it says p's lap and
 *           something. Written by the sender alone, last of all. To empty it changes nothing in it:
 *   head    of the struct ring: the position up to which all was taken. Written by the receiver; the sender may fill p once
 *           p < head + depth
 *   tail    a count for people, as far as the sender has said
 *
 * All zero is an empty stream at position 0.
 */
#ifndef STREAM_LAYOUT_H
#define STREAM_LAYOUT_H

#include "ring_layout.h"

#define PLACE_SMALL UINT32_MAX /* the message is here */

enum { PLACE_ROOM = 64 };

struct place {
    _Atomic uint64_t word;
    /* SMALL: as in the cue_msg; written before the word */
    uint32_t type;
    int32_t status;
    uint64_t tag, key;
    uint32_t size;
    uint32_t spare0;
    uint64_t spare1[3];
    unsigned char bytes[PLACE_ROOM];
};
static_assert(sizeof(struct place) == 128 && offsetof(struct place, bytes) == 64, "a line each");
static_assert(offsetof(struct ring, slot) % 128 == 0, "places begin where a pair of lines does");

static inline uint32_t place_what(uint64_t word)
{
    return (uint32_t)word;
}
static inline int place_full(uint64_t word, uint64_t p, uint32_t shift)
{
    return place_what(word) && (uint32_t)(word >> 32) == (uint32_t)(p >> shift);
}
static inline struct place *ring_places(struct ring *ring)
{
    return (struct place *)(void *)ring->slot;
}

#endif
