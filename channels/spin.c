/* See spin.h. */
#include "spin.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_NS = 20000, LEAST_SHARE = 16, LOOK_EVERY = 64 };

static bool one_cpu(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
}

/* $CUE_SPIN: a number with us, ms or s behind it, or 0; what makes no sense counts as not set. */
static int64_t spin_default(void)
{
    const char *text = secure_getenv("CUE_SPIN");
    char *unit;
    if (!text || *text < '0' || *text > '9')
        return DEFAULT_NS;
    int64_t number = strtol(text, &unit, 10), scale = strcmp(unit, "us") == 0   ? 1000
                                                      : strcmp(unit, "ms") == 0 ? 1000000
                                                      : strcmp(unit, "s") == 0  ? 1000000000
                                                                                : 0;
    if (number == 0)
        return 0;
    return scale && number < INT64_MAX / scale ? number * scale : DEFAULT_NS;
}

static void spin_look(struct spin *spin)
{
    int64_t most = one_cpu() ? 0 : spin_default();
    if (most != spin->most)
        spin->now = most;
    spin->most = most;
}

void spin_init(struct spin *spin, cue_time asked)
{
    *spin = (struct spin){ .most = asked.ns > 0 ? asked.ns : 0, .by_default = asked.ns == 0 };
    spin->now = spin->most;
    if (spin->by_default)
        spin_look(spin);
}

void spin_learn(struct spin *spin, int64_t ns)
{
    if (spin->by_default && ++spin->sleeps % LOOK_EVERY == 0)
        spin_look(spin);
    int64_t next = ns <= 2 * spin->most ? spin->now * 2 : spin->now / 2, least = spin->most / LEAST_SHARE;
    spin->now = next > spin->most ? spin->most : next < least ? least : next;
}
