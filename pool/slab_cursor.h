/* What a thread holds of a pool's slabs, and the two steps that every small block takes: out of a cursor, and back into it. The
 * idea, and everything that happens less often, is in slab.c. */
#ifndef POOL_SLAB_CURSOR_H
#define POOL_SLAB_CURSOR_H

#include "pool_private.h"

enum { SLAB_CLASSES = 19, SLAB_LINES_MAX = 56 };

extern const uint8_t slab_class_lines[SLAB_CLASSES];
extern const uint8_t slab_class_of_lines[SLAB_LINES_MAX + 1];

struct slab_cursor {
    uint64_t top;                   /* which words of bits are not zero */
    uint64_t bits[POOL_SLAB_WORDS]; /* hints: free blocks */
    struct record *records;
    char *data;
    struct slab *head; /* NULL: stands nowhere */
    uint32_t slab, stride, blocks;
    uint32_t first_index; /* of its first record */
};

struct slab_cache {
    struct slab_cursor cursors[SLAB_CLASSES];
    struct cue_pool *pool;
    uint32_t incarnation, forks;
    uint32_t pressure_seen;          /* the pool's `pressure` when this thread last gave up what it holds */
    struct slab_cache *next, **link; /* among the pool's, under registry_lock */
};

struct slab_thread {
    struct slab_cache *caches[POOLS_MAX];
};
extern _Thread_local struct slab_thread *slab_thread __attribute__((tls_model("initial-exec")));

static inline struct slab_cache *cache_of(struct cue_pool *pool)
{
    struct slab_cache *cache = __builtin_expect(slab_thread != NULL, 1) ? slab_thread->caches[pool->slot] : NULL;
    if (__builtin_expect(cache && cache->incarnation == pool->incarnation && cache->forks == fork_epoch, 1))
        return cache;
    return NULL;
}

static inline void cursor_add(struct slab_cursor *cursor, uint32_t word, uint64_t bits)
{
    if (!bits)
        return;
    cursor->bits[word] |= bits;
    cursor->top |= UINT64_C(1) << word;
}

static inline bool slab_fits(const struct cue_pool *pool, uint64_t room, size_t align)
{
    return room <= pool->slab_most && align <= POOL_LINE;
}

/* The block that will be taken next. Often another CPU has freed it, and a message's block is written at once. */
static inline void fetch_next(const struct slab_cursor *cursor, uint32_t ordinal)
{
    fetch_to_write(&cursor->records[ordinal]);
    fetch_to_write(cursor->data + (uint64_t)ordinal * cursor->stride);
}

/* A block from this thread's open slab; false: it has none, or none with a free block. `room` fits, see slab_fits. */
static inline bool slab_take_fast(struct cue_pool *pool, uint64_t room, const struct fresh *fresh, struct taken *out)
{
    struct slab_cache *cache = cache_of(pool);
    if (__builtin_expect(!cache, 0))
        return false;
    struct slab_cursor *cursor = &cache->cursors[slab_class_of_lines[(room + 63) / 64]];
    while (__builtin_expect(cursor->top != 0, 1)) {
        uint32_t word = (uint32_t)__builtin_ctzll(cursor->top), bit = (uint32_t)__builtin_ctzll(cursor->bits[word]);
        if (!(cursor->bits[word] &= cursor->bits[word] - 1))
            cursor->top &= cursor->top - 1;
        uint32_t ordinal = word * 64 + bit;
        struct record *rec = &cursor->records[ordinal];
        uint64_t state = atomic_load_explicit(&rec->state, acquire); /* pairs with: block_drop; the bit was a hint */
        if (__builtin_expect(rec_state(state) != REC_FREE, 0))
            continue;
        record_fill(rec, fresh, 0);
        out->generation = rec_generation(state);
        atomic_store_explicit(&rec->state, rec_word(REC_OWNED, pool->self + 1, out->generation), release); /* !! only we leave FREE */
        out->rec = rec;
        if (__builtin_expect(cursor->bits[word] != 0, 1))
            fetch_next(cursor, word * 64 + (uint32_t)__builtin_ctzll(cursor->bits[word]));
        out->index = cursor->first_index + ordinal;
        out->data = cursor->data + (uint64_t)ordinal * cursor->stride;
        return true;
    }
    return false;
}

/* Back into this thread's open slab, if that is where it is from. */
static inline bool slab_returned_here(struct cue_pool *pool, uint32_t index)
{
    struct slab_cache *cache = cache_of(pool);
    struct slab_cursor *cursor =
        atomic_load_explicit(&pool->slab_owner[slab_of_index(pool, index)], acquire); /* pairs with: cursor_refill */
    if (__builtin_expect(!cache || cursor < cache->cursors || cursor >= cache->cursors + SLAB_CLASSES, 0))
        return false;
    uint32_t ordinal = ordinal_of_index(pool, index);
    cursor_add(cursor, ordinal / 64, UINT64_C(1) << (ordinal % 64));
    return true;
}

#endif
