/* What the files of the pool layer tell each other and nobody above needs. */
#ifndef POOL_PRIVATE_H
#define POOL_PRIVATE_H

#include "pool_internal.h"

#include "base/atomic.h"

/* What a record says from its first moment on; `granules` of a run, 0 for a slab's block. */
static inline void record_fill(struct record *rec, const struct fresh *fresh, uint64_t granules)
{
    verify_transition(atomic_load_explicit(&rec->state, relaxed),
                      rec_word(REC_OWNED, 0, rec_generation(atomic_load_explicit(&rec->state, relaxed))));
    atomic_thread_fence(
        release); /* FREE before all of it: who read some of it in the former life sees that it is over. pairs with: info_read */
    /* relaxed: made readable by the release store of the state word */
    atomic_store_explicit(&rec->size_word, rec_size_word(fresh->size, granules), relaxed);
    atomic_store_explicit(&rec->type, fresh->type, relaxed);
    atomic_store_explicit(&rec->id, fresh->id, relaxed);
    atomic_store_explicit(&rec->name_hash, fresh->name_hash, relaxed);
    atomic_store_explicit(&rec->note, fresh->note, relaxed);
}

/* After closefrom() and the like the pool's descriptor may be gone, or be another file: false, or it has been opened again by its name.
 * To be asked before anything is done with that descriptor (party.c). */
bool pool_descriptor_good(struct cue_pool *pool);
bool pool_descriptor_kept(const struct cue_pool *pool); /* the same without opening it */
int pool_descriptor_lost(const struct cue_pool *pool);  /* what to say then: CUE_ESYS */

/* ---- owner words of extents and slabs ---- */
static inline uint64_t owner_cursor(const struct cue_pool *pool)
{
    return OWNER_CURSOR | (uint64_t)(pool->self + 1) << 4 | (uint64_t)(pool->epoch & 0xffff) << 16;
}
static inline unsigned owner_kind(uint64_t word)
{
    return (unsigned)word & 15;
}
static inline unsigned owner_party(uint64_t word) /* plus 1 */
{
    return (unsigned)(word >> 4) & 0xfff;
}
/* May anybody take over what this word says is owned? Cheap: a death that nobody has noticed yet does not show. */
bool owner_vacant(struct cue_pool *pool, uint64_t word);

/* ---- extent.c ---- */
/* A run of `granules`, its head record OWNED by us (or SLAB, see slab_make). CUE_ENOMEM. */
int run_take(struct cue_pool *pool, uint32_t granules, uint32_t align, const struct fresh *fresh, uint32_t *granule);
/* The same for a slab: `make` is called with the run reserved and commits it or says why not. */
int run_take_slab(struct cue_pool *pool, int (*make)(struct cue_pool *pool, uint32_t granule, void *arg), void *arg, uint32_t *granule);
void run_returned(struct cue_pool *pool, uint32_t granule);   /* a block's, after its commit */
void run_dissolved(struct cue_pool *pool, uint32_t granule);  /* a slab's */
void run_tail_sweep(struct cue_pool *pool, uint32_t granule); /* recovery: a tail of a dead party */
void run_hint(struct cue_pool *pool, uint32_t granule);       /* recovery: this granule's record is free, perhaps nobody knows */
void extents_verify(struct cue_pool *pool);                   /* see verify.c */
bool extents_give_up(struct cue_pool *pool);                  /* all that this process holds; whether that was anything */
int64_t extents_trim(struct cue_pool *pool);                  /* bytes of free runs given back to the system */
void extents_forget(struct cue_pool *pool);                   /* in a forked child: they are the parent's */
struct held_extent *extents_table(void);                      /* process memory for EXTENTS_HELD of them, or NULL */
bool pool_under_pressure(struct cue_pool *pool);              /* somebody has missed room since we last gave up what we hold */
bool pool_give_up_missed(struct cue_pool *pool);              /* then: all that this thread and process hold; whether that was anything */
void pool_count_present(struct cue_pool *pool, int64_t bytes);

/* A block of whole granules that was freed lately, if the one that was freed last has the right size. */
bool run_take_fast(struct cue_pool *pool, uint64_t size, struct taken *out);

