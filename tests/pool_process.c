/* Pools between processes that are killed, stopped, forked and closed in the middle of things. */
#include "tests/harness.h"

#include "pool/pool_private.h"

#include <cuelight/pool.h>

#include <pthread.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20 };

static cue_pool *pool;
static const char *name;

static void open_pool(void)
{
    name = test_name("process");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 64 * MIB }, &pool));
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

/* What workers published before they were killed. */
static void free_kept(void)
{
    uint64_t cursor = 0;
    cue_block_info row;
    while (CUE_MUST(cue_block_next(pool, 0, &cursor, &row)) == 1) {
        cue_block b;
        CUE_MUST(cue_block_find(pool, (cue_key){ .id = row.id }, CUE_NOW, &b));
        CUE_MUST(cue_block_free(&b));
    }
}

static void close_pool(void)
{
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(parties, .init = open_pool, .fini = close_pool);

static cue_pool_info stat_pool(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    return info;
}

Test(parties, what_a_killed_one_owned_is_freed)
{
    struct cast owner = cast_start("pool_owner", name, "200");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    cr_assert(eq(u64, stat_pool().blocks, 200));
    cast_kill(&owner);
    cr_assert(gt(int, cue_pool_check(pool, false, NULL, NULL), 0), "its death shows");
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cr_assert(eq(u64, stat_pool().blocks, 0));
    cr_assert(eq(u64, stat_pool().parties, 1));
    cr_assert(eq(u64, stat_pool().reaped, 1));
}

Test(parties, exit_without_close_is_a_close)
{
    struct cast owner = cast_start("pool_owner", name, "20");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    cast_say(&owner, 'x');
    cr_assert(eq(int, cast_wait(&owner, 5000), 0));
    cr_assert(eq(u64, stat_pool().blocks, 0));
    cr_assert(eq(u64, stat_pool().reaped, 0), "it left properly");
}

Test(parties, the_dead_make_room_for_an_alloc_that_needs_it)
{
    struct cast owner = cast_start("pool_owner", name, "200");
    cue_block all;
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    cr_assert(eq(int, cue_block_alloc(pool, 64 * MIB, NULL, &all), CUE_ENOMEM));
    cast_kill(&owner);
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, NULL, &all));
    cue_block_release(&all);
}

Test(parties, a_waiter_is_served_when_the_holder_dies)
{
    cue_block all;
    struct cast owner = cast_start("pool_owner", name, "400");
    cr_assert(eq(int, cast_hear(&owner, 10000), 'r'));
    struct cast waiter = cast_start("pool_waiter", name, "40000000");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    cr_assert(eq(int, cast_hear(&waiter, 200), -1), "there is no room");
    cast_kill(&owner);
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'g'));
    cast_kill(&waiter);
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, &(cue_block_opts){ .wait = CUE_SEC(30) }, &all));
    cue_block_release(&all);
}

Test(parties, a_waiter_is_served_when_the_holder_frees)
{
    cue_block all;
    CUE_MUST(cue_block_alloc(pool, 60 * MIB, NULL, &all));
    struct cast waiter = cast_start("pool_waiter", name, "40000000");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    cr_assert(eq(int, cast_hear(&waiter, 200), -1));
    cue_block_release(&all);
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'g'));
    cast_kill(&waiter);
}

static void wait_for_waiters(uint64_t count)
{
    for (int i = 0; i < 30000 && stat_pool().waiters < count; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(u64, stat_pool().waiters, count));
}

Test(parties, those_who_wait_are_served_in_order)
{
    cue_block rest[4];
    for (int i = 0; i < 4; i++)
        CUE_MUST(cue_block_alloc(pool, 15 * MIB, NULL, &rest[i]));
    struct cast big = cast_start("pool_waiter", name, "40000000");
    cr_assert(eq(int, cast_hear(&big, 5000), 'r'));
    wait_for_waiters(1);
    struct cast small = cast_start("pool_waiter", name, "8000000");
    cr_assert(eq(int, cast_hear(&small, 5000), 'r'));
    wait_for_waiters(2);
    cue_block_release(&rest[0]);
    cr_assert(eq(int, cast_hear(&small, 300), -1), "there is room for it, but the big one came first");
    cue_block_release(&rest[1]);
    cue_block_release(&rest[2]);
    cr_assert(eq(int, cast_hear(&big, 5000), 'g'));
    cast_say(&big, 'x');
    cr_assert(eq(int, cast_hear(&small, 5000), 'g'));
    cast_kill(&big);
    cast_kill(&small);
    cue_block_release(&rest[3]);
}

