/* Counts for people: of the pool, of each party, of each type.
 *
 * All of them come from one walk over the records, which are the only truth, while others go on working: nothing is counted when
 * blocks are made and freed, and a kill cannot make a count wrong. A count is a moving picture.
 */
#include "pool_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool holds_block(uint64_t state)
{
    enum record_state is = rec_state(state);
    return is != REC_FREE && is != REC_SLAB && is != REC_TAIL && is < REC_TAIL;
}

static int tally_record(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    cue_pool_info *info = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire), capacity;
    char *data;
    enum record_state is = rec_state(state);
    if (!holds_block(state))
        return 0;
    info->blocks++;
    if (pool_bytes(pool, index, &data, &capacity))
        info->used += capacity;
    uint32_t type = atomic_load_explicit(&rec->type, relaxed); /* pairs with: the state word */
    if (is == REC_KEPT && type < POOL_TYPE_SYSTEM)
        info->kept++;
    if (is == REC_SENT || is == REC_POSTED)
        info->in_flight++;
    return 0;
}

/* Granules that are part of no run, and the longest row of them. */
static void tally_free(struct cue_pool *pool, cue_pool_info *info)
{
    uint64_t row = 0, granules = 0, longest = 0;
    uint32_t per = granules_per_extent(pool);
    for (uint64_t granule = 0; granule < pool->granules;) {
        uint64_t covers = 1;
        uint32_t at = (uint32_t)granule;
        bool used = false;
        if (!extent_meta_present(pool, extent_of_granule(pool, at))) {
            covers = per - at % per; /* never used */
        } else {
            const struct record *rec = granule_record(pool, at);
            used = rec_state(atomic_load_explicit(&rec->state, acquire)) != REC_FREE;
            covers = used && rec_granules(rec) ? rec_granules(rec) : 1;
        }
        if (covers > pool->granules - granule)
            covers = pool->granules - granule;
        row = used ? 0 : row + covers;
        granules += used ? 0 : covers;
        longest = row > longest ? row : longest;
        granule += covers;
    }
    info->free = granules << POOL_GRANULE_SHIFT;
    info->largest = longest << POOL_GRANULE_SHIFT;
}

int cue_pool_stat(struct cue_pool *pool, cue_pool_info *out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_pool_stat: no place for the result");
    memset(out, 0, sizeof *out);
    int status = pool_enter(pool);
    if (status)
        return status;
    out->name = pool->name;
    out->uid = pool->uid;
    out->size = pool->data_bytes;
    out->peak = atomic_load_explicit(&pool->header->peak, relaxed); /* counts for people, as all below */
    out->taken = atomic_load_explicit(&pool->header->present, relaxed);
    out->reaped = atomic_load_explicit(&pool->header->reaped, relaxed);
    out->copied = atomic_load_explicit(&pool->copied, relaxed);
    out->max_allocations = pool->max_allocations;
    out->quota = pool->quota;
    for (unsigned s = 0; s < pool->max_parties; s++) {
        out->parties += party_state(atomic_load_explicit(&pool->parties[s].word, relaxed)) == PARTY_LIVE;
        out->waiters +=
            atomic_load_explicit(&pool->parties[s].waiting, relaxed) || atomic_load_explicit(&pool->parties[s].limited, relaxed);
        out->failed += atomic_load_explicit(&pool->parties[s].failed, relaxed);
    }
    pool_each_record(pool, tally_record, out);
    tally_free(pool, out);
    return 0;
}

/* ---- by party ---- */

struct by_party {
    uint64_t blocks, bytes, leases;
};

