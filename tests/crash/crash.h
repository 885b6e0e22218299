/* What the crash tests' driver (crash.c) and their operations (ops_*.c) share.
 *
 * An operation runs in a process of its own, the victim, between two marks. The stage is everything around it: the driver's own
 * view of the pool, what it set up, what it finds afterwards.
 */
#ifndef CRASH_H
#define CRASH_H

#include "pool/pool_internal.h"

#include <cuelight/pool.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum backing { IN_SHM, IN_FILE, IN_MEMFD };

struct stage {
    const char *pool_name;
    enum backing backing;
    uint64_t size, max_allocations;
    cue_pool *pool;     /* the driver's; NULL while it stays away */
    cue_block block[8]; /* what an operation's callbacks keep */
    uint64_t number[8];
    void *other[4];
    bool killed; /* the victim did not reach its end */
};

struct victim {
    const char *pool_name;
    enum backing backing;
    uint64_t size;
    cue_pool *pool;
    cue_block block[8];
    void *other[4];
};

struct op {
    const char *name;
    uint64_t size;                          /* of the pool */
    uint64_t max_allocations;               /* that it may hold */
    enum backing backing;                   /* what the pool lies in */
    bool alone;                             /* the driver is no party of the pool while the victim runs */
    bool full;                              /* the pool is full: nobody can work on in it */
    bool again;                             /* much as another operation, so every fourth point will do but for --all */
    bool threads;                           /* the victim has threads that are not stepped, so its way is not the same each time */
    void (*setup)(struct stage *stage);     /* driver, before the victim starts */
    void (*prepare)(struct victim *me);     /* victim, before the first mark; it has the pool open unless `alone` */
    void (*between)(struct stage *stage);   /* driver, while the victim stands at the first mark */
    void (*act)(struct victim *me);         /* victim: what is cut */
    void (*asleep)(struct stage *stage);    /* driver, each time the victim sleeps in `act`: makes what it waits for, step by step */
    void (*at_end)(struct stage *stage);    /* driver, while the victim, which was held and let go, stands at the second mark */
    void (*meanwhile)(struct stage *stage); /* driver, right after the cut, before anybody cleans up: what must hold even then */
    /* driver, after the victim's end and its recovery. Did it take effect? 0, 1; -1: no word on that. Gives back what the driver
     * holds and what belongs to the pool. */
    int (*verify)(struct stage *stage);
};

extern const struct op *const op_tables[];

/* Something is wrong at the present point. */
void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A status that must be `wanted`. */
void must_be(int status, int wanted, const char *what);
#define MUST(call) must_be((call), 0, #call)

/* Opens the pool for the victim, however it is backed. `flags` 0: makes it if it is not there. */
int victim_open(struct victim *me, unsigned flags, uint64_t quota);
/* Does this thread of a process sleep in the kernel? */
bool sleeps(pid_t pid, pid_t thread);

void fill(cue_block *b, unsigned seed);
bool filled(const cue_block *b, unsigned seed);

/* Runs `prepare` of the operation in a process of its own and kills that: leaves a dead party. */
void leave_dead(struct stage *stage, const char *op_name);

/* ops_nng.c: the other end of a socket lane, as a process: `role` on the lane named `name`, with the pool `own`. */
int nng_peer(const char *role, const char *name, const char *own);

/* storm.c */
int storm(double seconds, const char *file);
int storm_worker(const char *pool, const char *seed, const char *file);

#endif
