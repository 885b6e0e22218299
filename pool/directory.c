/* The directory: from a key to a record.
 *
 * A key is (type, id) or a name. Its slots are two windows of eight in each level that is present; levels grow by sixteen, so a
 * pool with few keys needs 8 KiB and one with millions still looks at few lines. A slot holds the index of a record, low bits
 * of its generation and a fingerprint of the key; the key itself is in the record. A slot whose record has moved on is empty
 * for everyone: freeing a block removes its key.
 *
 * Reserve, without a lock (model dir.pml): claim an empty slot as PENDING; look at all the key's other slots: LIVE -> it is
 * taken; PENDING -> kill it; then PENDING -> LIVE is the commit, which fails if somebody killed us meanwhile. Each commits
 * only if nobody who looked later killed it, and who looks later sees it: so a key is LIVE at most once, and nobody waits for
 * anybody. Publishers of one key may kill each other, hence a random back-off. Claim and look are both seq_cst: my write, then
 * your word.
 *
 * A new level: it is made present, then `dir_top` is raised (seq_cst), then its slots may be used. A publisher loads dir_top
 * after its PENDING and looks at all levels up to there: either it sees the level, or the level was raised after that load
 * and whoever reserves in it comes later and sees our PENDING. (Model: levels.pml; reading dir_top before PENDING fails.)
 *
 * Reserved is not found: a look-up wants KEPT or PUBLISHED in the state word, so a block's publish is one CAS there and the
 * directory needs no second commit. Waiters sleep on one of 64 version words, chosen by the key; publish adds to it.
 *
 * Replacing. A block that shall take a key over from its holder X is KEPT | REPLACING with its party first, X's index in `lane`,
 * then X's slot is CASed to it: the commit. Then X is freed and REPLACING goes. Look-ups reach it through the slot only, so there
 * is no moment without a holder. Killed before the CAS: recovery frees the new block. Killed after it: recovery frees X and
 * clears REPLACING. Who replaces a block that is REPLACING itself frees that one and its former, so it does not matter whose
 * maker died first; X's generation is noted beside its index, so nobody frees another block in its place. A holder that is not
 * published yet is somebody's work in progress: EBUSY.
 *
 * Speed. A look-up needs two lines, the window and the record, and in a large pool neither is in the cache. So both are fetched at a time
 * where it can be guessed which record it will be (guesses), and many look-ups at a time where there are many (cue_block_find_many).
 * Both only fetch: what is found is found as ever.
 *
 * Crash points: killed with PENDING: anybody kills it. Killed with LIVE before publish: recovery frees the block, and the slot
 * is stale with it.
 */
#include "pool_private.h"

#include "base/process.h"
#include "base/shm.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TRIES = 16, WINDOWS = 2 };

struct wanted {
    cue_key key;
    uint64_t hash;
};

static uint64_t hash_key(cue_key key)
{
    if (key.name)
        return directory_name_hash(key.name);
    uint64_t hash = key.id * 0x9e3779b97f4a7c15 ^ (uint64_t)key.type * 0xc2b2ae3d27d4eb4f;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93;
    return hash ^ hash >> 29;
}

uint64_t directory_name_hash(const char *name)
{
    return hash_bytes(name, strlen(name), 0x6e616d65);
}

int name_check(const char *name)
{
    if (shm_name_valid(name))
        return 0;
    return trail(CUE_EINVAL, "\"%.80s\" is no name: 1 to 63 characters of A-Z a-z 0-9 . _ -", name ? name : "(null)");
}

/* ---- slots ---- */

static uint64_t slot_word(uint32_t index, uint64_t generation, uint64_t hash, enum dir_state state)
{
    return (uint64_t)index << 32 | (generation & 0x3ffff) << 14 | (hash >> 52) << 2 | state;
}

static bool slot_matches_hash(uint64_t slot, uint64_t hash)
{
    return (slot >> 2 & 0xfff) == hash >> 52;
}

static inline uint64_t level_slots(unsigned level)
{
    return (uint64_t)POOL_DIR_FIRST << (4 * level);
}

static inline uint64_t level_start(unsigned level) /* the slots of all levels before it */
{
    return (level_slots(level) - POOL_DIR_FIRST) / 15;
}

