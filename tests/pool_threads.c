/* One pool, many threads of one process: alloc and free across threads, leases that count, keys that collide. */
#include "tests/harness.h"

#include <cuelight/pool.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MIB = 1 << 20, THREADS = 4, ROUNDS = 20000, SLOTS = 64 };

static cue_pool *pool;
static const char *name;

static void open_pool(void)
{
    name = test_name("threads");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 64 * MIB }, &pool));
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void close_pool(void)
{
    cue_pool_info info;
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.blocks, 0));
    cue_block all;
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, NULL, &all)); /* what the threads held was given up when they ended */
    cue_block_release(&all);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(threads, .init = open_pool, .fini = close_pool);

static void run(void *(*body)(void *))
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, body, (void *)i), 0));
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_assert(eq(ptr, failed, NULL));
    }
}

/* Blocks wander: each slot is filled by one thread and freed by any. */
static struct {
    pthread_mutex_t lock;
    cue_block block;
} slots[SLOTS];

static void *wander(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg + 1;
    for (int round = 0; round < ROUNDS; round++) {
        seed = seed * 1664525 + 1013904223;
        unsigned which = (seed >> 8) % SLOTS;
        size_t size = seed >> 30 ? 1 + (seed >> 4) % 3000 : 1 + (seed >> 4) % 60000;
        cue_block fresh, old;
        if (cue_block_alloc(pool, size, NULL, &fresh))
            continue;
        memset(fresh.data, (int)(seed & 0xff), size);
        pthread_mutex_lock(&slots[which].lock);
        old = slots[which].block;
        slots[which].block = fresh;
        pthread_mutex_unlock(&slots[which].lock);
        if (old.data && (((unsigned char *)old.data)[0] != ((unsigned char *)old.data)[old.size - 1] || cue_block_release(&old)))
            return (void *)1;
    }
    return NULL;
}

Test(threads, allocate_and_free_each_others_blocks)
{
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    run(wander);
    for (int i = 0; i < SLOTS; i++)
        cue_block_release(&slots[i].block);
}

#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ && !defined __clang__ /* their own locks do not survive such a fork */
static _Atomic bool forking;

/* Locks of every kind are taken and given all the time; all threads hold something of the pool at the moment of the fork. */
static void *keep_busy(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg + 1;
    while (atomic_load_explicit(&forking, memory_order_relaxed)) { /* a flag */
        static const size_t sizes[] = { 64, 3000, 9000, 70000 };
        cue_block b, view;
        seed = seed * 1664525 + 1013904223;
        if (cue_block_alloc(pool, sizes[seed >> 30], &(cue_block_opts){ .type = 2, .id = 1 + (uintptr_t)arg, .flags = CUE_KEEP }, &b) ||
            cue_block_find(pool, (cue_key){ .type = 2, .id = 1 + (uintptr_t)arg }, CUE_NOW, &view) || cue_block_release(&view) ||
            cue_block_free(&b))
            return (void *)1;
    }
    return NULL;
}

/* What went wrong in the child, by number. A lock that a thread of the parent's held would keep it until the alarm. */
static int child_works(bool leaves)
{
    cue_block small, large, kept, view;
    alarm(60);
    if (cue_block_alloc(pool, 64, NULL, &small) || cue_block_alloc(pool, 9000, NULL, &large))
        return 1;
    if (cue_block_alloc(pool, 64, &(cue_block_opts){ .name = "child" }, &kept) || cue_block_publish(&kept, CUE_MINE))
        return 2;
    if (cue_block_find(pool, (cue_key){ .name = "child" }, CUE_NOW, &view) || cue_block_release(&view))
        return 3;
    if (cue_block_release(&small) || cue_block_free(&large) || cue_block_free(&kept))
        return 4;
    if (leaves)
        cue_pool_close(pool);
    return 0;
}

Test(threads, do_not_hinder_a_child_forked_while_they_work)
{
    enum { CHILDREN = 60 };
    pthread_t threads[THREADS];
    int bad = 0;
    atomic_store(&forking, true);
    for (uintptr_t i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, keep_busy, (void *)i), 0));
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(child_works(i % 2));
        waitpid(child, &status, 0);
        bad += status != 0;
    }
    atomic_store(&forking, false);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_expect(eq(ptr, failed, NULL));
    }
    cr_expect(eq(int, bad, 0));
    cr_expect(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0)); /* those who ended without a word are cleaned up after */
}
#endif

