/* Pools: made, opened, left, vanished, destroyed; and the process's table of them.
 *
 * MAKING. The object is built without a name: tables present, header written, the maker joined as a party. Then it is linked to
 * its name in one step. So nobody ever opens half a pool, and a maker that is killed leaves nothing.
 *
 * OPENING AND VANISHING. A pool without CUE_PERSIST goes when nobody is attached and nothing is kept or undelivered in it. The
 * last one out takes lock byte INIT, sets `life` to DYING, looks at the parties once more, and unlinks the name if it is still
 * this object's. A joiner writes LIVE and then looks at `life` (both sides seq_cst): either the leaver sees the joiner and takes
 * DYING back, or the joiner sees DYING, leaves and tries again by name. Only the holder of INIT unlinks, and only after
 * comparing the name with the object, so nobody unlinks a successor. DYING that somebody left behind by dying is finished, or
 * taken back, by the next opener, under INIT. (Model: vanish.pml.)
 *
 * DESTROYING sets `life` to GONE for good; whoever waits looks at it at the latest after a watch period.
 *
 * CLOSING. The last close gives back what the process holds and owns. While views remain the party stays, since its lease bits
 * are what keeps their bytes; the last view to end leaves.
 *
 * FORK. A child has none of its parent's claims: its locks are not inherited (MADV_DONTFORK), its private tables read as zero
 * (MADV_WIPEONFORK). Its first call into the library joins every open pool as a party of its own; a child that never calls
 * costs nothing.
 */
#include "pool_private.h"

#include "base/process.h"
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20, INCARNATION_MASK = (1 << 20) - 1, OPEN_TRIES = 1000 };

struct cue_pool pool_table[POOLS_MAX];
pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
uint32_t fork_epoch;
_Atomic uint32_t *fork_mark;
static uint32_t incarnations;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;

static void pool_leave(struct cue_pool *pool, bool *vanished);

/* ---- geometry ---- */

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

static unsigned log2_of(uint64_t power)
{
    return (unsigned)__builtin_ctzll(power);
}

/* Everything that follows from the size, the number of allocations, and whether its pages are huge. */
static void plan(struct pool_header *h, uint64_t size, uint64_t keys, uint32_t max_parties, uint64_t max_allocations, uint32_t flags)
{
    h->magic = POOL_MAGIC;
    h->version = POOL_VERSION;
    h->flags = flags;
    h->max_allocations = max_allocations;
    h->data_bytes = round_up(size, POOL_GRANULE);
    h->granules = (uint32_t)(h->data_bytes >> POOL_GRANULE_SHIFT);
    h->max_parties = max_parties;
    /* some sixty extents, so that several parties find room in a small pool; at most 4 MiB each */
    uint64_t extent = POOL_GRANULE;
    while (extent * 64 < h->data_bytes && extent < UINT64_C(4) << 20)
        extent *= 2;
    h->extent_shift = log2_of(extent);
    uint64_t slab = extent / 4 < 65536 ? extent / 4 : 65536;
    h->slab_shift = log2_of(slab < POOL_GRANULE ? POOL_GRANULE : slab);
    h->extents = (uint32_t)((h->data_bytes + extent - 1) >> h->extent_shift);
    h->meta_stride = (extent >> POOL_GRANULE_SHIFT) * POOL_LINE + (extent >> h->slab_shift) * sizeof(struct slab);
    if (keys == 0)
        keys = h->data_bytes / POOL_LINE / 8 > 1024 ? h->data_bytes / POOL_LINE / 8 : 1024;
    h->dir_slots = directory_slots_for(keys, &h->dir_levels);
    h->parties_at = PAGE;
    h->extents_at = h->parties_at + POOL_MAX_PARTIES * sizeof(struct party);
    h->directory_at = round_up(h->extents_at + h->extents * sizeof(struct extent), PAGE);
    h->places_at = round_up(h->directory_at + h->dir_slots * sizeof(uint64_t), PAGE);
    h->events_at = round_up(h->places_at + limit_places_bytes(max_allocations), PAGE);
    h->meta_at = h->events_at + POOL_EVENTS * sizeof(struct pool_event);
    h->slab_records_at = round_up(h->meta_at + h->extents * h->meta_stride, PAGE);
    h->data_at = round_up(h->slab_records_at + h->data_bytes, UINT64_C(2) << 20);
    h->object_bytes = h->data_at + round_up((uint64_t)h->extents << h->extent_shift, flags & CUE_HUGE ? HUGE_PAGE : PAGE);
}

static uint64_t geometry_checksum(const struct pool_header *h)
{
    return hash_bytes(h, offsetof(struct pool_header, checksum), POOL_VERSION);
}

static int check_size(uint64_t size)
{
    if (size < 32768)
        return trail(CUE_EINVAL, "a pool of %llu bytes: at least 32 KiB", (unsigned long long)size);
    if (size > UINT64_C(128) << 30)
        return trail(CUE_ETOOBIG, "a pool of %llu bytes: at most 128 GiB", (unsigned long long)size);
    return 0;
}

/* ---- mapping ---- */

