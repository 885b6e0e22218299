/* Looking at the whole pool: the invariants.
 *
 * A walk over the records, which are the only truth, while others go on working. A fault that only shows for a moment (a bit set
 * by an attacher that is about to take it back) is looked at again before it is reported.
 */
#include "pool_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct checking {
    void (*line)(void *arg, const char *fault);
    void *arg;
    int faults;
};

static __attribute__((format(printf, 2, 3))) void fault(struct checking *check, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check->faults++;
    if (check->line)
        check->line(check->arg, text);
}

static bool party_is_live(struct cue_pool *pool, unsigned party_plus_1)
{
    return party_plus_1 >= 1 && party_plus_1 <= pool->max_parties &&
           party_state(atomic_load_explicit(&pool->parties[party_plus_1 - 1].word, acquire)) == PARTY_LIVE;
}

static bool leases_live(struct cue_pool *pool, const struct record *rec)
{
    for (unsigned s = 0; s < POOL_MAX_PARTIES; s++)
        if (atomic_load_explicit(&rec->lease[s / 64], acquire) >> (s % 64) & 1 && !party_is_live(pool, s + 1))
            return false;
    return true;
}

/* Reports it if it still holds after the word has been the same for two looks. */
#define STILL(rec, state) (atomic_load_explicit(&(rec)->state, acquire) == (state))

/* Does whoever holds it live? What was sent outlives its sender. */
static void check_holder(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, struct checking *check)
{
    enum record_state is = rec_state(state);
    bool replacing = is == REC_KEPT && state & REC_REPLACING, held = is == REC_OWNED || is == REC_SENT || is == REC_POSTED || replacing;
    if (held && !party_is_live(pool, rec_party(state)) && !(is == REC_SENT && recovery_linked(pool, rec, index, state)) &&
        STILL(rec, state))
        fault(check, "record %x: %s by party %u, which is not there", index, is == REC_SENT ? "sent" : "owned", rec_party(state));
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* pairs with: the state word */
    if (is == REC_KEPT && !replacing && note & NOTE_KEYED && !directory_has(pool, rec, index) && STILL(rec, state))
        fault(check, "record %x: kept under a key by which it is not found", index);
}

static void check_place(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, struct checking *check)
{
    enum record_state is = rec_state(state);
    uint64_t capacity = 0;
    char *data;
    if (is == REC_SLAB || is == REC_TAIL) {
        if (index & INDEX_R2)
            fault(check, "record %x: a slab within a slab", index);
        return;
    }
    bool sane = pool_bytes(pool, index, &data, &capacity) && rec_size(rec) <= capacity;
    if (!sane && STILL(rec, state))
        fault(check, "record %x: %llu bytes in a place for %llu", index, (unsigned long long)rec_size(rec), (unsigned long long)capacity);
}

static void check_views(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, struct checking *check)
{
    bool unseen = !atomic_load_explicit(&rec->lease[0], seq_cst) && !atomic_load_explicit(&rec->lease[1], seq_cst);
    bool granted =
        state & REC_TOPIC && (atomic_load_explicit(rec_grants(rec, 0), seq_cst) | atomic_load_explicit(rec_grants(rec, 64), seq_cst));
    bool writes = !(pool->flags & CUE_READ_ONLY) && (recovery_hooks || !(state & REC_TOPIC));
    if (rec_state(state) == REC_DOOMED && granted && unseen && writes && recovery_hooks->stuck(pool, rec, index) && STILL(rec, state) &&
        recovery_hooks->stuck(pool, rec, index))
        fault(check, "record %x: posted to a subscriber who does not have it", index);
    if (rec_state(state) == REC_DOOMED && unseen && !granted && writes) {
        block_finish(pool, rec, index, rec_generation(state)); /* its last viewer is just about to do the same */
        if (STILL(rec, state))
            fault(check, "record %x: doomed, and nobody looks at it", index);
    }
    if (!leases_live(pool, rec) && STILL(rec, state))
        fault(check, "record %x: leased by a party that is not there", index);
}

static int check_record(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    struct checking *check = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) > REC_TAIL) {
        fault(check, "record %x: state %d is none", index, rec_state(state));
    } else if (rec_state(state) != REC_FREE) {
        check_holder(pool, rec, index, state, check);
        check_place(pool, rec, index, state, check);
        check_views(pool, rec, index, state, check);
    }
    return 0;
}

