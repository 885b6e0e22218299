/* What lies in a pool's shared memory, word by word, and who may write each word.
 *
 *   header     4 KiB   geometry (written once, before the pool has a name) and the pool's few shared words
 *   parties    256 B   each: who is attached (party.c)
 *   extents    256 B   each: who may allocate there, what is present, what came back (extent.c)
 *   directory          keys to records (directory.c), four levels, each made present when the one before it is too full
 *   places             only in a pool with max_allocations: a word for each allocation that may live (limit.c), present as needed
 *   events             what was published and freed, who came and went (events.c), present from the first watch on
 *   meta               an extent's records of granules (region R1) and heads of slabs, present from its first claim on
 *   slab records       region R2: a line for each 64 bytes of data, present only where a slab uses them
 *   data               granules of 4 KiB, 2 MiB-aligned
 *
 * Header, parties and extents are present from the start. RULE T: memory that ever held one of these structures holds it as
 * long as the pool lives; a stopped process may write to it an hour late. RULE P: whoever follows an index looks at the
 * extent, then the slab's head, then the record, in this order (pool_record()).
 *
 * All words are little-endian and used through C11 atomics; a word without "atomic" below is written before the commit that
 * makes it readable, and readers check the state word before and after.
 */
#ifndef POOL_LAYOUT_H
#define POOL_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_MAGIC UINT64_C(0x746867696c657563) /* "cuelight" */

enum {
    POOL_VERSION = 2,
    POOL_LINE = 64,
    POOL_GRANULE_SHIFT = 12,
    POOL_GRANULE = 1 << POOL_GRANULE_SHIFT,
    POOL_MAX_PARTIES = 127, /* a lease word has a bit for each; bit 127 is for topic history */
    POOL_NAME_BYTES = 64,
    POOL_DIR_LEVELS = 4,
    POOL_DIR_WINDOW = 8,         /* slots in a window, one line */
    POOL_DIR_FIRST = 1024,       /* slots of level 0; each further level has 16 times as many */
    POOL_DIR_VERSIONS = 64,      /* futex words for those who wait for a key */
    POOL_EXTENT_GRANULES = 1024, /* the most granules in an extent */
    POOL_EXTENT_WORDS = POOL_EXTENT_GRANULES / 64,
    POOL_SLAB_BLOCKS = 1024, /* the most blocks in a slab */
    POOL_SLAB_WORDS = POOL_SLAB_BLOCKS / 64,
    POOL_EVENTS = 512, /* that the log holds, see events.c */
};

/* ---- the state word of a record: the only truth about a block ----
 * bits 0-3 state | 4-15 party + 1, 0: none | 16 SHARED | 17 TOPIC | 18 PUBLISHED | 19 REPLACING | 20-63 generation */
enum record_state {
    REC_FREE = 0,   /* only the owner of its slab or extent moves it on */
    REC_OWNED = 1,  /* by the party */
    REC_KEPT = 2,   /* by the pool, until somebody frees it */
    REC_SENT = 3,   /* by the party, on its way through `lane` */
    REC_POSTED = 4, /* by the party, on its way into the rings of a topic */
    REC_DOOMED = 5, /* freed while leased; FREE with the last lease */
    REC_SLAB = 6,   /* R1 only: the granules are a slab, their blocks have records in R2 */
    REC_TAIL = 7    /* R1 only: the last granules of a run longer than an extent; lane: its head, id: the head's generation */
};
#define REC_SHARED (UINT64_C(1) << 16)    /* an attach has happened in this life: free goes through DOOMED */
#define REC_TOPIC (UINT64_C(1) << 17)     /* POSTED or DOOMED: made_ns and id are its grants, see rec_grants() */
#define REC_PUBLISHED (UINT64_C(1) << 18) /* OWNED, and found by its key */
#define REC_REPLACING (UINT64_C(1) << 19) /* KEPT by the party: takes its key over from the block in `lane`, see directory.c */
#define REC_LENT REC_REPLACING            /* OWNED: a message; its lane gets it back if the party dies with it (channels/redeliver.c) */
#define REC_GENERATION_SHIFT 20
#define REC_UNSETTLED                                                                                                                      \
    REC_REPLACING /* POSTED: somebody who had it leased has died: its publisher looks after its grants (channels/topic.c) */
