/* What is cut in pools: blocks, keys, leases, parties, the pool's own life, recovery. */
#include "behind.h"

#include "pool/pool_private.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEDIUM = 4 << 20, EXTENT = 16, SMALL = 256 << 10, TINY = 64 << 10, TYPE = 7, ID = 42 };

static const cue_block_opts keyed = { .type = TYPE, .id = ID };
static const cue_block_opts named = { .name = "weights" };

/* The block under a key, leased. */
static int look_up(struct stage *stage, cue_key key, cue_block *out)
{
    return cue_block_find(stage->pool, key, CUE_NOW, out);
}

/* A published block that was filled with `seed` is there and whole, or is not there. Ends it. */
static int published(struct stage *stage, cue_key key, size_t size, unsigned seed)
{
    cue_block b;
    int status = look_up(stage, key, &b);
    if (status == CUE_ENOENT)
        return 0;
    must_be(status, 0, "cue_block_find");
    if (status)
        return -1;
    if (b.size != size || !filled(&b, seed))
        wrong("a published block of %zu bytes is not what was published", b.size);
    MUST(cue_block_free(&b));
    must_be(look_up(stage, key, &b), CUE_ENOENT, "cue_block_find after free");
    return 1;
}

static cue_key key_of(const cue_block_opts *opts)
{
    return opts->name ? (cue_key){ .name = opts->name } : (cue_key){ .type = opts->type, .id = opts->id };
}

/* ---- alloc: what a dead party owned comes back, whatever it was doing ---- */

static void warm_up(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &me->block[7]));
    CUE_MUST(cue_block_alloc(me->pool, 8192, NULL, &me->block[6]));
}

static void alloc_64(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &me->block[0]));
}

static void alloc_3000(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 3000, NULL, &me->block[0]));
}

static void alloc_run(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 20000, NULL, &me->block[0]));
}

static void alloc_long(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 300000, NULL, &me->block[0])); /* four extents of 64 KiB and a tail */
}

static void alloc_zero(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 500, &(cue_block_opts){ .flags = CUE_ZERO, .align = 64 }, &me->block[0]));
}

/* The slab's cursor is full, and an empty slab is somebody else's who gave it up: adopts it. */
static void fill_slab(struct victim *me)
{
    cue_block b;
    warm_up(me);
    struct slab *head = slab_head(me->pool, slab_of_index(me->pool, (uint32_t)me->block[7].priv[0]));
    uint32_t blocks = atomic_load(&head->blocks);
    for (uint32_t i = 1; i < blocks; i++)
        CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &b));
}

static void abandon_slab(struct stage *stage)
{
    cue_block kept, b[8];
    MUST(cue_block_alloc(stage->pool, 64, &(cue_block_opts){ .type = TYPE, .id = ID, .flags = CUE_KEEP },
                         &kept)); /* so that it is not dissolved */
    for (int i = 0; i < 8; i++)
        MUST(cue_block_alloc(stage->pool, 64, NULL, &b[i]));
    for (int i = 0; i < 8; i++)
        MUST(cue_block_release(&b[i]));
    slabs_give_up_thread(stage->pool);
    MUST(cue_block_release(&kept));
}

static int end_kept(struct stage *stage)
{
    cue_block b;
    MUST(look_up(stage, key_of(&keyed), &b));
    if (b.data)
        MUST(cue_block_free(&b));
    return -1;
}

/* ---- free ---- */

static void own_64(struct victim *me)
{
    warm_up(me);
    alloc_64(me);
}
static void own_run(struct victim *me)
{
    warm_up(me);
    alloc_run(me);
}
static void own_long(struct victim *me)
{
    alloc_long(me);
}
/* In the open slab of another thread of the same process, which lives on. */
static _Noreturn void *alloc_and_stay(void *arg)
{
    struct victim *me = arg;
    alloc_64(me);
    atomic_store_explicit((_Atomic(void *) *)&me->other[0], me, memory_order_release);
    for (;;)
        pause();
}
static void own_of_a_thread(struct victim *me)
{
    pthread_t thread;
    warm_up(me);
    if (pthread_create(&thread, NULL, alloc_and_stay, me))
        abort();
    while (!atomic_load_explicit((_Atomic(void *) *)&me->other[0], memory_order_acquire))
        sched_yield();
}
static void release_0(struct victim *me)
{
    CUE_MUST(cue_block_release(&me->block[0]));
}

