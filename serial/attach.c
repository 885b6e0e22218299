/* From a descriptor to the bytes it means.
 *
 * A pool is known by its uid: first among those that this process has open, else by its name, after which the uid must match,
 * since a name may have come to mean another pool. The pool is held open (a counted open) while it is looked at, so that a close by
 * another thread cannot take the mapping away meanwhile; afterwards the view holds it.
 */
#include "serial_internal.h"

#include "base/process.h"

#include <string.h>

/* Counts one more open of an open pool with this host, uid and name. */
static cue_pool *pool_hold(const struct desc *desc)
{
    cue_pool *found = NULL;
    pthread_mutex_lock(&registry_lock);
    for (unsigned i = 0; i < POOLS_MAX && !found; i++) {
        cue_pool *pool = &pool_table[i];
        if (atomic_load_explicit(&pool->open, memory_order_relaxed) == 1 /* it changes under registry_lock */
            && pool->uid == desc->shown.pool_uid && pool->host == desc->shown.host && strcmp(pool->name, desc->shown.pool) == 0) {
            pool->opens++;
            found = pool;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    return found;
}

int desc_pool(const struct desc *desc, cue_pool **out)
{
    *out = NULL;
    cue_pool *pool = pool_hold(desc);
    if (pool) {
        int status = pool_enter(pool);
        if (status)
            cue_pool_close(pool);
        else
            *out = pool;
        return status;
    }
    if (desc->shown.host != process_host()) /* it reads files: not for a pool that is open */
        return trail(CUE_EREMOTE, "pool %s was made on host %016llx, this is %016llx", desc->shown.pool,
                     (unsigned long long)desc->shown.host, (unsigned long long)process_host());
    if (!desc->shown.pool[0])
        return trail(CUE_ENOENT,
                     "the descriptor's pool %016llx has no name and is not open here: hand its cue_pool_fd() over and open it with opts.fd",
                     (unsigned long long)desc->shown.pool_uid);
    int status = cue_pool_open(desc->shown.pool, &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool);
    if (status)
        return status == CUE_ENOENT ? trail(status, "there is no pool %s (any more)", desc->shown.pool)
                                    : trail_in(status, "attach by descriptor");
    if (pool->uid != desc->shown.pool_uid) {
        cue_pool_close(pool);
        return trail(CUE_ENOENT, "the pool that was named %s is gone: another one has its name now", desc->shown.pool);
    }
    *out = pool;
    return 0;
}

int block_narrow(cue_block *view, uint64_t offset, uint64_t size)
{
    size_t whole = view->size;
    if (offset > whole || size > whole - offset) {
        cue_block_release(view);
        return trail(CUE_ECORRUPT, "the descriptor means bytes %llu to %llu of a block of %zu", (unsigned long long)offset,
                     (unsigned long long)(offset + size), whole);
    }
    view->data = (char *)view->data + offset;
    view->size = size;
    return 0;
}

int cue_block_attach(const void *bytes, size_t size, cue_time wait, cue_block *out)
{
    (void)wait; /* nothing on this host waits */
    if (!out)
        return trail(CUE_EINVAL, "cue_block_attach: out is NULL");
    memset(out, 0, sizeof *out);
    struct desc desc;
    int read = desc_read(bytes, size, &desc);
    if (read < 0)
        return trail_in(read, "cue_block_attach");
    if (desc.shown.kind != CUE_DESC_BLOCK)
        return trail(CUE_ETYPE, "cue_block_attach: the descriptor names the pool %s, not a block", desc.shown.pool);
    cue_pool *pool;
    int status = desc_pool(&desc, &pool);
    if (status)
        return trail_in(status, "cue_block_attach");
    status = pool_attach(pool, desc.index, desc.generation, 64 - REC_GENERATION_SHIFT, out);
    if (!status)
        status = block_narrow(out, desc.shown.offset, desc.shown.size);
    if (!status) {
        uint32_t type = atomic_load_explicit(&pool_record(pool, desc.index)->type, memory_order_relaxed); /* our lease keeps it */
        if (type != desc.shown.type) {
            cue_block_release(out);
            status = trail(CUE_ETYPE, "the descriptor says type %u, the block is of type %u", desc.shown.type, type);
        }
    }
    cue_pool_close(pool);
    return status ? trail_in(status, "cue_block_attach") : 0;
}

int cue_pool_attach(const void *bytes, size_t size, cue_pool **out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_pool_attach: out is NULL");
    *out = NULL;
    struct desc desc;
    int read = desc_read(bytes, size, &desc);
    int status = read < 0 ? read : desc_pool(&desc, out);
    return status ? trail_in(status, "cue_pool_attach") : 0;
}
