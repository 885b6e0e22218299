/* One subscription of a topic: a ring that many publishers fill and one subscriber empties.
 *
 * Position p lives in slot p mod N, lap p / N. A slot is empty in a lap, or has a record in a lap, or is frozen for good. Head and
 * tail are hints that all help to move on.
 *
 *   link     slot (lap, empty) -> (lap, record)  !!                        by a publisher; the grant was set before
 *   take     lease on the record; slot (lap, record) -> (lap + 1, empty)  !!; grant cleared         by the subscriber
 *   evict    lease on the record; the slot again: still (lap, record)?; slot -> (lap + 1, empty)  !!; grant cleared; lease dropped
 *   freeze   the same as evict, with -> frozen; empty slots, too            by the subscriber that ends, or who sweeps up after it
 *
 * INVARIANT: a slot with a record means that the record's grant for this place is up, in this life of the record. Grants are cleared
 * only after the record was taken out, or where it was never put in. So the grant keeps alive what stands in a slot.
 *
 * WHO CLEARS HOLDS A LEASE. A lease that went up while the record stood in the slot is good: whoever frees the record reads its grants
 * and then its leases (block_finish), and the grant was up when the lease went up. So a grant may be cleared twice, since the record
 * lives as long as each who clears it has its lease; and one who was killed half-way has left its lease on the record, by which its
 * reaper finds it (topic_recovery.c). A lease that came too late, on another life of the record, is dropped like that of a failed
 * attach.
 *
 * A late publisher finds frozen slots and takes its grant back: nothing is ever put into a subscription that was closed, and so there is
 * nothing to take out again. A place of the table is used anew only after its slots are all frozen.
 *
 * Model: topic.pml.
 */
#include "topic.h"

#include <limits.h>
#include <string.h>

/* ---- finding ---- */

uint64_t feed_bytes(uint32_t depth, uint32_t full, uint32_t *shift)
{
    uint64_t want = (uint64_t)depth + (full == CUE_FAIL ? TOPIC_SLACK : 0);
    *shift = 0;
    while (UINT64_C(1) << *shift < want)
        ++*shift;
    return sizeof(struct topic_feed) + (sizeof(uint64_t) << *shift);
}

bool feed_read(struct cue_pool *pool, const struct lane *topic, unsigned place, struct record *rec, uint32_t index, struct feed *out)
{
    char *data;
    uint64_t capacity;
    if (atomic_load_explicit(&rec->type, relaxed) != POOL_TYPE_SUBSCRIPTION || !pool_bytes(pool, index, &data, &capacity) || /* held */
        capacity < sizeof(struct topic_feed))
        return false;
    struct topic_feed *ring = (struct topic_feed *)(void *)data;
    *out = (struct feed){ .pool = pool, .shared = ring, .rec = rec, .index = index };
    out->which = ring->which;
    out->full = ring->full;
    out->depth = ring->depth;
    out->shift = ring->shift;
    out->size = UINT64_C(1) << (out->shift & 31);
    return ring->magic == FEED_MAGIC && out->which == place && ring->topic == topic->index && ring->topic_generation == topic->generation &&
           out->shift < 32 && out->depth >= 1 && out->depth <= out->size && out->full >= CUE_FAIL && out->full <= CUE_DROP_OLD &&
           sizeof *ring + out->size * sizeof(uint64_t) <= capacity;
}

bool feed_enter(const struct lane *topic, unsigned place, uint64_t word, struct feed *out)
{
    struct cue_pool *pool = topic->pool;
    uint32_t index = (uint32_t)(word >> 32);
    struct record *rec = word ? pool_record(pool, index) : NULL;
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0, generation = rec_generation(state);
    if (!rec || (generation & 0xfffff) != (word >> 12 & 0xfffff) || lease_take(pool, rec, index, generation))
        return false;
    bool good = feed_read(pool, topic, place, rec, index, out);
    out->generation = generation;
    if (!good)
        lease_drop(pool, rec, index, generation);
    return good;
}