static void keep(struct stage *stage, size_t size)
{
    cue_block b;
    MUST(cue_block_alloc(stage->pool, size, &keyed, &b));
    fill(&b, 3);
    MUST(cue_block_publish(&b, 0));
    MUST(cue_block_release(&b));
}
static void keep_64(struct stage *stage)
{
    keep(stage, 64);
}
static void keep_run(struct stage *stage)
{
    keep(stage, 20000);
}
static void keep_long(struct stage *stage)
{
    keep(stage, 300000);
}
static void find_it(struct victim *me)
{
    CUE_MUST(cue_block_find(me->pool, key_of(&keyed), CUE_NOW, &me->block[0]));
}
static void free_it(struct victim *me)
{
    CUE_MUST(cue_block_free(&me->block[0]));
}

/* Freed for everyone, or still there and whole. */
static int gone_64(struct stage *stage)
{
    return !published(stage, key_of(&keyed), 64, 3);
}
static int gone_run(struct stage *stage)
{
    return !published(stage, key_of(&keyed), 20000, 3);
}
static int gone_long(struct stage *stage)
{
    return !published(stage, key_of(&keyed), 300000, 3);
}

/* The driver looks at it while it is freed: its bytes stay. */
static void keep_and_view(struct stage *stage)
{
    keep_64(stage);
    MUST(look_up(stage, key_of(&keyed), &stage->block[0]));
}
static int viewed(struct stage *stage)
{
    cue_block_info info;
    MUST(cue_block_stat(&stage->block[0], &info)); /* published, or doomed, but not free */
    if (!filled(&stage->block[0], 3))
        wrong("the bytes of a view changed");
    MUST(cue_block_release(&stage->block[0]));
    return gone_64(stage);
}

/* The pool is full to the last block of 64 bytes, and this is the one that is freed: its place must be found, although who freed
 * it may have been killed before it could say so. */
enum { BLOCKS_64 = SMALL / 64 };
static void keep_64_and_fill(struct stage *stage)
{
    cue_block *b = calloc(BLOCKS_64, sizeof *b);
    keep_64(stage);
    while (b && stage->number[0] < BLOCKS_64 && cue_block_alloc(stage->pool, 64, NULL, &b[stage->number[0]]) == 0)
        stage->number[0]++;
    if (stage->number[0] != BLOCKS_64 - 1)
        wrong("an empty pool held %llu blocks of 64 bytes instead of %d", (unsigned long long)stage->number[0] + 1, BLOCKS_64);
    stage->other[0] = b;
}
static int place_is_found(struct stage *stage)
{
    cue_block *all = stage->other[0], b;
    int gone = gone_64(stage);
    MUST(cue_block_alloc(stage->pool, 64, NULL, &b));
    if (b.data)
        MUST(cue_block_release(&b));
    for (uint64_t i = 0; i < stage->number[0]; i++)
        MUST(cue_block_release(&all[i]));
    free(all);
    return gone;
}

/* One granule is free that does not fit, and while the victim looks at it and gives it up again, more comes free: who looks next finds
 * that. An extent is EXTENT granules. */
static void full_but_for_one(struct stage *stage)
{
    const size_t granules[] = { 1, 1, EXTENT - 2, stage->size / POOL_GRANULE - EXTENT };
    for (int i = 0; i < 4; i++)
        MUST(cue_block_alloc(stage->pool, granules[i] * POOL_GRANULE, NULL, &stage->block[i]));
    if (granules_per_extent(stage->pool) != EXTENT)
        wrong("an extent has %u granules", granules_per_extent(stage->pool));
    MUST(cue_block_release(&stage->block[1]));
    extents_give_up(stage->pool);
}
static void alloc_in_vain(struct victim *me)
{
    if (cue_block_alloc(me->pool, POOL_GRANULE, &(cue_block_opts){ .align = EXTENT * POOL_GRANULE }, &me->block[0]) != CUE_ENOMEM)
        abort();
}
static void rest_comes_free(struct stage *stage)
{
    if (stage->block[2].data)
        MUST(cue_block_release(&stage->block[2]));
}
static void rest_is_found(struct stage *stage)
{
    cue_block b;
    MUST(cue_block_alloc(stage->pool, (EXTENT - 2) * POOL_GRANULE, NULL, &b));
    if (b.data)
        MUST(cue_block_release(&b));
    extents_give_up(stage->pool);
}
static int rest_and_first(struct stage *stage)
{
    rest_is_found(stage);
    MUST(cue_block_release(&stage->block[0]));
    MUST(cue_block_release(&stage->block[3]));
    return -1;
}

