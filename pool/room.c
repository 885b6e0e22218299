/* Waiting for room: first come, first served.
 *
 * A thread that waits takes a ticket. A party's slot shows the ticket of its oldest waiting thread and when that thread last
 * looked; the oldest ticket of all living parties has the turn, all others sleep. So what is freed gathers until it is enough for
 * the one who came first, and a small request does not starve a big one. Who would wait looks first whether others do already, and
 * then stands behind them, also when there is room: `line`, bit 0, or bit 1 for a limit, says that there may be somebody. It is set
 * after the ticket shows; who sees it and finds no ticket takes it off by a CAS that fails if somebody has come since.
 *
 * Who waits for a place under a limit of its own, a budget, is in a line with those who wait for the same limit, and in nobody else's way:
 * else one who has to wait for room before it can free what is under the limit, and one who waits for that, would wait for each other.
 *
 * Nobody waits for one that cannot act: a ticket counts only while its party lives and its thread has looked within the last two
 * watch periods. A waiter that was stopped keeps its ticket and has its turn again when it goes on.
 *
 * Who does not want to wait takes what is there. So that this does not go on for ever, one who has had the turn for ten watch
 * periods in vain holds them back until `hold_until` (CUE_ENOMEM): for an eighth of the time that it has waited, from two periods to
 * twenty, and then not for five times as long. What comes free meanwhile gathers for it, so it is served in the first of these times in
 * which enough does; and one who waits for what never comes costs those who do not wait a sixth of the time. It is a request, and only
 * a time: nobody has to take it back, and the dead cannot leave it behind. A block out of what a thread has open or its process has just
 * freed is not held back, that room is nobody else's; nor are messages, since what is on its way ends in a free.
 *
 * For the same reason a sender of a small message that waits tries whenever it looks, also out of its turn (`any_turn`): who is
 * before it may wait for what it has in hand to send. It keeps its place all the while, and when its turn has come those who wait behind
 * it leave it what comes free.
 *
 * What is free in extents and slabs that others hold cannot be had before they give it up (`pressure`). They do so at their next
 * request for granules, before they sleep in the library, and at their next free while somebody waits.
 *
 * `room` is the futex word (model room.pml): bit 0 says that somebody waits, the rest counts. A waiter sets the bit, tries, sleeps on
 * what it saw; a free clears the bit, counts the word up and wakes all. Killed with a ticket: the slot is dead, and the next joiner
 * clears it.
 */
#include "pool_private.h"

#include <limits.h>

struct room_waiter {
    uint64_t ticket;
    int64_t turn_ns, hold_ns; /* since when it has had the turn, 0: not yet; when to hold others back again */
    uint32_t limit;           /* 0: it waits for room */
    struct room_waiter *next;
};

enum { STALE_NS = 2 * WATCH_PERIOD_NS };
#define HOLD_AFTER_NS (10 * (int64_t)WATCH_PERIOD_NS)
#define HOLD_LEAST_NS (2 * (int64_t)WATCH_PERIOD_NS)
#define HOLD_MOST_NS (20 * (int64_t)WATCH_PERIOD_NS)

#define LINE_BIT(limit) ((limit) ? UINT64_C(2) : UINT64_C(1))
#define LINE_ONE UINT64_C(4)

/* This thread tries as a waiter: what it allocates is what others are held back for. The first in the line for room wakes nobody by what it
 * gives back itself: it would wake itself. */
static _Thread_local enum { NO_TURN, ROOM_TURN, OTHER_TURN } turn_of;

/* In one step: a waiter that set the bit between two would sleep on a word that a third one could bring back. */
static void room_call(struct cue_pool *pool)
{
    _Atomic uint32_t *room = &pool->header->room;
    uint32_t word = atomic_load_explicit(room, acquire);
    while (word & 1) /* those who still wait set it again */
        if (atomic_compare_exchange_weak_explicit(room, &word, word + 1, acq_rel, acquire)) {
            futex_wake(room, INT_MAX);
            return;
        }
}

/* Also if we have seen that somebody missed some: what we took since is missed, too. */
static __attribute__((noinline)) void give_up_and_call(struct cue_pool *pool)
{
    slabs_give_up_thread(pool);
    extents_give_up(pool);
    room_call(pool);
}

