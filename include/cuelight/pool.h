/* cuelight/pool.h: pools of shared memory and the blocks in them.
 *
 * A POOL is one shared memory object, found by name. A process that has it open is a PARTY. A pool needs no daemon: when a
 * party dies, also by SIGKILL between any two instructions, the others free what it owned, at the latest when they need it.
 *
 * A BLOCK is one allocation. The pool's manifest has a record of each: state, owner, generation, type, id, size, leases.
 * A cue_block is a handle by value: `data` and `size` are for you, the rest is private, all zero is empty. Copying a handle
 * with = makes an alias, not a second claim; cue_block_view makes a second claim.
 *
 *   how you got the handle                 it is      cue_block_release   cue_block_free
 *   cue_block_alloc, a received .move      an owner   frees the block     frees the block
 *   cue_block_find, _view, _attach         a view     ends your lease     ends it for all, if it is kept; else CUE_ENOTOWNER
 *   an owner after cue_block_publish       a view     ends your lease     ends it for all
 *   an owner after publish with CUE_MINE   an owner   frees the block     frees the block
 *
 * The bytes of a view stay as long as it is held, whoever frees the block meanwhile: it is then DOOMED and its memory comes
 * back with the last lease. A handle to a block that is gone gives CUE_ESTALE, never another block's bytes.
 *
 * Everybody who may write to a pool can write all of it. A damaged pool gives error codes, not undefined behaviour in the
 * library, but the bytes of a block are only as trustworthy as the pool's parties: copy, then check.
 *
 * SIZES are bytes. A request is rounded up to a size class (steps of at most a quarter, whole 64-byte lines) below 4 KiB
 * and to whole 4 KiB granules from there on. Memory is reserved before it is handed out: a full /dev/shm is CUE_ENOMEM,
 * never SIGBUS. (A memory cgroup at its limit kills instead of refusing; nothing a library does can change that.)
 */
#ifndef CUELIGHT_POOL_H
#define CUELIGHT_POOL_H

#include <cuelight/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cue_pool cue_pool;

enum {
    CUE_CREATE = 1,    /* must not exist yet: CUE_EEXIST */
    CUE_ATTACH = 2,    /* must exist: CUE_ENOENT */
    CUE_PERSIST = 4,   /* stays when it is empty and unattached */
    CUE_READ_ONLY = 8, /* an observer: no leases, no lanes, not a party */
    CUE_MEMFD = 16,    /* a new pool that has no name: others get cue_pool_fd() by SCM_RIGHTS and open it with `fd` */
    CUE_HUGE = 32      /* pages of 2 MiB: with CUE_MEMFD, or a `file` on a hugetlbfs. CUE_ENOSYS without them, CUE_ENOMEM when too few
                          are free (vm.nr_hugepages). Trimming gives nothing back */
};

typedef struct cue_pool_opts {
    uint64_t size;        /* room for blocks, bytes; taken as used. 0: $CUE_POOL_SIZE, else 1 GiB. At least 32 KiB */
    uint64_t max_blocks;  /* how many blocks may have a caller-chosen key; 0: one for each 8 smallest blocks, at least 1,024 */
    uint64_t uid;         /* the id that its descriptors carry; 0: random */
    uint32_t flags;       /* CUE_CREATE … */
    uint32_t mode;        /* permissions of a new pool; 0: 0600. Bits for others also allow to open another user's pool */
    uint32_t max_parties; /* processes at a time, at most 127; 0: 127 */
    uint32_t numa;        /* 1 + the NUMA node that a new pool takes its memory from; 0: anywhere. CUE_EINVAL: there is no such node */
    const char *file;     /* back it with this file: stays until it is destroyed, also over a reboot (not over a power failure) */
    const char *label;    /* what tools call this party; NULL: the program's name */
    int32_t fd;           /* > 0: attach the pool behind this descriptor, which the caller keeps; the name may be NULL */
    uint64_t
        max_allocations; /* of a new pool: blocks that may live at a time, exactly; lanes and messages not counted. 0: as many as fit */
    uint64_t
        quota; /* bytes that a party may own, rounded as they are allocated: of a new pool for each party; else for this one, if it is less.
                       What was sent or published is owned no more; what is received counts, and is never refused. 0: no limit */
    uint64_t spare[4]; /* zero */
} cue_pool_opts;

