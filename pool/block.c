/* Blocks: handles, and the life of a record.
 *
 *   alloc    FREE(g) -> OWNED(me)         a store by the slab's or extent's owner (slab.c, extent.c)
 *   publish  OWNED -> KEPT | OWNED|PUBLISHED   CAS
 *   free     OWNED, KEPT, SENT -> FREE(g+1), or, if SHARED, -> DOOMED and FREE(g+1) with the last lease   CAS
 *
 * Each is one commit on the state word; SHARED may be set under any of them, so a CAS that fails for that alone is tried again.
 * OWNED -> FREE is never decided by "no lease seen": an attacher may set its bit in between. Either no attach has ever happened
 * in this life (no SHARED), or the way leads through DOOMED.
 *
 * A handle holds slot and incarnation of the pool, index, generation, the kind (owner or view) and the fork epoch in which it
 * was made. After a fork the parent's handles become views at their first use here: the child takes a lease of its own.
 */
#include "slab_cursor.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The parent's handle: what it had is the parent's; we may look at the block if it is still there. */
static int handle_inherit(const cue_block *b, struct block_ref *ref)
{
    int status = pool_enter(ref->pool);
    if (!status)
        status = lease_take(ref->pool, ref->rec, ref->index, ref->generation);
    if (status)
        return trail_in(status, "a handle from before fork()");
    cue_block *renewed = (cue_block *)(uintptr_t)b; /* the variable is the caller's own; only its meaning is renewed */
    renewed->priv[0] = handle_word(ref->pool, ref->index, HANDLE_VIEW);
    renewed->priv[2] = fork_epoch;
    ref->owner = false;
    return 0;
}

int handle_open_slowly(const cue_block *b, struct block_ref *out)
{
    if (__builtin_expect(!b || !b->priv[0], 0))
        return b ? trail(CUE_EMOVED, "the block's handle is empty") : trail(CUE_EINVAL, "no block given");
    unsigned slot = (unsigned)(b->priv[0] >> 32) & 0xff, kind = (unsigned)(b->priv[0] >> 40) & 15;
    struct cue_pool *pool = &pool_table[slot < POOLS_MAX ? slot : 0];
    if (slot >= POOLS_MAX || (kind != HANDLE_OWNER && kind != HANDLE_VIEW))
        return trail(CUE_EINVAL, "this is no handle of a block");
    if (__builtin_expect(!fork_mark || !atomic_load_explicit(fork_mark, relaxed), 0)) /* private word */
        pool_forked();
    if (__builtin_expect(atomic_load_explicit(&pool->open, acquire) == 0 || pool->incarnation != b->priv[0] >> 44, 0))
        return trail(CUE_ESTALE, "the block's pool was closed");
    out->pool = pool;
    out->index = (uint32_t)b->priv[0];
    out->generation = b->priv[1];
    out->owner = kind == HANDLE_OWNER;
    if (__builtin_expect(!(out->index & INDEX_R2) && out->index >= pool->granules, 0))
        return trail(CUE_EINVAL, "this is no handle of a block");
    out->rec = trusted_record(pool, out->index);
    return __builtin_expect(b->priv[2] != fork_epoch, 0) ? handle_inherit(b, out) : 0;
}

/* ---- transitions ---- */

bool block_move(struct record *rec, uint64_t from, uint64_t to)
{
    uint64_t state = from;
    while (!cas(&rec->state, &state, to | (state & REC_SHARED)))
        if ((state & ~REC_SHARED) != (from & ~REC_SHARED))
            return false;
    verify_transition(from, to);
    return true;
}

void block_returned(struct cue_pool *pool, uint32_t index)
{
    if (index & INDEX_R2)
        slab_returned(pool, index);
    else
        run_returned(pool, index);
    room_wake(pool);
}

void block_finish(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    uint64_t state = atomic_load_explicit(&rec->state, acquire), topic = state & REC_TOPIC;
    /* grants first: who takes a message out of a subscription has its lease up before it clears the grant */
    if (topic && (atomic_load_explicit(rec_grants(rec, 0), seq_cst) | atomic_load_explicit(rec_grants(rec, 64), seq_cst)))
        return;
    /* pairs with: lease_take (my write, then your word) */
    if (atomic_load_explicit(&rec->lease[0], seq_cst) | atomic_load_explicit(&rec->lease[1], seq_cst))
        return;
    if (topic && !recovery_hooks)
        return; /* its last subscriber, or whoever sweeps up after it, does it */
    if (topic)
        recovery_hooks->finishing(pool, rec, index, generation);
    state = atomic_load_explicit(&rec->state, acquire);
    while (rec_state(state) == REC_DOOMED && rec_generation(state) == generation && (state & REC_TOPIC) == topic)
        if (cas_seq_cst(&rec->state, &state, rec_word(REC_FREE, 0, generation + 1))) { /* !! exactly one wins */
            block_returned(pool, index);
            return;
        }
}