void room_wake(struct cue_pool *pool)
{
    if (__builtin_expect(!(atomic_load_explicit(&pool->header->room, seq_cst) & 1), 1)) /* pairs with: wait_in_line */
        return;
    if (turn_of == ROOM_TURN)
        return;
    give_up_and_call(pool);
}

void pool_before_sleep(struct cue_pool *pool)
{
    if (pool_give_up_missed(pool)) /* else nothing is new: who waits would look in vain, and say again that it missed some */
        room_call(pool);
}

/* Our oldest waiter for room, or the same limit, or (`any`) any limit. Under waiters_lock. */
static const struct room_waiter *oldest(const struct cue_pool *pool, uint32_t limit, bool any)
{
    const struct room_waiter *at = pool->waiters;
    while (at && (any && limit ? !at->limit : at->limit != limit))
        at = at->next;
    return at;
}

/* The slot shows our oldest of that kind. Under waiters_lock. */
static void show_oldest(struct cue_pool *pool, uint32_t limit)
{
    struct party *party = &pool->parties[pool->self];
    const struct room_waiter *first = oldest(pool, limit, true);
    uint64_t now = (uint64_t)clock_ns(), ticket = first ? first->ticket : 0;
    if (!limit) {
        atomic_store_explicit(&party->waiting_ns, now, relaxed); /* before the ticket that it is for */
        atomic_store_explicit(&party->waiting, ticket, release);
        return;
    }
    atomic_store_explicit(&party->limited_ns, now, relaxed); /* the same */
    atomic_store_explicit(&party->limited_by, first ? first->limit : 0, relaxed);
    atomic_store_explicit(&party->limited, ticket, release);
}

static void waiter_enter(struct cue_pool *pool, struct room_waiter *me)
{
    pthread_mutex_lock(&pool->waiters_lock);
    me->ticket = atomic_fetch_add_explicit(&pool->header->tickets, 1, acq_rel) + 1; /* under the lock: in order */
    struct room_waiter **last = &pool->waiters;
    while (*last)
        last = &(*last)->next;
    *last = me;
    show_oldest(pool, me->limit);
    uint64_t line = atomic_load_explicit(&pool->header->line, relaxed);
    while (!cas(&pool->header->line, &line, (line + LINE_ONE) | LINE_BIT(me->limit))) /* pairs with: room_awaited */
        ;
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
    show_oldest(pool, me->limit);
    pthread_mutex_unlock(&pool->waiters_lock);
    if (me->hold_ns)
        atomic_store_explicit(&pool->header->hold_until, 0, relaxed); /* a request; at worst the next one's, which comes again */
}

/* Is there a ticket before this one, for the same, of somebody who can act? `any`: whether there is one of this kind at all, of somebody
 * who lives or is not known to have died. */
static bool acts_before(struct cue_pool *pool, uint32_t limit, uint64_t than, bool *any)
{
    uint64_t now = (uint64_t)clock_ns();
    for (unsigned slot = 0; slot < pool->max_parties; slot++) {
        struct party *party = &pool->parties[slot];
        uint64_t ticket = atomic_load_explicit(limit ? &party->limited : &party->waiting, acquire),
                 seen = atomic_load_explicit(limit ? &party->limited_ns : &party->waiting_ns, relaxed); /* a hint */
        if (!ticket || party_state(atomic_load_explicit(&party->word, acquire)) != PARTY_LIVE)
            continue;
        *any = true;
        if (limit && atomic_load_explicit(&party->limited_by, relaxed) != limit) /* a hint */
            continue;
        bool acts = now < seen + STALE_NS && seen < now + STALE_NS; /* else it is stopped, or of another time namespace */
        if (ticket < than && acts && !party_dead(pool, slot, UINT32_MAX))
            return true;
    }
    return false;
}

bool room_awaited(struct cue_pool *pool, uint32_t limit)
{
    uint64_t line = atomic_load_explicit(&pool->header->line, acquire); /* pairs with: waiter_enter */
    bool any = false;
    if (__builtin_expect(!(line & LINE_BIT(limit)), 1))
        return false;
    if (acts_before(pool, limit, UINT64_MAX, &any))
        return true;
    if (!any)
        cas(&pool->header->line, &line, line & ~LINE_BIT(limit));
    return false;
}

