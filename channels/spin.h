/* How long a receiver spins before it sleeps: bounded and adaptive.
 *
 * Waking a sleeper on another CPU costs 13-30 us in a virtual machine, a hand-over to one that spins 0.15 us; but a CPU that
 * spins does nothing else, and where the process may use one CPU only (by its affinity, or by the quota of its control group) the
 * sender cannot even run. So a wait spins for at most `most`; waits that took far longer than that halve what the next one tries,
 * waits that would have been caught double it.
 */
#ifndef SPIN_H
#define SPIN_H

#include "channel_internal.h"

/* Private to the process; threads that share one may lose each other's lessons. */
struct spin {
    _Atomic int64_t most, now; /* ns; now: what the next wait tries */
    bool by_default;           /* `most` follows the number of CPUs that we may use */
    _Atomic unsigned sleeps;
};

static inline int64_t spin_most(const struct spin *spin)
{
    return atomic_load_explicit(&spin->most, memory_order_relaxed);
}
static inline int64_t spin_now(const struct spin *spin)
{
    return atomic_load_explicit(&spin->now, memory_order_relaxed);
}

/* `asked` as in cue_channel_opts. */
void spin_init(struct spin *spin, cue_time asked);
/* After a wait of `ns` in all, spinning included. */
void spin_learn(struct spin *spin, int64_t ns);
/* For waits that are no one channel's. */
struct spin *spin_of_thread(void);

/* Whether a control group below `root` allows the process no more than the time of one CPU; `groups` as in /proc/self/cgroup. */
bool spin_quota_of_one(const char *root, const char *groups);

#endif
