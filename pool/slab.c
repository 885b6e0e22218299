/* Slabs: where blocks below 4 KiB come from.
 *
 * A slab is a run whose head record says SLAB. Its blocks are of one size class and have their records in region R2, one line
 * each, so a slab's records lie side by side and never where payload is. A slab has one owner, a thread of a party, whose
 * private bitmap says what is free: alloc is a bit of private memory, a look at the record (hints may lie, the record does not)
 * and one release store. Whoever frees a block of a slab that is not its own sets the block's bit in `returned`: a hint.
 *
 * Each thread has a cursor a class, in a slab that it owns. A full slab is given up (its owner word becomes NONE) and is found
 * again by anybody through the extent's `slabs` hint once something in it was freed: who frees sets the bit in `returned` and then
 * looks at the owner word, who gives it up stores NONE and then looks at `returned` (both seq_cst), so one of them sets the hint
 * (model hint.pml). A slab that is empty when its owner gives it up for good is dissolved: SLAB -> FREE of the run; only its owner
 * may do that, so nobody allocates in it meanwhile.
 *
 * Making: the run is reserved (private), the owner word is ours by CAS, stride and lines are set and present, then the head
 * record becomes SLAB: the commit. An adopter takes the owner word first and looks at the head record then: not SLAB, and it
 * gives the word back. Killed anywhere: before SLAB the run is free; after it the slab's owner is dead and it is adopted, by a
 * scan of its records since nobody knows which hints were lost.
 *
 * Classes are whole lines, so two blocks never share one: 64 … 512 by 64, then quarter steps up to 3,584; a class needs at
 * least 8 blocks in a slab, so small pools with small slabs take runs earlier.
 */
#include "slab_cursor.h"

#include "base/shm.h"

#include <stdlib.h>
#include <string.h>

const uint8_t slab_class_lines[SLAB_CLASSES] = { 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56 };
const uint8_t slab_class_of_lines[SLAB_LINES_MAX + 1] = {
    0,  0,  1,  2,  3,  4,  5,  6,  7,  8,  8,  9,  9,  10, 10, 11, 11, 12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14,
    15, 15, 15, 15, 16, 16, 16, 16, 16, 16, 16, 16, 17, 17, 17, 17, 17, 17, 17, 17, 18, 18, 18, 18, 18, 18, 18, 18,
};

_Thread_local struct slab_thread *slab_thread __attribute__((tls_model("initial-exec")));
static pthread_key_t thread_end;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;

/* ---- a cursor's slab ---- */

static uint64_t valid_bits(uint32_t blocks, uint32_t word)
{
    uint32_t left = blocks > word * 64 ? blocks - word * 64 : 0;
    return left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
}

static uint32_t blocks_of(const struct cue_pool *pool, uint32_t stride)
{
    return (UINT32_C(1) << pool->slab_shift) / stride;
}

static void cursor_absorb(struct slab_cursor *cursor)
{
    for (uint32_t w = 0; w * 64 < cursor->blocks; w++)
        if (atomic_load_explicit(&cursor->head->returned[w], seq_cst)) /* pairs with: mark_available */
            cursor_add(cursor, w, atomic_exchange_explicit(&cursor->head->returned[w], 0, acq_rel) & valid_bits(cursor->blocks, w));
}

static uint32_t cursor_scan(struct slab_cursor *cursor)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < cursor->blocks; i++) {
        if (rec_state(atomic_load_explicit(&cursor->records[i].state, acquire)) != REC_FREE) /* pairs with: block_drop */
            continue;
        cursor_add(cursor, i / 64, UINT64_C(1) << (i % 64));
        found++;
    }
    return found;
}

static struct extent *extent_of_slab(struct cue_pool *pool, uint32_t slab, uint64_t *bit)
{
    unsigned shift = pool->extent_shift - pool->slab_shift;
    *bit = UINT64_C(1) << (slab & ((1u << shift) - 1));
    return &pool->extents[slab >> shift];
}

static void mark_available(struct cue_pool *pool, uint32_t slab)
{
    uint64_t bit;
    struct extent *extent = extent_of_slab(pool, slab, &bit);
    if (!(atomic_load_explicit(&extent->slabs, seq_cst) & bit))
        atomic_fetch_or_explicit(&extent->slabs, bit, release);
}

static bool some_returned(struct slab *head)
{
    uint64_t some = 0;
    for (uint32_t w = 0; w < POOL_SLAB_WORDS; w++)
        some |= atomic_load_explicit(&head->returned[w], seq_cst); /* pairs with: slab_hint */
    return some;
}