/* One try at the commit: FREE, or DOOMED if somebody may look at it. */
static inline bool drop_now(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t from)
{
    uint64_t state = from, generation = rec_generation(from);
    for (;;) {
        bool shared = state & REC_SHARED;
        uint64_t to = shared ? rec_word(REC_DOOMED, rec_party(from), generation) | REC_SHARED | (from & REC_TOPIC)
                             : rec_word(REC_FREE, 0, generation + 1);
        if (atomic_compare_exchange_strong_explicit(&rec->state, &state, to, seq_cst, acquire)) { /* !! pairs with: bit_take */
            verify_transition(state, to);
            if (shared)
                block_finish(pool, rec, index, generation);
            else
                block_returned(pool, index);
            return true;
        }
        if ((state & ~REC_SHARED) != (from & ~REC_SHARED))
            return false;
    }
}

/* The same for a block that others could find: who watches is told. */
static __attribute__((noinline)) bool drop_published(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t from)
{
    struct event_ticket ticket;
    event_block_begin(pool, &ticket, EVENT_BLOCK_GONE, rec, index, from);
    bool done = drop_now(pool, rec, index, from);
    event_end(pool, &ticket, done);
    return done;
}

bool block_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t from)
{
    bool published = rec_state(from) == REC_KEPT || (rec_state(from) == REC_OWNED && from & REC_PUBLISHED);
    return __builtin_expect(published, 0) ? drop_published(pool, rec, index, from) : drop_now(pool, rec, index, from);
}

/* Of one that a handle owns. */
static bool own_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state)
{
    return (__builtin_expect(pool->quota != 0, 0) ? quota_drop : block_drop)(pool, rec, index, state);
}

bool block_drop_kept(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    for (;;) {
        uint64_t state = atomic_load_explicit(&rec->state, acquire);
        if (rec_state(state) != REC_KEPT || rec_generation(state) != generation)
            return false;
        if (block_drop(pool, rec, index, state))
            return true;
    }
}

int block_take(struct cue_pool *pool, uint64_t room, size_t align, const struct fresh *fresh, struct taken *out)
{
    if (__builtin_expect(slab_fits(pool, room, align), 1))
        return __builtin_expect(slab_take_fast(pool, room, fresh, out), 1) ? 0 : slab_take(pool, room, fresh, out);
    if (room > pool->data_bytes)
        return trail(CUE_ETOOBIG, "%llu bytes will never fit into pool %s of %llu", (unsigned long long)room, pool->name,
                     (unsigned long long)pool->data_bytes);
    uint32_t granules = room ? (uint32_t)((room + POOL_GRANULE - 1) >> POOL_GRANULE_SHIFT) : 1;
    uint32_t in_granules = align > POOL_GRANULE ? (uint32_t)(align >> POOL_GRANULE_SHIFT) : 1;
    int status = run_take(pool, granules, in_granules, fresh, &out->index);
    if (status)
        return status;
    out->rec = granule_record(pool, out->index);
    out->generation = rec_generation(atomic_load_explicit(&out->rec->state, relaxed)); /* ours */
    out->data = pool->data + ((uint64_t)out->index << POOL_GRANULE_SHIFT);
    return 0;
}

/* ---- alloc ---- */

static int check_opts(const cue_block_opts *opts, size_t size)
{
    const cue_block_opts *o = opts;
    if (o->spare[0] | o->spare[1] | o->spare[2] | o->spare[3])
        return trail(CUE_EVERSION, "an option of cue_block_alloc that this version does not know (spare words must be zero)");
    if (o->flags & ~(unsigned)(CUE_KEEP | CUE_ZERO | CUE_REPLACE | CUE_MINE))
        return trail(CUE_EINVAL, "unknown flags %#x for cue_block_alloc", o->flags);
    if (o->flags & CUE_REPLACE && !o->id && !o->name)
        return trail(CUE_EINVAL, "CUE_REPLACE takes a key over, and none is given");
    if (o->flags & CUE_REPLACE && o->flags & CUE_MINE)
        return trail(CUE_EINVAL, "CUE_REPLACE goes with publishing for the pool, not with CUE_MINE");
    if (o->align & (o->align - 1) || o->align > 2u << 20)
        return trail(CUE_EINVAL, "alignment %zu is not a power of two up to 2 MiB", o->align);
    if (o->id && !o->type)
        return trail(CUE_EINVAL, "id %llu without a type: (type, id) needs a type from 1 on", (unsigned long long)o->id);
    if (o->id && o->name)
        return trail(CUE_EINVAL, "a block has one key: (type %u, id %llu) or the name \"%.64s\"", o->type, (unsigned long long)o->id,
                     o->name);
    if (o->type >= POOL_TYPE_SYSTEM)
        return trail(CUE_EINVAL, "type %#x is the library's own: use types below %#x", o->type, POOL_TYPE_SYSTEM);
    if (size > PTRDIFF_MAX)
        return trail(CUE_ETOOBIG, "a size of %zu bytes (a negative number?)", size);
    return 0;
}

