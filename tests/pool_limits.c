/* Limits and counts: how many allocations a pool may hold, what a party may own, and what the manifest says of both. */
#include "tests/harness.h"

#include "pool/pool_internal.h"

#include <cuelight/channel.h>
#include <cuelight/pool.h>

#include <pthread.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20 };

static cue_pool *pool;
static const char *name;

static void open_with(cue_pool_opts opts)
{
    name = test_name("limits");
    opts.size = 4 * MIB;
    CUE_MUST(cue_pool_open(name, &opts, &pool));
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void close_pool(void)
{
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

static cue_pool_info counts(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    return info;
}

Test(limits, of_allocations_is_exact)
{
    enum { MOST = 700 }; /* more than the first part of the table */
    static cue_block b[MOST];
    cue_block more;
    open_with((cue_pool_opts){ .max_allocations = MOST });
    cr_assert(eq(u64, counts().max_allocations, MOST));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MOST; i++)
            CUE_MUST(cue_block_alloc(pool, (size_t)(i % 5) * 1200, NULL, &b[i]));
        cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &more), CUE_ELIMIT));
        cr_assert(ne(ptr, strstr(cue_trail(), "700"), NULL), "%s", cue_trail());
        cr_assert(eq(ptr, more.data, NULL));
        cr_assert(eq(u64, counts().blocks, MOST), "what was refused is gone again");
        CUE_MUST(cue_block_release(&b[MOST / 2]));
        CUE_MUST(cue_block_alloc(pool, 1, NULL, &b[MOST / 2]));
        cr_assert(eq(int, cue_block_alloc(pool, 5000, NULL, &more), CUE_ELIMIT));
        for (int i = 0; i < MOST; i++)
            CUE_MUST(cue_block_release(&b[i]));
    }
    cr_assert(eq(u64, counts().failed, 6));
    close_pool();
}

Test(limits, of_allocations_counts_what_is_published_and_not_what_is_freed_in_view)
{
    cue_block a, b, view;
    open_with((cue_pool_opts){ .max_allocations = 1 });
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 1, .id = 1 }, &a));
    cr_assert(eq(int, cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 1, .id = 2 }, &b), CUE_ELIMIT));
    CUE_MUST(cue_block_publish(&a, 0));
    cr_assert(eq(int, cue_block_alloc(pool, 100, NULL, &b), CUE_ELIMIT));
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 1, .id = 1 }, CUE_NOW, &view));
    CUE_MUST(cue_block_free(&a));
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &b)); /* the doomed one is nobody's allocation any more */
    CUE_MUST(cue_block_release(&view));
    CUE_MUST(cue_block_release(&b));
    cr_assert(eq(int, cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 1, .id = 1, .flags = CUE_REPLACE }, &a), 0));
    CUE_MUST(cue_block_publish(&a, 0));
    CUE_MUST(cue_block_free(&a));
    close_pool();
}

Test(limits, a_key_that_is_taken_costs_no_place)
{
    cue_block a, b;
    open_with((cue_pool_opts){ .max_allocations = 2 });
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 1, .id = 1 }, &a));
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 1, .id = 1 }, &b), CUE_EEXIST));
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &b));
    CUE_MUST(cue_block_release(&a));
    CUE_MUST(cue_block_release(&b));
    close_pool();
}

Test(limits, a_dead_partys_allocations_make_place)
{
    enum { MOST = 30 };
    cue_block b[MOST];
    open_with((cue_pool_opts){ .max_allocations = MOST });
    struct cast owner = cast_start("pool_owner", name, "12");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    for (int i = 0; i < MOST - 12; i++)
        CUE_MUST(cue_block_alloc(pool, 64, NULL, &b[i]));
    cr_assert(eq(int, cue_block_alloc(pool, 64, NULL, &b[MOST - 1]), CUE_ELIMIT));
    cast_kill(&owner); /* and nobody cleans up after it but who needs the places */
    for (int i = MOST - 12; i < MOST; i++)
        CUE_MUST(cue_block_alloc(pool, 64, NULL, &b[i]));
    cr_assert(eq(int, cue_block_alloc(pool, 64, NULL, &(cue_block){ 0 }), CUE_ELIMIT));
    for (int i = 0; i < MOST; i++)
        CUE_MUST(cue_block_release(&b[i]));
    close_pool();
}