/* No two live runs overlap, and no run is without its end. */
static void check_runs(struct cue_pool *pool, struct checking *check)
{
    uint32_t per = granules_per_extent(pool);
    for (uint32_t granule = 0; granule < pool->granules;) {
        if (!extent_meta_present(pool, extent_of_granule(pool, granule))) {
            granule = (granule / per + 1) * per;
            continue;
        }
        struct record *rec = granule_record(pool, granule);
        uint64_t state = atomic_load_explicit(&rec->state, acquire);
        uint64_t covers = rec_state(state) == REC_FREE ? 1 : rec_granules(rec);
        if (rec_state(state) != REC_FREE && (covers == 0 || covers > pool->granules - granule) && STILL(rec, state)) {
            fault(check, "record %x: a run of %llu granules", granule, (unsigned long long)covers);
            covers = 1;
        }
        for (uint32_t inner = 1; inner < covers && inner < pool->granules - granule; inner++) {
            uint32_t at = granule + inner;
            if (!extent_meta_present(pool, extent_of_granule(pool, at)))
                continue;
            uint64_t within = atomic_load_explicit(&granule_record(pool, at)->state, acquire);
            if (rec_state(within) != REC_FREE && rec_state(within) != REC_TAIL && STILL(rec, state))
                fault(check, "record %x: lies within the run of %x", at, granule);
        }
        granule += covers ? (uint32_t)covers : 1;
    }
}

/* An owner that is not there any more is no fault: whoever needs the place takes it over. */
static void check_owner(struct cue_pool *pool, struct checking *check, _Atomic uint64_t *owner, const char *what, uint32_t number)
{
    uint64_t word = atomic_load_explicit(owner, acquire);
    unsigned party = owner_party(word);
    if (owner_kind(word) > OWNER_CLAIM || (owner_kind(word) != OWNER_NONE && (party == 0 || party > pool->max_parties)))
        fault(check, "%s %u: its owner word makes no sense", what, number);
}

static void check_empty(struct cue_pool *pool, struct checking *check, uint32_t number)
{
    uint32_t first = number * granules_per_extent(pool);
    _Atomic uint64_t *owner = &pool->extents[number].owner;
    if (atomic_load_explicit(owner, acquire) != OWNER_EMPTY || !extent_meta_present(pool, number))
        return;
    for (uint32_t at = first; at < first + granules_per_extent(pool) && at < pool->granules; at++)
        if (rec_state(atomic_load_explicit(&granule_record(pool, at)->state, acquire)) != REC_FREE &&
            atomic_load_explicit(owner, acquire) == OWNER_EMPTY)
            fault(check, "extent %u: granule %x is in use, and the extent says that it is empty", number, at);
}

static void check_owners(struct cue_pool *pool, struct checking *check)
{
    unsigned shift = pool->extent_shift - pool->slab_shift;
    for (uint32_t n = 0; n < pool->nextents; n++) {
        check_owner(pool, check, &pool->extents[n].owner, "extent", n);
        check_empty(pool, check, n);
        for (uint32_t slab = n << shift;
             extent_meta_present(pool, n) && slab < (n + 1) << shift && first_granule_of_slab(pool, slab) < pool->granules; slab++)
            check_owner(pool, check, &slab_head(pool, slab)->owner, "slab", slab);
    }
}

int cue_pool_check(cue_pool *pool, bool repair, void (*line)(void *arg, const char *fault), void *arg)
{
    struct checking check = { line, arg, 0 };
    int status = pool_enter(pool);
    if (status)
        return status;
    if (repair && pool->flags & CUE_READ_ONLY)
        return trail(CUE_EPERM, "pool %s is open read-only", pool->name);
    if (repair) {
        pool_reap(pool);
        recovery_rebuild_hints(pool);
    }
    if (repair && !recovery_able(pool))
        fault(&check,
              "pool %s holds lanes or messages, and this program has nothing of the library's channels: it leaves the dead to others",
              pool->name);
    for (unsigned s = 0; s < pool->max_parties; s++)
        if (party_dead(pool, s, UINT32_MAX))
            fault(&check, "party %u (pid %d, %.63s) is dead and not cleaned up after", s + 1,
                  party_pid(atomic_load_explicit(&pool->parties[s].word, relaxed)), pool->parties[s].label);
    pool_each_record(pool, check_record, &check);
    check_runs(pool, &check);
    check_owners(pool, &check);
    return check.faults + directory_check(pool, line, arg);
}