/* ---- leases ---- */

static void attach(struct victim *me)
{
    find_it(me);
}
static void view_more(struct victim *me)
{
    CUE_MUST(cue_block_view(&me->block[0], 8, 8, &me->block[1]));
    CUE_MUST(cue_block_release(&me->block[1]));
}
static int whole_64(struct stage *stage)
{
    if (!published(stage, key_of(&keyed), 64, 3))
        wrong("a kept block is gone");
    return -1;
}
/* Freed by the driver while the victim looks: the victim's detach is the last. */
static void free_under_it(struct stage *stage)
{
    cue_block b;
    MUST(look_up(stage, key_of(&keyed), &b));
    MUST(cue_block_free(&b));
}
static int none_there(struct stage *stage)
{
    cue_block b;
    must_be(look_up(stage, key_of(&keyed), &b), CUE_ENOENT, "cue_block_find of what was freed");
    return -1;
}

/* ---- keys ---- */

static void own_keyed(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 500, &keyed, &me->block[0]));
    fill(&me->block[0], 5);
}
static void own_named(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 500, &named, &me->block[0]));
    fill(&me->block[0], 5);
}
static void publish(struct victim *me)
{
    CUE_MUST(cue_block_publish(&me->block[0], 0));
}
static void publish_mine(struct victim *me)
{
    CUE_MUST(cue_block_publish(&me->block[0], CUE_MINE));
}
static int key_published(struct stage *stage)
{
    return published(stage, key_of(&keyed), 500, 5);
}
static int name_published(struct stage *stage)
{
    return published(stage, key_of(&named), 500, 5);
}
static void reserve_key(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, &keyed, &me->block[0]));
}
static void reserve_name(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, &named, &me->block[0]));
}
static void keep_at_once(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, &(cue_block_opts){ .type = TYPE, .id = ID, .flags = CUE_KEEP | CUE_ZERO }, &me->block[0]));
}
static int kept_at_once(struct stage *stage)
{
    cue_block b;
    int status = look_up(stage, key_of(&keyed), &b);
    if (status == CUE_ENOENT)
        return 0;
    MUST(cue_block_free(&b));
    return 1;
}
/* What a dead one had reserved can be had again. */
static int key_free(struct stage *stage)
{
    cue_block b;
    MUST(cue_block_alloc(stage->pool, 64, &keyed, &b));
    if (b.data)
        MUST(cue_block_release(&b));
    MUST(cue_block_alloc(stage->pool, 64, &named, &b));
    if (b.data)
        MUST(cue_block_release(&b));
    return -1;
}
/* The key is the driver's. */
static void reserve_here(struct stage *stage)
{
    MUST(cue_block_alloc(stage->pool, 64, &keyed, &stage->block[0]));
}
static void collide(struct victim *me)
{
    int status = cue_block_alloc(me->pool, 64, &keyed, &me->block[0]);
    if (status != CUE_EEXIST)
        abort();
}
static int still_ours(struct stage *stage)
{
    fill(&stage->block[0], 3);
    MUST(cue_block_publish(&stage->block[0], 0));
    MUST(cue_block_release(&stage->block[0]));
    return whole_64(stage);
}
static void find_again(struct victim *me)
{
    if (cue_block_find(me->pool, key_of(&keyed), CUE_NOW, NULL) != 0)
        abort();
}

