/* What a queue and a stream keep in shared memory behind their struct lane_head: a ring of slot words. (Of most streams: of places, which
 * are larger, stream_layout.h.)
 *
 *   slot   lap 32 | index of a record + 1 32; index 0: empty in this lap. Position p lies in slot p mod N, in lap p / N; N is a power
 *          of two, at least `depth`. All zero is an empty ring at position 0
 *   tail, head   hints: how far senders and receivers are. They may be behind, never ahead
 *   bell, room   who waits for messages, who waits for room (event.h)
 *   returned     bit 0: there may be messages that a dead receiver had in hand, and that wait to be given to another one: KEPT records
 *                that belong to this lane (redeliver.c). The rest grows with each
 *
 * Of a message's record `seq` is the low half of its position, `next` means nothing. On a queue it is always an envelope, so that a
 * record is SENT once in its life, see queue.c.
 */
#ifndef RING_LAYOUT_H
#define RING_LAYOUT_H

#include "lane_layout.h"

enum { RING_RETURNED = 1, RING_RETURNED_ONE = 2 };

struct ring {
    struct lane_head lane;
    /* constant from before the lane has a name on */
    uint32_t shift;             /* N is 1 << shift */
    uint32_t place_bytes;       /* of one of the N: a slot word, or a struct place (stream_layout.h) */
    char dead[POOL_NAME_BYTES]; /* queue: the lane for messages that nobody survived; "": they are freed */
    uint64_t pad0[7];
    _Atomic uint64_t tail;
    uint64_t pad1[15];
    _Atomic uint64_t head;
    uint64_t pad2[15];
    _Atomic uint32_t bell, room, returned;
    uint32_t pad3[29];
    /* counts, added to by anybody */
    _Atomic uint64_t received_bytes, received_copied, weight_out, dropped_old, peak, redelivered, returns, dead_letters;
    uint64_t pad4[8];
    _Atomic uint64_t dropped_new, refused, wakes, weight_in, withdrawn;
    uint64_t pad5[11];
    _Atomic uint64_t slot[];
};
static_assert(offsetof(struct ring, tail) == 256 && offsetof(struct ring, head) == 384, "layout");
static_assert(offsetof(struct ring, bell) == 512 && offsetof(struct ring, received_bytes) == 640, "layout");
static_assert(offsetof(struct ring, dropped_new) == 768 && offsetof(struct ring, slot) == 896, "layout");

static inline uint64_t slot_word(uint64_t lap, uint32_t index_plus_1)
{
    return lap << 32 | index_plus_1;
}
static inline uint32_t slot_index(uint64_t slot) /* plus 1; 0: empty */
{
    return (uint32_t)slot;
}
/* How many laps the slot is ahead of position `p`: laps wrap. */
static inline int32_t slot_ahead(uint64_t slot, uint64_t p, uint32_t shift)
{
    return (int32_t)((uint32_t)(slot >> 32) - (uint32_t)(p >> shift));
}

#endif
