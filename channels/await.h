/* How a thread waits at its end of a lane, whatever the kind.
 *
 * It looks, spins for a while (spin.h), then announces itself, looks once more, and naps on a futex of the lane. A nap ends at the latest
 * with its watch period: then the dead whom nobody has noticed are cleaned up after. In another thread a wait is ended by
 * cue_channel_wake and cue_channel_close: they set a flag, which a waiter looks at after it has announced itself, and then call all who
 * sleep on a word of the lane; most kinds change it, too, so that who is just about to sleep does not. Where it is only called (a topic's
 * room, the pool's) such a one notices at the end of its watch period.
 */
#ifndef AWAIT_H
#define AWAIT_H

#include "lane.h"
#include "spin.h"

struct halt {
    _Atomic uint32_t woken, closing; /* cue_channel_wake, cue_channel_close: looked at by whoever is about to wait */
};

/* Whether a wait has to end for another reason than what it waits for. After it was announced, before the futex. */
static inline int interrupted(struct halt *halt)
{
    if (__builtin_expect(atomic_load_explicit(&halt->closing, seq_cst), 0)) /* pairs with: the kinds' close */
        return CUE_ECLOSED;
    if (__builtin_expect(atomic_load_explicit(&halt->woken, seq_cst), 0) &&
        atomic_exchange_explicit(&halt->woken, 0, acq_rel)) /* pairs with: the kinds' wake */
        return CUE_EINTR;
    return 0;
}

/* In a forked child: they were for the parent's threads, which are not here. */
static inline void halt_forget(struct halt *halt)
{
    atomic_store_explicit(&halt->woken, 0, relaxed); /* private */
    atomic_store_explicit(&halt->closing, 0, relaxed);
}

/* One nap, if nothing speaks against it; 0: look again. */
int lane_nap(struct cue_pool *pool, struct halt *halt, _Atomic uint32_t *word, uint32_t value, int64_t ns);

/* Spins for a while; true: it is there. */
static inline __attribute__((always_inline)) bool await_spinning(struct spin *spin, const struct halt *halt, int64_t began,
                                                                 int64_t deadline, bool (*there)(void *ch), void *ch)
{
    int64_t now = spin_now(spin), most = deadline - began < now ? deadline - began : now;
    for (unsigned rounds = 0;; rounds++) {
        if (there(ch))
            return true;
        if (rounds < 200)
            continue;
        cpu_relax();
        if (rounds % 32 == 0 &&
            (clock_ns() - began >= most || atomic_load_explicit(&halt->woken, relaxed) || atomic_load_explicit(&halt->closing, relaxed)))
            return false;
    }
}

/* Until something is `there` for a receiver: 0, or why not, which `nap` finds out. In place, as it is on every answer's way. */
static inline __attribute__((always_inline)) int await_message(struct spin *spin, struct halt *halt, int64_t deadline,
                                                               bool (*there)(void *ch), int (*nap)(void *ch, int64_t deadline), void *ch)
{
    int status = interrupted(halt);
    int64_t began = 0;
    if (!status && spin_most(spin) > 0) {
        for (unsigned looks = 0; looks < 500; looks++) /* an answer that is on its way: sooner than a clock is read */
            if (there(ch))
                return 0;
        began = clock_ns();
        if (await_spinning(spin, halt, began, deadline, there, ch))
            return 0;
    }
    while (!status && !there(ch))
        status = nap(ch, deadline);
    if (began)
        spin_learn(spin, clock_ns() - began);
    return status;
}

#endif