#define REC_FLAGS (UINT64_C(15) << 16)

static inline uint64_t rec_word(enum record_state state, unsigned party_plus_1, uint64_t generation)
{
    return (uint64_t)state | (uint64_t)party_plus_1 << 4 | generation << REC_GENERATION_SHIFT;
}
static inline enum record_state rec_state(uint64_t word)
{
    return (enum record_state)(word & 15);
}
static inline unsigned rec_party(uint64_t word) /* plus 1; 0: none */
{
    return (unsigned)(word >> 4) & 0xfff;
}
static inline uint64_t rec_generation(uint64_t word)
{
    return word >> REC_GENERATION_SHIFT;
}
static inline int rec_live(uint64_t word)
{
    enum record_state state = rec_state(word);
    return state == REC_OWNED || state == REC_KEPT || state == REC_SENT;
}

/* The `note` of a record. */
enum {
    NOTE_KEYED = 1,        /* has a slot of the directory, by (type, id) or by name */
    NOTE_NAMED = 2,        /* its name is in the last 64 bytes of its memory, name_hash is set */
    NOTE_REPLACE = 8,      /* its key may be held by another block, from which publish takes it over */
    NOTE_MESSAGE = 4,      /* a message of the channels layer; its own bits are above */
    NOTE_CHANNEL_SHIFT = 8 /* bits 8-31: the channels layer's */
};

struct record {
    _Atomic uint64_t state;    /* see above: CAS by the holder; FREE -> OWNED by a release store of the slab's owner */
    _Atomic uint64_t lease[2]; /* a bit for each party that looks at it; fetch_or and fetch_and by that party or its reaper */
    union {
        struct {
            _Atomic uint32_t next; /* SENT: the record below it in the chain */
            _Atomic uint32_t seq;  /* SENT: its position */
        };
        _Atomic uint64_t made_ns; /* KEPT or PUBLISHED: when */
    };
    _Atomic uint32_t lane;      /* SENT: index of the lane's record; REPLACING: of the block that had the key */
    _Atomic uint32_t type;      /* written by the owner */
    _Atomic uint64_t size_word; /* bytes in use and granules, see rec_size(); written by the owner */
    _Atomic uint64_t id;        /* the caller's id, or a message's tag; written by the owner */
    _Atomic uint32_t name_hash;
    _Atomic uint32_t note;
};
static_assert(sizeof(struct record) == POOL_LINE, "a record is a line");
static_assert(offsetof(struct record, lane) == 32 && offsetof(struct record, note) == 60, "layout");

/* Who it was posted to: a bit for each subscription of its topic, set by the publisher before POSTED, cleared by whoever takes it out
 * of that subscription, under a lease. The block is not freed while one is up (channels/topic.c). */
static inline _Atomic uint64_t *rec_grants(struct record *rec, unsigned subscription)
{
    return subscription < 64 ? &rec->made_ns : &rec->id;
}

/* size word: bits 0-37 bytes in use | 38-63 granules of a run, 0 for a slab's block */
static inline uint64_t rec_size_word(uint64_t bytes, uint64_t granules)
{
    return bytes | granules << 38;
}
static inline uint64_t rec_size(const struct record *rec)
{
    return atomic_load_explicit(&rec->size_word, memory_order_relaxed) & ((UINT64_C(1) << 38) - 1); /* pairs with: the state word */
}
static inline uint64_t rec_granules(const struct record *rec)
{
    return atomic_load_explicit(&rec->size_word, memory_order_relaxed) >> 38; /* pairs with: the state word */
}
/* By the owner: what of it is in use. */
static inline void rec_set_size(struct record *rec, uint64_t bytes)
{
    atomic_store_explicit(&rec->size_word, rec_size_word(bytes, rec_granules(rec)), memory_order_relaxed); /* pairs with: the state word */
}

/* An index names a record: bit 31 says R2; the rest is the granule, or the line in R2. */
#define INDEX_NONE UINT32_MAX
#define INDEX_R2 UINT32_C(0x80000000)

