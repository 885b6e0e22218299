/* One lane in a pool of the test's own, both ends in this process; for the suites of the kinds that take ints one at a time. */
#ifndef TESTS_ONE_LANE_H
#define TESTS_ONE_LANE_H

#include "tests/harness.h"
#include "tests/ints.h"
#include "tests/stat_of.h"

#include <pthread.h>
#include <stdatomic.h>

static char url[160];
static const char *pool_name;
static cue_pool *pool;
static cue_channel *in, *out;

static inline const char *lane(const char *rest)
{
    snprintf(url, sizeof url, "shm://%s/%s", pool_name, rest);
    return url;
}

static inline void open_pool(const char *what)
{
    pool_name = test_name(what);
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 16 << 20 }, &pool));
    in = out = NULL;
}

static inline void open_both(const char *rest)
{
    CUE_MUST(cue_channel_open(lane(rest), CUE_RECV, NULL, &in));
    CUE_MUST(cue_channel_open(lane(rest), CUE_SEND, NULL, &out));
}

static inline void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static inline uint64_t blocks(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    return info.blocks;
}

/* Nothing may be left: no block, no lane, no fault, no object. */
static inline void teardown(void)
{
    cue_msg m;
    while (in && cue_channel_recv(in, &m, CUE_NOW) == 0)
        cue_msg_release(&m);
    cr_expect(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    cue_channel_close(out);
    cue_channel_close(in);
    cr_expect(eq(u64, blocks(), 0)); /* no block and no lane */
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}

/* ---- a thread that waits in a send or a receive ---- */

struct waiting {
    cue_channel *ch;
    cue_time wait;
    int result; /* of its last call */
    int got;
    bool sends, all; /* all: receives until there is nothing more, else once */
    _Atomic int begun, ended;
};

static inline void *wait_in_thread(void *arg)
{
    struct waiting *w = arg;
    cue_msg m;
    int value = 5;
    atomic_store(&w->begun, 1);
    if (w->sends)
        w->result = cue_channel_send(w->ch, CUE_MSG(1, value), w->wait);
    for (bool more = !w->sends; more && (w->result = cue_channel_recv(w->ch, &m, w->wait)) == 0; more = w->all) {
        cue_msg_release(&m);
        w->got++;
    }
    atomic_store(&w->ended, 1);
    return NULL;
}

static inline pthread_t wait_begin(struct waiting *w)
{
    pthread_t thread;
    pthread_create(&thread, NULL, wait_in_thread, w);
    while (!atomic_load(&w->begun))
        sched_yield();
    return thread;
}

/* Until the receiver of `ch` has announced that it sleeps. */
static inline void until_sleeping(cue_channel *ch)
{
    for (int64_t end = test_now_ms() + test_ms(30000); !stat_of(ch).sleeping && test_now_ms() < end;)
        sched_yield();
}

#endif