uint64_t directory_slots_for(uint64_t keys, uint32_t *levels)
{
    *levels = 1;
    while (*levels < POOL_DIR_LEVELS && level_slots(*levels - 1) < 2 * keys)
        ++*levels;
    return level_start(*levels);
}

static _Atomic uint64_t *window_of(const struct cue_pool *pool, unsigned level, uint64_t hash, unsigned which)
{
    uint64_t mixed = which ? (hash * 0x9e3779b97f4a7c15) >> 20 : hash;
    return pool->directory + level_start(level) + (mixed & (level_slots(level) / POOL_DIR_WINDOW - 1)) * POOL_DIR_WINDOW;
}

static unsigned levels_present(const struct cue_pool *pool, memory_order order)
{
    unsigned top = atomic_load_explicit(&pool->header->dir_top, order);
    return top <= pool->dir_levels ? top : pool->dir_levels; /* damage must not lead us out */
}

/* Under a lease: its bytes could be given back to the system otherwise. An observer copies them. */
static bool key_equal_name(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, const char *name)
{
    char *data, copy[POOL_NAME_BYTES];
    uint64_t capacity;
    if (pool->flags & CUE_READ_ONLY)
        return pool_bytes(pool, index, &data, &capacity) && name_copy(pool, data, capacity, copy) && strcmp(copy, name) == 0;
    if (lease_take(pool, rec, index, generation))
        return false;
    bool equal = pool_bytes(pool, index, &data, &capacity) && strncmp(data + capacity, name, POOL_NAME_BYTES) == 0;
    lease_drop(pool, rec, index, generation);
    return equal;
}

/* Does this slot's record live and have this key? Tells its state word. */
static bool slot_holds(struct cue_pool *pool, uint64_t slot, const struct wanted *want, uint64_t *state)
{
    uint32_t index = (uint32_t)(slot >> 32);
    struct record *rec = pool_record(pool, index);
    if (!rec)
        return false;
    *state = atomic_load_explicit(&rec->state, acquire);
    if (!rec_live(*state) || (rec_generation(*state) & 0x3ffff) != (slot >> 14 & 0x3ffff))
        return false;
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* pairs with: the state word, as the next ones */
    if (!(note & NOTE_KEYED) || !(note & NOTE_NAMED) != !want->key.name)
        return false;
    if (want->key.name)
        return atomic_load_explicit(&rec->name_hash, relaxed) == (uint32_t)want->hash &&
               key_equal_name(pool, rec, index, rec_generation(*state), want->key.name);
    bool equal = atomic_load_explicit(&rec->type, relaxed) == want->key.type && atomic_load_explicit(&rec->id, relaxed) == want->key.id;
    atomic_thread_fence(acquire); /* the key before the second look at the state */
    uint64_t again = atomic_load_explicit(&rec->state, relaxed);
    return equal && rec_generation(again) == rec_generation(*state);
}

static bool slot_vacant(struct cue_pool *pool, uint64_t slot)
{
    if ((slot & 3) == DIR_EMPTY)
        return true;
    struct record *rec = pool_record(pool, (uint32_t)(slot >> 32));
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    return !rec || !rec_live(state) || (rec_generation(state) & 0x3ffff) != (slot >> 14 & 0x3ffff);
}

/* ---- reserve ---- */

static _Atomic uint64_t *claim_in_level(struct cue_pool *pool, unsigned level, uint64_t hash, uint64_t pending)
{
    for (unsigned which = 0; which < WINDOWS; which++) {
        _Atomic uint64_t *window = window_of(pool, level, hash, which);
        for (unsigned i = 0; i < POOL_DIR_WINDOW; i++) {
            uint64_t slot = atomic_load_explicit(&window[i], acquire);
            if (slot_vacant(pool, slot) && atomic_compare_exchange_strong_explicit(&window[i], &slot, pending, seq_cst, acquire))
                return &window[i];
        }
    }
    return NULL;
}

static int level_add(struct cue_pool *pool, unsigned top)
{
    if (top >= pool->dir_levels)
        return trail(CUE_ELIMIT, "the directory of pool %s is full (%llu keys expected): see max_blocks of cue_pool_opts", pool->name,
                     (unsigned long long)pool->dir_slots / 2);
    uint64_t at = (uint64_t)((char *)pool->directory - (char *)pool->header) + level_start(top) * sizeof(uint64_t),
             bytes = level_slots(top) * sizeof(uint64_t);
    int status = shm_populate(pool->fd, pool->header, at, bytes);
    uint32_t expected = top;
    if (!status && atomic_compare_exchange_strong_explicit(&pool->header->dir_top, &expected, top + 1, seq_cst, acquire))
        pool_count_present(pool, (int64_t)bytes);
    return status;
}