static void pool_use_map(struct cue_pool *pool, char *base, const struct pool_header *h)
{
    pool->header = (struct pool_header *)(void *)base;
    pool->parties = (struct party *)(void *)(base + h->parties_at);
    pool->extents = (struct extent *)(void *)(base + h->extents_at);
    pool->directory = (_Atomic uint64_t *)(void *)(base + h->directory_at);
    pool->events = (struct pool_event *)(void *)(base + h->events_at);
    pool->places = (_Atomic uint64_t *)(void *)(base + h->places_at);
    pool->max_allocations = h->max_allocations;
    pool->quota = h->quota;
    pool->huge = h->flags & CUE_HUGE;
    pool->meta = base + h->meta_at;
    pool->slab_records = (struct record *)(void *)(base + h->slab_records_at);
    pool->data = base + h->data_at;
    pool->object_bytes = h->object_bytes;
    pool->data_bytes = h->data_bytes;
    pool->meta_stride = h->meta_stride;
    pool->nextents = h->extents;
    pool->granules = h->granules;
    pool->extent_shift = h->extent_shift;
    pool->slab_shift = h->slab_shift;
    pool->slab_most = slab_most(h->slab_shift);
    pool->max_parties = h->max_parties;
    pool->dir_levels = h->dir_levels;
    pool->dir_slots = h->dir_slots;
    pool->persists = h->flags & CUE_PERSIST;
    pool->uid = h->uid;
    pool->host = process_host();
    memcpy(pool->name, h->name, sizeof pool->name);
    pool->name[sizeof pool->name - 1] = 0;
    atomic_store_explicit(&pool->next_place, 0, relaxed); /* private */
    pool->owned = 0;
    pool->flags |= pool->quota || pool->max_allocations ? POOL_LIMITED : 0;
}

/* This process limits itself further than the pool does. */
static void use_own_quota(struct cue_pool *pool, const cue_pool_opts *opts)
{
    if (opts->quota && (!pool->quota || opts->quota < pool->quota))
        pool->quota = opts->quota;
    pool->flags |= pool->quota ? POOL_LIMITED : 0;
}

static int private_tables(struct cue_pool *pool)
{
    uint64_t slabs = (pool->data_bytes >> pool->slab_shift) + 1;
    unsigned most = pool->nextents / 8;
    pool->held_max = most < 1 ? 1 : most > EXTENTS_HELD ? EXTENTS_HELD : most;
    pool->nheld = pool->nwarm = 0;
    pool->held = extents_table();
    pool->leases = private_zero(lease_table_bytes(pool));
    pool->slab_owner = private_zero(slabs * sizeof *pool->slab_owner);
    if (pool->held && pool->leases && pool->slab_owner)
        return 0;
    return trail(CUE_ENOMEM, "no process memory for the private tables of pool %s", pool->name);
}

/* Gives everything of the slot back but the slot's incarnation. */
static void pool_unmap(struct cue_pool *pool)
{
    free(pool->held);
    private_release((void *)pool->leases, pool->leases ? lease_table_bytes(pool) : 0);
    private_release((void *)pool->slab_owner, ((pool->data_bytes >> pool->slab_shift) + 1) * sizeof *pool->slab_owner);
    shm_unmap(pool->header, pool->object_bytes);
    if (pool->fd >= 0 && (pool->inode == 0 || pool_descriptor_kept(pool)))
        close(pool->fd);
    pool->inode = 0;
    pool->held = NULL;
    pool->leases = NULL;
    pool->slab_owner = NULL;
    pool->header = NULL;
    pool->fd = -1;
    pool->name[0] = 0;
    pool->uid = 0;
    pool->caches = NULL;
    atomic_store_explicit(&pool->counted, false, relaxed);
    atomic_store_explicit(&pool->open, 0, release);
}

static int remember_object(struct cue_pool *pool)
{
    struct stat info;
    if (fstat(pool->fd, &info))
        return trail_errno("cannot look at the pool's object");
    pool->device = info.st_dev;
    pool->inode = info.st_ino;
    return 0;
}

/* ---- making ---- */

static uint64_t size_wanted(const cue_pool_opts *opts)
{
    if (opts->size)
        return opts->size;
    const char *text = secure_getenv("CUE_POOL_SIZE");
    char *end = NULL;
    uint64_t size = text ? strtoull(text, &end, 10) : 0;
    if (end && (*end == 'k' || *end == 'K'))
        size <<= 10;
    if (end && (*end == 'm' || *end == 'M'))
        size <<= 20;
    if (end && (*end == 'g' || *end == 'G'))
        size <<= 30;
    return size ? size : UINT64_C(1) << 30;
}

static int object_make(struct cue_pool *pool, const struct pool_header *h, const cue_pool_opts *opts)
{
    char folder[POOL_PATH_BYTES];
    unsigned mode = opts->mode ? opts->mode : 0600;
    if (opts->flags & CUE_MEMFD)
        return shm_make_memfd(h->name[0] ? h->name : "cuelight", h->object_bytes, mode, opts->flags & CUE_HUGE, &pool->fd);
    if (!opts->file)
        return shm_make(h->object_bytes, mode, &pool->fd);
    snprintf(folder, sizeof folder, "%s", pool->path);
    int status = shm_make_in(dirname(folder), h->object_bytes, mode, &pool->fd);
    if (!status && !(opts->flags & CUE_HUGE) != !shm_huge(pool->fd)) {
        close(pool->fd);
        pool->fd = -1;
        status = opts->flags & CUE_HUGE ? trail(CUE_ENOSYS, "%s is not on a hugetlbfs: there are no huge pages for it", pool->path)
                                        : trail(CUE_EINVAL, "%s is on a hugetlbfs: that goes with CUE_HUGE", pool->path);
    }
    return status;
}

