/* Inside the pool layer, and what the layers above may use of it. Public calls are in cuelight/pool.h.
 *
 * Everything in `struct cue_pool` is private to the process. It is never freed: a slot of the table of pools is used again
 * with a new incarnation, so a handle that outlived its pool is noticed instead of being followed.
 */
#ifndef POOL_INTERNAL_H
#define POOL_INTERNAL_H

#include "pool_layout.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/futex.h"
#include "base/life.h"
#include "base/lock.h"
#include "base/trail.h"

#include <cuelight/pool.h>
#include <pthread.h>
#include <sys/types.h>

enum {
    POOLS_MAX = 64, /* pools that a process has open */
    WARM_RUNS = 8,
    POOL_PATH_BYTES = 512,
    EXTENTS_HELD = 16 /* the most extents that a process allocates from at a time */
};
#define POOL_LIMITED (1u << 31) /* of cue_pool.flags, besides CUE_READ_ONLY …: it has a quota or max_allocations */

struct held_extent; /* extent.c */
struct slab_cache;  /* slab.c: what a thread holds of a pool */
struct slab_cursor;

struct cue_pool {
    /* the map of the object: set at open from a header that was checked, and not read from shared memory again */
    struct pool_header *header;
    struct party *parties;
    struct extent *extents;
    _Atomic uint64_t *directory;
    struct pool_event *events;
    char *meta, *data;
    struct record *slab_records;
    uint64_t object_bytes, data_bytes, meta_stride;
    uint32_t nextents, granules;
    unsigned extent_shift, slab_shift; /* bytes */
    uint32_t slab_most;                /* bytes of the largest block that comes from a slab */
    uint32_t max_parties, dir_levels;
    uint64_t dir_slots;
    _Atomic uint64_t *places; /* limit.c */
    uint64_t max_allocations; /* 0: as many as fit */
    bool persists, huge;
    unsigned slot;        /* in the table of pools */
    uint32_t incarnation; /* 20 bits, in every handle */
    int fd;
    unsigned flags; /* CUE_READ_ONLY … */
    uint64_t uid, host;
    char name[POOL_NAME_BYTES];
    char path[POOL_PATH_BYTES]; /* of its object; "" for a memfd */
    dev_t device;
    ino_t inode;

    /* who we are in it */
    unsigned self;      /* our slot */
    uint32_t epoch;     /* of our slot */
    uint64_t lease_bit; /* in lease[lease_word] */
    unsigned lease_word;
    struct life_lock life;
    uint64_t quota; /* bytes that we may own; 0: no limit */

    /* private tables */
    _Atomic uint64_t *leases;                  /* lease.c: generation and count a record */
    _Atomic(struct slab_cursor *) *slab_owner; /* slab.c: which cursor of ours stands in the slab */
    struct held_extent *held;                  /* extent.c */
    unsigned nheld, held_max;
    struct warm_run {
        uint32_t granule, count;
    } warm[WARM_RUNS];         /* extent.c: freed last, not yet part of the free ones; newest on top */
    unsigned nwarm, looked;    /* extent.c: where in `held` the last look for warm runs ended */
    unsigned unasked, crowded; /* extent.c: granules taken since then; times not to look for another extent */
    struct lock extents_lock;  /* held, nheld and what they point to */
    struct slab_cache *caches; /* of all threads; under registry_lock */
    _Atomic uint32_t dir_seed;
    struct lock quota_lock;      /* limit.c: owned, and taking and freeing what it counts */
    uint64_t owned;              /* limit.c: bytes that we own, or more */
    _Atomic uint32_t next_place; /* limit.c: where to look first; a hint */
    struct room_waiter *waiters; /* room.c: our threads that wait, oldest first; under waiters_lock */
    pthread_mutex_t waiters_lock;
    _Atomic uint32_t pressure_seen; /* of header->pressure, when this process last gave up what it held */

