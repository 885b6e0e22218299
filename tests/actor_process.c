/* Actors in several processes: spawned, watched, killed. */
#include "tests/harness.h"

#include "pool/pool_internal.h"
#include "tests/cast/actor_kinds.h"

#include <cuelight/actor.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static cue_system *sys;
static cue_ref me;
static const char *pool_name;
static const char *program[] = { NULL, "actor", NULL };

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void begin(void)
{
    const char *given = getenv("CAST_PROGRAM");
    program[0] = given ? given : CAST_PROGRAM;
    pool_name = test_name("actors");
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool_name, .pool_opts = &(cue_pool_opts){ .size = 64 << 20 } }, &sys));
    CUE_MUST(cue_adopt(sys, "test", &me));
}

/* Until the other processes of the test have left, and the dead are cleaned up after, by whomever; our children stay. */
static void quiet(void)
{
    cue_pool_info pool;
    cue_system_info system;
    int64_t until = test_now_ms() + test_ms(30000);
    do {
        CUE_MUST(cue_pool_stat(cue_system_pool(sys), &pool));
        CUE_MUST(cue_system_stat(sys, &system));
        sched_yield();
    } while (pool.parties != 1 + system.processes && test_now_ms() < until);
    cr_assert(eq(u64, pool.parties, 1 + system.processes));
}

static void end(void)
{
    if (sys) {
        quiet();
        cr_assert(eq(int, cue_pool_check(cue_system_pool(sys), true, print_fault, NULL), 0));
        cr_assert(eq(int, cue_system_stop(sys, CUE_MS(test_ms(10000))), 0));
    }
    cr_assert(eq(int, test_leftovers(pool_name), 0));
}

TestSuite(processes, .init = begin, .fini = end);

static cue_time soon(void)
{
    return CUE_MS(test_ms(10000));
}

static cue_msg receive(void)
{
    cue_msg m;
    int status = cue_receive(&m, soon());
    cr_assert(eq(int, status, 0));
    return m;
}

static struct cue_down down_of(uint64_t tag)
{
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, CUE_DOWN));
    cr_assert(eq(u64, m.tag, tag));
    struct cue_down down = *(const struct cue_down *)m.data;
    cue_msg_release(&m);
    return down;
}

static void nothing_more(void)
{
    cue_msg m;
    cr_assert(eq(int, cue_receive(&m, CUE_NOW), CUE_EEMPTY));
}

static int spawn_kind(const char *kind, const char *name, cue_ref *who)
{
    return cue_spawn(sys, &(cue_actor_spec){ .kind = kind, .name = name, .where = CUE_PROCESS, .argv = program }, who);
}

static cue_ref spawn_echo(const char *name)
{
    cue_ref who;
    CUE_MUST(spawn_kind("echo", name, &who));
    return who;
}

static void says(const cue_ref *who, const char *text)
{
    CUE_MUST(cue_tell(*who, &(cue_msg){ .type = ACTOR_ECHO, .tag = 5, .data = text, .size = strlen(text) }));
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, ACTOR_ECHO));
    cr_assert(eq(u64, m.tag, 5));
    cr_assert(eq(sz, m.size, strlen(text)));
    cr_assert(memcmp(m.data, text, m.size) == 0);
    cr_assert(cue_ref_same(m.from, *who));
    cue_msg_release(&m);
}

/* ---- starting ---- */

Test(processes, one_is_started_answers_and_ends)
{
    uint64_t tag;
    cue_system_info info;
    cue_ref who = spawn_echo("far"), found;
    CUE_MUST(cue_whereis(sys, "far", CUE_NOW, &found));
    cr_assert(cue_ref_same(who, found));
    CUE_MUST(cue_watch(who, &tag));
    for (int i = 0; i < 100; i++)
        says(&who, "hello");
    CUE_MUST(cue_system_stat(sys, &info));
    cr_assert(eq(u64, info.processes, 1));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_LAST }));
    struct cue_down down = down_of(tag);
    cr_assert(eq(int, down.reason, 0));
    cr_assert(eq(str, down.name, "far"));
    cr_assert(not(eq(int, down.pid, 0)));
    cr_assert(eq(int, cue_tell(who, &(cue_msg){ .type = ACTOR_ECHO }), CUE_EDEAD));
    cr_assert(eq(int, cue_system_wait(sys, soon()), 0));
    nothing_more();
}

Test(processes, a_failure_there_is_told_here)
{
    uint64_t tag;
    cue_ref who = spawn_echo(NULL);
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_FAIL }));
    cr_assert(eq(int, down_of(tag).reason, -2000));
    nothing_more();
}