void feed_leave(const struct feed *ring)
{
    lease_drop(ring->pool, ring->rec, ring->index, ring->generation);
}

/* ---- one record in one slot ---- */

static uint64_t slot_next(uint64_t slot)
{
    return feed_slot_word((slot >> 32) + 1, FEED_SLOT_EMPTY);
}

/* The record in the slot, with a lease that went up while it stood there; false: it was taken out meanwhile, or it is damage. */
static bool slot_pin(const struct feed *ring, _Atomic uint64_t *slot, uint64_t seen, struct feed_taken *out)
{
    out->index = (uint32_t)seen;
    out->rec = pool_record(ring->pool, out->index);
    if (!out->rec)
        return false;
    out->generation = rec_generation(atomic_load_explicit(&out->rec->state, acquire));
    if (!lease_pin(ring->pool, out->rec, out->index, out->generation))
        return false;
    if (atomic_load_explicit(slot, seq_cst) == seen) /* pairs with: the CAS of whoever takes it out */
        return true;
    lease_drop(ring->pool, out->rec, out->index, out->generation);
    return false;
}

/* Takes it out and ends what keeps it; false: somebody else did. */
static bool slot_clear(const struct feed *ring, _Atomic uint64_t *slot, uint64_t seen, uint64_t to)
{
    struct feed_taken taken;
    if (!pool_record(ring->pool, (uint32_t)seen)) /* damage: nothing to give back */
        return cas(slot, &seen, to);
    if (!slot_pin(ring, slot, seen, &taken))
        return false;
    bool ours = atomic_compare_exchange_strong_explicit(slot, &seen, to, seq_cst, acquire); /* !! */
    if (ours)
        grant_clear(taken.rec, ring->which);
    lease_drop(ring->pool, taken.rec, taken.index, taken.generation);
    return ours;
}

/* ---- hints ---- */

static void hint_move(_Atomic uint64_t *hint, uint64_t to)
{
    uint64_t is = atomic_load_explicit(hint, relaxed); /* a hint */
    while (is < to && !atomic_compare_exchange_weak_explicit(hint, &is, to, acq_rel, relaxed))
        ;
}

/* The first position that is not empty for having been taken out. */
static uint64_t head_find(const struct feed *ring)
{
    uint64_t head = atomic_load_explicit(&ring->shared->head, acquire), at = head;
    while (at - head < ring->size && feed_slot_ahead(ring, atomic_load_explicit(feed_slot(ring, at), acquire), at) > 0)
        at++;
    if (at != head)
        hint_move(&ring->shared->head, at);
    return at;
}

bool feed_has_room(const struct feed *ring, uint64_t *seen_head)
{
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, acquire);
    if (__builtin_expect(tail - *seen_head < ring->depth, 1))
        return true;
    *seen_head = head_find(ring);
    return (int64_t)(tail - *seen_head) < (int64_t)ring->depth;
}

uint64_t feed_queued(const struct feed *ring)
{
    uint64_t head = atomic_load_explicit(&ring->shared->head, acquire), tail = atomic_load_explicit(&ring->shared->tail, acquire);
    return tail > head ? tail - head : 0;
}

/* ---- publisher ---- */

