/* Budgets: what some blocks of a pool may sum up to, exactly, whoever is killed.
 *
 * A budget is a kept block that holds two counts, units and blocks. Its blocks are kept blocks of its types, so the records say what
 * is really taken; the counts say it at once.
 *
 *   alloc   a seat taken; counts raised unless that is beyond the limit; the block, born KEPT  !!; the seat given back
 *   free    a seat taken; the block KEPT -> FREE or DOOMED  !!; counts lowered; the seat given back
 *
 * So the counts are never less than the truth: within the limit by the counts is within the limit. They are more than the truth by
 * what operations are about to do, each of which shows in a seat, and by what the killed were about to do, and by blocks that were
 * freed by cue_block_free alone. The latter two are the drift. Who is about to be refused computes it, from a look at the counts, the
 * records and the seats between which no operation began or ended:
 *
 *   drift = count - sum over the records - what the seats of those who lived before the look may be about to do
 *
 * and takes it off. It may be found too small (a living seat may have done its part already), never too big, and stays true whatever
 * happens after the look, for nobody else takes it off: the CAS that does also raises the number of settlements, which must be that of
 * the look (16 bits: 65,536 settlements while one who settles is stopped would deceive it).
 *
 * A seat's word never comes back, even when it is idle, so equal seats before and after mean that nobody began or ended in between;
 * who is stopped in the middle of an operation keeps a busy seat and disturbs no one. Where so much goes on that there is never a quiet
 * moment, the one who settles asks the others to hold back for at most HOLD_NS: by a time, so that its death holds back nobody.
 *
 * Crash points: killed with a seat: the seat is dead, which the kernel says, and its part is drift. Killed before the block is KEPT:
 * recovery frees the block, and the raise is drift. Killed after the free, before the counts: the same. Killed between the two CASes of
 * a settlement: the other count is settled by the next one. Model: budget.pml.
 */
#include "budget_layout.h"
#include "pool_private.h"

#include <string.h>

enum { LOOKS = 8, MORE_LOOKS = 400, SIT_TRIES = 1000 };
static const int64_t HOLD_NS = 20 * 1000 * 1000, NAP_NS = 50 * 1000;

/* The budget that a handle shows, its constants checked. */
struct budget_ref {
    struct cue_pool *pool;
    struct budget *words;
    uint64_t limit, max_blocks; /* units, blocks */
    unsigned shift;             /* of a unit */
    uint32_t type;
};

static int constants_check(uint64_t bytes, uint64_t least, uint32_t type)
{
    if (!least || least & (least - 1) || bytes / least > BUDGET_COUNT_MAX)
        return trail(CUE_EINVAL, "a budget of %llu bytes, of which the smallest block counts %llu: that must be a power of two",
                     (unsigned long long)bytes, (unsigned long long)least);
    if (!type || type > POOL_TYPE_SYSTEM - BUDGET_TYPES)
        return trail(CUE_EINVAL, "a budget's types begin at %#x: they lie above 0 and below %#x", type, POOL_TYPE_SYSTEM);
    return 0;
}

static int budget_open(const cue_block *b, struct budget_ref *out)
{
    struct block_ref ref;
    int status = handle_open(b, &ref);
    if (!status)
        status = pool_enter(ref.pool);
    if (status)
        return status;
    struct budget *words = b->size >= sizeof *words ? b->data : NULL;
    if (!words || words->magic != BUDGET_MAGIC)
        return trail(CUE_ETYPE, "block %x of pool %s is no budget", ref.index, ref.pool->name);
    if (constants_check(words->bytes, words->least, words->type))
        return trail(CUE_ECORRUPT, "the budget in block %x of pool %s makes no sense", ref.index, ref.pool->name);
    out->pool = ref.pool;
    out->words = words;
    out->shift = (unsigned)__builtin_ctzll(words->least);
    out->limit = words->bytes >> out->shift;
    out->max_blocks = words->max_blocks && words->max_blocks < BUDGET_COUNT_MAX ? words->max_blocks : BUDGET_COUNT_MAX;
    out->type = words->type;
    return 0;
}

/* 1 + the logarithm of the units that a block of this size counts; 0: none. */
static unsigned weight_of(const struct budget_ref *budget, uint64_t size)
{
    if (size == 0)
        return 0;
    unsigned log = size == 1 ? 0 : 64 - (unsigned)__builtin_clzll(size - 1);
    return 1 + (log > budget->shift ? log - budget->shift : 0);
}

