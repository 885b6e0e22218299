/* Budgets: exact, in order, and never short for long, whoever is killed. */
#include "tests/harness.h"

#include "pool/budget_layout.h"

#include <cuelight/pool.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <poll.h>
#include <pthread.h>

enum { BUDGET = 32768, TYPE = 0x10000, WORKERS = 4 };

static cue_pool *pool;
static const char *name;
static cue_block budget;

static void open_budget(void)
{
    name = test_name("budget");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 16 << 20 }, &pool));
    cue_budget_opts opts = { .bytes = BUDGET, .least = 32, .max_blocks = 600, .type = TYPE };
    CUE_MUST(cue_budget_make(pool, "b", &opts, &budget));
}

static void close_budget(void)
{
    cue_block_free(&budget);
    cr_assert(eq(int, cue_pool_check(pool, true, NULL, NULL), 0));
    cue_pool_destroy(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(budget, .init = open_budget, .fini = close_budget);

static int take(size_t size, cue_block *b)
{
    return cue_budget_alloc(&budget, size, &(cue_budget_want){ 0 }, b);
}

static cue_budget_info stat_budget(void)
{
    cue_budget_info info;
    CUE_MUST(cue_budget_stat(&budget, &info));
    return info;
}

/* What its blocks really count, by the records. */
static uint64_t counted(unsigned *blocks)
{
    uint64_t cursor = 0, sum = 0;
    cue_block_info row;
    for (*blocks = 0; CUE_MUST(cue_block_next(pool, 0, &cursor, &row)) == 1;)
        if (row.state == CUE_BLOCK_KEPT && row.type >= TYPE && row.type < TYPE + BUDGET_TYPES) {
            uint64_t count = 32;
            while (count < row.size)
                count *= 2;
            sum += row.size ? count : 0;
            ++*blocks;
        }
    return sum;
}

static void free_all(void)
{
    uint64_t cursor = 0;
    cue_block_info row;
    while (CUE_MUST(cue_block_next(pool, TYPE, &cursor, &row)) == 1) {
        cue_block b;
        if (row.state != CUE_BLOCK_KEPT)
            continue; /* freed, and a killed one looked at it */
        CUE_MUST(cue_block_find(pool, (cue_key){ .id = row.id }, CUE_NOW, &b));
        CUE_MUST(cue_budget_free(&budget, &b));
    }
}

Test(budget, counts_powers_of_two)
{
    cue_block a, b, c;
    cr_assert(eq(int, take(10000, &a), 0));
    cr_assert(eq(int, take(10000, &b), 0));
    cr_assert(eq(int, take(5000, &c), CUE_ENOMEM));
    cr_assert(eq(u64, stat_budget().used, 32768));
    cr_assert(eq(int, take(0, &c), 0), "nothing counts as nothing");
    CUE_MUST(cue_budget_free(&budget, &c));
    CUE_MUST(cue_budget_free(&budget, &a));
    cr_assert(eq(int, take(16384, &a), 0));
    CUE_MUST(cue_budget_free(&budget, &a));
    CUE_MUST(cue_budget_free(&budget, &b));
    cr_assert(eq(int, take(BUDGET, &a), 0), "all of it is one block");
    cr_assert(eq(int, take(BUDGET + 1, &b), CUE_ETOOBIG));
    CUE_MUST(cue_budget_free(&budget, &a));
    cr_assert(eq(u64, stat_budget().used, 0));
    cr_assert(eq(u64, stat_budget().blocks, 0));
    cr_assert(eq(u64, stat_budget().peak_blocks, 3));
}

Test(budget, has_as_many_blocks_as_it_may)
{
    cue_block b[600], more;
    for (int i = 0; i < 600; i++)
        cr_assert(eq(int, take(1, &b[i]), 0));
    cr_assert(eq(int, take(1, &more), CUE_ELIMIT));
    for (int i = 0; i < 600; i++)
        CUE_MUST(cue_budget_free(&budget, &b[i]));
    cr_assert(eq(u64, stat_budget().blocks, 0));
}

Test(budget, a_block_freed_twice_counts_once)
{
    cue_block a, again;
    CUE_MUST(take(100, &a));
    CUE_MUST(cue_block_view(&a, 0, SIZE_MAX, &again));
    CUE_MUST(cue_budget_free(&budget, &a));
    cr_assert(eq(u64, stat_budget().used, 0), "its share is free while somebody looks at it");
    cr_assert(eq(int, cue_budget_free(&budget, &again), CUE_ESTALE));
    cr_assert(eq(u64, stat_budget().used, 0));
}

Test(budget, refuses_what_is_not_its_own)
{
    cue_block plain, none = { 0 };
    CUE_MUST(cue_block_alloc(pool, 100000, &(cue_block_opts){ .flags = CUE_KEEP }, &plain));
    cr_assert(eq(int, cue_budget_free(&budget, &plain), CUE_ETYPE));
    cr_assert(eq(int, cue_budget_alloc(&plain, 1, &(cue_budget_want){ 0 }, &none), CUE_ETYPE));
    cr_assert(eq(int, cue_budget_alloc(&budget, 1, &(cue_budget_want){ .subtype = 256 }, &none), CUE_EINVAL));
    cr_assert(eq(int, cue_budget_make(pool, "c", &(cue_budget_opts){ .bytes = 64, .least = 3, .type = 1 }, &none), CUE_EINVAL));
    cr_assert(eq(int, cue_budget_make(pool, "b", &(cue_budget_opts){ .bytes = 64, .least = 32, .type = 1 }, &none), CUE_EEXIST));
    CUE_MUST(cue_block_free(&plain));
}

Test(budget, damage_is_an_error)
{
    struct budget *words = budget.data;
    cue_block b;
    words->least = 48;
    cr_assert(eq(int, take(1, &b), CUE_ECORRUPT));
    words->least = 32;
    for (unsigned n = 0; n < BUDGET_SEATS; n++)
        atomic_store(&words->seats[n].word, UINT64_MAX);
    cr_assert(eq(int, take(1, &b), 0), "nobody sits there");
    atomic_store(&words->used, UINT64_MAX);
    cr_assert(eq(int, take(1, &b), 0), "the count was too high");
    free_all();
    cr_assert(ge(int, cue_budget_settle(&budget), 0));
    cr_assert(eq(u64, stat_budget().used, 0));
}

Test(budget, what_was_freed_without_it_is_found_by_who_needs_it)
{
    cue_block a;
    CUE_MUST(take(BUDGET, &a));
    CUE_MUST(cue_block_free(&a));
    cr_assert(eq(u64, stat_budget().used, BUDGET));
    cr_assert(eq(int, take(BUDGET, &a), 0));
    CUE_MUST(cue_budget_free(&budget, &a));
}

Test(budget, is_filled_to_the_last_byte_by_several)
{
    struct cast fillers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        fillers[i] = cast_start("budget_filler", name, "64");
        cr_assert(eq(int, cast_hear(&fillers[i], 20000), 'r'));
    }
    for (int i = 0; i < WORKERS; i++)
        cast_say(&fillers[i], 'x');
    for (int i = 0; i < WORKERS; i++)
        cr_assert(eq(int, cast_hear(&fillers[i], 60000), 'k'));
    unsigned blocks;
    cr_assert(eq(u64, counted(&blocks), BUDGET));
    cr_assert(eq(uint, blocks, BUDGET / 64));
    for (int i = 0; i < WORKERS; i++)
        cast_kill(&fillers[i]);
    cr_assert(eq(u64, counted(&blocks), BUDGET), "they are the pool's");
    free_all();
}

Test(budget, is_exact_after_its_users_were_killed)
{
    unsigned blocks, kills = 60;
    char seed[16];
    struct cast workers[WORKERS] = { 0 };
    for (unsigned n = 0; n < kills; n++) {
        struct cast *worker = &workers[n % WORKERS];
        if (worker->pid)
            cast_kill(worker);
        snprintf(seed, sizeof seed, "%u", n);
        *worker = cast_start("budget_worker", name, seed);
        cr_assert(eq(int, cast_hear(worker, 20000), 'r'));
        cr_assert(le(u64, stat_budget().used, BUDGET));
    }
    for (int i = 0; i < WORKERS; i++)
        cast_kill(&workers[i]);
    cr_assert(ge(int, cue_budget_settle(&budget), 0));
    cr_assert(eq(u64, stat_budget().used, counted(&blocks)));
    cr_assert(eq(u64, stat_budget().blocks, blocks));
    free_all();
    cue_block whole;
    cr_assert(eq(int, take(BUDGET, &whole), 0));
    CUE_MUST(cue_budget_free(&budget, &whole));
}

Test(budget, one_that_is_stopped_stops_nobody)
{
    struct cast workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = cast_start("budget_worker", name, "7");
        cr_assert(eq(int, cast_hear(&workers[i], 20000), 'r'));
        cr_assert(cast_stop(&workers[i]));
    }
    cue_block b;
    for (int i = 0; i < 1000; i++) {
        int status = take(32, &b);
        cr_assert(status == 0 || status == CUE_ENOMEM || status == CUE_ELIMIT);
        if (!status)
            CUE_MUST(cue_budget_free(&budget, &b));
    }
    unsigned blocks;
    cr_assert(ge(int, cue_budget_settle(&budget), 0));
    cr_assert(le(u64, counted(&blocks), stat_budget().used), "never less than the truth");
    for (int i = 0; i < WORKERS; i++)
        cast_kill(&workers[i]);
    free_all();
    cr_assert(ge(int, cue_budget_settle(&budget), 0));
    cr_assert(eq(u64, stat_budget().used, 0));
}