struct freer {
    cue_block block;
    _Atomic int ready;
};
static void *free_later(void *arg)
{
    struct freer *freer = arg;
    while (!(atomic_load_explicit(&pool->header->room, memory_order_acquire) & 1)) /* until somebody waits */
        sched_yield();
    CUE_MUST(cue_block_release(&freer->block));
    return NULL;
}

Test(limits, who_waits_gets_the_next_place)
{
    cue_block b;
    struct freer freer;
    pthread_t thread;
    open_with((cue_pool_opts){ .max_allocations = 1 });
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &freer.block));
    cr_assert(eq(int, cue_block_alloc(pool, 100, &(cue_block_opts){ .wait = CUE_MS(2) }, &b), CUE_ELIMIT), "%s", cue_trail());
    pthread_create(&thread, NULL, free_later, &freer);
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .wait = CUE_SEC(60) }, &b));
    pthread_join(thread, NULL);
    CUE_MUST(cue_block_release(&b));
    close_pool();
}

Test(limits, who_waits_for_a_place_sleeps)
{
    cue_block held, b;
    open_with((cue_pool_opts){ .max_allocations = 1 });
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &held));
    uint32_t before = atomic_load_explicit(&pool->header->room, memory_order_relaxed);
    cr_assert(eq(int, cue_block_alloc(pool, 100, &(cue_block_opts){ .wait = CUE_MS(300) }, &b), CUE_ELIMIT));
    uint32_t calls = atomic_load_explicit(&pool->header->room, memory_order_relaxed) - before;
    cr_assert(lt(u32, calls, 100), "it woke itself %u times", calls);
    CUE_MUST(cue_block_release(&held));
    close_pool();
}

enum { THREADS = 4, PLACES = 10 };
static _Atomic int live, most, refused;
static void *contend(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3000; i++) {
        cue_block b[4];
        for (int k = 0; k < 4; k++) {
            int status = cue_block_alloc(pool, 64, NULL, &b[k]);
            if (status) {
                atomic_fetch_add(&refused, 1);
                continue;
            }
            int now = atomic_fetch_add(&live, 1) + 1, top = atomic_load(&most);
            while (now > top && !atomic_compare_exchange_weak(&most, &top, now))
                ;
        }
        for (int k = 0; k < 4; k++)
            if (b[k].data) {
                atomic_fetch_sub(&live, 1); /* before it is free: the count is never too high for that */
                cue_block_release(&b[k]);
            }
    }
    return NULL;
}

Test(limits, hold_for_threads_that_contend)
{
    pthread_t threads[THREADS];
    cue_block b[PLACES];
    open_with((cue_pool_opts){ .max_allocations = PLACES });
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, contend, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert(le(int, atomic_load(&most), PLACES));
    for (int i = 0; i < PLACES; i++)
        CUE_MUST(cue_block_alloc(pool, 64, NULL, &b[i]));
    cr_assert(eq(int, cue_block_alloc(pool, 64, NULL, &(cue_block){ 0 }), CUE_ELIMIT));
    for (int i = 0; i < PLACES; i++)
        CUE_MUST(cue_block_release(&b[i]));
    close_pool();
}

Test(limits, a_quota_is_what_a_party_may_own_at_a_time)
{
    cue_block b[16], more;
    open_with((cue_pool_opts){ .quota = 64 << 10 });
    cr_assert(eq(u64, counts().quota, 64 << 10));
    cr_assert(eq(int, cue_block_alloc(pool, 65 << 10, NULL, &more), CUE_ETOOBIG));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 16; i++)
            CUE_MUST(cue_block_alloc(pool, 4096, NULL, &b[i]));
        cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &more), CUE_ELIMIT));
        cr_assert(ne(ptr, strstr(cue_trail(), "quota"), NULL), "%s", cue_trail());
        cr_assert(eq(int, cue_block_alloc(pool, 1, &(cue_block_opts){ .wait = CUE_SEC(60) }, &more), CUE_ELIMIT),
                  "nobody waits for himself");
        CUE_MUST(cue_block_release(&b[3]));
        CUE_MUST(cue_block_alloc(pool, 4096, NULL, &b[3]));
        cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &more), CUE_ELIMIT));
        for (int i = 0; i < 16; i++) /* as often as it likes: half by free, half by publishing for the pool */
            CUE_MUST(i % 2 ? cue_block_free(&b[i]) : cue_block_publish(&b[i], 0));
        for (int i = 0; i < 16; i += 2)
            CUE_MUST(cue_block_free(&b[i]));
    }
    close_pool();
}