Test(processes, a_block_goes_there_and_back_without_a_copy)
{
    cue_ref who = spawn_echo(NULL);
    cue_block b;
    cue_pool_info before, after;
    CUE_MUST(cue_block_alloc(cue_system_pool(sys), 1 << 20, NULL, &b));
    unsigned char *bytes = b.data;
    bytes[0] = 7;
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &before));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_ECHO, .move = &b }));
    cue_msg m = receive();
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &after));
    cr_assert(m.block.data == bytes);
    cr_assert(eq(int, bytes[0], 8));
    cr_assert(eq(u64, after.copied, before.copied));
    cue_msg_release(&m);
}

Test(processes, two_of_them_talk_to_each_other_and_to_a_third)
{
    cue_ref a = spawn_echo(NULL), b = spawn_echo(NULL);
    cr_assert(not(eq(u32, a.process, b.process)));
    for (int i = 0; i < 50; i++) {
        says(&a, "one");
        says(&b, "two");
    }
    /* b's answer goes to whom the message is from */
    CUE_MUST(cue_tell(a, &(cue_msg){ .type = ACTOR_ECHO, .data = "x", .size = 1 }));
    cue_msg m = receive();
    cr_assert(cue_ref_same(m.from, a));
    cue_msg_release(&m);
}

Test(processes, what_cannot_start_says_why)
{
    cue_ref who;
    cr_assert(eq(int, spawn_kind("no-such-kind", NULL, &who), CUE_ENOENT));
    cr_assert(strstr(cue_trail(), "no-such-kind") != NULL);
    cr_assert(eq(int, spawn_kind("refuse", NULL, &who), -2001));
    cr_assert(eq(
        int, cue_spawn(sys, &(cue_actor_spec){ .kind = "refuse", .where = CUE_PROCESS, .argv = program, .arg = "k", .arg_size = 1 }, &who),
        CUE_EDEAD));
    cr_assert(strstr(cue_trail(), "signal 9") != NULL);
    cr_assert(eq(int, spawn_kind("echo", "test", &who), CUE_EEXIST));
    cr_assert(cue_ref_same(who, (cue_ref){ 0 }));
    cue_system_info info;
    CUE_MUST(cue_system_stat(sys, &info));
    cr_assert(eq(u64, info.processes, 0));
}

Test(processes, a_call_to_one_that_is_killed_ends)
{
    cue_ref who = spawn_echo(NULL);
    cue_msg answer;
    CUE_MUST(cue_call(who, &(cue_msg){ .type = ACTOR_ECHO, .data = "x", .size = 1 }, soon(), &answer));
    cr_assert(eq(sz, answer.size, 1));
    cue_msg_release(&answer);
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = ACTOR_DIE }, soon(), &answer), CUE_EDEAD));
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = ACTOR_ECHO }, soon(), &answer), CUE_EDEAD));
    nothing_more();
}

/* ---- dying ---- */

Test(processes, a_killed_one_is_told_once_to_every_watcher)
{
    uint64_t tags[3], process;
    cue_ref who = spawn_echo("victim");
    struct cast other[2];
    for (int i = 0; i < 3; i++)
        CUE_MUST(cue_watch(who, &tags[i]));
    CUE_MUST(cue_watch((cue_ref){ .process = who.process }, &process));
    for (int i = 0; i < 2; i++) { /* watchers in processes that did not start it */
        other[i] = cast_start("actor_watcher", pool_name, "victim");
        cr_assert(eq(int, cast_hear(&other[i], 10000), 'w'));
    }
    says(&who, "still here");
    CUE_MUST(cue_exit(who, CUE_EKILLED));
    bool seen[4] = { false };
    for (int i = 0; i < 4; i++) {
        cue_msg m = receive();
        const struct cue_down *down = m.data;
        cr_assert(eq(u32, m.type, CUE_DOWN));
        cr_assert(eq(int, down->reason, CUE_EKILLED));
        cr_assert(eq(int, down->signal, SIGKILL));
        for (int t = 0; t < 3; t++)
            seen[t] |= m.tag == tags[t] && strcmp(down->name, "victim") == 0 && cue_ref_same(down->who, who);
        seen[3] |= m.tag == process;
        cue_msg_release(&m);
    }
    cr_assert(seen[0] && seen[1] && seen[2] && seen[3]);
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(int, cast_hear(&other[i], 10000), 'k'));
        cast_say(&other[i], 'g');
        cr_assert(eq(int, cast_wait(&other[i], 10000), 0)); /* and heard nothing more */
    }
    nothing_more();
    cr_assert(eq(int, cue_tell(who, &(cue_msg){ .type = ACTOR_ECHO }), CUE_EDEAD));
    CUE_MUST(cue_watch(who, &tags[0]));
    cr_assert(eq(int, down_of(tags[0]).reason, CUE_EDEAD));
    who = spawn_echo("victim"); /* its name is free */
    says(&who, "again");
}