static uint64_t units_of(unsigned weight)
{
    return weight ? UINT64_C(1) << (weight - 1) : 0;
}

/* ---- counts ---- */

static uint64_t count_of(uint64_t word)
{
    return word & BUDGET_COUNT_MAX;
}

/* False: it would be beyond the limit. */
static bool count_raise(_Atomic uint64_t *count, uint64_t by, uint64_t limit)
{
    uint64_t word = atomic_load_explicit(count, relaxed); /* the CAS decides */
    do
        if (by > limit || count_of(word) > limit - by)
            return false;
    while (!atomic_compare_exchange_weak_explicit(count, &word, word + by, seq_cst, relaxed)); /* pairs with: look */
    return true;
}

static void count_lower(_Atomic uint64_t *count, uint64_t by)
{
    uint64_t word = atomic_load_explicit(count, relaxed); /* the CAS decides */
    while (!atomic_compare_exchange_weak_explicit(count, &word, word - (by < count_of(word) ? by : count_of(word)), seq_cst,
                                                  relaxed)) /* pairs with: look */
        ;
}

static void peak_raise(struct budget *words)
{
    uint64_t now = count_of(atomic_load_explicit(&words->blocks, relaxed)),
             peak = atomic_load_explicit(&words->peak, relaxed); /* for people */
    while (now > peak && !atomic_compare_exchange_weak_explicit(&words->peak, &peak, now, relaxed, relaxed))
        ;
}

/* ---- seats ---- */

static bool seat_dead(struct cue_pool *pool, uint64_t seat)
{
    unsigned slot = (unsigned)(seat >> 1) & 127;
    if (slot >= pool->max_parties)
        return true;
    uint64_t party = atomic_load_explicit(&pool->parties[slot].word, acquire);
    if (party_state(party) != PARTY_LIVE || (party_epoch(party) & SEAT_EPOCH_MASK) != (seat >> 8 & SEAT_EPOCH_MASK))
        return true; /* the operation's party is gone, whoever has its slot now */
    return party_dead(pool, slot, party_epoch(party));
}

static void hold_back(const struct budget_ref *budget)
{
    uint64_t until = atomic_load_explicit(&budget->words->hold_until, relaxed); /* a request */
    while (__builtin_expect(until != 0, 0)) {
        int64_t left = (int64_t)until - clock_ns();
        if (left <= 0 || left > HOLD_NS)
            return;
        struct timespec nap = { .tv_nsec = NAP_NS };
        nanosleep(&nap, NULL);
        until = atomic_load_explicit(&budget->words->hold_until, relaxed);
    }
}

/* Any idle seat, for one operation. */
static int sit_down(const struct budget_ref *budget, unsigned weight, _Atomic uint64_t **seat)
{
    struct cue_pool *pool = budget->pool;
    uint64_t mine = SEAT_BUSY | (uint64_t)pool->self << 1 | (pool->epoch & SEAT_EPOCH_MASK) << 8 | (uint64_t)weight << 26;
    hold_back(budget);
    for (unsigned tries = 0; tries < SIT_TRIES; tries++)
        for (unsigned n = 0; n < BUDGET_SEATS; n++) {
            *seat = &budget->words->seats[(pool->self + n) % BUDGET_SEATS].word;
            uint64_t word = atomic_load_explicit(*seat, relaxed); /* the CAS decides */
            if (word & SEAT_BUSY && (tries == 0 || !seat_dead(pool, word)))
                continue;
            uint64_t next = mine | ((word >> 32) + 1) << 32;
            if (atomic_compare_exchange_strong_explicit(*seat, &word, next, seq_cst, relaxed)) /* pairs with: look */
                return 0;
        }
    return trail(CUE_EBUSY, "%d operations on a budget of pool %s are under way", BUDGET_SEATS, pool->name);
}

static void stand_up(_Atomic uint64_t *seat)
{
    uint64_t word = atomic_load_explicit(seat, relaxed);                /* ours */
    atomic_store_explicit(seat, word & ~UINT64_C(0xffffffff), seq_cst); /* pairs with: look */
}

/* ---- settling ---- */

struct sums {
    const struct budget_ref *budget;
    uint64_t units, blocks;
};