/* The topmost level first: most keys are there. */
static int slot_claim(struct cue_pool *pool, uint64_t hash, uint64_t pending, _Atomic uint64_t **slot)
{
    for (;;) {
        unsigned top = levels_present(pool, acquire);
        for (unsigned level = top; level-- > 0;)
            if ((*slot = claim_in_level(pool, level, hash, pending)))
                return 0;
        int status = level_add(pool, top);
        if (status)
            return status;
    }
}

/* Looks at the key's other slots; CUE_EEXIST if one is LIVE; kills those PENDING, and empties those whose record is gone: who
 * wants to replace it by a CAS of that slot must not find it as it was. */
static int rivals_meet(struct cue_pool *pool, const struct wanted *want, const _Atomic uint64_t *mine)
{
    unsigned top = levels_present(pool, seq_cst); /* after PENDING: pairs with level_add */
    for (unsigned n = 0; n < top * WINDOWS * POOL_DIR_WINDOW; n++) {
        _Atomic uint64_t *slot =
            window_of(pool, n / (WINDOWS * POOL_DIR_WINDOW), want->hash, n / POOL_DIR_WINDOW % WINDOWS) + n % POOL_DIR_WINDOW;
        uint64_t state, word = atomic_load_explicit(slot, seq_cst); /* pairs with: claim_in_level */
        while (slot != mine && (word & 3) != DIR_EMPTY && slot_matches_hash(word, want->hash)) {
            bool holds = slot_holds(pool, word, want, &state);
            if (holds && (word & 3) == DIR_LIVE)
                return CUE_EEXIST;
            if (!holds && !slot_vacant(pool, word))
                break; /* another key */
            if (atomic_compare_exchange_strong_explicit(slot, &word, 0, seq_cst, seq_cst))
                break;
        }
    }
    return 0;
}

static void back_off(struct cue_pool *pool, int tries)
{
    uint32_t seed = atomic_fetch_add_explicit(&pool->dir_seed, 0x9e3779b9, relaxed); /* private */
    uint32_t turns = ((seed ^ seed >> 15) * 0x2c1b3c6d >> 8) % (64u << tries);
    for (uint32_t i = 0; i < turns; i++)
        cpu_relax();
    if (tries > 2)
        sched_yield();
}

/* The key of a record, which may be nobody's, and its hash; `name` is where a name is copied to. */
static int key_of(struct cue_pool *pool, struct record *rec, uint32_t index, char name[POOL_NAME_BYTES], struct wanted *want)
{
    want->key = (cue_key){ .type = atomic_load_explicit(&rec->type, relaxed),
                           .id = atomic_load_explicit(&rec->id, relaxed) }; /* pairs with: the state word */
    if (atomic_load_explicit(&rec->note, relaxed) & NOTE_NAMED) {
        char *data;
        uint64_t capacity;
        bool ours = rec_party(atomic_load_explicit(&rec->state, acquire)) == pool->self + 1;
        if (!pool_bytes(pool, index, &data, &capacity) || (!ours && !name_copy(pool, data, capacity, name)))
            return trail(CUE_ECORRUPT, "the slab of block %x makes no sense", index);
        if (ours)
            memcpy(name, data + capacity, POOL_NAME_BYTES);
        name[POOL_NAME_BYTES - 1] = 0;
        want->key = (cue_key){ .name = name };
    }
    want->hash = hash_key(want->key);
    return 0;
}

int directory_reserve(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    char name[POOL_NAME_BYTES];
    struct wanted want;
    int status = key_of(pool, rec, index, name, &want);
    if (status)
        return status;
    uint64_t pending = slot_word(index, generation, want.hash, DIR_PENDING);
    for (int tries = 0; tries < TRIES; tries++) {
        _Atomic uint64_t *slot;
        status = slot_claim(pool, want.hash, pending, &slot);
        if (status)
            return status;
        uint64_t mine = pending;
        status = rivals_meet(pool, &want, slot);
        if (status) {
            atomic_compare_exchange_strong_explicit(slot, &mine, 0, seq_cst, acquire);
            return status;
        }
        if (atomic_compare_exchange_strong_explicit(slot, &mine, slot_word(index, generation, want.hash, DIR_LIVE), seq_cst,
                                                    acquire)) /* !! */
            return 0;
        back_off(pool, tries < 8 ? tries : 8);
    }
    return trail(CUE_EBUSY, "others keep trying to take the same key");
}