/* ---- block.c ---- */
/* The name of a block that we have not leased: its bytes may be given back to the system at any moment. Empty if they cannot be read. */
bool name_copy(struct cue_pool *pool, const char *data, uint64_t capacity, char name[POOL_NAME_BYTES]);

/* ---- room.c ---- */
void room_wake(struct cue_pool *pool); /* those who wait for room look again */
bool room_held(struct cue_pool *pool); /* shall who does not wait leave the room to somebody who has waited for long? */

/* ---- limit.c ---- */
int limit_place(struct cue_pool *pool, uint32_t index, uint64_t generation); /* in a pool with max_allocations: CUE_ELIMIT, CUE_ENOMEM */
uint64_t limit_places_bytes(uint64_t max_allocations);
/* In a pool with a quota, under quota_lock: may we own so much more? CUE_ELIMIT, CUE_ETOOBIG. */
int quota_allows(struct cue_pool *pool, uint64_t room, size_t align);
uint64_t quota_weight(struct cue_pool *pool, uint32_t index);                               /* what a block counts */
bool quota_drop(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state); /* block_drop of one of ours */

/* ---- slab.c ---- */
uint32_t slab_most(unsigned slab_shift); /* the largest size that comes from slabs of this size */
int slab_take(struct cue_pool *pool, uint64_t room, const struct fresh *fresh, struct taken *out);
void slab_returned(struct cue_pool *pool, uint32_t index);
void slabs_give_up(struct cue_pool *pool);        /* all threads' cursors: at the last close */
bool slabs_give_up_thread(struct cue_pool *pool); /* this thread's; whether it had any */
bool slabs_give_up_missed(struct cue_pool *pool); /* the same, if somebody has missed room since this thread last did so */
bool slabs_dissolve_empty(struct cue_pool *pool); /* unowned slabs without a live block become free runs; whether any did */
void slab_hint(struct cue_pool *pool, uint32_t slab, uint32_t word, uint64_t bits); /* recovery: these are free, perhaps nobody knows */

/* ---- lease.c ---- */
static inline _Atomic uint64_t *lease_word(const struct cue_pool *pool, uint32_t index) /* private: how often this process has it leased */
{
    return &pool->leases[index & INDEX_R2 ? pool->granules + (index & ~INDEX_R2) : index];
}
int lease_more(struct cue_pool *pool, uint32_t index, uint64_t generation); /* one more of a lease that this process holds; CUE_ESTALE */
uint64_t lease_table_bytes(const struct cue_pool *pool);
void party_bits_clear(struct cue_pool *pool, struct record *rec, uint32_t index, unsigned slot);

/* ---- directory.c ---- */
uint64_t directory_slots_for(uint64_t keys, uint32_t *levels);
bool directory_has(struct cue_pool *pool, struct record *rec, uint32_t index); /* is this kept block found under its key? */
int directory_check(struct cue_pool *pool, void (*line)(void *arg, const char *fault), void *arg);

/* ---- events.c ---- */
static inline bool events_watched(const struct cue_pool *pool)
{
    const struct pool_header *header = pool->header;
    return __builtin_expect((atomic_load_explicit(&header->watchers[0], seq_cst) | atomic_load_explicit(&header->watchers[1], seq_cst)) !=
                                0,
                            0); /* pairs with: events_watch */
}
/* Around a commit: a place in the log before it, if somebody watches; what happened, or that nothing did, after it. */
struct event_ticket {
    uint64_t place; /* position + 1; 0: nobody watched */
    struct event event;
};
void event_begin(struct cue_pool *pool, struct event_ticket *ticket);
void event_end(struct cue_pool *pool, struct event_ticket *ticket, bool happened);
/* The same for a block: `state` is its word before it is freed, or as it will be when it is published. */
void event_block_begin(struct cue_pool *pool, struct event_ticket *ticket, enum event_kind kind, const struct record *rec, uint32_t index,
                       uint64_t state);
void event_party_begin(struct cue_pool *pool, struct event_ticket *ticket, enum event_kind kind, unsigned slot, bool died);
void events_forget(struct cue_pool *pool, unsigned slot); /* recovery: the dead watch no more */

/* ---- recovery.c ---- */
void recovery_rebuild_hints(struct cue_pool *pool);

#endif