Test(parties, one_who_waits_and_is_stopped_or_killed_is_overtaken)
{
    cue_block rest[4];
    for (int i = 0; i < 4; i++)
        CUE_MUST(cue_block_alloc(pool, 15 * MIB, NULL, &rest[i]));
    for (int killed = 0; killed < 2; killed++) {
        struct cast big = cast_start("pool_waiter", name, "60000000");
        cr_assert(eq(int, cast_hear(&big, 5000), 'r'));
        wait_for_waiters(1);
        cr_assert(cast_stop(&big));
        if (killed)
            cast_kill(&big);
        cue_block_release(&rest[killed]);
        struct cast small = cast_start("pool_waiter", name, "8000000");
        cr_assert(eq(int, cast_hear(&small, 5000), 'r'));
        cr_assert(eq(int, cast_hear(&small, 5000), 'g'));
        cast_kill(&small);
        cast_kill(&big);
        pool_reap(pool);
    }
    for (int i = 2; i < 4; i++)
        cue_block_release(&rest[i]);
}

Test(parties, a_view_of_a_freed_block_dies_with_its_viewer)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 100000, &(cue_block_opts){ .type = 1, .id = 1, .flags = CUE_ZERO | CUE_KEEP }, &b));
    struct cast viewer = cast_start("pool_viewer", name, "1", "1");
    cr_assert(eq(int, cast_hear(&viewer, 5000), 'r'));
    CUE_MUST(cue_block_free(&b));
    cr_assert(eq(u64, stat_pool().blocks, 1), "doomed: somebody looks");
    cue_block other;
    for (int i = 0; i < 100; i++) {
        CUE_MUST(cue_block_alloc(pool, 100000, NULL, &other));
        memset(other.data, 1, other.size);
        cue_block_release(&other);
    }
    cast_say(&viewer, 'l');
    cr_assert(eq(int, cast_hear(&viewer, 5000), 'k'), "its bytes stayed");
    cast_kill(&viewer);
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cr_assert(eq(u64, stat_pool().blocks, 0));
}

Test(parties, what_a_killed_one_published_stays)
{
    cue_block b;
    struct cast maker = cast_start("pool_publisher", name, "5", "6");
    cr_assert(eq(int, cast_hear(&maker, 5000), 'a'));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .type = 5, .id = 6 }, CUE_NOW, &b), CUE_ENOENT));
    cast_say(&maker, 'p');
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 5, .id = 6 }, CUE_SEC(10), &b));
    cast_kill(&maker);
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cr_assert(eq(int, ((char *)b.data)[9999], 9));
    CUE_MUST(cue_block_free(&b));
}

Test(parties, a_key_whose_maker_died_before_publishing_is_free_again)
{
    cue_block b;
    struct cast maker = cast_start("pool_publisher", name, "5", "6");
    cr_assert(eq(int, cast_hear(&maker, 5000), 'a'));
    cue_block_opts opts = { .type = 5, .id = 6 };
    cr_assert(eq(int, cue_block_alloc(pool, 1, &opts, &b), CUE_EEXIST));
    cast_kill(&maker);
    pool_reap(pool);
    CUE_MUST(cue_block_alloc(pool, 1, &opts, &b));
    cue_block_release(&b);
}

