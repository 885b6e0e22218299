/* Records by their index, where record.h does not know where they are, and walks over all of a pool, by position: what is not present is
 * passed over. */
#include "pool_private.h"

struct record *record_far(const struct cue_pool *pool, struct near_slab *near, uint32_t index)
{
    struct record *rec = pool_record(pool, index);
    if (!rec || !(index & INDEX_R2))
        return rec;
    uint32_t slab = slab_of_index(pool, index);
    near->head = slab_head(pool, slab);
    near->first = INDEX_R2 | slab << (pool->slab_shift - 6);
    uint32_t lines = atomic_load_explicit(&near->head->lines, acquire), most = UINT32_C(1) << (pool->slab_shift - 6);
    near->count = lines < most ? lines : most; /* pairs with: slab_make; of a damaged head no more than the slab has */
    near->records = slab_record(pool, slab, 0);
    near->data = pool->data + ((uint64_t)slab << pool->slab_shift);
    return rec;
}

/* ---- walks ---- */

/* A position: granule * 2048, plus 1 + ordinal for a block of the slab there. */
enum { POSITION_SHIFT = 11 };

uint64_t pool_order(const struct cue_pool *pool, uint32_t index)
{
    if (index & INDEX_R2)
        return ((uint64_t)first_granule_of_slab(pool, slab_of_index(pool, index)) << POSITION_SHIFT) + 1 + ordinal_of_index(pool, index);
    return (uint64_t)index << POSITION_SHIFT;
}

static int each_in_slab(struct cue_pool *pool, uint32_t slab, uint32_t from, record_visitor *visit, void *arg)
{
    struct slab *head = slab_head(pool, slab);
    uint32_t lines = atomic_load_explicit(&head->lines, acquire),
             blocks = atomic_load_explicit(&head->blocks, relaxed); /* bounded by lines */
    uint32_t base = INDEX_R2 | slab << (pool->slab_shift - 6);
    for (uint32_t i = from; i < lines && i < blocks && i < POOL_SLAB_BLOCKS; i++) {
        int stop = visit(pool, slab_record(pool, slab, i), base | i, arg);
        if (stop)
            return stop;
    }
    return 0;
}

int pool_each_record_from(struct cue_pool *pool, uint64_t position, record_visitor *visit, void *arg)
{
    uint32_t per = granules_per_extent(pool), per_slab = UINT32_C(1) << (pool->slab_shift - POOL_GRANULE_SHIFT);
    uint32_t sub = (uint32_t)(position & ((1u << POSITION_SHIFT) - 1));
    for (uint64_t granule = position >> POSITION_SHIFT; granule < pool->granules; sub = 0) {
        uint32_t at = (uint32_t)granule;
        if (!extent_meta_present(pool, extent_of_granule(pool, at))) {
            granule = (uint64_t)(at / per + 1) * per;
            continue;
        }
        struct record *rec = granule_record(pool, at);
        uint64_t state = atomic_load_explicit(&rec->state, acquire), covers = rec_live(state) ? rec_granules(rec) : 1;
        int stop = sub == 0 ? visit(pool, rec, at, arg) : 0;
        if (!stop && rec_state(state) == REC_SLAB && at % per_slab == 0) {
            stop = each_in_slab(pool, at / per_slab, sub ? sub - 1 : 0, visit, arg);
            covers = per_slab;
        }
        if (stop)
            return stop;
        /* a live run's inner records are free; should it go meanwhile, what begins inside is seen by the next walk */
        granule += covers && covers <= pool->granules - at ? covers : 1;
    }
    return 0;
}

int pool_each_record(struct cue_pool *pool, record_visitor *visit, void *arg)
{
    return pool_each_record_from(pool, 0, visit, arg);
}
