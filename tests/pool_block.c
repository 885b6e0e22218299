/* Blocks in one process: what alloc, publish, find, view, resize, release and free promise, and what they refuse. */
#include "tests/harness.h"

#include <cuelight/pool.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20, WEIGHTS = 7 };

static cue_pool *pool;
static const char *name;

static void open_pool(void)
{
    name = test_name("block");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 64 * MIB, .flags = CUE_CREATE }, &pool));
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void close_pool(void)
{
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(block, .init = open_pool, .fini = close_pool);

static uint64_t live_blocks(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    return info.blocks;
}

Test(block, has_the_size_that_was_asked_for_and_room_for_it)
{
    static const size_t sizes[] = { 0, 1, 63, 64, 65, 4032, 4033, 4096, 4097, 65536, 3 * MIB, 20 * MIB };
    cue_block blocks[sizeof sizes / sizeof *sizes];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CUE_MUST(cue_block_alloc(pool, sizes[i], NULL, &blocks[i]));
        cr_assert(eq(sz, blocks[i].size, sizes[i]));
        memset(blocks[i].data, (int)i, sizes[i]);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t at = 0; at < sizes[i]; at += 61)
            cr_assert(eq(int, ((char *)blocks[i].data)[at], (char)i));
        cue_block_info info;
        CUE_MUST(cue_block_stat(&blocks[i], &info));
        cr_assert(ge(u64, info.capacity, sizes[i]));
        cr_assert(le(u64, info.capacity, sizes[i] + sizes[i] / 4 + 4095));
        CUE_MUST(cue_block_release(&blocks[i]));
    }
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, is_aligned_as_asked)
{
    for (size_t align = 1; align <= 2 * MIB; align *= 2) {
        cue_block a, b;
        CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .align = align }, &a));
        CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .align = align }, &b));
        cr_assert(eq(u64, (uintptr_t)a.data % align, 0), "%zu", align);
        cr_assert(eq(u64, (uintptr_t)b.data % align, 0), "%zu", align);
        cue_block_release(&a);
        cue_block_release(&b);
    }
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 4096, NULL, &b));
    cr_assert(eq(u64, (uintptr_t)b.data % 4096, 0));
    cue_block_release(&b);
}

Test(block, is_zeroed_on_request_also_when_its_memory_was_used)
{
    cue_block b;
    for (int round = 0; round < 3; round++) {
        CUE_MUST(cue_block_alloc(pool, 100000, &(cue_block_opts){ .flags = CUE_ZERO }, &b));
        for (size_t i = 0; i < b.size; i++)
            cr_assert(eq(int, ((char *)b.data)[i], 0));
        memset(b.data, 0xff, b.size);
        cue_block_release(&b);
    }
}

Test(block, is_found_once_published_and_not_before)
{
    cue_block made, found;
    cue_key key = { .type = WEIGHTS, .id = 42 };
    CUE_MUST(cue_block_alloc(pool, 1000, &(cue_block_opts){ .type = WEIGHTS, .id = 42 }, &made));
    cr_assert(eq(int, cue_block_find(pool, key, CUE_NOW, &found), CUE_ENOENT));
    memcpy(made.data, "ready", 6);
    CUE_MUST(cue_block_publish(&made, 0));
    CUE_MUST(cue_block_find(pool, key, CUE_NOW, &found));
    cr_assert(eq(str, (char *)found.data, "ready"));
    cr_assert(eq(sz, found.size, 1000));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .type = WEIGHTS, .id = 43 }, CUE_NOW, NULL), CUE_ENOENT));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .type = WEIGHTS + 1, .id = 42 }, CUE_NOW, NULL), CUE_ENOENT));
    cue_block_release(&made);
    cr_assert(eq(int, cue_block_find(pool, key, CUE_NOW, NULL), 0), "kept: its maker's release does not end it");
    CUE_MUST(cue_block_free(&found));
    cr_assert(eq(int, cue_block_find(pool, key, CUE_NOW, NULL), CUE_ENOENT));
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, is_found_by_name_and_by_automatic_id)
{
    cue_block made, found;
    cue_block_info info;
    CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .name = "weights.v1", .flags = CUE_KEEP }, &made));
    CUE_MUST(cue_block_find(pool, (cue_key){ .name = "weights.v1" }, CUE_NOW, &found));
    cr_assert(eq(ptr, found.data, made.data));
    CUE_MUST(cue_block_stat(&found, &info));
    cr_assert(eq(str, info.name, "weights.v1"));
    cr_assert(eq(u32, info.state, CUE_BLOCK_KEPT));
    cr_assert(gt(u64, info.made_ns, 0));
    cue_block_release(&found);
    CUE_MUST(cue_block_find(pool, (cue_key){ .id = info.id }, CUE_NOW, &found));
    cr_assert(eq(ptr, found.data, made.data));
    cue_block_release(&found);
    CUE_MUST(cue_block_free(&made));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .id = info.id }, CUE_NOW, &found), CUE_ENOENT));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .name = "weights.v1" }, CUE_NOW, &found), CUE_ENOENT));
}