typedef struct cue_pool_info {
    const char *name; /* "" without one; valid while the pool is open */
    uint64_t uid;
    uint64_t size;             /* room for blocks, bytes */
    uint64_t used;             /* bytes in live blocks, rounded as they were allocated */
    uint64_t peak;             /* the most shared memory the pool has ever taken, its own tables included, bytes */
    uint64_t blocks;           /* live blocks, of which … */
    uint64_t kept;             /* … belong to the pool (published), lanes not counted */
    uint64_t in_flight;        /* … are on their way through a lane */
    uint64_t parties, waiters; /* attached; of which with a thread that waits for room */
    uint64_t failed;           /* allocations refused for want of room */
    uint64_t reaped;           /* dead parties cleaned up after */
    uint64_t copied;  /* payload bytes that this process copied for its callers: in messages sent as bytes, and in cue_block_copy */
    uint64_t taken;   /* shared memory that it takes now, its own tables included, bytes */
    uint64_t free;    /* bytes in whole granules of 4 KiB that no block and no slab of small blocks uses, … */
    uint64_t largest; /* … and the most of them in a row: 1 - largest / free is how fragmented the room is */
    uint64_t max_allocations, quota; /* as it was made, and what this party may own; 0: no limit */
    uint64_t spare[2];
} cue_pool_info;

/* One party, as it is now. */
typedef struct cue_party_info {
    uint32_t party; /* its number, from 1 on */
    int32_t pid;    /* in its own pid namespace */
    uint32_t uid, gid;
    uint64_t blocks;   /* that it owns, those included that it has sent and nobody has received yet … */
    uint64_t bytes;    /* … and their bytes, rounded as they were allocated */
    uint64_t leases;   /* blocks that it looks at */
    uint64_t quota;    /* what it may own, bytes; 0: no limit */
    uint64_t failed;   /* allocations that it was refused */
    uint64_t since_ns; /* CLOCK_MONOTONIC when it came */
    uint32_t dead;     /* 1: and nobody has cleaned up after it yet */
    uint32_t reserved;
    char label[64];
    uint64_t start; /* when its process started, clock ticks after boot as in /proc/PID/stat: with the pid, which process it is */
    uint64_t spare[3];
} cue_party_info;

/* All live blocks of a type. */
typedef struct cue_type_info {
    uint32_t type, reserved;
    uint64_t blocks, kept, bytes; /* of which published; rounded as they were allocated */
    uint64_t spare[4];
} cue_type_info;

/* Opens the pool `name` or makes it (1–63 of A–Z a–z 0–9 . _ -). One mapping and one party a process: opens are counted,
 * the last close ends the party. Without CUE_PERSIST an unattached pool vanishes once it holds no kept and no undelivered
 * block. exit() without close is a close; what a SIGKILL leaves goes at the next open of any party, or by `cuelight rm`.
 * Makes system calls, takes process memory.
 * CUE_ENOENT, CUE_EEXIST: as the flags ask. CUE_EPERM: mode, or another user's object. CUE_ENOMEM: no room for its tables.
 * CUE_ELIMIT: all party slots are taken. CUE_EVERSION, CUE_ECORRUPT: made by another version, or not a pool. */
CUE_API CUE_CHECKED int cue_pool_open(const char *name, const cue_pool_opts *opts, cue_pool **out);

/* Gives the pool back; the last close frees what this process still owns. Views stay valid until they are released. NULL is
 * fine. */
CUE_API void cue_pool_close(cue_pool *pool);

/* The name goes at once, calls and waiters everywhere get CUE_EGONE, held views stay readable; then closes. */
CUE_API int cue_pool_destroy(cue_pool *pool);

/* The pool's file descriptor, for SCM_RIGHTS. The pool keeps it. CUE_ESYS: it was closed, by closefrom() say, and the pool has no name by
 * which to open it again; the same from cue_pool_hand and cue_block_read. */