Test(processes, what_it_had_told_comes_before_its_death)
{
    uint64_t tag;
    cue_ref who = spawn_echo(NULL);
    CUE_MUST(cue_watch(who, &tag));
    for (int i = 0; i < 100; i++)
        CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_ECHO, .data = &i, .size = sizeof i }));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_DIE }));
    for (int i = 0; i < 100; i++) {
        cue_msg m = receive();
        cr_assert(eq(u32, m.type, ACTOR_ECHO));
        cr_assert(eq(int, *(const int *)m.data, i));
        cue_msg_release(&m);
    }
    struct cue_down down = down_of(tag);
    cr_assert(eq(int, down.reason, CUE_EKILLED));
    cr_assert(eq(int, down.signal, SIGKILL));
}

Test(processes, an_exit_in_a_behaviour_is_told)
{
    uint64_t tag;
    cue_ref who = spawn_echo(NULL);
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_EXIT }));
    cr_assert(lt(int, down_of(tag).reason, 0));
    nothing_more();
}

Test(processes, blocks_for_a_dead_one_are_freed)
{
    uint64_t tag;
    cue_pool_info before, after;
    cue_ref who = spawn_echo(NULL);
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &before));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_HANG }));
    for (int i = 0; i < 100; i++) {
        cue_block b;
        CUE_MUST(cue_block_alloc(cue_system_pool(sys), 10000, NULL, &b));
        CUE_MUST(cue_tell(who, &(cue_msg){ .type = ACTOR_ECHO, .move = &b }));
    }
    CUE_MUST(cue_exit(who, CUE_EKILLED));
    cr_assert(eq(int, down_of(tag).reason, CUE_EKILLED));
    int64_t until = test_now_ms() + test_ms(30000);
    do
        CUE_MUST(cue_pool_stat(cue_system_pool(sys), &after));
    while (after.blocks >= before.blocks && test_now_ms() < until);
    cr_assert(lt(u64, after.blocks, before.blocks)); /* its mailbox went too */
    cr_assert(eq(u64, after.in_flight, 0));
}

Test(processes, a_thread_of_another_process_is_told_of)
{
    uint64_t tag;
    cue_ref who;
    struct cast thread = cast_start("actor_thread", pool_name, "thread");
    cr_assert(eq(int, cast_hear(&thread, 10000), 'r'));
    CUE_MUST(cue_whereis(sys, "thread", soon(), &who));
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = 'm' }));
    cr_assert(eq(int, cast_hear(&thread, 10000), 'm'));
    cast_kill(&thread);
    struct cue_down down = down_of(tag);
    cr_assert(eq(int, down.reason, CUE_EKILLED));
    cr_assert(eq(int, down.signal, 0)); /* no child of the library's */
    cr_assert(eq(int, cue_whereis(sys, "thread", CUE_NOW, &who), CUE_ENOENT));
    nothing_more();
}

Test(processes, one_that_returns_from_main_is_told_of)
{
    uint64_t tag;
    cue_ref who;
    struct cast here = cast_start("actor_here", pool_name, "there");
    cr_assert(eq(int, cast_hear(&here, 10000), 'r'));
    CUE_MUST(cue_whereis(sys, "there", soon(), &who));
    CUE_MUST(cue_watch(who, &tag));
    says(&who, "hello");
    cast_say(&here, 'g');
    cr_assert(eq(int, cast_wait(&here, 10000), 0));
    cr_assert(le(int, down_of(tag).reason, 0));
    cr_assert(eq(int, cue_whereis(sys, "there", CUE_NOW, &who), CUE_ENOENT));
}

Test(processes, children_end_with_who_started_them)
{
    uint64_t tag;
    cue_ref who;
    for (int killed = 0; killed < 2; killed++) {
        struct cast boss = cast_start("actor_boss", pool_name, "child");
        cr_assert(eq(int, cast_hear(&boss, 20000), 'r'));
        CUE_MUST(cue_whereis(sys, "child", soon(), &who));
        CUE_MUST(cue_watch(who, &tag));
        says(&who, "hello");
        if (killed) {
            cast_kill(&boss);
        } else {
            cast_say(&boss, 'g');
            cr_assert(eq(int, cast_wait(&boss, 20000), 0));
        }
        cr_assert(eq(int, down_of(tag).reason, killed ? CUE_EDEAD : 0));
    }
    nothing_more();
}

Test(processes, stopping_ends_them_all_and_cuts_off_who_hangs)
{
    cue_ref a = spawn_echo(NULL), b = spawn_echo("hangs");
    says(&a, "x");
    CUE_MUST(cue_tell(b, &(cue_msg){ .type = ACTOR_HANG }));
    cr_assert(eq(int, cue_system_stop(sys, CUE_MS(300)), CUE_ETIMEDOUT));
    sys = NULL;
}