static void note_maker(struct pool_header *h, const char *label)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    h->made_unix_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    h->maker_pid = getpid();
    h->maker_start = process_start_time(getpid());
    if (label)
        snprintf(h->maker, sizeof h->maker, "%s", label);
    else
        process_label(h->maker, sizeof h->maker);
}

static int pool_build(struct cue_pool *pool, const char *name, const cue_pool_opts *opts)
{
    struct pool_header plan_of;
    void *base;
    memset(&plan_of, 0, sizeof plan_of);
    int status = check_size(size_wanted(opts));
    if (status)
        return status;
    uint32_t flags = (opts->file ? CUE_PERSIST : opts->flags & CUE_PERSIST) | (opts->flags & CUE_HUGE);
    plan(&plan_of, size_wanted(opts), opts->max_blocks, opts->max_parties ? opts->max_parties : POOL_MAX_PARTIES, opts->max_allocations,
         flags);
    plan_of.uid = opts->uid ? opts->uid : random_u64();
    plan_of.made_ns = (uint64_t)clock_ns();
    plan_of.made_boot = process_boot();
    plan_of.quota = opts->quota;
    plan_of.numa = opts->numa;
    note_maker(&plan_of, opts->label);
    snprintf(plan_of.name, sizeof plan_of.name, "%s", name ? name : "");
    plan_of.checksum = geometry_checksum(&plan_of);
    status = object_make(pool, &plan_of, opts);
    if (!status)
        status = shm_map(pool->fd, plan_of.object_bytes, true, &base);
    if (status)
        return status;
    pool->object_bytes = plan_of.object_bytes;
    pool->header = base;
    if (opts->numa && (status = shm_bind(base, plan_of.object_bytes, opts->numa - 1)))
        return status;
    uint64_t tables = plan_of.directory_at + POOL_DIR_FIRST * sizeof(uint64_t);
    status = shm_populate(pool->fd, base, 0, tables);
    if (status)
        return status;
    memcpy(base, &plan_of, offsetof(struct pool_header, life));
    pool_use_map(pool, base, &plan_of);
    atomic_store_explicit(&pool->header->dir_top, 1, relaxed); /* nobody else can see it yet */
    atomic_store_explicit(&pool->header->boot, plan_of.made_boot, relaxed);
    for (uint32_t n = 0; n < pool->nextents; n++)
        atomic_store_explicit(&pool->extents[n].largest, UINT32_MAX, relaxed);
    pool_count_present(pool, (int64_t)round_up(tables, PAGE));
    use_own_quota(pool, opts);
    status = remember_object(pool);
    if (!status)
        status = private_tables(pool);
    return status ? status : party_join(pool, opts->label);
}

static int pool_make(struct cue_pool *pool, const char *name, const cue_pool_opts *opts)
{
    int status = pool_build(pool, name, opts);
    if (!status && pool->path[0])
        status = shm_link(pool->fd, pool->path); /* !! from here on others find it */
    if (status) {
        life_release(&pool->life);
        pool_unmap(pool);
    }
    return status;
}

/* ---- opening ---- */

static int header_check(const struct pool_header *h, uint64_t bytes, const char *what)
{
    if (h->magic == 0)
        return trail(CUE_ECORRUPT, "%s is not a pool: it begins with zeros, so nothing was written there, or it was lost", what);
    if (h->magic != POOL_MAGIC)
        return trail(CUE_ECORRUPT, "%s is not a pool (it begins with %016llx)", what, (unsigned long long)h->magic);
    if (h->version != POOL_VERSION || h->features)
        return trail(CUE_EVERSION, "%s has layout version %u (features %#x); this library knows %d", what, h->version, h->features,
                     POOL_VERSION);
    struct pool_header again;
    memset(&again, 0, sizeof again);
    if (h->checksum != geometry_checksum(h) || check_size(h->data_bytes) || h->max_parties == 0 || h->max_parties > POOL_MAX_PARTIES ||
        h->max_allocations > UINT32_MAX || h->flags & ~(uint32_t)(CUE_PERSIST | CUE_HUGE))
        return trail(CUE_ECORRUPT, "%s has a damaged header", what);
    plan(&again, h->data_bytes, h->dir_slots / 2, h->max_parties, h->max_allocations, h->flags);
    bool same = again.extent_shift == h->extent_shift && again.slab_shift == h->slab_shift && again.extents == h->extents &&
                again.granules == h->granules && again.meta_stride == h->meta_stride && again.parties_at == h->parties_at &&
                again.extents_at == h->extents_at && again.directory_at == h->directory_at;
    uint32_t levels;
    bool directory_sane = h->dir_levels >= 1 && h->dir_levels <= POOL_DIR_LEVELS && h->dir_slots >= POOL_DIR_FIRST &&
                          h->dir_slots <= directory_slots_for(UINT64_C(1) << 40, &levels);
    bool ordered = h->directory_at <= h->places_at && h->places_at <= h->events_at && h->events_at <= h->meta_at &&
                   h->meta_at <= h->slab_records_at && h->slab_records_at <= h->data_at &&
                   h->data_at <= h->object_bytes; /* so that no difference below wraps around */
    if (!same || !directory_sane || !ordered || h->places_at - h->directory_at < h->dir_slots * sizeof(uint64_t) ||
        h->events_at - h->places_at < limit_places_bytes(h->max_allocations) ||
        h->meta_at - h->events_at != POOL_EVENTS * sizeof(struct pool_event) ||
        h->slab_records_at - h->meta_at < h->extents * h->meta_stride || h->data_at - h->slab_records_at < h->data_bytes ||
        h->object_bytes - h->data_at != round_up((uint64_t)h->extents << h->extent_shift, h->flags & CUE_HUGE ? HUGE_PAGE : PAGE))
        return trail(CUE_ECORRUPT, "%s has a geometry that makes no sense", what);
    if (h->object_bytes > bytes)
        return trail(CUE_ECORRUPT, "%s was cut off: %llu of its %llu bytes are there; put it back from a copy, or remove it", what,
                     (unsigned long long)bytes, (unsigned long long)h->object_bytes);
    return 0;
}