Test(parties, a_finder_waits_until_it_is_published)
{
    struct cast viewer = cast_start("pool_viewer", name, "1", "77");
    cue_block b;
    cr_assert(eq(int, cast_hear(&viewer, 100), -1));
    CUE_MUST(cue_block_alloc(pool, 500, &(cue_block_opts){ .type = 1, .id = 77, .flags = CUE_ZERO }, &b));
    CUE_MUST(cue_block_publish(&b, 0));
    cr_assert(eq(int, cast_hear(&viewer, 5000), 'r'));
    cast_say(&viewer, 'l');
    cr_assert(eq(int, cast_hear(&viewer, 5000), 'k'));
    cast_say(&viewer, 'x');
    cr_assert(eq(int, cast_wait(&viewer, 5000), 0));
    CUE_MUST(cue_block_free(&b));
}

Test(parties, a_stopped_one_blocks_nobody)
{
    struct cast worker = cast_start("pool_worker", name, "1");
    cr_assert(eq(int, cast_hear(&worker, 5000), 'r'));
    for (int round = 0; round < 20; round++) {
        cr_assert(cast_stop(&worker));
        for (int i = 0; i < 200; i++) {
            cue_block b;
            CUE_MUST(cue_block_alloc(pool, (size_t)(i * 97 % 5000), NULL, &b));
            cue_block_release(&b);
        }
        cr_assert(cast_continue(&worker));
    }
    cast_kill(&worker);
    pool_reap(pool);
    free_kept();
}

/* For an hour, by the clock of who looks; it does not take that long. */
Test(parties, one_that_is_stopped_for_long_lives_and_keeps_what_it_has)
{
    cue_block most, rest;
    struct cast worker = cast_start("pool_worker", name, "2"), waiter = { 0 };
    cr_assert(eq(int, cast_hear(&worker, 5000), 'r'));
    for (int round = 0; round < 6; round++) {
        poll(NULL, 0, 3); /* where it is stopped is the random part */
        cr_assert(cast_stop(&worker));
        if (round == 3) { /* from now on one is stopped, too, who waits, first in the line */
            CUE_MUST(cue_block_alloc(pool, 30 * MIB, NULL, &most));
            waiter = cast_start("pool_waiter", name, "50000000");
            cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
            wait_for_waiters(1);
            cr_assert(cast_stop(&waiter));
        }
        struct cast later = cast_start("pool_later", name, round < 3 ? "3" : "4");
        int said = cast_hear(&later, 20000);
        cr_assert(eq(int, cast_wait(&later, 5000), 0));
        cr_assert(cast_continue(&worker));
        if (said == 'n') {
            cast_kill(&worker);
            pool_reap(pool);
            free_kept();
            cr_skip_test("may not make a time namespace");
        }
        cr_assert(eq(int, said, 'r'));
    }
    cr_assert(eq(int, cast_kill(&worker), CAST_SIGNALLED + SIGKILL), "all that it had was whole when it went on");
    cue_block_release(&most);
    pool_reap(pool);
    free_kept();
    cr_assert(cast_continue(&waiter));
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'g'), "it had kept its place");
    CUE_MUST(cue_block_alloc(pool, MIB, &(cue_block_opts){ .wait = CUE_SEC(1) }, &rest));
    cue_block_release(&rest);
    cast_kill(&waiter);
}

/* It has just claimed what was a slab when it looked; the rest of the extent is room for slabs all the same. */
Test(parties, one_that_is_stopped_with_a_slab_that_is_none_any_more_keeps_one_place)
{
    struct cast stopped = cast_start("pool_owner", name, "0");
    cr_assert(eq(int, cast_hear(&stopped, 5000), 'r'));
    cue_block most, b;
    uint32_t slabs = UINT32_C(1) << (pool->extent_shift - pool->slab_shift), first = (pool->nextents - 1) * slabs;
    CUE_MUST(cue_block_alloc(pool, pool->data_bytes - (UINT64_C(1) << pool->extent_shift), NULL, &most));
    uint64_t party = atomic_load(&pool->parties[1].word);
    cr_assert(eq(uint, party_state(party), PARTY_LIVE));
    atomic_store(&slab_head(pool, first)->owner, OWNER_CURSOR | 2 << 4 | (uint64_t)(party_epoch(party) & 0xffff) << 16);
    CUE_MUST(cue_block_alloc(pool, 64, NULL, &b));
    cr_assert(eq(u32, slab_of_index(pool, (uint32_t)b.priv[0]), first + 1));
    CUE_MUST(cue_block_release(&b));
    CUE_MUST(cue_block_release(&most));
    cast_kill(&stopped);
}