enum feed_link feed_link(const struct feed *ring, uint32_t index, uint64_t *seen_head, uint64_t *at)
{
    struct topic_feed *shared = ring->shared;
    uint64_t p = atomic_load_explicit(&shared->tail, acquire);
    for (uint64_t looks = 0; looks <= 2 * ring->size; looks++) { /* more only where there is damage, or a crowd */
        _Atomic uint64_t *slot = feed_slot(ring, p);
        uint64_t seen = atomic_load_explicit(slot, acquire);
        int32_t ahead = feed_slot_ahead(ring, seen, p);
        if ((uint32_t)seen == FEED_SLOT_FROZEN)
            return FEED_CLOSED;
        if (ahead < 0)
            return FEED_FULL;                                 /* the lap before is still there */
        if (ahead > 0 || (uint32_t)seen != FEED_SLOT_EMPTY) { /* somebody was quicker */
            hint_move(&shared->tail, p + 1);
            uint64_t tail = atomic_load_explicit(&shared->tail, acquire);
            p = tail > p ? tail : p + 1;
            continue;
        }
        if (p - *seen_head >= ring->depth && ring->full != CUE_FAIL) {
            *seen_head = head_find(ring);
            if ((int64_t)(p - *seen_head) >= (int64_t)ring->depth)
                return FEED_FULL;
        }
        if (atomic_compare_exchange_strong_explicit(slot, &seen, feed_slot_word(p >> ring->shift, index), seq_cst, acquire)) { /* !! */
            *at = p;
            return FEED_LINKED;
        }
    }
    return FEED_FULL;
}

bool feed_linked(const struct feed *ring, uint64_t at)
{
    uint64_t tail = at;
    if (__builtin_expect(!cas(&ring->shared->tail, &tail, at + 1), 0))
        hint_move(&ring->shared->tail, at + 1);
    return event_waited(&ring->shared->bell); /* after the CAS of the slot */
}

bool feed_wake(const struct feed *ring)
{
    return event_call(&ring->shared->bell, INT_MAX) > 0;
}

bool feed_evict(const struct feed *ring)
{
    for (int tries = 0; tries < 100; tries++) { /* more only where there is damage, or a crowd */
        uint64_t at = head_find(ring);
        _Atomic uint64_t *slot = feed_slot(ring, at);
        uint64_t seen = atomic_load_explicit(slot, acquire);
        int32_t ahead = feed_slot_ahead(ring, seen, at);
        if (ahead < 0 || (ahead == 0 && (uint32_t)seen == FEED_SLOT_EMPTY) || (uint32_t)seen == FEED_SLOT_FROZEN)
            return false;
        if (ahead > 0)
            continue;
        if (slot_clear(ring, slot, seen, slot_next(seen))) {
            hint_move(&ring->shared->head, at + 1);
            return true;
        }
    }
    return false;
}

/* ---- subscriber ---- */

/* What stands behind the one that is just taken: its lines come meanwhile. */
static inline void fetch_next(const struct feed *ring, const struct near_slabs *near, uint64_t at)
{
    uint64_t next = atomic_load_explicit(feed_slot(ring, at + 1), relaxed); /* a hint */
    if (feed_slot_ahead(ring, next, at + 1) == 0 && (uint32_t)next < FEED_SLOT_FROZEN)
        fetch_near(near, (uint32_t)next);
}

int feed_take(const struct feed *ring, struct near_slabs *near, uint64_t *at, uint64_t *skipped, struct feed_taken *out)
{
    for (uint64_t looks = 0; looks <= 2 * ring->size; looks++) { /* as in feed_link */
        _Atomic uint64_t *slot = feed_slot(ring, *at);
        uint64_t seen = atomic_load_explicit(slot, acquire); /* pairs with: feed_link */
        int32_t ahead = feed_slot_ahead(ring, seen, *at);
        if ((uint32_t)seen == FEED_SLOT_FROZEN || ahead < 0 || (ahead == 0 && (uint32_t)seen == FEED_SLOT_EMPTY))
            return 0;
        if (__builtin_expect(ahead > 0, 0)) { /* evicted, and so was everything before `head` */
            uint64_t head = atomic_load_explicit(&ring->shared->head, acquire), next = head > *at ? head : *at + 1;
            *skipped += next - *at;
            *at = next;
            continue;
        }
        out->index = (uint32_t)seen;
        out->rec = record_near(ring->pool, near, out->index);
        if (__builtin_expect(!out->rec, 0)) { /* damage */
            cas(slot, &seen, slot_next(seen));
            continue;
        }
        fetch_next(ring, near, *at);
        out->generation = rec_generation(atomic_load_explicit(&out->rec->state, acquire));
        if (!lease_pin(ring->pool, out->rec, out->index, out->generation))
            continue;
        if (atomic_compare_exchange_strong_explicit(slot, &seen, slot_next(seen), seq_cst, acquire)) { /* !! */
            grant_clear(out->rec, ring->which);
            ++*at;
            return 1;
        }
        lease_drop(ring->pool, out->rec, out->index, out->generation); /* evicted, or frozen: the next look says so */
    }
    return 0;
}

