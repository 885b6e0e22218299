/* Extents and runs: where blocks of whole granules come from.
 *
 * An extent is a stretch of up to 1,024 granules. Whoever's CURSOR is in its owner word may allocate there, nobody else: so
 * FREE -> OWNED has one writer and is a plain release store. The owner's process keeps two private bitmaps of it: `free` (not
 * part of a run) and `start` (a run that I handed out begins here; it ends before the next start or free bit). They are private,
 * so a run's length never depends on what others write.
 *
 * Freeing is the state word's business (block.c). Who freed a run of an extent it does not own sets the head's bit in
 * `returned`: a hint. The owner believes a hint only if `start` is set and the record says FREE, so hints that are late, double
 * or of another life do nothing, and a hint that was lost with its freer is found again by recovery's walk.
 *
 * A run of 16 granules or more leaves no hint: there are at most 64 of them in an extent, so the owner looks at the records of
 * those that it handed out, which it has to fetch anyway before it uses them again. In a hand-over of long runs the line of
 * hints would otherwise go to the freer and back every few messages. Who frees asks the record for the length after its commit:
 * if it has another one by then, the owner has found the run already. What came back is asked for seldom, when some runs are
 * under way (take_unasked): one run that goes to and fro would cost the way there and back each time.
 *
 * The owner word: NONE -> CURSOR(me) by CAS; -> NONE by me, release. A dead owner's is taken over by CAS from the dead value,
 * and then the records say what is free: a live head covers its granules, everything else is free. Hints are emptied before that
 * scan, so a free after it leaves a new one. A process holds a few extents at a time and gives the fullest up for a new one;
 * what is free in living processes'
 * extents cannot be used by others until then. Who finds no room says so (`pressure`), and all give up what they hold when they
 * next need an extent, before they sleep in the library, or when they free something while others wait for room.
 *
 * `largest` says how long a run an extent that nobody owns has room for, so that who looks for room can pass it over. What comes free
 * makes it unknown. Who gives the extent up says it first and then looks once more at what came free; who frees does so first and
 * then looks at `largest` (both seq_cst): one of the two sees the other, and no free run stays unknown (model hint.pml).
 *
 * A run longer than an extent covers whole extents, each CLAIMed for its head record, and perhaps the first granules of one
 * more, whose first record is a TAIL that names the head. Claims are made in ascending order and only of extents that we own
 * and found empty; the head's store OWNED is the commit. A claim or tail counts while the head is live with the generation it
 * names, or while that generation is FREE and the claimer lives; otherwise anybody may take the extent: so neither a claimer
 * killed half-way nor a freer killed before it withdrew the claims leaves anything behind.
 *
 * An owner word EMPTY says more than NONE: no granule is in use. That is a fact, not a hint: who writes it knows (it owns the extent
 * and all of it is free, or it withdraws the claim of a run that covered all of it), and nobody changes a granule without
 * changing that word first. So it is taken over without a look at the records, which makes long runs cheap: 1,024 lines an extent.
 *
 * Crash points: killed as owner: the extent is adoptable, nothing else is known to nobody. Killed between the private bit and
 * the store: nothing has happened. Killed after the store: OWNED, recovery frees it.
 */
#include "pool_private.h"

#include "base/shm.h"

#include <stdlib.h>
#include <string.h>

enum {
    LONG_RUN = 16,  /* granules */
    LOOKS = 8,      /* runs still in use that a look for warm ones may meet */
    UNASKED = 2048, /* granules to take before asking what came back */
    CROWDED = 64    /* times not to look for one more extent after there was none */
};
static_assert(POOL_EXTENT_GRANULES / LONG_RUN <= 64, "a bit each");

struct held_extent {
    uint32_t number;
    uint32_t granules; /* fewer in the pool's last extent */
    uint32_t nfree;
    uint32_t warm;   /* where a run was freed last: the first place to look, its lines are in the cache */
    unsigned looked; /* the cell of `longs` where the last look ended */
    uint64_t present;
    uint64_t longs; /* a bit for each 16 granules in which a long run starts: the last start there */
    uint64_t free[POOL_EXTENT_WORDS], start[POOL_EXTENT_WORDS];
};

