/* Parties: who is attached, and who lives.
 *
 * A party is a process; it has a slot. The slot's word says FREE or LIVE with an epoch and a pid; a lock byte of the object,
 * held by a mapping (base/life.h), says whether that is still true. No heartbeat and no time-out decides that a process is
 * dead: only the kernel does, by releasing the lock.
 *
 *   join   a FREE slot; its life byte; still FREE? what others read of us; word := LIVE, release  !!
 *   dead?  LIVE, the life byte not locked, still the same word
 *   leave  everything given back; word := FREE, next epoch  !!; the byte last
 *
 * Crash points: killed in join before LIVE: the slot is FREE and the lock is gone. Killed after it: dead, and reaped. Killed
 * in leave before FREE: the same; after it: the kernel drops the lock.
 *
 * The reaper of a dead party takes the slot's other byte, never the life byte: a stopped reaper must not make the dead look
 * alive.
 */
#include "pool_private.h"

#include "base/process.h"
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t party_word(unsigned state, uint32_t epoch, pid_t pid)
{
    return state | (uint64_t)(epoch & 0x3fffffff) << 2 | (uint64_t)(uint32_t)pid << 32;
}

static void parties_changed(struct cue_pool *pool)
{
    atomic_fetch_add_explicit(&pool->header->parties, 1, acq_rel);
    futex_wake(&pool->header->parties, INT_MAX);
}

static bool descriptor_is_pools(const struct cue_pool *pool, int fd)
{
    struct stat info;
    return fd >= 0 && fstat(fd, &info) == 0 && info.st_dev == pool->device && info.st_ino == pool->inode;
}

bool pool_descriptor_kept(const struct cue_pool *pool)
{
    return descriptor_is_pools(pool, pool->fd);
}

bool pool_descriptor_good(struct cue_pool *pool)
{
    int fd, saved = errno;
    if (pool_descriptor_kept(pool))
        return true;
    if (!pool->path[0] || shm_open_path(pool->path, !(pool->flags & CUE_READ_ONLY), &fd)) {
        errno = saved;
        return false;
    }
    bool good = descriptor_is_pools(pool, fd);
    if (good && !pool_descriptor_kept(pool)) /* another thread may have been quicker */
        pool->fd = fd;                       /* the old number is somebody else's by now, or closed */
    else
        close(fd);
    errno = saved;
    return good;
}

int pool_descriptor_lost(const struct cue_pool *pool)
{
    return trail(CUE_ESYS, "the descriptor of pool %s was closed by somebody else, and the pool cannot be opened again by its name",
                 pool->name);
}

static bool slot_take(struct cue_pool *pool, unsigned slot, const char *label)
{
    struct party *party = &pool->parties[slot];
    uint64_t word = atomic_load_explicit(&party->word, acquire);
    if (party_state(word) != PARTY_FREE || life_hold(pool->fd, LOCK_LIFE(slot), &pool->life))
        return false;
    if (atomic_load_explicit(&party->word, acquire) != word) {
        life_release(&pool->life);
        return false;
    }
    /* relaxed: made readable by LIVE */
    atomic_store_explicit(&party->pidns, process_pid_namespace(), relaxed);
    atomic_store_explicit(&party->start, process_start_time(getpid()), relaxed);
    atomic_store_explicit(&party->since_ns, (uint64_t)clock_ns(), relaxed);
    atomic_store_explicit(&party->waiting, 0, relaxed);
    atomic_store_explicit(&party->limited, 0, relaxed);
    atomic_store_explicit(&party->quota, pool->quota, relaxed);
    atomic_store_explicit(&party->failed, 0, relaxed);
    atomic_store_explicit(&party->uid, (uint32_t)geteuid(), relaxed);
    atomic_store_explicit(&party->gid, (uint32_t)getegid(), relaxed);
    if (label)
        snprintf(party->label, sizeof party->label, "%s", label);
    else
        process_label(party->label, sizeof party->label);
    pool->self = slot;
    pool->epoch = party_epoch(word);
    pool->lease_word = slot / 64;
    pool->lease_bit = UINT64_C(1) << (slot % 64);
    pool->pid = getpid();
    struct event_ticket ticket;
    event_party_begin(pool, &ticket, EVENT_PARTY_UP, slot, false);
    atomic_store_explicit(&party->word, party_word(PARTY_LIVE, pool->epoch, pool->pid), seq_cst); /* !! pairs with: pool_vanish */
    event_end(pool, &ticket, true);
    return true;
}

int party_join(struct cue_pool *pool, const char *label)
{
    for (int tries = 0; tries < 3; tries++) {
        for (unsigned slot = 0; slot < pool->max_parties; slot++)
            if (slot_take(pool, slot, label)) {
                parties_changed(pool);
                return 0;
            }
        if (pool_reap(pool) == 0 && tries)
            break;
    }
    return trail(CUE_ELIMIT, "pool %s has all of its %u parties", pool->name, pool->max_parties);
}

void party_leave(struct cue_pool *pool)
{
    struct event_ticket ticket;
    recovery_sweep(pool, pool->self, pool->epoch);
    event_party_begin(pool, &ticket, EVENT_PARTY_DOWN, pool->self, false);
    atomic_store_explicit(&pool->parties[pool->self].word, party_word(PARTY_FREE, pool->epoch + 1, 0), seq_cst); /* !! */
    event_end(pool, &ticket, true);
    life_release(&pool->life);
    parties_changed(pool);
}

bool party_dead(struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    if (slot >= pool->max_parties || slot == pool->self)
        return false;
    struct party *party = &pool->parties[slot];
    uint64_t word = atomic_load_explicit(&party->word, acquire);
    return party_state(word) == PARTY_LIVE && (epoch == UINT32_MAX || party_epoch(word) == epoch) && pool_descriptor_good(pool) &&
           !life_held(pool->fd, LOCK_LIFE(slot)) && atomic_load_explicit(&party->word, acquire) == word;
}

/* ---- reaping ---- */

static bool reap(struct cue_pool *pool, unsigned slot)
{
    struct life_lock lock;
    uint64_t word = atomic_load_explicit(&pool->parties[slot].word, acquire);
    if (life_hold(pool->fd, LOCK_REAP(slot), &lock))
        return false; /* somebody is at it */
    bool dead = party_dead(pool, slot, party_epoch(word)) && recovery_able(pool);
    if (dead) {
        recovery_sweep(pool, slot, party_epoch(word));
        recovery_rebuild_hints(pool);
        struct event_ticket ticket;
        event_party_begin(pool, &ticket, EVENT_PARTY_DOWN, slot, true);
        atomic_store_explicit(&pool->parties[slot].word, party_word(PARTY_FREE, party_epoch(word) + 1, 0), seq_cst); /* !! */
        event_end(pool, &ticket, true);
        atomic_fetch_add_explicit(&pool->header->reaped, 1, relaxed); /* a count for people */
    }
    life_release(&lock);
    return dead;
}

unsigned pool_reap(struct cue_pool *pool)
{
    unsigned reaped = 0;
    if (pool->flags & CUE_READ_ONLY)
        return 0;
    for (unsigned slot = 0; slot < pool->max_parties; slot++)
        if (party_dead(pool, slot, UINT32_MAX) && reap(pool, slot))
            reaped++;
    if (reaped) {
        parties_changed(pool);
        room_wake(pool);
    }
    return reaped;
}