/* ---- parties ---- */
/* word: bits 0-1 state | 2-31 epoch | 32-63 pid */
enum { PARTY_FREE = 0, PARTY_LIVE = 1 };
struct party {
    _Atomic uint64_t word;  /* FREE -> LIVE by the joiner that holds the life byte; -> FREE by leaver or reaper */
    _Atomic uint64_t pidns; /* written by the joiner before LIVE; the same for start, uid, since_ns, label */
    _Atomic uint64_t start;
    _Atomic uint64_t since_ns;
    _Atomic uint32_t uid, gid;
    _Atomic uint64_t waiting;    /* ticket of its oldest thread that waits for room, 0: none; written by the party */
    _Atomic uint64_t waiting_ns; /* when that thread last looked; written by the party */
    _Atomic uint64_t quota;      /* bytes that it may own, 0: no limit; written by the joiner before LIVE */
    _Atomic uint64_t failed;     /* allocations that this slot's parties were refused; added to by the party */
    uint64_t counters[7];
    char label[POOL_NAME_BYTES];
    _Atomic uint64_t limited;    /* as `waiting`, of who waits for a place under a limit of its own (budget.c), whichever */
    _Atomic uint64_t limited_ns; /* as waiting_ns */
    _Atomic uint32_t limited_by; /* the limit; before `limited` */
    uint32_t spare;
    uint64_t tail[5];
};
static_assert(sizeof(struct party) == 256, "a slot is four lines");

/* Lock bytes of the object (base/life.h). */
enum { LOCK_INIT = 2 * 128 }; /* who may unlink the name */
#define LOCK_LIFE(slot) (2u * (slot))
#define LOCK_REAP(slot) (2u * (slot) + 1u)

/* ---- extents and slabs: who may turn FREE into OWNED ---- */
/* owner word: bits 0-3 kind | 4-15 party + 1 | 16-31 low bits of the party's epoch (CURSOR), of the head's generation (CLAIM)
 * | 32-63 head index (CLAIM) */
enum owner_kind { OWNER_NONE = 0, OWNER_CURSOR = 1, OWNER_CLAIM = 2 };
#define OWNER_EMPTY (UINT64_C(1) << 32) /* of an extent: NONE, and each of its granules is FREE */
struct extent {
    _Atomic uint64_t owner;   /* CAS NONE or dead -> CURSOR; NONE by the owner, release */
    _Atomic uint64_t present; /* a bit for each 64th of its data that is reserved: set by its owner after shm_populate */
    _Atomic uint32_t meta;    /* 1: its part of the meta region is present; set once, release */
    _Atomic uint32_t largest; /* hint: free granules in a row when it was given up; UINT32_MAX: unknown */
    _Atomic uint64_t slabs;   /* hint: a bit for each slab with free blocks that nobody owns */
    uint64_t spare1[4];
    _Atomic uint64_t returned[POOL_EXTENT_WORDS]; /* hint: a bit for the head granule of each run freed by a non-owner */
    uint64_t spare2[8];
};
static_assert(sizeof(struct extent) == 256 && offsetof(struct extent, returned) == 64, "layout");

struct slab {
    _Atomic uint64_t owner;  /* as for extents */
    _Atomic uint32_t stride; /* bytes of a block; set before the run becomes SLAB */
    _Atomic uint32_t blocks; /* in this slab */
    _Atomic uint32_t lines;  /* records of it that are present: grows, release */
    uint32_t spare0;
    uint64_t spare1[5];
    _Atomic uint64_t returned[POOL_SLAB_WORDS]; /* hint: a bit for each block freed by a non-owner */
    uint64_t spare2[8];
};
static_assert(sizeof(struct slab) == 256 && offsetof(struct slab, returned) == 64, "layout");

/* ---- directory slots: bits 0-1 state | 2-13 fingerprint of the key | 14-31 low bits of the generation | 32-63 index ---- */
enum dir_state { DIR_EMPTY = 0, DIR_PENDING = 1, DIR_LIVE = 2 };

/* ---- the log of events (events.c) ---- */
enum event_kind { EVENT_NONE = 0, EVENT_BLOCK_UP = 1, EVENT_BLOCK_GONE = 2, EVENT_PARTY_UP = 3, EVENT_PARTY_DOWN = 4 };
struct pool_event {
    _Atomic uint64_t seq; /* position + 1 56 | party + 1 of who writes it, 0: it is complete 8. Stored by the writer of that position */
    _Atomic uint64_t word[14];
    _Atomic uint64_t sum; /* hash of the words and the position: a writer that comes a lap late is noticed */
};
static_assert(sizeof(struct pool_event) == 128, "an event is two lines");