/* One try. */
static int alloc_now(struct cue_pool *pool, size_t size, const cue_block_opts *opts, struct taken *taken)
{
    struct fresh fresh = { .size = size };
    uint64_t room = size;
    size_t align = 0;
    if (opts) {
        fresh.type = opts->type;
        fresh.id = opts->id;
        align = opts->align;
        if (opts->id)
            fresh.note = NOTE_KEYED;
        if (opts->name) {
            fresh.note = NOTE_KEYED | NOTE_NAMED;
            room += POOL_NAME_BYTES;
        }
        if (opts->flags & CUE_REPLACE)
            fresh.note |= NOTE_REPLACE;
    }
    return block_take(pool, room, align, &fresh, taken);
}

/* One try in a pool with limits. */
static int alloc_within_limits(struct cue_pool *pool, size_t size, const cue_block_opts *opts, struct taken *taken, bool *places)
{
    uint64_t room = opts && opts->name ? size + POOL_NAME_BYTES : size;
    if (pool->quota)
        lock_take(&pool->quota_lock);
    int status = pool->quota ? quota_allows(pool, room, opts ? opts->align : 0) : 0;
    if (!status)
        status = alloc_now(pool, size, opts, taken);
    if (!status && pool->max_allocations && (status = limit_place(pool, taken->index, taken->generation))) {
        *places = true;
        block_drop(pool, taken->rec, taken->index, rec_word(REC_OWNED, pool->self + 1, taken->generation));
    }
    if (pool->quota) {
        pool->owned += status ? 0 : quota_weight(pool, taken->index);
        lock_release(&pool->quota_lock);
    }
    return status;
}

struct alloc_try {
    size_t size;
    const cue_block_opts *opts;
    struct taken *taken;
    bool places; /* the last try failed for want of a place, not of room */
};

static int alloc_try(struct cue_pool *pool, void *arg)
{
    struct alloc_try *want = arg;
    want->places = false;
    if (__builtin_expect(!(pool->flags & POOL_LIMITED), 1))
        return alloc_now(pool, want->size, want->opts, want->taken);
    int status = alloc_within_limits(pool, want->size, want->opts, want->taken, &want->places);
    if (want->places && pool_reap(pool)) { /* the dead may have held them */
        want->places = false;
        status = alloc_within_limits(pool, want->size, want->opts, want->taken, &want->places);
    }
    return want->places ? CUE_ENOMEM : status; /* somebody may free one: who waits goes on waiting */
}

static __attribute__((noinline)) int alloc_held_back(struct cue_pool *pool)
{
    pool_before_sleep(pool);
    return trail(CUE_ENOMEM, "pool %s leaves its room to somebody who has waited for it: wait as well, or try again", pool->name);
}

static int alloc_waiting(struct cue_pool *pool, size_t size, const cue_block_opts *opts, struct taken *taken)
{
    struct alloc_try want = { .size = size, .opts = opts, .taken = taken };
    bool waits = opts && opts->wait.ns > 0;
    int status;
    if (waits)
        status = room_awaited(pool, 0) ? CUE_ENOMEM : alloc_try(pool, &want); /* behind those who came first */
    else
        status = room_held(pool) ? alloc_held_back(pool) : alloc_try(pool, &want);
    if (status == CUE_ENOMEM && waits)
        status = room_wait(pool, 0, &(struct room_until){ .deadline = deadline_of(opts->wait) }, alloc_try, &want);
    if (status == CUE_ENOMEM && want.places)
        status =
            trail(CUE_ELIMIT, "pool %s holds as many allocations as it may: %llu", pool->name, (unsigned long long)pool->max_allocations);
    if (status == CUE_ENOMEM || status == CUE_ELIMIT)
        atomic_fetch_add_explicit(&pool->parties[pool->self].failed, 1, relaxed); /* a count for people */
    return status;
}

static int alloc_key(struct cue_pool *pool, const cue_block_opts *opts, struct taken *taken)
{
    if (opts->name) {
        char *data;
        uint64_t capacity;
        pool_bytes(pool, taken->index, &data, &capacity);
        char *name = data + capacity;
        memset(name, 0, POOL_NAME_BYTES);
        strcpy(name, opts->name); /* shm_name_valid: at most 63 */
        uint32_t hash = (uint32_t)directory_name_hash(opts->name);
        atomic_store_explicit(&taken->rec->name_hash, hash, release); /* pairs with: directory's reading of a name */
    }
    return opts->flags & CUE_REPLACE ? 0 : directory_reserve(pool, taken->rec, taken->index, taken->generation);
}