/* Takes the key over from a published block: whoever looks finds the old one or the new one, never none, and never two. */
static void own_successor(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 500, &(cue_block_opts){ .type = TYPE, .id = ID, .flags = CUE_REPLACE }, &me->block[0]));
    fill(&me->block[0], 5);
}
static void own_named_successor(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 500, &(cue_block_opts){ .name = "weights", .flags = CUE_REPLACE }, &me->block[0]));
    fill(&me->block[0], 5);
}
static void keep_named(struct stage *stage)
{
    cue_block b;
    MUST(cue_block_alloc(stage->pool, 64, &named, &b));
    fill(&b, 3);
    MUST(cue_block_publish(&b, 0));
    MUST(cue_block_release(&b));
}
static int old_or_new(struct stage *stage, cue_key key)
{
    cue_block b;
    int status = look_up(stage, key, &b);
    must_be(status, 0, "cue_block_find of a key that is being taken over");
    if (status)
        return -1;
    bool is_new = b.size == 500;
    if (!filled(&b, is_new ? 5 : 3) || (!is_new && b.size != 64))
        wrong("what the key leads to is neither the old block nor the new one");
    MUST(cue_block_free(&b));
    must_be(look_up(stage, key, &b), CUE_ENOENT, "cue_block_find after free");
    key_free(stage);
    return is_new;
}
static int key_taken_over(struct stage *stage)
{
    return old_or_new(stage, key_of(&keyed));
}
static int name_taken_over(struct stage *stage)
{
    return old_or_new(stage, key_of(&named));
}
static void always_one(struct stage *stage)
{
    MUST(cue_block_find(stage->pool, key_of(&keyed), CUE_NOW, NULL));
    cue_block b;
    must_be(cue_block_alloc(stage->pool, 64, &keyed, &b), CUE_EEXIST, "reserving a key that is being taken over");
}
static void always_one_named(struct stage *stage)
{
    MUST(cue_block_find(stage->pool, key_of(&named), CUE_NOW, NULL));
}
/* The driver looks at the old one, which stays for it. */
static int taken_over_in_view(struct stage *stage)
{
    if (!filled(&stage->block[0], 3))
        wrong("the bytes of a view changed");
    MUST(cue_block_release(&stage->block[0]));
    return key_taken_over(stage);
}

/* So many keys that the next one needs a new level of the directory. */
static unsigned keys_until_level(uint64_t size)
{
    static unsigned known;
    cue_pool *pool;
    cue_block b;
    if (known)
        return known;
    CUE_MUST(cue_pool_open("crash-levels", &(cue_pool_opts){ .size = size }, &pool));
    while (atomic_load(&pool->header->dir_top) == 1)
        CUE_MUST(cue_block_alloc(pool, 1, &(cue_block_opts){ .type = TYPE, .id = 1000 + known++ }, &b));
    cue_pool_destroy(pool);
    return known;
}
static void fill_level(struct stage *stage)
{
    unsigned keys = keys_until_level(stage->size) - 1;
    cue_block *b = calloc(keys, sizeof *b);
    for (unsigned i = 0; b && i < keys; i++)
        MUST(cue_block_alloc(stage->pool, 1, &(cue_block_opts){ .type = TYPE, .id = 1000 + i }, &b[i]));
    stage->other[0] = b;
    stage->number[0] = keys;
}
static void next_level(struct victim *me)
{
    unsigned i = 0;
    while (atomic_load(&me->pool->header->dir_top) == 1)
        CUE_MUST(cue_block_alloc(me->pool, 1, &(cue_block_opts){ .type = TYPE, .id = 1000 + (uint64_t)(uintptr_t)me->other[0] + i++ },
                                 &me->block[0]));
}
static void know_level(struct victim *me)
{
    warm_up(me);
    /* the driver has all keys but the one that adds the level; count them */
    cue_block_info info;
    uintptr_t n = 0;
    for (uint64_t cursor = 0; cue_block_next(me->pool, TYPE, &cursor, &info) > 0;)
        n++;
    me->other[0] = (void *)n;
}
static int level_whole(struct stage *stage)
{
    cue_block *b = stage->other[0], extra;
    for (unsigned i = 0; i < stage->number[0]; i++) /* each is still taken */
        must_be(cue_block_alloc(stage->pool, 1, &(cue_block_opts){ .type = TYPE, .id = 1000 + i }, &extra), CUE_EEXIST,
                "a key that is taken");
    for (unsigned i = 0; i < stage->number[0]; i++)
        MUST(cue_block_release(&b[i]));
    free(b);
    return -1;
}

/* The windows of every key are crowded with others'. */
static void keep_in_a_crowd(struct stage *stage)
{
    fill_level(stage);
    keep_64(stage);
}
static int crowd_whole(struct stage *stage)
{
    whole_64(stage);
    return level_whole(stage);
}

/* ---- the pool itself ---- */