CUE_API int cue_pool_fd(cue_pool *pool);

/* Gives memory of free runs back to the system. Bytes given back. */
CUE_API int64_t cue_pool_trim(cue_pool *pool);

/* Checks every invariant of the manifest and says each fault as a line; returns their number. With `repair` dead parties
 * are cleaned up after first, and what nobody owns is freed. Others may work meanwhile. */
CUE_API int cue_pool_check(cue_pool *pool, bool repair, void (*line)(void *arg, const char *fault), void *arg);

/* Counts; walks the manifest: about 1 ns a record in use. */
CUE_API int cue_pool_stat(cue_pool *pool, cue_pool_info *out);

/* The parties, in order of their numbers: fills up to `n` rows, says how many parties there are. One walk over the manifest. */
CUE_API int cue_pool_parties(cue_pool *pool, cue_party_info *rows, size_t n);

/* Blocks by type, in order of type: fills up to `n` rows, says how many types there are. The library's own types, from 0x7fff0000 on,
 * are among them. One walk over the manifest; takes process memory. CUE_ENOMEM. */
CUE_API int cue_pool_types(cue_pool *pool, cue_type_info *rows, size_t n);

/* Hands the pool to whoever is at the other end of a connected Unix socket (stream or seqpacket; a socketpair, too): its descriptor, for
 * cue_pool_take there. The pool keeps its own. CUE_EPERM: that is another user's process, and the pool's mode gives others nothing.
 * CUE_EINVAL: no connected Unix socket. */
CUE_API int cue_pool_hand(cue_pool *pool, int socket);

/* Waits for a pool that comes through a Unix socket, and opens it. Of the options CUE_READ_ONLY, quota and label count, and `mode`: bits
 * for others allow it to come from another user. CUE_EEMPTY: none came in time. CUE_EPERM: another user is at the other end. CUE_ECLOSED.
 * CUE_ECORRUPT: what came is no pool, or another one than its sender said. */
CUE_API CUE_CHECKED int cue_pool_take(int socket, const cue_pool_opts *opts, cue_time wait, cue_pool **out);

typedef struct cue_block {
    void *data;
    size_t size;
    uint64_t priv[3];
} cue_block;

/* What a block is found by: (type, id) chosen by its maker; or the automatic id that cue_block_stat tells, with type 0; or
 * the name. */
typedef struct cue_key {
    uint32_t type;
    uint64_t id;
    const char *name;
} cue_key;

enum {
    CUE_KEEP = 1,    /* alloc: born published, belongs to the pool */
    CUE_ZERO = 2,    /* alloc: filled with zeros */
    CUE_REPLACE = 4, /* alloc: publish takes the key over from the published block that holds it, which is freed if it is the pool's */
    CUE_MINE = 8     /* publish: found by others, but still owned, and gone with its owner */
};

typedef struct cue_block_opts {
    uint32_t type;    /* what the bytes are, 0: plain; below 0x7fff0000 */
    uint32_t flags;   /* CUE_KEEP … */
    uint64_t id;      /* with a type: the caller's id. Reserved now, found once published */
    const char *name; /* or a name of 1–63 characters. Reserved now, found once published */
    size_t align;     /* a power of two up to 2 MiB; 0: 64, and 4096 from 4 KiB on */
    cue_time wait;    /* for room */
    uint64_t spare[4];
} cue_block_opts;

typedef struct cue_block_info {
    uint64_t id;       /* automatic: {.id = this} finds the block */
    uint64_t key_id;   /* the caller's, 0: none */
    uint64_t size;     /* bytes in use */
    uint64_t capacity; /* bytes it could have, see cue_block_resize */
    uint64_t made_ns;  /* CLOCK_MONOTONIC when it was published, 0 before */
    uint32_t type;
    uint32_t state;  /* CUE_BLOCK_… */
    uint32_t leases; /* parties that look at it */
    uint32_t owner;  /* party, 0 if it belongs to the pool; parties count from 1 */
    int32_t owner_pid;
    char name[64];
    uint64_t owner_start; /* when the owner's process started, as in cue_party_info, which also has its program */
    uint64_t spare[3];
} cue_block_info;