static cue_block shared;

static void *lease(void *arg)
{
    (void)arg;
    for (int round = 0; round < ROUNDS; round++) {
        cue_block view;
        if (cue_block_find(pool, (cue_key){ .type = 1, .id = 1 }, CUE_NOW, &view) || ((char *)view.data)[63] != 7 ||
            cue_block_release(&view))
            return (void *)1;
    }
    return NULL;
}

Test(threads, share_one_lease)
{
    CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .type = 1, .id = 1 }, &shared));
    memset(shared.data, 7, 64);
    CUE_MUST(cue_block_publish(&shared, 0));
    cue_block_release(&shared);
    run(lease);
    cue_block_info info;
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 1, .id = 1 }, CUE_NOW, &shared));
    CUE_MUST(cue_block_stat(&shared, &info));
    cr_assert(eq(u32, info.leases, 1));
    CUE_MUST(cue_block_free(&shared));
}

static _Atomic int published;

/* All want the same few keys: each is taken by one at a time. */
static void *collide(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg + 1;
    for (int round = 0; round < ROUNDS / 4; round++) {
        seed = seed * 1664525 + 1013904223;
        cue_block_opts opts = { .type = 2, .id = 1 + (seed >> 12) % 3 };
        cue_block made, found;
        int status = cue_block_alloc(pool, 100, &opts, &made);
        if (status == CUE_EEXIST || status == CUE_EBUSY) {
            if (cue_block_find(pool, (cue_key){ opts.type, opts.id, NULL }, CUE_NOW, &found) == 0) {
                if (*(uint64_t *)found.data != opts.id)
                    return (void *)1;
                cue_block_free(&found); /* one of those who try does it */
            }
            continue;
        }
        if (status)
            return (void *)2;
        *(uint64_t *)made.data = opts.id;
        if (cue_block_publish(&made, 0))
            return (void *)3;
        atomic_fetch_add_explicit(&published, 1, memory_order_relaxed); /* a count */
        cue_block_release(&made);
    }
    return NULL;
}

Test(threads, take_a_key_one_at_a_time)
{
    run(collide);
    cr_assert(gt(int, atomic_load_explicit(&published, memory_order_relaxed), 100));
    for (uint64_t id = 1; id <= 3; id++) {
        cue_block found;
        if (cue_block_find(pool, (cue_key){ 2, id, NULL }, CUE_NOW, &found) == 0) {
            cue_block_free(&found);
            cr_assert(eq(int, cue_block_find(pool, (cue_key){ 2, id, NULL }, CUE_NOW, NULL), CUE_ENOENT), "a key was taken twice");
        }
    }
}

/* The first thread goes on taking a key over from itself; the others must always find it. */
static _Atomic int takers, missed, found_all;
static void *take_over(void *arg)
{
    (void)arg;
    cue_block_opts opts = { .type = 9, .id = 9, .flags = CUE_REPLACE };
    bool taker = atomic_fetch_add_explicit(&takers, 1, memory_order_relaxed) == 0;
    for (int i = 0; i < 4000; i++) {
        cue_block b;
        if (taker) {
            if (cue_block_alloc(pool, 64, &opts, &b) || cue_block_publish(&b, 0) || cue_block_release(&b))
                return (void *)1;
        } else if (cue_block_find(pool, (cue_key){ 9, 9, NULL }, CUE_NOW, i % 2 ? &b : NULL)) {
            atomic_fetch_add_explicit(&missed, 1, memory_order_relaxed);
        } else {
            atomic_fetch_add_explicit(&found_all, 1, memory_order_relaxed);
            if (i % 2)
                cue_block_release(&b);
        }
    }
    return NULL;
}

Test(threads, find_a_key_that_is_being_taken_over)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .type = 9, .id = 9, .flags = CUE_KEEP }, &b));
    cue_block_release(&b);
    run(take_over);
    cr_assert(eq(int, atomic_load_explicit(&missed, memory_order_relaxed), 0));
    cr_assert(gt(int, atomic_load_explicit(&found_all, memory_order_relaxed), 0));
    CUE_MUST(cue_block_find(pool, (cue_key){ 9, 9, NULL }, CUE_NOW, &b));
    cue_block_free(&b);
}

