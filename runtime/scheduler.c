/* The scheduler: one thread that runs all actors of this process.
 *
 * It keeps a line of actors that have messages. Who is in line gets RUN_BUDGET messages at a time and, if there are more, goes to
 * the end of the line, so a flood at one actor delays the others by no more than a budget each. An actor whose mailbox is
 * empty dozes: its next sender rings the bell, which puts it in line again; a sender that is itself running on this thread puts it
 * in line without touching the bell (route.c).
 *
 * With an empty line the thread looks at the bell for a moment (as channels do, spin.h) and then sleeps on it, at most a watch
 * period; then it cleans up after the dead: a sender that was killed between its push and the bell has left a message that
 * nobody rang for, and its reaper rings.
 */
#include "runtime_internal.h"

#include "channels/ask.h"

#include <errno.h>
#include <signal.h>

enum { LOOK_AGAIN_NS = 5000000 };

_Thread_local struct current current;

void scheduler_queue(struct cue_system *sys, struct actor *a)
{
    if (a->queued)
        return;
    a->queued = true;
    a->next = NULL;
    *sys->line_end = a;
    sys->line_end = &a->next;
}

static struct actor *line_pop(struct cue_system *sys)
{
    struct actor *a = sys->line;
    if (!a)
        return NULL;
    sys->line = a->next;
    if (!sys->line)
        sys->line_end = &sys->line;
    a->queued = false;
    return a;
}

static void rung(void *arg, uint32_t bit)
{
    struct cue_system *sys = arg;
    struct actor *a = bit < sys->bits ? atomic_load_explicit(&sys->actors[bit], seq_cst) : NULL; /* pairs with: actor_known */
    if (!a || !a->run || a->queued)                                                              /* it ended meanwhile */
        return;
    lane_end_rouse(&a->in);
    scheduler_queue(sys, a);
}

/* Whether `a` goes on; otherwise it has ended. */
static bool handle(struct cue_system *sys, struct actor *a, cue_msg *m)
{
    a->running = true;
    int status = a->run(a->state, m);
    a->running = false;
    if (__builtin_expect(status < 0, 0))
        ask_refuse(sys->pool, m, CUE_EFAILED);
    cue_msg_release(m);
    atomic_store_explicit(&sys->handled, atomic_load_explicit(&sys->handled, relaxed) + 1,
                          relaxed); /* a count for people; only we write it */
    if (__builtin_expect(status == 0 && !a->ending, 1))
        return true;
    actor_end(sys, a, status < 0 ? status : a->ending ? a->ending_reason : 0);
    return false;
}

static void run(struct cue_system *sys, struct actor *a)
{
    int reason = 0;
    current.actor = a;
    lane_end_use(&a->in, sys->links, SHARED_LINKS, &sys->near_slabs);
    for (unsigned budget = RUN_BUDGET; budget; budget--) {
        cue_msg m;
        int got = actor_next(sys, a, &m, &reason);
        if (got == 0) {
            if (lane_end_doze(&a->in)) {
                current.actor = NULL;
                return;
            }
            continue;
        }
        if (got < 0)
            actor_end(sys, a, reason);
        if (got < 0 || !handle(sys, a, &m)) {
            current.actor = NULL;
            return;
        }
    }
    current.actor = NULL;
    scheduler_queue(sys, a);
}

static bool told_to_look(void *arg)
{
    struct cue_system *sys = arg;
    return atomic_load_explicit(&sys->quit, seq_cst) || atomic_load_explicit(&sys->cut, seq_cst); /* pairs with: scheduler_stop */
}

/* True: there is something to do. */
static bool spin_for_work(struct cue_system *sys, int64_t began, int64_t most)
{
    while (clock_ns() - began < most)
        for (int i = 0; i < 32; i++) {
            if (bell_any(sys->bell, sys->bits) || told_to_look(sys))
                return true;
            cpu_relax();
        }
    return false;
}

/* What nobody rings for, once a watch period: cleans up after the dead, notes which children have ended, and, more often while
 * there are any, sends what found no room. */
static void upkeep(struct cue_system *sys, int64_t *next)
{
    int64_t now = clock_ns();
    bool unsent = atomic_load_explicit(&sys->have_unsent, relaxed); /* a hint: late by a watch period at most */
    if (unsent)
        route_retry(sys);
    if (now < *next)
        return;
    *next = now + WATCH_PERIOD_NS;
    pool_reap(sys->pool);
    pthread_mutex_lock(&sys->lock);
    children_look(sys);
    pthread_mutex_unlock(&sys->lock);
}

static void idle(struct cue_system *sys, struct spin *spin)
{
    int64_t began = spin->most > 0 ? clock_ns() : 0;
    if (spin->most > 0 && spin_for_work(sys, began, spin->now))
        return;
    bool unsent = atomic_load_explicit(&sys->have_unsent, relaxed); /* a hint, as above */
    bell_sleep(sys->bell, sys->bits, unsent ? LOOK_AGAIN_NS : WATCH_PERIOD_NS, told_to_look, sys);
    if (spin->most > 0)
        spin_learn(spin, clock_ns() - began);
}

/* Ends whoever is left, the youngest first. */
void scheduler_cut_off(struct cue_system *sys)
{
    for (;;) {
        pthread_mutex_lock(&sys->lock);
        struct actor *a = sys->youngest;
        while (a && !a->run)
            a = a->older;
        pthread_mutex_unlock(&sys->lock);
        if (!a)
            break;
        current.actor = a;
        lane_end_use(&a->in, sys->links, SHARED_LINKS, &sys->near_slabs);
        actor_end(sys, a, CUE_EKILLED);
    }
    current.actor = NULL;
    sys->line = NULL;
    sys->line_end = &sys->line;
}

static void *loop(void *arg)
{
    struct cue_system *sys = arg;
    int64_t next_upkeep = 0;
    struct spin spin;
    spin_init(&spin, CUE_NS(0));
    current = (struct current){ .number = atomic_load_explicit(&sys->number, relaxed), .scheduler = true };
    for (unsigned runs = 0;; runs++) {
        if (told_to_look(sys)) {
            if (atomic_load_explicit(&sys->cut, acquire))
                scheduler_cut_off(sys);
            if (atomic_load_explicit(&sys->quit, acquire))
                break;
        }
        if (!sys->line || runs % 16 == 0)
            bell_take(sys->bell, sys->bits, rung, sys);
        struct actor *a = line_pop(sys);
        if (a)
            run(sys, a);
        else
            idle(sys, &spin);
        if (!a || runs % 256 == 0)
            upkeep(sys, &next_upkeep);
    }
    return NULL;
}

int scheduler_start(struct cue_system *sys)
{
    sigset_t all, before;
    if (sys->thread_runs)
        return 0;
    sys->line = NULL;
    sys->line_end = &sys->line;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on our threads */
    int error = pthread_create(&sys->thread, NULL, loop, sys);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        errno = error;
        return trail_errno("cannot start the scheduler's thread");
    }
    sys->thread_runs = true;
    return 0;
}

void scheduler_stop(struct cue_system *sys)
{
    if (!sys->thread_runs)
        return;
    atomic_store_explicit(&sys->quit, true, seq_cst); /* pairs with: told_to_look in bell_sleep */
    bell_nudge(sys->bell);
    pthread_join(sys->thread, NULL);
    sys->thread_runs = false;
}