/* Lets go of the slab; what is free in it is left as hints. With `dissolve` an empty one becomes a free run. */
static bool cursor_give_up(struct cue_pool *pool, struct slab_cursor *cursor, bool dissolve)
{
    struct slab *head = cursor->head;
    uint32_t granule = first_granule_of_slab(pool, cursor->slab);
    bool empty = false;
    if (!head)
        return false;
    /* before the owner word: others of this process must take our former blocks for somebody else's */
    atomic_store_explicit(&pool->slab_owner[cursor->slab], NULL, release);
    if (dissolve) {
        struct record *run = granule_record(pool, granule);
        uint64_t state = atomic_load_explicit(&run->state, acquire);
        empty = cursor_scan(cursor) == cursor->blocks && rec_state(state) == REC_SLAB &&
                cas(&run->state, &state, rec_word(REC_FREE, 0, rec_generation(state) + 1)); /* !! */
    }
    for (uint32_t w = 0; !empty && w * 64 < cursor->blocks; w++)
        if (cursor->bits[w])
            atomic_fetch_or_explicit(&head->returned[w], cursor->bits[w], release);
    memset(cursor->bits, 0, sizeof cursor->bits);
    cursor->top = 0;
    cursor->head = NULL;
    atomic_store_explicit(&head->owner, OWNER_NONE, seq_cst); /* pairs with: cursor_claim, slab_hint (my word, then yours) */
    if (empty)
        run_dissolved(pool, granule);
    else if (some_returned(head)) /* also what came back while it was ours */
        mark_available(pool, cursor->slab);
    return empty;
}

/* `stride` has been looked at: what the head says of it is not asked again. */
static void cursor_enter(struct cue_pool *pool, struct slab_cursor *cursor, uint32_t slab, uint32_t stride)
{
    cursor->head = slab_head(pool, slab);
    cursor->slab = slab;
    cursor->stride = stride;
    cursor->blocks = blocks_of(pool, stride);
    cursor->records = slab_record(pool, slab, 0);
    cursor->data = pool->data + ((uint64_t)slab << pool->slab_shift);
    cursor->first_index = INDEX_R2 | slab << (pool->slab_shift - 6);
}

/* Becomes the owner of a slab that nobody owns; false if it is none, is of another class, or somebody was quicker. */
static bool cursor_claim(struct cue_pool *pool, struct slab_cursor *cursor, uint32_t slab, uint32_t stride)
{
    struct slab *head = slab_head(pool, slab);
    uint64_t owner = atomic_load_explicit(&head->owner, acquire), was = owner; /* pairs with: cursor_give_up */
    if ((stride && atomic_load_explicit(&head->stride, relaxed) != stride) || !owner_vacant(pool, owner) ||
        !cas(&head->owner, &owner, owner_cursor(pool)))
        return false;
    struct record *run = granule_record(pool, first_granule_of_slab(pool, slab));
    uint64_t state = atomic_load_explicit(&run->state, acquire);
    uint32_t has = atomic_load_explicit(&head->stride, relaxed);
    bool sane = has >= POOL_LINE && has % POOL_LINE == 0 && atomic_load_explicit(&head->blocks, relaxed) == blocks_of(pool, has) &&
                atomic_load_explicit(&head->lines, acquire) >= blocks_of(pool, has);
    if (rec_state(state) != REC_SLAB || (stride && has != stride) || !sane) {
        atomic_store_explicit(&head->owner, OWNER_NONE, seq_cst); /* as in cursor_give_up */
        if (rec_state(state) == REC_SLAB && sane && some_returned(head))
            mark_available(pool, slab);
        return false;
    }
    cursor_enter(pool, cursor, slab, has);
    cursor_absorb(cursor);
    if (owner_kind(was) != OWNER_NONE)
        cursor_scan(cursor); /* from the dead: after the hints were emptied */
    return true;
}

/* A bit for each slab that the extent has: damage must not lead us out of it. */
static uint64_t slabs_within(const struct cue_pool *pool, uint32_t extent)
{
    unsigned shift = pool->extent_shift - pool->slab_shift;
    uint64_t most = UINT64_C(1) << shift, left = (pool->data_bytes >> pool->slab_shift) - ((uint64_t)extent << shift);
    return valid_bits((uint32_t)(left < most ? left : most), 0);
}

static bool cursor_adopt(struct cue_pool *pool, struct slab_cursor *cursor, uint32_t stride)
{
    unsigned shift = pool->extent_shift - pool->slab_shift;
    for (uint32_t n = 0; n < pool->nextents; n++) {
        struct extent *extent = &pool->extents[n];
        uint64_t hints = atomic_load_explicit(&extent->slabs, acquire) & slabs_within(pool, n);
        if (!hints || !extent_meta_present(pool, n))
            continue;
        for (; hints; hints &= hints - 1) {
            uint32_t slab = (n << shift) + (uint32_t)__builtin_ctzll(hints);
            if (!cursor_claim(pool, cursor, slab, stride))
                continue;
            atomic_fetch_and_explicit(&extent->slabs, ~(hints & -hints), seq_cst);
            cursor_absorb(cursor); /* after the hint is gone: who frees now sets it again */
            if (cursor->top)
                return true;
            cursor_give_up(pool, cursor, false);
        }
    }
    return false;
}