    /* life in this process */
    _Atomic uint32_t open;     /* 1: usable, 2: closed but views remain, 0: unused */
    unsigned opens;            /* counted opens; under registry_lock */
    _Atomic int64_t remaining; /* views that were counted after the last close and have not ended, and one until they are counted */
    _Atomic bool counted;      /* they are */
    _Atomic uint32_t inside;   /* our threads in calls that may wait, see pool_wait_begin */
    _Atomic uint64_t copied;   /* payload bytes copied for the caller */
    _Atomic uint32_t watches;  /* events.c: open readers of the log */
    pid_t pid;                 /* the process that joined */
};

extern struct cue_pool pool_table[POOLS_MAX];
extern pthread_mutex_t registry_lock;

/* ---- invariants as we go (verify.c): nothing without CUE_CHECK ---- */
#ifdef CUE_CHECK
void verify_now(struct cue_pool *pool);             /* what this process keeps privately */
void verify_transition(uint64_t from, uint64_t to); /* of a state word */
_Noreturn void verify_failed(const char *what, uint64_t a, uint64_t b);
#else
#define verify_now(pool) ((void)0)
#define verify_transition(from, to) ((void)0)
#endif

/* ---- at the top of every public call ---- */
/* Grows with each fork: a handle made before it is the parent's. */
extern uint32_t fork_epoch;
/* Loads one private word that a fork clears; a forked child first becomes a party of its own in every pool. */
int pool_forked(void);
extern _Atomic uint32_t *fork_mark;
static inline bool pool_entered(const struct cue_pool *pool) /* the same without saying why not */
{
    return fork_mark && atomic_load_explicit(fork_mark, memory_order_relaxed) && pool &&
           atomic_load_explicit(&pool->open, memory_order_relaxed) == 1 &&
           atomic_load_explicit(&pool->header->life, memory_order_relaxed) != LIFE_GONE;
}
static inline int pool_enter(struct cue_pool *pool)
{
    if (__builtin_expect(!fork_mark || !atomic_load_explicit(fork_mark, memory_order_relaxed), 0)) /* private word */
        pool_forked();
    if (__builtin_expect(!pool || atomic_load_explicit(&pool->open, memory_order_relaxed) != 1, 0))
        return trail(CUE_EINVAL, "the pool is %s", pool ? "closed" : "NULL");
    if (__builtin_expect(atomic_load_explicit(&pool->header->life, memory_order_relaxed) == LIFE_GONE, 0)) /* a hint: waits look again */
        return trail(CUE_EGONE, "pool %s was destroyed", pool->name);
    verify_now(pool);
    return 0;
}

/* Instead of pool_enter, at the top of a call that may wait: it keeps the mapping, whatever other threads of this process close or
 * destroy meanwhile; in between it asks pool_wait_look whether the pool still is what it was. */
int pool_wait_begin(struct cue_pool *pool);
int pool_wait_look(struct cue_pool *pool);
void pool_wait_end(struct cue_pool *pool);

/* ---- records ---- */
#include "record.h"

/* Calls `visit` with every record that is present and was ever used; stops when it returns nonzero and returns that. */
typedef int record_visitor(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg);
int pool_each_record(struct cue_pool *pool, record_visitor *visit, void *arg);
/* The same from a position on; pool_order(index) + 1 is the position after a record. */
int pool_each_record_from(struct cue_pool *pool, uint64_t position, record_visitor *visit, void *arg);
uint64_t pool_order(const struct cue_pool *pool, uint32_t index);

/* The automatic id of a block: never 0. */
static inline uint64_t automatic_id(uint32_t index, uint64_t generation)
{
    return (index | generation << 32) + 1;
}
static inline uint32_t id_index(uint64_t id)
{
    return (uint32_t)(id - 1);
}
static inline uint32_t id_generation(uint64_t id) /* its low 32 bits */
{
    return (uint32_t)((id - 1) >> 32);
}