enum { CUE_BLOCK_OWNED = 1, CUE_BLOCK_KEPT = 2, CUE_BLOCK_SENT = 3, CUE_BLOCK_DOOMED = 4 };

/* An owner of at least `size` bytes; size 0 is fine. May wait for room as long as opts->wait says; those who wait are served in
 * the order in which they came, so a small request does not starve a big one. Without a wait it takes what is there; but once
 * somebody has waited first in the line for a second, it is refused for a sixth of the time (0.2 to 2 s at a stretch), so that
 * what comes free can gather. Any wait, also of a nanosecond, stands in the line instead.
 * CUE_ENOMEM: no room now. CUE_ETOOBIG: never fits. CUE_EEXIST: the key is taken. CUE_ELIMIT: the directory is full. */
CUE_API CUE_CHECKED int cue_block_alloc(cue_pool *pool, size_t size, const cue_block_opts *opts, cue_block *out);

/* The commit point of a result: from now on others find it under its key, it belongs to the pool and `b` is a view of it.
 * With CUE_MINE you stay the owner, and it goes when you do. CUE_ENOTOWNER. CUE_EBUSY: it shall replace a block that is not
 * published yet. */
CUE_API int cue_block_publish(cue_block *b, unsigned flags);

/* A view of the published block with this key; waits until there is one. With `out` NULL it only says whether there is.
 * CUE_ENOENT. CUE_ECORRUPT: its record is damaged. */
CUE_API CUE_CHECKED int cue_block_find(cue_pool *pool, cue_key key, cue_time wait, cue_block *out);

/* Looks up `n` keys now, of any kind, as so many calls of cue_block_find would, but their trips to memory overlap: with millions of
 * blocks a look-up costs a quarter of a single one, groups of 16 keys and more being best. out[i] is a view of what is published
 * under keys[i], or empty; ids[i] its automatic id, or 0. Either of the two arrays may be NULL. How many were found.
 * Any error (a key that is none: CUE_EINVAL; views read-only: CUE_EPERM) leaves both arrays all zero: no view is held. */
CUE_API CUE_CHECKED int64_t cue_block_find_many(cue_pool *pool, const cue_key *keys, size_t n, cue_block *out, uint64_t *ids);

/* One more claim on the block or a part of it; SIZE_MAX: to its end. */
CUE_API CUE_CHECKED int cue_block_view(const cue_block *b, size_t offset, size_t size, cue_block *out);

/* Changes how much of its capacity is in use: what travels, is found, is shown. The bytes between size and capacity belong to the
 * block and stay as they are. CUE_ENOTOWNER, CUE_ETOOBIG. */
CUE_API int cue_block_resize(cue_block *b, size_t size);

/* An owner of a copy, in any pool. Errors as cue_block_alloc. */
CUE_API CUE_CHECKED int cue_block_copy(const cue_block *from, cue_pool *to, const cue_block_opts *opts, cue_block *out);

/* Done with it: frees what is owned, ends a lease. Empty is fine. The handle is empty afterwards. */
CUE_API int cue_block_release(cue_block *b);

/* Ends the block for everyone: its keys at once, its bytes with the last lease. The handle is empty afterwards. A second
 * time: CUE_ESTALE. Another party's unpublished block: CUE_ENOTOWNER, and the handle stays. */
CUE_API int cue_block_free(cue_block *b);

/* What the manifest says of the block. CUE_ESTALE if it is gone. */
CUE_API int cue_block_stat(const cue_block *b, cue_block_info *out);

/* Looks at every live block of `type` (0: all) in turn without stopping anyone; start with *cursor = 0. 1: a block, 0: the
 * end. Each row is consistent; the whole is a moving picture. */
CUE_API int cue_block_next(cue_pool *pool, uint32_t type, uint64_t *cursor, cue_block_info *out);