Test(parties, a_forked_child_is_a_party_of_its_own)
{
    struct cast forker = cast_start("pool_forker", name);
    cr_assert(eq(int, cast_hear(&forker, 5000), 'f'));
    cast_say(&forker, 'x');
    cr_assert(eq(int, cast_wait(&forker, 10000), 0));
    cr_assert(eq(u64, stat_pool().blocks, 0));
}

Test(parties, one_that_closed_its_descriptors_lives_and_judges_others)
{
    struct cast daemon = cast_start("pool_daemon", name);
    cr_assert(eq(int, cast_hear(&daemon, 5000), 'r'));
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cr_assert(eq(u64, stat_pool().parties, 2), "it is not taken for dead");
    struct cast owner = cast_start("pool_owner", name, "20");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    cast_kill(&owner);
    cast_say(&daemon, 'x');
    cr_assert(eq(int, cast_hear(&daemon, 10000), 'w'), "it cleaned up after the dead one");
    cast_say(&daemon, 'x');
    cr_assert(eq(int, cast_wait(&daemon, 5000), 0));
}

Test(parties, one_that_became_another_program_is_gone)
{
    struct cast other = cast_start("pool_execer", name);
    cr_assert(eq(int, cast_hear(&other, 5000), 'r'));
    cr_assert(eq(u32, pool_reap(pool), 1), "though its process goes on");
    cr_assert(eq(u64, stat_pool().blocks, 0));
    cast_say(&other, 'x');
    cr_assert(eq(int, cast_wait(&other, 5000), 0));
}

Test(parties, one_of_another_pid_namespace_dies_like_any_other)
{
    struct cast other = cast_start("pool_in_namespace", name);
    int said = cast_hear(&other, 5000);
    if (said == 'n') {
        cast_wait(&other, 5000);
        cr_skip_test("may not make a pid namespace");
    }
    cr_assert(eq(int, said, 'r'));
    cr_assert(eq(u64, stat_pool().blocks, 1));
    cr_assert(eq(u32, pool_reap(pool), 0), "it lives");
    cast_kill(&other); /* its child dies with it */
    for (int i = 0; i < 30000 && stat_pool().parties > 1; i++) {
        pool_reap(pool);
        poll(NULL, 0, 1);
    }
    cr_assert(eq(u64, stat_pool().blocks, 0));
}

/* ---- looking at all blocks while others work ---- */

enum { STAY = 600, MARKED = 77 };

static int by_number(const void *a, const void *b)
{
    const uint64_t *one = a, *other = b;
    return (*one > *other) - (*one < *other);
}

/* Sorted ids of what one walk saw. */
static size_t walk(uint32_t owner, uint32_t type, uint64_t *ids, size_t most)
{
    uint64_t cursor = 0;
    cue_block_info row;
    size_t count = 0;
    while (CUE_MUST(cue_block_next_of(pool, owner, type, &cursor, &row)) == 1) {
        cr_assert(owner == CUE_ANY || row.owner == owner);
        cr_assert(type == 0 || row.type == type);
        cr_assert(lt(sz, count, most), "the walk comes to an end");
        ids[count++] = row.id;
        cue_block b;
        cue_block_info seen;
        if (row.state != CUE_BLOCK_KEPT || cue_block_find(pool, (cue_key){ .id = row.id }, CUE_NOW, &b))
            continue;
        CUE_MUST(cue_block_stat(&b, &seen)); /* a view: whoever frees it meanwhile, it is that block */
        cr_assert(eq(u64, seen.id, row.id));
        cr_assert(eq(u32, seen.type, row.type));
        cr_assert(eq(sz, b.size, (size_t)row.size));
        CUE_MUST(cue_block_release(&b));
    }
    qsort(ids, count, sizeof *ids, by_number);
    return count;
}