/* Is it my turn? Says that we can act. */
static bool my_turn(struct cue_pool *pool, const struct room_waiter *me)
{
    bool any;
    pthread_mutex_lock(&pool->waiters_lock);
    bool oldest_here = oldest(pool, me->limit, false) == me;
    if (oldest_here)
        show_oldest(pool, me->limit);
    pthread_mutex_unlock(&pool->waiters_lock);
    return oldest_here && !acts_before(pool, me->limit, me->ticket, &any);
}

bool room_held(struct cue_pool *pool)
{
    int64_t until = (int64_t)atomic_load_explicit(&pool->header->hold_until, relaxed); /* a request */
    if (__builtin_expect(until == 0, 1) || turn_of != NO_TURN)
        return false;
    int64_t now = clock_ns();
    return now < until && until <= now + HOLD_MOST_NS; /* later: of another boot, or damage */
}

/* Before a try, as the one who has the turn. */
static void hold_back(struct cue_pool *pool, struct room_waiter *me)
{
    int64_t now = clock_ns();
    if (!me->turn_ns)
        me->turn_ns = now;
    if (now < me->turn_ns + HOLD_AFTER_NS || now < me->hold_ns)
        return;
    int64_t share = (now - me->turn_ns) / 8, length = share < HOLD_LEAST_NS ? HOLD_LEAST_NS : share > HOLD_MOST_NS ? HOLD_MOST_NS : share;
    atomic_store_explicit(&pool->header->hold_until, (uint64_t)(now + length), relaxed); /* a request */
    me->hold_ns = now + 6 * length;
}

static bool is_over(const struct room_until *until, int woken, int *status)
{
    bool signalled = woken == CUE_EINTR;
    *status = until->over ? until->over(until->arg, signalled) : signalled ? CUE_EINTR : 0;
    return *status != 0;
}

/* What the try itself took hold of in vain is given up without a word: whoever looked for it would look in vain, and wake us. */
static int try_as(struct cue_pool *pool, struct room_waiter *me, bool first, int (*try)(struct cue_pool *pool, void *arg), void *arg)
{
    if (first)
        hold_back(pool, me);
    turn_of = first ? ROOM_TURN : OTHER_TURN;
    int status = try(pool, arg);
    turn_of = NO_TURN;
    if (status == CUE_ENOMEM && !me->limit)
        pool_give_up_missed(pool);
    return status;
}

static int wait_in_line(struct cue_pool *pool, struct room_waiter *me, const struct room_until *until,
                        int (*try)(struct cue_pool *pool, void *arg), void *arg)
{
    _Atomic uint32_t *room = &pool->header->room;
    int woken = 0;
    for (;;) {
        if (until->any_turn)
            pool_before_sleep(pool); /* what we hold may be what the one before us needs; before we look at the word: it may wake us */
        uint32_t seen = atomic_fetch_or_explicit(room, 1, seq_cst) | 1; /* before the try: a free after it wakes us */
        int status = pool_wait_look(pool);
        bool turn = !status && my_turn(pool, me);
        if (!status)
            status = turn || until->any_turn ? try_as(pool, me, turn && !me->limit, try, arg) : CUE_ENOMEM;
        if (status != CUE_ENOMEM)
            return status;
        if ((!turn && !until->any_turn) || me->limit)
            pool_before_sleep(pool); /* as above */
        int64_t nap = deadline_nap(until->deadline);
        if (nap <= 0)
            return trail(CUE_ENOMEM, "pool %s had no room in time", pool->name);
        if (is_over(until, woken, &status))
            return status;
        woken = futex_wait(room, seen, nap);
    }
}

int room_wait(struct cue_pool *pool, uint32_t limit, const struct room_until *until, int (*try)(struct cue_pool *pool, void *arg),
              void *arg)
{
    struct room_waiter me = { .limit = limit };
    waiter_enter(pool, &me);
    int status = wait_in_line(pool, &me, until, try, arg);
    waiter_leave(pool, &me);
    room_wake(pool); /* the next one's turn */
    return status;
}
