/* What the files of the topic tell each other: one subscription's ring (topic_feed.c), recovery (topic_recovery.c), and a process's end
 * of a topic, which topic_channel.h says more about. */
#ifndef TOPIC_H
#define TOPIC_H

#include "event.h"
#include "lane.h"
#include "topic_layout.h"

/* A subscription that this process holds by a lease. */
struct feed {
    struct cue_pool *pool;
    struct topic_feed *shared;
    struct record *rec;
    uint32_t index;
    uint64_t generation;
    /* what it said when we came: it is not read again, since others might change it */
    uint32_t which, full, depth, shift;
    uint64_t size; /* slots */
};

/* The ring in a block that the caller holds; false: it makes no sense as a subscription of this topic at this place. */
bool feed_read(struct cue_pool *pool, const struct lane *topic, unsigned place, struct record *rec, uint32_t index, struct feed *out);
/* The subscription that a place of the table names, under a lease. false: there is none, or it has just gone. */
bool feed_enter(const struct lane *topic, unsigned place, uint64_t word, struct feed *out);
void feed_leave(const struct feed *ring);
/* Bytes of a subscription of this depth. */
uint64_t feed_bytes(uint32_t depth, uint32_t full, uint32_t *shift);

static inline _Atomic uint64_t *feed_slot(const struct feed *ring, uint64_t at)
{
    return &ring->shared->slot[at & (ring->size - 1)];
}

/* How far a slot is ahead of the lap of position `at`: 0: in it. */
static inline int32_t feed_slot_ahead(const struct feed *ring, uint64_t slot, uint64_t at)
{
    return (int32_t)((uint32_t)(slot >> 32) - (uint32_t)(at >> ring->shift));
}

/* ---- publisher ---- */
enum feed_link { FEED_LINKED, FEED_FULL, FEED_CLOSED };
/* Puts the record at the end; `at`: where. A ring whose policy is to wait is filled beyond its depth, see TOPIC_SLACK. */
enum feed_link feed_link(const struct feed *ring, uint32_t index, uint64_t *seen_head, uint64_t *at);
/* Says that position `at` is filled; true: the subscriber sleeps. */
bool feed_linked(const struct feed *ring, uint64_t at);
/* Wakes the subscriber; true: it slept. */
bool feed_wake(const struct feed *ring);
/* Is there room within the depth? `seen_head`: the caller's copy of where the subscriber was. */
bool feed_has_room(const struct feed *ring, uint64_t *seen_head);
/* Takes out the oldest; false: there is none, or it is closed. */
bool feed_evict(const struct feed *ring);

/* ---- subscriber ---- */
/* The oldest from position *at on: it is out of the ring, we hold a lease on it, its grant is cleared. 1; 0: there is none.
 * `skipped` grows by what was evicted. */
struct feed_taken {
    struct record *rec;
    uint32_t index;
    uint64_t generation;
};
int feed_take(const struct feed *ring, struct near_slabs *near, uint64_t *at, uint64_t *skipped, struct feed_taken *out);
/* Everything before `at` was taken: publishers that wait look again, at once or when a quarter is free. */
void feed_advance(const struct feed *ring, uint64_t at, bool at_once);
/* Is there something at `at`, or was it evicted? In the order of seq_cst. */
bool feed_waiting(const struct feed *ring, uint64_t at);

/* Nobody puts anything in any more, and what is in goes. By its owner or who sweeps up after it; may be done again. */
void feed_freeze(const struct feed *ring);
/* Nobody puts anything in any more, but what is in stays; feed_end_slot: nor where something has just been taken out. */
void feed_end(const struct feed *ring);
void feed_end_slot(const struct feed *ring, uint64_t at);
/* Was everything before `at` taken out? */
bool feed_passed(const struct feed *ring, uint64_t at);
/* Messages in it, about. */
uint64_t feed_queued(const struct feed *ring);
/* A message that stands at `at`, leased; false: it was taken out meanwhile. For the history. */
bool feed_peek(const struct feed *ring, uint64_t at, struct feed_taken *out);
/* Is the record in it? For one to which nobody links any more. */
bool feed_holds(const struct feed *ring, uint32_t index);

/* Clears a grant, which the caller knows to be up or holds a lease against. */
static inline void grant_clear(struct record *rec, unsigned place)
{
    atomic_fetch_and_explicit(rec_grants(rec, place), ~(UINT64_C(1) << (place % 64)), seq_cst); /* pairs with: block_finish */
}

/* ---- recovery ---- */
/* Ends the subscription that the place names: its subscriber's, or in its place. Again, if somebody was killed at it. */
void topic_place_close(const struct lane *lane, unsigned place, uint64_t word);
void topic_died(const struct lane *lane, unsigned slot, uint32_t epoch);
/* A record that is POSTED by a dead party, or was leased by it: grants that nobody will redeem are cleared. */
void topic_record_settle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, unsigned slot);
/* Clears the grants of a DOOMED record that nobody will redeem. The caller has a lease on it, which went up while a grant was up, or while
 * it was POSTED. */
void topic_grants_settle(struct cue_pool *pool, struct record *rec, uint32_t index);
/* A history that its maker did not live to put into its topic. */
void topic_history_settle(struct cue_pool *pool, struct record *rec, uint32_t index);
/* Whether one of its grants is for a subscription that does not have it. */
bool topic_record_stuck(struct cue_pool *pool, struct record *rec, uint32_t index);
/* It goes, and with it what went along. */
void topic_record_finishing(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);

static inline struct topic *topic_of(const struct lane *lane)
{
    return (struct topic *)(void *)lane->head;
}

#endif