static int sum_record(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)pool, (void)index;
    struct sums *sums = arg;
    uint64_t state = atomic_load_explicit(&rec->state, seq_cst); /* pairs with: the commits of alloc and free */
    uint32_t type = atomic_load_explicit(&rec->type, relaxed);   /* pairs with: the state word */
    if (rec_state(state) == REC_KEPT && type - sums->budget->type < BUDGET_TYPES) {
        sums->units += units_of(weight_of(sums->budget, rec_size(rec)));
        sums->blocks++;
    }
    return 0;
}

struct look {
    uint64_t used, blocks; /* the words */
    uint64_t seats[BUDGET_SEATS];
    uint64_t used_drift, blocks_drift; /* what they are too high by, or more */
};

static uint64_t drift_of(uint64_t word, uint64_t records, uint64_t pending)
{
    uint64_t count = count_of(word);
    return count > records + pending ? count - records - pending : 0;
}

/* False: somebody did something meanwhile. */
static bool look(const struct budget_ref *budget, struct look *out)
{
    struct budget *words = budget->words;
    struct sums sums = { .budget = budget };
    uint64_t units = 0, blocks = 0;
    for (unsigned n = 0; n < BUDGET_SEATS; n++) {
        out->seats[n] = atomic_load_explicit(&words->seats[n].word, seq_cst);
        /* before the walk: who dies later may have made a block after we have passed its record */
        if (!(out->seats[n] & SEAT_BUSY) || seat_dead(budget->pool, out->seats[n]))
            continue;
        units += units_of((unsigned)(out->seats[n] >> 26) & 63);
        blocks++;
    }
    out->used = atomic_load_explicit(&words->used, seq_cst);
    out->blocks = atomic_load_explicit(&words->blocks, seq_cst);
    pool_each_record(budget->pool, sum_record, &sums);
    if (atomic_load_explicit(&words->used, seq_cst) != out->used || atomic_load_explicit(&words->blocks, seq_cst) != out->blocks)
        return false;
    for (unsigned n = 0; n < BUDGET_SEATS; n++)
        if (atomic_load_explicit(&words->seats[n].word, seq_cst) != out->seats[n])
            return false;
    out->used_drift = drift_of(out->used, sums.units, units);
    out->blocks_drift = drift_of(out->blocks, sums.blocks, blocks);
    return true;
}

static bool count_settle(_Atomic uint64_t *count, uint64_t seen, uint64_t drift)
{
    uint64_t word = atomic_load_explicit(count, relaxed); /* the CAS decides */
    while (drift && word >> BUDGET_COUNT_BITS == seen >> BUDGET_COUNT_BITS && count_of(word) >= drift)
        if (atomic_compare_exchange_weak_explicit(count, &word, word - drift + (UINT64_C(1) << BUDGET_COUNT_BITS), seq_cst,
                                                  relaxed)) /* !! */
            return true;
    return false;
}

static bool look_long(const struct budget_ref *budget, struct look *out, bool insist)
{
    for (unsigned n = 0; n < LOOKS; n++)
        if (look(budget, out))
            return true;
    if (!insist)
        return false;
    uint64_t until = (uint64_t)(clock_ns() + HOLD_NS);
    bool done = false;
    atomic_store_explicit(&budget->words->hold_until, until, relaxed); /* a request, as in hold_back */
    for (unsigned n = 0; n < MORE_LOOKS && !done && clock_ns() < (int64_t)until; n++)
        done = look(budget, out);
    cas(&budget->words->hold_until, &until, 0);
    return done;
}

/* Takes the drift off. Whether there was any. `insist`: others may be held back for it. */
static bool settle(const struct budget_ref *budget, bool insist)
{
    struct look seen;
    pool_reap(budget->pool); /* what the dead owned is freed first */
    if (!look_long(budget, &seen, insist))
        return false;
    bool used = count_settle(&budget->words->used, seen.used, seen.used_drift);
    bool blocks = count_settle(&budget->words->blocks, seen.blocks, seen.blocks_drift);
    for (unsigned n = 0; n < BUDGET_SEATS; n++) /* the dead ones' parts are drift from now on, found by the next look at the latest */
        if (seen.seats[n] & SEAT_BUSY && seat_dead(budget->pool, seen.seats[n]))
            cas(&budget->words->seats[n].word, &seen.seats[n], seen.seats[n] & ~UINT64_C(0xffffffff));
    return used || blocks;
}

