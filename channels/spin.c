/* See spin.h. */
#include "spin.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_NS = 20000, LEAST_SHARE = 16, LOOK_EVERY = 64, PATH_BYTES = 512 };

/* ---- how many CPUs ---- */

static bool read_text(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, bytes - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = 0;
    return got > 0;
}

/* Whether the folder of a control group, or one above it, allows no more than one CPU's time: cpu.max is "QUOTA PERIOD" or "max PERIOD". */
static bool folder_limits(const char *root, char *path)
{
    char file[2 * PATH_BYTES], text[64];
    for (;;) {
        long long quota, period;
        snprintf(file, sizeof file, "%s%s/cpu.max", root, path);
        if (read_text(file, text, sizeof text) && sscanf(text, "%lld %lld", &quota, &period) == 2 && quota <= period)
            return true;
        char *slash = strrchr(path, '/');
        if (!slash)
            return false;
        *slash = 0;
    }
}

bool spin_quota_of_one(const char *root, const char *groups)
{
    char path[PATH_BYTES];
    for (const char *line = groups; *line; line += strcspn(line, "\n"), line += *line != 0) /* "0::/path": the unified hierarchy */
        if (strncmp(line, "0::", 3) == 0 && strcspn(line + 3, "\n") < sizeof path) {
            snprintf(path, sizeof path, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
            return folder_limits(root, path);
        }
    return false;
}

static bool of_one_quota;

static void quota_look(void)
{
    char groups[1024];
    of_one_quota = read_text("/proc/self/cgroup", groups, sizeof groups) && spin_quota_of_one("/sys/fs/cgroup", groups);
}

/* The affinity is asked for again and again, the quota once. */
static bool one_cpu(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    cpu_set_t set;
    pthread_once(&once, quota_look);
    return of_one_quota || (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1);
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

static void spin_set(_Atomic int64_t *word, int64_t ns)
{
    atomic_store_explicit(word, ns, memory_order_relaxed);
}

static void spin_look(struct spin *spin)
{
    int64_t most = one_cpu() ? 0 : spin_default();
    if (most != spin_most(spin))
        spin_set(&spin->now, most);
    spin_set(&spin->most, most);
}

void spin_init(struct spin *spin, cue_time asked)
{
    spin->by_default = asked.ns == 0;
    atomic_store_explicit(&spin->sleeps, 0, memory_order_relaxed);
    spin_set(&spin->most, asked.ns > 0 ? asked.ns : 0);
    spin_set(&spin->now, spin_most(spin));
    if (spin->by_default)
        spin_look(spin);
}

void spin_learn(struct spin *spin, int64_t ns)
{
    if (spin->by_default && (atomic_fetch_add_explicit(&spin->sleeps, 1, memory_order_relaxed) + 1) % LOOK_EVERY == 0)
        spin_look(spin);
    int64_t most = spin_most(spin), now = spin_now(spin);
    int64_t next = ns <= 2 * most ? now * 2 : now / 2, least = most / LEAST_SHARE;
    spin_set(&spin->now, next > most ? most : next < least ? least : next);
}

struct spin *spin_of_thread(void)
{
    static _Thread_local struct spin spin;
    static _Thread_local bool made;
    if (!made)
        spin_init(&spin, CUE_NS(0));
    made = true;
    return &spin;
}