Test(block, a_key_is_taken_once_also_before_it_is_published)
{
    cue_block first, second;
    cue_block_opts opts = { .type = WEIGHTS, .id = 1 };
    CUE_MUST(cue_block_alloc(pool, 10, &opts, &first));
    cr_assert(eq(int, cue_block_alloc(pool, 10, &opts, &second), CUE_EEXIST));
    cr_assert(eq(ptr, second.data, NULL));
    cr_assert(eq(u64, live_blocks(), 1));
    cue_block_release(&first);
    CUE_MUST(cue_block_alloc(pool, 10, &opts, &second));
    cue_block_release(&second);
}

Test(block, one_replaces_another_under_its_key)
{
    cue_key key = { .type = WEIGHTS, .id = 3 };
    cue_block_opts opts = { .type = WEIGHTS, .id = 3, .flags = CUE_REPLACE };
    cue_block made, found, old;
    for (int version = 1; version <= 3; version++) { /* the first one replaces nothing */
        CUE_MUST(cue_block_alloc(pool, 100, &opts, &made));
        memset(made.data, version, 100);
        if (version > 1) {
            CUE_MUST(cue_block_find(pool, key, CUE_NOW, &old));
            cr_assert(eq(int, *(char *)old.data, version - 1), "until it is published the old one is found");
        }
        CUE_MUST(cue_block_publish(&made, 0));
        CUE_MUST(cue_block_find(pool, key, CUE_NOW, &found));
        cr_assert(eq(int, *(char *)found.data, version));
        if (version > 1) {
            cr_assert(eq(int, *(char *)old.data, version - 1), "who looks at the old one goes on looking");
            cue_block_release(&old);
        }
        cue_block_release(&found);
        cue_block_release(&made);
        cr_assert(eq(u64, live_blocks(), 1));
    }
    cue_block reserved, other;
    CUE_MUST(cue_block_alloc(pool, 1, &(cue_block_opts){ .name = "taken" }, &reserved));
    CUE_MUST(cue_block_alloc(pool, 1, &(cue_block_opts){ .name = "taken", .flags = CUE_REPLACE }, &other));
    cr_assert(eq(int, cue_block_publish(&other, 0), CUE_EBUSY), "somebody is still making it");
    CUE_MUST(cue_block_publish(&reserved, CUE_MINE));
    CUE_MUST(cue_block_publish(&other, 0));
    CUE_MUST(cue_block_find(pool, (cue_key){ .name = "taken" }, CUE_NOW, &found));
    cr_assert(eq(ptr, found.data, other.data));
    CUE_MUST(cue_block_release(&reserved));
    cue_block_release(&found);
    CUE_MUST(cue_block_free(&other));
    CUE_MUST(cue_block_find(pool, key, CUE_NOW, &found));
    CUE_MUST(cue_block_free(&found));
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, mine_is_found_and_stays_its_owners)
{
    cue_block made, found;
    CUE_MUST(cue_block_alloc(pool, 10, &(cue_block_opts){ .type = WEIGHTS, .id = 9, .flags = CUE_MINE }, &made));
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = WEIGHTS, .id = 9 }, CUE_NOW, &found));
    cue_block_release(&found);
    cue_block_release(&made);
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .type = WEIGHTS, .id = 9 }, CUE_NOW, NULL), CUE_ENOENT));
}