Test(limits, a_quota_is_each_partys_own)
{
    cue_block b[16];
    cue_party_info rows[4];
    open_with((cue_pool_opts){ .quota = 64 << 10 });
    for (int i = 0; i < 16; i++)
        CUE_MUST(cue_block_alloc(pool, 4096, NULL, &b[i]));
    struct cast waiter = cast_start("pool_waiter", name, "65536");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'g'), "its quota is untouched by ours");
    cr_assert(eq(int, cue_pool_parties(pool, rows, 4), 2));
    cr_assert(eq(u64, rows[0].bytes, 64 << 10));
    cr_assert(eq(u64, rows[1].bytes, 64 << 10));
    cr_assert(eq(u64, rows[1].quota, 64 << 10));
    cr_assert(eq(int, rows[1].pid, waiter.pid));
    struct cast greedy = cast_start("pool_waiter", name, "65537");
    cr_assert(eq(int, cast_hear(&greedy, 5000), 'r'));
    cr_assert(eq(int, cast_wait(&greedy, 5000), 2));
    cast_kill(&waiter);
    pool_reap(pool);
    for (int i = 0; i < 16; i++)
        CUE_MUST(cue_block_release(&b[i]));
    close_pool();
}

Test(limits, a_quota_counts_what_was_received_and_not_what_was_sent)
{
    cue_channel *in, *out;
    cue_block b;
    cue_msg m;
    char url[100];
    open_with((cue_pool_opts){ .quota = 16 << 10 });
    snprintf(url, sizeof url, "shm://%s/lane", name);
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &in));
    CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &out));
    for (int i = 0; i < 3; i++) { /* three times the quota is on its way */
        CUE_MUST(cue_block_alloc(pool, 16 << 10, NULL, &b));
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .move = &b }, CUE_NOW));
    }
    CUE_MUST(cue_block_alloc(pool, 16 << 10, NULL, &b));
    CUE_MUST(cue_block_release(&b));
    CUE_MUST(cue_channel_recv(in, &m, CUE_SEC(10)));
    cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &b), CUE_ELIMIT), "it owns what it received");
    cue_msg_release(&m);
    CUE_MUST(cue_block_alloc(pool, 16 << 10, NULL, &b));
    CUE_MUST(cue_block_release(&b));
    for (int i = 0; i < 2; i++) {
        CUE_MUST(cue_channel_recv(in, &m, CUE_SEC(10)));
        cue_msg_release(&m);
    }
    for (int i = 0; i < 50; i++) { /* bytes are not counted */
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .data = "text", .size = 4 }, CUE_NOW));
        CUE_MUST(cue_channel_recv(in, &m, CUE_SEC(10)));
        CUE_MUST(cue_block_alloc(pool, 16 << 10, NULL, &b));
        CUE_MUST(cue_block_release(&b));
        cue_msg_release(&m);
    }
    cue_channel_close(in);
    cue_channel_close(out);
    close_pool();
}

Test(limits, a_party_may_limit_itself_further_and_not_less)
{
    static const struct {
        uint64_t pools, own, is;
    } rows[] = { { 0, 8192, 8192 }, { 16384, 8192, 8192 }, { 8192, 16384, 8192 }, { 8192, 0, 8192 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cue_pool *maker = NULL;
        cue_block b;
        const char *other = test_name("self");
        CUE_MUST(cue_pool_open(other, &(cue_pool_opts){ .size = MIB, .quota = rows[i].pools, .flags = CUE_PERSIST }, &maker));
        cue_pool_close(maker);
        CUE_MUST(cue_pool_open(other, &(cue_pool_opts){ .quota = rows[i].own }, &pool));
        cr_assert(eq(u64, counts().quota, rows[i].is), "row %zu", i);
        CUE_MUST(cue_block_alloc(pool, 8192, NULL, &b));
        cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &(cue_block){ 0 }), CUE_ELIMIT));
        CUE_MUST(cue_pool_destroy(pool));
    }
}