/* ---- replace ---- */

/* The slot in which the key is LIVE, what it says, and the holder's state; NULL: nobody has it. */
static _Atomic uint64_t *holder_of(struct cue_pool *pool, const struct wanted *want, uint64_t *word, uint64_t *state)
{
    unsigned top = levels_present(pool, acquire);
    for (unsigned n = 0; n < top * WINDOWS * POOL_DIR_WINDOW; n++) {
        _Atomic uint64_t *slot =
            window_of(pool, n / (WINDOWS * POOL_DIR_WINDOW), want->hash, n / POOL_DIR_WINDOW % WINDOWS) + n % POOL_DIR_WINDOW;
        *word = atomic_load_explicit(slot, acquire);
        if ((*word & 3) == DIR_LIVE && slot_matches_hash(*word, want->hash) && slot_holds(pool, *word, want, state))
            return slot;
    }
    return NULL;
}

/* Who had the key before: its index is in `lane`, low bits of its generation in the channel's bits of `note`, which a kept block
 * does not use. */
struct former {
    uint32_t index, generation;
};

static void former_set(struct record *rec, struct former former)
{
    uint32_t flags =
        atomic_load_explicit(&rec->note, relaxed) & ((1u << NOTE_CHANNEL_SHIFT) - 1); /* pairs with: the slot's CAS, as below */
    atomic_store_explicit(&rec->lane, former.index, relaxed);
    atomic_store_explicit(&rec->note, flags | former.generation << NOTE_CHANNEL_SHIFT, relaxed);
}

/* As a record that was seen in this state says; false: it has moved on. */
static bool former_of(const struct record *rec, uint64_t state, struct former *out)
{
    out->index = atomic_load_explicit(&rec->lane, relaxed); /* pairs with: the slot's CAS */
    out->generation = atomic_load_explicit(&rec->note, relaxed) >> NOTE_CHANNEL_SHIFT;
    atomic_thread_fence(acquire); /* both before the second look at the state */
    return ((atomic_load_explicit(&rec->state, relaxed) ^ state) & ~REC_SHARED) == 0;
}

static struct former former_here(uint32_t index, uint64_t generation)
{
    return (struct former){ index, (uint32_t)generation & ((1u << (32 - NOTE_CHANNEL_SHIFT)) - 1) };
}

/* Frees those whose key was taken over: this one, and if it was REPLACING itself, its own former. They are the pool's; one that
 * is its owner's stays with its owner. Several may do this at once, and REPLACING may end meanwhile. */
static void former_drop(struct cue_pool *pool, struct former former, uint32_t holder)
{
    struct {
        struct record *rec;
        uint32_t index;
        uint64_t generation;
    } chain[16];
    unsigned length = 0;
    bool more = true;
    while (more && length < 16 && former.index != holder) {
        struct record *rec = pool_record(pool, former.index);
        uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
        if (rec_state(state) != REC_KEPT || former_here(0, rec_generation(state)).generation != former.generation)
            break;
        chain[length].rec = rec;
        chain[length].index = former.index;
        chain[length++].generation = rec_generation(state);
        more = state & REC_REPLACING && former_of(rec, state, &former);
    }
    while (length-- > 0) /* the oldest first: whoever is killed in between leaves the rest findable */
        block_drop_kept(pool, chain[length].rec, chain[length].index, chain[length].generation);
}

void directory_former_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state)
{
    struct former former;
    if (former_of(rec, state, &former))
        former_drop(pool, former, index);
}

static bool replaced(struct cue_pool *pool, struct record *rec, uint64_t generation)
{
    uint64_t from = rec_word(REC_KEPT, pool->self + 1, generation) | REC_REPLACING;
    return block_move(rec, from, rec_word(REC_KEPT, 0, generation)); /* false: replaced or freed itself by now */
}