Test(block, many_keys_are_found_in_all_levels_of_the_directory)
{
    enum { KEYS = 6000 };
    for (uint64_t id = 1; id <= KEYS; id++) {
        cue_block b;
        CUE_MUST(cue_block_alloc(pool, 8, &(cue_block_opts){ .type = WEIGHTS, .id = id }, &b));
        memcpy(b.data, &id, sizeof id);
        CUE_MUST(cue_block_publish(&b, 0));
        cue_block_release(&b);
    }
    for (uint64_t id = 1; id <= KEYS; id++) {
        cue_block b;
        CUE_MUST(cue_block_find(pool, (cue_key){ .type = WEIGHTS, .id = id }, CUE_NOW, &b));
        cr_assert(eq(u64, *(uint64_t *)b.data, id));
        CUE_MUST(cue_block_free(&b));
    }
    cr_assert(eq(u64, live_blocks(), 0));
}

enum { SOME = 1000, ASKED = 2 * SOME };

static void publish_some(uint64_t ids[SOME], bool backwards)
{
    for (uint64_t i = 0; i < SOME; i++) {
        uint64_t n = backwards ? SOME - 1 - i : i;
        cue_block b;
        cue_block_info info;
        CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .type = WEIGHTS, .id = n + 1, .flags = CUE_KEEP }, &b));
        *(uint64_t *)b.data = n;
        CUE_MUST(cue_block_stat(&b, &info));
        ids[n] = info.id;
        CUE_MUST(cue_block_release(&b));
    }
}

/* Half of them are there. Whatever a look-up guessed about where the blocks are, it finds what is there now. */
static void find_all_at_a_time(const uint64_t made[SOME])
{
    static cue_key keys[ASKED];
    static cue_block found[ASKED];
    static uint64_t ids[ASKED];
    for (uint64_t i = 0; i < ASKED; i++)
        keys[i] = (cue_key){ .type = WEIGHTS, .id = i + 1 };
    cr_assert(eq(i64, cue_block_find_many(pool, keys, ASKED, NULL, NULL), SOME));
    cr_assert(eq(i64, cue_block_find_many(pool, keys, ASKED, found, ids), SOME));
    for (uint64_t i = 0; i < ASKED; i++) {
        cr_assert(eq(u64, ids[i], i < SOME ? made[i] : 0));
        cr_assert(eq(u64, found[i].data ? *(uint64_t *)found[i].data : i, i));
        cr_assert(eq(int, found[i].data != NULL, i < SOME));
        CUE_MUST(cue_block_release(&found[i]));
    }
    for (uint64_t i = 0; i < SOME; i++) {
        CUE_MUST(cue_block_find(pool, keys[i], CUE_NOW, &found[i]));
        cr_assert(eq(u64, *(uint64_t *)found[i].data, i));
        CUE_MUST(cue_block_free(&found[i]));
    }
    cr_assert(eq(i64, cue_block_find_many(pool, keys, ASKED, found, NULL), 0));
}

Test(block, many_are_found_at_a_time_wherever_they_are)
{
    static uint64_t ids[SOME];
    for (int round = 0; round < 4; round++) {
        publish_some(ids, round % 2);
        find_all_at_a_time(ids);
    }
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, keys_of_every_kind_are_found_at_a_time)
{
    cue_block made[3], found[5];
    cue_block_info info;
    uint64_t ids[5];
    CUE_MUST(cue_block_alloc(pool, 10, &(cue_block_opts){ .name = "ten", .flags = CUE_KEEP }, &made[0]));
    CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .type = WEIGHTS, .id = 1, .flags = CUE_KEEP }, &made[1]));
    CUE_MUST(cue_block_alloc(pool, 20, &(cue_block_opts){ .type = WEIGHTS, .id = 2 }, &made[2])); /* reserved, not published */
    CUE_MUST(cue_block_stat(&made[1], &info));
    cue_key keys[5] = {
        { .name = "ten" }, { .type = WEIGHTS, .id = 1 }, { .type = WEIGHTS, .id = 2 }, { .id = info.id }, { .id = UINT64_MAX }
    };
    cr_assert(eq(i64, cue_block_find_many(pool, keys, 5, found, ids), 3));
    cr_assert(eq(sz, found[0].size, 10));
    cr_assert(eq(sz, found[1].size, 5000));
    cr_assert(eq(ptr, found[1].data, found[3].data));
    cr_assert(eq(u64, ids[1], info.id));
    cr_assert(eq(u64, ids[3], info.id));
    cr_assert(eq(int, found[2].data || found[4].data || ids[2] || ids[4], 0));
    for (int i = 0; i < 5; i++)
        CUE_MUST(cue_block_release(&found[i]));
    for (int i = 0; i < 3; i++)
        CUE_MUST(cue_block_free(&made[i]));
}

