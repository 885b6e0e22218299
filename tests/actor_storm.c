/* A storm of SIGKILLs over actors: chatterers in processes of their own tell this one, with a block each time, and are killed
 * at random moments and replaced; so are echoes, while they are told to; so are processes that only watch.
 *
 * What must hold: each death is heard exactly once, after all that the dead one had told; numbers of one chatterer come in order
 * and without a gap; afterwards the pool has no fault, no block is left, and nothing is left in /dev/shm.
 *
 * STORM_KILLS and STORM_SEED in the environment ask for a longer or another storm.
 *
 * budget: 120 s
 */
#include "tests/harness.h"

#include "tests/cast/actor_kinds.h"

#include <cuelight/actor.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { CHATTERERS = 3, ECHOES = 2, CREW = CHATTERERS + ECHOES, KILLS = 60, POOL_BYTES = 32 << 20 };

struct member {
    cue_ref who;
    uint64_t tag, next;
    bool alive;
};

struct storm {
    cue_system *sys;
    cue_ref me;
    struct member crew[CREW];
    struct cast watcher;
    unsigned kills, deaths, messages, echoes;
};

static const char *program[] = { NULL, "actor", NULL };

static unsigned number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text && atoi(text) > 0 ? (unsigned)atoi(text) : otherwise;
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void member_start(struct storm *storm, unsigned i)
{
    struct member *m = &storm->crew[i];
    char name[16];
    snprintf(name, sizeof name, "member.%u", i);
    *m = (struct member){ .alive = true };
    cue_actor_spec spec = { .kind = i < CHATTERERS ? "chatter" : "echo",
                            .name = name,
                            .where = CUE_PROCESS,
                            .argv = program,
                            .arg = &storm->me,
                            .arg_size = sizeof storm->me };
    int status = cue_spawn(storm->sys, &spec, &m->who);
    if (status)
        fprintf(stderr, "%s: %s %s\n", name, cue_status_name(status), cue_trail());
    cr_assert(eq(int, status, 0)); /* its name is free, too */
    CUE_MUST(cue_watch(m->who, &m->tag));
}

/* One message or death; false: nothing came in time. */
static bool hear(struct storm *storm, cue_time wait)
{
    cue_msg m;
    int status = cue_receive(&m, wait);
    if (status)
        return false;
    for (unsigned i = 0; i < CREW; i++) {
        struct member *member = &storm->crew[i];
        if (m.type == CUE_DOWN && m.tag == member->tag) {
            const struct cue_down *down = m.data;
            cr_assert(eq(int, down->reason, CUE_EKILLED));
            cr_assert(member->alive); /* once */
            member->alive = false;
            storm->deaths++;
        } else if (m.type != CUE_DOWN && cue_ref_same(m.from, member->who)) {
            cr_assert(member->alive); /* not after its death */
            if (i < CHATTERERS) {
                cr_assert(eq(u64, *(const uint64_t *)m.data, member->next));
                cr_assert(eq(u64, *(const uint64_t *)m.block.data, member->next));
                member->next++;
                storm->messages++;
            } else {
                storm->echoes++;
            }
        }
    }
    cue_msg_release(&m);
    return true;
}

static void tell_echoes(struct storm *storm)
{
    for (unsigned i = CHATTERERS; i < CREW; i++) {
        cue_block b;
        if (cue_block_alloc(cue_system_pool(storm->sys), 3000, NULL, &b))
            continue;
        int status = cue_tell(storm->crew[i].who, &(cue_msg){ .type = ACTOR_ECHO, .move = &b });
        cr_assert(status == 0 || status == CUE_EFULL || status == CUE_EDEAD || status == CUE_ENOMEM);
        cue_block_release(&b);
    }
}

static void kill_one(struct storm *storm, unsigned seed)
{
    unsigned i = seed % CREW;
    struct member *m = &storm->crew[i];
    int64_t until = test_now_ms() + test_ms(60000);
    CUE_MUST(cue_exit(m->who, CUE_EKILLED));
    storm->kills++;
    while (m->alive && test_now_ms() < until)
        hear(storm, CUE_MS(100));
    cr_assert(not(m->alive));
    member_start(storm, i);
}

static void watcher_replace(struct storm *storm, const char *pool)
{
    if (storm->watcher.pid > 0)
        cast_kill(&storm->watcher);
    storm->watcher = cast_start("actor_watcher", pool, "member.0");
}

static uint64_t blocks_left(struct storm *storm)
{
    cue_pool_info info = { .parties = 99 };
    for (int64_t until = test_now_ms() + test_ms(30000); info.parties != 1 && test_now_ms() < until; sched_yield())
        CUE_MUST(cue_pool_stat(cue_system_pool(storm->sys), &info));
    cr_assert(eq(u64, info.parties, 1));
    return info.blocks;
}

Test(storm, kills_of_actors_lose_and_leak_nothing)
{
    static struct storm storm;
    unsigned kills = number_from("STORM_KILLS", KILLS), seed = number_from("STORM_SEED", (unsigned)getpid());
    const char *given = getenv("CAST_PROGRAM"), *pool = test_name("storm");
    program[0] = given ? given : CAST_PROGRAM;
    fprintf(stderr, "seed %u\n", seed);
    srandom(seed);
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool, .pool_opts = &(cue_pool_opts){ .size = POOL_BYTES } }, &storm.sys));
    CUE_MUST(cue_adopt(storm.sys, "test", &storm.me));
    for (unsigned i = 0; i < CREW; i++)
        member_start(&storm, i);
    while (storm.kills < kills) {
        for (unsigned n = (unsigned)random() % 400; n--;) {
            if (n % 4 == 0)
                tell_echoes(&storm);
            hear(&storm, CUE_MS(20));
        }
        if (storm.kills % 5 == 0)
            watcher_replace(&storm, pool);
        kill_one(&storm, (unsigned)random());
    }
    cast_kill(&storm.watcher);
    for (unsigned i = 0; i < CREW; i++) {
        CUE_MUST(cue_exit(storm.crew[i].who, CUE_EKILLED));
        storm.kills++;
    }
    while (storm.deaths < storm.kills && hear(&storm, CUE_MS(test_ms(10000))))
        ;
    while (hear(&storm, CUE_NOW))
        ;
    fprintf(stderr, "%u kills, %u deaths told, %u messages, %u echoes\n", storm.kills, storm.deaths, storm.messages, storm.echoes);
    cr_assert(eq(uint, storm.deaths, storm.kills));
    cr_assert(gt(uint, storm.messages, 0));
    cr_assert(gt(uint, storm.echoes, 0));
    cr_assert(eq(u64, blocks_left(&storm), 2)); /* our mailbox and the bell */
    cr_assert(eq(int, cue_pool_check(cue_system_pool(storm.sys), false, print_fault, NULL), 0));
    cr_assert(eq(int, cue_system_stop(storm.sys, CUE_SEC(10)), 0));
    cr_assert(eq(int, test_leftovers(pool), 0));
}
