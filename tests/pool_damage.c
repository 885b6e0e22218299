/* What was written to a pool's memory by somebody who should not have: calls on it say so, or pass over it, and never lead out of the pool,
 * hang, or die. tests/fuzz flips words at random; here are those that would do harm. */
#include "tests/harness.h"

#include "base/shm.h"
#include "pool/pool_private.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/stat.h>

enum { MIB = 1 << 20, BLOCKS = 256 };

static cue_pool *pool;
static const char *name;

static void open_pool(void)
{
    name = test_name("damage");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB, .flags = CUE_CREATE }, &pool));
}

static void close_pool(void)
{
    cue_pool_destroy(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(damage, .init = open_pool, .fini = close_pool);

static uint32_t index_of(const cue_block *b)
{
    return (uint32_t)b->priv[0];
}

/* Behind the last extent's slabs lie the records of blocks: one that looks like a slab's head must not be taken for one. */
Test(damage, hints_at_slabs_that_an_extent_does_not_have)
{
    cue_block b[BLOCKS], other;
    for (int round = 0; round < 2; round++) { /* the second time their generations are not 0 */
        for (int i = 0; i < BLOCKS; i++)
            CUE_MUST(cue_block_alloc(pool, 64, NULL, &b[i]));
        for (int i = 0; i < BLOCKS && round == 0; i++)
            CUE_MUST(cue_block_release(&b[i]));
    }
    uint32_t slabs = (uint32_t)(pool->data_bytes >> pool->slab_shift), posing = 0;
    for (uint32_t slab = slabs; slab < slabs + 64; slab++)
        for (int i = 0; i < BLOCKS; i++)
            if ((void *)trusted_record(pool, index_of(&b[i])) == (void *)slab_head(pool, slab)) {
                atomic_store(&trusted_record(pool, index_of(&b[i]))->lease[0], 128); /* where a head has its stride */
                posing++;
            }
    cr_assert(gt(u32, posing, 0));
    atomic_store(&pool->extents[pool->nextents - 1].meta, 1);
    for (uint32_t n = 0; n < pool->nextents; n++)
        atomic_store(&pool->extents[n].slabs, UINT64_MAX);
    CUE_MUST(cue_block_alloc(pool, 128, NULL, &other));
    for (int i = 0; i < BLOCKS; i++) {
        atomic_store(&trusted_record(pool, index_of(&b[i]))->lease[0], 0);
        cr_expect(eq(int, cue_block_release(&b[i]), 0), "block %d of %d: %s", i, BLOCKS, cue_trail());
    }
}

/* The slab was one of smaller blocks before, so there is a record with that ordinal, and the slab has no such block any more. */
Test(damage, a_block_that_its_slab_does_not_have_is_not_handed_out)
{
    cue_block small, b[BLOCKS];
    CUE_MUST(cue_block_alloc(pool, 64, NULL, &small));
    uint32_t slab = slab_of_index(pool, index_of(&small)), at = 0;
    CUE_MUST(cue_block_release(&small));
    cr_assert(eq(int, slabs_give_up_thread(pool), true));
    for (CUE_MUST(cue_block_alloc(pool, 2048, NULL, &b[0])); slab_of_index(pool, index_of(&b[at])) != slab && at + 1 < BLOCKS;)
        CUE_MUST(cue_block_alloc(pool, 2048, NULL, &b[++at]));
    cr_assert(lt(u32, at + 1, BLOCKS), "the slab was made anew");
    uint32_t index = (index_of(&b[at]) & ~UINT32_C(63)) + 40;
    struct record *rec = pool_record(pool, index);
    cr_assert(ne(ptr, rec, NULL));
    uint64_t generation = rec_generation(atomic_load(&rec->state));
    atomic_store(&rec->state, rec_word(REC_KEPT, 0, generation));
    cr_assert(eq(int, block_drop_kept(pool, rec, index, generation), true));
    for (int i = 0; i < 8; i++) {
        cue_block more;
        char *data;
        uint64_t capacity;
        CUE_MUST(cue_block_alloc(pool, 2048, NULL, &more));
        cr_expect(eq(int, pool_bytes(pool, index_of(&more), &data, &capacity), true));
        cr_expect(ne(u32, index_of(&more), index));
    }
}

/* Its generation was written to while it is viewed here: so it is there, and no lease on it can be had. */
Test(damage, a_record_that_no_lease_can_be_had_on_is_an_error_and_no_endless_loop)
{
    const cue_key keys[] = { { .type = 7, .id = 42 }, { .name = "weights" } };
    for (int i = 0; i < 2; i++) {
        cue_block kept, found;
        cue_block_opts opts = { .type = keys[i].type, .id = keys[i].id, .name = keys[i].name, .flags = CUE_KEEP };
        CUE_MUST(cue_block_alloc(pool, 100, &opts, &kept));
        struct record *rec = trusted_record(pool, index_of(&kept));
        atomic_fetch_add(&rec->state, UINT64_C(1) << (REC_GENERATION_SHIFT + 18)); /* the directory's slot has the low 18 bits */
        int status = cue_block_find(pool, keys[i], CUE_NOW, &found);
        cr_expect(status == (keys[i].name ? CUE_ENOENT : CUE_ECORRUPT), "%s: %s", cue_status_name(status), cue_trail());
        cr_expect(eq(ptr, found.data, NULL));
    }
}

/* Reading a hole takes memory, and where there is none it is SIGBUS. */
Test(damage, a_name_where_no_memory_is_is_none)
{
    cue_block kept, stays;
    cue_block_info info;
    uint64_t cursor = 0;
    char path[SHM_PATH_MAX];
    struct stat before, after;
    shm_path(name, path);
    CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .type = 9, .id = 1, .flags = CUE_KEEP }, &kept));
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 8, .id = 1, .flags = CUE_KEEP }, &stays));
    struct record *rec = trusted_record(pool, index_of(&kept));
    atomic_store(&rec->note, NOTE_KEYED | NOTE_NAMED);
    atomic_store(&rec->size_word, rec_size_word(5000, pool->granules - index_of(&kept))); /* up to the end, where nobody has been */
    cr_assert(eq(int, stat(path, &before), 0));
    cr_assert(eq(int, cue_block_next(pool, 9, &cursor, &info), 1));
    cr_expect(eq(str, info.name, ""));
    cr_assert(eq(int, stat(path, &after), 0));
    cr_expect(eq(i64, after.st_blocks, before.st_blocks), "looking took memory");
}