static bool bit_get(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void bits_set(uint64_t *bits, uint32_t from, uint32_t count)
{
    while (count) {
        uint32_t at = from % 64, n = count < 64 - at ? count : 64 - at;
        bits[from / 64] |= (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << at;
        from += n;
        count -= n;
    }
}

static void bits_clear(uint64_t *bits, uint32_t from, uint32_t count)
{
    while (count) {
        uint32_t at = from % 64, n = count < 64 - at ? count : 64 - at;
        bits[from / 64] &= ~((n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << at);
        from += n;
        count -= n;
    }
}

/* The first position >= from whose bit is `value`, or `end`. */
static uint32_t bit_next(const uint64_t *bits, uint32_t from, uint32_t end, bool value)
{
    while (from < end) {
        uint64_t word = (value ? bits[from / 64] : ~bits[from / 64]) >> (from % 64);
        if (word) {
            from += (uint32_t)__builtin_ctzll(word);
            return from < end ? from : end;
        }
        from = (from | 63) + 1;
    }
    return end;
}

static uint32_t extent_granules(const struct cue_pool *pool, uint32_t number)
{
    uint32_t per = granules_per_extent(pool), first = number * per;
    return pool->granules - first < per ? pool->granules - first : per;
}

void pool_count_present(struct cue_pool *pool, int64_t bytes)
{
    struct pool_header *header = pool->header;
    /* counts for people: no order needed (relaxed) */
    uint64_t now = atomic_fetch_add_explicit(&header->present, (uint64_t)bytes, relaxed) + (uint64_t)bytes;
    uint64_t peak = atomic_load_explicit(&header->peak, relaxed);
    while (now > peak && !atomic_compare_exchange_weak_explicit(&header->peak, &peak, now, relaxed, relaxed))
        ;
}

bool owner_vacant(struct cue_pool *pool, uint64_t word)
{
    if (owner_kind(word) == OWNER_NONE)
        return true;
    unsigned party = owner_party(word);
    if (party == 0 || party > pool->max_parties)
        return true; /* damage: nobody can own it that way */
    uint64_t holder = atomic_load_explicit(&pool->parties[party - 1].word, acquire);
    bool holder_lives = party_state(holder) == PARTY_LIVE;
    if (owner_kind(word) == OWNER_CURSOR)
        return !holder_lives || (party_epoch(holder) & 0xffff) != (word >> 16 & 0xffff);
    uint32_t head = (uint32_t)(word >> 32);
    struct record *rec = head & INDEX_R2 ? NULL : pool_record(pool, head);
    if (!rec)
        return true;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if ((rec_generation(state) & 0xffff) != (word >> 16 & 0xffff))
        return true;
    return rec_state(state) == REC_FREE && !holder_lives;
}

/* ---- holding an extent; all of this under extents_lock ---- */

static struct held_extent *held_find(struct cue_pool *pool, uint32_t number)
{
    for (unsigned i = 0; i < pool->nheld; i++)
        if (pool->held[i].number == number)
            return &pool->held[i];
    return NULL;
}

/* Up to the next run or the next free granule. */
static uint32_t run_end(const struct held_extent *held, uint32_t at)
{
    if (at + 1 == held->granules || bit_get(held->start, at + 1) || bit_get(held->free, at + 1))
        return at + 1;
    return bit_next(held->free, at + 1, bit_next(held->start, at + 1, held->granules, true), true);
}

static void held_start_run(struct held_extent *held, uint32_t at, uint32_t count)
{
    bits_set(held->start, at, 1);
    if (count >= LONG_RUN)
        held->longs |= UINT64_C(1) << at / LONG_RUN;
}

static void held_release_run(struct held_extent *held, uint32_t at)
{
    uint32_t end = run_end(held, at);
    bits_clear(held->start, at, 1);
    bits_set(held->free, at, end - at);
    if (end - at >= LONG_RUN)
        held->longs &= ~(UINT64_C(1) << at / LONG_RUN);
    held->nfree += end - at;
    held->warm = at;
}

/* Where the long run of this cell starts: no run starts in the rest of the cell. */
static uint32_t long_start(const struct held_extent *held, uint32_t cell)
{
    uint32_t starts = held->start[cell / 4] >> (cell % 4 * LONG_RUN) & 0xffff;
    return cell * LONG_RUN + 31 - (uint32_t)__builtin_clz(starts | 1);
}

static bool record_free(const struct cue_pool *pool, uint32_t granule)
{
    return rec_state(atomic_load_explicit(&granule_record(pool, granule)->state, seq_cst)) == REC_FREE; /* pairs with: block_drop */
}

/* The runs that were freed last stay out of the bitmaps for a moment: the next one of their size takes one as it is. They must be
 * in them before anybody looks at them for another purpose. */
static void warm_settle(struct cue_pool *pool)
{
    uint32_t per = granules_per_extent(pool);
    while (pool->nwarm) {
        struct warm_run run = pool->warm[--pool->nwarm];
        held_release_run(held_find(pool, run.granule / per), run.granule % per);
    }
}

static void warm_put(struct cue_pool *pool, const struct held_extent *held, uint32_t granule)
{
    uint32_t at = granule % granules_per_extent(pool);
    for (unsigned i = 0; i < pool->nwarm; i++)
        if (pool->warm[i].granule == granule)
            return; /* a hint was quicker than who freed it */
    if (pool->nwarm == WARM_RUNS)
        warm_settle(pool);
    pool->warm[pool->nwarm++] = (struct warm_run){ granule, run_end(held, at) - at };
}

static void returned_fetch(struct cue_pool *pool, const struct held_extent *held)
{
    struct extent *extent = &pool->extents[held->number];
    uint32_t first = held->number * granules_per_extent(pool), words = (held->granules + 63) / 64;
    for (uint32_t w = 0; w < words; w += POOL_LINE / sizeof extent->returned[0])
        __builtin_prefetch(&extent->returned[w], 1);
    for (uint32_t w = 0; w < words; w++) /* what comes back lies in another CPU's cache: fetch all of it at a time, not one by one */
        for (uint64_t ahead = atomic_load_explicit(&extent->returned[w], relaxed) & held->start[w]; ahead; ahead &= ahead - 1) { /* hints */
            uint32_t granule = first + w * 64 + (uint32_t)__builtin_ctzll(ahead);
            __builtin_prefetch(granule_record(pool, granule), 1);
            __builtin_prefetch(pool->data + ((uint64_t)granule << POOL_GRANULE_SHIFT), 1);
        }
}

/* The cells of `longs` in the order of a round that goes on where the last one ended. */
static uint64_t longs_round(const struct held_extent *held)
{
    unsigned from = held->looked % 64;
    return from ? held->longs >> from | held->longs << (64 - from) : held->longs;
}

static void longs_fetch(struct cue_pool *pool, const struct held_extent *held, uint64_t round, unsigned most)
{
    uint32_t first = held->number * granules_per_extent(pool);
    for (; round && most; round &= round - 1, most--) {
        uint32_t granule = first + long_start(held, (held->looked + (uint32_t)__builtin_ctzll(round)) % 64);
        __builtin_prefetch(granule_record(pool, granule), 1);
        __builtin_prefetch(pool->data + ((uint64_t)granule << POOL_GRANULE_SHIFT), 1);
    }
}

/* Long runs that are free become warm ones, until there are enough or `*patience` of them were in use. Where one is free the
 * next ones probably are, too: they lie in another CPU's cache, so all are fetched at a time. */
static void held_look(struct cue_pool *pool, struct held_extent *held, unsigned *patience)
{
    uint32_t first = held->number * granules_per_extent(pool), last = held->looked;
    bool fetched = false;
    for (uint64_t round = longs_round(held); round && *patience && pool->nwarm < WARM_RUNS; round &= round - 1) {
        uint32_t cell = (held->looked + (uint32_t)__builtin_ctzll(round)) % 64, at = long_start(held, cell);
        last = cell + 1;
        if (!record_free(pool, first + at)) {
            --*patience;
            continue;
        }
        if (!fetched)
            longs_fetch(pool, held, round, WARM_RUNS - pool->nwarm);
        fetched = true;
        warm_put(pool, held, first + at);
    }
    held->looked = last;
}

/* Believes the hints that are true, and, unless it is for warm runs, looks at all long ones. */
static bool held_absorb(struct cue_pool *pool, struct held_extent *held, bool warm)
{
    struct extent *extent = &pool->extents[held->number];
    uint32_t first = held->number * granules_per_extent(pool), before = held->nfree + pool->nwarm;
    for (uint64_t longs = warm ? 0 : held->longs; longs; longs &= longs - 1) {
        uint32_t at = long_start(held, (uint32_t)__builtin_ctzll(longs));
        if (record_free(pool, first + at))
            held_release_run(held, at);
    }
    returned_fetch(pool, held);
    for (uint32_t w = 0; w < (held->granules + 63) / 64; w++) {
        if (!atomic_load_explicit(&extent->returned[w], seq_cst)) /* pairs with: returned */
            continue;
        uint64_t hints = atomic_exchange_explicit(&extent->returned[w], 0, acq_rel) & held->start[w];
        for (; hints; hints &= hints - 1) {
            uint32_t at = w * 64 + (uint32_t)__builtin_ctzll(hints);
            if (!record_free(pool, first + at))
                continue;
            if (warm && pool->nwarm < WARM_RUNS)
                warm_put(pool, held, first + at);
            else
                held_release_run(held, at);
        }
    }
    return held->nfree + pool->nwarm > before;
}

/* How many granules of this extent the record at `granule` covers, as it stands; 0: it is free. */
static uint32_t granules_covered(struct cue_pool *pool, uint32_t granule, uint32_t limit)
{
    struct record *rec = granule_record(pool, granule);
    uint64_t state = atomic_load_explicit(&rec->state, acquire), again, covered;
    do {
        again = state;
        covered = rec_granules(rec);
        if (rec_state(state) == REC_SLAB)
            covered = UINT32_C(1) << (pool->slab_shift - POOL_GRANULE_SHIFT);
        if (rec_state(state) == REC_TAIL) {
            uint32_t head = atomic_load_explicit(&rec->lane, relaxed); /* pairs with: the state word */
            uint64_t claim =
                OWNER_CLAIM | (state >> 4 & 0xfff) << 4 | (atomic_load_explicit(&rec->id, relaxed) & 0xffff) << 16 | (uint64_t)head << 32;
            if (owner_vacant(pool, claim)) {
                if (cas_seq_cst(&rec->state, &again, rec_word(REC_FREE, 0, rec_generation(again) + 1)))
                    return 0;
                state = again;
                continue;
            }
        }
        state = atomic_load_explicit(&rec->state, acquire);
    } while ((state & ~REC_FLAGS) != (again & ~REC_FLAGS));
    if (rec_state(state) == REC_FREE)
        return 0;
    return covered == 0 ? 1 : covered < limit ? (uint32_t)covered : limit;
}

static void held_scan(struct cue_pool *pool, struct held_extent *held)
{
    uint32_t first = held->number * granules_per_extent(pool);
    memset(held->free, 0, sizeof held->free);
    memset(held->start, 0, sizeof held->start);
    held->nfree = held->warm = held->looked = 0;
    held->longs = 0;
    for (uint32_t at = 0; at < held->granules;) {
        uint32_t covered = granules_covered(pool, first + at, held->granules - at);
        if (covered) {
            bool slab = rec_state(atomic_load_explicit(&granule_record(pool, first + at)->state, acquire)) == REC_SLAB;
            held_start_run(held, at, slab ? 1 : covered);
            at += covered;
        } else {
            bits_set(held->free, at, 1);
            held->nfree++;
            at++;
        }
    }
}

static void held_all_free(struct held_extent *held)
{
    memset(held->free, 0, sizeof held->free);
    memset(held->start, 0, sizeof held->start);
    bits_set(held->free, 0, held->granules);
    held->nfree = held->granules;
    held->warm = held->looked = 0;
    held->longs = 0;
}

static uint32_t held_longest(const struct held_extent *held)
{
    uint32_t longest = 0;
    for (uint32_t at = bit_next(held->free, 0, held->granules, true); at < held->granules;) {
        uint32_t end = bit_next(held->free, at, held->granules, false);
        if (end - at > longest)
            longest = end - at;
        at = bit_next(held->free, end, held->granules, true);
    }
    return longest;
}

static void held_give_up(struct cue_pool *pool, struct held_extent *held)
{
    struct extent *extent = &pool->extents[held->number];
    held_absorb(pool, held, false);
    do
        atomic_store_explicit(&extent->largest, held_longest(held), seq_cst); /* pairs with: returned (my word, then yours) */
    while (held_absorb(pool, held, false));
    atomic_store_explicit(&extent->owner, held->nfree == held->granules ? OWNER_EMPTY : OWNER_NONE, release); /* pairs with: extent_adopt */
    *held = pool->held[--pool->nheld];
}

/* Makes us the owner if nobody is. NULL: somebody is, or (with *status set) there was no room for its records. */
static struct held_extent *extent_adopt(struct cue_pool *pool, uint32_t number, int *status)
{
    struct extent *extent = &pool->extents[number];
    uint64_t owner = atomic_load_explicit(&extent->owner, acquire);
    if (!owner_vacant(pool, owner) || !cas(&extent->owner, &owner, owner_cursor(pool)))
        return NULL;
    if (!extent_meta_present(pool, number)) {
        uint64_t at = (uint64_t)(pool->meta - (char *)pool->header) + number * pool->meta_stride;
        *status = shm_populate(pool->fd, pool->header, at, pool->meta_stride);
        if (*status) {
            atomic_store_explicit(&extent->owner, OWNER_NONE, release);
            return NULL;
        }
        atomic_store_explicit(&extent->meta, 1, release); /* pairs with: extent_meta_present */
        pool_count_present(pool, (int64_t)pool->meta_stride);
    }
    atomic_store_explicit(&extent->largest, UINT32_MAX, relaxed); /* until it is given up: then who frees need not write it */
    struct held_extent *held = &pool->held[pool->nheld++];
    held->number = number;
    held->granules = extent_granules(pool, number);
    held->present = atomic_load_explicit(&extent->present, acquire);
    for (uint32_t w = 0; w < POOL_EXTENT_WORDS; w++) /* before the scan: a free after it leaves a new hint */
        if (atomic_load_explicit(&extent->returned[w], relaxed))
            atomic_exchange_explicit(&extent->returned[w], 0, acq_rel);
    if (owner == OWNER_EMPTY)
        held_all_free(held);
    else
        held_scan(pool, held);
    return held;
}

/* Room for one more: the one with the least room goes. */
static void held_make_room(struct cue_pool *pool)
{
    if (pool->nheld < pool->held_max)
        return;
    struct held_extent *fullest = &pool->held[0];
    for (unsigned i = 1; i < pool->nheld; i++)
        if (pool->held[i].nfree < fullest->nfree)
            fullest = &pool->held[i];
    held_give_up(pool, fullest);
}

/* Memory is reserved in 64 steps an extent, of whole granules. */
static unsigned step_shift_of(const struct cue_pool *pool)
{
    return pool->extent_shift > 18 ? pool->extent_shift - 6 : POOL_GRANULE_SHIFT;
}

static bool held_present(const struct cue_pool *pool, const struct held_extent *held, uint32_t at, uint32_t count)
{
    unsigned step_shift = step_shift_of(pool);
    for (uint32_t step = (at << POOL_GRANULE_SHIFT) >> step_shift; step <= ((at + count) * POOL_GRANULE - 1) >> step_shift; step++)
        if (!(held->present >> step & 1))
            return false;
    return true;
}

/* Reserves the memory of granules [at, at + count) of a held extent. */
static int held_populate(struct cue_pool *pool, struct held_extent *held, uint32_t at, uint32_t count)
{
    unsigned step_shift = step_shift_of(pool);
    uint32_t from = (at << POOL_GRANULE_SHIFT) >> step_shift, to = ((at + count) * POOL_GRANULE - 1) >> step_shift;
    uint64_t base = (uint64_t)(pool->data - (char *)pool->header) + ((uint64_t)held->number << pool->extent_shift);
    for (uint32_t step = from; step <= to; step++) {
        if (held->present >> step & 1)
            continue;
        uint32_t last = step;
        while (last < to && !(held->present >> (last + 1) & 1))
            last++;
        uint64_t bytes = (uint64_t)(last - step + 1) << step_shift, offset = (uint64_t)step << step_shift;
        uint64_t end = (uint64_t)held->granules * POOL_GRANULE;
        if (offset + bytes > end)
            bytes = end - offset;
        int status = shm_populate(pool->fd, pool->header, base + offset, bytes);
        if (status) {
            shm_punch(pool->header, base + offset, bytes); /* nothing in these steps was present, so nothing is lost */
            return status;
        }
        uint64_t bits = (last - step == 63 ? ~UINT64_C(0) : (UINT64_C(1) << (last - step + 1)) - 1) << step;
        held->present |= bits;
        atomic_fetch_or_explicit(&pool->extents[held->number].present, bits, release);
        pool_count_present(pool, (int64_t)bytes);
        step = last;
    }
    return 0;
}

struct wish {
    uint32_t count, align;
    bool present; /* only where memory is reserved already: /dev/shm is full */
    const struct fresh *fresh;
    int (*make)(struct cue_pool *pool, uint32_t granule, void *arg);
    void *arg;
};

/* The first free place from `from` on for `count` granules at a multiple of `align` (in granules, from the start of the data). */
static uint32_t held_place(const struct cue_pool *pool, const struct held_extent *held, const struct wish *wish, uint32_t from)
{
    uint32_t count = wish->count, align = wish->align;
    uint32_t base = held->number * granules_per_extent(pool), end = held->granules;
    if (held->nfree < count)
        return UINT32_MAX;
    uint32_t warm = held->warm;
    if (from == 0 && warm + count <= end && (base + warm) % align == 0 && bit_next(held->free, warm, warm + count, false) == warm + count &&
        (!wish->present || held_present(pool, held, warm, count)))
        return warm;
    for (uint32_t at = bit_next(held->free, from, end, true); at < end;) {
        uint32_t aligned = (base + at + align - 1) / align * align - base;
        uint32_t stop = bit_next(held->free, at, end, false);
        for (; aligned < stop && stop - aligned >= count; aligned += align)
            if (!wish->present || held_present(pool, held, aligned, count))
                return aligned;
        at = bit_next(held->free, stop, end, true);
    }
    return UINT32_MAX;
}

static void record_own(struct cue_pool *pool, uint32_t granule, const struct wish *wish)
{
    struct record *rec = granule_record(pool, granule);
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    record_fill(rec, wish->fresh, wish->count);
    atomic_store_explicit(&rec->state, rec_word(REC_OWNED, pool->self + 1, rec_generation(state)), release); /* !! */
}

/* Takes the run if it fits: 0, 1: does not fit, or a status. A place that `make` does not want, for which somebody who is stopped may be
 * the reason, is passed over. */
static int held_take(struct cue_pool *pool, struct held_extent *held, const struct wish *wish, uint32_t *granule)
{
    uint32_t from = 0, at;
    int status;
    do {
        at = held_place(pool, held, wish, from);
        if (at == UINT32_MAX)
            return 1;
        status = held_populate(pool, held, at, wish->count);
        if (status)
            return status;
        *granule = held->number * granules_per_extent(pool) + at;
        status = wish->make ? wish->make(pool, *granule, wish->arg) : 0;
        from = held->warm && status > 0 ? 0 : at + wish->count;
        held->warm = status > 0 ? 0 : held->warm; /* from the start on */
    } while (status > 0);
    if (status)
        return status;
    if (!wish->make)
        record_own(pool, *granule, wish);
    bits_clear(held->free, at, wish->count);
    held_start_run(held, at, wish->make ? 1 : wish->count); /* of a slab there are hints, see run_dissolved */
    held->nfree -= wish->count;
    return 0;
}

static inline bool warm_hand_out(struct cue_pool *pool, unsigned i, uint64_t count, const struct fresh *fresh, struct taken *out)
{
    struct warm_run run = pool->warm[i];
    struct record *rec = granule_record(pool, run.granule);
    uint64_t state = atomic_load_explicit(&rec->state, acquire); /* pairs with: block_drop */
    if (run.count != count || rec_state(state) != REC_FREE)
        return false;
    pool->warm[i] = pool->warm[--pool->nwarm];
    record_fill(rec, fresh, count);
    atomic_store_explicit(&rec->state, rec_word(REC_OWNED, pool->self + 1, rec_generation(state)), release); /* !! */
    *out = (struct taken){ rec, run.granule, rec_generation(state), pool->data + ((uint64_t)run.granule << POOL_GRANULE_SHIFT) };
    return true;
}

static bool warm_take(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    struct taken taken;
    for (unsigned i = wish->make ? 0 : pool->nwarm; i-- > 0;)
        if (pool->warm[i].granule % wish->align == 0 && warm_hand_out(pool, i, wish->count, wish->fresh, &taken)) {
            *granule = taken.index;
            return true;
        }
    return false;
}

/* What others gave back of what we handed out, kept warm: in a hand-over the same few runs go round. Only with no warm runs: a
 * hint must not bring one back that is among them. */
static bool warm_refill(struct cue_pool *pool, const struct wish *wish)
{
    if (pool->nwarm || wish->make)
        return false;
    pool->unasked = 0;
    unsigned patience = wish->count >= LONG_RUN ? LOOKS : 0;
    for (unsigned n = pool->nheld; n-- > 0 && patience && pool->nwarm < WARM_RUNS;)
        held_look(pool, &pool->held[pool->looked++ % pool->nheld], &patience);
    for (unsigned i = pool->nheld; i-- > 0 && !pool->nwarm;)
        held_absorb(pool, &pool->held[i], true);
    return pool->nwarm;
}

static int held_take_any(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    for (unsigned i = pool->nheld; i-- > 0;) {
        int status = held_take(pool, &pool->held[i], wish, granule);
        if (status <= 0)
            return status;
    }
    for (unsigned i = pool->nheld; i-- > 0;) {
        if (!held_absorb(pool, &pool->held[i], false))
            continue;
        int status = held_take(pool, &pool->held[i], wish, granule);
        if (status <= 0)
            return status;
    }
    return 1;
}

/* Adopts extents until the run fits in one. With `fresh_ones` also those that nobody has ever used. */
static int adopt_and_take(struct cue_pool *pool, const struct wish *wish, bool fresh_ones, uint32_t *granule)
{
    for (uint32_t n = 0; n < pool->nextents; n++) {
        struct extent *extent = &pool->extents[n];
        bool used = extent_meta_present(pool, n);
        uint64_t owner = atomic_load_explicit(&extent->owner, acquire);
        if (used == fresh_ones || (used && atomic_load_explicit(&extent->largest, relaxed) < wish->count) || !owner_vacant(pool, owner))
            continue;
        int status = 0;
        held_make_room(pool);
        struct held_extent *held = extent_adopt(pool, n, &status);
        if (status)
            return status;
        if (!held)
            continue;
        status = held_take(pool, held, wish, granule);
        if (status <= 0)
            return status;
        held_give_up(pool, held);
    }
    return 1;
}

static int take_within_extent(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    int status = held_take_any(pool, wish, granule);
    for (int fresh_ones = 0; status > 0 && fresh_ones < (wish->present ? 1 : 2); fresh_ones++)
        status = adopt_and_take(pool, wish, fresh_ones, granule);
    return status;
}

/* Do the extents that we hold have fewer long runs than can be under way? */
static bool few_longs(const struct cue_pool *pool)
{
    int longs = 0;
    for (unsigned i = 0; i < pool->nheld; i++)
        longs += __builtin_popcountll(pool->held[i].longs);
    return longs < WARM_RUNS && pool->nheld < pool->held_max;
}

/* From what is free, without asking what came back: that lies in other CPUs' caches and is fetched eight runs at a time, which
 * costs hardly more than one. So eight, or 8 MiB of them, are under way before we ask, in two extents if there are few in one. */
static bool take_unasked(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    uint32_t least = UNASKED / WARM_RUNS;
    if (wish->make || wish->count > granules_per_extent(pool) || pool->unasked >= UNASKED)
        return false;
    pool->unasked += wish->count > least ? wish->count : least;
    for (unsigned i = pool->nheld; i-- > 0;)
        if (held_take(pool, &pool->held[i], wish, granule) == 0)
            return true;
    if (wish->count < LONG_RUN || !few_longs(pool) || (pool->crowded && pool->crowded--))
        return false;
    if (adopt_and_take(pool, wish, false, granule) == 0 || adopt_and_take(pool, wish, true, granule) == 0)
        return true;
    pool->crowded = CROWDED;
    return false;
}

/* ---- runs longer than an extent ---- */

/* Owned by us and empty (or its first `count` granules are free). */
static bool hold_empty(struct cue_pool *pool, uint32_t number, uint32_t count, int *status)
{
    struct held_extent *held = held_find(pool, number);
    if (!held) {
        struct extent *extent = &pool->extents[number];
        if (extent_meta_present(pool, number) && atomic_load_explicit(&extent->largest, relaxed) < count &&
            owner_kind(atomic_load_explicit(&extent->owner, acquire)) == OWNER_NONE)
            return false;
        held = extent_adopt(pool, number, status);
        if (!held)
            return false;
    } else {
        held_absorb(pool, held, false);
    }
    return bit_next(held->free, 0, count, false) == count && (*status = held_populate(pool, held, 0, count)) == 0;
}

static int commit_long_run(struct cue_pool *pool, uint32_t first, uint32_t whole, uint32_t tail, const struct wish *wish)
{
    uint32_t per = granules_per_extent(pool), head = first * per;
    struct record *rec = granule_record(pool, head);
    uint64_t generation = rec_generation(atomic_load_explicit(&rec->state, acquire));
    uint64_t claim = OWNER_CLAIM | (uint64_t)(pool->self + 1) << 4 | (generation & 0xffff) << 16 | (uint64_t)head << 32;
    if (tail) {
        struct held_extent *held = held_find(pool, first + whole);
        struct record *last = granule_record(pool, head + whole * per);
        uint64_t state = atomic_load_explicit(&last->state, acquire);
        atomic_store_explicit(&last->lane, head, relaxed); /* pairs with: the state word, as the next two */
        atomic_store_explicit(&last->id, generation, relaxed);
        atomic_store_explicit(&last->size_word, rec_size_word(0, tail), relaxed);
        atomic_store_explicit(&last->state, rec_word(REC_TAIL, pool->self + 1, rec_generation(state)), release);
        bits_clear(held->free, 0, tail);
        held_start_run(held, 0, tail);
        held->nfree -= tail;
    }
    for (uint32_t n = first; n < first + whole; n++) {
        struct held_extent *held = held_find(pool, n);
        atomic_store_explicit(&pool->extents[n].owner, claim, release); /* ours until now; pairs with: owner_vacant */
        *held = pool->held[--pool->nheld];
    }
    record_fill(rec, wish->fresh, wish->count);
    atomic_store_explicit(&rec->state, rec_word(REC_OWNED, pool->self + 1, generation), release); /* !! */
    return 0;
}

static void give_up_range(struct cue_pool *pool, uint32_t first, uint32_t last)
{
    for (uint32_t n = first; n <= last && n < pool->nextents; n++)
        if (held_find(pool, n))
            held_give_up(pool, held_find(pool, n));
}

static int take_long_run(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    uint32_t per = granules_per_extent(pool), whole = wish->count / per, tail = wish->count % per, most = whole + (tail != 0);
    while (pool->nheld)
        held_give_up(pool, &pool->held[0]); /* makes room in the table, and their free parts may be what is needed */
    struct held_extent *table = realloc(pool->held, sizeof *table * (most + EXTENTS_HELD));
    if (!table)
        return trail(CUE_ENOMEM, "no process memory for a run of %u extents", most);
    pool->held = table;
    for (uint32_t first = 0; first + most <= pool->nextents; first++) {
        if ((uint64_t)first * per % wish->align)
            continue;
        uint32_t n = 0;
        int status = 0;
        while (n < most && hold_empty(pool, first + n, n < whole ? per : tail, &status))
            n++;
        if (n == most) {
            *granule = first * per;
            return commit_long_run(pool, first, whole, tail, wish);
        }
        give_up_range(pool, first, first + n);
        if (status)
            return status;
        first += n; /* whatever begins at or before the one that is taken does not fit */
    }
    return 1;
}

/* ---- from outside ---- */

bool pool_under_pressure(struct cue_pool *pool)
{
    uint32_t now = atomic_load_explicit(&pool->header->pressure, relaxed); /* a hint */
    return now != atomic_load_explicit(&pool->pressure_seen, relaxed);
}

bool pool_give_up_missed(struct cue_pool *pool)
{
    bool slabs = slabs_give_up_missed(pool), extents = pool_under_pressure(pool) && extents_give_up(pool);
    return slabs || extents;
}

bool run_take_fast(struct cue_pool *pool, uint64_t size, struct taken *out)
{
    uint64_t count = (size + POOL_GRANULE - 1) >> POOL_GRANULE_SHIFT;
    if (pool_under_pressure(pool))
        return false;
    lock_take(&pool->extents_lock);
    bool taken = pool->nwarm && warm_hand_out(pool, pool->nwarm - 1, count, &(struct fresh){ .size = size }, out);
    lock_release(&pool->extents_lock);
    return taken;
}

static int take(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    if (pool_under_pressure(pool))
        extents_give_up(pool);
    lock_take(&pool->extents_lock);
    if (warm_take(pool, wish, granule) || take_unasked(pool, wish, granule) ||
        (warm_refill(pool, wish) && warm_take(pool, wish, granule))) {
        lock_release(&pool->extents_lock);
        return 0;
    }
    warm_settle(pool);
    bool is_long = wish->count > granules_per_extent(pool);
    int status = is_long ? take_long_run(pool, wish, granule) : take_within_extent(pool, wish, granule);
    if (status == CUE_ENOMEM && !is_long) { /* no more shared memory; what was freed in other places still has its own */
        struct wish present = *wish;
        present.present = true;
        if (take_within_extent(pool, &present, granule) == 0)
            status = 0;
    }
    lock_release(&pool->extents_lock);
    return status;
}

static int take_or_make_room(struct cue_pool *pool, const struct wish *wish, uint32_t *granule)
{
    int status = take(pool, wish, granule);
    if (status <= 0 && status != CUE_ENOMEM)
        return status;
    /* the dead may hold what we need; so may slabs that have become empty, ours too; so may living owners, who are asked */
    pool_reap(pool);
    slabs_give_up_thread(pool);
    slabs_dissolve_empty(pool);
    status = take(pool, wish, granule);
    if (status <= 0)
        return status;
    atomic_fetch_add_explicit(&pool->header->pressure, 1, relaxed); /* a hint */
    return trail(CUE_ENOMEM, "pool %s has no %u free granules of 4 KiB in a row", pool->name, wish->count);
}

int run_take(struct cue_pool *pool, uint32_t granules, uint32_t align, const struct fresh *fresh, uint32_t *granule)
{
    struct wish wish = { .count = granules, .align = align ? align : 1, .fresh = fresh };
    return take_or_make_room(pool, &wish, granule);
}

int run_take_slab(struct cue_pool *pool, int (*make)(struct cue_pool *pool, uint32_t granule, void *arg), void *arg, uint32_t *granule)
{
    uint32_t count = UINT32_C(1) << (pool->slab_shift - POOL_GRANULE_SHIFT);
    struct wish wish = { .count = count, .align = count, .make = make, .arg = arg };
    return take_or_make_room(pool, &wish, granule);
}

static bool run_tail_of(struct cue_pool *pool, uint32_t granule, uint32_t head)
{
    struct record *rec = granule_record(pool, granule);
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    return rec_state(state) == REC_TAIL && atomic_load_explicit(&rec->lane, relaxed) == head; /* pairs with: the state word */
}

/* What a freed run that is longer than an extent covered: its claims, and the tail in the extent after them. */
static void claims_withdraw(struct cue_pool *pool, uint32_t head)
{
    uint32_t n;
    for (n = extent_of_granule(pool, head); n < pool->nextents; n++) {
        struct extent *extent = &pool->extents[n];
        uint64_t owner = atomic_load_explicit(&extent->owner, acquire);
        if (owner_kind(owner) != OWNER_CLAIM || (uint32_t)(owner >> 32) != head)
            break;
        if (!owner_vacant(pool, owner))
            continue;
        atomic_store_explicit(&extent->largest, UINT32_MAX, relaxed); /* a hint */
        cas(&extent->owner, &owner, OWNER_EMPTY);                     /* claimed when it was empty, and all of it for that run */
    }
    uint32_t tail = n * granules_per_extent(pool);
    if (n >= pool->nextents || !extent_meta_present(pool, n) || !run_tail_of(pool, tail, head))
        return;
    if (granules_covered(pool, tail, 1) == 0)
        run_returned(pool, tail);
}

static void returned(struct cue_pool *pool, uint32_t granule, bool hint)
{
    uint32_t per = granules_per_extent(pool), number = granule / per, at = granule % per;
    struct extent *extent = &pool->extents[number];
    uint64_t owner = atomic_load_explicit(&extent->owner, acquire);
    if (owner_kind(owner) == OWNER_CLAIM) {
        claims_withdraw(pool, granule);
        return;
    }
    if (owner == owner_cursor(pool)) {
        lock_take(&pool->extents_lock);
        struct held_extent *held = held_find(pool, number);
        bool mine = held && bit_get(held->start, at) && record_free(pool, granule);
        if (mine)
            warm_put(pool, held, granule);
        lock_release(&pool->extents_lock);
        if (held)
            return;
    }
    if (hint)
        atomic_fetch_or_explicit(&extent->returned[at / 64], UINT64_C(1) << (at % 64), seq_cst);
    if (atomic_load_explicit(&extent->largest, seq_cst) != UINT32_MAX) /* pairs with: held_give_up (my word, then yours) */
        atomic_store_explicit(&extent->largest, UINT32_MAX, relaxed);
}

void run_returned(struct cue_pool *pool, uint32_t granule)
{
    returned(pool, granule, rec_granules(granule_record(pool, granule)) < LONG_RUN); /* one that is in use again: needs no hint */
}

void run_dissolved(struct cue_pool *pool, uint32_t granule)
{
    returned(pool, granule, true);
}

/* A tail that a dead party had set for a run that it never committed: the head is FREE, and stays so until the owner words are
 * swept. It must go before that: who then takes the head gives it the very generation that the tail names. */
void run_tail_sweep(struct cue_pool *pool, uint32_t granule)
{
    struct record *rec = granule_record(pool, granule);
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    uint32_t head = atomic_load_explicit(&rec->lane, relaxed); /* pairs with: the state word, as the next one */
    uint64_t generation = atomic_load_explicit(&rec->id, relaxed);
    struct record *first = head & INDEX_R2 ? NULL : pool_record(pool, head);
    uint64_t committed = first ? atomic_load_explicit(&first->state, acquire) : 0;
    if (rec_state(committed) != REC_FREE && rec_generation(committed) == generation)
        return;
    if (cas_seq_cst(&rec->state, &state, rec_word(REC_FREE, 0, rec_generation(state) + 1)))
        run_returned(pool, granule);
}

void run_hint(struct cue_pool *pool, uint32_t granule)
{
    uint32_t at = granule % granules_per_extent(pool);
    _Atomic uint64_t *word = &pool->extents[extent_of_granule(pool, granule)].returned[at / 64];
    if (granules_covered(pool, granule, 1) == 0 && !(atomic_load_explicit(word, relaxed) >> (at % 64) & 1)) /* a hint */
        atomic_fetch_or_explicit(word, UINT64_C(1) << (at % 64), release);
}

struct held_extent *extents_table(void)
{
    return calloc(EXTENTS_HELD, sizeof(struct held_extent));
}

bool extents_give_up(struct cue_pool *pool)
{
    atomic_store_explicit(&pool->pressure_seen, atomic_load_explicit(&pool->header->pressure, relaxed), relaxed); /* a hint */
    lock_take(&pool->extents_lock);
    warm_settle(pool);
    bool any = pool->nheld != 0;
    while (pool->nheld)
        held_give_up(pool, &pool->held[0]);
    lock_release(&pool->extents_lock);
    return any;
}

void extents_forget(struct cue_pool *pool)
{
    pool->nheld = pool->nwarm = 0;
    lock_release(&pool->extents_lock); /* who held it is a thread of the parent's */
}

/* Punches the steps of a held extent that are wholly free. The present bits go first: whoever is killed in between leaves
 * memory that is reserved again, never memory that is thought to be there and is not. */
static int64_t held_trim(struct cue_pool *pool, struct held_extent *held)
{
    unsigned step_shift = step_shift_of(pool);
    uint32_t per_step = UINT32_C(1) << (step_shift - POOL_GRANULE_SHIFT);
    uint64_t base = (uint64_t)(pool->data - (char *)pool->header) + ((uint64_t)held->number << pool->extent_shift);
    int64_t given = 0;
    for (uint32_t step = 0; step < 64 && (step + 1) * per_step <= held->granules; step++) {
        if (!(held->present >> step & 1) || bit_next(held->free, step * per_step, (step + 1) * per_step, false) != (step + 1) * per_step)
            continue;
        held->present &= ~(UINT64_C(1) << step);
        atomic_fetch_and_explicit(&pool->extents[held->number].present, ~(UINT64_C(1) << step), seq_cst);
        if (shm_punch(pool->header, base + ((uint64_t)step << step_shift), UINT64_C(1) << step_shift) == 0)
            given += INT64_C(1) << step_shift;
    }
    return given;
}

int64_t extents_trim(struct cue_pool *pool)
{
    int64_t given = 0;
    slabs_dissolve_empty(pool);
    lock_take(&pool->extents_lock);
    warm_settle(pool);
    for (uint32_t n = 0; n < pool->nextents; n++) {
        int status = 0;
        struct held_extent *held = held_find(pool, n);
        bool was_held = held != NULL;
        if (!held && extent_meta_present(pool, n)) {
            held_make_room(pool);
            held = extent_adopt(pool, n, &status);
        }
        if (!held)
            continue;
        held_absorb(pool, held, false);
        given += held_trim(pool, held);
        if (!was_held)
            held_give_up(pool, held_find(pool, n));
    }
    lock_release(&pool->extents_lock);
    pool_count_present(pool, -given);
    return given;
}

#ifdef CUE_CHECK
static void held_verify(struct cue_pool *pool, const struct held_extent *held)
{
    uint32_t first = held->number * granules_per_extent(pool), count = 0;
    if (atomic_load_explicit(&pool->extents[held->number].owner, acquire) != owner_cursor(pool))
        verify_failed("an extent that we hold is not ours", held->number, 0);
    for (uint32_t at = bit_next(held->free, 0, held->granules, true); at < held->granules;
         at = bit_next(held->free, at + 1, held->granules, true)) {
        count++;
        if (bit_get(held->start, at))
            verify_failed("a granule is free and the start of a run", held->number, at);
        if (!record_free(pool, first + at))
            verify_failed("a granule is free and its record is not", held->number, at);
    }
    if (count != held->nfree)
        verify_failed("free granules are miscounted", count, held->nfree);
}

void extents_verify(struct cue_pool *pool)
{
    lock_take(&pool->extents_lock);
    for (unsigned i = 0; i < pool->nheld; i++)
        held_verify(pool, &pool->held[i]);
    for (unsigned i = 0; i < pool->nwarm; i++) {
        struct held_extent *held = held_find(pool, extent_of_granule(pool, pool->warm[i].granule));
        if (!held || !bit_get(held->start, pool->warm[i].granule % granules_per_extent(pool)))
            verify_failed("a warm run is none of ours", pool->warm[i].granule, pool->warm[i].count);
    }
    lock_release(&pool->extents_lock);
}
#endif