int directory_replace(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    char name[POOL_NAME_BYTES];
    struct wanted want;
    int status = key_of(pool, rec, index, name, &want);
    for (int tries = 0; !status && tries < TRIES; tries++) {
        uint64_t word, state;
        _Atomic uint64_t *slot = holder_of(pool, &want, &word, &state);
        if (!slot) {
            former_set(rec, former_here(INDEX_NONE, 0));
            status = directory_reserve(pool, rec, index, generation);
            if (status == CUE_EEXIST) {
                status = 0;
                continue;
            }
            if (!status)
                replaced(pool, rec, generation);
            return status;
        }
        if (rec_state(state) != REC_KEPT && !(state & REC_PUBLISHED))
            return trail(CUE_EBUSY, "the key is held by block %x, which is not published yet", (uint32_t)(word >> 32));
        struct former former = former_here((uint32_t)(word >> 32), rec_generation(state));
        former_set(rec, former);
        if (atomic_compare_exchange_strong_explicit(slot, &word, slot_word(index, generation, want.hash, DIR_LIVE), seq_cst,
                                                    acquire)) { /* !! */
            former_drop(pool, former, index);
            replaced(pool, rec, generation);
            return 0;
        }
        back_off(pool, tries < 8 ? tries : 8);
    }
    return status ? status : trail(CUE_EBUSY, "others keep trying to take the same key");
}

void directory_settle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state)
{
    char name[POOL_NAME_BYTES];
    struct wanted want;
    uint64_t word, holder;
    if (key_of(pool, rec, index, name, &want))
        return;
    _Atomic uint64_t *slot = holder_of(pool, &want, &word, &holder);
    uint32_t present = slot ? (uint32_t)(word >> 32) : INDEX_NONE;
    struct former former;
    if (!former_of(rec, state, &former))
        return; /* freed meanwhile, and its former with it */
    former_drop(pool, former, present);
    if (present == index)
        block_move(rec, state & ~REC_SHARED, rec_word(REC_KEPT, 0, rec_generation(state)));
    else
        block_drop(pool, rec, index, state);
}

/* ---- fetching ahead ---- */

/* Where the record of a key may be: blocks whose ids follow each other were often made in turn, and their records lie side by side. The
 * table says, for each 64 ids, how far the record that was found last was from its id. Private; threads may race for a word, and what
 * it says may be wrong in any way. Its pages are taken where it is used. */
enum { GUESSES = 1 << 14, GUESS_IDS = 6 };
static _Atomic uint32_t guesses[POOLS_MAX][GUESSES]; /* index minus id; 0: none */

static inline _Atomic uint32_t *guess_of(const struct cue_pool *pool, cue_key key)
{
    return &guesses[pool->slot][((key.id >> GUESS_IDS) + key.type * UINT32_C(0x9e3779b1)) % GUESSES];
}

/* Always inlined: gcc takes a function that only fetches for one without effect, and drops calls of it. */
#define FETCHES static inline __attribute__((always_inline)) void

/* The lines that a look-up of this record touches; an index from anywhere. A fetch of what is not there does nothing. */
FETCHES record_fetch(const struct cue_pool *pool, uint32_t index, bool view)
{
    if (index & INDEX_R2 ? (index & ~INDEX_R2) >= pool->data_bytes / POOL_LINE : index >= pool->granules)
        return;
    __builtin_prefetch(trusted_record(pool, index));
    if (view)
        __builtin_prefetch((const void *)lease_word(pool, index));
}

FETCHES guess_fetch(const struct cue_pool *pool, cue_key key, bool view)
{
    uint32_t distance = atomic_load_explicit(guess_of(pool, key), relaxed); /* private, as below */
    if (distance && !key.name)
        record_fetch(pool, distance + (uint32_t)key.id, view);
}

static inline void guess_learn(const struct cue_pool *pool, cue_key key, uint32_t index)
{
    _Atomic uint32_t *guess = guess_of(pool, key);
    if (!key.name && atomic_load_explicit(guess, relaxed) != index - (uint32_t)key.id)
        atomic_store_explicit(guess, index - (uint32_t)key.id, relaxed);
}

/* The first windows of all levels: a key is hardly ever in its second one. */
FETCHES windows_fetch(const struct cue_pool *pool, uint64_t hash)
{
    for (unsigned level = levels_present(pool, acquire); level-- > 0;)
        __builtin_prefetch(window_of(pool, level, hash, 0));
}