static int header_read(int fd, const char *what, struct pool_header *header, struct stat *info)
{
    if (fstat(fd, info))
        return trail_errno("cannot look at %s", what);
    if (!S_ISREG(info->st_mode))
        return trail(CUE_ECORRUPT, "%s is not a pool: it is no regular file", what);
    if (info->st_size < PAGE)
        return trail(CUE_ECORRUPT, "%s is not a pool: it has %lld bytes", what, (long long)info->st_size);
    ssize_t got = pread(fd, header, sizeof *header, 0); /* not through a mapping: whoever truncates it must not kill us */
    if (got < (ssize_t)sizeof *header)
        return trail_errno("cannot read the header of %s", what);
    return header_check(header, (uint64_t)info->st_size, what);
}

static int check_owner_of_object(const struct stat *info, const cue_pool_opts *opts, const char *what)
{
    if (info->st_uid == geteuid() || geteuid() == 0 || opts->mode & 077)
        return 0;
    return trail(CUE_EPERM, "%s belongs to user %u; to open another user's pool give a mode with bits for others", what,
                 (unsigned)info->st_uid);
}

static int forget_time(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)pool, (void)index, (void)arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_KEPT)
        atomic_store_explicit(&rec->made_ns, 0, relaxed); /* a count for people */
    return 0;
}

/* A pool in a file is there again after a reboot, with all that was published. Its parties of before are dead: the kernel holds no lock of
 * theirs. What is left to do are times, which were of another clock. Killed in the middle: the next one begins again. */
static void after_reboot(struct cue_pool *pool)
{
    uint64_t now = process_boot();
    struct life_lock init;
    if (!pool->persists || atomic_load_explicit(&pool->header->boot, acquire) == now || life_hold(pool->fd, LOCK_INIT, &init))
        return; /* somebody is at it */
    if (atomic_load_explicit(&pool->header->boot, acquire) != now) {
        pool_reap(pool);
        pool_each_record(pool, forget_time, NULL);
        atomic_store_explicit(&pool->header->boot, now, release); /* !! */
    }
    life_release(&init);
}

/* Maps what `pool->fd` refers to and joins it. 1: it is dying, look again. */
static int pool_enter_object(struct cue_pool *pool, const char *what, const cue_pool_opts *opts)
{
    struct pool_header header;
    struct stat info;
    void *base;
    bool write = !(opts->flags & CUE_READ_ONLY);
    int status = header_read(pool->fd, what, &header, &info);
    if (!status)
        status = check_owner_of_object(&info, opts, what);
    if (!status)
        status = shm_map(pool->fd, header.object_bytes, write, &base);
    if (status)
        return status;
    pool_use_map(pool, base, &header);
    pool->device = info.st_dev;
    pool->inode = info.st_ino;
    use_own_quota(pool, opts);
    status = private_tables(pool);
    if (status)
        return status;
    if (!write) {
        pool->self = POOL_MAX_PARTIES;
        return atomic_load_explicit(&pool->header->life, acquire) == LIFE_RUNNING ? 0 : 1;
    }
    if (atomic_load_explicit(&pool->header->life, acquire) != LIFE_RUNNING)
        return 1;
    status = party_join(pool, opts->label);
    if (status)
        return status;
    if (atomic_load_explicit(&pool->header->life, seq_cst) == LIFE_RUNNING) { /* pairs with: pool_vanish */
        after_reboot(pool);
        return 0;
    }
    party_leave(pool);
    return 1;
}

static bool somebody_lives(struct cue_pool *pool)
{
    for (unsigned s = 0; s < pool->max_parties; s++)
        if (party_state(atomic_load_explicit(&pool->parties[s].word, seq_cst)) == PARTY_LIVE && life_held(pool->fd, LOCK_LIFE(s)))
            return true;
    return false;
}

static bool party_others(struct cue_pool *pool)
{
    for (unsigned s = 0; s < pool->max_parties; s++)
        if (s != pool->self && party_state(atomic_load_explicit(&pool->parties[s].word, acquire)) == PARTY_LIVE)
            return true;
    return false;
}

static void unlink_own_name(struct cue_pool *pool)
{
    if (pool->path[0] && shm_same(pool->fd, pool->path))
        unlink(pool->path);
}

static int undelivered_or_kept(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)pool, (void)index, (void)arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_SENT || rec_state(state) == REC_POSTED)
        return 1;
    return rec_state(state) == REC_KEPT && atomic_load_explicit(&rec->type, relaxed) < POOL_TYPE_SYSTEM; /* pairs with: the state word */
}