static void await_waiters(uint64_t count)
{
    cue_pool_info info;
    for (int64_t end = test_now_ms() + test_ms(60000); test_now_ms() < end; sched_yield())
        if (CUE_MUST(cue_pool_stat(pool, &info)) == 0 && info.waiters == count)
            return;
    cr_fail("they do not wait");
}

Test(budget, who_waits_is_served_in_order)
{
    cue_block a, b;
    CUE_MUST(take(16384, &a));
    CUE_MUST(take(16384, &b));
    struct cast first = cast_start("budget_waiter", name, "32768");
    cr_assert(eq(int, cast_hear(&first, 20000), 'r'));
    await_waiters(1);
    struct cast second = cast_start("budget_waiter", name, "64");
    cr_assert(eq(int, cast_hear(&second, 20000), 'r'));
    await_waiters(2);
    CUE_MUST(cue_budget_free(&budget, &a));
    cr_assert(eq(int, cast_hear(&second, 300), -1), "the big one came first");
    CUE_MUST(cue_budget_free(&budget, &b));
    cr_assert(eq(int, cast_hear(&first, 20000), 'g'));
    cast_kill(&first); /* its block is the pool's, and stays */
    cr_assert(eq(int, cast_hear(&second, 300), -1));
    uint64_t cursor = 0;
    cue_block_info row;
    cr_assert(eq(int, cue_block_next(pool, TYPE, &cursor, &row), 1));
    CUE_MUST(cue_block_find(pool, (cue_key){ .id = row.id }, CUE_NOW, &a));
    CUE_MUST(cue_budget_free(&budget, &a));
    cr_assert(eq(int, cast_hear(&second, 20000), 'g'));
    cast_kill(&second);
    free_all();
}