Test(block, a_key_that_is_none_finds_nothing_and_leaves_no_view)
{
    cue_block made, found[40];
    uint64_t ids[40];
    cue_key keys[40];
    CUE_MUST(cue_block_alloc(pool, 10, &(cue_block_opts){ .name = "ten", .flags = CUE_KEEP }, &made));
    for (int i = 0; i < 40; i++)
        keys[i] = (cue_key){ .name = "ten" };
    keys[39] = (cue_key){ .name = "no name" };
    cr_assert(eq(i64, cue_block_find_many(pool, keys, 40, found, ids), CUE_EINVAL));
    for (int i = 0; i < 40; i++)
        cr_assert(eq(int, found[i].data || found[i].priv[0] || ids[i], 0));
    CUE_MUST(cue_block_free(&made));
    cr_assert(eq(u64, live_blocks(), 0)); /* no lease of ours keeps it */
    cr_assert(eq(i64, cue_block_find_many(pool, NULL, 1, found, ids), CUE_EINVAL));
    cr_assert(eq(i64, cue_block_find_many(pool, NULL, 0, NULL, NULL), 0));
}

Test(block, a_view_keeps_its_bytes_when_the_block_is_freed)
{
    cue_block made, view, part;
    CUE_MUST(cue_block_alloc(pool, 300, NULL, &made));
    memset(made.data, 5, 300);
    CUE_MUST(cue_block_view(&made, 0, SIZE_MAX, &view));
    CUE_MUST(cue_block_view(&view, 100, 50, &part));
    cr_assert(eq(ptr, part.data, (char *)made.data + 100));
    cr_assert(eq(sz, part.size, 50));
    CUE_MUST(cue_block_free(&made));
    cue_block others[100];
    for (int i = 0; i < 100; i++) {
        CUE_MUST(cue_block_alloc(pool, 300, NULL, &others[i]));
        memset(others[i].data, 6, 300);
    }
    for (size_t i = 0; i < 50; i++)
        cr_assert(eq(int, ((char *)part.data)[i], 5));
    cue_block_release(&view);
    cr_assert(eq(int, ((char *)part.data)[49], 5), "the other view still holds it");
    cue_block_release(&part);
    for (int i = 0; i < 100; i++)
        cue_block_release(&others[i]);
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, a_stale_handle_is_an_error_and_never_another_block)
{
    cue_block made, alias;
    cue_block_info info;
    CUE_MUST(cue_block_alloc(pool, 64, NULL, &made));
    alias = made;
    CUE_MUST(cue_block_free(&made));
    cue_block other;
    CUE_MUST(cue_block_alloc(pool, 64, NULL, &other));
    cr_assert(eq(int, cue_block_stat(&alias, &info), CUE_ESTALE));
    cr_assert(ne(str, (char *)cue_trail(), ""));
    cue_block view, twice = alias;
    cr_assert(eq(int, cue_block_view(&alias, 0, SIZE_MAX, &view), CUE_ESTALE));
    cr_assert(eq(int, cue_block_publish(&alias, 0), CUE_ESTALE));
    cr_assert(eq(int, cue_block_free(&alias), CUE_ESTALE));
    cr_assert(eq(int, cue_block_release(&twice), CUE_ESTALE));
    cue_block_release(&other);
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, an_empty_handle_says_so)
{
    cue_block none = { 0 }, out;
    cue_block_info info;
    cr_assert(eq(int, cue_block_release(&none), 0));
    cr_assert(eq(int, cue_block_free(&none), CUE_EMOVED));
    cr_assert(eq(int, cue_block_publish(&none, 0), CUE_EMOVED));
    cr_assert(eq(int, cue_block_view(&none, 0, 1, &out), CUE_EMOVED));
    cr_assert(eq(int, cue_block_stat(&none, &info), CUE_EMOVED));
}