/* Under INIT, and the pool was DYING at some time: unlinks it, or takes it back if somebody lives in it or something is kept. A
 * CAS: GONE, which cue_pool_destroy sets without asking, is for good. Whether it is gone. */
static bool dying_decide(struct cue_pool *pool)
{
    uint32_t life = atomic_load_explicit(&pool->header->life, seq_cst);
    bool gone = life == LIFE_GONE;
    if (life == LIFE_DYING)
        gone = !somebody_lives(pool) && !pool_each_record(pool, undelivered_or_kept, NULL); /* pairs with: pool_enter_object */
    if (gone)
        unlink_own_name(pool); /* !! */
    else if (life == LIFE_DYING)
        atomic_compare_exchange_strong_explicit(&pool->header->life, &life, LIFE_RUNNING, seq_cst, acquire);
    return gone;
}

/* A pool that was found dying: finishes what its last party began, or takes it back. By now it may be RUNNING again. */
static void finish_dying(struct cue_pool *pool)
{
    struct life_lock init;
    if (life_hold(pool->fd, LOCK_INIT, &init)) {
        sched_yield(); /* somebody is at it */
        return;
    }
    dying_decide(pool);
    life_release(&init);
}

static int pool_open_path(struct cue_pool *pool, const cue_pool_opts *opts)
{
    int status = shm_open_path(pool->path, !(opts->flags & CUE_READ_ONLY), &pool->fd);
    if (status)
        return status;
    status = pool_enter_object(pool, pool->path, opts);
    if (status > 0 && !(opts->flags & CUE_READ_ONLY))
        finish_dying(pool);
    if (status) {
        life_release(&pool->life);
        pool_unmap(pool);
        return status;
    }
    if (opts->flags & CUE_READ_ONLY || pool_reap(pool) == 0 || party_others(pool))
        return 0;
    /* only the dead were attached: what they left may be nothing, and then the pool has gone with them */
    bool gone;
    pool_leave(pool, &gone);
    return gone ? CUE_ENOENT : 1;
}

/* A pool without a name: made in a memfd, or behind a descriptor that somebody handed over. */
static int open_nameless(struct cue_pool *pool, const char *name, const cue_pool_opts *opts)
{
    if (opts->flags & CUE_MEMFD)
        return pool_make(pool, name, opts);
    pool->fd = fcntl(opts->fd, F_DUPFD_CLOEXEC, 0);
    if (pool->fd < 0)
        return trail_errno("cannot use descriptor %d", (int)opts->fd);
    int status = pool_enter_object(pool, "the object behind the descriptor", opts);
    if (status > 0)
        status = trail(CUE_EGONE, "the pool behind descriptor %d was destroyed", (int)opts->fd);
    if (status) {
        life_release(&pool->life);
        pool_unmap(pool);
    }
    return status;
}

static int open_or_make(struct cue_pool *pool, const char *name, const cue_pool_opts *opts)
{
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        int status = opts->flags & CUE_CREATE ? CUE_ENOENT : pool_open_path(pool, opts);
        if (status > 0)
            continue;
        if (status != CUE_ENOENT || opts->flags & (CUE_ATTACH | CUE_READ_ONLY))
            return status;
        status = pool_make(pool, name, opts);
        if (status == CUE_EEXIST && opts->flags & CUE_CREATE) {
            /* a dying one may be in the way; a living one is the answer */
            cue_pool_opts look = *opts;
            look.flags = CUE_ATTACH;
            status = pool_open_path(pool, &look);
            if (status == 0) {
                bool mine_alone = false;
                pool_leave(pool, &mine_alone);
                status = mine_alone ? 1 : CUE_EEXIST;
            }
            if (status > 0 || status == CUE_ENOENT)
                continue;
            return CUE_EEXIST;
        }
        if (status != CUE_EEXIST)
            return status;
    }
    return trail(CUE_EBUSY, "pool %s keeps vanishing and coming back", name);
}

/* ---- leaving ---- */

/* The last one out; our slot is FREE already. Whether the name is gone. */
static bool pool_vanish(struct cue_pool *pool)
{
    struct life_lock init;
    if (!pool->path[0] || pool->persists || somebody_lives(pool) || life_hold(pool->fd, LOCK_INIT, &init))
        return false;
    bool gone = false;
    if (!pool_each_record(pool, undelivered_or_kept, NULL)) {
        uint32_t life = LIFE_RUNNING;
        atomic_compare_exchange_strong_explicit(&pool->header->life, &life, LIFE_DYING, seq_cst, acquire);
        gone = dying_decide(pool);
    }
    life_release(&init);
    return gone;
}

/* Set while this thread gives back a party's slot: the sweep looks at blocks under leases of its own, and those are no views
 * that the leaving waited for. */
static _Thread_local bool leaving;

/* Gives back the slot, and the pool if nobody else needs it; unmaps. */
static void pool_leave(struct cue_pool *pool, bool *vanished)
{
    bool gone = false;
    if (!(pool->flags & CUE_READ_ONLY)) {
        leaving = true;
        bool ours = pool_descriptor_good(pool); /* else who asks it for locks asks another file */
        if (ours)
            pool_reap(pool);
        party_leave(pool);
        gone = ours && pool_vanish(pool);
        leaving = false;
    }
    if (vanished)
        *vanished = gone;
    pool_unmap(pool);
}

