/* Waiting for room: who is served, when, and at whose cost. Several processes; deaths are in pool_process.c. */
#include "tests/harness.h"

#include "pool/pool_internal.h"

#include <cuelight/pool.h>

#include <pthread.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { KIB = 1 << 10, MIB = 1 << 20, SIZE = 16 * MIB };

static cue_pool *pool;
static const char *name;

static void open_pool(void)
{
    name = test_name("room");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = SIZE }, &pool));
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void close_pool(void)
{
    cue_block all;
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    CUE_MUST(cue_block_alloc(pool, SIZE, NULL, &all));
    cue_block_release(&all);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(room, .init = open_pool, .fini = close_pool);

static void wait_for_waiters(uint64_t count)
{
    cue_pool_info info = { 0 };
    for (int64_t end = test_now_ms() + test_ms(30000); info.waiters < count && test_now_ms() < end; poll(NULL, 0, 1))
        CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.waiters, count));
}

/* A number a try that found nothing. */
static uint32_t tries_in_vain(void)
{
    return atomic_load_explicit(&pool->header->pressure, memory_order_relaxed);
}

Test(room, two_who_wait_sleep_while_there_is_none)
{
    cue_block all;
    CUE_MUST(cue_block_alloc(pool, SIZE, NULL, &all));
    struct cast first = cast_start("pool_waiter", name, "5000"), second = cast_start("pool_waiter", name, "100");
    cr_assert(eq(int, cast_hear(&first, 5000), 'r'));
    cr_assert(eq(int, cast_hear(&second, 5000), 'r'));
    wait_for_waiters(2);
    uint32_t before = tries_in_vain();
    cr_assert(eq(int, cast_hear(&first, 400), -1));
    cr_assert(lt(u32, tries_in_vain() - before, 100), "they look once a watch period, some five times");
    cue_block_release(&all);
    cr_assert(eq(int, cast_hear(&first, 5000), 'g'));
    cr_assert(eq(int, cast_hear(&second, 5000), 'g'));
    cast_kill(&first);
    cast_kill(&second);
}

Test(room, who_waits_is_served_by_one_who_only_frees)
{
    cue_block held[SIZE / (64 * KIB)];
    unsigned count = 0;
    while (count < sizeof held / sizeof *held && cue_block_alloc(pool, 64 * KIB, NULL, &held[count]) == 0)
        count++;
    struct cast waiter = cast_start("pool_waiter", name, "16777216");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    wait_for_waiters(1);
    while (count > 0)
        cue_block_release(&held[--count]);
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'g'), "what was free here was given up, though nothing else was called");
    cast_kill(&waiter);
}

static void churned(const char *wait_us)
{
    struct cast churner = cast_start("pool_churner", name, "65536", wait_us);
    cr_assert(eq(int, cast_hear(&churner, 5000), 'r'));
    struct cast waiter = cast_start("pool_waiter", name, "12000000");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    cr_assert(eq(int, cast_hear(&waiter, 30000), 'g'));
    cr_assert(eq(int, cast_kill(&churner), CAST_SIGNALLED + SIGKILL));
    cast_kill(&waiter);
}

Test(room, who_waits_long_is_served_though_others_take_what_comes_free_without_waiting)
{
    churned("0");
}

Test(room, who_waits_is_not_overtaken_by_those_who_come_to_wait_again_and_again)
{
    churned("1000");
}

static void *wait_for_most(void *arg)
{
    int *status = arg;
    cue_block b;
    *status = cue_block_alloc(pool, SIZE / 4 * 3, &(cue_block_opts){ .wait = CUE_SEC(60) }, &b);
    if (*status == 0)
        cue_block_release(&b);
    return NULL;
}

Test(room, the_same_between_threads)
{
    enum { HELD = SIZE / (64 * KIB) };
    static cue_block held[HELD];
    pthread_t thread;
    int status = 1, refused = 0;
    for (int i = 0; i < HELD; i++)
        CUE_MUST(cue_block_alloc(pool, 64 * KIB, NULL, &held[i]));
    cr_assert(eq(int, pthread_create(&thread, NULL, wait_for_most, &status), 0));
    for (unsigned i = 0; pthread_tryjoin_np(thread, NULL) != 0; i = (i + 1) % HELD) {
        cue_block_release(&held[i]);
        if (cue_block_alloc(pool, 64 * KIB, NULL, &held[i]) == CUE_ENOMEM)
            refused++;
    }
    cr_assert(eq(int, status, 0));
    cr_assert(gt(int, refused, HELD / 2), "the others have stood back");
    for (int i = 0; i < HELD; i++)
        if (held[i].data)
            cue_block_release(&held[i]);
    CUE_MUST(cue_block_alloc(pool, 64 * KIB, NULL, &held[0])); /* at once: nobody is held back any more */
    cue_block_release(&held[0]);
}

/* Until one who waits for more than there is has held us back. */
static struct cast held_back(cue_block *kept)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, SIZE / 2, NULL, kept));
    struct cast waiter = cast_start("pool_waiter", name, "12000000");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    wait_for_waiters(1);
    int status = 0;
    for (int64_t end = test_now_ms() + test_ms(30000); !status && test_now_ms() < end; poll(NULL, 0, 1)) {
        status = cue_block_alloc(pool, 64 * KIB, NULL, &b);
        cue_block_release(&b);
    }
    cr_assert(eq(int, status, CUE_ENOMEM));
    cr_assert(ne(ptr, strstr(cue_trail(), "waited for it"), NULL), "%s", cue_trail());
    return waiter;
}

static void goes_on(void)
{
    cue_block b;
    int status = CUE_ENOMEM;
    for (int64_t end = test_now_ms() + test_ms(30000); status && test_now_ms() < end; poll(NULL, 0, 1))
        status = cue_block_alloc(pool, 64 * KIB, NULL, &b);
    CUE_MUST(status);
    cue_block_release(&b);
}

Test(room, one_who_waits_for_what_never_comes_costs_the_others_a_part_of_the_time)
{
    cue_block kept;
    struct cast waiter = held_back(&kept);
    goes_on();
    cr_assert(eq(int, cast_hear(&waiter, 0), -1), "it waits on");
    cast_kill(&waiter);
    cue_block_release(&kept);
}

Test(room, one_who_is_killed_while_it_holds_others_back_does_so_no_longer)
{
    cue_block kept;
    struct cast waiter = held_back(&kept);
    cast_kill(&waiter);
    goes_on();
    cue_block_release(&kept);
}