Test(block, only_its_owner_resizes_and_only_within_its_capacity)
{
    cue_block made, view, none;
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &made));
    CUE_MUST(cue_block_resize(&made, 128));
    cr_assert(eq(sz, made.size, 128));
    cr_assert(eq(int, cue_block_resize(&made, 129), CUE_ETOOBIG));
    CUE_MUST(cue_block_resize(&made, 3));
    CUE_MUST(cue_block_view(&made, 0, SIZE_MAX, &view));
    cr_assert(eq(sz, view.size, 3));
    cr_assert(eq(int, cue_block_resize(&view, 2), CUE_ENOTOWNER));
    cr_assert(eq(int, cue_block_view(&made, 2, 2, &none), CUE_EINVAL));
    cr_assert(eq(ptr, none.data, NULL));
    cue_block_release(&view);
    cue_block_release(&made);
    cr_assert(eq(u64, live_blocks(), 0));
}

Test(block, a_copy_is_counted)
{
    cue_block made, copy;
    cue_pool_info before, after;
    CUE_MUST(cue_block_alloc(pool, 1000, NULL, &made));
    memset(made.data, 3, 1000);
    CUE_MUST(cue_pool_stat(pool, &before));
    CUE_MUST(cue_block_copy(&made, pool, &(cue_block_opts){ .type = WEIGHTS, .id = 5, .flags = CUE_KEEP }, &copy));
    CUE_MUST(cue_pool_stat(pool, &after));
    cr_assert(eq(u64, after.copied - before.copied, 1000));
    cr_assert(eq(int, memcmp(made.data, copy.data, 1000), 0));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .type = WEIGHTS, .id = 5 }, CUE_NOW, NULL), 0));
    cue_block_release(&made);
    CUE_MUST(cue_block_free(&copy));
}

Test(block, a_full_pool_says_so_and_all_of_it_comes_back)
{
    enum { MOST = 20000 };
    static cue_block blocks[MOST];
    static const size_t sizes[] = { 200, 4096, 70000, 9 * MIB };
    for (int round = 0; round < 8; round++) {
        size_t size = sizes[round % 4], count = 0, total = 0;
        while (count < MOST && cue_block_alloc(pool, size, NULL, &blocks[count]) == 0)
            total += blocks[count++].size;
        if (count < MOST) {
            cr_assert(eq(ptr, blocks[count].data, NULL));
            cr_assert(ge(sz, total, (size_t)(64 * MIB) * (size > 4 * MIB ? 7 : 9) / 10 * (size < 4096 ? 9 : 10) / 10), "%zu blocks of %zu",
                      count, size);
        }
        for (size_t odd = 0; odd < 2; odd++) /* so that nothing merges until the second half goes */
            for (size_t i = odd; i < count; i += 2)
                cr_assert(eq(int, cue_block_release(&blocks[i]), 0));
        cr_assert(eq(u64, live_blocks(), 0));
        cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    }
    cue_block all;
    CUE_MUST(cue_block_alloc(pool, 64 * MIB - 8 * MIB, NULL, &all));
    cue_block_release(&all);
    cr_assert(eq(int, cue_block_alloc(pool, 65 * MIB, NULL, &all), CUE_ETOOBIG));
}

Test(block, the_whole_pool_can_be_one_block)
{
    cue_block all, one;
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, NULL, &all));
    memset(all.data, 1, all.size);
    cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &one), CUE_ENOMEM));
    cue_block_release(&all);
    CUE_MUST(cue_block_alloc(pool, 1, NULL, &one));
    cue_block_release(&one);
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, NULL, &all));
    cue_block_release(&all);
}