static int count_leases(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    *(int64_t *)arg += lease_remains(pool, rec, index);
    return 0;
}

static int drop_owned(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)arg;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_OWNED && rec_party(state) == pool->self + 1)
        block_drop(pool, rec, index, state);
    return 0;
}

/* Under registry_lock, closed, and none of our threads is in a call that may wait: frees what we own, and counts the views that
 * keep the mapping. Each view is marked as counted under its private word's lock, so it is taken off again exactly once. */
static void pool_settle(struct cue_pool *pool)
{
    int64_t leases = 0;
    if (!(pool->flags & CUE_READ_ONLY) && recovery_hooks)
        recovery_hooks->given_up(pool);
    atomic_store_explicit(&pool->counted, true, seq_cst); /* views that begin now count themselves */
    if (!(pool->flags & CUE_READ_ONLY)) {
        pool_each_record(pool, drop_owned, NULL);
        pool_each_record(pool, count_leases, &leases);
    }
    if (atomic_fetch_add_explicit(&pool->remaining, leases - 1, seq_cst) + leases - 1 <= 0)
        pool_leave(pool, NULL);
}

/* Under registry_lock; the last close of this process. Calls of other threads are refused first, then what we hold is given up:
 * exit() ends pools while threads still run. */
static void pool_end(struct cue_pool *pool)
{
    atomic_store_explicit(&pool->remaining, 1, release); /* one for us, so that no view that ends now leaves under our feet */
    atomic_store_explicit(&pool->counted, false, relaxed);
    atomic_store_explicit(&pool->open, 2, seq_cst);
    slabs_give_up(pool);
    extents_give_up(pool);
    if (atomic_load_explicit(&pool->inside, seq_cst) == 0) /* pairs with: pool_wait_begin */
        pool_settle(pool);
}

void pool_view_ended(struct cue_pool *pool)
{
    if (leaving)
        return;
    pthread_mutex_lock(&registry_lock);
    if (atomic_fetch_sub_explicit(&pool->remaining, 1, acq_rel) <= 1)
        pool_leave(pool, NULL);
    pthread_mutex_unlock(&registry_lock);
}

/* Counted first and then looked whether the pool is open; whoever ends it does the reverse, so one of the two sees the other. */
int pool_wait_begin(struct cue_pool *pool)
{
    if (!fork_mark || !atomic_load_explicit(fork_mark, relaxed)) /* private word; it forgets who was inside */
        pool_forked();
    atomic_fetch_add_explicit(&pool->inside, 1, seq_cst); /* pairs with: pool_end */
    atomic_thread_fence(seq_cst);
    int status = pool_enter(pool);
    if (status)
        pool_wait_end(pool);
    return status;
}

int pool_wait_look(struct cue_pool *pool)
{
    if (atomic_load_explicit(&pool->header->life, acquire) == LIFE_GONE)
        return trail(CUE_EGONE, "pool %s was destroyed", pool->name);
    return pool_enter(pool);
}

void pool_wait_end(struct cue_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->inside, 1, seq_cst) > 1 || atomic_load_explicit(&pool->open, seq_cst) != 2)
        return;
    pthread_mutex_lock(&registry_lock);
    if (atomic_load_explicit(&pool->open, relaxed) == 2 && !atomic_load_explicit(&pool->counted, relaxed) &&
        atomic_load_explicit(&pool->inside, seq_cst) == 0)
        pool_settle(pool);
    pthread_mutex_unlock(&registry_lock);
}

/* ---- the process ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&registry_lock);
    life_before_fork();
}

static void after_fork_parent(void)
{
    life_after_fork();
    pthread_mutex_unlock(&registry_lock);
}

static void after_fork_child(void)
{
    life_after_fork();
    pthread_mutex_unlock(&registry_lock);
    fork_epoch++;
}

/* exit() without close is a close. */
static void at_exit(void)
{
    if (!fork_mark || !atomic_load_explicit(fork_mark, relaxed)) /* a forked child that never called us */
        return;
    pthread_mutex_lock(&registry_lock);
    for (unsigned i = 0; i < POOLS_MAX; i++) {
        struct cue_pool *pool = &pool_table[i];
        uint32_t open = atomic_load_explicit(&pool->open, acquire);
        if (open == 1)
            pool_end(pool);
        if (atomic_load_explicit(&pool->open, acquire) == 2 && !atomic_load_explicit(&pool->counted, relaxed)) {
            atomic_fetch_add_explicit(&pool->remaining, 1, relaxed); /* threads that wait keep the mapping to the very end */
            pool_settle(pool);
        }
        /* views that are still held end with the process: nobody will look through them again */
        if (atomic_load_explicit(&pool->open, acquire) == 2) {
            leaving = true;
            party_leave(pool);
            pool_vanish(pool);
            leaving = false;
            atomic_store_explicit(&pool->open, 3, release);
        }
    }
    pthread_mutex_unlock(&registry_lock);
}

static void process_prepare(void)
{
    for (unsigned i = 0; i < POOLS_MAX; i++) {
        pool_table[i].slot = i;
        pool_table[i].fd = -1;
        pthread_mutex_init(&pool_table[i].waiters_lock, NULL);
    }
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    atexit(at_exit);
    fork_mark = private_zero(PAGE);
    if (fork_mark)
        atomic_store_explicit(fork_mark, 1, relaxed); /* private */
}