static void join(struct victim *me)
{
    CUE_MUST(victim_open(me, CUE_ATTACH, 0));
}
static void create(struct victim *me)
{
    CUE_MUST(victim_open(me, 0, 0));
}
static void hold_much(struct victim *me)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &b));
    CUE_MUST(cue_block_alloc(me->pool, 3000, NULL, &b));
    CUE_MUST(cue_block_alloc(me->pool, 20000, NULL, &b));
    if (me->size >= MEDIUM)
        CUE_MUST(cue_block_alloc(me->pool, 300000, NULL, &b));
}
static void create_and_hold(struct victim *me)
{
    create(me);
    hold_much(me);
}
static void leave(struct victim *me)
{
    cue_pool_close(me->pool);
}
static void destroy(struct victim *me)
{
    CUE_MUST(cue_pool_destroy(me->pool));
}
/* Destroyed or not, a pool of that name can be had. */
static int pool_again(struct stage *stage)
{
    return -1 + 0 * (int)stage->size;
}
static void trim(struct victim *me)
{
    if (cue_pool_trim(me->pool) < 0)
        abort();
}
static void use_and_free(struct victim *me)
{
    hold_much(me);
    cue_block b[4];
    CUE_MUST(cue_block_alloc(me->pool, 200000, NULL, &b[0]));
    CUE_MUST(cue_block_alloc(me->pool, 30000, NULL, &b[1]));
    CUE_MUST(cue_block_release(&b[0]));
    CUE_MUST(cue_block_release(&b[1]));
}
static void resize(struct victim *me)
{
    CUE_MUST(cue_block_resize(&me->block[0], 10));
}

/* ---- limits ---- */

enum { MOST = 20 };
static void all_but_one(struct victim *me)
{
    warm_up(me);
    for (int i = 2; i < MOST - 1; i++)
        CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &(cue_block){ 0 }));
}
static void one_too_many(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &me->block[0]));
    if (cue_block_alloc(me->pool, 64, NULL, &me->block[1]) != CUE_ELIMIT)
        abort();
}
/* The driver has all of the first part of the table but one: the next but one makes it larger. */
enum { PART = 512, PLACES = 1500 };
static void fill_places(struct stage *stage)
{
    cue_block *b = calloc(PART, sizeof *b);
    for (int i = 0; b && i < PART - 9; i++) /* what is tried meanwhile wants seven */
        MUST(cue_block_alloc(stage->pool, 64, NULL, &b[i]));
    stage->other[0] = b;
}
static void more_places(struct victim *me)
{
    for (int i = 0; i < 12; i++)
        CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &(cue_block){ 0 }));
}
static int places_back(struct stage *stage)
{
    cue_block *b = stage->other[0];
    for (int i = 0; i < PART - 9; i++)
        MUST(cue_block_release(&b[i]));
    free(b);
    return -1;
}
static void own_quota(struct victim *me)
{
    cue_pool_close(me->pool);
    CUE_MUST(victim_open(me, CUE_ATTACH, 80 << 10));
    warm_up(me);
    alloc_run(me);
    for (int i = 0; i < 3; i++) /* each is counted and given away again */
        CUE_MUST(cue_block_alloc(me->pool, 20000, NULL, &me->block[1]) || cue_block_release(&me->block[1]));
}
static void to_the_quota(struct victim *me)
{
    CUE_MUST(cue_block_release(&me->block[0]));
    CUE_MUST(cue_block_alloc(me->pool, 24576, NULL, &me->block[0]));
    if (cue_block_alloc(me->pool, 64 << 10, NULL, &me->block[1]) != CUE_ELIMIT)
        abort();
}

/* Waits for room that the driver, between, makes by and by; the wait itself must be cut, too. */
static void fill_for_waiter(struct stage *stage)
{
    MUST(cue_block_alloc(stage->pool, stage->size, NULL, &stage->block[0]));
}
static void make_room(struct stage *stage)
{
    MUST(cue_block_release(&stage->block[0]));
}
static void alloc_waiting(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 20000, &(cue_block_opts){ .wait = CUE_SEC(5) }, &me->block[0]));
}
static void know_full(struct victim *me)
{
    if (cue_block_alloc(me->pool, 20000, NULL, &me->block[0]) != CUE_ENOMEM)
        abort();
    atomic_fetch_or(&me->pool->header->room, 1); /* somebody waits: the whole way of a waiter */
}

/* ---- asleep: what the victim waits for comes while it sleeps, and somebody else waits behind it ---- */

static int wait_for_key(struct stage *stage, cue_block *out)
{
    return cue_block_find(stage->pool, key_of(&keyed), CUE_SEC(40), out);
}