static void *wait_for_room(void *arg)
{
    (void)arg;
    for (int round = 0; round < 50; round++) {
        cue_block b;
        if (cue_block_alloc(pool, 24 * MIB, &(cue_block_opts){ .wait = CUE_SEC(30) }, &b) || cue_block_release(&b))
            return (void *)1;
    }
    return NULL;
}

Test(threads, wait_for_room_and_all_get_it)
{
    run(wait_for_room);
}

/* ---- a pool that is destroyed while threads wait in it ---- */

enum { WAITERS = 3, DESTROYS = 100 };
static _Atomic int waiting;

static void *want_key(void *arg)
{
    (void)arg;
    cue_block b;
    atomic_fetch_add(&waiting, 1);
    int status = cue_block_find(pool, (cue_key){ .name = "never" }, CUE_MS(test_ms(20000)), &b);
    return (void *)(intptr_t)(status != CUE_EGONE && status != CUE_EINVAL); /* EINVAL: it came after the end */
}

static void *want_room(void *arg)
{
    (void)arg;
    cue_block b;
    atomic_fetch_add(&waiting, 1);
    int status = cue_block_alloc(pool, 2 * MIB, &(cue_block_opts){ .wait = CUE_MS(test_ms(20000)) }, &b);
    return (void *)(intptr_t)(status != CUE_EGONE && status != CUE_EINVAL);
}

Test(destroy, threads_that_wait_are_sent_away)
{
    for (int round = 0; round < DESTROYS; round++) {
        pthread_t threads[WAITERS];
        cue_block most;
        name = test_name("destroy");
        CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB }, &pool));
        CUE_MUST(cue_block_alloc(pool, 3 * MIB, NULL, &most));
        atomic_store(&waiting, 0);
        for (int i = 0; i < WAITERS; i++)
            cr_assert(eq(int, pthread_create(&threads[i], NULL, i % 2 ? want_room : want_key, NULL), 0));
        while (atomic_load(&waiting) < (round % 4 == 3 ? 1 : WAITERS))
            sched_yield();
        CUE_MUST(cue_pool_destroy(pool));
        for (int i = 0; i < WAITERS; i++) {
            void *failed;
            pthread_join(threads[i], &failed);
            cr_assert(eq(ptr, failed, NULL), "round %d, waiter %d", round, i);
        }
        cr_assert(eq(int, test_leftovers(name), 0));
    }
}

/* Views that end at the very time of the last close: each is taken off once, and the last one finds its bytes. */
static void *end_view(void *view)
{
    atomic_fetch_add(&waiting, 1);
    while (atomic_load(&waiting) <= WAITERS)
        sched_yield();
    uint64_t sum = *(uint64_t *)((cue_block *)view)->data;
    return (void *)(uintptr_t)(sum != 7 || cue_block_release(view) != 0);
}

Test(destroy, views_that_end_while_the_pool_is_closed)
{
    for (int round = 0; round < DESTROYS; round++) {
        pthread_t threads[WAITERS];
        cue_block view[WAITERS];
        name = test_name("views");
        CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB }, &pool));
        for (int i = 0; i < WAITERS; i++) {
            CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .flags = CUE_KEEP }, &view[i]));
            *(uint64_t *)view[i].data = 7;
        }
        atomic_store(&waiting, 0);
        for (int i = 0; i < WAITERS; i++)
            cr_assert(eq(int, pthread_create(&threads[i], NULL, end_view, &view[i]), 0));
        while (atomic_load(&waiting) < WAITERS)
            sched_yield();
        atomic_fetch_add(&waiting, 1);
        CUE_MUST(cue_pool_destroy(pool));
        for (int i = 0; i < WAITERS; i++) {
            void *failed;
            pthread_join(threads[i], &failed);
            cr_assert(eq(ptr, failed, NULL), "round %d, view %d", round, i);
        }
        cr_assert(eq(int, test_leftovers(name), 0));
    }
}