static int alloc_slow(struct cue_pool *pool, size_t size, const cue_block_opts *opts, cue_block *out)
{
    struct taken taken;
    int status = alloc_waiting(pool, size, opts, &taken);
    if (status)
        return status;
    if (opts && (opts->flags & CUE_ZERO))
        memset(taken.data, 0, size);
    if (opts && (opts->id || opts->name) && (status = alloc_key(pool, opts, &taken))) {
        own_drop(pool, taken.rec, taken.index, rec_word(REC_OWNED, pool->self + 1, taken.generation));
        return status;
    }
    handle_fill(pool, taken.index, taken.generation, taken.data, size, HANDLE_OWNER, out);
    if (opts && (opts->flags & (CUE_KEEP | CUE_MINE)))
        status = cue_block_publish(out, opts->flags & CUE_MINE);
    return status;
}

static int alloc_checked(struct cue_pool *pool, size_t size, const cue_block_opts *opts, cue_block *out)
{
    int status = 0;
    if (pool->flags & CUE_READ_ONLY)
        return trail(CUE_EPERM, "pool %s is open read-only", pool->name);
    if (opts) {
        status = check_opts(opts, size);
        if (!status && opts->name)
            status = name_check(opts->name);
    } else if (size > PTRDIFF_MAX) {
        return trail(CUE_ETOOBIG, "a size of %zu bytes (a negative number?)", size);
    }
    return status ? status : alloc_slow(pool, size, opts, out);
}

static __attribute__((noinline)) int alloc_entered(struct cue_pool *pool, size_t size, const cue_block_opts *opts, cue_block *out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_block_alloc: no place for the result");
    bool waits = opts && opts->wait.ns > 0 && pool;
    int status = waits ? pool_wait_begin(pool) : pool_enter(pool);
    memset(out, 0, sizeof *out);
    if (status)
        return status;
    status = alloc_checked(pool, size, opts, out);
    if (waits) {
        if (!status && handle_owns(out->priv[0]) && (status = pool_wait_look(pool))) /* closed meanwhile: it goes with the rest */
            memset(out, 0, sizeof *out);
        pool_wait_end(pool);
    }
    return status;
}

/* The usual case: room is in this thread's slab, or in a run that was freed lately. */
static inline bool alloc_fast(struct cue_pool *pool, size_t size, cue_block *out)
{
    struct taken taken;
    if (!pool_entered(pool) || pool->flags & (CUE_READ_ONLY | POOL_LIMITED) ||
        !(slab_fits(pool, size, 0) ? slab_take_fast(pool, size, &(struct fresh){ .size = size }, &taken)
                                   : run_take_fast(pool, size, &taken)))
        return false;
    handle_fill(pool, taken.index, taken.generation, taken.data, size, HANDLE_OWNER, out);
    return true;
}

int cue_block_alloc(cue_pool *pool, size_t size, const cue_block_opts *opts, cue_block *out)
{
    return __builtin_expect(!opts && out && alloc_fast(pool, size, out), 1) ? 0 : alloc_entered(pool, size, opts, out);
}

/* ---- the rest of a block's life ---- */

/* The state word if the block is ours to decide on. */
static int owned_state(const struct block_ref *ref, uint64_t *state)
{
    *state = atomic_load_explicit(&ref->rec->state, acquire);
    if (rec_generation(*state) != ref->generation || rec_state(*state) == REC_FREE || rec_state(*state) == REC_DOOMED)
        return trail(CUE_ESTALE, "block %x of pool %s is gone", ref->index, ref->pool->name);
    if (rec_state(*state) == REC_OWNED && rec_party(*state) == ref->pool->self + 1 && ref->owner)
        return 0;
    return trail(CUE_ENOTOWNER, "block %x of pool %s is %s", ref->index, ref->pool->name,
                 rec_state(*state) == REC_KEPT   ? "published: it belongs to the pool"
                 : rec_state(*state) == REC_SENT ? "sent: it is on its way to its receiver"
                                                 : "owned by another party, or this handle is a view of it");
}

static int used_meanwhile(const struct block_ref *ref)
{
    return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", ref->index, ref->pool->name);
}

static void stamp(struct record *rec)
{
    atomic_store_explicit(&rec->made_ns, (uint64_t)clock_ns(), relaxed); /* made readable by the CAS of the state */
}

/* The commit; who watches is told, but of a block that was found before nothing is new. */
static bool publish_commit(const struct block_ref *ref, uint64_t from, uint64_t to)
{
    struct event_ticket ticket;
    if (from & REC_PUBLISHED)
        return block_move(ref->rec, from & ~REC_SHARED, to);
    event_block_begin(ref->pool, &ticket, EVENT_BLOCK_UP, ref->rec, ref->index, to);
    bool done = block_move(ref->rec, from & ~REC_SHARED, to); /* !! */
    event_end(ref->pool, &ticket, done);
    return done;
}