Test(limits, a_forked_child_has_a_quota_of_its_own)
{
    cue_block b;
    open_with((cue_pool_opts){ .quota = 8192, .max_allocations = 3 });
    CUE_MUST(cue_block_alloc(pool, 8192, NULL, &b));
    pid_t child = fork();
    if (child == 0) {
        cue_block own, more;
        int step = cue_block_alloc(pool, 8192, NULL, &own) != 0                         ? 1
                   : cue_block_alloc(pool, 1, NULL, &more) != CUE_ELIMIT                ? 2
                   : cue_block_release(&own) || cue_block_alloc(pool, 8192, NULL, &own) ? 3
                                                                                        : 0;
        _exit(step);
    }
    int status;
    cr_assert(eq(int, waitpid(child, &status, 0), child));
    cr_assert(eq(int, status, 0));
    pool_reap(pool);
    CUE_MUST(cue_block_release(&b));
    close_pool();
}

Test(counts, say_how_fragmented_the_room_is)
{
    enum { RUNS = 64 };
    cue_block b[RUNS];
    open_with((cue_pool_opts){ 0 });
    cue_pool_info info = counts();
    cr_assert(eq(u64, info.free, 4 * MIB));
    cr_assert(eq(u64, info.largest, 4 * MIB));
    for (int i = 0; i < RUNS; i++)
        CUE_MUST(cue_block_alloc(pool, 4 * MIB / RUNS, NULL, &b[i]));
    info = counts();
    cr_assert(eq(u64, info.free, 0));
    cr_assert(eq(u64, info.used, 4 * MIB));
    cr_assert(ge(u64, info.taken, 4 * MIB));
    for (int i = 0; i < RUNS; i += 2)
        CUE_MUST(cue_block_release(&b[i]));
    info = counts();
    cr_assert(eq(u64, info.free, 2 * MIB));
    cr_assert(eq(u64, info.largest, 4 * MIB / RUNS), "every other run is in use");
    for (int i = 1; i < RUNS; i += 2)
        CUE_MUST(cue_block_release(&b[i]));
    cr_assert(eq(u64, counts().largest, 4 * MIB), "runs merge");
    uint64_t taken = counts().taken;
    cr_assert(gt(i64, cue_pool_trim(pool), 0));
    info = counts();
    cr_assert(lt(u64, info.taken, taken));
    cr_assert(eq(u64, info.peak, taken));
    close_pool();
}

Test(counts, by_type_and_by_party)
{
    cue_block b[9], view;
    cue_type_info types[3];
    cue_party_info parties[3];
    open_with((cue_pool_opts){ .label = "me" });
    cr_assert(eq(int, cue_pool_types(pool, types, 3), 0));
    for (int i = 0; i < 9; i++)
        CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 9 - (uint32_t)i / 3, .flags = i % 3 ? 0 : CUE_KEEP }, &b[i]));
    cr_assert(eq(int, cue_pool_types(pool, types, 2), 3), "more than there is room for");
    cr_assert(eq(int, cue_pool_types(pool, types, 3), 3));
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(u32, types[i].type, 7 + (uint32_t)i));
        cr_assert(eq(u64, types[i].blocks, 3));
        cr_assert(eq(u64, types[i].kept, 1));
        cr_assert(eq(u64, types[i].bytes, 3 * 128));
    }
    struct cast owner = cast_start("pool_owner", name, "6");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    CUE_MUST(cue_block_view(&b[1], 0, SIZE_MAX, &view));
    cr_assert(eq(int, cue_pool_parties(pool, NULL, 0), 2));
    cr_assert(eq(int, cue_pool_parties(pool, parties, 3), 2));
    cr_assert(eq(str, parties[0].label, "me"));
    cr_assert(eq(u32, parties[0].party, 1));
    cr_assert(eq(int, parties[0].pid, getpid()));
    cr_assert(eq(u64, parties[0].blocks, 6));
    cr_assert(eq(u64, parties[0].bytes, 6 * 128));
    cr_assert(eq(u64, parties[0].leases, 4), "of the published, and one view");
    cr_assert(eq(u64, parties[1].blocks, 6));
    cr_assert(eq(u32, parties[1].dead, 0));
    cast_kill(&owner);
    cr_assert(eq(int, cue_pool_parties(pool, parties, 3), 2));
    cr_assert(eq(u32, parties[1].dead, 1));
    cr_assert(lt(int, cue_pool_parties(pool, NULL, 3), 0));
    cr_assert(lt(int, cue_pool_types(pool, NULL, 3), 0));
    pool_reap(pool);
    cue_block_release(&view);
    for (int i = 0; i < 9; i++)
        CUE_MUST(cue_block_free(&b[i]));
    close_pool();
}