static void await_it(struct victim *me)
{
    CUE_MUST(cue_block_find(me->pool, key_of(&keyed), CUE_SEC(50), &me->block[0]));
}
static void publish_here(struct stage *stage)
{
    queue_behind(stage, wait_for_key);
    if (!stage->block[0].data)
        return;
    fill(&stage->block[0], 3);
    MUST(cue_block_publish(&stage->block[0], 0));
    MUST(cue_block_release(&stage->block[0]));
}
static void other_found_it(struct stage *stage)
{
    publish_here(stage);
    cue_block *view = behind_is_served(stage, "waiting for the same block as the victim");
    if (view)
        MUST(cue_block_release(view));
}
static int whole_and_forgotten(struct stage *stage)
{
    behind_forget(stage);
    return whole_64(stage);
}

/* An observer holds nothing. */
static void look_around(struct victim *me)
{
    cue_pool *pool;
    cue_pool_info info;
    char bytes[64];
    cue_block_info row;
    uint64_t cursor = 0;
    CUE_MUST(cue_pool_open(me->pool_name, &(cue_pool_opts){ .flags = CUE_READ_ONLY }, &pool));
    CUE_MUST(cue_pool_stat(pool, &info));
    if (cue_block_next(pool, TYPE, &cursor, &row) != 1 || cue_block_read(pool, row.id, 0, bytes, sizeof bytes) != 64)
        abort();
    cue_pool_close(pool);
}

/* ---- recovery: the victim is the reaper, and what it reaps has one of everything ---- */

static void leave_everything(struct victim *me)
{
    cue_block b;
    hold_much(me);
    CUE_MUST(cue_block_alloc(me->pool, 64, &keyed, &b));
    CUE_MUST(cue_block_alloc(me->pool, 64, &(cue_block_opts){ .type = TYPE, .id = 1, .flags = CUE_MINE }, &b));
    CUE_MUST(cue_block_find(me->pool, (cue_key){ .type = TYPE, .id = 2 }, CUE_NOW, &b)); /* the driver frees it under us */
    CUE_MUST(cue_block_find(me->pool, (cue_key){ .type = TYPE, .id = 2 }, CUE_NOW, &b));
    CUE_MUST(cue_block_find(me->pool, (cue_key){ .type = TYPE, .id = 3 }, CUE_NOW, &b)); /* and this stays */
}
static void dead_with_everything(struct stage *stage)
{
    cue_block b;
    MUST(cue_block_alloc(stage->pool, 64, &(cue_block_opts){ .type = TYPE, .id = 2, .flags = CUE_KEEP }, &stage->block[0]));
    MUST(cue_block_alloc(stage->pool, 64, &(cue_block_opts){ .type = TYPE, .id = 3, .flags = CUE_KEEP }, &b));
    MUST(cue_block_release(&b));
}
static void and_now_kill_it(struct stage *stage)
{
    leave_dead(stage, "_everything");
    MUST(cue_block_free(&stage->block[0])); /* DOOMED: only the dead one looks at it */
}
static void reap_all(struct victim *me)
{
    if (pool_reap(me->pool) != 1)
        abort();
}
static int after_reaper(struct stage *stage)
{
    cue_block b;
    if (atomic_load(&stage->pool->header->reaped) < 1)
        wrong("nobody was reaped");
    must_be(look_up(stage, (cue_key){ .type = TYPE, .id = 1 }, &b), CUE_ENOENT, "a dead party's own block");
    must_be(look_up(stage, (cue_key){ .type = TYPE, .id = 2 }, &b), CUE_ENOENT, "a block that was freed");
    MUST(look_up(stage, (cue_key){ .type = TYPE, .id = 3 }, &b));
    if (b.data)
        MUST(cue_block_free(&b));
    return key_free(stage);
}