/* ---- blocks (block.c). Here `rec` and `index` always belong together ---- */
/* What a record says from its first moment on. */
struct fresh {
    uint64_t size, id;
    uint32_t type, note, name_hash;
};
/* A new record OWNED by us with room for at least `room` bytes, aligned to `align` (0: by size). Never waits. */
struct taken {
    struct record *rec;
    uint32_t index;
    uint64_t generation;
    char *data;
};
int block_take(struct cue_pool *pool, uint64_t room, size_t align, const struct fresh *fresh, struct taken *out);
/* Frees a record of ours in any state that `from` (a state word as loaded) shows; false if it has moved on. */
bool block_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t from);
/* The same for a block that is the pool's, whatever its flags do meanwhile. */
bool block_drop_kept(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);
/* Moves the state word from `from` to `to`, keeping SHARED if somebody sets it meanwhile; false if it has otherwise changed. */
bool block_move(struct record *rec, uint64_t from, uint64_t to);
/* After a commit to FREE: gives the place back to whoever may hand it out, and wakes those who wait for room. */
void block_returned(struct cue_pool *pool, uint32_t index);
/* DOOMED(generation) without leases -> FREE. */
void block_finish(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);

/* How long somebody waits for room. */
struct room_until {
    int64_t deadline;
    /* Asked before each sleep, and told whether a signal has ended the one before: a status ends the wait. NULL: a signal does. */
    int (*over)(void *arg, bool signalled);
    void *arg;
    bool any_turn; /* it tries out of its turn as well: what it waits for is little, and others may wait for what it has */
};
/* Waits for room, or with `limit` for a place under that, in the order of arrival: calls `try` when it is our turn, until it says
 * something else than CUE_ENOMEM, the wait is over or its deadline has passed. */
int room_wait(struct cue_pool *pool, uint32_t limit, const struct room_until *until, int (*try)(struct cue_pool *pool, void *arg),
              void *arg);
/* Does somebody who can act wait for room (0), or under that limit? Then who would wait stands behind. */
bool room_awaited(struct cue_pool *pool, uint32_t limit);

/* Before a thread sleeps in the library: gives up the free room that it holds, if somebody has missed room since. Cheap otherwise. */
void pool_before_sleep(struct cue_pool *pool);

/* A view was released, the last one on its block: a pool that was closed meanwhile may be left now. */
void pool_view_ended(struct cue_pool *pool);

/* Handles. */
enum { HANDLE_OWNER = 1, HANDLE_VIEW = 2 };
static inline uint64_t handle_word(const struct cue_pool *pool, uint32_t index, unsigned kind)
{
    return index | (uint64_t)pool->slot << 32 | (uint64_t)kind << 40 | (uint64_t)pool->incarnation << 44;
}
static inline void handle_fill(struct cue_pool *pool, uint32_t index, uint64_t generation, char *data, size_t size, unsigned kind,
                               cue_block *out)
{
    out->data = data;
    out->size = size;
    out->priv[0] = handle_word(pool, index, kind);
    out->priv[1] = generation;
    out->priv[2] = fork_epoch;
}
void quota_gained(struct cue_pool *pool, uint32_t index); /* limit.c: a block became ours otherwise than by alloc */
static inline void handle_owner(struct cue_pool *pool, uint32_t index, uint64_t generation, char *data, size_t size, cue_block *out)
{
    if (__builtin_expect(pool->quota != 0, 0))
        quota_gained(pool, index);
    handle_fill(pool, index, generation, data, size, HANDLE_OWNER, out);
}
static inline void handle_view(struct cue_pool *pool, uint32_t index, uint64_t generation, char *data, size_t size, cue_block *out)
{
    handle_fill(pool, index, generation, data, size, HANDLE_VIEW, out);
}
/* Whether the first private word of a handle says that it owns. */
static inline bool handle_owns(uint64_t word)
{
    return ((unsigned)(word >> 40) & 15) == HANDLE_OWNER;
}
/* What a handle means in this process now (after a fork it becomes a view first). CUE_EMOVED, CUE_ESTALE, CUE_EINVAL. */
struct block_ref {
    struct cue_pool *pool;
    struct record *rec;
    uint32_t index;
    uint64_t generation;
    bool owner;
};
int handle_open_slowly(const cue_block *b, struct block_ref *out); /* what is no usual handle; says why */
static inline int handle_open(const cue_block *b, struct block_ref *out)
{
    uint64_t word = b ? b->priv[0] : 0;
    unsigned slot = (unsigned)(word >> 32) & 0xff, kind = (unsigned)(word >> 40) & 15;
    struct cue_pool *pool = &pool_table[slot & (POOLS_MAX - 1)];
    if (__builtin_expect(slot >= POOLS_MAX || (kind != HANDLE_OWNER && kind != HANDLE_VIEW) || !fork_mark ||
                             !atomic_load_explicit(fork_mark, memory_order_relaxed) || b->priv[2] != fork_epoch || /* private words */
                             atomic_load_explicit(&pool->open, memory_order_acquire) == 0 || pool->incarnation != word >> 44 ||
                             (!((uint32_t)word & INDEX_R2) && (uint32_t)word >= pool->granules),
                         0))
        return handle_open_slowly(b, out);
    *out = (struct block_ref){ pool, trusted_record(pool, (uint32_t)word), (uint32_t)word, b->priv[1], kind == HANDLE_OWNER };
    return 0;
}

