/* Time: the monotonic clock, and deadlines made from a caller's wait. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <cuelight/error.h>
#include <time.h>

/* No sleep in the library is longer than this without a look at the condition and at the lives of those it depends on. */
#define WATCH_PERIOD_NS 100000000

static inline int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The moment at which a wait ends; INT64_MAX: never. Reads the clock only for a wait that has an end. */
static inline int64_t deadline_of(cue_time wait)
{
    if (wait.ns <= 0)
        return 0;
    int64_t now = wait.ns == INT64_MAX ? 0 : clock_ns();
    return wait.ns > INT64_MAX - now ? INT64_MAX : now + wait.ns;
}

/* A deadline that is made when somebody must wait: reading the clock costs as much as a message. Negative: a duration still. */
static inline int64_t deadline_later(cue_time wait)
{
    return wait.ns <= 0 ? 0 : wait.ns == INT64_MAX ? INT64_MAX : -wait.ns;
}
static inline int64_t deadline_made(int64_t deadline)
{
    return deadline < 0 ? deadline_of(CUE_NS(-deadline)) : deadline;
}

/* How long one may sleep now: at most the watch period; <= 0: the wait is over. */
static inline int64_t deadline_nap(int64_t deadline)
{
    if (deadline == INT64_MAX)
        return WATCH_PERIOD_NS;
    if (deadline == 0)
        return 0;
    int64_t left = deadline - clock_ns();
    return left < WATCH_PERIOD_NS ? left : WATCH_PERIOD_NS;
}

/* Says "I spin" to the CPU: lets the other hardware thread run, saves power. */
static inline void cpu_relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__ || defined __arm__
    __asm__ __volatile__("yield");
#endif
}

#endif
