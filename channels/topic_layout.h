/* What a topic keeps in shared memory, behind the lane's head, and what a subscription is.
 *
 *   topic          a lane; its table says who subscribes
 *   subscription   a block of type POOL_TYPE_SUBSCRIPTION: a ring of records, OWNED by the subscribing party. The history of a topic is
 *                  one more, which is the pool's (KEPT) and has the last place of the table
 *
 * A message is a record that is POSTED by its publisher and then DOOMED, flag TOPIC, `lane` the index of the topic's record, made_ns
 * and id its grants: a bit for each place of the table (rec_grants()). Its block is as in lane_layout.h; since `id` is taken, a tag
 * stands in the header. A block that goes along is SENT by the publisher, as with other envelopes, and is freed with its envelope.
 */
#ifndef TOPIC_LAYOUT_H
#define TOPIC_LAYOUT_H

#include "lane_layout.h"

#define FEED_MAGIC UINT32_C(0x73627573) /* "subs" */

enum {
    TOPIC_PLACES = 128,
    TOPIC_HISTORY = TOPIC_PLACES - 1, /* the place of the history */
    TOPIC_SLACK = 128                 /* room beyond the depth for publishers that saw the last free place at the same time */
};

/* A place of the table: 0: free | bits 0-7 party + 1, 255: the history | 8 CLOSING | 12-31 low bits of the subscription's generation
 * | 32-63 its index */
#define PLACE_CLOSING (UINT64_C(1) << 8)
enum { PLACE_PARTY_HISTORY = 255, PLACE_GENERATION_BITS = 20 };

static inline uint64_t place_word(uint32_t index, uint64_t generation, unsigned party_plus_1)
{
    return (uint64_t)index << 32 | (generation & 0xfffff) << 12 | party_plus_1;
}
static inline unsigned place_party(uint64_t word) /* plus 1 */
{
    return (unsigned)word & 0xff;
}

struct topic {
    struct lane_head head;
    _Atomic uint32_t changes; /* grows after each change of a place: publishers look at the table again */
    uint32_t pad0[31];
    _Atomic uint64_t sent, dropped, refused, wakes; /* counts for people, added to by publishers */
    uint64_t pad1[12];
    _Atomic uint64_t place[TOPIC_PLACES]; /* 0 -> subscription by the subscriber; -> CLOSING -> 0 by it or who sweeps up after it */
};
static_assert(offsetof(struct topic, changes) == 128 && offsetof(struct topic, place) == 384 && sizeof(struct topic) == 1408, "layout");

/* slot: lap 32 | record index 32, or one of these */
#define FEED_SLOT_EMPTY UINT32_C(0xffffffff)  /* in this lap */
#define FEED_SLOT_FROZEN UINT32_C(0xfffffffe) /* for good: the subscription is closed */

struct topic_feed {
    /* written by the subscriber before it is in the table */
    uint32_t magic, which; /* its place in the table */
    uint32_t topic, party; /* index of the topic's record; slot + 1 of the subscriber, or of who made the history */
    uint64_t topic_generation;
    uint32_t full, depth;
    uint32_t shift, epoch; /* log2 of the number of slots; of the party */
    uint64_t pad0[11];
    _Atomic uint64_t tail; /* publishers: the next position. A hint, never ahead of the slots */
    uint64_t pad1[15];
    _Atomic uint64_t head; /* the first position that was not taken out. A hint, never ahead of the slots */
    _Atomic uint32_t room; /* publishers that wait for it (event.h) */
    uint32_t spare0;
    uint64_t pad2[14];
    _Atomic uint32_t bell; /* the subscriber that waits for messages (event.h) */
    uint32_t pad3[31];
    _Atomic uint64_t evicted, missed;               /* messages that it did not get: taken out as old by publishers; never put in */
    _Atomic uint64_t received, bytes, copied, peak; /* by the subscriber */
    uint64_t pad4[10];
    _Atomic uint64_t slot[];
};
static_assert(offsetof(struct topic_feed, tail) == 128 && offsetof(struct topic_feed, head) == 256, "layout");
static_assert(offsetof(struct topic_feed, bell) == 384 && offsetof(struct topic_feed, slot) == 640, "layout");

static inline uint64_t feed_slot_word(uint64_t lap, uint32_t index)
{
    return lap << 32 | index;
}

#endif