/* ---- leases (lease.c) ---- */
/* Attach: afterwards the bytes stay until lease_drop. CUE_ESTALE (with a trail). Counts privately: call drop as often. */
int lease_take(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);
/* The same for a record of a topic in whatever state it is, for who then finds out whether that was in time (channels/topic.c) and else
 * drops it again. false: this process holds a lease on another life of the record, so it was not. */
bool lease_pin(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);
/* Whether it was this process's last one on the block. */
bool lease_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);
/* Whether this process holds exactly one lease on it, the caller's. */
bool lease_alone(struct cue_pool *pool, uint32_t index);
/* At the last close: whether we view it; it is then on pool->remaining until its lease_drop. */
bool lease_remains(struct cue_pool *pool, const struct record *rec, uint32_t index);
/* Attach a block by index and generation, however it came to be known, as a handle. The whole generation must match, or with
 * `bits` < 44 its low bits. */
int pool_attach(struct cue_pool *pool, uint32_t index, uint64_t generation, unsigned bits, cue_block *out);

/* ---- events (events.c): what was published and freed, who came and went ---- */
struct event {
    uint32_t kind, type;        /* enum event_kind; of a block */
    uint64_t id;                /* a block's automatic id */
    uint64_t key_id;            /* a block's key, 0: none; a party's uid, and gid in the upper half */
    uint64_t size;              /* bytes of a block; of a party that is gone: 1: it died, 0: it left */
    uint64_t at_ns;             /* when it was published, or joined */
    uint32_t party;             /* plus 1: the block's owner, 0: the pool; who came or went */
    int32_t pid;                /* its process */
    char name[POOL_NAME_BYTES]; /* of the block; label of the party */
};
/* A reader's place in the log, private to it. */
struct event_cursor {
    uint64_t at, missed; /* the next position; events that were overwritten or never completed */
    uint64_t stuck_at;   /* plus 1: a position that was not complete when we looked */
    int64_t stuck_since;
};
/* From now on events are logged; the cursor stands behind the last one. CUE_ENOMEM: no room for the log. CUE_EPERM: read-only. */
int events_watch(struct cue_pool *pool, struct event_cursor *cursor);
void events_unwatch(struct cue_pool *pool);
/* The next event: 1, or 0: none is complete. */
int events_next(struct cue_pool *pool, struct event_cursor *cursor, struct event *out);
/* Nothing to read: a futex word and its value, which changes with the next event; false: there is something. */
bool events_doze(struct cue_pool *pool, const struct event_cursor *cursor, _Atomic uint32_t **word, uint32_t *value);

/* ---- directory (directory.c) ---- */
int directory_reserve(struct cue_pool *pool, struct record *rec, uint32_t index,
                      uint64_t generation); /* its key is in the record. EEXIST ELIMIT EBUSY ENOMEM */