struct making {
    struct slab_cursor *cursor;
    uint32_t stride;
};

static int slab_make(struct cue_pool *pool, uint32_t granule, void *arg)
{
    struct making *making = arg;
    uint32_t slab = granule >> (pool->slab_shift - POOL_GRANULE_SHIFT), blocks = blocks_of(pool, making->stride);
    struct slab *head = slab_head(pool, slab);
    uint64_t owner = atomic_load_explicit(&head->owner, acquire);
    if (!owner_vacant(pool, owner) || !cas(&head->owner, &owner, owner_cursor(pool)))
        return 1; /* an adopter that came too late looks at it just now: take another run */
    uint32_t lines = atomic_load_explicit(&head->lines, acquire);
    if (lines < blocks) {
        uint64_t at = (uint64_t)((char *)slab_record(pool, slab, 0) - (char *)pool->header);
        int status = shm_populate(pool->fd, pool->header, at, (uint64_t)blocks * POOL_LINE);
        if (status) {
            atomic_store_explicit(&head->owner, OWNER_NONE, release);
            return status;
        }
        pool_count_present(pool, ((int64_t)(blocks - lines) * POOL_LINE + 4095) / 4096 * 4096);
        atomic_store_explicit(&head->lines, blocks, release); /* pairs with: pool_record */
    }
    atomic_store_explicit(&head->stride, making->stride, relaxed); /* made readable by SLAB */
    atomic_store_explicit(&head->blocks, blocks, relaxed);
    for (uint32_t w = 0; w < POOL_SLAB_WORDS; w++)
        atomic_store_explicit(&head->returned[w], 0, relaxed); /* a hint that is lost here is found by the bits below */
    cursor_enter(pool, making->cursor, slab, making->stride);
    for (uint32_t w = 0; w * 64 < blocks; w++)
        cursor_add(making->cursor, w, valid_bits(blocks, w));
    struct record *run = granule_record(pool, granule);
    uint64_t state = atomic_load_explicit(&run->state, acquire);
    atomic_store_explicit(&run->size_word, rec_size_word(0, UINT32_C(1) << (pool->slab_shift - POOL_GRANULE_SHIFT)), relaxed);
    atomic_store_explicit(&run->state, rec_word(REC_SLAB, 0, rec_generation(state)), release); /* !! */
    return 0;
}

static __attribute__((noinline)) int cursor_refill(struct cue_pool *pool, struct slab_cursor *cursor, unsigned class)
{
    uint32_t stride = slab_class_lines[class] * (uint32_t)POOL_LINE, granule;
    if (cursor->head) {
        cursor_absorb(cursor);
        if (cursor->top)
            return 0;
        cursor_give_up(pool, cursor, false);
    }
    int status = 0;
    if (!cursor_adopt(pool, cursor, stride)) {
        struct making making = { cursor, stride };
        status = run_take_slab(pool, slab_make, &making, &granule);
        if (status && cursor_adopt(pool, cursor, stride)) /* reaping the dead may have given some back */
            status = 0;
    }
    if (cursor->head)
        atomic_store_explicit(&pool->slab_owner[cursor->slab], cursor, release); /* pairs with: slab_returned */
    return status;
}

/* ---- threads ---- */

static void thread_ended(void *arg)
{
    struct slab_thread *state = arg;
    for (unsigned i = 0; i < POOLS_MAX; i++) {
        struct slab_cache *cache = state->caches[i];
        if (!cache)
            continue;
        pthread_mutex_lock(&registry_lock);
        bool current = cache->link && cache->forks == fork_epoch;
        if (current) {
            for (unsigned c = 0; c < SLAB_CLASSES; c++)
                cursor_give_up(cache->pool, &cache->cursors[c], true);
            *cache->link = cache->next;
            if (cache->next)
                cache->next->link = cache->link;
        }
        pthread_mutex_unlock(&registry_lock);
        free(cache);
    }
    free(state);
    slab_thread = NULL;
}

static void thread_end_make(void)
{
    pthread_key_create(&thread_end, thread_ended);
}