/* ---- look up ---- */

/* The slots of a window that may hold the key, a bit each. Without a branch: where in the window a key lies cannot be predicted, and
 * a look-up would wait for the line before the next one could begin. */
static inline unsigned window_match(const _Atomic uint64_t *window, uint64_t hash)
{
    uint64_t wanted = (hash >> 52) << 2 | DIR_LIVE;
    unsigned match = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < POOL_DIR_WINDOW; i++)
        match |= (unsigned)((atomic_load_explicit(&window[i], acquire) & 0x3fff) == wanted) << i;
    return match;
}

/* What the slot says, if its block has the key; 0: it has another. The key may be taken over while we look at who has it: then the slot
 * says something else by now (model replace.pml). */
static inline uint64_t slot_look(struct cue_pool *pool, const _Atomic uint64_t *at, const struct wanted *want, uint64_t *state)
{
    uint64_t slot = atomic_load_explicit(at, acquire), again;
    while ((slot & 3) == DIR_LIVE && slot_matches_hash(slot, want->hash)) {
        if (__builtin_expect(slot_holds(pool, slot, want, state), 1))
            return slot;
        again = atomic_load_explicit(at, acquire);
        if (again == slot)
            break;
        slot = again;
    }
    return 0;
}

static int find(struct cue_pool *pool, const struct wanted *want, uint32_t *index, uint64_t *generation)
{
    unsigned top = levels_present(pool, acquire);
    for (unsigned level = top; level-- > 0;)
        for (unsigned which = 0; which < WINDOWS; which++) {
            _Atomic uint64_t *window = window_of(pool, level, want->hash, which);
            for (unsigned match = window_match(window, want->hash); match; match &= match - 1) {
                uint64_t state, slot = slot_look(pool, &window[__builtin_ctz(match)], want, &state);
                if (!slot)
                    continue;
                if (rec_state(state) != REC_KEPT && !(rec_state(state) == REC_OWNED && state & REC_PUBLISHED))
                    return CUE_ENOENT; /* reserved, not published */
                guess_learn(pool, want->key, (uint32_t)(slot >> 32));
                *index = (uint32_t)(slot >> 32);
                *generation = rec_generation(state);
                return 0;
            }
        }
    return CUE_ENOENT;
}

int directory_find(struct cue_pool *pool, cue_key key, uint32_t *index, uint64_t *generation)
{
    struct wanted want = { key, hash_key(key) };
    return find(pool, &want, index, generation);
}

/* Between look and lease a block may be freed, or its key taken over: who finds it stale looks again. If it is found as it was, a thread of
 * ours holds on to a former life of the record for a moment (lease_pin), or the record makes no sense: then that never ends. */
struct seen {
    uint32_t index;
    uint64_t generation;
    unsigned times;
};
enum { LOOKS = 100, NAPS = 2000 };

static bool look_again(struct cue_pool *pool, struct seen *seen, uint32_t index, uint64_t generation)
{
    if (seen->times == 0 || seen->index != index || seen->generation != generation)
        *seen = (struct seen){ index, generation, 0 };
    if (++seen->times > LOOKS)
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    if (seen->times <= LOOKS + NAPS)
        return true;
    trail(CUE_ECORRUPT, "block %x of pool %s is there and cannot be leased: its record makes no sense", index, pool->name);
    return false;
}

int directory_find_name(struct cue_pool *pool, const char *name, cue_block *view)
{
    uint32_t index;
    uint64_t generation;
    memset(view, 0, sizeof *view);
    struct seen seen = { 0 };
    int status;
    do {
        status = directory_find(pool, (cue_key){ .name = name }, &index, &generation);
        if (!status)
            status = pool_attach(pool, index, generation, 44, view);
    } while (status == CUE_ESTALE && look_again(pool, &seen, index, generation));
    return status == CUE_ESTALE ? CUE_ECORRUPT : status;
}

static _Atomic uint32_t *version_of(struct cue_pool *pool, uint64_t hash)
{
    return &pool->header->dir_version[hash % POOL_DIR_VERSIONS];
}