/* ---- header ---- */
enum { LIFE_RUNNING = 0, LIFE_DYING = 1, LIFE_GONE = 2 };
struct pool_header {
    /* geometry: written by the maker, covered by `checksum`, never changed */
    uint64_t magic;
    uint32_t version, features;
    uint64_t uid;
    uint64_t object_bytes, data_bytes;
    uint64_t parties_at, extents_at, directory_at, meta_at, slab_records_at, data_at; /* offsets in the object */
    uint32_t max_parties, extent_shift, slab_shift, extents;
    uint32_t granules, dir_levels;
    uint64_t meta_stride; /* bytes of an extent's part of the meta region */
    uint64_t dir_slots;
    uint64_t made_ns;
    uint32_t flags; /* CUE_PERSIST, CUE_HUGE */
    uint32_t numa;  /* 1 + node, 0: anywhere */
    char name[POOL_NAME_BYTES];
    uint64_t made_boot;            /* process_boot() of the maker: made_ns is a time of that boot */
    uint64_t quota;                /* bytes that a party may own, 0: no limit */
    uint64_t max_allocations;      /* 0: no limit */
    uint64_t places_at, events_at; /* offsets in the object */
    uint64_t spare0;
    uint64_t checksum;
    /* for people, not covered by it: who made the pool, and when. All zero: made before this was noted */
    uint64_t maker_start; /* clock ticks after boot, see process_start_time() */
    int32_t maker_pid;    /* in its own pid namespace */
    uint32_t spare1;
    int64_t made_unix_ns; /* CLOCK_REALTIME: for a later boot, of which made_ns says nothing */
    char maker[POOL_NAME_BYTES];
    uint64_t spare2[64 - 44];
    /* shared words, a line each */
    _Alignas(64) _Atomic uint32_t life; /* LIFE_…: set under LOCK_INIT, or GONE by destroy */
    _Alignas(64) _Atomic uint32_t room; /* futex: bit 0: somebody waits for room; the rest counts frees seen with that bit */
    _Atomic uint64_t tickets;           /* the last one that was given to a waiter for room */
    _Atomic uint32_t pressure;          /* grows when somebody found no room: all give up what they hold at their next chance */
    _Atomic uint64_t line;              /* bit 0: somebody may be waiting for room, bit 1: for a limit; the rest counts who came. By CAS */
    _Atomic uint64_t hold_until;        /* CLOCK_MONOTONIC, or 0: who does not wait leaves the room to the oldest waiter till then */
    _Alignas(64) _Atomic uint32_t parties; /* futex: grows with each join, leave, reap */
    _Alignas(64) _Atomic uint32_t dir_top; /* levels of the directory that are present */
    _Alignas(64) _Atomic uint64_t present; /* bytes taken; added after shm_populate, a count for people */
    _Atomic uint64_t peak;                 /* the most of it */
    _Atomic uint64_t reaped;
    _Atomic uint64_t boot; /* process_boot() in which all times are; changed under LOCK_INIT by the first one of a new boot */
    _Alignas(64) _Atomic uint32_t places_top; /* places that are present: grows, after shm_populate */
    _Atomic uint64_t claims;                  /* places that were ever taken: whoever found none looks again if it has grown */
    _Alignas(64) _Atomic uint32_t dir_version[POOL_DIR_VERSIONS]; /* futex: bit 0: somebody waits; the rest grows with each publish */
    _Alignas(64) _Atomic uint64_t watchers[2]; /* a bit for each party that reads events: set and cleared by it, or its reaper */
    _Atomic uint32_t events_present;           /* 1: the log is present; set once, release */
    _Alignas(64) _Atomic uint64_t events_tail; /* the next position; added to by writers */
    _Atomic uint32_t events_bell;              /* futex: bit 0: somebody waits; the rest grows with each event that saw it */
};
static_assert(sizeof(struct pool_header) <= 4096, "the header is a page");
static_assert(offsetof(struct pool_header, life) == 512, "layout");

#endif