const struct op ops_pool[] = {
    { .name = "alloc_first", .size = MEDIUM, .act = alloc_64 },
    { .name = "alloc_warm", .size = MEDIUM, .prepare = warm_up, .act = alloc_64 },
    { .name = "alloc_class", .size = MEDIUM, .prepare = warm_up, .act = alloc_3000 },
    { .name = "alloc_zero", .size = MEDIUM, .prepare = warm_up, .act = alloc_zero },
    { .name = "alloc_adopt", .size = MEDIUM, .setup = abandon_slab, .prepare = fill_slab, .act = alloc_64, .verify = end_kept },
    { .name = "alloc_run", .size = MEDIUM, .act = alloc_run },
    { .name = "alloc_run_warm", .size = MEDIUM, .prepare = warm_up, .act = alloc_run },
    { .name = "alloc_run_small_pool", .size = SMALL, .act = alloc_run },
    { .name = "alloc_long", .size = MEDIUM, .act = alloc_long },
    { .name = "alloc_long_warm", .size = MEDIUM, .prepare = warm_up, .act = alloc_long },
    { .name = "free_own", .size = MEDIUM, .prepare = own_64, .act = release_0 },
    { .name = "free_thread", .size = MEDIUM, .prepare = own_of_a_thread, .act = release_0 },
    { .name = "free_own_run", .size = MEDIUM, .prepare = own_run, .act = release_0 },
    { .name = "free_own_long", .size = MEDIUM, .prepare = own_long, .act = release_0 },
    { .name = "free_other", .size = MEDIUM, .setup = keep_64, .prepare = find_it, .act = free_it, .verify = gone_64 },
    { .name = "free_other_run", .size = MEDIUM, .setup = keep_run, .prepare = find_it, .act = free_it, .verify = gone_run },
    { .name = "free_other_long", .size = MEDIUM, .setup = keep_long, .prepare = find_it, .act = free_it, .verify = gone_long },
    { .name = "free_full",
      .size = SMALL,
      .full = true,
      .setup = keep_64_and_fill,
      .prepare = find_it,
      .act = free_it,
      .verify = place_is_found },
    { .name = "alloc_in_vain",
      .size = MEDIUM,
      .full = true,
      .setup = full_but_for_one,
      .act = alloc_in_vain,
      .meanwhile = rest_comes_free,
      .at_end = rest_is_found,
      .verify = rest_and_first },
    { .name = "free_leased", .size = MEDIUM, .setup = keep_and_view, .prepare = find_it, .act = free_it, .verify = viewed },
    { .name = "attach", .size = MEDIUM, .setup = keep_64, .act = attach, .verify = whole_64 },
    { .name = "detach", .size = MEDIUM, .setup = keep_64, .prepare = find_it, .act = release_0, .verify = whole_64 },
    { .name = "detach_last",
      .size = MEDIUM,
      .setup = keep_64,
      .prepare = find_it,
      .between = free_under_it,
      .act = release_0,
      .verify = none_there },
    { .name = "view", .size = MEDIUM, .setup = keep_64, .prepare = find_it, .act = view_more, .verify = whole_64 },
    { .name = "publish", .size = MEDIUM, .prepare = own_keyed, .act = publish, .verify = key_published },
    { .name = "publish_name", .size = MEDIUM, .prepare = own_named, .act = publish, .verify = name_published },
    { .name = "publish_mine", .size = MEDIUM, .prepare = own_keyed, .act = publish_mine, .verify = key_free },
    { .name = "reserve", .size = MEDIUM, .prepare = warm_up, .act = reserve_key, .verify = key_free },
    { .name = "reserve_name", .size = MEDIUM, .prepare = warm_up, .act = reserve_name, .verify = key_free },
    { .name = "reserve_taken", .size = MEDIUM, .setup = reserve_here, .prepare = warm_up, .act = collide, .verify = still_ours },
    { .name = "reserve_level", .size = MEDIUM, .setup = fill_level, .prepare = know_level, .act = next_level, .verify = level_whole },
    { .name = "alloc_keep", .size = MEDIUM, .prepare = warm_up, .act = keep_at_once, .verify = kept_at_once },
    { .name = "replace",
      .size = MEDIUM,
      .meanwhile = always_one,
      .setup = keep_64,
      .prepare = own_successor,
      .act = publish,
      .verify = key_taken_over },
    { .name = "replace_name",
      .size = MEDIUM,
      .meanwhile = always_one_named,
      .setup = keep_named,
      .prepare = own_named_successor,
      .act = publish,
      .verify = name_taken_over },
    { .name = "replace_viewed",
      .size = MEDIUM,
      .meanwhile = always_one,
      .setup = keep_and_view,
      .prepare = own_successor,
      .act = publish,
      .verify = taken_over_in_view },
    { .name = "replace_nothing", .size = MEDIUM, .prepare = own_successor, .act = publish, .verify = key_published },
    { .name = "find", .size = MEDIUM, .setup = keep_64, .act = find_again, .verify = whole_64 },
    { .name = "find_crowded", .size = MEDIUM, .setup = keep_in_a_crowd, .prepare = warm_up, .act = find_it, .verify = crowd_whole },
    { .name = "resize", .size = MEDIUM, .prepare = own_64, .act = resize },
    { .name = "trim", .size = MEDIUM, .prepare = use_and_free, .act = trim },
    { .name = "join", .size = MEDIUM, .prepare = leave, .act = join },
    { .name = "create", .size = SMALL, .alone = true, .act = create },
    { .name = "leave", .size = MEDIUM, .prepare = hold_much, .act = leave },
    { .name = "vanish", .size = SMALL, .alone = true, .prepare = create_and_hold, .act = leave },
    { .name = "destroy", .size = SMALL, .alone = true, .prepare = create_and_hold, .act = destroy, .verify = pool_again },
    { .name = "alloc_place", .size = MEDIUM, .max_allocations = MOST + 7, .prepare = warm_up, .act = alloc_64 },
    { .name = "alloc_last_place", .size = MEDIUM, .max_allocations = MOST, .full = true, .prepare = all_but_one, .act = one_too_many },
    { .name = "alloc_more_places",
      .size = MEDIUM,
      .max_allocations = PLACES,
      .setup = fill_places,
      .prepare = warm_up,
      .act = more_places,
      .verify = places_back },
    { .name = "alloc_quota", .size = MEDIUM, .prepare = own_quota, .act = to_the_quota },
    { .name = "alloc_waiting", .size = SMALL, .setup = fill_for_waiter, .prepare = know_full, .between = make_room, .act = alloc_waiting },
    { .name = "find_asleep",
      .size = MEDIUM,
      .setup = reserve_here,
      .asleep = publish_here,
      .act = await_it,
      .meanwhile = other_found_it,
      .verify = whole_and_forgotten },
    { .name = "observe", .size = MEDIUM, .setup = keep_64, .prepare = warm_up, .act = look_around, .verify = whole_64 },
    { .name = "reap", .size = MEDIUM, .setup = dead_with_everything, .between = and_now_kill_it, .act = reap_all, .verify = after_reaper },
    { .name = "reap_file",
      .size = MEDIUM,
      .again = true,
      .backing = IN_FILE,
      .setup = dead_with_everything,
      .between = and_now_kill_it,
      .act = reap_all,
      .verify = after_reaper },
    { .name = "reap_memfd",
      .size = MEDIUM,
      .again = true,
      .backing = IN_MEMFD,
      .setup = dead_with_everything,
      .between = and_now_kill_it,
      .act = reap_all,
      .verify = after_reaper },
    { .name = "create_file", .size = SMALL, .backing = IN_FILE, .alone = true, .act = create },
    { .name = "join_file", .size = MEDIUM, .backing = IN_FILE, .prepare = leave, .act = join },
    { .name = "leave_file", .size = MEDIUM, .backing = IN_FILE, .prepare = hold_much, .act = leave },
    { .name = "destroy_file", .size = SMALL, .backing = IN_FILE, .alone = true, .prepare = create_and_hold, .act = destroy },
    { .name = "alloc_file", .size = MEDIUM, .backing = IN_FILE, .act = alloc_long },
    { .name = "free_file", .size = MEDIUM, .backing = IN_FILE, .setup = keep_run, .prepare = find_it, .act = free_it, .verify = gone_run },
    { .name = "publish_file", .size = MEDIUM, .backing = IN_FILE, .prepare = own_keyed, .act = publish, .verify = key_published },
    { .name = "trim_file", .size = MEDIUM, .backing = IN_FILE, .prepare = use_and_free, .act = trim },
    { .name = "join_memfd", .size = MEDIUM, .backing = IN_MEMFD, .prepare = leave, .act = join },
    { .name = "leave_memfd", .size = MEDIUM, .backing = IN_MEMFD, .prepare = hold_much, .act = leave },
    { .name = "alloc_memfd", .size = MEDIUM, .backing = IN_MEMFD, .act = alloc_long },
    { .name = "free_memfd",
      .size = MEDIUM,
      .backing = IN_MEMFD,
      .setup = keep_run,
      .prepare = find_it,
      .act = free_it,
      .verify = gone_run },
    { .name = "publish_memfd", .size = MEDIUM, .backing = IN_MEMFD, .prepare = own_keyed, .act = publish, .verify = key_published },
    { .name = "_everything", .size = MEDIUM, .prepare = leave_everything, .act = trim },
    { 0 },
};