/* Version words: bit 0 says that somebody waits, the rest counts. A waiter sets the bit, looks, sleeps on what it set. */
void directory_announce(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* hints by now: the block may be gone again */
    cue_key key = { .type = atomic_load_explicit(&rec->type, relaxed), .id = atomic_load_explicit(&rec->id, relaxed) };
    uint64_t hash = note & NOTE_NAMED ? atomic_load_explicit(&rec->name_hash, relaxed) : note & NOTE_KEYED ? hash_key(key) : index;
    _Atomic uint32_t *version = version_of(pool, hash);
    if (!(atomic_fetch_add_explicit(version, 2, seq_cst) & 1))
        return;
    atomic_fetch_and_explicit(version, ~UINT32_C(1), acq_rel);
    futex_wake(version, INT_MAX);
}

static int find_once(struct cue_pool *pool, const struct wanted *want, cue_block *out, uint64_t *id, struct seen *seen)
{
    uint32_t index = id_index(want->key.id);
    uint64_t generation = id_generation(want->key.id);
    int status = 0;
    if (want->key.name || want->key.type) {
        status = find(pool, want, &index, &generation);
    } else {
        struct record *rec = pool_record(pool, index);
        uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
        bool found =
            rec && (rec_generation(state) & UINT32_MAX) == generation &&
            ((rec_state(state) == REC_KEPT && !(state & REC_REPLACING)) || (rec_state(state) == REC_OWNED && state & REC_PUBLISHED));
        generation = rec_generation(state);
        status = found ? 0 : CUE_ENOENT;
    }
    *id = automatic_id(index, generation);
    if (status || !out)
        return status;
    status = pool_attach(pool, index, generation, 44, out);
    if (status == CUE_ESTALE && !want->key.name && !want->key.type)
        return CUE_ENOENT;
    return status == CUE_ESTALE && !look_again(pool, seen, index, generation) ? CUE_ECORRUPT : status;
}

static int find_now(struct cue_pool *pool, const struct wanted *want, cue_block *out, uint64_t *id)
{
    struct seen seen = { 0 };
    int status;
    do
        status = find_once(pool, want, out, id, &seen);
    while (__builtin_expect(status == CUE_ESTALE, 0));
    return status;
}

static int find_awaited(struct cue_pool *pool, const struct wanted *want, int64_t deadline, cue_block *out)
{
    _Atomic uint32_t *version = version_of(pool, want->key.name ? (uint32_t)want->hash : want->hash);
    bool observer = pool->flags & CUE_READ_ONLY; /* it can only look once a watch period */
    uint64_t id;
    int status = find_now(pool, want, out, &id);
    while (status == CUE_ENOENT) {
        uint32_t seen = observer ? atomic_load_explicit(version, acquire) : atomic_fetch_or_explicit(version, 1, seq_cst) | 1;
        status = pool_wait_look(pool);
        if (!status)
            status = find_now(pool, want, out, &id);
        int64_t nap = deadline_nap(deadline);
        if (status != CUE_ENOENT || nap <= 0)
            break;
        if (!observer)
            pool_before_sleep(pool); /* who is to make the block may need what we hold */
        if (futex_wait(version, seen, nap) == CUE_EINTR)
            return CUE_EINTR;
    }
    return status;
}

static int key_check(cue_key key)
{
    if (key.name)
        return key.type || key.id ? trail(CUE_EINVAL, "a key is (type, id), or an id alone, or a name alone") : name_check(key.name);
    return key.type || key.id ? 0 : trail(CUE_EINVAL, "the key is empty");
}

static inline struct wanted wanted_of(cue_key key)
{
    return (struct wanted){ key, key.name || key.type ? hash_key(key) : id_index(key.id) };
}

static int view_allowed(const struct cue_pool *pool)
{
    return pool->flags & CUE_READ_ONLY ? trail(CUE_EPERM, "pool %s is open read-only: a view needs a lease", pool->name) : 0;
}

static int find_checked(struct cue_pool *pool, cue_key key, cue_time wait, cue_block *out)
{
    uint64_t id;
    int status = key_check(key);
    if (!status && out)
        status = view_allowed(pool);
    if (status)
        return status;
    const struct wanted want = wanted_of(key);
    if (key.type) {
        windows_fetch(pool, want.hash);
        guess_fetch(pool, key, out);
    }
    return wait.ns > 0 ? find_awaited(pool, &want, deadline_of(wait), out) : find_now(pool, &want, out, &id);
}

