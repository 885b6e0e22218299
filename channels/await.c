/* See await.h. */
#include "await.h"

/* Who died unnoticed is cleaned up after, for all who wait for its memory; it may be the one that everybody waits for. */
static int after_nap(struct cue_pool *pool, int status)
{
    if (status == CUE_EINTR)
        return status;
    if (status == CUE_ETIMEDOUT)
        pool_reap(pool);
    return pool_enter(pool);
}

int lane_nap(struct cue_pool *pool, struct halt *halt, _Atomic uint32_t *word, uint32_t value, int64_t ns)
{
    int status = interrupted(halt);
    pool_before_sleep(pool);
    return status ? status : after_nap(pool, futex_wait(word, value, ns));
}