static int count_party(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    struct by_party *counts = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire), capacity;
    unsigned party = rec_party(state);
    char *data;
    if (!holds_block(state))
        return 0;
    if (rec_state(state) != REC_DOOMED && party && party <= pool->max_parties) {
        counts[party - 1].blocks++;
        if (pool_bytes(pool, index, &data, &capacity))
            counts[party - 1].bytes += capacity;
    }
    for (unsigned w = 0; w < 2; w++)
        for (uint64_t bits = atomic_load_explicit(&rec->lease[w], relaxed); bits; bits &= bits - 1) { /* a count for people */
            unsigned slot = w * 64 + (unsigned)__builtin_ctzll(bits);
            if (slot < pool->max_parties)
                counts[slot].leases++;
        }
    return 0;
}

int cue_pool_parties(cue_pool *pool, cue_party_info *rows, size_t n)
{
    struct by_party counts[POOL_MAX_PARTIES];
    size_t found = 0;
    int status = pool_enter(pool);
    if (status || (!rows && n))
        return status ? status : trail(CUE_EINVAL, "cue_pool_parties: no place for %zu rows", n);
    memset(counts, 0, sizeof counts);
    pool_each_record(pool, count_party, counts);
    for (unsigned slot = 0; slot < pool->max_parties; slot++) {
        struct party *party = &pool->parties[slot];
        uint64_t word = atomic_load_explicit(&party->word, acquire);
        if (party_state(word) != PARTY_LIVE)
            continue;
        if (found++ >= n)
            continue;
        cue_party_info *row = &rows[found - 1];
        memset(row, 0, sizeof *row);
        row->party = slot + 1;
        row->pid = party_pid(word);
        /* made readable by LIVE, or counts for people */
        row->uid = atomic_load_explicit(&party->uid, relaxed);
        row->gid = atomic_load_explicit(&party->gid, relaxed);
        row->since_ns = atomic_load_explicit(&party->since_ns, relaxed);
        row->start = atomic_load_explicit(&party->start, relaxed);
        row->quota = atomic_load_explicit(&party->quota, relaxed);
        row->failed = atomic_load_explicit(&party->failed, relaxed);
        row->blocks = counts[slot].blocks;
        row->bytes = counts[slot].bytes;
        row->leases = counts[slot].leases;
        row->dead = party_dead(pool, slot, party_epoch(word));
        snprintf(row->label, sizeof row->label, "%.63s", party->label);
    }
    return (int)found;
}

/* ---- by type ---- */

struct by_type {
    cue_type_info *rows;
    size_t found, room;
};

/* Rows stand in order of type. */
static int count_type(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    struct by_type *by = arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire), capacity;
    char *data;
    if (!holds_block(state))
        return 0;
    uint32_t type = atomic_load_explicit(&rec->type, relaxed); /* pairs with: the state word */
    size_t low = 0, high = by->found;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (by->rows[middle].type < type)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == by->found || by->rows[low].type != type) {
        if (by->found == by->room) {
            size_t room = by->room ? 2 * by->room : 64;
            cue_type_info *more = realloc(by->rows, room * sizeof *more);
            if (!more)
                return trail(CUE_ENOMEM, "no process memory for %zu types", room);
            by->rows = more;
            by->room = room;
        }
        memmove(&by->rows[low + 1], &by->rows[low], (by->found++ - low) * sizeof *by->rows);
        by->rows[low] = (cue_type_info){ .type = type };
    }
    by->rows[low].blocks++;
    by->rows[low].kept += rec_state(state) == REC_KEPT;
    if (pool_bytes(pool, index, &data, &capacity))
        by->rows[low].bytes += capacity;
    return 0;
}

int cue_pool_types(cue_pool *pool, cue_type_info *rows, size_t n)
{
    struct by_type by = { 0 };
    int status = pool_enter(pool);
    if (status || (!rows && n))
        return status ? status : trail(CUE_EINVAL, "cue_pool_types: no place for %zu rows", n);
    status = pool_each_record(pool, count_type, &by);
    if (!status && n && by.found)
        memcpy(rows, by.rows, (by.found < n ? by.found : n) * sizeof *rows);
    free(by.rows);
    return status ? status : (int)by.found;
}