static _Atomic bool churning;
static void *churn(void *arg)
{
    cue_block held[30] = { 0 };
    for (unsigned i = 0; atomic_load_explicit(&churning, memory_order_relaxed); i++) {
        cue_block *b = &held[i * 7 % 30];
        if (b->data)
            cue_block_free(b);
        else if (cue_block_alloc(pool, i * 97 % 9000, &(cue_block_opts){ .type = 78 }, b) == 0 && i % 3 == 0)
            CUE_MUST(cue_block_publish(b, 0));
    }
    for (int i = 0; i < 30; i++)
        if (held[i].data)
            cue_block_free(&held[i]);
    return arg;
}

Test(parties, a_walk_sees_what_stays_exactly_once_while_others_work)
{
    enum { OWNED = 150, WALKS = 40, MOST = 40000 };
    static uint64_t stays[STAY], theirs[OWNED], mine[STAY / 2], ids[MOST];
    static cue_block blocks[STAY];
    cue_block_info info;
    struct cast owner = cast_start("pool_owner", name, "150"), workers[2];
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    for (uint64_t i = 0; i < STAY; i++) {
        CUE_MUST(cue_block_alloc(pool, i % 3 ? i % 1500 : i * 50, &(cue_block_opts){ .type = MARKED, .id = i + 1 }, &blocks[i]));
        CUE_MUST(cue_block_stat(&blocks[i], &info));
        stays[i] = info.id;
        if (i % 2)
            CUE_MUST(cue_block_publish(&blocks[i], 0));
        else
            mine[i / 2] = info.id;
    }
    qsort(stays, STAY, sizeof *stays, by_number);
    qsort(mine, STAY / 2, sizeof *mine, by_number);
    uint32_t us = pool->self + 1, them = 0;
    for (uint32_t party = 1; party <= pool->max_parties; party++)
        if (party_pid(atomic_load_explicit(&pool->parties[party - 1].word, memory_order_acquire)) == owner.pid)
            them = party;
    cr_assert(eq(sz, walk(them, 0, theirs, OWNED), (size_t)OWNED));
    pthread_t thread;
    atomic_store_explicit(&churning, true, memory_order_relaxed);
    cr_assert(eq(int, pthread_create(&thread, NULL, churn, NULL), 0));
    for (int i = 0; i < 2; i++) {
        workers[i] = cast_start("pool_worker", name, i ? "5" : "6");
        cr_assert(eq(int, cast_hear(&workers[i], 5000), 'r'));
    }
    for (int i = 0; i < WALKS; i++) {
        cr_assert(eq(sz, walk(CUE_ANY, MARKED, ids, MOST), (size_t)STAY));
        cr_assert(eq(int, memcmp(ids, stays, sizeof stays), 0));
        cr_assert(eq(sz, walk(us, MARKED, ids, MOST), (size_t)STAY / 2));
        cr_assert(eq(int, memcmp(ids, mine, sizeof mine), 0));
        cr_assert(eq(sz, walk(0, MARKED, ids, MOST), (size_t)STAY / 2));
        cr_assert(eq(sz, walk(them, 0, ids, MOST), (size_t)OWNED));
        cr_assert(eq(int, memcmp(ids, theirs, sizeof theirs), 0));
        size_t all = walk(CUE_ANY, 0, ids, MOST);
        cr_assert(ge(sz, all, (size_t)STAY + OWNED));
        if (i == WALKS / 2)
            cr_assert(eq(int, cast_kill(&workers[0]), CAST_SIGNALLED + SIGKILL));
    }
    atomic_store_explicit(&churning, false, memory_order_relaxed);
    pthread_join(thread, NULL);
    cr_assert(eq(int, cast_kill(&workers[1]), CAST_SIGNALLED + SIGKILL));
    cast_kill(&owner);
    pool_reap(pool);
    cr_assert(eq(sz, walk(them, 0, ids, MOST), (size_t)0));
    for (int i = 0; i < STAY; i++)
        CUE_MUST(cue_block_free(&blocks[i]));
    free_kept();
}