bool feed_waiting(const struct feed *ring, uint64_t at)
{
    uint64_t seen = atomic_load_explicit(feed_slot(ring, at), seq_cst); /* pairs with: feed_link */
    int32_t ahead = feed_slot_ahead(ring, seen, at);
    return (uint32_t)seen != FEED_SLOT_FROZEN && (ahead > 0 || (ahead == 0 && (uint32_t)seen != FEED_SLOT_EMPTY));
}

void feed_advance(const struct feed *ring, uint64_t at, bool at_once)
{
    struct topic_feed *shared = ring->shared;
    hint_move(&shared->head, at);
    if (__builtin_expect(!event_waited(&shared->room), 1))
        return;
    uint64_t tail = atomic_load_explicit(&shared->tail, acquire);
    if (!at_once && tail > at && tail - at > (uint64_t)ring->depth * 3 / 4)
        return;
    event_call(&shared->room, INT_MAX);
}

bool feed_peek(const struct feed *ring, uint64_t at, struct feed_taken *out)
{
    _Atomic uint64_t *slot = feed_slot(ring, at);
    uint64_t seen = atomic_load_explicit(slot, acquire);
    return feed_slot_ahead(ring, seen, at) == 0 && (uint32_t)seen != FEED_SLOT_EMPTY && (uint32_t)seen != FEED_SLOT_FROZEN &&
           slot_pin(ring, slot, seen, out);
}

bool feed_passed(const struct feed *ring, uint64_t at)
{
    return (int64_t)(at - head_find(ring)) <= 0;
}

/* ---- the end ---- */

void feed_end_slot(const struct feed *ring, uint64_t at)
{
    uint64_t seen = atomic_load_explicit(feed_slot(ring, at), acquire);
    while ((uint32_t)seen == FEED_SLOT_EMPTY && !cas(feed_slot(ring, at), &seen, feed_slot_word(seen >> 32, FEED_SLOT_FROZEN)))
        ;
}

void feed_end(const struct feed *ring)
{
    for (uint64_t i = 0; i < ring->size; i++)
        feed_end_slot(ring, i);
    event_call(&ring->shared->room, INT_MAX); /* as below */
}

void feed_freeze(const struct feed *ring)
{
    for (uint64_t i = 0; i < ring->size; i++) {
        _Atomic uint64_t *slot = &ring->shared->slot[i];
        for (unsigned tries = 0;; tries++) {
            uint64_t seen = atomic_load_explicit(slot, acquire), to = feed_slot_word(seen >> 32, FEED_SLOT_FROZEN);
            if ((uint32_t)seen == FEED_SLOT_FROZEN)
                break;
            bool nothing = (uint32_t)seen == FEED_SLOT_EMPTY || tries > 1000; /* damage: a record that cannot be held */
            if (nothing ? cas(slot, &seen, to) : slot_clear(ring, slot, seen, to))
                break;
        }
    }
    event_call(&ring->shared->room, INT_MAX); /* who waits for room finds it closed */
}

bool feed_holds(const struct feed *ring, uint32_t index)
{
    for (uint64_t i = 0; i < ring->size; i++)
        if ((uint32_t)atomic_load_explicit(&ring->shared->slot[i], acquire) == index)
            return true;
    return false;
}