/* A forked child's first call: it becomes a party of its own in every open pool. */
int pool_forked(void)
{
    if (!fork_mark)
        return 0; /* no pool was ever opened */
    pthread_mutex_lock(&registry_lock);
    for (unsigned i = 0; i < POOLS_MAX && !atomic_load_explicit(fork_mark, relaxed); i++) { /* private */
        struct cue_pool *pool = &pool_table[i];
        uint32_t open = atomic_load_explicit(&pool->open, acquire);
        if (open == 0 || open == 3)
            continue;
        pool->caches = NULL;
        pool->life.page = NULL;
        extents_forget(pool);
        lock_release(&pool->quota_lock); /* who held it is a thread of the parent's, and what is owned is, too */
        pool->owned = 0;
        pool->waiters = NULL;
        atomic_store_explicit(&pool->watches, 0, relaxed); /* private */
        pthread_mutex_init(&pool->waiters_lock, NULL);
        atomic_store_explicit(&pool->remaining, 0, relaxed); /* private */
        atomic_store_explicit(&pool->inside, 0, relaxed);    /* the parent's threads are not here */
        atomic_store_explicit(&pool->counted, open == 2, relaxed);
        if (!(pool->flags & CUE_READ_ONLY) && party_join(pool, NULL))
            atomic_store_explicit(&pool->open, 3, release); /* no room for us: calls say that it is closed */
    }
    atomic_store_explicit(fork_mark, 1, release);
    pthread_mutex_unlock(&registry_lock);
    return 0;
}

/* ---- public ---- */

static int check_pool_opts(const char *name, const cue_pool_opts *o)
{
    if (o->spare[0] | o->spare[1] | o->spare[2] | o->spare[3])
        return trail(CUE_EVERSION, "an option of cue_pool_open that this version does not know (spare words must be zero)");
    if (o->flags & ~(unsigned)(CUE_CREATE | CUE_ATTACH | CUE_PERSIST | CUE_READ_ONLY | CUE_MEMFD | CUE_HUGE))
        return trail(CUE_EINVAL, "unknown flags %#x for cue_pool_open", o->flags);
    if ((o->flags & CUE_CREATE) && (o->flags & (CUE_ATTACH | CUE_READ_ONLY)))
        return trail(CUE_EINVAL, "CUE_CREATE goes with neither CUE_ATTACH nor CUE_READ_ONLY");
    if (o->flags & CUE_HUGE && !(o->flags & CUE_MEMFD) && !o->file && o->fd == 0)
        return trail(CUE_ENOSYS, "there are no huge pages in %s: give CUE_MEMFD, or a `file` on a hugetlbfs", shm_directory());
    if (o->numa && o->file)
        return trail(CUE_EINVAL, "the pages of a file lie where the system's cache puts them: no NUMA node can be chosen for %s", o->file);
    if (o->numa > SHM_NODES_MAX)
        return trail(CUE_EINVAL, "NUMA node %u: at most %d", o->numa - 1, SHM_NODES_MAX - 1);
    if (o->max_allocations > UINT32_MAX)
        return trail(CUE_EINVAL, "%llu allocations: at most %u", (unsigned long long)o->max_allocations, UINT32_MAX);
    if ((o->fd > 0) + (o->file != NULL) + ((o->flags & CUE_MEMFD) != 0) > 1)
        return trail(CUE_EINVAL, "a pool is behind a descriptor, or in a file, or in a new memfd: one of them");
    if (o->flags & CUE_MEMFD && o->flags & (CUE_ATTACH | CUE_READ_ONLY | CUE_PERSIST))
        return trail(CUE_EINVAL, "CUE_MEMFD makes a new pool: it goes with neither CUE_ATTACH, CUE_READ_ONLY nor CUE_PERSIST");
    if (o->fd < 0 || (o->fd && o->flags & CUE_CREATE))
        return trail(CUE_EINVAL, "a pool behind descriptor %d is attached, not made", (int)o->fd);
    if (o->max_parties > POOL_MAX_PARTIES)
        return trail(CUE_EINVAL, "%u parties: at most %d", o->max_parties, POOL_MAX_PARTIES);
    if (o->mode & ~0777u)
        return trail(CUE_EINVAL, "mode %#o has other bits than permissions", o->mode);
    return !name && (o->fd || o->flags & CUE_MEMFD) ? 0 : name_check(name);
}

/* Where the object lies; "" if it has no name. */
static int object_path(const char *name, const cue_pool_opts *opts, char path[POOL_PATH_BYTES])
{
    path[0] = 0;
    if (opts->fd || opts->flags & CUE_MEMFD)
        return 0;
    if (!opts->file) {
        shm_path(name, path);
        return 0;
    }
    char here[POOL_PATH_BYTES] = "";
    if (opts->file[0] != '/' && !getcwd(here, sizeof here - 1))
        return trail_errno("cannot find out where %s is", opts->file);
    int length = snprintf(path, POOL_PATH_BYTES, "%s%s%s", here, here[0] ? "/" : "", opts->file);
    return length < POOL_PATH_BYTES ? 0 : trail(CUE_EINVAL, "the path of the pool's file has more than %d bytes", POOL_PATH_BYTES - 1);
}