/* ---- the calls ---- */

int cue_budget_make(cue_pool *pool, const char *name, const cue_budget_opts *opts, cue_block *out)
{
    if (!pool || !name || !opts || !out)
        return trail(CUE_EINVAL, "cue_budget_make: a pool, a name, options and a place for the result are needed");
    memset(out, 0, sizeof *out);
    if (opts->spare[0] | opts->spare[1] | opts->spare[2] | opts->spare[3] | opts->spare0)
        return trail(CUE_EVERSION, "an option of cue_budget_make that this version does not know (spare words must be zero)");
    int status = constants_check(opts->bytes, opts->least, opts->type);
    if (!status)
        status = cue_block_alloc(pool, sizeof(struct budget), &(cue_block_opts){ .name = name, .flags = CUE_ZERO }, out);
    if (status)
        return status;
    struct budget *words = out->data;
    words->magic = BUDGET_MAGIC;
    words->bytes = opts->bytes;
    words->least = opts->least;
    words->max_blocks = opts->max_blocks;
    words->type = opts->type;
    status = cue_block_publish(out, 0);
    if (status)
        cue_block_release(out);
    return status;
}

struct budget_try {
    const struct budget_ref *budget;
    size_t size;
    unsigned weight;
    uint32_t type;
    bool waits;
    int64_t settled_ns; /* when this call last looked for drift */
    int lack;           /* what the last try missed: CUE_ENOMEM, CUE_ELIMIT */
    cue_block *out;
};

static int try_once(struct budget_try *want)
{
    const struct budget_ref *budget = want->budget;
    struct budget *words = budget->words;
    uint64_t units = units_of(want->weight);
    _Atomic uint64_t *seat;
    int status = sit_down(budget, want->weight, &seat);
    if (status)
        return status;
    want->lack = 0;
    if (!count_raise(&words->used, units, budget->limit)) {
        want->lack = CUE_ENOMEM;
    } else if (!count_raise(&words->blocks, 1, budget->max_blocks)) {
        count_lower(&words->used, units);
        want->lack = CUE_ELIMIT;
    } else {
        status = cue_block_alloc(budget->pool, want->size, &(cue_block_opts){ .type = want->type, .flags = CUE_KEEP }, want->out);
        if (status) {
            count_lower(&words->blocks, 1);
            count_lower(&words->used, units);
        } else {
            peak_raise(words);
        }
    }
    stand_up(seat);
    return want->lack ? CUE_ENOMEM : status;
}

/* Who waits looks for drift once a watch period, others whenever they are about to be refused: it is a walk over the records. */
static int budget_try(struct cue_pool *pool, void *arg)
{
    (void)pool;
    struct budget_try *want = arg;
    int status = try_once(want);
    int64_t now = want->lack ? clock_ns() : 0;
    if (!want->lack || (want->waits && now - want->settled_ns < WATCH_PERIOD_NS))
        return status;
    want->settled_ns = now;
    settle(want->budget, true);
    return try_once(want); /* also if somebody else has settled it meanwhile */
}

static int refused(const struct budget_try *want)
{
    const struct budget_ref *budget = want->budget;
    unsigned long long blocks = count_of(atomic_load_explicit(&budget->words->blocks, relaxed)); /* for people */
    unsigned long long used = count_of(atomic_load_explicit(&budget->words->used, relaxed)) << budget->shift;
    if (want->lack == CUE_ELIMIT)
        return trail(CUE_ELIMIT, "%llu blocks live under the budget of pool %s, as many as may", blocks, budget->pool->name);
    return trail(CUE_ENOMEM, "%zu bytes count %llu, and %llu of the budget of %llu in pool %s are taken", want->size,
                 (unsigned long long)units_of(want->weight) << budget->shift, used, (unsigned long long)budget->words->bytes,
                 budget->pool->name);
}

/* Only the caller's `stop`, if there is one, makes an end before its time. */
static int stopped(void *arg, bool signalled)
{
    const cue_budget_want *ask = arg;
    return (ask->stop ? ask->stop(ask->arg) != 0 : signalled) ? CUE_EINTR : 0;
}