Test(budget, a_killed_waiter_lets_the_next_one_go)
{
    cue_block a;
    CUE_MUST(take(BUDGET, &a));
    struct cast first = cast_start("budget_waiter", name, "32768"), second;
    cr_assert(eq(int, cast_hear(&first, 20000), 'r'));
    await_waiters(1);
    second = cast_start("budget_waiter", name, "64");
    cr_assert(eq(int, cast_hear(&second, 20000), 'r'));
    await_waiters(2);
    cast_kill(&first);
    CUE_MUST(cue_budget_free(&budget, &a));
    cr_assert(eq(int, cast_hear(&second, 20000), 'g'));
    cast_kill(&second);
    free_all();
}

static int stop_at_once(void *arg)
{
    ++*(int *)arg;
    return 1;
}

Test(budget, who_waits_is_asked_whether_to_go_on)
{
    cue_block a, b;
    int asked = 0;
    CUE_MUST(take(BUDGET, &a));
    cue_budget_want want = { .wait = CUE_SEC(100), .stop = stop_at_once, .arg = &asked };
    cr_assert(eq(int, cue_budget_alloc(&budget, 1, &want, &b), CUE_EINTR));
    cr_assert(eq(int, asked, 1));
    want = (cue_budget_want){ .wait = CUE_MS(1) };
    cr_assert(eq(int, cue_budget_alloc(&budget, 1, &want, &b), CUE_ENOMEM));
    CUE_MUST(cue_budget_free(&budget, &a));
}

static void *wait_under_the_budget(void *arg)
{
    CUE_MUST(cue_budget_alloc(&budget, 32, &(cue_budget_want){ .wait = CUE_SEC(60) }, arg));
    return NULL;
}

/* Else who holds what is under the budget, and needs room before it frees it, and who waits for that would wait for each other. */
Test(budget, who_waits_under_a_budget_is_not_in_the_way_of_who_waits_for_room)
{
    cue_block whole, room, other, first, second;
    cue_budget_opts opts = { .bytes = 64, .least = 32, .type = TYPE + BUDGET_TYPES };
    cue_pool_info info = { 0 };
    pthread_t thread;
    CUE_MUST(cue_budget_make(pool, "other", &opts, &other));
    CUE_MUST(take(BUDGET, &whole));
    cr_assert(eq(int, pthread_create(&thread, NULL, wait_under_the_budget, &first), 0));
    for (int64_t end = test_now_ms() + test_ms(30000); info.waiters == 0 && test_now_ms() < end; poll(NULL, 0, 1))
        CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.waiters, 1));
    CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .wait = CUE_SEC(5) }, &room));
    CUE_MUST(cue_budget_alloc(&other, 64, &(cue_budget_want){ .wait = CUE_SEC(5) }, &second));
    CUE_MUST(cue_budget_free(&budget, &whole));
    pthread_join(thread, NULL);
    CUE_MUST(cue_budget_free(&budget, &first));
    CUE_MUST(cue_budget_free(&other, &second));
    CUE_MUST(cue_block_release(&room));
    cue_block_free(&other);
}