int cue_block_find(cue_pool *pool, cue_key key, cue_time wait, cue_block *out)
{
    if (out)
        memset(out, 0, sizeof *out);
    bool waits = wait.ns > 0 && pool;
    int status = waits ? pool_wait_begin(pool) : pool_enter(pool);
    if (status)
        return status;
    status = find_checked(pool, key, wait, out);
    if (waits)
        pool_wait_end(pool);
    return status;
}

/* ---- many at a time ---- */

enum { GROUP = 16 }; /* about what a CPU fetches at a time */

/* The record that the first window which knows the fingerprint names: nearly always the right one. */
FETCHES found_fetch(const struct cue_pool *pool, const struct wanted *want, bool view)
{
    for (unsigned level = levels_present(pool, acquire); level-- > 0;) {
        const _Atomic uint64_t *window = window_of(pool, level, want->hash, 0);
        unsigned match = window_match(window, want->hash);
        if (match) {
            record_fetch(pool, (uint32_t)(atomic_load_explicit(&window[__builtin_ctz(match)], relaxed) >> 32), view); /* a hint */
            return;
        }
    }
}

/* All windows, then all records, then each as if it were looked up alone. How many were found. */
static int find_group(struct cue_pool *pool, const cue_key *keys, size_t n, cue_block *out, uint64_t *ids)
{
    struct wanted want[GROUP];
    int found = 0;
    for (size_t i = 0; i < n; i++) {
        int status = key_check(keys[i]);
        if (status)
            return status;
        want[i] = wanted_of(keys[i]);
        if (keys[i].name || keys[i].type)
            windows_fetch(pool, want[i].hash);
        else
            record_fetch(pool, id_index(keys[i].id), out);
    }
    for (size_t i = 0; i < n; i++)
        if (keys[i].name || keys[i].type)
            found_fetch(pool, &want[i], out);
    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        int status = find_now(pool, &want[i], out ? &out[i] : NULL, &id);
        if (status && status != CUE_ENOENT)
            return status;
        found += !status;
        if (ids)
            ids[i] = status ? 0 : id;
    }
    return found;
}

int64_t cue_block_find_many(cue_pool *pool, const cue_key *keys, size_t n, cue_block *out, uint64_t *ids)
{
    if (out)
        memset(out, 0, n * sizeof *out);
    if (ids)
        memset(ids, 0, n * sizeof *ids);
    int status = !keys && n ? trail(CUE_EINVAL, "cue_block_find_many: no keys") : pool_enter(pool);
    if (!status && out)
        status = view_allowed(pool);
    int64_t found = 0;
    for (size_t first = 0; !status && first < n; first += GROUP) {
        int some =
            find_group(pool, keys + first, n - first < GROUP ? n - first : GROUP, out ? out + first : NULL, ids ? ids + first : NULL);
        status = some < 0 ? some : 0;
        found += some;
    }
    if (!status)
        return found;
    for (size_t i = 0; out && i < n; i++)
        cue_block_release(&out[i]);
    if (ids)
        memset(ids, 0, n * sizeof *ids);
    return status;
}

/* ---- check ---- */

bool directory_has(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    char name[POOL_NAME_BYTES];
    struct wanted want;
    uint64_t word, state;
    if (key_of(pool, rec, index, name, &want))
        return false;
    _Atomic uint64_t *slot = holder_of(pool, &want, &word, &state);
    if (!slot || (uint32_t)(word >> 32) == index)
        return slot;
    struct record *holder = pool_record(pool, (uint32_t)(word >> 32));
    return state & REC_REPLACING && atomic_load_explicit(&holder->lane, relaxed) == index; /* about to be freed by its successor */
}

int directory_check(struct cue_pool *pool, void (*line)(void *arg, const char *fault), void *arg)
{
    int faults = 0;
    char text[160];
    uint64_t end = level_start(levels_present(pool, acquire));
    for (uint64_t i = 0; i < end; i++) {
        uint64_t slot = atomic_load_explicit(&pool->directory[i], acquire);
        if ((slot & 3) == DIR_EMPTY || pool_record(pool, (uint32_t)(slot >> 32)))
            continue;
        faults++;
        snprintf(text, sizeof text, "directory slot %llu names block %x, which is not there", (unsigned long long)i,
                 (uint32_t)(slot >> 32));
        if (line)
            line(arg, text);
    }
    return faults;
}