static __attribute__((noinline)) struct slab_cache *cache_make(struct cue_pool *pool)
{
    pthread_once(&thread_end_once, thread_end_make);
    if (!slab_thread) {
        struct slab_thread *state = calloc(1, sizeof *state);
        if (!state || pthread_setspecific(thread_end, state)) {
            free(state);
            return NULL;
        }
        slab_thread = state;
    }
    struct slab_cache *cache = slab_thread->caches[pool->slot];
    if (!cache && !(cache = slab_thread->caches[pool->slot] = calloc(1, sizeof *cache)))
        return NULL;
    memset(cache, 0, sizeof *cache); /* of a former pool in this slot, or the parent's: not ours to give up */
    cache->pool = pool;
    cache->incarnation = pool->incarnation;
    cache->forks = fork_epoch;
    pthread_mutex_lock(&registry_lock);
    cache->next = pool->caches;
    cache->link = &pool->caches;
    if (cache->next)
        cache->next->link = &cache->next;
    pool->caches = cache;
    pthread_mutex_unlock(&registry_lock);
    return cache;
}

/* ---- from outside ---- */

uint32_t slab_most(unsigned slab_shift)
{
    unsigned class = SLAB_CLASSES - 1;
    while (class && (uint64_t)slab_class_lines[class] * POOL_LINE * 8 > UINT64_C(1) << slab_shift)
        class --;
    return slab_class_lines[class] * (uint32_t)POOL_LINE;
}

int slab_take(struct cue_pool *pool, uint64_t room, const struct fresh *fresh, struct taken *out)
{
    struct slab_cache *cache = cache_of(pool);
    unsigned class = slab_class_of_lines[(room + 63) / 64];
    if (__builtin_expect(!cache, 0) && !(cache = cache_make(pool)))
        return trail(CUE_ENOMEM, "no process memory for a thread's part of pool %s", pool->name);
    while (!slab_take_fast(pool, room, fresh, out)) {
        int status = cursor_refill(pool, &cache->cursors[class], class);
        if (status)
            return status;
    }
    return 0;
}

void slab_returned(struct cue_pool *pool, uint32_t index)
{
    uint32_t ordinal = ordinal_of_index(pool, index);
    if (ordinal >= atomic_load_explicit(&slab_head(pool, slab_of_index(pool, index))->blocks, relaxed))
        return; /* damage: the slab has no such block */
    if (!slab_returned_here(pool, index))
        slab_hint(pool, slab_of_index(pool, index), ordinal / 64, UINT64_C(1) << (ordinal % 64));
}

void slab_hint(struct cue_pool *pool, uint32_t slab, uint32_t word, uint64_t bits)
{
    struct slab *head = slab_head(pool, slab);
    atomic_fetch_or_explicit(&head->returned[word], bits, seq_cst);            /* pairs with: cursor_give_up, cursor_absorb */
    if (owner_kind(atomic_load_explicit(&head->owner, seq_cst)) == OWNER_NONE) /* my word, then yours */
        mark_available(pool, slab);
}

void slabs_give_up(struct cue_pool *pool)
{
    for (struct slab_cache *cache = pool->caches; cache; cache = cache->next) {
        for (unsigned c = 0; c < SLAB_CLASSES; c++)
            cursor_give_up(pool, &cache->cursors[c], true);
        cache->link = NULL;
        cache->incarnation = UINT32_MAX;
    }
    pool->caches = NULL;
}

bool slabs_give_up_thread(struct cue_pool *pool)
{
    struct slab_cache *cache = cache_of(pool);
    bool any = false;
    for (unsigned c = 0; cache && c < SLAB_CLASSES; c++) {
        any |= cache->cursors[c].head != NULL;
        cursor_give_up(pool, &cache->cursors[c], true);
    }
    return any;
}

bool slabs_give_up_missed(struct cue_pool *pool)
{
    struct slab_cache *cache = cache_of(pool);
    uint32_t now = atomic_load_explicit(&pool->header->pressure, relaxed); /* a hint */
    if (!cache || cache->pressure_seen == now)
        return false;
    cache->pressure_seen = now;
    return slabs_give_up_thread(pool);
}

bool slabs_dissolve_empty(struct cue_pool *pool)
{
    bool any = false;
    unsigned shift = pool->extent_shift - pool->slab_shift;
    for (uint32_t n = 0; n < pool->nextents; n++) {
        if (!extent_meta_present(pool, n))
            continue;
        for (uint32_t slab = n << shift; slab < (n + 1) << shift && first_granule_of_slab(pool, slab) < pool->granules; slab++) {
            struct slab_cursor cursor = { 0 };
            uint64_t state = atomic_load_explicit(&granule_record(pool, first_granule_of_slab(pool, slab))->state, acquire);
            if (rec_state(state) == REC_SLAB && cursor_claim(pool, &cursor, slab, 0) && cursor_give_up(pool, &cursor, true))
                any = true;
        }
    }
    return any;
}
