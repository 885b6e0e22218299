/* Limits: how many allocations a pool may hold, and how much of it a party may own. Both are the maker's choice; a pool without
 * them pays for none of this.
 *
 * MAX_ALLOCATIONS is exact. The pool has a table of so many places. Each allocation, once its record is OWNED, takes one: a CAS
 * to its automatic id. A place whose record has moved on from that generation, or is doomed, is vacant for everyone, as is a slot of the
 * directory: so whoever frees a block has nothing to do here, and a kill has nothing to break.
 *
 *   alloc   FREE -> OWNED(me), as without a limit; a vacant place: CAS -> id  !!; there is none: the block is dropped
 *
 * No allocation is handed out without a place and a place names one, so there are never more. Killed before the place: recovery
 * frees the block, which nobody knew. Killed after it: the same, and the place is vacant with it. Who finds all places taken looks
 * again if one was taken meanwhile: another one may have become vacant behind it. The table is made present in steps that double.
 *
 * A QUOTA is what one party may own: what it allocated or received and has neither freed, sent nor published for the pool;
 * messages that are bytes are not counted. The records say it, and only the party itself asks: so its process counts privately, and a kill
 * has nothing to break here either. The count may be too high, since what is sent or published is not taken off: when it says that there is
 * no room a walk over the records makes it right. It is never too low: counting on, the walk, and taking and freeing what is counted are
 * under one lock of the process.
 */
#include "slab_cursor.h"

#include "base/shm.h"

enum { FIRST_PLACES = 512, LOOKS = 4 };

/* ---- places ---- */

static bool place_vacant(struct cue_pool *pool, uint64_t word)
{
    struct record *rec = word ? pool_record(pool, id_index(word)) : NULL;
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    return !rec || !(rec_live(state) || rec_state(state) == REC_POSTED) || (uint32_t)rec_generation(state) != id_generation(word);
}

static uint32_t places_present(const struct cue_pool *pool)
{
    uint32_t top = atomic_load_explicit(&pool->header->places_top, acquire);
    return top < pool->max_allocations ? top : (uint32_t)pool->max_allocations; /* damage must not lead us out */
}

static int places_add(struct cue_pool *pool, uint32_t top)
{
    uint64_t more = top ? 2 * (uint64_t)top : FIRST_PLACES;
    uint32_t next = (uint32_t)(more < pool->max_allocations ? more : pool->max_allocations), expected = top;
    uint64_t at = (uint64_t)((char *)(pool->places + top) - (char *)pool->header), bytes = (uint64_t)(next - top) * sizeof *pool->places;
    int status = shm_populate(pool->fd, pool->header, at, bytes);
    if (!status && atomic_compare_exchange_strong_explicit(&pool->header->places_top, &expected, next, acq_rel, acquire))
        pool_count_present(pool, (int64_t)((bytes + 4095) / 4096 * 4096));
    return status;
}

static bool place_take(struct cue_pool *pool, uint32_t top, uint64_t id)
{
    uint32_t start = atomic_load_explicit(&pool->next_place, relaxed); /* a hint */
    for (uint32_t n = 0, at = start < top ? start : 0; n < top; n++, at = at + 1 < top ? at + 1 : 0) {
        uint64_t word = atomic_load_explicit(&pool->places[at], acquire);
        if (!place_vacant(pool, word) || !cas(&pool->places[at], &word, id)) /* !! */
            continue;
        atomic_fetch_add_explicit(&pool->header->claims, 1, release); /* pairs with: limit_place */
        atomic_store_explicit(&pool->next_place, at + 1, relaxed);
        return true;
    }
    return false;
}

int limit_place(struct cue_pool *pool, uint32_t index, uint64_t generation)
{
    for (int looks = 0; looks < LOOKS;) {
        uint64_t claims = atomic_load_explicit(&pool->header->claims, acquire); /* pairs with: place_take */
        uint32_t top = places_present(pool);
        if (place_take(pool, top, automatic_id(index, generation)))
            return 0;
        if (top < pool->max_allocations) {
            int status = places_add(pool, top);
            if (status)
                return status;
        } else if (atomic_load_explicit(&pool->header->claims, acquire) == claims) {
            break;
        } else {
            looks++;
        }
    }
    return trail(CUE_ELIMIT, "pool %s holds as many allocations as it may: %llu", pool->name, (unsigned long long)pool->max_allocations);
}

uint64_t limit_places_bytes(uint64_t max_allocations)
{
    return max_allocations * sizeof(uint64_t);
}

/* ---- quota ---- */

static bool quota_counts(struct cue_pool *pool, const struct record *rec, uint64_t state)
{
    return rec_state(state) == REC_OWNED && rec_party(state) == pool->self + 1 &&
           !(atomic_load_explicit(&rec->note, relaxed) & NOTE_MESSAGE) &&
           atomic_load_explicit(&rec->type, relaxed) < POOL_TYPE_SYSTEM; /* pairs with: the state word */
}

uint64_t quota_weight(struct cue_pool *pool, uint32_t index)
{
    if (index & INDEX_R2)
        return atomic_load_explicit(&slab_head(pool, slab_of_index(pool, index))->stride, relaxed); /* stable while a block of it lives */
    return rec_granules(granule_record(pool, index)) << POOL_GRANULE_SHIFT;
}

static int count_owned(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    if (quota_counts(pool, rec, atomic_load_explicit(&rec->state, acquire)))
        *(uint64_t *)arg += quota_weight(pool, index);
    return 0;
}

int quota_allows(struct cue_pool *pool, uint64_t room, size_t align)
{
    uint64_t weight = slab_fits(pool, room, align) ? (uint64_t)slab_class_lines[slab_class_of_lines[(room + 63) / 64]] * POOL_LINE
                                                   : (room ? room + POOL_GRANULE - 1 : POOL_GRANULE) & ~(uint64_t)(POOL_GRANULE - 1);
    if (weight > pool->quota)
        return trail(CUE_ETOOBIG, "%llu bytes: a party of pool %s may own %llu", (unsigned long long)room, pool->name,
                     (unsigned long long)pool->quota);
    if (weight <= pool->quota && pool->owned <= pool->quota - weight)
        return 0;
    pool->owned = 0;
    pool_each_record(pool, count_owned, &pool->owned);
    if (pool->owned <= pool->quota - weight)
        return 0;
    return trail(CUE_ELIMIT, "this party owns %llu bytes of pool %s, and with %llu more it would be beyond its quota of %llu",
                 (unsigned long long)pool->owned, pool->name, (unsigned long long)weight, (unsigned long long)pool->quota);
}

void quota_gained(struct cue_pool *pool, uint32_t index)
{
    const struct record *rec = trusted_record(pool, index);
    lock_take(&pool->quota_lock);
    if (quota_counts(pool, rec, atomic_load_explicit(&rec->state, acquire)))
        pool->owned += quota_weight(pool, index);
    lock_release(&pool->quota_lock);
}

bool quota_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state)
{
    lock_take(&pool->quota_lock);
    uint64_t weight = quota_counts(pool, rec, state) ? quota_weight(pool, index) : 0;
    bool done = block_drop(pool, rec, index, state);
    if (done)
        pool->owned -= weight < pool->owned ? weight : pool->owned;
    lock_release(&pool->quota_lock);
    return done;
}