static int publish_mine(const struct block_ref *ref, uint64_t state)
{
    stamp(ref->rec);
    if (!publish_commit(ref, state, rec_word(REC_OWNED, ref->pool->self + 1, ref->generation) | REC_PUBLISHED)) /* !! */
        return used_meanwhile(ref);
    directory_announce(ref->pool, ref->rec, ref->index);
    return 0;
}

/* The lease comes first: when it is the pool's, somebody else may free it. */
static int publish_kept(cue_block *b, const struct block_ref *ref, uint64_t state)
{
    int status = lease_take(ref->pool, ref->rec, ref->index, ref->generation);
    if (status)
        return status;
    stamp(ref->rec);
    if (!publish_commit(ref, state, rec_word(REC_KEPT, 0, ref->generation))) { /* !! */
        lease_drop(ref->pool, ref->rec, ref->index, ref->generation);
        return used_meanwhile(ref);
    }
    handle_view(ref->pool, ref->index, ref->generation, b->data, b->size, b);
    directory_announce(ref->pool, ref->rec, ref->index);
    return 0;
}

/* KEPT | REPLACING is still ours: recovery frees it unless it has taken the key over. */
static int publish_replacing(cue_block *b, const struct block_ref *ref, uint64_t state)
{
    uint64_t owned = rec_word(REC_OWNED, ref->pool->self + 1, ref->generation),
             replacing = rec_word(REC_KEPT, ref->pool->self + 1, ref->generation) | REC_REPLACING;
    int status = lease_take(ref->pool, ref->rec, ref->index, ref->generation);
    if (status)
        return status;
    stamp(ref->rec);
    if (!block_move(ref->rec, state & ~REC_SHARED, replacing)) {
        lease_drop(ref->pool, ref->rec, ref->index, ref->generation);
        return used_meanwhile(ref);
    }
    struct event_ticket ticket;
    event_block_begin(ref->pool, &ticket, EVENT_BLOCK_UP, ref->rec, ref->index, rec_word(REC_KEPT, 0, ref->generation));
    status = directory_replace(ref->pool, ref->rec, ref->index, ref->generation); /* !! */
    event_end(ref->pool, &ticket, status == 0);
    if (status && block_move(ref->rec, replacing, owned)) {
        lease_drop(ref->pool, ref->rec, ref->index, ref->generation);
        return status;
    }
    handle_view(ref->pool, ref->index, ref->generation, b->data, b->size, b);
    directory_announce(ref->pool, ref->rec, ref->index);
    return 0;
}

int cue_block_publish(cue_block *b, unsigned flags)
{
    struct block_ref ref;
    uint64_t state;
    if (flags & ~(unsigned)CUE_MINE)
        return trail(CUE_EINVAL, "flags %#x for cue_block_publish: only CUE_MINE is known here", flags);
    int status = handle_open(b, &ref);
    if (!status)
        status = pool_enter(ref.pool);
    if (!status)
        status = owned_state(&ref, &state);
    if (status)
        return status;
    bool replace = atomic_load_explicit(&ref.rec->note, relaxed) & NOTE_REPLACE; /* ours */
    if (state & REC_PUBLISHED && flags & CUE_MINE)
        return 0;
    if (replace && flags & CUE_MINE)
        return trail(CUE_EINVAL, "block %x was allocated to replace: it is published for the pool, not with CUE_MINE", ref.index);
    return flags & CUE_MINE ? publish_mine(&ref, state) : replace ? publish_replacing(b, &ref, state) : publish_kept(b, &ref, state);
}

int cue_block_view(const cue_block *b, size_t offset, size_t size, cue_block *out)
{
    struct block_ref ref;
    if (!out)
        return trail(CUE_EINVAL, "cue_block_view: no place for the result");
    cue_block given = b ? *b : (cue_block){ 0 }; /* b and out may be the same variable */
    memset(out, 0, sizeof *out);
    int status = handle_open(b == out ? &given : b, &ref);
    if (status)
        return status;
    if (offset > given.size || (size != SIZE_MAX && size > given.size - offset))
        return trail(CUE_EINVAL, "a view of %zu bytes from %zu on of a block of %zu", size, offset, given.size);
    status = ref.owner ? lease_take(ref.pool, ref.rec, ref.index, ref.generation) : lease_more(ref.pool, ref.index, ref.generation);
    if (!status)
        handle_view(ref.pool, ref.index, ref.generation, (char *)given.data + offset, size == SIZE_MAX ? given.size - offset : size, out);
    return status;
}