/* Is the pool that is open here the one that is meant? */
static bool pool_is(struct cue_pool *pool, const char *path, const cue_pool_opts *opts)
{
    struct stat info;
    if (atomic_load_explicit(&pool->open, acquire) != 1 || (pool->flags ^ opts->flags) & CUE_READ_ONLY || opts->flags & CUE_MEMFD ||
        atomic_load_explicit(&pool->header->life, acquire) == LIFE_GONE)
        return false;
    int looked = opts->fd ? fstat(opts->fd, &info) : lstat(path, &info); /* as shm_open_path: no links */
    return looked == 0 && info.st_dev == pool->device && info.st_ino == pool->inode;
}

static struct cue_pool *pool_already_open(const char *path, const cue_pool_opts *opts)
{
    for (unsigned i = 0; i < POOLS_MAX; i++)
        if (pool_is(&pool_table[i], path, opts))
            return &pool_table[i];
    return NULL;
}

static struct cue_pool *pool_slot(void)
{
    for (unsigned i = 0; i < POOLS_MAX; i++)
        if (atomic_load_explicit(&pool_table[i].open, acquire) == 0)
            return &pool_table[i];
    return NULL;
}

static int open_locked(const char *name, const cue_pool_opts *opts, cue_pool **out)
{
    char path[POOL_PATH_BYTES];
    int status = object_path(name, opts, path);
    if (status)
        return status;
    struct cue_pool *pool = pool_already_open(path, opts);
    if (pool && opts->flags & CUE_CREATE)
        return CUE_EEXIST;
    if (pool) {
        pool->opens++;
        *out = pool;
        return 0;
    }
    pool = pool_slot();
    if (!pool)
        return trail(CUE_ELIMIT, "this process has %d pools open", POOLS_MAX);
    pool->flags = opts->flags;
    pool->incarnation = ++incarnations & INCARNATION_MASK;
    atomic_store_explicit(&pool->copied, 0, relaxed); /* private */
    atomic_store_explicit(&pool->watches, 0, relaxed);
    memcpy(pool->path, path, sizeof path);
    status = path[0] ? open_or_make(pool, name, opts) : open_nameless(pool, name, opts);
    if (status)
        return status;
    pool->opens = 1;
    atomic_store_explicit(&pool->open, 1, release);
    *out = pool;
    return 0;
}

int cue_pool_open(const char *name, const cue_pool_opts *opts, cue_pool **out)
{
    static const cue_pool_opts defaults;
    if (!out)
        return trail(CUE_EINVAL, "cue_pool_open: no place for the result");
    *out = NULL;
    int saved = errno;
    int status = check_pool_opts(name, opts ? opts : &defaults);
    if (status)
        return status;
    pthread_once(&process_once, process_prepare);
    if (!fork_mark)
        return trail(CUE_ENOMEM, "no process memory");
    if (!atomic_load_explicit(fork_mark, acquire))
        pool_forked();
    pthread_mutex_lock(&registry_lock);
    status = open_locked(name, opts ? opts : &defaults, out);
    pthread_mutex_unlock(&registry_lock);
    if (!status && *out)
        pool_reap(*out);
    errno = saved;
    return status;
}

void cue_pool_close(cue_pool *pool)
{
    if (!pool)
        return;
    if (fork_mark && !atomic_load_explicit(fork_mark, acquire))
        pool_forked();
    pthread_mutex_lock(&registry_lock);
    if (atomic_load_explicit(&pool->open, acquire) == 1 && --pool->opens == 0)
        pool_end(pool);
    pthread_mutex_unlock(&registry_lock);
}

static void wake_everybody(struct cue_pool *pool)
{
    futex_wake(&pool->header->room, INT_MAX);
    futex_wake(&pool->header->parties, INT_MAX);
    futex_wake(&pool->header->events_bell, INT_MAX);
    for (unsigned i = 0; i < POOL_DIR_VERSIONS; i++)
        futex_wake(&pool->header->dir_version[i], INT_MAX);
}

int cue_pool_destroy(cue_pool *pool)
{
    int status = pool_enter(pool);
    if (!status && pool->flags & CUE_READ_ONLY)
        status = trail(CUE_EPERM, "pool %s is open read-only", pool->name);
    if (status)
        return status;
    atomic_store_explicit(&pool->header->life, LIFE_GONE, seq_cst); /* !! */
    /* comparing the name and unlinking it are two steps: only under INIT. A holder that is stopped leaves it to the next opener */
    struct life_lock init = { 0 };
    for (int tries = 0; tries < OPEN_TRIES && life_hold(pool->fd, LOCK_INIT, &init); tries++)
        sched_yield();
    if (init.page) {
        unlink_own_name(pool);
        life_release(&init);
    }
    wake_everybody(pool);
    pthread_mutex_lock(&registry_lock);
    if (atomic_load_explicit(&pool->open, acquire) == 1) {
        pool->opens = 0;
        pool_end(pool);
    }
    pthread_mutex_unlock(&registry_lock);
    return 0;
}

int cue_pool_fd(cue_pool *pool)
{
    int status = pool_enter(pool);
    if (!status && !pool_descriptor_good(pool))
        status = pool_descriptor_lost(pool);
    return status ? status : pool->fd;
}

int64_t cue_pool_trim(cue_pool *pool)
{
    int status = pool_enter(pool);
    if (!status && pool->flags & CUE_READ_ONLY)
        status = trail(CUE_EPERM, "pool %s is open read-only", pool->name);
    return status ? status : pool->huge ? 0 : extents_trim(pool); /* a huge page goes only as a whole, and hardly one is ever free */
}