/* The same for the blocks of one owner, as cue_block_info shows it: a party by its number, what it has sent and nobody has received
 * yet included; 0: what belongs to the pool; CUE_ANY: all. A number is the next party's when the one that had it has ended.
 * CUE_EINVAL: the pool has no such number. */
#define CUE_ANY UINT32_MAX
CUE_API int cue_block_next_of(cue_pool *pool, uint32_t owner, uint32_t type, uint64_t *cursor, cue_block_info *out);

/* ---- budgets ----
 *
 * A BUDGET limits, exactly, what some blocks of a pool sum up to and how many they are. It is a kept block itself, found by its name
 * and ended by cue_block_free. The blocks under it are kept, their types are the budget's own; each counts as its size rounded up to a
 * power of two, one of 0 bytes as nothing. Whoever is killed in the middle, no budget stays short by it: who would be refused counts
 * again first, which takes a walk over the records. */
typedef struct cue_budget_opts {
    uint64_t bytes;      /* what the blocks may sum up to */
    uint64_t least;      /* what the smallest block counts: a power of two */
    uint64_t max_blocks; /* that may live at a time; 0: no limit */
    uint32_t type;       /* the blocks have the types type … type + 255, which nobody else may use in this pool */
    uint32_t spare0;
    uint64_t spare[4]; /* zero */
} cue_budget_opts;

typedef struct cue_budget_want {
    uint32_t subtype;       /* 0–255: the block's type is the budget's plus this */
    cue_time wait;          /* for room: in the order in which those who wait under this budget came */
    int (*stop)(void *arg); /* asked while it waits, at least every 100 ms, and after each signal: nonzero ends the wait; NULL */
    void *arg;
    uint64_t spare[2]; /* zero */
} cue_budget_want;

typedef struct cue_budget_info {
    uint64_t bytes, least, max_blocks; /* as it was made */
    uint64_t used;                     /* bytes, as the blocks count; too high while somebody was killed and nobody was refused since */
    uint64_t blocks, peak_blocks;      /* that live; the most that ever did */
    uint32_t type;
    uint64_t spare[4];
} cue_budget_info;

/* `out` is a view of the new budget. The pool should be larger than its budget, by what rounding and fragments take.
 * CUE_EEXIST: the name is taken. CUE_ENOMEM. */
CUE_API CUE_CHECKED int cue_budget_make(cue_pool *pool, const char *name, const cue_budget_opts *opts, cue_block *out);

/* A view of a new kept block. CUE_ENOMEM: no room in the budget, or in the pool, in the time given. CUE_ETOOBIG: beyond the whole
 * budget. CUE_ELIMIT: max_blocks live. CUE_EINTR: a signal, or `stop` said so. CUE_ETYPE: `budget` is none. */
CUE_API CUE_CHECKED int cue_budget_alloc(const cue_block *budget, size_t size, const cue_budget_want *want, cue_block *out);

/* As cue_block_free; its share of the budget is free at once, also while others still look at its bytes. CUE_ESTALE: it was freed
 * before. CUE_ETYPE: the block is not under this budget. */
CUE_API int cue_budget_free(const cue_block *budget, cue_block *b);

CUE_API int cue_budget_stat(const cue_block *budget, cue_budget_info *out);

/* Counts again now. 1: the counts were too high and were set right, 0: they were right, or too much went on to say. */
CUE_API int cue_budget_settle(const cue_block *budget);

/* For an observer, who can take no lease: copies up to `size` bytes from `offset` on of the block with this automatic id, then looks
 * whether it was still that block. Bytes copied; 0: at its end. CUE_ESTALE: it is gone, and what was copied means nothing. CUE_EPERM: it is
 * neither published nor ours. Makes a system call. */
CUE_API int64_t cue_block_read(cue_pool *pool, uint64_t id, uint64_t offset, void *to, size_t size);

/* The handle's content moves out; `b` is empty. */
static inline cue_block cue_move(cue_block *b)
{
    cue_block moved = *b;
    b->data = NULL;
    b->size = 0;
    b->priv[0] = b->priv[1] = b->priv[2] = 0;
    return moved;
}

#ifdef __cplusplus
}
#endif
#endif