static int budget_alloc(const struct budget_ref *budget, const cue_budget_want *ask, size_t size, cue_block *out)
{
    struct budget_try want = { .budget = budget, .size = size, .type = budget->type + ask->subtype, .waits = ask->wait.ns > 0, .out = out };
    if (size > PTRDIFF_MAX || units_of(want.weight = weight_of(budget, size)) > budget->limit)
        return trail(CUE_ETOOBIG, "%zu bytes are beyond the whole budget of %llu in pool %s", size,
                     (unsigned long long)budget->words->bytes, budget->pool->name);
    uint32_t limit = budget->type | 1; /* no two budgets share one, nor is it 0 */
    bool behind = want.waits && room_awaited(budget->pool, limit);
    int status = behind ? CUE_ENOMEM : budget_try(budget->pool, &want);
    if (status == CUE_ENOMEM && want.waits) {
        cue_budget_want asked = *ask;
        struct room_until until = { .deadline = deadline_of(ask->wait), .over = stopped, .arg = &asked };
        status = room_wait(budget->pool, limit, &until, budget_try, &want);
    }
    return status == CUE_ENOMEM && want.lack ? refused(&want) : status;
}

int cue_budget_alloc(const cue_block *b, size_t size, const cue_budget_want *want, cue_block *out)
{
    struct budget_ref budget;
    if (!want || !out)
        return trail(CUE_EINVAL, "cue_budget_alloc: what is wanted, or a place for the result, is missing");
    memset(out, 0, sizeof *out);
    if (want->subtype >= BUDGET_TYPES || want->spare[0] | want->spare[1])
        return trail(CUE_EINVAL, "cue_budget_alloc: subtype %u is more than %d, or a spare word is not zero", want->subtype,
                     BUDGET_TYPES - 1);
    int status = budget_open(b, &budget);
    if (!status && budget.pool->flags & CUE_READ_ONLY)
        status = trail(CUE_EPERM, "pool %s is open read-only", budget.pool->name);
    if (!status && want->wait.ns > 0)
        status = pool_wait_begin(budget.pool);
    if (status)
        return status;
    status = budget_alloc(&budget, want, size, out);
    if (want->wait.ns > 0)
        pool_wait_end(budget.pool);
    return status;
}

int cue_budget_free(const cue_block *budget_block, cue_block *b)
{
    struct budget_ref budget;
    struct block_ref ref;
    _Atomic uint64_t *seat;
    int status = budget_open(budget_block, &budget);
    if (!status)
        status = handle_open(b, &ref);
    if (status)
        return status;
    if (ref.pool != budget.pool ||
        atomic_load_explicit(&ref.rec->type, relaxed) - budget.type >= BUDGET_TYPES) /* the handle's lease keeps it */
        return trail(CUE_ETYPE, "block %x of pool %s is not under this budget", ref.index, ref.pool->name);
    unsigned weight = weight_of(&budget, rec_size(ref.rec));
    status = sit_down(&budget, weight, &seat);
    if (status)
        return status;
    status = cue_block_free(b);
    if (!status) {
        count_lower(&budget.words->blocks, 1);
        count_lower(&budget.words->used, units_of(weight));
    }
    stand_up(seat);
    room_wake(budget.pool);
    return status;
}

int cue_budget_stat(const cue_block *b, cue_budget_info *out)
{
    struct budget_ref budget;
    if (!out)
        return trail(CUE_EINVAL, "cue_budget_stat: no place for the result");
    memset(out, 0, sizeof *out);
    int status = budget_open(b, &budget);
    if (status)
        return status;
    out->bytes = budget.words->bytes;
    out->least = budget.words->least;
    out->max_blocks = budget.words->max_blocks;
    out->type = budget.type;
    out->used = count_of(atomic_load_explicit(&budget.words->used, acquire)) << budget.shift; /* for people, as are the next two */
    out->blocks = count_of(atomic_load_explicit(&budget.words->blocks, acquire));
    out->peak_blocks = atomic_load_explicit(&budget.words->peak, acquire);
    return 0;
}

int cue_budget_settle(const cue_block *b)
{
    struct budget_ref budget;
    int status = budget_open(b, &budget);
    if (!status && budget.pool->flags & CUE_READ_ONLY)
        status = trail(CUE_EPERM, "pool %s is open read-only", budget.pool->name);
    return status ? status : settle(&budget, false);
}