/* Publishes a block with NOTE_REPLACE, whose state word is REPLACING: it takes the key over. EBUSY: the holder is not published. */
int directory_replace(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);
/* Whoever frees a block that is REPLACING frees the one from which it took its key, too: first. */
void directory_former_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state);
/* Recovery: ends what a dead party's directory_replace began. */
void directory_settle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state);
int directory_find(struct cue_pool *pool, cue_key key, uint32_t *index, uint64_t *generation); /* a published one, by (type, id). ENOENT */
int directory_find_name(struct cue_pool *pool, const char *name, cue_block *view);             /* by name, leased. ENOENT */
void directory_announce(struct cue_pool *pool, struct record *rec, uint32_t index); /* it was published: wakes those who wait for it */
uint64_t directory_name_hash(const char *name);
int name_check(const char *name); /* CUE_EINVAL with a trail that says what names are made of */

/* ---- parties and recovery (party.c, recovery.c) ---- */
static inline uint32_t party_epoch(uint64_t word)
{
    return (uint32_t)(word & UINT32_MAX) >> 2;
}
static inline int32_t party_pid(uint64_t word)
{
    return (int32_t)(word >> 32);
}
static inline unsigned party_state(uint64_t word)
{
    return (unsigned)word & 3;
}
int party_join(struct cue_pool *pool, const char *label);
void party_leave(struct cue_pool *pool); /* gives everything back first */
/* Is the party in this slot dead, though it did not leave? Asks the kernel: 0.2 us. `epoch` UINT32_MAX: whoever is there. */
bool party_dead(struct cue_pool *pool, unsigned slot, uint32_t epoch);
/* Cleans up after all the dead; how many. Takes long only when somebody has died. */
unsigned pool_reap(struct cue_pool *pool);
/* Frees what party `slot` owned, once it is dead or when it is us and leaving. */
void recovery_sweep(struct cue_pool *pool, unsigned slot, uint32_t epoch);

/* How the channels layer, which is above this one, takes part in recovery: it registers these when the library is loaded, before
 * any pool is open. A program that was linked with the pool alone (from the static library, by hand) has none; then a pool that holds
 * anything of the layers above is left to those who know: its dead are not swept here (recovery_able), and what is on its way stays.
 * `linked`: a record SENT by a dead party: is it linked in its lane (keep it) or not (free it)? `party_died`: called once a sweep,
 * first, for what others wait for: receivers and full lanes of the dead party are woken. */
struct recovery_hooks {
    bool (*linked)(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t word);
    void (*party_died)(struct cue_pool *pool, unsigned slot, uint32_t epoch);
    void (*party_swept)(void);               /* last */
    void (*given_up)(struct cue_pool *pool); /* this process's last close: before what we own is freed, what goes back to somebody */
    /* Messages of topics. `finishing`: nobody will look at this record any more; it is about to be freed, by one or several.
     * `stuck`: it is posted to somebody who does not have it; seen twice while nobody has it leased, that is a leak. */
    void (*finishing)(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation);
    bool (*stuck)(struct cue_pool *pool, struct record *rec, uint32_t index);
};
void recovery_register(const struct recovery_hooks *hooks); /* channels/lane_recovery.c */
extern const struct recovery_hooks *recovery_hooks;         /* NULL: nobody has registered */
/* Could this process sweep up after any party of the pool? If not, others must. */
bool recovery_able(struct cue_pool *pool);
/* Is this SENT record on its way through a lane that stays? Also if nobody can say. */
bool recovery_linked(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t word);

/* Types of blocks that are the library's own. */
enum { POOL_TYPE_SYSTEM = 0x7fff0000, POOL_TYPE_LANE = 0x7fff1000, POOL_TYPE_ACTOR = 0x7fff1001, POOL_TYPE_SUBSCRIPTION = 0x7fff1003 };

/* ---- deaths, told at once (watch.c) ---- */
/* One thread a process, started by the first call, sees pidfds of parties and calls back (on that thread, never two at a
 * time) when the party (slot, epoch) has died or left; soon, and at the latest after a watch period. `arg` of an ended watch
 * is never used again after watch_end returns. CUE_ELIMIT, CUE_ENOMEM. */
struct watch;
int watch_party(struct cue_pool *pool, unsigned slot, uint32_t epoch,
                void (*died)(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch), void *arg, struct watch **out);
void watch_end(struct watch *watch);

#endif
