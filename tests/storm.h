/* A storm: processes that are killed, and held, at random moments and replaced, while the others go on. For the suites of lanes. */
#ifndef TESTS_STORM_H
#define TESTS_STORM_H

#include "tests/harness.h"

#include <cuelight/channel.h>

#include <stdatomic.h>
#include <sys/mman.h>

enum { CREW_MOST = 6 };

/* The processes, and how one is started. */
struct crew {
    const char *pool;
    char url[128], file[TEST_PATH];
    const char *wait; /* what a sender waits for room, in us */
    unsigned slots;
    struct cast (*start)(const struct crew *crew, unsigned who, unsigned life);
    struct cast cast[CREW_MOST];
    unsigned lives[CREW_MOST], killed, stopped;
    _Atomic uint64_t *got;              /* grows as long as something arrives */
    bool (*enough)(const void *counts); /* whether all that shall be seen has been; it rages on until then */
    const void *counts;
    int broken; /* somebody ended by itself, or nothing arrives */
};

static inline unsigned number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text && atoi(text) > 0 ? (unsigned)atoi(text) : otherwise;
}

/* A file that the processes of a storm map, all zero; NULL: it cannot be had. */
static inline void *shared_file(char path[TEST_PATH], size_t bytes)
{
    int fd = test_file(path);
    void *map = fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static inline void crew_start(struct crew *crew, unsigned who)
{
    crew->lives[who]++;
    crew->cast[who] = crew->start(crew, who, crew->lives[who]);
}

static inline void crew_kill(struct crew *crew, unsigned who)
{
    int end = cast_kill(&crew->cast[who]);
    if (end == CAST_SIGNALLED + SIGKILL) {
        crew->killed++;
        return;
    }
    fprintf(stderr, "storm: %u (life %u) ended by itself with %d\n", who, crew->lives[who], end);
    crew->broken++;
}

static inline void crew_rest(long most_ns)
{
    struct timespec moment = { .tv_nsec = rand() % most_ns };
    nanosleep(&moment, NULL);
}

/* One killed and replaced; now and then somebody is held meanwhile, perhaps the same. */
static inline void crew_strike(struct crew *crew)
{
    unsigned who = (unsigned)(rand() >> 4) % crew->slots, other = (unsigned)(rand() >> 4) % crew->slots;
    bool held = rand() % 3 == 0 && cast_stop(&crew->cast[other]);
    if (held)
        crew_rest(8000000);
    crew_kill(crew, who);
    crew_start(crew, who);
    if (held && who != other)
        cast_continue(&crew->cast[other]);
    crew->stopped += held;
}

/* Until so many were killed, and all was seen (on a slow machine most may die before they have done anything); stops if nothing arrives
 * any more. At the end all are. */
static inline void crew_rage(struct crew *crew, unsigned kills)
{
    uint64_t got = 0;
    int64_t since = test_now_ms(), limit = since + test_ms(60000);
    for (unsigned who = 0; who < crew->slots; who++)
        crew_start(crew, who);
    while ((crew->killed < kills || (test_now_ms() < limit && !(crew->stopped && crew->enough(crew->counts)))) && !crew->broken) {
        crew_rest(12000000);
        crew_strike(crew);
        uint64_t now = atomic_load(crew->got);
        if (now != got) {
            got = now;
            since = test_now_ms();
        } else if (test_now_ms() - since > test_ms(30000)) {
            fprintf(stderr, "storm: nothing arrives any more after %u kills\n", crew->killed);
            crew->broken++;
        }
    }
    for (unsigned who = 0; who < crew->slots; who++)
        crew_kill(crew, who);
}

/* How many kills; `few`, or a part of them where everything is slow, without STORM_KILLS in the environment. */
static inline unsigned storm_begin(const char *what, unsigned few, unsigned most)
{
    unsigned seed = number_from("STORM_SEED", (unsigned)getpid()), kills = number_from("STORM_KILLS", test_ms(1) > 1 ? few * 2 / 5 : few);
    printf("%s storm: seed %u\n", what, seed);
    srand(seed);
    return kills < most ? kills : most;
}

static inline void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

#endif
