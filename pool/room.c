/* Waiting for room: first come, first served.
 *
 * A thread that waits takes a ticket. A party's slot shows the ticket of its oldest waiting thread and when that thread last
 * looked; the oldest ticket of all living parties has the turn, all others sleep. So what is freed gathers until it is enough for
 * the one who came first, and a small request does not starve a big one. Who does not want to wait takes what is there.
 *
 * Nobody waits for one that cannot act: a ticket counts only while its party lives and its thread has looked within the last two
 * watch periods. A waiter that was stopped keeps its ticket and has its turn again when it goes on.
 *
 * `room` is the futex word: bit 0 says that somebody waits, the rest counts. A waiter sets the bit, tries, sleeps on what it saw;
 * a free changes the word and wakes all. Killed with a ticket: the slot is dead, and the next joiner clears it.
 */
#include "pool_private.h"

#include <limits.h>

struct room_waiter {
    uint64_t ticket;
    struct room_waiter *next;
};

enum { STALE_NS = 2 * WATCH_PERIOD_NS };

void room_wake(struct cue_pool *pool)
{
    _Atomic uint32_t *room = &pool->header->room;
    if (__builtin_expect(!(atomic_load_explicit(room, acquire) & 1), 1))
        return;
    atomic_fetch_add_explicit(room, 2, acq_rel);
    atomic_fetch_and_explicit(room, ~UINT32_C(1), acq_rel); /* those who still wait set it again */
    futex_wake(room, INT_MAX);
}

/* The slot shows our oldest. Under waiters_lock. */
static void show_oldest(struct cue_pool *pool)
{
    struct party *party = &pool->parties[pool->self];
    atomic_store_explicit(&party->waiting_ns, (uint64_t)clock_ns(), relaxed); /* before the ticket that it is for */
    atomic_store_explicit(&party->waiting, pool->waiters ? pool->waiters->ticket : 0, release);
}

static void waiter_enter(struct cue_pool *pool, struct room_waiter *me)
{
    pthread_mutex_lock(&pool->waiters_lock);
    me->ticket = atomic_fetch_add_explicit(&pool->header->tickets, 1, acq_rel) + 1; /* under the lock: ours come in order */
    me->next = NULL;
    struct room_waiter **last = &pool->waiters;
    while (*last)
        last = &(*last)->next;
    *last = me;
    show_oldest(pool);
    pthread_mutex_unlock(&pool->waiters_lock);
}

static void waiter_leave(struct cue_pool *pool, struct room_waiter *me)
{
    pthread_mutex_lock(&pool->waiters_lock);
    for (struct room_waiter **link = &pool->waiters; *link; link = &(*link)->next)
        if (*link == me) {
            *link = me->next;
            break;
        }
    show_oldest(pool);
    pthread_mutex_unlock(&pool->waiters_lock);
}

/* Is there no older ticket of somebody who can act? Says that we can. */
static bool my_turn(struct cue_pool *pool, const struct room_waiter *me)
{
    pthread_mutex_lock(&pool->waiters_lock);
    bool oldest_here = pool->waiters == me;
    if (oldest_here)
        show_oldest(pool);
    pthread_mutex_unlock(&pool->waiters_lock);
    if (!oldest_here)
        return false;
    uint64_t now = (uint64_t)clock_ns();
    for (unsigned slot = 0; slot < pool->max_parties; slot++) {
        struct party *party = &pool->parties[slot];
        uint64_t ticket = atomic_load_explicit(&party->waiting, acquire),
                 seen = atomic_load_explicit(&party->waiting_ns, relaxed); /* a hint */
        if (ticket && ticket < me->ticket && now < seen + STALE_NS &&
            party_state(atomic_load_explicit(&party->word, acquire)) == PARTY_LIVE && !party_dead(pool, slot, UINT32_MAX))
            return false;
    }
    return true;
}

struct asked {
    int (*stop)(void *arg); /* or NULL: any signal ends the wait */
    void *arg;
};

static bool stopped(const struct asked *asked, int woken)
{
    return asked->stop ? asked->stop(asked->arg) != 0 : woken == CUE_EINTR;
}

static int wait_in_line(struct cue_pool *pool, const struct room_waiter *me, int64_t deadline, int (*try)(struct cue_pool *pool, void *arg),
                        void *arg, const struct asked *asked)
{
    _Atomic uint32_t *room = &pool->header->room;
    for (;;) {
        uint32_t seen = atomic_fetch_or_explicit(room, 1, seq_cst) | 1; /* before the try: a free after it wakes us */
        int status = pool_wait_look(pool);
        if (!status)
            status = my_turn(pool, me) ? try(pool, arg) : CUE_ENOMEM;
        if (status != CUE_ENOMEM)
            return status;
        pool_before_sleep(pool); /* what we hold may be what another waiter needs */
        int64_t nap = deadline_nap(deadline);
        if (nap <= 0)
            return trail(CUE_ENOMEM, "pool %s had no room in time", pool->name);
        if (stopped(asked, futex_wait(room, seen, nap)))
            return CUE_EINTR;
    }
}

int room_wait(struct cue_pool *pool, int64_t deadline, int (*try)(struct cue_pool *pool, void *arg), void *arg)
{
    return room_wait_asking(pool, deadline, try, arg, NULL, NULL);
}

int room_wait_asking(struct cue_pool *pool, int64_t deadline, int (*try)(struct cue_pool *pool, void *arg), void *arg,
                     int (*stop)(void *arg), void *stop_arg)
{
    struct room_waiter me;
    waiter_enter(pool, &me);
    int status = wait_in_line(pool, &me, deadline, try, arg, &(struct asked){ stop, stop_arg });
    waiter_leave(pool, &me);
    room_wake(pool); /* the next one's turn */
    return status;
}