int pool_attach(struct cue_pool *pool, uint32_t index, uint64_t generation, unsigned bits, cue_block *out)
{
    memset(out, 0, sizeof *out);
    struct record *rec = pool_record(pool, index);
    if (!rec)
        return trail(CUE_ESTALE, "pool %s has no block %x", pool->name, index);
    if (bits < 44) {
        uint64_t now = rec_generation(atomic_load_explicit(&rec->state, acquire)), mask = (UINT64_C(1) << bits) - 1;
        generation = (now & mask) == (generation & mask) ? now : now + 1;
    }
    int status = lease_take(pool, rec, index, generation);
    if (status)
        return status;
    char *data;
    uint64_t capacity, size = rec_size(rec);
    if (!pool_bytes(pool, index, &data, &capacity) || size > capacity) {
        lease_drop(pool, rec, index, generation);
        return trail(CUE_ECORRUPT, "block %x of pool %s says it has %llu bytes", index, pool->name, (unsigned long long)size);
    }
    handle_view(pool, index, generation, data, size, out);
    return 0;
}

int cue_block_resize(cue_block *b, size_t size)
{
    struct block_ref ref;
    uint64_t state, capacity;
    char *data;
    int status = handle_open(b, &ref);
    if (!status)
        status = owned_state(&ref, &state);
    if (status)
        return status;
    if (!pool_bytes(ref.pool, ref.index, &data, &capacity))
        return trail(CUE_ECORRUPT, "the slab of block %x makes no sense", ref.index);
    if (size > capacity)
        return trail(CUE_ETOOBIG, "block %x has room for %llu bytes, not for %zu", ref.index, (unsigned long long)capacity, size);
    rec_set_size(ref.rec, size);
    b->size = size;
    return 0;
}

int cue_block_copy(const cue_block *from, cue_pool *to, const cue_block_opts *opts, cue_block *out)
{
    struct block_ref ref;
    if (!out || out == from)
        return trail(CUE_EINVAL, "cue_block_copy: no place for the result");
    memset(out, 0, sizeof *out);
    int status = handle_open(from, &ref);
    cue_block_opts with = opts ? *opts : (cue_block_opts){ 0 };
    unsigned publish = with.flags & (CUE_KEEP | CUE_MINE);
    with.flags &= ~publish; /* not before it is filled */
    if (!status)
        status = cue_block_alloc(to, from->size, &with, out);
    if (status)
        return status;
    if (from->size)
        memcpy(out->data, from->data, from->size);
    atomic_fetch_add_explicit(&to->copied, from->size, relaxed); /* a count for people */
    atomic_thread_fence(acquire);                                /* the copy before the look: if it is still the block, it was all along */
    uint64_t state = atomic_load_explicit(&ref.rec->state, acquire);
    if (rec_generation(state) != ref.generation || rec_state(state) == REC_FREE)
        status = trail(CUE_ESTALE, "block %x of pool %s is gone", ref.index, ref.pool->name);
    else if (publish)
        status = cue_block_publish(out, publish & CUE_MINE);
    if (status)
        cue_block_release(out);
    return status;
}

static inline void handle_clear(cue_block *b)
{
    b->data = NULL; /* word by word: a `rep stos` costs as much as the rest */
    b->size = 0;
    b->priv[0] = b->priv[1] = b->priv[2] = 0;
}

/* The usual case: a block of ours that nobody was ever shown. One compare-and-swap, without a look before it. */
static inline bool release_fast(cue_block *b)
{
    if (!b || !b->priv[0])
        return false;
    uint32_t index = (uint32_t)b->priv[0];
    struct cue_pool *pool = &pool_table[(b->priv[0] >> 32) % POOLS_MAX];
    if (b->priv[0] != handle_word(pool, index, HANDLE_OWNER) || b->priv[2] != fork_epoch ||
        atomic_load_explicit(&pool->open, acquire) != 1 || pool->quota != 0 || (!(index & INDEX_R2) && index >= pool->granules))
        return false;
    uint64_t state = rec_word(REC_OWNED, pool->self + 1, b->priv[1]);
    if (!atomic_compare_exchange_strong_explicit(&trusted_record(pool, index)->state, &state, rec_word(REC_FREE, 0, b->priv[1] + 1),
                                                 seq_cst, relaxed)) /* !! pairs with: bit_take */
        return false;
    handle_clear(b);
    if (!(index & INDEX_R2))
        run_returned(pool, index);
    else if (__builtin_expect(!slab_returned_here(pool, index), 0))
        slab_returned(pool, index);
    room_wake(pool);
    return true;
}

static __attribute__((noinline)) int release_slow(cue_block *b)
{
    struct block_ref ref;
    uint64_t state;
    if (!b || !b->priv[0])
        return b ? 0 : trail(CUE_EINVAL, "no block given");
    unsigned slot = (unsigned)(b->priv[0] >> 32) & 0xff;
    if (slot < POOLS_MAX && b->priv[2] != fork_epoch) { /* the parent's, never used here: nothing to give back */
        handle_clear(b);
        return 0;
    }
    int status = handle_open(b, &ref);
    if (status) {
        handle_clear(b);
        return status;
    }
    if (!ref.owner) {
        lease_drop(ref.pool, ref.rec, ref.index, ref.generation);
        handle_clear(b);
        return 0;
    }
    status = owned_state(&ref, &state);
    if (!status && !own_drop(ref.pool, ref.rec, ref.index, state))
        status = trail(CUE_ESTALE, "block %x of pool %s is gone", ref.index, ref.pool->name);
    handle_clear(b);
    return status;
}

