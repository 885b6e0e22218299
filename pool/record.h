/* From an index to a record and its bytes.
 *
 * Indexes come from shared memory and from outside, so nothing is believed: an index is within the pool, its extent's part of
 * the meta region is present, and for a slab's block the slab's head says how many of its lines are present. Presence flags are
 * set after the memory is there and are never cleared (rule P), so what passes here can be read without a fault.
 *
 * Included by pool_internal.h, behind struct cue_pool: every message takes these steps, in place.
 */
#ifndef POOL_RECORD_H
#define POOL_RECORD_H

/* ---- geometry ---- */
static inline uint32_t extent_of_granule(const struct cue_pool *pool, uint32_t granule)
{
    return granule >> (pool->extent_shift - POOL_GRANULE_SHIFT);
}
static inline uint32_t granules_per_extent(const struct cue_pool *pool)
{
    return UINT32_C(1) << (pool->extent_shift - POOL_GRANULE_SHIFT);
}
static inline uint32_t slab_of_index(const struct cue_pool *pool, uint32_t index)
{
    return (index & ~INDEX_R2) >> (pool->slab_shift - 6);
}
static inline uint32_t ordinal_of_index(const struct cue_pool *pool, uint32_t index)
{
    return index & ((UINT32_C(1) << (pool->slab_shift - 6)) - 1);
}
static inline uint32_t first_granule_of_slab(const struct cue_pool *pool, uint32_t slab)
{
    return slab << (pool->slab_shift - POOL_GRANULE_SHIFT);
}
static inline uint32_t slab_extent(const struct cue_pool *pool, uint32_t slab)
{
    return slab >> (pool->extent_shift - pool->slab_shift);
}
/* These do not look whether the meta region is present there. */
static inline struct record *granule_record(const struct cue_pool *pool, uint32_t granule)
{
    char *meta = pool->meta + extent_of_granule(pool, granule) * pool->meta_stride;
    return (struct record *)(void *)meta + (granule & (granules_per_extent(pool) - 1));
}
static inline struct slab *slab_head(const struct cue_pool *pool, uint32_t slab)
{
    unsigned shift = pool->extent_shift - pool->slab_shift;
    char *meta = pool->meta + slab_extent(pool, slab) * pool->meta_stride + ((uint64_t)granules_per_extent(pool) << 6);
    return (struct slab *)(void *)meta + (slab & ((1u << shift) - 1));
}
static inline struct record *slab_record(const struct cue_pool *pool, uint32_t slab, uint32_t ordinal)
{
    return pool->slab_records + ((uint64_t)slab << (pool->slab_shift - 6)) + ordinal;
}
static inline bool extent_meta_present(const struct cue_pool *pool, uint32_t extent)
{
    return atomic_load_explicit(&pool->extents[extent].meta, memory_order_acquire); /* pairs with: extent_adopt */
}
/* The record behind an index that this process made itself (a handle): present as long as the pool is mapped. */
static inline struct record *trusted_record(const struct cue_pool *pool, uint32_t index)
{
    return index & INDEX_R2 ? pool->slab_records + (index & ~INDEX_R2) : granule_record(pool, index);
}

/* ---- records ---- */
/* The record behind an index from shared memory or from outside: NULL if there is none or its line is not present. */
static inline struct record *pool_record(const struct cue_pool *pool, uint32_t index)
{
    if (__builtin_expect(!(index & INDEX_R2), 0))
        return index < pool->granules && extent_meta_present(pool, extent_of_granule(pool, index)) ? granule_record(pool, index) : NULL;
    uint32_t slab = slab_of_index(pool, index);
    if (__builtin_expect(slab >= pool->data_bytes >> pool->slab_shift || !extent_meta_present(pool, slab_extent(pool, slab)) ||
                             ordinal_of_index(pool, index) >=
                                 atomic_load_explicit(&slab_head(pool, slab)->lines, memory_order_acquire), /* pairs with: slab_make */
                         0))
        return NULL;
    return trusted_record(pool, index);
}