Test(block, random_sizes_neither_overlap_nor_leak)
{
    enum { LIVE = 300, ROUNDS = 20000 };
    static cue_block blocks[LIVE];
    unsigned seed = 12345;
    for (int round = 0; round < ROUNDS; round++) {
        seed = seed * 1664525 + 1013904223;
        cue_block *b = &blocks[(seed >> 8) % LIVE];
        if (b->data) {
            unsigned char *bytes = b->data;
            for (size_t at = 0; at < b->size; at += b->size / 7 + 1)
                cr_assert(eq(int, bytes[at], (int)((b - blocks) & 0xff)));
            cue_block_release(b);
            continue;
        }
        seed = seed * 1664525 + 1013904223;
        size_t size = (size_t)1 << (seed >> 28 & 15), more = (seed >> 4) % (size * 16 + 1);
        int status = cue_block_alloc(pool, size + more, NULL, b);
        cr_assert(status == 0 || status == CUE_ENOMEM);
        if (status == 0)
            memset(b->data, (int)((b - blocks) & 0xff), b->size);
    }
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    for (int i = 0; i < LIVE; i++)
        cue_block_release(&blocks[i]);
    cr_assert(eq(u64, live_blocks(), 0));
    cue_pool_trim(pool);
    cue_block all;
    CUE_MUST(cue_block_alloc(pool, 64 * MIB, NULL, &all));
    cue_block_release(&all);
}

Test(block, trim_gives_memory_back_and_it_reads_as_zero_when_it_comes_again)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 8 * MIB, NULL, &b));
    memset(b.data, 1, b.size);
    cr_assert(eq(i64, cue_pool_trim(pool), 0));
    cue_block_release(&b);
    cr_assert(ge(i64, cue_pool_trim(pool), 8 * MIB));
    CUE_MUST(cue_block_alloc(pool, 8 * MIB, NULL, &b));
    cr_assert(eq(int, ((char *)b.data)[5 * MIB], 0));
    cue_block_release(&b);
}

Test(block, next_walks_all_of_a_type_once)
{
    enum { COUNT = 2500 };
    static cue_block blocks[COUNT];
    static bool seen[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        CUE_MUST(cue_block_alloc(pool, i % 3 ? 64 : 5000, &(cue_block_opts){ .type = i % 2 ? WEIGHTS : 1, .id = i + 1 }, &blocks[i]));
    uint64_t cursor = 0;
    cue_block_info info;
    int count = 0;
    while (CUE_MUST(cue_block_next(pool, WEIGHTS, &cursor, &info)) == 1) {
        cr_assert(eq(u32, info.type, WEIGHTS));
        cr_assert(not(seen[info.key_id - 1]));
        cr_assert(eq(int, info.owner_pid, (int)getpid()));
        seen[info.key_id - 1] = true;
        count++;
    }
    cr_assert(eq(int, count, COUNT / 2));
    for (uint64_t i = 0; i < COUNT; i++)
        cue_block_release(&blocks[i]);
}

Test(block, options_that_make_no_sense_are_refused_with_a_trail)
{
    cue_block b;
    static const struct {
        cue_block_opts opts;
        size_t size;
        int status;
    } rows[] = {
        { { .align = 3 }, 1, CUE_EINVAL },
        { { .align = (size_t)4 << 20 }, 1, CUE_EINVAL },
        { { .id = 4 }, 1, CUE_EINVAL },
        { { .type = 1, .id = 4, .name = "x" }, 1, CUE_EINVAL },
        { { .name = "a/b" }, 1, CUE_EINVAL },
        { { .name = "" }, 1, CUE_EINVAL },
        { { .name = "1234567890123456789012345678901234567890123456789012345678901234" }, 1, CUE_EINVAL },
        { { .type = 0x7fff0000 }, 1, CUE_EINVAL },
        { { .flags = 64 }, 1, CUE_EINVAL },
        { { .flags = CUE_REPLACE }, 1, CUE_EINVAL },
        { { .type = 1, .id = 1, .flags = CUE_REPLACE | CUE_MINE }, 1, CUE_EINVAL },
        { { .spare = { 0, 1 } }, 1, CUE_EVERSION },
        { { 0 }, (size_t)-5, CUE_ETOOBIG },
        { { 0 }, (size_t)1 << 40, CUE_ETOOBIG },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert(eq(int, cue_block_alloc(pool, rows[i].size, &rows[i].opts, &b), rows[i].status), "row %zu", i);
        cr_assert(ne(str, (char *)cue_trail(), ""), "row %zu", i);
        cr_assert(eq(ptr, b.data, NULL));
    }
    cr_assert(eq(int, cue_block_alloc(NULL, 1, NULL, &b), CUE_EINVAL));
    cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, NULL), CUE_EINVAL));
    cr_assert(eq(u64, live_blocks(), 0));
}