int cue_block_release(cue_block *b)
{
    return __builtin_expect(release_fast(b), 1) ? 0 : release_slow(b);
}

static __attribute__((noinline)) int free_slow(cue_block *b)
{
    struct block_ref ref;
    int status = handle_open(b, &ref);
    if (status)
        return status;
    uint64_t state = atomic_load_explicit(&ref.rec->state, acquire);
    bool current = rec_generation(state) == ref.generation;
    bool may = rec_state(state) == REC_KEPT || (rec_state(state) == REC_OWNED && rec_party(state) == ref.pool->self + 1);
    if (current && !may && (rec_state(state) == REC_OWNED || rec_state(state) == REC_SENT || rec_state(state) == REC_POSTED))
        return trail(CUE_ENOTOWNER, "block %x of pool %s is %s", ref.index, ref.pool->name,
                     rec_state(state) == REC_OWNED ? "another party's and not published" : "on its way to its receiver");
    if (current && state & REC_REPLACING)
        directory_former_drop(ref.pool, ref.rec, ref.index, state);
    bool done = current && may &&
                (rec_state(state) == REC_KEPT ? block_drop_kept(ref.pool, ref.rec, ref.index, ref.generation)
                                              : own_drop(ref.pool, ref.rec, ref.index, state));
    if (!ref.owner) {
        lease_drop(ref.pool, ref.rec, ref.index, ref.generation);
    }
    handle_clear(b);
    return done ? 0 : trail(CUE_ESTALE, "block %x of pool %s was freed before", ref.index, ref.pool->name);
}

int cue_block_free(cue_block *b)
{
    return __builtin_expect(release_fast(b), 1) ? 0 : free_slow(b);
}

/* ---- looking ---- */

/* Without a lease, so by pread() of the object, not from the mapping: what is given back to the system meanwhile reads as zero, and takes
 * no memory that there may not be. */
static ssize_t bytes_copy(struct cue_pool *pool, const char *data, void *to, size_t size)
{
    return pread(pool->fd, to, size, (off_t)(data - (char *)pool->header));
}

bool name_copy(struct cue_pool *pool, const char *data, uint64_t capacity, char name[POOL_NAME_BYTES])
{
    bool copied = pool_descriptor_good(pool) && bytes_copy(pool, data + capacity, name, POOL_NAME_BYTES) == POOL_NAME_BYTES;
    name[copied ? POOL_NAME_BYTES - 1 : 0] = 0;
    return copied;
}

static void info_of(struct cue_pool *pool, const struct record *rec, uint32_t index, uint64_t state, cue_block_info *out)
{
    static const uint32_t shown[8] = { [REC_OWNED] = CUE_BLOCK_OWNED,
                                       [REC_KEPT] = CUE_BLOCK_KEPT,
                                       [REC_SENT] = CUE_BLOCK_SENT,
                                       [REC_POSTED] = CUE_BLOCK_SENT,
                                       [REC_DOOMED] = CUE_BLOCK_DOOMED };
    memset(out, 0, sizeof *out);
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* pairs with: the state word, as all below */
    out->id = automatic_id(index, rec_generation(state));
    out->key_id = note & NOTE_KEYED ? atomic_load_explicit(&rec->id, relaxed) : 0;
    out->size = rec_size(rec);
    out->type = atomic_load_explicit(&rec->type, relaxed);
    out->state = shown[rec_state(state) & 7];
    out->made_ns = rec_state(state) == REC_KEPT || (state & REC_PUBLISHED) ? atomic_load_explicit(&rec->made_ns, relaxed) : 0;
    uint64_t low = atomic_load_explicit(&rec->lease[0], relaxed), high = atomic_load_explicit(&rec->lease[1], relaxed);
    out->leases =
        low | high ? (uint32_t)(__builtin_popcountll(low) + __builtin_popcountll(high)) : 0; /* without an instruction for it: dear */
    out->owner = rec_party(state);
    if (out->owner && out->owner <= pool->max_parties) {
        const struct party *party = &pool->parties[out->owner - 1];
        out->owner_pid = party_pid(atomic_load_explicit(&party->word, relaxed));
        out->owner_start = atomic_load_explicit(&party->start, relaxed);
    }
    char *data;
    if (pool_bytes(pool, index, &data, &out->capacity) && note & NOTE_NAMED)
        name_copy(pool, data, out->capacity, out->name);
}