static _Atomic int deaths;
static void count_death(void *arg, cue_pool *where, unsigned slot, uint32_t epoch)
{
    (void)arg, (void)where, (void)slot, (void)epoch;
    atomic_fetch_add_explicit(&deaths, 1, memory_order_release);
}

Test(parties, a_watched_death_is_told_once)
{
    struct watch *watch, *other;
    struct cast owner = cast_start("pool_owner", name, "1");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    uint64_t word = atomic_load_explicit(&pool->parties[1].word, memory_order_acquire);
    cr_assert(eq(int, party_pid(word), owner.pid));
    CUE_MUST(watch_party(pool, 1, party_epoch(word), count_death, NULL, &watch));
    CUE_MUST(watch_party(pool, 1, party_epoch(word) + 1, count_death, NULL, &other)); /* of another epoch: gone already */
    for (int i = 0; i < 30000 && atomic_load_explicit(&deaths, memory_order_acquire) < 1; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(int, atomic_load_explicit(&deaths, memory_order_acquire), 1));
    cast_kill(&owner);
    int64_t killed = test_now_ms();
    while (atomic_load_explicit(&deaths, memory_order_acquire) < 2 && test_now_ms() - killed < test_ms(30000))
        poll(NULL, 0, 1);
    cr_assert(eq(int, atomic_load_explicit(&deaths, memory_order_acquire), 2));
    watch_end(watch);
    watch_end(other);
    cr_assert(eq(int, atomic_load_explicit(&deaths, memory_order_acquire), 2));
}

/* Processes work in one pool and are killed and stopped at random; then nothing is left and nothing is wrong. */
Test(parties, survive_a_storm)
{
    enum { WORKERS = 4, DEFAULT_KILLS = 400 };
    struct cast workers[WORKERS] = { 0 };
    const char *wanted = getenv("STORM_KILLS");
    int kills = wanted ? atoi(wanted) : DEFAULT_KILLS, stops = 0, broken = 0;
    unsigned seed = 99;
    char text[20];
    for (int done = 0; done < kills;) {
        seed = seed * 1664525 + 1013904223;
        int which = (int)(seed >> 16) % WORKERS;
        struct cast *worker = &workers[which];
        if (worker->pid <= 0) {
            snprintf(text, sizeof text, "%d", done * WORKERS + which);
            *worker = cast_start("pool_worker", name, text);
            if (cast_hear(worker, 10000) != 'r')
                broken++;
            continue;
        }
        struct timespec pause = { 0, (long)(seed >> 4) % 1500000 }; /* the moment of the kill is the random part */
        nanosleep(&pause, NULL);
        if (seed >> 28 == 0 && cast_stop(worker)) {
            stops++;
            cue_block b;
            if (cue_block_alloc(pool, 1000, NULL, &b) == 0)
                cue_block_release(&b);
            cast_continue(worker);
            continue;
        }
        int code = cast_kill(worker);
        if (code != CAST_SIGNALLED + SIGKILL)
            fprintf(stderr, "a worker ended with %d\n", code), broken++;
        done++;
        if (done % 50 == 0)
            cue_pool_check(pool, true, NULL, NULL); /* for its repairs: others work meanwhile, so its findings pass */
    }
    for (int i = 0; i < WORKERS; i++)
        if (workers[i].pid > 0)
            cast_kill(&workers[i]);
    cr_assert(eq(int, broken, 0));
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cue_pool_info info = stat_pool();
    printf("storm: %d kills, %d stops, %llu parties cleaned up after, %llu kept blocks left\n", kills, stops,
           (unsigned long long)info.reaped, (unsigned long long)info.kept);
    cr_assert(gt(u64, info.reaped, (uint64_t)kills / 2));
    cr_assert(eq(u64, info.blocks, info.kept), "all that is left was published");
    free_kept();
    cr_assert(eq(u64, stat_pool().blocks, 0));
    cue_block all;
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, NULL, &all)); /* every byte is there again */
    cue_block_release(&all);
}