/* Of so much room, what is not the block's name at its end. */
static inline uint64_t room_unnamed(const struct record *rec, uint64_t room)
{
    uint32_t note = atomic_load_explicit(&rec->note, memory_order_relaxed); /* pairs with: the state word */
    return room - (note & NOTE_NAMED ? POOL_NAME_BYTES : 0);
}
/* As pool_bytes, of a block in a slab whose bytes begin at `slab_data`. */
static inline bool slab_bytes(const struct cue_pool *pool, const struct slab *head, char *slab_data, uint32_t ordinal,
                              const struct record *rec, char **data, uint64_t *capacity)
{
    uint64_t room = atomic_load_explicit(&head->stride, memory_order_relaxed); /* stable while a block of it lives */
    *data = slab_data + ordinal * room;
    *capacity = room_unnamed(rec, room);
    return room >= POOL_LINE && (ordinal + 1) * room <= UINT64_C(1) << pool->slab_shift;
}

/* Where its bytes are and how many it could have (a name at their end left out). The caller owns, leases or has just validated
 * it; false: the slab's head makes no sense. */
static inline bool pool_bytes(const struct cue_pool *pool, uint32_t index, char **data, uint64_t *capacity)
{
    const struct record *rec = trusted_record(pool, index);
    if (__builtin_expect((index & INDEX_R2) != 0, 1)) {
        uint32_t slab = slab_of_index(pool, index);
        char *slab_data = pool->data + ((uint64_t)slab << pool->slab_shift);
        return slab_bytes(pool, slab_head(pool, slab), slab_data, ordinal_of_index(pool, index), rec, data, capacity);
    }
    uint64_t at = (uint64_t)index << POOL_GRANULE_SHIFT, room = rec_granules(rec) << POOL_GRANULE_SHIFT;
    *data = pool->data + at;
    *capacity = room_unnamed(rec, room);
    return room != 0 && at + room <= pool->data_bytes;
}

/* ---- the same for who looks at one record after the other ----
 * Where the slabs are that were met last. What is present stays present, so that is good for as long as the pool is mapped; which size
 * the slab's blocks have is asked each time. For one thread at a time. */
enum { NEAR_SLABS = 8, NEAR_SHIFT = 8 };
struct near_slab {
    uint32_t first, count; /* indexes */
    struct record *records;
    const struct slab *head;
    char *data;
};
struct near_slabs {
    struct near_slab slab[NEAR_SLABS];
};
struct record *record_far(const struct cue_pool *pool, struct near_slab *near, uint32_t index); /* as pool_record; remembers the slab */

static inline struct record *record_near(const struct cue_pool *pool, struct near_slabs *near, uint32_t index)
{
    struct near_slab *slab = &near->slab[(index >> NEAR_SHIFT) & (NEAR_SLABS - 1)];
    return __builtin_expect(index - slab->first < slab->count, 1) ? slab->records + (index - slab->first) : record_far(pool, slab, index);
}
/* It is about to be taken, and another CPU has written it: both its lines are fetched at a time, not one when the other has come. */
static inline void fetch_near(const struct near_slabs *near, uint32_t index)
{
    const struct near_slab *slab = &near->slab[(index >> NEAR_SHIFT) & (NEAR_SLABS - 1)];
    uint32_t ordinal = index - slab->first;
    if (__builtin_expect(ordinal >= slab->count, 0))
        return;
    fetch_to_write(&slab->records[ordinal]);
    __builtin_prefetch(slab->data + (uint64_t)ordinal * atomic_load_explicit(&slab->head->stride, memory_order_relaxed));
}
static inline bool bytes_near(const struct cue_pool *pool, const struct near_slabs *near, uint32_t index, char **data, uint64_t *capacity)
{
    const struct near_slab *slab = &near->slab[(index >> NEAR_SHIFT) & (NEAR_SLABS - 1)];
    uint32_t ordinal = index - slab->first;
    if (__builtin_expect(ordinal >= slab->count, 0))
        return pool_bytes(pool, index, data, capacity);
    return slab_bytes(pool, slab->head, slab->data, ordinal, &slab->records[ordinal], data, capacity);
}

#endif