/* A row that is consistent: the state word is the same before and after. */
static bool info_read(struct cue_pool *pool, const struct record *rec, uint32_t index, cue_block_info *out, uint64_t *state)
{
    for (int tries = 0; tries < 100; tries++) {
        uint64_t before = atomic_load_explicit(&rec->state, acquire);
        if (!rec_live(before) && rec_state(before) != REC_DOOMED && rec_state(before) != REC_POSTED)
            return false;
        info_of(pool, rec, index, before, out);
        atomic_thread_fence(acquire); /* the row before the second look */
        *state = atomic_load_explicit(&rec->state, relaxed);
        if ((*state & ~REC_SHARED) == (before & ~REC_SHARED))
            return true;
    }
    return false;
}

int cue_block_stat(const cue_block *b, cue_block_info *out)
{
    struct block_ref ref;
    uint64_t state = 0;
    if (!out)
        return trail(CUE_EINVAL, "cue_block_stat: no place for the result");
    memset(out, 0, sizeof *out);
    int status = handle_open(b, &ref);
    if (status)
        return status;
    if (info_read(ref.pool, ref.rec, ref.index, out, &state) && rec_generation(state) == ref.generation)
        return 0;
    memset(out, 0, sizeof *out);
    return trail(CUE_ESTALE, "block %x of pool %s is gone", ref.index, ref.pool->name);
}

int64_t cue_block_read(cue_pool *pool, uint64_t id, uint64_t offset, void *to, size_t size)
{
    int status = pool_enter(pool);
    if (status)
        return status;
    if (!to && size)
        return trail(CUE_EINVAL, "cue_block_read: no place for %zu bytes", size);
    struct record *rec = id ? pool_record(pool, id_index(id)) : NULL;
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0, capacity, used = rec ? rec_size(rec) : 0;
    char *data;
    if (!rec || !rec_live(state) || (uint32_t)rec_generation(state) != id_generation(id))
        return trail(CUE_ESTALE, "pool %s has no block %llx", pool->name, (unsigned long long)id);
    if (rec_state(state) != REC_KEPT && !(state & REC_PUBLISHED) && rec_party(state) != pool->self + 1)
        return trail(CUE_EPERM, "block %llx of pool %s is not published", (unsigned long long)id, pool->name);
    bool sane = pool_bytes(pool, id_index(id), &data, &capacity) && used <= capacity;
    size_t want = sane && offset < used ? (used - offset < size ? (size_t)(used - offset) : size) : 0;
    if (want && !pool_descriptor_good(pool))
        return pool_descriptor_lost(pool);
    ssize_t got = want ? bytes_copy(pool, data + offset, to, want) : 0;
    atomic_thread_fence(acquire); /* the copy before the second look */
    uint64_t again = atomic_load_explicit(&rec->state, acquire);
    if (!rec_live(again) || rec_generation(again) != rec_generation(state))
        return trail(CUE_ESTALE, "block %llx of pool %s went while it was read", (unsigned long long)id, pool->name);
    if (!sane)
        return trail(CUE_ECORRUPT, "block %llx of pool %s says it has %llu bytes", (unsigned long long)id, pool->name,
                     (unsigned long long)used);
    return got < 0 ? trail_errno("cannot read the object of pool %s", pool->name) : got;
}

struct next_search {
    uint32_t type, owner;
    cue_block_info *out;
    uint64_t found;
};

static int next_visit(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    struct next_search *search = arg;
    uint64_t state;
    if (search->owner != CUE_ANY && rec_party(atomic_load_explicit(&rec->state, relaxed)) != search->owner) /* cheap; decided below */
        return 0;
    if (!info_read(pool, rec, index, search->out, &state) || (search->type && search->out->type != search->type) ||
        (search->owner != CUE_ANY && search->out->owner != search->owner))
        return 0;
    search->found = pool_order(pool, index) + 1;
    return 1;
}

int cue_block_next_of(cue_pool *pool, uint32_t owner, uint32_t type, uint64_t *cursor, cue_block_info *out)
{
    int status = pool_enter(pool);
    if (!cursor || !out)
        return trail(CUE_EINVAL, "no cursor or no place for the result of looking at blocks in turn");
    if (!status && owner != CUE_ANY && owner > pool->max_parties)
        status = trail(CUE_EINVAL, "owner %u: parties of pool %s count from 1 to %u, 0 is the pool", owner, pool->name, pool->max_parties);
    if (status) {
        memset(out, 0, sizeof *out);
        return status;
    }
    struct next_search search = { .type = type, .owner = owner, .out = out };
    int found = pool_each_record_from(pool, *cursor, next_visit, &search);
    *cursor = search.found;
    if (!found)
        memset(out, 0, sizeof *out);
    return found;
}

int cue_block_next(cue_pool *pool, uint32_t type, uint64_t *cursor, cue_block_info *out)
{
    return cue_block_next_of(pool, CUE_ANY, type, cursor, out);
}
